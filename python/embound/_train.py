"""train: fine-tuning in one call.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from . import _checkpoints
from ._errors import ArgumentError
from ._model import SentenceTransformer
from ._options import renamed
from ._plan import TrainingPlan
from ._settings import check_count
from ._trainer import SentenceTransformerTrainer
from ._training_arguments import SentenceTransformerTrainingArguments
from .losses import Loss, read_loss

_NEVER = 2**40  # steps: at the end alone


@dataclass
class TrainingResult:
    """What came of a training.

    ``path``: the directory of the trained model, for embound and sentence-transformers.
    ``model``: it, opened. ``losses``: of every step of this call. ``log``: a dict for each of them,
    as in ``log.jsonl``. ``evaluations``: metrics in their order. ``plan``: every byte, as it was
    known before. ``metrics``: of all steps together. ``memory``: planned and observed bytes.
    """

    path: str
    model: SentenceTransformer = field(repr=False)
    steps: int
    losses: list[float] = field(repr=False)
    log: list[dict[str, Any]] = field(repr=False)
    evaluations: list[dict[str, Any]] = field(repr=False)
    plan: TrainingPlan = field(repr=False)
    metrics: dict[str, float]
    memory: dict[str, Any] = field(repr=False)


@renamed(host_memory="memory")
def train(model: Any, dataset: Any, loss: Any = "ranking", *, output: str | os.PathLike[str],
          epochs: float = 1, steps: int | None = None, batch_size: int = 32,
          learning_rate: float = 2e-5, schedule: str = "linear", warmup_ratio: float = 0.0,
          warmup_steps: int = 0, weight_decay: float = 0.0, max_grad_norm: float = 1.0,
          optimizer: str = "adamw", momentum: float = 0.0, nesterov: bool = False,
          layer_decay: float = 1.0, bf16: bool = False, seed: int = 0, shuffle: bool = True,
          no_duplicates: bool = False, dropout: float = 0.0, max_length: int | None = None,
          columns: list[str] | None = None, scale: float | None = None, symmetric: bool = False,
          prompts: Any = None, eval_dataset: Any = None, evaluator: Any = None,
          eval_steps: int | None = None, checkpoint_steps: int | None = None,
          checkpoints_max: int | None = None, resume: bool = False,
          memory: int | str | None = None, caller_memory: int | str | None = None,
          threads: int | None = None, callbacks: Iterable[Any] | None = None,
          tensorboard: bool = False, progress: bool | None = None,
          overwrite: bool = False) -> TrainingResult:
    """Fine-tunes a model and writes it to ``output``, as ``embound train`` does, with the same
    losses step by step for the same examples and options.

    Args:
        model: an embound SentenceTransformer on the CPU, a directory, or a name.
        dataset: a list of tuples or dicts, a table of pandas, polars, pyarrow or datasets, or the
            path of a CSV, TSV or JSON Lines file. Columns: anchor, positive, and any negative...;
            or sentence1, sentence2 and score (or label); or those of ``columns``.
        loss: ``"ranking"`` (in-batch negatives), ``"cosent"``, ``"cosine"``, ``"triplet"``,
            ``"batch_hard"``, ``"distill"``, or of ``embound.losses`` or sentence-transformers.
        output: a directory, new or empty; with ``overwrite`` or ``resume`` an earlier training's.
        epochs, steps: times through the examples, or a number of steps.
        batch_size: examples of a step; a larger one takes little more memory.
        schedule: of the learning rate: ``"linear"``, ``"cosine"``, ``"constant_with_warmup"``.
        optimizer: ``"adamw"``, ``"adamw8"`` (a quarter of the memory for moments), ``"sgd"``.
        bf16: products in bf16, all else in f32.
        dropout: share of activations and attention weights that a step leaves out.
        max_length: tokens of a text; None: the model's max_seq_length.
        scale, symmetric: of a loss that is given by name: see ``embound.losses``.
        eval_dataset, evaluator: evaluated at the end and after every ``eval_steps``.
        checkpoint_steps: keeps ``output/checkpoint-N``, the newest ``checkpoints_max`` of them.
        resume: go on from the last of them, if there is one, to the same bits.
        memory: bytes, or ``"1GiB"``: what the whole process may hold; None: as full speed needs.
        tensorboard: event files in ``output/runs``.
        progress: a bar (needs tqdm); None: if tqdm is there.

    Raises TextError for an example that cannot be used, with its row; BudgetError before anything
    is allocated; NotFiniteError; ArgumentError; UnsupportedError.
    """
    given = dict(locals())
    path = os.fspath(output)
    kept = _checkpoints.list_checkpoints(path) if resume else []
    if os.path.isdir(path) and os.listdir(path) and not (overwrite or resume):
        raise ArgumentError(f"output={path!r} is not empty: choose another, or state "
                            "overwrite=True, or resume=True to go on with it")
    trainer = SentenceTransformerTrainer(
        model, _arguments(path, given), dataset, eval_dataset, _loss_of(loss, scale, symmetric),
        evaluator, callbacks=callbacks, columns=columns, max_length=max_length)
    done = trainer.train(resume_from_checkpoint=bool(kept))
    assert trainer.plan is not None
    history = trainer.state.log_history
    return TrainingResult(
        path=path, model=trainer.model, steps=done.global_step,
        losses=trainer.steps.column("loss"), log=trainer.steps.rows(),
        evaluations=[one for one in history if any(key.startswith("eval_") for key in one)],
        plan=trainer.plan, metrics=done.metrics, memory=trainer.memory)


def _arguments(path: str, given: dict[str, Any]) -> SentenceTransformerTrainingArguments:
    """The same by the trainer's names."""
    evaluates = given["eval_dataset"] is not None or given["evaluator"] is not None
    if given["eval_steps"] and not evaluates:
        raise ArgumentError("eval_steps needs eval_dataset or evaluator")
    same = ("learning_rate", "warmup_ratio", "warmup_steps", "weight_decay", "max_grad_norm",
            "bf16", "seed", "momentum", "nesterov", "layer_decay", "dropout", "prompts", "memory",
            "caller_memory", "threads")
    return SentenceTransformerTrainingArguments(
        output_dir=path, num_train_epochs=given["epochs"],
        max_steps=-1 if given["steps"] is None else check_count(given["steps"], "steps"),
        per_device_train_batch_size=given["batch_size"],
        per_device_eval_batch_size=given["batch_size"], lr_scheduler_type=given["schedule"],
        optim=given["optimizer"], attention_dropout=given["dropout"],
        train_sampling_strategy="random" if given["shuffle"] else "sequential",
        batch_sampler="no_duplicates" if given["no_duplicates"] else "batch_sampler",
        logging_steps=10, eval_strategy="steps" if evaluates else "no",
        eval_steps=(given["eval_steps"] or _NEVER) if evaluates else None,
        save_strategy="steps" if given["checkpoint_steps"] else "no",
        save_steps=given["checkpoint_steps"] or _NEVER,
        save_total_limit=given["checkpoints_max"],
        report_to="tensorboard" if given["tensorboard"] else "none",
        disable_tqdm=None if given["progress"] is None else not given["progress"],
        **{name: given[name] for name in same})


def _loss_of(loss: Any, scale: float | None, symmetric: bool) -> Any:
    """A loss by name gets the settings that stand beside it."""
    if scale is None and not symmetric:
        return loss
    if not isinstance(loss, str):
        raise ArgumentError("scale and symmetric are of a loss that is given by name: state them "
                            "where the loss is made")
    found = read_loss(loss)
    if symmetric and found.name != "ranking":
        raise ArgumentError("symmetric is of the loss 'ranking' alone")
    return Loss(found.name, 20.0 if scale is None else scale, symmetric)
