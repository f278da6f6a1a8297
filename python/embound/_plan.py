"""Plans as objects that print themselves, and what all open models hold.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import sys
import weakref
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol, TextIO

from ._sizes import format_size

_ITEM_NAMES = {"process": "held by this process already"}


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
        lines += self._items()
        lines.append(self._total("the whole process", "host"))
        if self["device_bytes"]:
            lines.append(self._total("on each GPU" if len(self["devices"]) > 1 else "on the GPU",
                                     "device"))
        if self["device_free_bytes"]:
            lines.append(f"{'free there when planned':<34}"
                         f"{format_size(self['device_free_bytes']):>16}"
                         f"  ({format_size(self['device_margin_bytes'])} of it left to others)")
        if self["device_notice"]:
            lines.append(f"not on a GPU: {self['device_reason']}")
        return "\n".join(lines)

    def _items(self) -> list[str]:
        lines = []
        for region in self["regions"]:
            lines.append(f"{region['kind']:<34}{format_size(region['bytes']):>16}")
            lines += [f"  {_ITEM_NAMES.get(name, name):<32}{format_size(size):>16}"
                      for name, size in region["items"]]
        return lines

    def _total(self, what: str, kind: str) -> str:
        stated = self[f"{kind}_bytes_max"]
        return (f"{what:<34}{format_size(self[f'{kind}_bytes']):>16}"
                f"  (budget {format_size(stated) if stated else 'none'}, smallest "
                f"{format_size(self[f'{kind}_bytes_min'])}, full speed "
                f"{format_size(self[f'{kind}_bytes_knee'])})")


class TrainingPlan(Plan):
    """What a training takes, item by item, in one allocation: ``plan["host_bytes"]`` (the whole
    process), ``plan["host_bytes_min"]``, ``plan["tokens_per_tile"]``, ``plan["tiles_kept"]`` (whose
    activations wait for the loss; others are computed again), ``plan["regions"]``."""

    def __repr__(self) -> str:
        return (f"TrainingPlan(tokens_per_tile={self['tokens_per_tile']}, "
                f"tiles_kept={self['tiles_kept']}, host_bytes={self['host_bytes']})")

    def __str__(self) -> str:
        lines = [f"training: {self['threads']} threads, {self['tokens_per_tile']} tokens per tile, "
                 f"{self['tiles_kept']} tiles kept"]
        lines += self._items()
        stated = self["host_bytes_max"]
        lines.append(f"{'the whole process':<34}{format_size(self['host_bytes']):>16}"
                     f"  (budget {format_size(stated) if stated else 'none'}, smallest "
                     f"{format_size(self['host_bytes_min'])})")
        return "\n".join(lines)


class Traced(Protocol):
    """What trace_memory asks of a model."""

    model_name: str
    _limits: Any

    @property
    def is_open(self) -> bool:
        """Whether this process has the engine open."""

    def plan(self) -> Plan:
        """Of the open engine."""

    def memory_report(self) -> dict[str, Any]:
        """Its counters."""


_MODELS: weakref.WeakSet[Traced] = weakref.WeakSet()


def register(model: Traced) -> None:
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


class MemoryAccount(str):
    """What trace_memory found, as text. Inside ``with``, it is taken and printed anew at the end,
    with what the process has grown by."""

    _file: TextIO | None
    _resident: int

    def __enter__(self) -> MemoryAccount:
        return self

    def __exit__(self, *unused: Any) -> None:
        grown = resident_bytes()[0] - self._resident
        print(f"since then the process has {'grown' if grown >= 0 else 'shrunk'} by "
              f"{format_size(abs(grown))}", file=self._file or sys.stdout)
        trace_memory(self._file)


def trace_memory(file: TextIO | None = None) -> MemoryAccount:
    """Prints (to ``file``, else to standard output) and returns what this process holds: in all, by
    engines, by the rest (the interpreter, its libraries, data); the figures that bound it; then the
    plan of every open engine, item by item. As ``with trace_memory():`` it prints both before and
    after the block."""
    now, peak = resident_bytes()
    models = sorted(_MODELS, key=lambda one: one.model_name)
    plans = {model.model_name + f" ({number})": (model, model.plan())
             for number, model in enumerate(models) if model.is_open}
    lines = [f"process: {format_size(now)} resident, {format_size(peak)} at its highest"]
    lines += _sums(plans.values(), now)
    for name, (_, plan) in plans.items():
        lines += [f"{name}: open", *(f"  {line}" for line in str(plan).split("\n"))]
    for model in models:
        if not model.is_open:
            lines.append(f"{model.model_name}: closed, holds nothing")
        rows = model.memory_report()["device_rows_bytes"]
        if rows:
            lines.append(f"{model.model_name}: rows on the GPU, {format_size(rows)}")
    if not models:
        lines.append("no model")
    account = MemoryAccount("\n".join(lines))
    account._file, account._resident = file, now
    print(account, file=file or sys.stdout)
    return account


def _sums(opened: Collection[tuple[Traced, Plan]], now: int) -> list[str]:
    """Of all open engines together; and the smallest figures that they state."""
    lines = []
    engines = sum(_arena_bytes(plan, "host", "pinned") for _, plan in opened)
    if engines:
        lines.append(f"  {len(opened)} open engines {format_size(engines)}, the rest "
                     f"{format_size(max(now - engines, 0))}")
    for device in sorted({index for _, plan in opened if plan["device"] == "cuda"
                          for index in plan["devices"]}):
        there = sum(_arena_bytes(plan, "device") for _, plan in opened
                    if plan["device"] == "cuda" and device in plan["devices"])
        lines.append(f"cuda:{device}: open engines {format_size(there)}, beside the contexts and "
                     "what other libraries hold (see each plan)")
    for name, key in (("memory", "host_bytes"), ("gpu_memory", "gpu_bytes")):
        stated = [(getattr(model._limits, key), model.model_name) for model, plan in opened
                  if getattr(model._limits, key) and (name == "memory" or plan["device"] == "cuda")]
        if stated:
            least, whose = min(stated)
            lines.append(f"  bounded by {name}={format_size(least)}, which {whose} states")
    return lines


def _arena_bytes(plan: Plan, *kinds: str) -> int:
    return sum(region["arena_bytes"] for region in plan["regions"] if region["kind"] in kinds)
