"""Where a training is followed: log.jsonl, TensorBoard's files, a bar.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import json
import math
import numbers
import os
from array import array
from typing import Any

from ._tensorboard import EventFile

# Of each step, as ``embound train --log`` writes them.
STEP_KEYS = ("step", "epoch", "loss", "gradient_norm", "learning_rate", "tokens", "truncated",
             "seconds", "tokens_per_second", "host_bytes")
_WHOLE = frozenset(("step", "epoch", "tokens", "truncated", "host_bytes"))


class StepLog:
    """Steps, in 80 bytes each."""

    def __init__(self) -> None:
        self._values = array("d")

    def add(self, step: dict[str, Any]) -> None:
        """One more."""
        self._values.extend(step[key] for key in STEP_KEYS)

    def __len__(self) -> int:
        return len(self._values) // len(STEP_KEYS)

    def column(self, key: str) -> list[float]:
        """One of the values of all steps."""
        return self._values[STEP_KEYS.index(key)::len(STEP_KEYS)].tolist()

    def rows(self) -> list[dict[str, Any]]:
        """All of it."""
        width = len(STEP_KEYS)
        return [{key: int(value) if key in _WHOLE else value for key, value in
                 zip(STEP_KEYS, self._values[at:at + width])}
                for at in range(0, len(self._values), width)]


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of numpy and torch as Python's, not finite ones as null."""
    if isinstance(value, (bool, str, type(None), int)):
        return value
    if isinstance(value, numbers.Real) or hasattr(value, "item"):
        number = value.item() if hasattr(value, "item") else float(value)
        return number if not isinstance(number, float) or math.isfinite(number) else None
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else str(value)


class TrainingLog:
    """Lines and scalars of one training. ``goes_on``: it was resumed after ``step`` steps; what an
    earlier run wrote of later ones is left out."""

    def __init__(self, output_dir: str, events_dir: str | None, goes_on: bool, step: int) -> None:
        path = os.path.join(output_dir, "log.jsonl")
        kept = _lines_until(path, step) if goes_on else []
        self._file = open(path, "w", encoding="utf-8")
        self._file.writelines(kept)
        self._events = EventFile(events_dir) if events_dir else None

    def line(self, values: dict[str, Any]) -> None:
        """Is there at once, for whoever follows the file."""
        self._file.write(json.dumps(plain(values), separators=(",", ":")) + "\n")
        self._file.flush()

    def scalars(self, logs: dict[str, Any], step: int) -> None:
        """As transformers names them: train/loss, eval/loss."""
        if self._events is None:
            return
        named = {}
        for name, value in logs.items():
            value = plain(value)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                part = "eval/" + name[5:] if name.startswith("eval_") else "train/" + name
                named[part] = float(value)
        self._events.add(named, step)

    def close(self) -> None:
        """Ends both files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _lines_until(path: str, step: int) -> list[str]:
    kept = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError, TypeError):
                    continue  # cut by what ended that run
    except FileNotFoundError:
        pass
    return kept


class Bar:
    """tqdm's bar with loss, tokens a second and memory; nothing without tqdm."""

    def __init__(self, disable: bool | None, total: int, done: int) -> None:
        self._bar: Any = None
        if disable:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=total, initial=done, desc="train", unit="step",
                         dynamic_ncols=True)

    def step(self, step: dict[str, Any]) -> None:
        """One step was done."""
        if self._bar is not None:
            self._bar.set_postfix_str(
                f"loss {step['loss']:.4f}, {step['tokens_per_second']:.0f} tok/s, "
                f"{step['host_bytes'] / 2**20:.0f} MiB", refresh=False)
            self._bar.update(1)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
