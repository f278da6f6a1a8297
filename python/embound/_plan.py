"""Plans as objects that print themselves, and what all open models hold.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from ._sizes import format_size

if TYPE_CHECKING:
    from ._model import SentenceTransformer

_MODELS: weakref.WeakSet[SentenceTransformer] = weakref.WeakSet()


class Plan(Mapping[str, Any]):
    """Bytes and shapes that follow from the stated limits, before any work.

    A read-only mapping: ``plan["host_bytes"]`` (the whole process, the interpreter included),
    ``plan["host_bytes_min"]``, ``plan["host_bytes_knee"]``, ``plan["rung"]``,
    ``plan["regions"]`` (each with its items in bytes). ``str(plan)`` is a table.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return (f"Plan(device={self['device']!r}, dtype={self['dtype']!r}, rung={self['rung']!r}, "
                f"host_bytes={self['host_bytes']}, device_bytes={self['device_bytes']})")

    def __str__(self) -> str:
        lines = [
            f"{self['device']}, {self['dtype']}, {self['isa']}: {self['rung']}; {self['lanes']} "
            f"lanes, {self['tokens_per_tile']} tokens per tile, at most {self['max_tokens']} "
            f"tokens per text ({self['long']})"]
        for region in self["regions"]:
            lines.append(f"{region['kind']:<34}{format_size(region['bytes']):>16}")
            lines += [f"  {'interpreter and its libraries' if name == 'process' else name:<32}"
                      f"{format_size(size):>16}" for name, size in region["items"]]
        stated = self["host_bytes_max"]
        lines.append(f"{'the whole process':<34}{format_size(self['host_bytes']):>16}"
                     f"  (budget {format_size(stated) if stated else 'none'}, smallest "
                     f"{format_size(self['host_bytes_min'])}, full speed "
                     f"{format_size(self['host_bytes_knee'])})")
        return "\n".join(lines)


def register(model: SentenceTransformer) -> None:
    """Makes a model known to trace_memory; it is not kept alive."""
    _MODELS.add(model)


def resident_bytes() -> tuple[int, int]:
    """Resident bytes of this process: now, and at their highest."""
    now = peak = 0
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                now = int(line.split()[1]) << 10
            elif line.startswith("VmHWM:"):
                peak = int(line.split()[1]) << 10
    return now, peak


def trace_memory(file: TextIO | None = None) -> str:
    """Prints (to ``file``, else to standard output) and returns what every open engine holds,
    item by item, beside what the system says of the process. In bytes, shown as MiB."""
    now, peak = resident_bytes()
    lines = [f"process: {format_size(now)} resident, {format_size(peak)} at its highest"]
    for model in sorted(_MODELS, key=lambda one: one.model_name):
        if model.is_open:
            lines += [f"{model.model_name}: open", *(f"  {x}" for x in
                                                     str(model.plan()).split("\n"))]
        else:
            lines.append(f"{model.model_name}: closed, holds nothing")
        rows = model.memory_report()["device_rows_bytes"]
        if rows:
            lines.append(f"{model.model_name}: rows on the GPU, {format_size(rows)}")
    if len(lines) == 1:
        lines.append("no model")
    text = "\n".join(lines)
    print(text, file=file or sys.stdout)
    return text
