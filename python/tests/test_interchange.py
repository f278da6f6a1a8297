"""Columns in and vectors out without copies: equal addresses, equal vectors, nothing leaks.

SPDX-License-Identifier: Apache-2.0
"""
import gc

import embound
import numpy
import pytest

TEXTS = ["a small test", "", "of many columns", "x" * 13, "twelve chars", "héllo wörld"] * 40


def resident():
    from embound._plan import resident_bytes

    return resident_bytes()[0]


def test_numpy_shares_the_memory(tiny):
    rows = tiny.encode_rows(TEXTS)
    array = numpy.asarray(rows)
    assert array.ctypes.data == rows.address and array.shape == rows.shape
    assert memoryview(rows).format == "f" and memoryview(rows).nbytes == array.nbytes
    assert len(rows) == len(TEXTS)
    assert numpy.asarray(tiny.encode_rows("one")).ndim == 1
    # the array of encode is such a view as well
    assert tiny.encode(TEXTS).base is not None


def test_dlpack_shares_the_memory(tiny):
    rows = tiny.encode_rows(TEXTS)
    assert rows.__dlpack_device__() == (1, 0)
    array = numpy.from_dlpack(rows)
    assert array.ctypes.data == rows.address and array.shape == rows.shape
    expected = array.copy()
    address = rows.address
    del rows
    gc.collect()
    assert array.ctypes.data == address and numpy.array_equal(array, expected)
    with pytest.raises(BufferError):
        tiny.encode_rows("x").__dlpack__(dl_device=(2, 0))


def test_torch_shares_the_memory(tiny):
    torch = pytest.importorskip("torch")
    rows = tiny.encode_rows(TEXTS)
    assert torch.from_dlpack(rows).data_ptr() == rows.address
    assert torch.from_numpy(numpy.asarray(rows)).data_ptr() == rows.address
    assert tuple(torch.from_dlpack(tiny.encode_rows("one")).shape) == (tiny._dim,)


def test_arrow_shares_the_memory(tiny):
    pyarrow = pytest.importorskip("pyarrow")
    rows = tiny.encode_rows(TEXTS)
    expected = numpy.asarray(rows).copy()
    array = pyarrow.array(rows)
    assert array.type == pyarrow.list_(pyarrow.float32(), tiny._dim)
    assert array.values.buffers()[1].address == rows.address
    values = array.flatten()
    del rows, array
    gc.collect()
    assert numpy.array_equal(values.to_numpy().reshape(expected.shape), expected)
    assert pyarrow.field(tiny.encode_rows("x")).type == pyarrow.list_(pyarrow.float32(), tiny._dim)


@pytest.mark.parametrize("kind", ["utf8", "large_utf8", "string_view"])
def test_arrow_columns_in(tiny, kind):
    pyarrow = pytest.importorskip("pyarrow")
    make = {"utf8": pyarrow.string, "large_utf8": pyarrow.large_string,
            "string_view": pyarrow.string_view}[kind]()
    expected = tiny.encode(TEXTS)
    array = pyarrow.array(TEXTS, type=make)
    assert numpy.array_equal(tiny.encode(array), expected)
    assert numpy.array_equal(tiny.encode(array[7:99]), expected[7:99])
    chunked = pyarrow.chunked_array([array[:5], array[5:5], array[5:]])
    assert numpy.array_equal(tiny.encode(chunked), expected)
    assert tiny.encode(array[:0]).shape == (0,)
    with_null = pyarrow.array(["a", None, "b"], type=make)
    with pytest.raises(ValueError, match="text 1 is null"):
        tiny.encode(with_null)


def test_categories(tiny):
    pyarrow = pytest.importorskip("pyarrow")
    texts = ["b", "a", "b", "ccc"]
    expected = tiny.encode(texts)
    column = pyarrow.array(texts).dictionary_encode()
    for kind in (pyarrow.int8(), pyarrow.uint16(), pyarrow.int64()):
        one = column.cast(pyarrow.dictionary(kind, pyarrow.large_string()))
        assert numpy.array_equal(tiny.encode(one), expected)
    assert numpy.array_equal(tiny.encode(column.slice(1)), expected[1:])
    other = pyarrow.array(["x", "a"]).dictionary_encode()
    chunks = pyarrow.chunked_array([column, other.slice(1)])
    assert numpy.array_equal(tiny.encode(chunks), tiny.encode([*texts, "a"]))
    polars = pytest.importorskip("polars")
    for kind in (polars.Categorical, polars.Enum(["ccc", "a", "b"])):
        assert numpy.array_equal(tiny.encode(polars.Series(texts, dtype=kind)), expected)
    pandas = pytest.importorskip("pandas")
    assert numpy.array_equal(tiny.encode(pandas.Series(texts, dtype="category")), expected)
    assert numpy.array_equal(tiny.encode(pandas.Categorical(texts)), expected)
    for one in (polars.Series(["a", None], dtype=polars.Categorical),
                pandas.Series(["a", None], dtype="category"),
                pyarrow.DictionaryArray.from_arrays([0, 1], ["a", None])):
        with pytest.raises(embound.TextError, match="text 1 is null") as caught:
            tiny.encode(one)
        assert caught.value.index == 1


