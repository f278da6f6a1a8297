"""Which examples make which step: an order for each epoch, cut into batches.

The order follows from the seed and the epoch alone, and is that of ``embound train``
(apps/cli/batches.c), so that it can be had again at any step and from either.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ._errors import ArgumentError


class Texts(Protocol):
    """What is asked of examples."""

    count: int

    def of(self, row: int) -> Sequence[str]:
        """The texts of an example."""


class Batch(NamedTuple):
    """Numbers of examples. ``ends``: the last of its epoch."""

    rows: list[int]
    epoch: int
    ends: bool


def _mix(key: int, values: Any) -> Any:
    """Random numbers by their place: SplitMix64, as base/hash.h has it."""
    import numpy

    with numpy.errstate(over="ignore"):
        z = numpy.uint64(key) + (values + numpy.uint64(1)) * numpy.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> numpy.uint64(30)) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> numpy.uint64(27)) * numpy.uint64(0x94D049BB133111EB)
        return z ^ z >> numpy.uint64(31)


def shuffled(count: int, seed: int, epoch: int) -> array[int]:
    """The order of an epoch: Fisher and Yates's shuffle."""
    import numpy

    stream = int(_mix(seed, numpy.array([epoch], numpy.uint64))[0])
    places = numpy.arange(count, dtype=numpy.uint64)
    half = numpy.uint64(32)
    others = ((_mix(stream, places) >> half) * (places + numpy.uint64(1)) >> half).tolist()
    order = array("I", range(count))
    for i in range(count - 1, 0, -1):
        other = others[i]
        order[i], order[other] = order[other], order[i]
    return order


class Batches:
    """Batch after batch, epoch after epoch, without end.

    ``least``: what is left over of an epoch and smaller is left out. ``no_duplicates``: no text
    stands twice in a batch, but inside one example; examples that do wait for another batch.
    Raises ArgumentError where no batch can be made of these examples.
    """

    def __init__(self, texts: Texts, size: int, least: int, seed: int, *, shuffles: bool = True,
                 no_duplicates: bool = False, drop_last: bool = False) -> None:
        self.size = min(size, texts.count)
        self.least = self.size if drop_last else least
        self._texts, self._seed = texts, seed
        self._shuffles, self._no_duplicates = shuffles, no_duplicates
        self._begin(0)
        self._ahead = self._next()

    @property
    def per_epoch(self) -> int:
        """Batches of one epoch; without duplicates a few more may be needed."""
        left = self._texts.count % self.size
        return self._texts.count // self.size + (left >= self.least)

    def take(self) -> Batch:
        """The next batch."""
        rows, epoch = self._ahead, self._epoch
        self._ahead = self._next()
        return Batch(rows, epoch, self._epoch != epoch)

    def _begin(self, epoch: int) -> None:
        count = self._texts.count
        self._epoch, self._at = epoch, 0
        self._order = (shuffled(count, self._seed, epoch) if self._shuffles
                       else array("I", range(count)))

    def _next(self) -> list[int]:
        """Where fewer than `least` can be taken of all that are left, the epoch ends."""
        for _ in range(2):
            rows = self._take_different() if self._no_duplicates else self._take_first()
            if rows and len(rows) >= self.least:
                return rows
            self._begin(self._epoch + 1)
        raise ArgumentError("no two examples can stand in one batch: each shares a text with all "
                            "others; leave no_duplicates out")

    def _take_first(self) -> list[int]:
        rows = self._order[self._at:self._at + self.size].tolist()
        self._at += len(rows)
        return rows

    def _take_different(self) -> list[int]:
        """The first examples that fit. Those passed over come first next time, in their order."""
        seen: set[str] = set()
        rows: list[int] = []
        passed = array("I")
        end, at = len(self._order), self._at
        while at < end and len(rows) < self.size:
            row = self._order[at]
            at += 1
            texts = self._texts.of(row)
            if seen.isdisjoint(texts):
                seen.update(texts)
                rows.append(row)
            else:
                passed.append(row)
        self._at = at - len(passed)
        self._order[self._at:at] = passed
        return rows
