"""Many threads, fork, Ctrl-C at random moments, the end of the interpreter: no crash, no leak.

SPDX-License-Identifier: Apache-2.0
"""
import os
import random
import signal
import subprocess
import sys
import threading
import time

import embound
import numpy
import pytest
from conftest import FAKE_GPU, FAKE_MODULE, TINY

TEXTS = [f"text number {i} of several" for i in range(200)]


def python(source, **variables):
    """Runs a program of its own; gives its output, fails if it ends badly or hangs."""
    done = subprocess.run([sys.executable, "-c", source], text=True, capture_output=True,
                          timeout=120, env={**os.environ, **variables}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_report_does_not_wait_for_an_encode():
    """Another thread sees the counters of a long encode rise while it is under way."""
    with embound.SentenceTransformer(str(TINY), long="chunk", threads=1) as model:
        thread = threading.Thread(target=model.encode, args=("words " * 2_000_000,))
        thread.start()
        seen = set()
        while thread.is_alive():
            seen.add(model.memory_report()["rows_computed"])
            time.sleep(0.001)
        thread.join()
        last = model.memory_report()["rows_computed"]
    assert last > 2_000_000 and len(seen - {0, last}) > 5


def test_eight_threads_share_one_engine(tiny):
    expected = tiny.encode(TEXTS)
    wrong = []

    def work(seed):
        chosen = random.Random(seed)
        for _ in range(40):
            first = chosen.randrange(199)
            count = chosen.choice([1, 1, 3, 150])
            rows = tiny.encode(TEXTS[first:first + count])
            if not numpy.array_equal(rows, expected[first:first + count]):
                wrong.append((seed, first))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and tiny.memory_report()["opens"] == 1


def test_threads_while_limits_change(tiny):
    stop = threading.Event()
    failures = []

    def work():
        while not stop.is_set():
            try:
                tiny.encode(TEXTS[:20])
            except Exception as error:  # any is a failure
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for tokens in (16, 20, 24, 16):
        tiny.max_seq_length = tokens
        time.sleep(0.02)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_the_gil_is_released(tiny):
    counted = 0
    done = threading.Event()

    def work():
        tiny.encode([f"some more words {i}" for i in range(20000)])
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        counted += 1
        time.sleep(0)
    thread.join()
    assert counted > 100


def test_a_forked_child_opens_its_own_engine(tiny):
    expected = tiny.encode(TEXTS)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        same = numpy.array_equal(tiny.encode(TEXTS), expected)
        os.write(writer, b"same" if same and tiny.memory_report()["opens"] == 2 else b"other")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 10) == b"same"
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0
    assert numpy.array_equal(tiny.encode(TEXTS), expected)


