"""Parquet files in bounded memory: row groups are read, encoded and written in blocks.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._errors import ArgumentError
from ._settings import kept_dim

if TYPE_CHECKING:
    from ._model import SentenceTransformer

BLOCK_ROWS = 1024


def _blocks(source: Any, columns: list[str] | None, block_rows: int) -> Any:
    """Record batches; of the file only the pages at hand are in memory."""
    yield from source.iter_batches(batch_size=block_rows, columns=columns)


def _vectors(model: SentenceTransformer, texts: Any, kind: Any, prompt: str | None,
             normalize: bool, truncate_dim: int | None) -> Any:
    """The vectors of a column as Arrow; null where the text is."""
    import pyarrow

    nulls = texts.is_null() if texts.null_count else None
    rows = model._rows(texts.fill_null("") if nulls is not None else texts, prompt, truncate_dim,
                       normalize, False)
    array = pyarrow.array(rows)
    if nulls is not None:
        array = pyarrow.FixedSizeListArray.from_arrays(array.values, array.type.list_size,
                                                       mask=nulls)
    return array.cast(kind)


def encode_parquet(model: SentenceTransformer, source: str | os.PathLike[str],
                   target: str | os.PathLike[str], *, column: str, output: str = "embedding",
                   keep: list[str] | None = None, prompt_name: str | None = None,
                   prompt: str | None = None, normalize_embeddings: bool = False,
                   truncate_dim: int | None = None, block_rows: int = BLOCK_ROWS,
                   row_group_rows: int = 16 * BLOCK_ROWS, compression: str = "zstd") -> int:
    """Writes a Parquet file with the vectors of the texts in ``column``; gives the rows written.

    ``keep``: columns to copy into the new file; None: all. The vectors are a fixed-size list of
    float32 named ``output``, null where the text is null. Memory is that of the model, of
    ``block_rows`` rows and of a row group being written (``row_group_rows`` vectors); the length of
    the file does not matter. ``target`` appears under its name only when it is complete.
    Raises KeyError where there is no such column, TypeError where it holds no strings.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"Parquet files are read by pyarrow, which is not installed here "
                          f"({error}): pip install 'embound[arrow]'") from error

    if os.path.exists(target) and os.path.samefile(source, target):
        raise ArgumentError(f"{os.fspath(target)}: a file cannot be its own source")
    chosen = model._prompt_of(prompt_name, prompt)
    dim = kept_dim(model._dim, model.truncate_dim if truncate_dim is None else truncate_dim)
    kind = pyarrow.list_(pyarrow.float32(), dim)
    written = 0
    part = f"{os.fspath(target)}.part"
    with pyarrow.parquet.ParquetFile(source, buffer_size=1 << 16) as file:
        names = file.schema_arrow.names
        missing = sorted({column, *(keep or ())} - set(names))
        if missing:
            raise KeyError(f"{os.fspath(source)}: no column {missing}; there are {names}")
        kept = names if keep is None else list(keep)
        if output in kept:
            raise ArgumentError(f"the column {output!r} is there already: choose another output")
        schema = pyarrow.schema([file.schema_arrow.field(name) for name in kept])
        schema = schema.append(pyarrow.field(output, kind))
        try:
            with pyarrow.parquet.ParquetWriter(part, schema, compression=compression) as writer:
                group: list[Any] = []
                for batch in _blocks(file, sorted({*kept, column}), block_rows):
                    rows = _vectors(model, batch.column(column), kind, chosen,
                                    normalize_embeddings, truncate_dim)
                    arrays = [batch.column(name) for name in kept]
                    group.append(pyarrow.record_batch([*arrays, rows], schema=schema))
                    written += batch.num_rows
                    if sum(one.num_rows for one in group) >= row_group_rows:
                        writer.write_table(pyarrow.Table.from_batches(group, schema))
                        group = []
                if group:
                    writer.write_table(pyarrow.Table.from_batches(group, schema))
            os.replace(part, target)
        except BaseException:
            if os.path.exists(part):
                os.unlink(part)
            raise
    return written
