"""The exceptions of embound, and how the library's statuses become them.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

__all__ = [
    "ArgumentError", "BudgetError", "DeviceError", "EmboundError", "EmboundWarning",
    "InternalError", "InputOutputError", "ModelError", "ModelNotFoundError", "OutOfMemoryError",
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
    enough alone, but not together. ``region``: ``"host"`` or ``"device"``.
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


class OutOfMemoryError(EmboundError, MemoryError):
    """The system refused memory that the plan had foreseen."""


class InputOutputError(EmboundError, OSError):
    """Reading or writing failed."""


class DeviceError(EmboundError, RuntimeError):
    """A device is missing or failed, or CUDA is used after fork."""


class InternalError(EmboundError, RuntimeError):
    """A broken invariant of embound itself: please report it."""


class EmboundWarning(UserWarning):
    """Base of embound's warnings."""


class TruncationWarning(EmboundWarning):
    """Texts were longer than the model's limit; the message counts the tokens left out."""


_CLASSES: dict[int, type[EmboundError]] = {
    10: ArgumentError, 11: UnsupportedError, 20: ModelError, 30: OutOfMemoryError,
    31: InputOutputError, 32: ModelNotFoundError, 33: DeviceError, 34: InternalError,
    35: InternalError, 90: InternalError,
}


def from_status(status: int, message: str, number: int, region: int) -> EmboundError:
    """The exception of an ``emb_status``; called by the extension."""
    if status == 12:
        return BudgetError(message, number, "host" if region == 0 else "device")
    if status in (21, 22, 23):
        return TextError(message, number)
    return _CLASSES.get(status, InternalError)(message)
