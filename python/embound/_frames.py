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
    import numpy
    import polars

    values = numpy.asarray(rows)
    kind = polars.Array(polars.Float32, values.shape[1])
    return frame.with_columns(polars.Series(output, values, dtype=kind))


def _with_pandas(frame: Any, output: str, rows: Any) -> Any:
    import numpy

    return frame.assign(**{output: list(numpy.asarray(rows))})


def encode_column(model: SentenceTransformer, frame: Any, column: str, *,
                  output: str = "embedding", prompt_name: str | None = None,
                  prompt: str | None = None, normalize_embeddings: bool = False,
                  truncate_dim: int | None = None) -> Any:
    """A copy of the frame with one more column: the vectors of the texts in ``column``.

    ``frame``: a pyarrow Table or RecordBatch (a fixed-size list of float32, not copied), a polars
    DataFrame (Array of Float32) or a pandas DataFrame (one numpy array [dim] per cell).
    Raises ValueError where a text is null, KeyError where there is no such column.
    """
    kind = type(frame).__module__.partition(".")[0]
    add = {"pyarrow": _with_arrow, "polars": _with_polars, "pandas": _with_pandas}.get(kind)
    if add is None:
        raise ArgumentError(f"a {type(frame).__name__} is no pyarrow, polars or pandas table")
    names = list(frame.schema.names if kind == "pyarrow" else frame.columns)
    if column not in names:
        raise KeyError(f"no column {column!r}; there are {names}")
    rows = model.encode_rows(frame[column], prompt_name, prompt,
                             normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim)
    return add(frame, output, rows)
