"""Memory sizes as people write them, and whole numbers.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import operator
from typing import Any

from ._errors import ArgumentError

_UNITS = {
    "": 1, "b": 1,
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
    "t": 10**12, "tb": 10**12, "tib": 2**40,
}


def whole(value: Any) -> int | None:
    """A whole number of Python, numpy or torch as an int; None of anything else."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def parse_size(value: int | str | None, name: str) -> int:
    """Bytes of ``300_000_000``, ``"512MiB"`` or ``"1.5GB"``; 0 of ``None`` and ``"auto"``."""
    if value is None:
        return 0
    size = -1.0
    if isinstance(value, str):
        if value == "auto":
            return 0
        text = value.strip().lower().replace("_", "")
        digits = len(text.rstrip("abcdefghijklmnopqrstuvwxyz "))
        unit = _UNITS.get(text[digits:].strip())
        try:
            size = float(text[:digits]) * unit if unit else -1.0
        except ValueError:
            pass
    elif not isinstance(value, bool):
        size = whole(value) or -1.0
    return _checked(size, value, name)


def _checked(size: float, value: object, name: str) -> int:
    if not 0 < size < 2**56:
        raise ArgumentError(f"{name}={value!r}: state bytes as a number or as '512MiB' or '1.5GB', "
                            "or None for as much as full speed needs")
    return int(size)


def format_size(size: int) -> str:
    """``"123.4 MiB"``."""
    return f"{size / 2**20:,.1f} MiB"
