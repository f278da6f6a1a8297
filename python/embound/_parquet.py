"""Parquet files in bounded memory: row groups are read, encoded and written in blocks.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING, Any

from ._errors import ArgumentError, TextError
from ._settings import check_count, kept_dim
from ._stream import texts_at_a_time

if TYPE_CHECKING:
    from ._model import SentenceTransformer

BLOCK_ROWS = 1024


def _open_part(target: str) -> str:
    """A new file beside the target, of a name that nobody has."""
    for number in itertools.count():
        part = f"{target}.{os.getpid()}.{number}.part"
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            return part
        except FileExistsError:
            pass
    raise AssertionError


def _check_target(source: str, target: str) -> None:
    if os.path.isdir(target):
        raise ArgumentError(f"{target}: this is a directory: name a file in it")
    if os.path.exists(target) and os.path.samefile(source, target):
        raise ArgumentError(f"{target}: a file cannot be its own source")


def _open_source(source: str) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(source, buffer_size=1 << 16)
    except pyarrow.ArrowInvalid as error:
        raise ArgumentError(f"{source}: no Parquet file that can be read: {error}") from None


def _vectors(model: SentenceTransformer, texts: Any, kind: Any, prompt: str | None,
             normalize: bool, truncate_dim: int | None) -> Any:
    """The vectors of a column as Arrow; null where the text is."""
    import pyarrow

    if pyarrow.types.is_null(texts.type):
        texts = texts.cast(pyarrow.string())
    elif pyarrow.types.is_dictionary(texts.type) and texts.null_count:
        texts = texts.dictionary_decode()
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

    ``keep``: columns to copy into the new file; None: all. What the file says of itself (the index
    of a pandas frame, types of ``datasets``) is copied too. The vectors are a fixed-size list of
    float32 named ``output``, null where the text is null. Memory is that of the model, of
    ``block_rows`` rows and of a row group being written (``row_group_rows`` vectors); of both fewer
    where the model's ``memory=`` has no room for so many. The length of the file does not matter.
    ``target`` appears under its name only when it is complete.
    Raises KeyError where there is no such column, ArgumentError where it holds no strings.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"Parquet files are read by pyarrow, which is not installed here "
                          f"({error}): pip install 'embound[arrow]'") from error

    source, target = os.fspath(source), os.fspath(target)
    _check_target(source, target)
    block_rows = texts_at_a_time(model, check_count(block_rows, "block_rows"))
    row_group_rows = max(block_rows, min(check_count(row_group_rows, "row_group_rows"),
                                         texts_at_a_time(model, 2 * row_group_rows) // 2))
    chosen = model._prompt_of(prompt_name, prompt)
    dim = kept_dim(model._dim, model.truncate_dim if truncate_dim is None else truncate_dim)
    kind = pyarrow.list_(pyarrow.float32(), dim)
    written = 0
    with _open_source(source) as file:
        names = file.schema_arrow.names
        for name in [column, *(keep or ())]:
            if name not in names:
                raise KeyError(f"{source}: no column {name!r}; there are {names}")
        kept = names if keep is None else list(keep)
        if output in kept:
            raise ArgumentError(f"the column {output!r} is there already: choose another output")
        schema = pyarrow.schema([file.schema_arrow.field(name) for name in kept])
        schema = schema.append(pyarrow.field(output, kind)).with_metadata(
            file.schema_arrow.metadata)
        part = _open_part(target)
        try:
            with pyarrow.parquet.ParquetWriter(part, schema, compression=compression) as writer:
                group: list[Any] = []
                for batch in file.iter_batches(batch_size=block_rows,
                                               columns=sorted({*kept, column})):
                    try:
                        rows = _vectors(model, batch.column(column), kind, chosen,
                                        normalize_embeddings, truncate_dim)
                    except TextError as error:
                        raise error.after(written) from None
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
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
    return written
