"""Results inside the stated memory: refused before the work if they do not fit, and nothing else
of a text's length is taken.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import pickle
import subprocess
import sys
import threading
import time

import embound
import numpy
import pytest
from conftest import TINY

ROW = 32 * 4
MIB = 1 << 20


def python(source, *arguments):
    done = subprocess.run([sys.executable, "-c", source, *map(str, arguments)], text=True,
                          capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def capped():
    """Opened; with room for about 20 MiB of vectors, whatever the tests before have imported."""
    least = embound.SentenceTransformer(str(TINY)).plan()["host_bytes"]
    with embound.SentenceTransformer(str(TINY), memory=least + 16 * MIB) as model:
        yield model  # closed in the end: its figure bounds the whole process


def test_a_result_that_does_not_fit_is_refused_before_the_work(capped):
    texts = ["a"] * 1_000_000
    start = time.monotonic()
    with pytest.raises(embound.BudgetError) as caught:
        capped.encode(texts)
    assert time.monotonic() - start < 1 and capped.memory_report()["texts"] == 0
    said = str(caught.value)
    assert "encode_stream" in said and f"{len(texts) * ROW} bytes" in said
    assert f"memory={caught.value.minimum_bytes}" in said and caught.value.region == "host"
    assert pickle.loads(pickle.dumps(caught.value)).minimum_bytes == caught.value.minimum_bytes
    assert capped.encode(["a"] * 1000).shape == (1000, 32)
    assert capped.memory_report()["opens"] == 1


def test_every_kind_of_result(capped):
    texts = ["a"] * 1_000_000
    pool = capped.start_multi_process_pool()
    for call in (lambda: capped.encode_rows(texts), lambda: capped.encode(tuple(texts)),
                 lambda: capped.encode(texts, pool=pool), lambda: capped.encode_query(texts),
                 lambda: capped.encode(texts, normalize_embeddings=True, truncate_dim=30),
                 lambda: capped.encode(texts, precision="binary"),
                 lambda: capped.encode(numpy.array(texts, dtype=object))):
        with pytest.raises(embound.BudgetError, match="encode_stream"):
            call()
    assert capped.encode(texts[:100_000], truncate_dim=4).shape == (100_000, 4)
    fits = capped._core.room() // ROW  # as float32, but not with the int8 beside
    with pytest.raises(embound.BudgetError):
        capped.encode(["a"] * fits, precision="int8")
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(embound.BudgetError, match="encode_stream"):
        capped.encode(pyarrow.array(texts))
    table = pyarrow.table({"body": texts[:fits - 1000]})
    assert embound.encode_column(capped, table, "body").num_columns == 2
    pytest.importorskip("pandas")
    with pytest.raises(embound.BudgetError, match="encode_stream"):  # each row is an object there
        embound.encode_column(capped, table.to_pandas(), "body")


def test_vectors_of_tokens():
    pytest.importorskip("torch")
    least = embound.SentenceTransformer(str(TINY)).plan()["host_bytes"]
    capped = embound.SentenceTransformer(str(TINY), memory=least + 16 * MIB)
    with pytest.raises(embound.BudgetError, match="encode_stream"):
        capped.encode(["many more words " * 20] * 20_000, output_value="token_embeddings")
    assert len(capped.encode(["works again"] * 3, output_value="token_embeddings")) == 3
    capped.close()


def test_vectors_that_are_alive_count(capped):
    room = capped._core.room()
    kept, texts = [], ["a"] * (room // ROW // 4 - 100)  # four times, and not once more
    for _ in range(4):
        kept.append(capped.encode(texts))
    with pytest.raises(embound.BudgetError, match=r"still alive: [1-9]\d{6}"):
        capped.encode(texts)
    del kept[0]
    kept.append(capped.encode(texts))
    assert numpy.array_equal(kept[0], kept[-1]) and capped._core.room() < room // 4
    del kept
    assert capped._core.room() >= room
    rows = capped.encode(texts)
    capped.close()  # measured anew, the process holds these rows already
    assert capped.encode(texts[:100]).shape == (100, 32) and len(rows) == len(texts)


def test_engines_that_open_later_count(capped):
    room = capped._core.room()
    with embound.SentenceTransformer(str(TINY), device="cpu", threads=1) as other:
        taken = sum(region["arena_bytes"] for region in other.plan()["regions"])
        assert taken > MIB and room - capped._core.room() == taken
        assert other._core.room() < 1 << 40  # bound by the figure of the first
    assert capped._core.room() == room


def test_without_a_budget_nothing_is_refused(tiny):
    assert tiny.encode(["a"] * 100_000).shape == (100_000, 32)


def test_precisions_are_the_same_in_blocks(tiny):
    texts = [f"text number {i} of many" for i in range(2500)]
    rows = tiny.encode(texts)
    for precision in ("int8", "uint8", "binary", "ubinary"):
        quantized = tiny.encode(texts, precision=precision)
        expected = embound.quantize_embeddings(rows, precision)
        assert quantized.dtype == expected.dtype and numpy.array_equal(quantized, expected)


def test_the_stated_minimum_works():
    source = """
import embound, sys
model = embound.SentenceTransformer(sys.argv[1], memory=int(sys.argv[2])).open()
try:
    print(len(model.encode(["a"] * 200_000)), model.memory_report()["host_bytes_peak"])
except embound.BudgetError as error:
    print(error.minimum_bytes, 0)
