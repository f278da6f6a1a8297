"""Examples from files: CSV, TSV and JSON Lines as columns, with the line that each row stands in.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from typing import Any

from ._errors import ArgumentError, ModelNotFoundError, TextError

_STS = ("score", "sentence1", "sentence2")  # columns 5, 6 and 7 of the STS benchmark's tables


class FileRows:
    """Rows of a file as mappings. ``names``: of the columns; ``place(row)``: "FILE line 3"."""

    def __init__(self, path: str, names: list[str], rows: list[dict[str, Any]],
                 lines: list[int]) -> None:
        self.names, self.rows = names, rows
        self._name, self._lines = os.path.basename(path), lines

    def place(self, row: int) -> str:
        """Where a row stands."""
        return f"{self._name} line {self._lines[row]}"


def read_file(path: str, scored: bool) -> FileRows:
    """All rows of a table with a header row, or of JSON Lines (.jsonl, .ndjson). ``scored``: the
    table may be one of the STS benchmark, without names."""
    if not os.path.isfile(path):
        raise ModelNotFoundError(f"{path}: there is no such file of examples")
    if path.lower().endswith((".jsonl", ".ndjson")):
        found = _read_json(path)
    else:
        found = _read_table(path, scored)
    if not found.rows:
        raise TextError(f"{path}: it holds no example")
    return found


def _read_json(path: str) -> FileRows:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with open(path, encoding="utf-8-sig", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TextError(f"{os.path.basename(path)} line {number}: {error}",
                                len(rows)) from None
            if not isinstance(row, dict):
                raise TextError(f"{os.path.basename(path)} line {number}: it is not a JSON object",
                                len(rows))
            rows.append(row)
            lines.append(number)
    return FileRows(path, list(rows[0]) if rows else [], rows, lines)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _cells(path: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with its first line. Tabs in the first line mean tab separated,
    and then a quote is a character like any other."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        tabs = "\t" in file.readline() or path.lower().endswith(".tsv")
        file.seek(0)
        limit = csv.field_size_limit(2**31 - 1)
        try:
            if tabs:
                reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            else:
                reader = csv.reader(file, strict=True)
            line = 1
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise TextError(f"{os.path.basename(path)} line {line}: {error}") from None
        finally:
            csv.field_size_limit(limit)


def _read_table(path: str, scored: bool) -> FileRows:
    name = os.path.basename(path)
    names: list[str] = []
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for line, cells in _cells(path):
        if not names:
            if scored and len(cells) >= 7 and _is_number(cells[4]):
                names = [_STS[i - 4] if 4 <= i <= 6 else f"column {i + 1}"
                         for i in range(len(cells))]
            else:
                names = [cell.strip() for cell in cells]
                if len(set(names)) < len(names):
                    raise ArgumentError(f"{name}: its first row names a column twice: {names}")
                continue
        elif len(cells) > len(names) and names[0] != "column 1":
            raise TextError(f"{name} line {line}: it has more cells than the first row's "
                            f"{len(names)}: put quotes around a cell that holds a delimiter",
                            len(rows))
        rows.append(dict(zip(names, cells)))
        lines.append(line)
    return FileRows(path, names, rows, lines)
