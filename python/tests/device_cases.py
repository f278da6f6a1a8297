"""Rows on a fake GPU, whose memory is the host's: values, protocols, budgets, lifetimes, failures.

Run by test_device_rows.py.

SPDX-License-Identifier: Apache-2.0
"""
import ctypes
import gc
import os
import sys
import threading
import types

import embound
import numpy
import pytest
from conftest import TINY
from dlpack import CPU, CUDA, FLOAT, IS_COPIED, Taken
from test_room import open_at_once

TEXTS = [" ".join(["the quick brown fox", "jumps over", "a lazy dog"][: i % 4]) + f" {i}"
         for i in range(700)]
LONG = ["one two three " * 60, "short", "four five " * 100]
MIB = 1 << 20
FAKE = ctypes.CDLL(os.environ["EMB_CUDA_MODULE"])
FAKE.fake_module_calls.restype = ctypes.c_ulong
FAKE.fake_module_blocks.restype = ctypes.c_long


def blocks():
    """Allocations on the fake card."""
    gc.collect()
    return FAKE.fake_module_blocks()


def bits(rows):
    """The values of rows on the fake card."""
    taken = Taken(rows.__dlpack__())
    values = taken.read()
    taken.drop()
    return values


@pytest.fixture
def model():
    """On the fake card; afterwards nothing of it is left there."""
    before = blocks()
    made = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32")
    yield made
    made.close()
    del made
    assert blocks() == before


@pytest.mark.parametrize("options", [
    {}, {"truncate_dim": 5}, {"normalize_embeddings": True},
    {"truncate_dim": 9, "normalize_embeddings": True}])
def test_the_same_bits_as_on_the_host(model, options):
    for texts in (TEXTS, TEXTS[:1], "one text", ["", "x"], tuple(TEXTS[:9]), []):
        rows = model.encode_rows(texts, on_device=True, **options)
        expected = numpy.asarray(model.encode_rows(texts, **options))
        assert rows.shape == expected.shape and len(rows) == expected.shape[0]
        assert bits(rows) == expected.tobytes()
        assert numpy.asarray(rows.to_host()).tobytes() == expected.tobytes()


@pytest.mark.parametrize("options", [{}, {"truncate_dim": 7}])
def test_long_texts(options):
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", long="chunk")
    texts = (TEXTS[:40] + LONG) * 3
    expected = numpy.asarray(model.encode_rows(texts, **options))
    assert bits(model.encode_rows(texts, on_device=True, **options)) == expected.tobytes()


def test_columns(model):
    pyarrow = pytest.importorskip("pyarrow")
    rows = model.encode_rows(pyarrow.array(TEXTS), on_device=True)
    assert bits(rows) == model.encode(TEXTS).tobytes()


def test_capsules(model):
    rows = model.encode_rows(TEXTS[:3], on_device=True)
    dim = rows.shape[1]
    assert isinstance(rows, embound.DeviceRows) and rows.device == "cuda:0"
    assert rows.__dlpack_device__() == (CUDA, 0)
    for options, versioned in (({}, False), ({"max_version": None}, False),
                               ({"max_version": (0, 8)}, False), ({"max_version": (1, 0)}, True),
                               ({"max_version": (2, 5)}, True)):
        taken = Taken(rows.__dlpack__(**options))
        assert taken.versioned == versioned and taken.version == ((1, 0) if versioned else None)
        assert taken.device == (CUDA, 0) and taken.type == (FLOAT, 32, 1) and taken.flags == 0
        assert taken.shape == (3, dim) and taken.strides == (dim, 1) and taken.offset == 0
        assert taken.address == rows.address and taken.address % 256 == 0
        taken.drop()
    single = Taken(model.encode_rows("x", on_device=True).__dlpack__())
    assert single.shape == (dim,) and single.strides == (1,)
    single.drop()


def test_streams(model):
    rows = model.encode_rows("x", on_device=True)
    for stream in (None, -1, 1, 2, 3, 0x7f00_0000_0010, 2**64 - 16):
        rows.__dlpack__(stream=stream)
        rows.__dlpack__(stream=stream, max_version=(1, 0), dl_device=(2, 0), copy=False)
    for stream in (0, -2, -(2**70)):
        with pytest.raises(BufferError, match="stream"):
            rows.__dlpack__(stream=stream)
    with pytest.raises(TypeError, match="stream"):
        rows.__dlpack__(stream="1")


