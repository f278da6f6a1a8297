"""SentenceTransformerTrainer: trains a model inside stated memory, by sentence-transformers' names.

While it trains, the model's own encode gives vectors by the parameters as they are at that moment;
afterwards the model is the trained one, read from output_dir.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from . import _checkpoints, _core
from ._batches import Batch, Batches
from ._callbacks import (
    CallbackHandler, TrainerControl, TrainerState, is_better, metric_name)
from ._errors import (
    ArgumentError, EmboundWarning, ModelError, NotFiniteError, UnsupportedError, warn)
from ._examples import Examples, read_examples
from ._model import SentenceTransformer
from ._plan import TrainingPlan
from ._settings import check_tokens, read_config
from ._sizes import parse_size
from ._training_arguments import SentenceTransformerTrainingArguments
from ._training_log import Bar, StepLog, TrainingLog
from .losses import read_loss


class TrainOutput(NamedTuple):
    """What train() gives."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class SentenceTransformerTrainer:
    """Trains a model on examples, evaluates it meanwhile, keeps checkpoints.

    Args:
        model: an embound SentenceTransformer on the CPU, or a directory or name.
        args: SentenceTransformerTrainingArguments.
        train_dataset: a list of tuples or dicts, a table of datasets, pandas, polars or pyarrow, or
            the path of a CSV, TSV or JSON Lines file; all of it is looked through here.
        eval_dataset: the same, for the loss; or several by name.
        loss: of ``embound.losses`` or sentence_transformers.losses; None: CoSENTLoss.
        evaluator: one of sentence-transformers, or several: called with the model.
        callbacks: TrainerCallbacks, embound's or transformers'.
        columns: names of the texts, for losses with a label its name first; None: by their names.
        max_length: tokens of a text, the rest is cut; None: the model's max_seq_length.

    Raises TextError with the row for an example that cannot be used, UnsupportedError for what
    training does not have, and, in train(), BudgetError before anything is allocated.
    """

    def __init__(self, model: Any = None,
                 args: SentenceTransformerTrainingArguments | None = None,
                 train_dataset: Any = None, eval_dataset: Any = None, loss: Any = None,
                 evaluator: Any = None, data_collator: Any = None, processing_class: Any = None,
                 model_init: Any = None, compute_metrics: Any = None,
                 callbacks: Iterable[Any] | None = None, optimizers: Any = (None, None),
                 optimizer_cls_and_kwargs: Any = None,
                 preprocess_logits_for_metrics: Any = None, *,
                 columns: list[str] | None = None, max_length: int | None = None) -> None:
        _refuse_others(data_collator=data_collator, processing_class=processing_class,
                       model_init=model_init, compute_metrics=compute_metrics,
                       optimizers=[one for one in optimizers or () if one is not None] or None,
                       optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
                       preprocess_logits_for_metrics=preprocess_logits_for_metrics)
        self.args = _check_args(args)
        self.model = _open_model(model, self.args)
        self.loss = read_loss("cosent" if loss is None else loss, self.model)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self._columns, self._max_length = columns, check_tokens(max_length)
        self._examples = (None if train_dataset is None else
                          read_examples(train_dataset, self.loss, columns, "train_dataset"))
        self._pairs = self._read_eval(eval_dataset)
        several = isinstance(evaluator, (list, tuple))
        self.evaluator = evaluator
        self._evaluators: list[Any] = (list(evaluator) if several
                                       else [] if evaluator is None else [evaluator])
        if self.args.eval_strategy != "no" and not (self._pairs or self._evaluators):
            raise ArgumentError(f"eval_strategy={self.args.eval_strategy!r} needs eval_dataset or "
                                "evaluator")
        self.callback_handler = CallbackHandler(callbacks)
        self.state, self.control = TrainerState(), TrainerControl()
        self.steps = StepLog()
        self.memory: dict[str, Any] = {}
        self.plan: TrainingPlan | None = None
        self._core: _core.Trainer | None = None
        self._log: TrainingLog | None = None
        self._call("on_init_end")

    # ---- training ------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, trial: Any = None,
              ignore_keys_for_eval: list[str] | None = None) -> TrainOutput:
        """Takes all steps, writes the model into output_dir, and gives the mean loss.

        ``resume_from_checkpoint``: a ``checkpoint-N``, or True for the last one of output_dir: with
        the same data and arguments the model comes out with the same bits as without the break.

        Raises BudgetError, NotFiniteError (a loss that is not a number: checkpoints stay), what a
        callback or an evaluator raises. After Ctrl-C the model as it is then is written, and a
        checkpoint if there are to be any, before KeyboardInterrupt goes on."""
        _refuse_others(trial=trial)
        if self._examples is None:
            raise ArgumentError("train_dataset=None: there is nothing to train on")
        args, directory = self.args, str(self.args.output_dir)
        resumed = self._find_checkpoints(resume_from_checkpoint)
        batches = Batches(
            self._examples, args.train_batch_size, 2 if self.loss.kind.compares else 1,
            args.seed if args.data_seed is None else args.data_seed,
            shuffles=args.train_sampling_strategy == "random", no_duplicates=args.no_duplicates,
            drop_last=args.dataloader_drop_last)
        steps = args.max_steps if args.max_steps > 0 else math.ceil(
            args.num_train_epochs * batches.per_epoch / args.gradient_accumulation_steps)
        self._begin_state(steps, batches)
        try:
            core = self._open(self._options_of(steps, batches), resumed)
            os.makedirs(directory, exist_ok=True)
            _checkpoints.remove_partial(directory)
            core.try_save(os.path.join(directory, "model.new"), False)
            self._start = self._resume(core, resumed) if resumed else 0
            self._run(core, batches)
        except NotFiniteError as error:
            kept = _checkpoints.list_checkpoints(directory)
            last = f"; the last checkpoint is {kept[-1]}" if kept else ""
            raise NotFiniteError(f"{error}{last}") from None
        except KeyboardInterrupt as interrupt:
            self._keep(interrupt)
            raise
        finally:
            self._close()
        return self._finish()

    def _begin_state(self, steps: int, batches: Batches) -> None:
        args = self.args
        self.state = TrainerState(
            max_steps=steps, train_batch_size=batches.size,
            num_train_epochs=math.ceil(args.num_train_epochs),
            logging_steps=args.steps_of(args.logging_steps, steps),
            eval_steps=args.steps_of(args.eval_steps, steps),
            save_steps=args.steps_of(args.save_steps, steps))
        self.control = TrainerControl()
        self.steps = StepLog()
        self._start = self._logged = 0
        self._saved = -1

    def _options_of(self, steps: int, batches: Batches) -> dict[str, Any]:
        """What decides over the bits of the result: as the extension takes it."""
        assert self._examples is not None
        args, model = self.args, self.model
        hidden, attention = _dropout_of(model._path, args)
        examples = self._examples
        teacher = examples.label_size // examples.columns if self.loss.name == "distill" else 0
        return {
            **self.loss.options(), "teacher_width": teacher, **args.optimizer_options(steps),
            "batch_examples": batches.size, "example_texts": examples.columns,
            "max_length": self._max_length or model.max_seq_length, "dtype": 2 if args.bf16 else 1,
            "seed": args.seed, "dropout": hidden, "attention_dropout": attention}

    def _open(self, options: dict[str, Any], resumed: list[str]) -> _core.Trainer:
        """Takes the trainer's memory in place of the engine's."""
        assert self._examples is not None
        limits, args = self.model._limits, self.args
        self._options = options
        caller = parse_size(args.caller_memory, "caller_memory") or limits.caller_bytes
        caller += self._examples.batch_bytes(options["batch_examples"])
        tile = _tile_of(resumed)
        self._digest = self._examples.digest()
        self.model.close()
        self._core = _core.Trainer(
            self.model._core, **options, tokens_per_tile=tile,
            threads=args.threads or limits.threads, caller_bytes=caller,
            host_bytes_max=parse_size(args.memory, "memory") or limits.host_bytes)
        self.plan = TrainingPlan(self._core.plan())
        self.model._trainer = self._core
        return self._core

    def _run(self, core: _core.Trainer, batches: Batches) -> None:
        args, state = self.args, self.state
        for _ in range(self._start * args.gradient_accumulation_steps):
            batches.take()
        goes_on = self._start > 0
        events = args.logging_dir or os.path.join(str(args.output_dir), "runs")
        if args.run_name:
            events = os.path.join(events, args.run_name)
        self._log = TrainingLog(str(args.output_dir), events if args.report_to else None, goes_on,
                                self._start)
        self._began = time.monotonic()
        bar = Bar(args.disable_tqdm, state.max_steps, self._start)
        try:
            self._call("on_train_begin")
            if args.eval_on_start:
                self.evaluate()
            self._take_steps(core, batches, bar)
            self._write_model(core)
        finally:
            bar.close()

    def _take_steps(self, core: _core.Trainer, batches: Batches, bar: Bar) -> None:
        state = self.state
        prompts = self._prompts_of(self._examples)
        begins = True
        while state.global_step < state.max_steps and not self.control.should_training_stop:
            if begins:
                self._call("on_epoch_begin")
            self._call("on_step_begin")
            step, batch = self._take_step(core, batches, prompts)
            bar.step(step)
            self._flow_of_step()
            self._call("on_step_end")
            self._log_evaluate_save(core)
            begins = batch.ends or self.control.should_epoch_stop
            if batch.ends or state.global_step >= state.max_steps:
                self._flow_of_epoch()
                self._call("on_epoch_end")
                self._log_evaluate_save(core)
            while self.control.should_epoch_stop and not batch.ends:
                batch = batches.take()
            self.control.should_epoch_stop = False

    def _take_step(self, core: _core.Trainer, batches: Batches,
                   prompts: tuple[str | None, ...] | None) -> tuple[dict[str, Any], Batch]:
        """Gives the step, and its last batch; it ends an epoch if one of its batches does."""
        assert self._examples is not None and self._log is not None
        calls: list[dict[str, Any]] = []
        ends = False
        while not calls or not calls[-1]["updated"]:
            batch = batches.take()
            ends = ends or batch.ends
            calls.append(core.step(*self._examples.batch(batch.rows), prompts))
        step = dict(calls[-1])
        del step["updated"]
        step["loss"] = sum(call["loss"] for call in calls) / len(calls)
        for name in ("tokens", "truncated", "seconds"):
            step[name] = sum(call[name] for call in calls)
        step["epoch"] = batch.epoch
        step["tokens_per_second"] = step["tokens"] / max(step["seconds"], 1e-9)
        step["host_bytes"] = core.stats()["host_bytes_now"]
        self.state.global_step = step["step"]
        self.state.num_input_tokens_seen += step["tokens"]
        self.state.epoch = step["step"] * len(calls) / batches.per_epoch
        self.steps.add(step)
        self._log.line(step)
        return step, batch._replace(ends=ends)

    # ---- what follows a step -------------------------------------------------------------------

    def _flow_of_step(self) -> None:
        args, state, control = self.args, self.state, self.control
        step, last = state.global_step, state.global_step >= state.max_steps
        if (step == 1 and args.logging_first_step) or (
                args.logging_strategy == "steps" and step % state.logging_steps == 0):
            control.should_log = True
        if args.eval_strategy == "steps" and args.eval_delay <= step and (
                last or step % state.eval_steps == 0):
            control.should_evaluate = True
        if args.save_strategy == "steps" and (last or step % state.save_steps == 0):
            control.should_save = True
        if last:
            control.should_training_stop = True

    def _flow_of_epoch(self) -> None:
        args, control = self.args, self.control
        if args.logging_strategy == "epoch":
            control.should_log = True
        if args.eval_strategy == "epoch" and args.eval_delay <= self.state.epoch:
            control.should_evaluate = True
        if args.save_strategy == "epoch":
            control.should_save = True

    def _log_evaluate_save(self, core: _core.Trainer) -> None:
        state, control = self.state, self.control
        if control.should_log and state.global_step > self._logged:
            losses = self.steps.column("loss")[self._logged - state.global_step:]
            self._logged = state.global_step
            self.log({"loss": sum(losses) / len(losses),
                      "grad_norm": self.steps.column("gradient_norm")[-1],
                      "learning_rate": self.steps.column("learning_rate")[-1]})
        if control.should_evaluate:
            best = self._note_best(self.evaluate())
            if self.args.save_strategy == "best":
                self.control.should_save = best
        if self.control.should_save and self._saved != state.global_step:
            self._save_checkpoint(core)
            self._call("on_save")
        control = self.control
        control.should_log = control.should_evaluate = control.should_save = False

    def _note_best(self, metrics: Mapping[str, float]) -> bool:
        if self.args.metric_for_best_model is None:
            return False
        name = metric_name(self.args.metric_for_best_model)
        if name not in metrics:
            raise ArgumentError(f"metric_for_best_model={self.args.metric_for_best_model!r} is "
                                f"none of the metrics {sorted(metrics)}")
        state, greater = self.state, self.args.greater_is_better
        if state.best_metric is not None and not is_better(
                metrics[name], state.best_metric, greater):
            return False
        if math.isnan(metrics[name]):
            return False
        state.best_metric, state.best_global_step = float(metrics[name]), state.global_step
        return True

    # ---- checkpoints ---------------------------------------------------------------------------

    def _save_checkpoint(self, core: _core.Trainer) -> None:
        args, state, directory = self.args, self.state, str(self.args.output_dir)
        path = os.path.join(directory, f"checkpoint-{state.global_step}")
        if state.best_global_step == state.global_step:
            state.best_model_checkpoint = path
        self.callback_handler.store(state)
        own = {"digest": f"{self._digest:016x}", "options": self._options, "data": self._data(),
               "tokens_per_tile": core.plan()["tokens_per_tile"]}
        mark = None if args.save_only_model else self._mark(state.global_step)
        _checkpoints.write_checkpoint(core, directory, state.global_step, mark,
                                      {**vars(state), "embound": own})
        self._saved = state.global_step
        _checkpoints.rotate(directory, args.save_total_limit,
                            state.best_model_checkpoint if args.metric_for_best_model else None)

    def _data(self) -> dict[str, Any]:
        """How batches come about."""
        assert self._examples is not None
        args = self.args
        return {"examples": self._examples.count, "data_seed": args.data_seed,
                "train_sampling_strategy": args.train_sampling_strategy,
                "no_duplicates": args.no_duplicates, "prompts": args.prompts,
                "dataloader_drop_last": args.dataloader_drop_last}

    def _mark(self, step: int) -> tuple[int, ...]:
        assert self._examples is not None
        return step, self._examples.count, self.state.max_steps, self._digest

    def _find_checkpoints(self, wanted: str | bool | None) -> list[str]:
        """Those to go on from, the best choice first."""
        if not wanted:
            return []
        if wanted is not True:
            return [os.fspath(wanted)]
        found = _checkpoints.list_checkpoints(str(self.args.output_dir))
        if not found:
            raise ArgumentError(f"resume_from_checkpoint=True: {self.args.output_dir} has no "
                                "complete checkpoint; leave it out to begin anew")
        return found[::-1]

    def _resume(self, core: _core.Trainer, paths: list[str]) -> int:
        """Goes on from the first checkpoint that is not damaged; gives its step."""
        for number, path in enumerate(paths):
            try:
                kept = _checkpoints.read_state(path)
                self._compare(path, kept["embound"])
                mark = core.resume(_checkpoints.store_of(path))
                break
            except ModelError as error:
                if number == len(paths) - 1:
                    raise
                warn(f"{error}: going on from the checkpoint before", EmboundWarning)
        if tuple(mark[1:4]) != self._mark(0)[1:]:
            raise ArgumentError(f"{path}: is of other examples; state the same")
        steps = self.state.max_steps
        self.state = TrainerState.from_dict(kept)
        self.state.max_steps, self.state.global_step = steps, mark[0]
        self.callback_handler.restore(self.state)
        self._logged = self._saved = mark[0]
        return mark[0]

    def _compare(self, path: str, kept: dict[str, Any]) -> None:
        now = {**self._options, **self._data()}
        before = {**kept.get("options", {}), **kept.get("data", {})}
        differ = [f"{name} was {before.get(name)!r} and is {value!r}"
                  for name, value in now.items() if before.get(name) != value]
        if differ:
            raise ArgumentError(f"{path}: is of other arguments: {'; '.join(differ)}")
        if kept.get("digest") != f"{self._digest:016x}":
            raise ArgumentError(f"{path}: is of other examples; state the same")

    def _keep(self, interrupt: KeyboardInterrupt) -> None:
        """After Ctrl-C: the parameters are those of the last step that was taken whole."""
        if self._core is None:
            return
        taken = int(self._core.stats()["steps"])
        if not taken:
            return
        self.state.global_step = self._start + taken
        if self.args.save_strategy != "no" and self._saved != self.state.global_step:
            self._save_checkpoint(self._core)
        _checkpoints.publish(self._core, str(self.args.output_dir))
        self._close()
        self.model._adopt(str(self.args.output_dir))
        interrupt.add_note(f"embound: {self.args.output_dir} has the model as it was after step "
                           f"{self.state.global_step} of {self.state.max_steps}")

    # ---- the end -------------------------------------------------------------------------------

    def _write_model(self, core: _core.Trainer) -> None:
        """The last parameters, or those of the best checkpoint."""
        directory, best = str(self.args.output_dir), self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is None:
            warn("load_best_model_at_end: no evaluation was better than none; the model is the "
                 "last one", EmboundWarning)
        if self.args.load_best_model_at_end and best is not None:
            _checkpoints.copy_model(best, directory)
        else:
            _checkpoints.publish(core, directory)
        self.memory = core.stats()

    def _finish(self) -> TrainOutput:
        self.model._adopt(str(self.args.output_dir))
        losses = self.steps.column("loss")
        seconds = max(time.monotonic() - self._began, 1e-9)
        loss = sum(losses) / len(losses) if losses else math.nan
        metrics = {
            "train_runtime": seconds,
            "train_samples_per_second": self.memory["examples"] / seconds,
            "train_steps_per_second": len(losses) / seconds, "train_loss": loss,
            "host_bytes_planned": self.memory["host_bytes_planned"],
            "host_bytes_peak": self.memory["host_bytes_peak"]}
        self.log(metrics)
        self._end_log()
        self._call("on_train_end")
        return TrainOutput(self.state.global_step, loss, metrics)

    def _end_log(self) -> None:
        if self._log is not None:
            self._log.close()
        self._log = None

    def _close(self) -> None:
        """Gives the trainer's memory back; the model is its own again."""
        core, self._core = self._core, None
        self.model._trainer = None
        if core is not None:
            core.close()

    # ---- evaluation ----------------------------------------------------------------------------

    def evaluate(self, eval_dataset: Any = None, ignore_keys: list[str] | None = None,
                 metric_key_prefix: str = "eval") -> dict[str, float]:
        """The loss of the data set, or of each, and what the evaluators say, of the model as it is
        now."""
        began = time.monotonic()
        pairs = self._pairs if eval_dataset is None else self._read_eval(eval_dataset)
        if not pairs and not self._evaluators:
            raise ArgumentError("evaluate() needs eval_dataset or evaluator")
        metrics: dict[str, Any] = {}
        for name, examples in pairs.items():
            key = f"{metric_key_prefix}_{name}_loss" if name else f"{metric_key_prefix}_loss"
            metrics[key] = self._loss_of(examples)
        for evaluator in self._evaluators:
            found = self._ask(evaluator)
            for key, value in found.items():
                if not key.startswith(f"{metric_key_prefix}_"):
                    key = f"{metric_key_prefix}_{key}"
                metrics[key] = value
        metrics[f"{metric_key_prefix}_runtime"] = time.monotonic() - began
        self.log(metrics)
        self._call("on_evaluate", metrics=metrics)
        return metrics

    def _ask(self, evaluator: Callable[..., Any]) -> dict[str, Any]:
        path = os.path.join(str(self.args.output_dir), "eval")
        os.makedirs(path, exist_ok=True)
        found = evaluator(self.model, output_path=path, epoch=self.state.epoch,
                          steps=self.state.global_step)
        return dict(found) if isinstance(found, Mapping) else {"evaluator": found}

    def _read_eval(self, dataset: Any) -> dict[str, Examples]:
        """Data sets by name; a single one has none."""
        if dataset is None:
            return {}
        several = dataset if isinstance(dataset, Mapping) else {"": dataset}
        return {name: read_examples(one, self.loss, self._columns,
                                    f"eval_dataset {name}".rstrip())
                for name, one in several.items()}

    def _loss_of(self, examples: Examples) -> float:
        """The mean over batches, in the order of the data; a rest that cannot be compared is left
        out."""
        import numpy

        size, total, counted = self.args.eval_batch_size, 0.0, 0
        prompts = self._prompts_of(examples) or (None,) * examples.columns
        for first in range(0, examples.count, size):
            rows = range(first, min(first + size, examples.count))
            if self.loss.kind.compares and len(rows) < 2:
                continue
            texts, labels = examples.batch(rows)
            vectors = [numpy.asarray(self.model._rows(
                texts[k::examples.columns], prompt, self.model._dim, False, False), dtype="f8")
                for k, prompt in enumerate(prompts)]
            targets = None if labels is None else numpy.array(labels)
            total += len(rows) * self.loss.value(vectors, targets)
            counted += len(rows)
        return total / counted if counted else math.nan

    def _prompts_of(self, examples: Examples | None) -> tuple[str | None, ...] | None:
        """A prompt for each text of an example."""
        prompts = self.args.prompts
        if not prompts or examples is None:
            return None
        if isinstance(prompts, str):
            return (prompts,) * examples.columns
        unknown = sorted(set(prompts) - set(examples.names))
        if unknown:
            raise ArgumentError(f"prompts for {unknown}: the texts are {examples.names}")
        return tuple(prompts.get(name) or None for name in examples.names)

    # ---- the rest of the interface -------------------------------------------------------------

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Writes the model as it is now into a directory, which is made; None: output_dir."""
        directory = str(output_dir or self.args.output_dir)
        os.makedirs(directory, exist_ok=True)
        if self._core is not None:
            _checkpoints.publish(self._core, directory)
        elif os.path.realpath(directory) != os.path.realpath(self.model._path):
            _checkpoints.copy_model(self.model._path, directory)

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Gives logs to state.log_history, callbacks, log.jsonl and TensorBoard."""
        logs = {**logs, "epoch": self.state.epoch}
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self._call("on_log", logs=logs)
        if self._log is not None:
            if "loss" not in logs:  # steps have a line each already
                self._log.line({"step": self.state.global_step, **logs})
            self._log.scalars(logs, self.state.global_step)

    def add_callback(self, callback: Any) -> None:
        """Adds an object, or one of a class."""
        self.callback_handler.add(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Removes a callback, or the first of a class, and gives it."""
        return self.callback_handler.pop(callback)

    def remove_callback(self, callback: Any) -> None:
        """Removes a callback, or the first of a class."""
        self.callback_handler.pop(callback)

    def is_world_process_zero(self) -> bool:
        """True: there is one process."""
        return True

    is_local_process_zero = is_world_process_zero

    def _call(self, event: str, **more: Any) -> None:
        self.control = self.callback_handler.call(
            event, self.args, self.state, self.control, model=self.model,
            train_dataset=self.train_dataset, eval_dataset=self.eval_dataset, **more)


# ---- what it is made of --------------------------------------------------------------------------

_REMEDIES = {
    "data_collator": "texts are cut by the model's own tokenizer",
    "processing_class": "texts are cut by the model's own tokenizer",
    "model_init": "state model",
    "compute_metrics": "state an evaluator",
    "optimizers": "state args.optim, learning_rate and lr_scheduler_type",
    "optimizer_cls_and_kwargs": "state args.optim",
    "preprocess_logits_for_metrics": "state an evaluator",
    "trial": "call train() for each choice of arguments",
}


def _refuse_others(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise UnsupportedError(f"{name} means nothing to embound: leave it out; "
                                   f"{_REMEDIES[name]}")


def _check_args(args: Any) -> SentenceTransformerTrainingArguments:
    if args is None:
        return SentenceTransformerTrainingArguments()
    if not isinstance(args, SentenceTransformerTrainingArguments):
        raise ArgumentError(f"args of type {type(args).__module__}.{type(args).__name__}: make "
                            "them with embound.SentenceTransformerTrainingArguments, which has "
                            "the same names")
    return args


def _open_model(model: Any, args: SentenceTransformerTrainingArguments) -> SentenceTransformer:
    if isinstance(model, (str, os.PathLike)):
        model = SentenceTransformer(os.fspath(model), device="cpu", memory=args.memory,
                                    threads=args.threads)
    if not isinstance(model, SentenceTransformer):
        raise ArgumentError(f"model of type {type(model).__name__}: an embound.SentenceTransformer "
                            "or a directory is needed")
    if model._planned["device"] != "cpu":
        raise UnsupportedError("training computes on the CPU: open the model with device='cpu'")
    return model


def _dropout_of(path: str, args: SentenceTransformerTrainingArguments) -> tuple[float, float]:
    """Shares for the blocks' outputs and for the attention's weights."""
    hidden, attention = args.dropout, args.attention_dropout
    if hidden is None or attention is None:
        config = read_config(path)
        hidden = config.get("hidden_dropout_prob", 0.1) if hidden is None else hidden
        if attention is None:
            attention = config.get("attention_probs_dropout_prob", 0.1)
    return float(hidden or 0), float(attention or 0)


def _tile_of(paths: list[str]) -> int:
    """Tokens per tile of the checkpoint to go on from: the sums' order, and so the bits, follow
    from it. 0: none."""
    for path in paths:
        try:
            return int(_checkpoints.read_state(path)["embound"]["tokens_per_tile"])
        except ModelError:
            continue
    return 0
