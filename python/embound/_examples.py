"""Examples to train on: texts in groups, and a label where the loss has one, from any table.

All of it is looked through at once, so that every fault is said before any work, with its row.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from ._errors import ArgumentError, TextError
from ._example_files import read_file
from .losses import Loss

LABELS = ("label", "labels", "score", "scores")
_FIRST = {None: ("anchor", "positive"), "score": ("sentence1", "sentence2"), "class": ("sentence",),
          "teacher": ("sentence",)}
_HINT = "leave such rows out, or fill them"


class Examples:
    """``columns`` texts each, with these names. ``labels``: f32, ``label_size`` an example, or
    None."""

    def __init__(self, texts: list[str], columns: int, labels: array[float] | None,
                 names: Sequence[str]) -> None:
        self.columns, self.labels, self.names = columns, labels, list(names)
        self.count = len(texts) // columns
        self.label_size = 0 if labels is None else len(labels) // self.count
        self._texts = texts

    def of(self, row: int) -> list[str]:
        """The texts of an example."""
        return self._texts[row * self.columns:(row + 1) * self.columns]

    def batch(self, rows: Iterable[int]) -> tuple[list[str], array[float] | None]:
        """Texts of those examples, one behind the other, and their labels."""
        texts: list[str] = []
        labels, size = array("f"), self.label_size
        for row in rows:
            texts += self.of(row)
            if self.labels is not None:
                labels += self.labels[row * size:(row + 1) * size]
        return texts, None if self.labels is None else labels

    def digest(self) -> int:
        """64 bits that differ where texts or labels do."""
        digest = blake2b(digest_size=8)
        for text in self._texts:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return int.from_bytes(digest.digest(), "little")

    def batch_bytes(self, size: int) -> int:
        """At most so many bytes of UTF-8 has a batch of that size."""
        lengths = sorted((len(text) * (1 if text.isascii() else 4) for text in self._texts),
                         reverse=True)
        return sum(lengths[:size * self.columns]) + 128 * size * self.columns


def read_examples(dataset: Any, loss: Loss, columns: Sequence[str] | None = None,
                  what: str = "dataset") -> Examples:
    """The examples of a list or iterable (of tuples, dicts or InputExamples), a table of pandas,
    polars, pyarrow or datasets, or the path of a CSV, TSV or JSON Lines file.

    ``columns``: names of the texts, for losses with a label its name first. Raises TextError
    (``.index`` is the row) for a row that is no example, ArgumentError for columns."""
    if dataset is None:
        raise ArgumentError(f"{what}=None: examples are needed")
    if isinstance(dataset, (str, os.PathLike)):
        path = os.fspath(dataset)
        found = read_file(path, loss.kind.target == "score")
        return _from_rows(found.rows, found.names, loss, columns, found.place, strict=False)
    if isinstance(dataset, Mapping):
        raise ArgumentError(f"{what}: a {type(dataset).__name__} of data sets or columns: give "
                            "one table, or a list of rows")

    def place(row: int) -> str:
        return f"{what} row {row}"

    names = _names_of(dataset)
    if names is not None:
        return _from_table(dataset, names, loss, columns, place)
    if not isinstance(dataset, Iterable) or isinstance(dataset, (bytes, bytearray)):
        raise ArgumentError(f"{what} of type {type(dataset).__name__}: a list of tuples or dicts, "
                            "a table, or a path is needed")
    rows = dataset if isinstance(dataset, list) else list(dataset)
    if not rows:
        raise ArgumentError(f"{what} holds no example")
    if isinstance(rows[0], Mapping):
        return _from_rows(rows, list(rows[0]), loss, columns, place, strict=True)
    if columns is not None:
        raise ArgumentError(f"columns={columns!r}: the rows of {what} have no names")
    return _from_tuples(rows, loss, place)


# ---- columns -------------------------------------------------------------------------------------

def _names_of(dataset: Any) -> list[str] | None:
    """The names of a table's columns; None of what is no table (or a stream of dicts)."""
    if isinstance(dataset, (list, tuple)) or not hasattr(dataset, "__getitem__"):
        return None
    for attribute in ("column_names", "columns"):
        names = getattr(dataset, attribute, None)
        if names is not None:
            if not all(isinstance(name, str) for name in names):
                raise ArgumentError(f"columns named {list(names)[:10]}: names are str")
            return list(names)
    return None