def test_copies_to_the_host(model):
    rows = model.encode_rows(TEXTS[:5], on_device=True)
    expected = model.encode(TEXTS[:5])
    for copy in (None, True):
        taken = Taken(rows.__dlpack__(dl_device=(1, 0), copy=copy, max_version=(1, 0)))
        assert taken.device == (CPU, 0) and taken.flags == IS_COPIED
        assert taken.address != rows.address and taken.read() == expected.tobytes()
        taken.drop()
    array = numpy.from_dlpack(rows, device="cpu")
    del rows
    assert numpy.array_equal(array, expected)


def test_what_cannot_be_is_a_buffer_error(model):
    rows = model.encode_rows("x", on_device=True)
    for options in ({"dl_device": (1, 0), "copy": False}, {"dl_device": (2, 1)}, {"copy": True},
                    {"dl_device": (10, 0)}):
        with pytest.raises(BufferError):
            rows.__dlpack__(**options)
    for of in (rows, rows.to_host()):
        for device in ("cpu", (1,), (1, 0, 0), ("cpu", 0)):
            with pytest.raises(TypeError, match="dl_device|integer"):
                of.__dlpack__(dl_device=device)
    with pytest.raises((BufferError, RuntimeError), match="(?i)device"):
        numpy.from_dlpack(rows)
    with pytest.raises(TypeError):
        memoryview(rows)
    with pytest.raises(TypeError, match="to_host"):
        numpy.asarray(rows)
    with pytest.raises(BufferError):
        model.encode_rows("x").__dlpack__(dl_device=(2, 0))


def test_cuda_array_interface(model):
    rows = model.encode_rows(TEXTS[:2], on_device=True)
    assert rows.__cuda_array_interface__ == {
        "shape": rows.shape, "typestr": "<f4", "data": (rows.address, False), "version": 3,
        "strides": None, "stream": None}
    assert not hasattr(model.encode_rows("x"), "__cuda_array_interface__")
    assert model.encode_rows([], on_device=True).__cuda_array_interface__["data"] == (0, False)


def test_tensors_are_made_of_the_rows(model, monkeypatch):
    torch = types.SimpleNamespace(from_dlpack=lambda rows: [rows], tensor=lambda values: "nothing",
                                  device=str)
    monkeypatch.setitem(sys.modules, "torch", torch)
    tensor, = model.encode(TEXTS[:3], convert_to_tensor=True, normalize_embeddings=True)
    assert isinstance(tensor, embound.DeviceRows)
    assert bits(tensor) == model.encode(TEXTS[:3], normalize_embeddings=True).tobytes()
    single, = model.encode("x", convert_to_tensor=True)
    assert single.shape == (model._dim,)
    assert isinstance(model.encode(["x"], convert_to_numpy=False)[0], embound.DeviceRows)
    assert model.encode([], convert_to_tensor=True) == "nothing"
    assert model.encode([], convert_to_numpy=False) == []
    assert isinstance(model.encode("x"), numpy.ndarray)


def test_an_engine_that_no_longer_fits_is_an_error(model):
    budget = embound.SentenceTransformer(str(TINY)).plan()["device_bytes_min"]
    other = embound.SentenceTransformer(str(TINY), gpu_memory=budget)
    assert other.device == "cuda:0"
    rows = model.encode_rows(["x"] * 20_000, on_device=True)  # held by the other's process too
    with pytest.raises(embound.BudgetError, match="device='cpu'") as told:
        other.encode(TEXTS[:3])
    assert told.value.region == "device" and len(rows) == 20_000


