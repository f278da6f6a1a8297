"""Several processes, each with an engine of its own: start_multi_process_pool and device lists.

The pool is a dict with the keys of sentence-transformers': ``input``, ``output``, ``processes``.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import glob
import math
from typing import TYPE_CHECKING, Any

from . import _settings
from ._errors import ArgumentError, DeviceError, EmboundError

if TYPE_CHECKING:
    from ._model import SentenceTransformer


def _devices(wanted: Any) -> list[str]:
    if wanted is not None:
        devices = [str(_settings.parse_device(device)) for device in wanted]
        if not devices or isinstance(wanted, str):
            raise ArgumentError(f"devices {wanted!r}: state a list of at least one")
        return devices
    return [f"cuda:{i}" for i in range(len(glob.glob("/dev/nvidia[0-9]*")))] or ["cpu"]


def _work(model: SentenceTransformer, device: str, tasks: Any, results: Any) -> None:
    """A worker's main: encodes chunks until it is told to end."""
    try:
        model.to(device)
        trouble: Exception | None = None
    except EmboundError as error:
        trouble = error
    while True:
        number, texts, options = tasks.get()
        if number is None:
            return
        try:
            if trouble is not None:
                raise trouble
            results.put((number, model.encode(texts, **options)))
        except Exception as error:  # whatever it is, the parent must hear of it
            results.put((number, error if isinstance(error, (EmboundError, ValueError, TypeError))
                         else DeviceError(f"{type(error).__name__}: {error}")))


def start(model: SentenceTransformer, target_devices: Any) -> dict[str, Any]:
    """Starts the processes by spawning: a child of fork could not use a GPU."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    processes = [
        context.Process(target=_work, args=(model, device, tasks, results), daemon=True)
        for device in _devices(target_devices)]
    for process in processes:
        process.start()
    return {"input": tasks, "output": results, "processes": processes}


def _check_pool(pool: Any) -> None:
    if not isinstance(pool, dict) or not {"input", "output", "processes"} <= set(pool):
        raise ArgumentError(f"pool={pool!r}: give what start_multi_process_pool gave")


def stop(pool: dict[str, Any]) -> None:
    """Ends the processes and closes the queues."""
    _check_pool(pool)
    for process in pool["processes"]:
        process.terminate()
    for process in pool["processes"]:
        process.join()
        process.close()
    for name in ("input", "output"):
        pool[name].cancel_join_thread()
        pool[name].close()


def _next_result(pool: dict[str, Any]) -> tuple[int, Any]:
    import queue

    while True:
        try:
            result: tuple[int, Any] = pool["output"].get(timeout=1.0)
            return result
        except queue.Empty:
            dead = [p.pid for p in pool["processes"] if not p.is_alive()]
            if dead:
                raise DeviceError(f"worker processes {dead} have ended: stop the pool and start "
                                  "a new one") from None


def encode(model: SentenceTransformer, inputs: Any, pool: dict[str, Any] | None, device: Any,
           chunk_size: int | None, *, prompt: str | None, output_value: str | None,
           truncate_dim: int | None, normalize_embeddings: bool,
           show_progress_bar: bool | None) -> Any:
    """Sends chunks of texts to the workers and puts their rows together, in order."""
    import numpy

    from ._model import _progress, _read_inputs

    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size <= 0):
        raise ArgumentError(f"chunk_size={chunk_size!r}: state a whole number, at least 1")
    if pool is not None:
        _check_pool(pool)
    texts, column = ([inputs], None) if isinstance(inputs, str) else (
        (inputs, None) if isinstance(inputs, list) else _read_inputs(inputs))
    if column is not None:
        texts = [str(text) for text in inputs.to_pylist()] if hasattr(
            inputs, "to_pylist") else list(inputs)
    if not texts:
        return []
    used = pool if pool is not None else start(model, device)
    options = {"prompt": prompt or "", "output_value": output_value, "truncate_dim": truncate_dim,
               "normalize_embeddings": normalize_embeddings, "show_progress_bar": False}
    bar = None if show_progress_bar is False else _progress(show_progress_bar, len(texts))
    try:
        size = chunk_size or max(1, min(math.ceil(len(texts) / len(used["processes"]) / 10), 5000))
        starts = range(0, len(texts), size)
        for number, at in enumerate(starts):
            used["input"].put((number, texts[at:at + size], options))
        parts: list[Any] = [None] * len(starts)
        for done in range(len(starts)):
            number, parts[number] = _next_result(used)
            if bar is not None:
                bar(min((done + 1) * size, len(texts)))
    finally:
        if bar is not None:
            bar.close()
        if pool is None:
            stop(used)
    for part in parts:
        if isinstance(part, Exception):
            raise part
    if output_value != "sentence_embedding":
        return [row for part in parts for row in part]
    rows = numpy.concatenate(parts)
    return rows[0] if isinstance(inputs, str) else rows
