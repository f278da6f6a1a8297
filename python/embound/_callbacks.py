"""What a training tells, and what may steer it: state, control and callbacks, shaped as those of
transformers, whose own callbacks are taken too.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ._errors import ArgumentError, EmboundWarning, warn


@dataclass
class TrainerState:
    """Where a training is. ``log_history``: what was logged and evaluated, in order."""

    epoch: float = 0.0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)

    def save_to_json(self, json_path: str) -> None:
        """Writes all of it."""
        with open(json_path, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainerState:
        """From what was written; other keys are passed over."""
        names = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


@dataclass
class TrainerControl:
    """What is to be done next; callbacks may change it."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class TrainerCallback:
    """Its methods are called with arguments, state and control, and by name ``model``,
    ``train_dataset``, ``eval_dataset``; ``logs`` and ``metrics`` where there are some."""

    def on_init_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """The trainer was made."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Before the first step."""

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """The model was written."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Before the first step of an epoch."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """After its last step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Before a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """After a step: ``control.should_...`` say what follows."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """After an evaluation: ``metrics``."""

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """A checkpoint was written."""

    def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Before ``logs`` go to the log."""


class EarlyStoppingCallback(TrainerCallback):
    """Ends the training after ``early_stopping_patience`` evaluations in a row without a better
    ``metric_for_best_model``, better by more than ``early_stopping_threshold``."""

    def __init__(self, early_stopping_patience: int = 1,
                 early_stopping_threshold: float | None = 0.0) -> None:
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if args.metric_for_best_model is None or args.eval_strategy == "no":
            raise ArgumentError("EarlyStoppingCallback needs metric_for_best_model, and "
                                "eval_strategy 'steps' or 'epoch'")
        if not args.load_best_model_at_end:
            warn("EarlyStoppingCallback without load_best_model_at_end=True: the model at the end "
                 "is the last one, not the best", EmboundWarning)

    def on_evaluate(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        name = metric_name(args.metric_for_best_model)
        value = more["metrics"].get(name)
        if value is None:
            return
        if state.best_metric is None or is_better(
                value, state.best_metric, args.greater_is_better, self.early_stopping_threshold):
            self.early_stopping_patience_counter = 0
        else:
            self.early_stopping_patience_counter += 1
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"args": {"early_stopping_patience": self.early_stopping_patience,
                         "early_stopping_threshold": self.early_stopping_threshold},
                "attributes": {
                    "early_stopping_patience_counter": self.early_stopping_patience_counter}}


def metric_name(metric: str) -> str:
    """As evaluations give it."""
    return metric if metric.startswith("eval_") else f"eval_{metric}"


def is_better(value: float, best: float, greater: bool | None, by: float = 0.0) -> bool:
    """Whether a metric is better than the best by more than that; one that is not a number never
    is."""
    if math.isnan(value):
        return False
    return (value - best if greater else best - value) > by


class CallbackHandler:
    """Calls each callback in order; one that returns a control replaces it."""

    def __init__(self, callbacks: Iterable[Any] | None) -> None:
        self.callbacks: list[Any] = []
        for callback in callbacks or ():
            self.add(callback)

    def add(self, callback: Any) -> None:
        """An object, or a class of which one is made."""
        self.callbacks.append(callback() if isinstance(callback, type) else callback)

    def pop(self, callback: Any) -> Any:
        """Removes an object, or the first of a class, and gives it, or None."""
        for one in self.callbacks:
            if isinstance(one, callback) if isinstance(callback, type) else one is callback:
                self.callbacks.remove(one)
                return one
        return None

    def call(self, event: str, args: Any, state: TrainerState, control: TrainerControl,
             **more: Any) -> TrainerControl:
        """Gives the control that counts from now on."""
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                result = method(args, state, control, **more)
                control = control if result is None else result
        return control

    def store(self, state: TrainerState) -> None:
        """Keeps what callbacks say of themselves (``state()``) for a checkpoint."""
        state.stateful_callbacks = {
            type(one).__name__: one.state() for one in self.callbacks
            if callable(getattr(one, "state", None))}

    def restore(self, state: TrainerState) -> None:
        """Gives it back to callbacks of the same classes."""
        for callback in self.callbacks:
            kept = state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(kept, dict):
                for name, value in kept.get("attributes", {}).items():
                    setattr(callback, name, value)