def test_the_budget_holds_the_rows():
    plan = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").plan()
    texts = TEXTS[:50] + ["x"] * 14000
    expected = None
    for budget in (plan["device_bytes_min"], plan["device_bytes_min"] + MIB // 2):
        model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32",
                                            gpu_memory=budget)
        with pytest.raises(embound.BudgetError, match="rows of 32 values") as told:
            model.encode_rows(texts, on_device=True)
        assert told.value.region == "device" and budget < told.value.minimum_bytes
        assert model.memory_report()["opens"] == 1  # as it was
        expected = model.encode(texts[:50]) if expected is None else expected
        least = told.value.minimum_bytes
        model.close()
    for budget, works in ((least, True), (least - 1, False)):
        model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32",
                                            gpu_memory=budget)
        if not works:
            with pytest.raises(embound.BudgetError) as told:
                model.encode_rows(texts, on_device=True)
            assert told.value.minimum_bytes == least
            model.close()
            continue
        rows = model.encode_rows(texts, on_device=True)
        assert bits(rows)[:50 * 32 * 4] == expected.tobytes()
        assert model.plan()["device_bytes"] <= budget
        held = model.memory_report()["device_rows_bytes"]
        assert held >= len(texts) * 32 * 4 and model.plan()["device_caller_bytes"] >= held
        assert "caller's rows" in str(model.plan())
        with pytest.raises(embound.BudgetError):  # the first ones are still there
            model.encode_rows(texts, on_device=True)
        del rows
        assert model.memory_report()["device_rows_bytes"] == 0
        opens = model.memory_report()["opens"]
        model.encode_rows(texts, on_device=True)
        assert model.memory_report()["opens"] == opens  # the room is there
        model.close()


def test_the_engine_opens_anew_where_that_makes_room():
    knee = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").plan()
    budget = knee["device_bytes_knee"]
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", gpu_memory=budget)
    expected = model.encode(TEXTS)
    rows = model.encode_rows(TEXTS * 10, on_device=True)
    assert bits(rows)[:expected.nbytes] == expected.tobytes()
    plan = model.plan()
    assert model.memory_report()["opens"] == 2 and plan["device_bytes"] <= budget
    # rows that outlive an engine still count, once
    model.close()
    held = model.memory_report()["device_rows_bytes"]
    assert held >= len(TEXTS) * 10 * 32 * 4
    assert model.plan()["device_bytes"] == plan["device_bytes"]
    model.encode("x")
    assert model.plan()["device_bytes"] == plan["device_bytes"]
    assert model.memory_report()["opens"] == 3


def test_what_the_context_has_grown_by_counts_once(monkeypatch):
    monkeypatch.setenv("EMB_FAKE_GROWTH", str(3 * MIB))
    least = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").plan()[
        "device_bytes_min"]
    texts = ["x"] * 14000
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", gpu_memory=least)
    with pytest.raises(embound.BudgetError) as told:
        model.encode_rows(texts, on_device=True)
    model.close()
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32",
                                        gpu_memory=told.value.minimum_bytes)
    model.encode("x")
    assert len(model.encode_rows(texts, on_device=True)) == 14000
    assert model.memory_report()["opens"] == 2
    model.close()
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", gpu_memory=least)
    for _ in range(3):  # reopened within the smallest budget
        assert model.encode("x").ndim == 1 and model.plan()["device_bytes"] <= least
        model.close()


def test_rows_one_after_another_open_few_engines():
    knee = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").plan()
    budget = knee["device_bytes_knee"] + 12 * MIB
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", gpu_memory=budget)
    kept = []
    with pytest.raises(embound.BudgetError):
        while len(kept) < 100:
            kept.append(model.encode_rows(["x"] * 8400, on_device=True))
    assert len(kept) > 6 and model.memory_report()["opens"] <= 5
    model.encode("x")
    assert model.memory_report()["device_rows_bytes"] <= budget


def test_rows_alive_are_in_later_plans(model):
    first = model.plan()
    rows = model.encode_rows(TEXTS, on_device=True)
    model.close()
    later = model.plan()
    assert later["device_bytes"] == first["device_bytes"] + 2 * MIB
    assert later["device_caller_bytes"] == 2 * MIB and first["device_caller_bytes"] == 0
    del rows
    assert model.plan()["device_bytes"] == first["device_bytes"]


def test_reports(model, capsys):
    assert model.memory_report()["device_rows_bytes"] == 0
    rows = model.encode_rows(TEXTS, on_device=True)
    held = model.memory_report()["device_rows_bytes"]
    assert len(TEXTS) * 32 * 4 <= held < len(TEXTS) * 32 * 4 + 512
    assert "rows on the GPU" in embound.trace_memory()
    capsys.readouterr()
    more = model.encode_rows("x", on_device=True)
    assert model.memory_report()["device_rows_bytes"] == held + 512
    del rows, more
    assert model.memory_report()["device_rows_bytes"] == 0


