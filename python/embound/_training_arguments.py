"""SentenceTransformerTrainingArguments: how to train, by sentence-transformers' names.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import difflib
import functools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from ._errors import ArgumentError, UnsupportedError
from ._foreign_arguments import FOREIGN, is_default
from ._settings import check_count
from ._sizes import parse_size, whole

_Arguments = TypeVar("_Arguments", bound=type)
_INTERVALS = ("no", "steps", "epoch")
# by name: kind, bits of its moments
_OPTIMIZERS = {"adamw": (0, 32), "adamw_torch": (0, 32), "adamw_torch_fused": (0, 32),
               "adamw8": (0, 8), "adamw_8bit": (0, 8), "adamw_bnb_8bit": (0, 8), "sgd": (1, 32)}
_SCHEDULES = {"linear": 0, "cosine": 1, "constant_with_warmup": 2, "constant": 2}
_SAMPLERS = ("batch_sampler", "no_duplicates", "no_duplicates_hashed")
_ORDERS = ("random", "sequential")
_REPORTERS = ("none", "tensorboard", "all")


def _checks_names(kind: _Arguments) -> _Arguments:
    """Takes arguments of sentence-transformers that mean nothing here at their default, refuses
    them with what to do otherwise, and unknown ones with the name that was meant."""
    fill = kind.__init__  # type: ignore[misc]
    known = {field.name for field in fields(kind)}

    @functools.wraps(fill)
    def make(self: Any, *given: Any, **named: Any) -> None:
        ours = {name: value for name, value in named.items() if name in known}
        for name in named.keys() - known:
            if name not in FOREIGN:
                near = difflib.get_close_matches(name, [*known, *FOREIGN], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ArgumentError(f"training has no argument {name}{hint}")
            if not is_default(name, named[name]):
                raise UnsupportedError(f"{name}={named[name]!r}: {FOREIGN[name][1]}")
        fill(self, *given, **ours)

    kind.__init__ = make  # type: ignore[misc]
    return kind


@_checks_names
@dataclass
class SentenceTransformerTrainingArguments:
    """How a SentenceTransformerTrainer trains. Names and defaults are sentence-transformers', but
    for what is said here; their other arguments are taken at their defaults, and refused with what
    to do instead.

    Args (those that differ, and those that are added):
        output_dir: the trained model, ``log.jsonl``, ``checkpoint-N`` and ``runs`` go there.
        optim: ``"adamw_torch"``, ``"adamw_torch_fused"``, with moments in 8 bits ``"adamw_8bit"``,
            ``"adamw_bnb_8bit"``; or ``"sgd"``, with ``momentum`` and ``nesterov``.
        layer_decay: each layer's learning rate is that of the one behind it times this.
        gradient_accumulation_steps: batches whose mean gradient makes a step. For losses that
            compare the texts of a batch that is not the same as a larger batch, which needs little
            more memory here: per_device_train_batch_size may be thousands.
        lr_scheduler_type: ``"linear"``, ``"cosine"``, ``"constant"``, ``"constant_with_warmup"``.
        warmup_steps: a number, or below 1 a share of all steps, as ``warmup_ratio``.
        logging_steps, eval_steps, save_steps: a number, or below 1 a share of all steps.
        logging_dir: of TensorBoard's files; None: ``output_dir/runs``.
        report_to: ``"none"``, ``"tensorboard"``; ``log.jsonl`` is always written.
        prompts: one for all texts, or by the name of the column.
        batch_sampler: ``"batch_sampler"``, ``"no_duplicates"``.
        train_sampling_strategy: ``"random"``, ``"sequential"``.
        seed: of dropout, and of the order if data_seed is None.
        dropout, attention_dropout: shares that a step leaves out; None: what the model's
            config.json says, as upstream.
        memory: bytes, or ``"1GiB"``, that the whole process may hold while it trains; None: what
            the model states, else as much as full speed needs.
        caller_memory: bytes that the program may grow by meanwhile (evaluators, callbacks).
        threads: that compute; None: as the model.
    """

    output_dir: str | None = None
    per_device_train_batch_size: int = 8
    num_train_epochs: float = 3.0
    max_steps: int = -1
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    warmup_steps: float = 0
    warmup_ratio: float | None = None
    optim: str = "adamw_torch_fused"
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    bf16: bool = False
    seed: int = 42
    data_seed: int | None = None
    full_determinism: bool = False
    use_cpu: bool = False
    logging_strategy: str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    logging_dir: str | None = None
    report_to: Any = "none"
    run_name: str | None = None
    disable_tqdm: bool | None = None
    eval_strategy: str = "no"
    eval_steps: float | None = None
    eval_delay: float = 0
    eval_on_start: bool = False
    per_device_eval_batch_size: int = 8
    save_strategy: str = "steps"
    save_steps: float = 500
    save_total_limit: int | None = None
    save_only_model: bool = False
    restore_callback_states_from_checkpoint: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    dataloader_drop_last: bool = False
    train_sampling_strategy: str = "random"
    batch_sampler: Any = "batch_sampler"
    prompts: Any = None
    momentum: float = 0.0
    nesterov: bool = False
    layer_decay: float = 1.0
    dropout: float | None = None
    attention_dropout: float | None = None
    memory: int | str | None = None
    caller_memory: int | str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        self.output_dir = str(self.output_dir) if self.output_dir is not None else "trainer_output"
        self._check_choices()
        self._check_numbers()
        if self.eval_strategy == "steps" and self.eval_steps is None:
            self.eval_steps = self.logging_steps
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        if self.metric_for_best_model is not None and self.greater_is_better is None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        self._check_best()

    # ---- checks --------------------------------------------------------------------------------

    def _check_choices(self) -> None:
        """Enumerations are taken for their values."""
        choices = {
            "lr_scheduler_type": tuple(_SCHEDULES), "optim": tuple(_OPTIMIZERS),
            "logging_strategy": _INTERVALS, "eval_strategy": _INTERVALS,
            "save_strategy": (*_INTERVALS, "best"), "batch_sampler": _SAMPLERS,
            "train_sampling_strategy": _ORDERS}
        for name, possible in choices.items():
            value = getattr(self, name)
            value = getattr(value, "value", value)
            if value not in possible:
                raise UnsupportedError(f"{name}={value!r}: state one of {', '.join(possible)}")
            setattr(self, name, value)
        reporters = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        for reporter in reporters:
            if reporter not in _REPORTERS:
                raise UnsupportedError(f"report_to={reporter!r}: state 'none' or 'tensorboard', "
                                       "and send logs elsewhere from a callback's on_log")
        self.report_to = [name for name in reporters if name != "none"]
        if not (self.prompts is None or isinstance(self.prompts, str) or (
                isinstance(self.prompts, dict)
                and all(isinstance(text, str) for text in self.prompts.values()))):
            raise UnsupportedError("prompts: state one str for all texts, or one by the name of "
                                   "each column")

    def _check_numbers(self) -> None:
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size",
                     "gradient_accumulation_steps"):
            check_count(getattr(self, name), name)
        for name in ("threads", "save_total_limit"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        for name in ("seed", "data_seed"):
            number = whole(getattr(self, name) or 0)
            if number is None or not 0 <= number < 2**32:
                raise ArgumentError(f"{name}={getattr(self, name)!r}: state 0 to 2**32 - 1")
        if whole(self.max_steps) is None:
            raise ArgumentError(f"max_steps={self.max_steps!r}: state a whole number; -1: as many "
                                "as num_train_epochs makes")
        above = {"learning_rate": False, "num_train_epochs": self.max_steps > 0, "logging_steps": 0,
                 "save_steps": 0, "weight_decay": True, "max_grad_norm": True, "warmup_steps": True,
                 "layer_decay": False, "adam_epsilon": True, "eval_delay": True}
        for name, zero in above.items():
            value = getattr(self, name)
            if not (_is_number(value) and (value > 0 or (zero and value == 0))):
                raise ArgumentError(f"{name}={value!r}: state a number "
                                    f"{'of at least' if zero else 'above'} 0")
        for name in ("adam_beta1", "adam_beta2", "momentum", "dropout", "attention_dropout"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 <= value < 1):
                raise ArgumentError(f"{name}={value!r}: state a number from 0 to below 1")
        if self.warmup_ratio is not None and not (
                _is_number(self.warmup_ratio) and 0 <= self.warmup_ratio <= 1):
            raise ArgumentError(f"warmup_ratio={self.warmup_ratio!r}: state a share from 0 to 1")
        if self.momentum and self.optim != "sgd":
            raise ArgumentError(f"momentum={self.momentum!r} needs optim='sgd'")
        if self.nesterov and not self.momentum:
            raise ArgumentError("nesterov=True needs momentum")
        parse_size(self.memory, "memory")
        parse_size(self.caller_memory, "caller_memory")

    def _check_best(self) -> None:
        if self.save_strategy == "best" and self.metric_for_best_model is None:
            raise ArgumentError("save_strategy='best' needs metric_for_best_model")
        if not self.load_best_model_at_end or self.save_strategy == "best":
            return
        if self.eval_strategy == "no" or self.eval_strategy != self.save_strategy:
            raise ArgumentError(
                f"load_best_model_at_end needs evaluations and checkpoints at the same steps: "
                f"eval_strategy={self.eval_strategy!r}, save_strategy={self.save_strategy!r}")
        if self.eval_strategy == "steps" and self.eval_steps and self.save_steps % self.eval_steps:
            raise ArgumentError(f"load_best_model_at_end needs save_steps={self.save_steps} to be "
                                f"a multiple of eval_steps={self.eval_steps}")

    # ---- what follows --------------------------------------------------------------------------

    @property
    def train_batch_size(self) -> int:
        """Examples of a step."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Examples of a batch of the evaluation's loss."""
        return self.per_device_eval_batch_size

    @property
    def no_duplicates(self) -> bool:
        """Whether no text stands twice in a batch."""
        return str(self.batch_sampler).startswith("no_duplicates")

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps in which the learning rate rises, of so many."""
        if self.lr_scheduler_type == "constant":
            return 0
        if self.warmup_steps >= 1:
            return int(self.warmup_steps)
        return math.ceil(num_training_steps * (self.warmup_steps or self.warmup_ratio or 0))

    def steps_of(self, value: float | None, steps: int) -> int:
        """An interval, which below 1 is a share of all steps."""
        if value is None:
            return 0
        return max(1, math.ceil(value * steps) if value < 1 else int(value))

    def optimizer_options(self, steps: int) -> dict[str, Any]:
        """Optimizer and schedule as the extension takes them."""
        return {
            "learning_rate": float(self.learning_rate), "optimizer": _OPTIMIZERS[self.optim][0],
            "optimizer_bits": _OPTIMIZERS[self.optim][1], "momentum": float(self.momentum),
            "nesterov": int(self.nesterov), "layer_decay": float(self.layer_decay),
            "accumulate": self.gradient_accumulation_steps,
            "beta1": float(self.adam_beta1), "beta2": float(self.adam_beta2),
            "epsilon": float(self.adam_epsilon), "weight_decay": float(self.weight_decay),
            "clip_norm": float(self.max_grad_norm),
            "schedule": _SCHEDULES[self.lr_scheduler_type], "steps": steps,
            "warmup_steps": self.get_warmup_steps(steps)}

    def to_dict(self) -> dict[str, Any]:
        """All arguments by name."""
        return asdict(self)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