def test_fork_while_another_thread_encodes(tiny):
    expected = tiny.encode(TEXTS[:3])
    stop = threading.Event()

    def work():
        while not stop.is_set():
            tiny.encode(TEXTS)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                os._exit(0 if numpy.array_equal(tiny.encode(TEXTS[:3]), expected) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_the_gpu_is_refused_after_fork():
    if not FAKE_MODULE.exists():
        pytest.skip("the fake CUDA module is not built (make everything)")
    said = python(f"""
import os, embound
model = embound.SentenceTransformer({str(TINY)!r}, device="cuda", dtype="f32")
assert model.encode("x").ndim == 1
child = os.fork()
if child == 0:
    try:
        model.encode("x")
    except embound.DeviceError as error:
        print(error, flush=True)
    report, other = model.memory_report(), embound.SentenceTransformer({str(TINY)!r}, device="cpu")
    model.close()
    model.to("cpu")
    print(report["open"], model.encode("x").shape == other.encode("x").shape, flush=True)
    os._exit(0)
os.waitpid(child, 0)
""", **FAKE_GPU)
    assert "spawn" in said and "False True" in said


def test_ctrl_c_at_random_moments(tiny):
    expected = tiny.encode(TEXTS[:3])
    texts = TEXTS * 30
    chosen = random.Random(7)
    main = threading.main_thread().ident
    interrupted = 0
    from embound._plan import resident_bytes

    before = 0
    for number in range(100):
        if number == 20:
            before = resident_bytes()[0]
        timer = threading.Timer(chosen.random() * 0.04, signal.pthread_kill, (main, signal.SIGINT))
        try:
            timer.start()
            tiny.encode(texts)
            timer.join()
            time.sleep(0.001)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        try:
            assert numpy.array_equal(tiny.encode(TEXTS[:3]), expected)
        except KeyboardInterrupt:
            pass
    assert interrupted > 50
    assert numpy.array_equal(tiny.encode(TEXTS[:3]), expected)
    assert resident_bytes()[0] - before < 4 << 20


def test_ctrl_c_stops_soon(l6):
    model = embound.SentenceTransformer(l6, long="chunk").open()
    texts = ["many words follow one another " * 400] * 50
    main = threading.main_thread().ident
    sent = []

    def send():
        sent.append(time.monotonic())
        signal.pthread_kill(main, signal.SIGINT)

    timer = threading.Timer(0.3, send)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.encode(texts)
    assert time.monotonic() - sent[0] < 1.5
    timer.join()


@pytest.mark.parametrize("ending", [
    "", "import sys; sys.exit(0)", "import os; os._exit(0)", "del model",
    "import threading; threading.Thread(target=lambda: model.encode(['x y z'] * 10**6),"
    " daemon=True).start(); import time; time.sleep(.1)",
    "import atexit; atexit.register(lambda: model.encode('late'))",
    "import sys; sys.modules['kept'] = model.encode_rows(['a'])"])
def test_the_interpreter_ends_with_an_open_engine(ending):
    python(f"import embound; model = embound.SentenceTransformer({str(TINY)!r}); "
           f"rows = model.encode(['a', 'b']); {ending}")


def test_a_failing_progress_bar_ends_the_call(tiny):
    def fail(done):
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        tiny._core.encode(TEXTS, None, -1, False, fail, False, 0)
    assert tiny.encode("works again").ndim == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_pools_of_the_standard_library(tmp_path, method):
    program = tmp_path / "pools.py"
    program.write_text(f"""
import concurrent.futures, multiprocessing, embound
model = embound.SentenceTransformer({str(TINY)!r}).open()
expected = model.encode(["a", "b"]).tolist()
def work(number):
    return model.encode(["a", "b"]).tolist()
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(work, range(4))) == [expected] * 4
        rows = list(pool.map(model.encode, [["a", "b"]] * 2))
    assert [one.tolist() for one in rows] == [expected] * 2
    assert work(0) == expected and model.memory_report()["opens"] == 1
""")
    done = subprocess.run([sys.executable, str(program)], text=True, capture_output=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_children_that_close_or_never_use_the_parents_engine(tiny):
    tiny.open()
    for ending in ("del", "close", "limits"):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            good = True
            if ending == "close":
                tiny.close()
                good = not tiny.is_open and tiny.encode("x").ndim == 1
            elif ending == "limits":
                tiny.max_seq_length = 20
                good = tiny.encode("x").ndim == 1
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert tiny.encode("x").ndim == 1 and tiny.memory_report()["opens"] == 1


def test_ctrl_c_while_models_open_and_streams_run():
    said = python(f"""
import embound, numpy, random, signal, threading, time
from embound._plan import resident_bytes
main, draw, interrupted, before = threading.main_thread().ident, random.Random(3), 0, 0
def work():
    with embound.SentenceTransformer({str(TINY)!r}) as model:
        for row in model.encode_stream(f"text {{i}} of many" for i in range(3000)):
            pass
        model.max_seq_length = 20
        model.encode(["x"] * 20)
for number in range(60):
    timer = threading.Timer(draw.random() * .1, signal.pthread_kill, (main, signal.SIGINT))
    try:
        timer.start()
        work()
        timer.join()
        time.sleep(.001)
    except KeyboardInterrupt:
        interrupted += 1
    timer.join()
    before = before if number > 20 else resident_bytes()[0]
work()
print(interrupted, resident_bytes()[0] - before)
""").split()
    assert int(said[0]) > 20 and int(said[1]) < 4 << 20, said


def test_plan_does_not_wait_for_who_encodes(tiny):
    tiny.open()
    plans = []
    tiny._core.encode(TEXTS, None, -1, False, lambda done: plans.append(tiny.plan()), False, 0)
    assert plans and plans[0]["dim"] == 32
