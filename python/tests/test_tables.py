"""Columns of frames and Parquet files: right vectors, nulls, bounded memory, nothing half-written.

SPDX-License-Identifier: Apache-2.0
"""
import os
import subprocess
import sys

import embound
import numpy
import pytest
from conftest import TINY

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = [f"text number {i} of some" for i in range(3000)]


def write(path, texts, **columns):
    parquet.write_table(pyarrow.table({"body": texts, **columns}), path)
    return str(path)


def vectors(column):
    return numpy.stack([numpy.asarray(row, dtype=numpy.float32) for row in column.to_pylist()])


@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas"])
def test_frames(tiny, kind):
    table = pyarrow.table({"id": [1, 2, 3], "body": TEXTS[:3]})
    if kind != "arrow":
        pytest.importorskip(kind)
    frame = {"arrow": lambda: table, "polars": lambda: __import__("polars").from_arrow(table),
             "pandas": lambda: table.to_pandas()}[kind]()
    out = embound.encode_column(tiny, frame, "body", output="vector", truncate_dim=8)
    expected = tiny.encode(TEXTS[:3], truncate_dim=8)
    got = vectors(out["vector"]) if kind == "arrow" else numpy.stack(list(out["vector"]))
    assert numpy.array_equal(got, expected)
    assert "vector" not in (frame.column_names if kind == "arrow" else list(frame.columns))
    with pytest.raises(KeyError, match="absent"):
        embound.encode_column(tiny, frame, "absent")
    assert embound.encode_column(tiny, frame[:0], "body").shape == (0, 3)


def test_parquet(tiny, tmp_path):
    source = write(tmp_path / "in.parquet", TEXTS, id=list(range(3000)))
    target = str(tmp_path / "out.parquet")
    count = embound.encode_parquet(tiny, source, target, column="body", row_group_rows=1000)
    table = parquet.read_table(target)
    assert count == 3000 and table.column_names == ["body", "id", "embedding"]
    assert table["id"].to_pylist() == list(range(3000))
    assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), tiny._dim)
    assert numpy.array_equal(vectors(table["embedding"]), tiny.encode(TEXTS))
    embound.encode_parquet(tiny, source, target, column="body", keep=["id"], truncate_dim=4)
    assert parquet.read_table(target).column_names == ["id", "embedding"]


def test_nulls_stay_null(tiny, tmp_path):
    texts = ["a", None, "c"]
    source = write(tmp_path / "in.parquet", texts)
    target = str(tmp_path / "out.parquet")
    embound.encode_parquet(tiny, source, target, column="body")
    rows = parquet.read_table(target)["embedding"].to_pylist()
    assert rows[1] is None and numpy.allclose(rows[2], tiny.encode("c"))


def test_refusals_leave_no_file(tiny, tmp_path):
    source = write(tmp_path / "in.parquet", TEXTS[:5], number=[1] * 5, embedding=[1] * 5)
    target = str(tmp_path / "out.parquet")
    with pytest.raises(KeyError, match="absent"):
        embound.encode_parquet(tiny, source, target, column="absent")
    with pytest.raises(ValueError, match="strings"):
        embound.encode_parquet(tiny, source, target, column="number", output="v")
    with pytest.raises(ValueError, match="there already"):
        embound.encode_parquet(tiny, source, target, column="body")
    with pytest.raises(ValueError, match="own source"):
        embound.encode_parquet(tiny, source, source, column="body", output="v")
    assert sorted(os.listdir(tmp_path)) == ["in.parquet"]


def test_what_a_file_says_of_itself_is_kept(tiny, tmp_path):
    pandas = pytest.importorskip("pandas")
    source, target = str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")
    frame = pandas.DataFrame({"text": ["a", "b"], "kind": pandas.Series(
        ["x", "y"], dtype="category", index=[7, 9])}, index=pandas.Index([7, 9], name="key"))
    frame.to_parquet(source)
    embound.encode_parquet(tiny, source, target, column="text")
    again = pandas.read_parquet(target)
    vectors = again.pop("embedding")
    pandas.testing.assert_frame_equal(again, frame)
    assert numpy.array_equal(numpy.stack(list(vectors)), tiny.encode(["a", "b"]))
    embound.encode_parquet(tiny, source, target, column="kind", keep=["kind"])
    assert list(pandas.read_parquet(target).columns) == ["kind", "embedding"]


def test_files_of_others_stay(tiny, tmp_path):
    source = write(tmp_path / "in.parquet", TEXTS[:5], number=[1] * 5)
    (tmp_path / "out.parquet.part").write_text("mine")
    embound.encode_parquet(tiny, source, tmp_path / "out.parquet", column="body")
    assert (tmp_path / "out.parquet.part").read_text() == "mine"
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 5
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ValueError, match="directory"):
        embound.encode_parquet(tiny, source, tmp_path, column="body")
    (tmp_path / "text.parquet").write_text("no such thing")
    with pytest.raises(ValueError, match="text.parquet: no Parquet"):
        embound.encode_parquet(tiny, tmp_path / "text.parquet", tmp_path / "x", column="body")
    with pytest.raises(ValueError, match="block_rows"):
        embound.encode_parquet(tiny, source, tmp_path / "x", column="body", block_rows=0)
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "text.parquet"])


def test_columns_of_categories_and_of_nulls(tiny, tmp_path):
    texts = pyarrow.array(["a", None, "b"])
    source = write(tmp_path / "in.parquet", texts.dictionary_encode(), none=pyarrow.nulls(3))
    target = str(tmp_path / "out.parquet")
    embound.encode_parquet(tiny, source, target, column="body")
    rows = parquet.read_table(target)["embedding"].to_pylist()
    assert rows[1] is None and numpy.allclose(rows[2], tiny.encode("b"))
    embound.encode_parquet(tiny, source, target, column="none")
    assert parquet.read_table(target)["embedding"].to_pylist() == [None] * 3


def test_the_index_of_a_text_is_that_in_the_file(tmp_path):
    model = embound.SentenceTransformer(str(TINY), long="error")
    texts = TEXTS[:2500] + ["many words " * 300]
    source = write(tmp_path / "in.parquet", texts)
    with pytest.raises(embound.TextError, match="text 2500 is longer") as caught:
        embound.encode_parquet(model, source, tmp_path / "out.parquet", column="body")
    assert caught.value.index == 2500
    with pytest.raises(embound.TextError, match="text 2500 is longer"):
        list(model.encode_stream(texts))


def test_memory_does_not_grow_with_the_file(tmp_path):
    source = """
import embound, sys
model = embound.SentenceTransformer(sys.argv[1])
embound.encode_parquet(model, sys.argv[2], sys.argv[3], column="body", keep=[],
                       row_group_rows=2048)
print(model.memory_report()["host_bytes_peak"])
"""
    peaks = []
    for rows in (4000, 60000):
        path = write(tmp_path / f"{rows}.parquet", [f"number {i} " + "x" * 50 for i in range(rows)])
        done = subprocess.run([sys.executable, "-c", source, str(TINY), path,
                               str(tmp_path / "out.parquet")], text=True, capture_output=True,
                              check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 24 << 20