def test_columns_of_no_strings(tiny):
    pyarrow = pytest.importorskip("pyarrow")
    polars = pytest.importorskip("polars")
    pandas = pytest.importorskip("pandas")
    for array, kind in (
            (pyarrow.array([1, 2]), "int64"), (pyarrow.array([1.5]), "float64"),
            (pyarrow.array([b"x"]), "bytes"), (pyarrow.array([["x"]]), "lists"),
            (pyarrow.array([{"a": "x"}]), "structs"), (polars.Series([True]), "bool"),
            (pyarrow.array([1, 2]).dictionary_encode(), "int64"),
            (pandas.Series([1, 2], dtype="category"), "int64")):
        with pytest.raises(embound.ArgumentError, match=f"strings is needed.*{kind}.*cast"):
            tiny.encode(array)
    for nothing in (pyarrow.nulls(0), pyarrow.array([], pyarrow.int64()),
                    polars.Series([], dtype=polars.Null), pandas.Series([], dtype=float),
                    pandas.Series(["a"], dtype=object)[:0],
                    pandas.Series(["a"], dtype="category")[:0]):
        assert tiny.encode(nothing).shape == (0,)
    with pytest.raises(embound.TextError, match="text 0 is null"):
        tiny.encode(pyarrow.nulls(2))


def test_a_series_of_python_strings_is_not_copied(tiny):
    pandas = pytest.importorskip("pandas")
    from embound._inputs import read_inputs

    for kind in (object, pandas.StringDtype("python")):
        series = pandas.Series(["a", "b" * 70_000], dtype=kind)
        texts, column = read_inputs(series)
        assert column is None and texts[1] is series[1]
        assert numpy.array_equal(tiny.encode(series), tiny.encode(list(series)))
    with pytest.raises(embound.TextError, match="text 1 is of type NAType|text 1 is None"):
        tiny.encode(pandas.Series(["a", None], dtype=pandas.StringDtype("python")))


def test_tables_in_place_of_a_column(tiny):
    table = pytest.importorskip("pyarrow").table({"id": [1], "body": ["a"]})
    frames = [table, table.to_batches()[0], pytest.importorskip("polars").from_arrow(table),
              pytest.importorskip("pandas").DataFrame({"id": [1], "body": ["a"]})]
    for frame in frames:
        for method in (tiny.encode, tiny.encode_rows, tiny.tokenize):
            with pytest.raises(embound.ArgumentError, match="2 columns.*'id', 'body'"):
                method(frame)
    series = pytest.importorskip("pandas").Series({"columns": "a", "b": "c"})
    assert numpy.array_equal(tiny.encode(series), tiny.encode(["a", "c"]))


def test_frames(tiny):
    expected = tiny.encode(TEXTS)
    polars = pytest.importorskip("polars")
    assert numpy.array_equal(tiny.encode(polars.Series(TEXTS)), expected)
    pandas = pytest.importorskip("pandas")
    assert numpy.array_equal(tiny.encode(pandas.Series(TEXTS)), expected)
    assert numpy.array_equal(tiny.encode(pandas.Series(TEXTS, index=range(5, 245))), expected)


def test_nothing_leaks(tiny):
    pyarrow = pytest.importorskip("pyarrow")
    column = pyarrow.array(TEXTS)

    def rounds(count):
        for _ in range(count):
            rows = tiny.encode_rows(column, truncate_dim=4)
            numpy.from_dlpack(rows)
            pyarrow.array(rows)
            rows.__dlpack__(max_version=(1, 0))
            rows.__arrow_c_array__()
            with pytest.raises(ValueError):
                tiny.encode(["x", 3])

    rounds(50)
    before = resident()
    rounds(300)
    assert resident() - before < 1 << 20
