"""Pools and lists of devices: one engine, so every call gets its own rows, or an exception.

SPDX-License-Identifier: Apache-2.0
"""
import random
import signal
import subprocess
import sys
import threading

import embound
import numpy
import pytest
from conftest import TINY

TEXTS = [f"text number {i} of several" for i in range(200)]


def test_a_pool_gives_what_a_plain_call_gives(tiny):
    expected = tiny.encode(TEXTS)
    pool = tiny.start_multi_process_pool(["cpu", "cpu"])
    assert set(pool) == {"input", "output", "processes"} and len(pool["processes"]) == 2
    for options in ({"pool": pool}, {"pool": pool, "chunk_size": 7}, {"device": ["cpu"] * 3}):
        assert numpy.array_equal(tiny.encode(TEXTS, **options), expected)
        assert numpy.array_equal(tiny.encode(TEXTS[0], **options), expected[0])
        assert numpy.array_equal(tiny.encode_query(TEXTS, **options), expected)
        assert numpy.array_equal(tiny.encode(TEXTS, precision="ubinary", **options),
                                 numpy.packbits(expected > 0, axis=-1))
    assert numpy.array_equal(tiny.encode_multi_process(TEXTS, pool, chunk_size=3), expected)
    assert tiny.memory_report()["opens"] == 1
    tiny.stop_multi_process_pool(pool)
    with pytest.raises(ValueError, match="stopped"):
        tiny.encode(TEXTS, pool=pool)


def test_nothing_to_encode(tiny):
    pool = tiny.start_multi_process_pool()
    for options in ({"pool": pool}, {"device": ["cpu"] * 2}):
        rows = tiny.encode([], **options)
        assert isinstance(rows, numpy.ndarray) and rows.shape == (0,)
        assert tiny.encode([], convert_to_numpy=False, **options) == []
    torch = pytest.importorskip("torch")
    assert torch.equal(tiny.encode([], pool=pool, convert_to_tensor=True), torch.tensor([]))
    rows = tiny.encode(TEXTS[:3], pool=pool, convert_to_tensor=True)
    assert numpy.array_equal(rows.numpy(), tiny.encode(TEXTS[:3]))
    tokens = tiny.encode(TEXTS[:3], pool=pool, output_value="token_embeddings")
    assert [type(one) for one in tokens] == [torch.Tensor] * 3


def test_bad_texts_have_the_index_of_the_list(tiny):
    pool = tiny.start_multi_process_pool(["cpu"] * 2)
    with pytest.raises(embound.TextError, match="text 3 is of type int") as caught:
        tiny.encode(["a", "b", "c", 5], pool=pool, chunk_size=2)
    assert caught.value.index == 3
    with pytest.raises(embound.TextError, match="text 1 is None"):
        tiny.encode(["a", None], device=["cpu"])
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(embound.TextError, match="text 1 is null"):
        tiny.encode(pyarrow.chunked_array([["a", None, "b"]]), pool=pool)


def test_bad_pools_and_devices(tiny):
    for devices, message in ((["cpu", "cuda:0"], "not on both"), ([], "at least one"),
                             ("cpu", "at least one"), ([None], "at least one"), (["mps"], "mps"),
                             (5, "at least one")):
        with pytest.raises(ValueError, match=message):
            tiny.start_multi_process_pool(devices)
    for pool in ({}, 5, {"input": None, "output": None, "processes": []}):
        for method in (lambda pool: tiny.encode("a", pool=pool), tiny.stop_multi_process_pool):
            with pytest.raises(ValueError, match="start_multi_process_pool"):
                method(pool)
    assert tiny.encode("still works").ndim == 1


@pytest.mark.parametrize("devices, joined", [
    (["cpu"] * 4, "cpu"), (["cuda:1", "cuda:0"], "cuda:1,0"), (["cuda:2", "cuda:2"], "cuda:2"),
    (["cuda", 1], "cuda:0,1"), (["cuda:0", "cuda:all"], "cuda:all"), (["cuda:0,3"], "cuda:0,3")])
def test_devices_are_joined(devices, joined):
    from embound._settings import join_devices

    assert join_devices(devices) == joined


def test_a_script_without_a_main_guard(tmp_path):
    program = tmp_path / "script.py"
    program.write_text(f"""
import embound
model = embound.SentenceTransformer({str(TINY)!r})
pool = model.start_multi_process_pool()
print(model.encode(["a", "b"], pool=pool).shape, model.encode(["a"], device=["cpu"] * 2).shape)
model.stop_multi_process_pool(pool)
""")
    done = subprocess.run([sys.executable, program], text=True, capture_output=True, timeout=60,
                          check=False)
    assert done.stdout == "(2, 32) (1, 32)\n", done.stderr


def interrupt(model, count):
    """Ctrl-C at random moments of the main thread's calls, while seven threads use the same pool.
    Gives the calls that were interrupted, those that were not, and the wrong ones."""
    expected = {text: row for text, row in zip(TEXTS, model.encode(TEXTS))}
    pool = model.start_multi_process_pool(["cpu"] * 2)
    main, stop = threading.main_thread().ident, threading.Event()
    interrupted, whole, wrong = 0, [], []

    def call(draw, most):
        texts = draw.choices(TEXTS, k=draw.randrange(1, most))
        rows = model.encode(texts, pool=pool, chunk_size=10)
        good = numpy.array_equal(rows, numpy.stack([expected[text] for text in texts]))
        (whole if good else wrong).append(texts[0])

    def work(seed):
        draw = random.Random(seed)
        while not stop.is_set():
            try:
                call(draw, 100)
            except Exception as error:  # nothing interrupts these threads
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(7)]
    for thread in threads:
        thread.start()
    draw = random.Random(9)
    for _ in range(count):
        timer = threading.Timer(draw.random() * 0.05, signal.pthread_kill, (main, signal.SIGINT))
        try:
            timer.start()
            while True:
                call(draw, 2000)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
    stop.set()
    for thread in threads:
        thread.join()
    call(draw, 2000)
    return interrupted, len(whole), len(wrong)


def test_interrupts_while_eight_threads_share_a_pool(tiny):
    interrupted, whole, wrong = interrupt(tiny, 50)
    assert (interrupted, wrong) == (50, 0) and whole > 50


def test_a_thousand_interrupts_at_random_moments(tiny):
    interrupted, whole, wrong = interrupt(tiny, 1000)
    print(interrupted, "interrupted,", whole, "whole,", wrong, "wrong")
    assert (interrupted, wrong) == (1000, 0) and whole > 1000


def test_eight_threads_with_lists_of_their_own(tiny):
    lists = [[f"{word} number {i}" for i in range(60)] for word in "abcdefgh"]
    expected = [tiny.encode(one) for one in lists]
    pool = tiny.start_multi_process_pool(["cpu"] * 2)
    wrong = []

    def work(number):
        for _ in range(20):
            rows = tiny.encode(lists[number], pool=pool, chunk_size=5)
            if not numpy.array_equal(rows, expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and tiny.memory_report()["opens"] == 1
