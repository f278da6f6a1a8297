#!/usr/bin/env python3
"""Speed and memory of the Python package against sentence-transformers, in one run, interleaved.

Runs in build/venv-python, with the package of the last `make test-python`, after `make`. Prints
one JSON line for each requirement, with what was measured and whether it passed:
  import   seconds of a cold import, the package's files dropped from the page cache before
  memory   resident bytes of a process that encodes ten sentences, beside sentence-transformers'
  calls    what encode(one sentence) costs above the C library, and growth over many calls
  speed    texts per second on abstracts, slice by slice, every engine taking turns; with cosines

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import make_texts  # noqa: E402

PYTHON = ROOT / "build" / "venv-python" / "bin" / "python"
TINY = ROOT / "tests" / "data" / "tiny-bert"
SENTENCE = "one short sentence"
CORES = len(os.sched_getaffinity(0))

PROCESS = """
import json, time
from {package} import SentenceTransformer
model = SentenceTransformer({model!r}, {options})
model.encode([f"sentence number {{i}}" for i in range(10)])
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS")))
"""
IMPORT = """
import time
start = time.perf_counter()
from {package} import SentenceTransformer
print(time.perf_counter() - start)
"""


def say(row, required, passed, **measured):
    """One line of the results."""
    print(json.dumps({"bench": "python_package", "row": row, "required": required,
                      "passed": bool(passed), **measured}), flush=True)


def number_of(source):
    """What a program of its own prints last."""
    done = subprocess.run([sys.executable, "-c", source], text=True, stdout=subprocess.PIPE,
                          check=True)
    return float(done.stdout.split()[-1])


def drop_from_cache(folder):
    """So that the next import reads the files from the disk."""
    os.sync()
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def imports(rounds):
    """Cold, each in a process of its own."""
    import embound

    seconds = []
    for _ in range(rounds):
        drop_from_cache(pathlib.Path(embound.__file__).parent)
        seconds.append(number_of(IMPORT.format(package="embound")))
    theirs = number_of(IMPORT.format(package="sentence_transformers"))
    median = statistics.median(seconds)
    say("import", "0.15 s at most", median <= 0.15, seconds=round(median, 4),
        seconds_worst=round(max(seconds), 4), sentence_transformers_seconds=round(theirs, 2))


def memory(model):
    """Resident bytes, each in a process of its own."""
    theirs = number_of(PROCESS.format(package="sentence_transformers", model=model,
                                      options="device='cpu'"))
    for options, part in [("", 4), ("dtype='bf16'", None), ("dtype='int8'", 8),
                          ("memory='64MiB'", None)]:
        ours = number_of(PROCESS.format(package="embound", model=model, options=options))
        say("memory", f"1/{part} at most" if part else None, not part or ours * part <= theirs,
            options=options or "f32", resident_bytes=int(ours),
            sentence_transformers_bytes=int(theirs), share=f"1/{theirs / ours:.1f}")


class CLibrary:
    """bench/latency.c: the same tokens through the C interface, a process that waits its turn."""

    def __init__(self, model, tokens, folder):
        program = pathlib.Path(folder) / "latency"
        build = ROOT / "build"
        subprocess.run(["gcc", "-O2", "-I", ROOT / "include", ROOT / "bench" / "latency.c", "-o",
                        program, "-L", build, "-lembound", f"-Wl,-rpath,{build}"], check=True)
        self.process = subprocess.Popen(
            [program, model, str(tokens), "f32", "1"], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def microseconds(self, count):
        """Of one call, the mean of so many."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return 1e3 * statistics.fmean(map(float, self.process.stdout.readline().split()))

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def microseconds(call, count):
    """Of one call, the mean of so many."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return 1e6 * (time.perf_counter() - start) / count


def calls(number, batches=60, size=300):
    """encode(one sentence) beside the C library, batch by batch; then very many calls.

    The tiny model's work is a few microseconds, so that what is not work stands out. C is given
    ids, Python text: reading it is part of what is counted here. Both stay on one core: whether a
    lane is woken on another one differs from batch to batch, and costs more than all the rest.
    """
    import embound
    from embound._plan import resident_bytes

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    engine = embound.SentenceTransformer(str(TINY), threads=1).open()
    tokens = len(engine.tokenize([SENTENCE])["input_ids"][0])
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        library = CLibrary(TINY, tokens, folder)
        for _ in range(batches):
            theirs.append(library.microseconds(size))
            ours.append(microseconds(lambda: engine.encode(SENTENCE), size))
        library.close()
    above = statistics.median(a - b for a, b in zip(ours, theirs))
    say("overhead of a call", "15 us at most", above <= 15, above_us=round(above, 2),
        above_us_best=round(min(ours) - min(theirs), 2),
        encode_us=round(min(ours), 2), library_us=round(min(theirs), 2))
    microseconds(lambda: engine.encode(SENTENCE), 2000)
    before = resident_bytes()[0]
    mean = microseconds(lambda: engine.encode(SENTENCE), number)
    grown = resident_bytes()[0] - before
    os.sched_setaffinity(0, cores)
    say("growth over calls", "0 bytes", grown == 0, calls=number, grown_bytes=grown,
        mean_us=round(mean, 2))


def texts_of(path):
    """The abstracts, one a line."""
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if line.strip()]


def cosines(a, b):
    """Of the rows at equal places."""
    import numpy

    return (a * b).sum(1) / numpy.linalg.norm(a, axis=1) / numpy.linalg.norm(b, axis=1)


def speed(model, texts, slices, rounds):
    """Every engine encodes each slice in turn; of each slice its best round counts."""
    import embound
    import numpy
    import sentence_transformers
    import torch

    torch.set_num_threads(CORES)
    base = sentence_transformers.SentenceTransformer(model, device="cpu")
    engines = {"sentence_transformers": base}
    for dtype in ("f32", "bf16", "int8"):
        engines[dtype] = embound.SentenceTransformer(model, dtype=dtype).open()
    seconds = dict.fromkeys(engines, 0.0)
    vectors = {name: [] for name in engines}
    size = -(-len(texts) // slices)
    for first in range(0, len(texts), size):
        best = dict.fromkeys(engines, float("inf"))
        for number in range(rounds):
            for name, engine in engines.items():
                start = time.perf_counter()
                rows = engine.encode(texts[first:first + size], show_progress_bar=False)
                best[name] = min(best[name], time.perf_counter() - start)
                if number == 0:
                    vectors[name].append(rows)
        for name, value in best.items():
            seconds[name] += value
    theirs = numpy.concatenate(vectors["sentence_transformers"])
    for name, least in (("f32", 1.7), ("bf16", 3), ("int8", 5)):
        ratio = seconds["sentence_transformers"] / seconds[name]
        cosine = cosines(numpy.concatenate(vectors[name]), theirs)
        say("speed", f"{least} x", ratio >= least, dtype=name, ratio=round(ratio, 2),
            texts=len(texts), slices=slices, threads=CORES,
            texts_per_second=round(len(texts) / seconds[name], 1),
            sentence_transformers_per_second=round(
                len(texts) / seconds["sentence_transformers"], 1),
            cosine_least=round(float(cosine.min()), 6), cosine_mean=round(float(cosine.mean()), 6))


def check_environment(model):
    """Goes over to the interpreter that has the package; ends if something is missing."""
    if PYTHON.exists() and pathlib.Path(sys.prefix) != PYTHON.parents[1]:
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    for name, how in (("embound", "make test-python"),
                      ("sentence_transformers", "tools/oracle_env.sh, then make test-python")):
        if importlib.util.find_spec(name) is None:
            sys.exit(f"bench/python_package.py: {name} is not installed ({how})")
    for needed, how in ((pathlib.Path(model) / "config.json", "make models"),
                        (ROOT / "build" / "libembound.so", "make")):
        if not needed.exists():
            sys.exit(f"bench/python_package.py: {needed} is missing ({how})")


def main():
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default=str(ROOT / "build/models/all-MiniLM-L6-v2"))
    parser.add_argument("--texts", help="a file of abstracts, one a line (default: real ones where "
                        "they are, else made-up ones)")
    parser.add_argument("--texts-max", type=int, help="of them only the first so many")
    parser.add_argument("--slices", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--calls", type=int, default=100000)
    parser.add_argument("--only", choices=["import", "memory", "calls", "speed"])
    chosen = parser.parse_args()
    check_environment(chosen.model)
    warnings.simplefilter("ignore")  # abstracts are longer than the model's limit
    if chosen.only in (None, "import"):
        imports(9)
    if chosen.only in (None, "memory"):
        memory(chosen.model)
    if chosen.only in (None, "calls"):
        calls(chosen.calls)
    if chosen.only in (None, "speed"):
        texts = texts_of(chosen.texts or make_texts.abstracts_file())
        speed(chosen.model, texts[:chosen.texts_max], chosen.slices,
              chosen.rounds)


if __name__ == "__main__":
    main()