def test_rows_outlive_the_model():
    before = blocks()
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32")
    expected = model.encode(TEXTS).tobytes()
    rows = model.encode_rows(TEXTS, on_device=True)
    capsules = [rows.__dlpack__(), rows.__dlpack__(max_version=(1, 0))]
    never_taken = rows.__dlpack__(max_version=(1, 0))
    model.close()
    del model
    assert blocks() == before + 1 and bits(rows) == expected
    del rows, never_taken
    takers = [Taken(capsule) for capsule in capsules]
    del capsules
    assert blocks() == before + 1 and all(taken.read() == expected for taken in takers)
    threads = [threading.Thread(target=taken.drop) for taken in takers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocks() == before


def test_every_failure_leaves_nothing():
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", threads=1)
    expected = numpy.asarray(model.encode_rows(TEXTS, normalize_embeddings=True))
    model.close()
    before = blocks()
    kinds = set()
    try:
        for number in range(1, 300):
            os.environ["EMB_FAKE_FAIL"] = str(FAKE.fake_module_calls() + number)
            try:
                rows = model.encode_rows(TEXTS, normalize_embeddings=True, on_device=True)
                rows.to_host()
            except (embound.DeviceError, embound.OutOfMemoryError) as error:
                kinds.add(str(error))
                rows = None
                model.close()
                assert blocks() == before
                continue
            assert bits(rows) == expected.tobytes()
            break
    finally:
        del os.environ["EMB_FAKE_FAIL"]
    assert 5 < number < 299 and any("for rows" in kind for kind in kinds), kinds
    assert any("copying rows" in kind for kind in kinds), kinds


def test_rows_that_fail_midway(model):
    model.encode("x")
    open_blocks = blocks()

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model._core.encode(TEXTS, None, -1, False, stop, True, 0)
    model.encode("x")
    assert blocks() == open_blocks
    with pytest.raises(ValueError):
        model._core.encode(["a", 3], None, -1, False, None, True, 0)
    with pytest.raises(MemoryError):
        os.environ["EMB_FAKE_MEMORY"] = "1000"
        try:
            model.encode_rows(TEXTS, on_device=True)
        finally:
            del os.environ["EMB_FAKE_MEMORY"]
    assert blocks() == open_blocks
    assert bits(model.encode_rows(["y"], on_device=True)) == model.encode(["y"]).tobytes()


def test_fork(model):
    rows = model.encode_rows(TEXTS, on_device=True)
    expected = bits(rows)
    child = os.fork()
    if child == 0:
        try:
            rows.to_host()
        except embound.DeviceError:
            taken = blocks()
            del rows
            os._exit(0 if blocks() == taken else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert bits(rows) == expected


@pytest.mark.parametrize("device,first", [(["cuda:0", "cuda:1"], 0), ("cuda:1", 1),
                                          (["cuda:1", "cuda:0"], 1), ("cuda:all", 0)])
def test_several_gpus(device, first):
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32")
    expected = model.encode(TEXTS, device=device)
    rows = model.encode_rows(TEXTS, on_device=True)
    assert rows.__dlpack_device__() == (CUDA, first) and rows.device == f"cuda:{first}"
    assert bits(rows) == expected.tobytes()


def test_a_cpu_has_no_such_rows():
    model = embound.SentenceTransformer(str(TINY), device="cpu")
    with pytest.raises(embound.UnsupportedError, match="cuda"):
        model.encode_rows("x", on_device=True)
    assert model.encode("x").ndim == 1


@pytest.mark.parametrize("wrong", ["cuda:1", 1, None, numpy.ones(2)])
def test_on_device_is_yes_or_no(model, wrong):
    with pytest.raises(embound.ArgumentError, match="on_device"):
        model.encode_rows("x", on_device=wrong)


def test_threads(model):
    expected = model.encode(TEXTS[:200]).tobytes()
    wrong = []

    def work():
        for _ in range(5):
            if bits(model.encode_rows(TEXTS[:200], on_device=True)) != expected:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and model.memory_report()["device_rows_bytes"] == 0


def test_nothing_leaks(model):
    from embound._plan import resident_bytes

    def rounds(count):
        for _ in range(count):
            rows = model.encode_rows(TEXTS[:20], on_device=True, normalize_embeddings=True)
            rows.__dlpack__(max_version=(1, 0))
            rows.__dlpack__(dl_device=(1, 0))
            rows.to_host()
            assert rows.__cuda_array_interface__["version"] == 3

    rounds(30)
    before = resident_bytes()[0]
    rounds(100)
    assert resident_bytes()[0] - before < MIB


def test_pools_are_one_engine_on_all_gpus():
    model = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32")
    expected = model.encode(TEXTS)
    pool = model.start_multi_process_pool(["cuda:0", "cuda:1"])
    assert model.plan()["devices"] == [0, 1] and len(pool["processes"]) == 2
    assert numpy.array_equal(model.encode(TEXTS, pool=pool, chunk_size=9), expected)
    assert numpy.array_equal(model.encode(TEXTS, device=["cuda:1", "cuda:1"]), expected)
    assert model.plan()["devices"] == [1]
    model.start_multi_process_pool()  # every GPU
    assert model.plan()["devices"] == [0, 1]
    with pytest.raises(embound.UnsupportedError, match="not on both"):
        model.start_multi_process_pool(["cuda:0", "cpu"])
    with pytest.warns(embound.EmboundWarning, match="bf16"):
        assert model.half().cpu().plan()["dtype"] == "bf16"
    assert model.cuda().plan()["dtype"] == "f16"
    assert model.float().plan()["dtype"] == "f32"


def items(plan, kind):
    """Names and bytes of a region."""
    return dict(next(r["items"] for r in plan["regions"] if r["kind"] == kind))


def test_an_open_engines_figure_bounds_the_process():
    first = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32")
    budget = first.plan()["device_bytes_knee"]
    first = embound.SentenceTransformer(str(TINY), dtype="f32", gpu_memory=budget).open()
    for stated in (None, budget * 2):  # neither enlarges it
        with pytest.raises(embound.BudgetError, match=f"tiny-bert, .* gpu_memory={budget}"):
            embound.SentenceTransformer(str(TINY), dtype="f32", gpu_memory=stated, threads=9)
    assert embound.SentenceTransformer(str(TINY), device="cuda:1").plan()["device_bytes_max"] == 0
    host = first.plan()["host_bytes"]
    first.close()
    first = embound.SentenceTransformer(str(TINY), device="cpu", memory=host + 64 * MIB).open()
    assert embound.SentenceTransformer(str(TINY), device="cpu").plan()["host_bytes_max"] == (
        host + 64 * MIB)
    first.close()
    assert embound.SentenceTransformer(str(TINY), device="cpu").plan()["host_bytes_max"] == 0


def test_plans_show_what_other_engines_hold(capsys):
    first = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").open()
    alone = str(first.plan())
    second = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").open()
    plan = second.plan()
    for kind, arenas in (("host", ("host", "pinned")), ("device", ("device",))):
        assert items(plan, kind)["other engines in this process"] == sum(
            r["arena_bytes"] for r in first.plan()["regions"] if r["kind"] in arenas)
        assert sum(items(plan, kind).values()) == next(
            r["bytes"] for r in plan["regions"] if r["kind"] == kind)
    assert str(first.plan()) == alone and "other engines" not in alone
    account = embound.trace_memory()
    assert "2 open engines" in account and account.count("other engines in this process") == 2
    assert capsys.readouterr().out == account + "\n"
    first.close()
    second.close()


def test_engines_that_open_at_once_share_one_figure():
    least = embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32").open()
    least.close()
    budget = least.plan()["device_bytes_min"] + MIB // 4
    models = [embound.SentenceTransformer(str(TINY), device="cuda", dtype="f32", gpu_memory=budget)
              for _ in range(2)]
    opened = [open_at_once(models) for _ in range(40)]
    assert max(opened) == 1 and sum(opened) > 20, opened


def test_copies_to_the_host_are_inside_the_figure():
    free = embound.SentenceTransformer(str(TINY), device="cuda").open()
    free.close()
    with embound.SentenceTransformer(str(TINY), device="cuda",
                                     memory=free.plan()["host_bytes"] + 16 * MIB) as model:
        count = model._core.room() // (32 * 4) + 1000
        rows = model.encode_rows(["x"] * count, on_device=True)
        for copy in (rows.to_host, lambda: rows.__dlpack__(dl_device=(CPU, 0), copy=True)):
            with pytest.raises(embound.BudgetError, match="the vectors take"):
                copy()
        assert model.encode_rows(["x"] * 1000, on_device=True).to_host().shape == (1000, 32)
    assert rows.to_host().shape == (count, 32)
