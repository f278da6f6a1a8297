"""What encode takes: texts in lists, arrays and columns; and the bar that shows how far it is.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from ._errors import ArgumentError


def read_inputs(inputs: Any) -> tuple[Any, tuple[Any, Any, Any] | None]:
    """Texts as a list, or as an Arrow column: (sized thing, None or the capsules)."""
    _refuse_frame(inputs)
    if hasattr(inputs, "__arrow_c_stream__") and not _holds_objects(inputs):
        try:
            return inputs, (inputs.__arrow_c_stream__(), None, None)
        except ImportError:  # pandas asks pyarrow for it
            pass
    if hasattr(inputs, "__arrow_c_array__"):
        schema, array = inputs.__arrow_c_array__()
        return inputs, (None, schema, array)
    if hasattr(inputs, "tolist") and getattr(inputs, "ndim", 1) == 1:
        return inputs.tolist(), None
    if isinstance(inputs, Iterable) and not isinstance(inputs, (dict, bytes, bytearray)) and (
            getattr(inputs, "ndim", 1) == 1):
        return list(inputs), None
    shape = getattr(inputs, "shape", None)
    raise ArgumentError(f"inputs of type {type(inputs).__name__}"
                        f"{'' if shape is None else f' and shape {shape}'}: a str, a list of str, "
                        "or a column of strings is needed")


def list_inputs(inputs: Any) -> list[Any]:
    """The same as a list, also of one str or an Arrow column."""
    if isinstance(inputs, (str, list)):
        return [inputs] if isinstance(inputs, str) else inputs
    items = read_inputs(inputs)[0]
    return list(items.to_pylist() if hasattr(items, "to_pylist") else items)


def _holds_objects(inputs: Any) -> bool:
    """Whether a Series is one of str as Python has them: Arrow would copy every text."""
    kind = getattr(inputs, "dtype", None)
    return str(kind) == "object" or getattr(kind, "storage", None) == "python"


def _refuse_frame(inputs: Any) -> None:
    """Said of whole tables, as of their type: a Series may have a row named "columns"."""
    for name in ("column_names", "columns"):
        if hasattr(type(inputs), name):
            names = list(getattr(inputs, name))
            raise ArgumentError(f"a {type(inputs).__name__} is a table of {len(names)} columns: "
                                f"give the one of str among {names[:20]}, such as "
                                f"table[{names[0] if names else 'name'!r}]")


class _Bar:
    """A progress bar: called by the extension with the number of rows done."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __call__(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()


def progress_bar(wanted: bool | None, total: int) -> _Bar | None:
    """None where none is wanted, or without tqdm."""
    if wanted is not None and not wanted:
        return None
    if wanted is None:
        logging = sys.modules.get("logging")
        if logging is None or logging.getLogger(__name__).getEffectiveLevel() not in (
                logging.INFO, logging.DEBUG):
            return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return _Bar(tqdm(total=total, desc="Batches", unit="text"))