def _choose(names: Sequence[str], loss: Loss, columns: Sequence[str] | None,
            strict: bool) -> tuple[list[str], str | None]:
    """The columns of the texts and of the label."""
    kind = loss.kind
    least, most = kind.texts
    if columns is not None:
        wanted, labels = list(columns), 0 if kind.target is None else 1
        absent = [name for name in wanted if name not in names]
        if absent or len(set(wanted)) < len(wanted) or not (
                least <= len(wanted) - labels <= most):
            order = ("the texts, anchor and positive first" if kind.target is None
                     else f"the label, then {_how_many(loss)}")
            raise ArgumentError(f"columns={wanted}: state {order}, each once, of {list(names)}")
        return (wanted[1:], wanted[0]) if labels else (wanted, None)
    label = next((name for name in names if name in LABELS), None)
    texts = [name for name in names if name not in LABELS]
    first = _FIRST[kind.target]
    if all(name in names for name in first):
        usual = list(first)
        if most > len(first):
            usual += [name for name in texts if name.startswith("negative")]
        rest = [name for name in texts if name not in usual]
        if rest and strict and kind.target != "teacher":
            raise ArgumentError(f"columns {rest} beside {usual}: remove them, or name the "
                                "texts to use with columns=")
        texts = texts if kind.target == "teacher" else usual
    if kind.target is not None and label is None:
        raise ArgumentError(f"this loss needs a label, in a column named one of {LABELS}: there "
                            f"are {list(names)}")
    if not least <= len(texts) <= most:
        raise ArgumentError(f"this loss takes {_how_many(loss)}: name them {', '.join(first)} or "
                            f"with columns=; there are {list(names)}")
    return texts, label if kind.target is not None else None


def _how_many(loss: Loss) -> str:
    """Texts of an example, and a label if it has one."""
    least, most = loss.kind.texts
    words = {1: "one text", 2: "two texts", 3: "three texts"}
    return (words[least] + ("" if most == least else " or more")
            + (" and a label" if loss.kind.target is not None else ""))


def _values(column: Any) -> list[Any]:
    """A column of any table as a list."""
    for name in ("to_pylist", "tolist", "to_list"):
        if hasattr(column, name):
            return list(getattr(column, name)())
    return list(column)


def _from_table(dataset: Any, names: list[str], loss: Loss, columns: Sequence[str] | None,
                place: Callable[[int], str]) -> Examples:
    texts, label = _choose(names, loss, columns, strict=True)
    lists = [_values(dataset[name]) for name in texts]
    labels = None if label is None else _values(dataset[label])
    return _make(list(zip(*lists)), labels, texts, loss, place)


def _from_rows(rows: list[Any], names: list[str], loss: Loss, columns: Sequence[str] | None,
               place: Callable[[int], str], strict: bool) -> Examples:
    texts, label = _choose(names, loss, columns, strict)
    wanted = texts if label is None else [*texts, label]
    for number, row in enumerate(rows):
        for name in wanted:
            if not isinstance(row, Mapping) or name not in row:
                raise TextError(f"{place(number)}: it lacks {name!r}: {_HINT}", number)
        if strict and columns is None and len(row) > len(names):
            more = sorted(set(row) - set(names))
            raise TextError(f"{place(number)}: it has {more}, the first row has not: give all rows "
                            "the same, or name those to use with columns=", number)
    labels = None if label is None else [row[label] for row in rows]
    return _make([[row[name] for name in texts] for row in rows], labels, texts, loss, place)


