"""Parameters by older names, those of other runtimes, and unknown ones: taken, passed over with a
word, or refused with what to do.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ._errors import ArgumentError, EmboundWarning, UnsupportedError, warn

_Method = TypeVar("_Method", bound=Callable[..., Any])
_FOR_OTHERS = ("gradient_checkpointing", "torchscript")


def without_options_for_others(make: _Method) -> _Method:
    """Takes options that bound the memory of others, as people pass them to any constructor."""

    @functools.wraps(make)
    def call(*arguments: Any, **options: Any) -> Any:
        found = [name for name in _FOR_OTHERS if options.pop(name, None) is not None]
        if found:
            warn(f"{', '.join(found)}: of no effect; memory= and gpu_memory= bound what a model "
                 "takes", EmboundWarning)
        return make(*arguments, **options)

    return call  # type: ignore[return-value]


def renamed(**names: str) -> Callable[[_Method], _Method]:
    """Takes keyword arguments by their older names too."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            if options:
                for old, new in names.items():
                    if old in options:
                        value = options.pop(old)
                        options.setdefault(new, value)
            return method(*arguments, **options)

        return call  # type: ignore[return-value]

    return decorate


def refuse_unknown(modules: Any, processor: Any, backend: str) -> None:
    if modules is not None:
        raise UnsupportedError("modules of torch cannot be run here: save them with "
                               "sentence-transformers, and open the directory")
    if backend not in ("torch", "onnx", "openvino"):
        raise ArgumentError(f"backend {backend!r}: leave it out, embound has kernels of its own")
    if processor:
        raise UnsupportedError(f"processor_kwargs={processor!r} mean nothing to embound: set "
                               "max_seq_length on the model, or change the model's files")


def check_extra(options: dict[str, Any]) -> None:
    """``task`` is for models with routes, of which embound runs none; others do not exist."""
    unknown = sorted(set(options) - {"task", "processing_kwargs"})
    if unknown:
        raise ArgumentError(f"encode() has no parameter {', '.join(unknown)}")
    if options.get("processing_kwargs"):
        raise UnsupportedError("processing_kwargs mean nothing to embound: set max_seq_length on "
                               "the model")
