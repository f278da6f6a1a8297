"""Columns of data frames: the texts of one column become a column of vectors.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import ArgumentError

if TYPE_CHECKING:
    from ._model import SentenceTransformer


def _with_arrow(table: Any, output: str, rows: Any) -> Any:
    import pyarrow

    return table.append_column(output, pyarrow.array(rows))


def _with_polars(frame: Any, output: str, rows: Any) -> Any:
    import polars

    return frame.with_columns(polars.Series(values=rows).alias(output))


def _with_pandas(frame: Any, output: str, rows: Any) -> Any:
    import numpy

    return frame.assign(**{output: list(numpy.asarray(rows))})


_KINDS = {"pyarrow": _with_arrow, "polars": _with_polars, "pandas": _with_pandas}
_VIEW_BYTES = 128  # of an array that is a row of another


def encode_column(model: SentenceTransformer, frame: Any, column: str, *,
                  output: str = "embedding", prompt_name: str | None = None,
                  prompt: str | None = None, normalize_embeddings: bool = False,
                  truncate_dim: int | None = None) -> Any:
    """A copy of the frame with one more column: the vectors of the texts in ``column``.

    ``frame``: a pyarrow Table or RecordBatch (a fixed-size list of float32), a polars DataFrame
    (Array of Float32), both without copies, or a pandas DataFrame (a numpy array [dim] per cell).
    Raises ValueError where a text is null, KeyError where there is no such column.
    """
    kind = type(frame).__module__.partition(".")[0]
    if kind not in _KINDS:
        raise ArgumentError(f"a {type(frame).__name__} is no pyarrow, polars or pandas table")
    names = list(frame.schema.names if kind == "pyarrow" else frame.columns)
    if column not in names:
        raise KeyError(f"no column {column!r}; there are {names}")
    rows = model._rows(frame[column], model._prompt_of(prompt_name, prompt), truncate_dim,
                       normalize_embeddings, False,
                       beside=_VIEW_BYTES if kind == "pandas" else 0)
    return _KINDS[kind](frame, output, rows)
