"""The exceptions of embound, and how the library's statuses become them.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import os
import sys
import warnings

from . import _core

__all__ = [
    "ArgumentError", "BudgetError", "DeviceError", "DeviceWarning", "EmboundError",
    "EmboundWarning",
    "InternalError", "InputOutputError", "ModelError", "ModelNotFoundError", "NotFiniteError",
    "OutOfMemoryError",
    "TextError", "TruncationWarning", "UnsupportedError",
]


class EmboundError(Exception):
    """Base of every exception that embound raises on purpose; the message says what to change."""


class ArgumentError(EmboundError, ValueError):
    """A parameter is outside what its documentation allows."""


class UnsupportedError(EmboundError, NotImplementedError, ValueError):
    """Well-formed, but this version does not do it."""


class BudgetError(EmboundError, MemoryError):
    """The stated memory is too little; nothing has been allocated.

    ``minimum_bytes``: the smallest budget that works; 0 if host and GPU budget are each large
    enough alone, but not together, or if it is not known. ``region``: ``"host"`` or ``"device"``.
    """

    minimum_bytes: int
    region: str

    def __init__(self, message: str, minimum_bytes: int = 0, region: str = "host") -> None:
        super().__init__(message)
        self.minimum_bytes = minimum_bytes
        self.region = region

    def __reduce__(self) -> tuple[type[BudgetError], tuple[str, int, str]]:
        return type(self), (str(self), self.minimum_bytes, self.region)


class ModelError(EmboundError, OSError):
    """A file of the model is malformed, or does not belong to the others."""


class ModelNotFoundError(ModelError, FileNotFoundError):
    """There is no such model, neither in files nor in the cache."""


class TextError(EmboundError, ValueError):
    """A text cannot be encoded. ``index``: its place in the input."""

    index: int

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index

    def __reduce__(self) -> tuple[type[TextError], tuple[str, int]]:
        return type(self), (str(self), self.index)

    def after(self, texts: int) -> TextError:
        """The same of an input in which so many texts stand before those that were encoded."""
        number = self.index + texts
        return TextError(str(self).replace(f"text {self.index} ", f"text {number} ", 1), number)


class OutOfMemoryError(EmboundError, MemoryError):
    """The system refused memory that the plan had foreseen."""


class InputOutputError(EmboundError, OSError):
    """Reading or writing failed."""


class DeviceError(EmboundError, RuntimeError):
    """A device is missing or failed, or CUDA is used after fork."""


class NotFiniteError(EmboundError, ArithmeticError):
    """A loss or a gradient of a training is not a finite number; the step changed nothing."""


class InternalError(EmboundError, RuntimeError):
    """A broken invariant of embound itself: please report it."""


class EmboundWarning(UserWarning):
    """Base of embound's warnings."""


class TruncationWarning(EmboundWarning):
    """Texts were longer than the model's limit; the message counts the tokens left out."""


class DeviceWarning(EmboundWarning):
    """A GPU or its driver is there, and the CPU does the work; the message says why."""


_told: set[tuple[int, str]] = set()  # process and message


def outside_level() -> int:
    """The stacklevel, for a warning of the function that calls this, of the first line that is not
    embound's."""
    level, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("embound."):
        level, frame = level + 1, frame.f_back
    return level


def warn(message: str, category: type[Warning]) -> None:
    """Warns at the first line that is not embound's."""
    warnings.warn(message, category, stacklevel=outside_level())


def tell_once(message: str) -> None:
    """One DeviceWarning for each message in a process."""
    key = (os.getpid(), message)
    if key not in _told:
        _told.add(key)
        warn(message, DeviceWarning)


def tell_device(reason: str, notice: int) -> None:
    """Says why no GPU is used; called by the extension. Where there is neither GPU nor driver, or
    none is wanted, only who logs everything hears of it."""
    if notice:
        tell_once(f"embound computes on the CPU: {reason}; device='cpu' says that this is meant")
    elif "logging" in sys.modules:
        sys.modules["logging"].getLogger("embound").debug("the CPU computes: %s", reason)


_CLASSES: dict[int, type[EmboundError]] = {
    10: ArgumentError, 11: UnsupportedError, 20: ModelError, 30: OutOfMemoryError,
    31: InputOutputError, 32: ModelNotFoundError, 33: DeviceError, 34: InternalError,
    35: InternalError, 90: InternalError,
}


def from_status(status: int, message: str, number: int, region: int) -> EmboundError:
    """The exception of an ``emb_status``; called by the extension."""
    message = message.replace(_core.advice_cpu, "device='cpu'")
    if status == 12:
        return BudgetError(message, number, "host" if region == 0 else "device")
    if status in (21, 22, 23):
        return TextError(message, number)
    return _CLASSES.get(status, InternalError)(message)