"""
    least, _ = map(int, python(source, TINY, 48 * MIB).split())
    count, peak = map(int, python(source, TINY, least).split())
    assert count == 200_000 and peak <= least < 80 * MIB


def test_streams_and_files_go_on_where_a_list_does_not(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    plan = embound.SentenceTransformer(str(TINY)).plan()
    model = embound.SentenceTransformer(
        str(TINY), memory=plan["host_bytes"] - plan["caller_bytes"] + 3 * MIB, caller_memory="2MiB")
    room = model._core.room() // ROW
    count = room + 10_000
    with pytest.raises(embound.BudgetError):
        model.encode(["a"] * count)
    assert sum(1 for _ in model.encode_stream("a" for _ in range(count))) == count
    parquet.write_table(pyarrow.table({"body": ["a"] * count}), tmp_path / "in.parquet")
    assert count == embound.encode_parquet(
        model, tmp_path / "in.parquet", tmp_path / "out.parquet", column="body",
        row_group_rows=10 * count)
    written = parquet.ParquetFile(tmp_path / "out.parquet").metadata
    assert written.num_rows == count and written.row_group(0).num_rows <= room
    model.close()


@pytest.mark.parametrize("unit", ["some words in a row ", "some wörds in a röw ", "北京 words €€ "])
def test_a_long_text_is_not_copied(unit):
    """As the system sees the process from outside."""
    source = """
import embound, sys
model = embound.SentenceTransformer(sys.argv[1], long="chunk").open()
text = sys.argv[2] * (5_000_000 // len(sys.argv[2]))
model.encode(text[:10_000])
def say(what):
    print(what, flush=True)
    sys.stdin.readline()
say("before")
model.encode(text)
model._core.tokenize([text], "a prompt: ", 64)
say("after")
"""
    with subprocess.Popen([sys.executable, "-c", source, TINY, unit], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        peaks = []
        for _ in range(2):
            child.stdout.readline()
            with open(f"/proc/{child.pid}/status", encoding="ascii") as status:
                peaks += [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
            print(file=child.stdin, flush=True)
    assert child.returncode == 0 and peaks[1] - peaks[0] < 5 << 9


def test_slices_of_a_text_are_the_text(tiny):
    model = embound.SentenceTransformer(str(TINY), long="chunk")
    for unit in ("w€rds ", "x", "北", "a \ud800 b ", "é "):
        texts = [unit * (150_000 // len(unit)), unit * (65_536 // len(unit)), "short"]
        for prompt in (None, "ask: "):
            rows = model.encode(texts, prompt=prompt)
            whole = model.encode([text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
                                  for text in texts], prompt=prompt)
            assert numpy.allclose(rows, whole, atol=1e-6)
    ids = tiny._core.tokenize(["é a b " * 40_000, "a"], "the ", 1 << 18)
    alone = tiny._core.tokenize(["the " + "é a b " * 40_000, "the a"], None, 1 << 18)
    assert ids == alone and len(ids[0]) > 4 * 100_000


def test_a_list_that_changes_meanwhile():
    """The text under way is held, whatever becomes of the list."""
    model = embound.SentenceTransformer(str(TINY), long="chunk").open()
    text = "wörds " * 200_000
    expected = model.encode(text)
    texts, rows = [text], []
    thread = threading.Thread(target=lambda: rows.append(model.encode(texts)))
    thread.start()
    while model.memory_report()["rows_computed"] < 1000 and thread.is_alive():
        time.sleep(0.001)
    texts[0] = "gone"
    thread.join()
    assert numpy.array_equal(rows[0][0], expected)


def test_a_real_model(l6):
    """The case of the field: 400,000 texts under 200 MiB took 681."""
    model = embound.SentenceTransformer(l6, device="cpu")
    plan = model.plan()
    model = embound.SentenceTransformer(l6, device="cpu", memory=plan["host_bytes"] + 80 * MIB)
    with pytest.raises(embound.BudgetError, match="614400000 bytes.*encode_stream"):
        model.encode(["a"] * 400_000)
    assert model.encode(["a"]).shape == (1, 384)
    model.close()


def test_vectors_that_are_dropped_leave_the_process():
    """malloc would keep them, once it has seen a large piece freed."""
    seen = python("""
import embound, sys
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
model = embound.SentenceTransformer(sys.argv[1])
few, many = ["a"] * 40000, ["a"] * 120000
for _ in range(2):
    model.encode(many)
before = resident()
kept = [model.encode(few) for _ in range(6)]
del kept[:5]
print(resident() - before)
""", TINY)
    assert int(seen) < 40_000 * ROW + 3 * MIB


def open_at_once(models):
    """Opens them in threads of their own; gives how many are open."""
    ready = threading.Barrier(len(models))
    refused = []

    def work(model):
        ready.wait()
        try:
            model.open()
        except embound.BudgetError as error:
            refused.append(error)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened = sum(model.is_open for model in models)
    assert opened + len(refused) == len(models)
    for model in models:
        model.close()
    return opened


def test_engines_that_open_at_once_share_one_figure():
    """In a process of its own, as what other tests leave behind may be given back meanwhile."""
    most, opened = map(int, python("""
import embound, sys
sys.path.insert(0, sys.argv[2])
from test_room import open_at_once
def capped(**memory):
    return embound.SentenceTransformer(sys.argv[1], device="cpu", threads=1, **memory)
free = capped().open()
free.close()
budget = free.plan()["host_bytes_min"] + (1 << 20)  # of the process with one of them
models = [capped(memory=budget) for _ in range(2)]
opened = [open_at_once(models) for _ in range(40)]
print(max(opened), sum(opened))
""", TINY, pathlib.Path(__file__).parent).split())
    assert most == 1 and opened > 20