def _from_tuples(rows: list[Any], loss: Loss, place: Callable[[int], str]) -> Examples:
    """Texts in their order; with a label it is the last. InputExamples have texts and a label."""
    groups: list[list[Any]] = []
    labels: list[Any] | None = None if loss.kind.target is None else []
    for number, row in enumerate(rows):
        if hasattr(row, "texts") and hasattr(row, "label"):
            group, label = list(row.texts), row.label
        elif isinstance(row, (list, tuple)):
            group, label = list(row), None
            if labels is not None and group:
                label = group.pop()
        else:
            raise TextError(f"{place(number)} is of type {type(row).__name__}: a tuple of texts"
                            f"{'' if labels is None else ' and a label'}, or a dict, is needed",
                            number)
        groups.append(group)
        if labels is not None:
            labels.append(label)
    width, (least, most) = len(groups[0]), loss.kind.texts
    if not least <= width <= most:
        raise TextError(f"{place(0)}: this loss takes {_how_many(loss)}, not {width} texts", 0)
    for number, texts in enumerate(groups):
        if len(texts) != width:
            raise TextError(f"{place(number)}: it has {len(texts)} texts, the first row {width}: "
                            "give all rows the same number", number)
    names = [*_FIRST[loss.kind.target], *(f"negative_{i}" for i in range(1, width))]
    return _make(groups, labels, names[:width], loss, place)


# ---- rows ----------------------------------------------------------------------------------------

def _fault_of_text(text: Any) -> str | None:
    if isinstance(text, str):
        return None if text and not text.isspace() else f"is empty: {_HINT}"
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return f"is missing ({text}): {_HINT}"
    return f"is of type {type(text).__name__}: a str is needed"


def _make(groups: Sequence[Sequence[Any]], labels: list[Any] | None, names: list[str], loss: Loss,
          place: Callable[[int], str]) -> Examples:
    texts: list[str] = []
    for number, group in enumerate(groups):
        for name, text in zip(names, group):
            fault = _fault_of_text(text)
            if fault:
                raise TextError(f"{place(number)}: {name!r} {fault}", number)
        texts += group
    if not texts:
        raise ArgumentError("there is no example")
    found = None if labels is None else _labels(labels, len(names), loss, place)
    examples = Examples(texts, len(names), found, names)
    if loss.kind.compares and examples.count < 2:
        raise ArgumentError("a single example, and this loss compares examples: give two or more")
    return examples


def _labels(labels: list[Any], columns: int, loss: Loss,
            place: Callable[[int], str]) -> array[float]:
    if loss.kind.target == "teacher":
        return _vectors(labels, columns, place)
    found = array("f")
    limits = loss.kind.score_range
    for number, label in enumerate(labels):
        try:
            value = float(label)
        except (TypeError, ValueError):
            raise TextError(f"{place(number)}: the label {label!r} is not a number: {_HINT}",
                            number) from None
        if not math.isfinite(value):
            raise TextError(f"{place(number)}: the label is {value}: {_HINT}", number)
        if limits and not limits[0] <= value <= limits[1]:
            raise TextError(
                f"{place(number)}: the label {value:g} is no cosine, from {limits[0]:g} to "
                f"{limits[1]:g}: divide all by the highest, or use CoSENTLoss, which takes any",
                number)
        if loss.kind.target == "class" and value != int(value):
            raise TextError(f"{place(number)}: the label {value:g} is no class: number the classes "
                            "0, 1, 2, ...", number)
        found.append(value)
    return found


def _vectors(labels: list[Any], columns: int, place: Callable[[int], str]) -> array[float]:
    """A teacher's vectors: of each row one, or one for each of its texts."""
    import numpy

    found = array("f")
    for number, label in enumerate(labels):
        try:
            values = numpy.ascontiguousarray(label, dtype=numpy.float32)
        except (TypeError, ValueError):
            values = numpy.empty(0, numpy.float32)
        if values.size == 0 or values.size % columns or (
                found and values.size * number != len(found)):
            raise TextError(f"{place(number)}: the label is no teacher's vector for each of its "
                            f"{columns} texts, of as many values as those of the first row", number)
        if not numpy.isfinite(values).all():
            raise TextError(f"{place(number)}: a teacher's vector is not finite: {_HINT}", number)
        found.frombytes(values.tobytes())
    return found
