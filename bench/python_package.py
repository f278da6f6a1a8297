#!/usr/bin/env python3
"""Speed and memory of the Python package against sentence-transformers, in one run, interleaved.

Run it with the interpreter of build/venv-python (make test-python makes it). Prints JSON lines:
texts per second (best of --rounds, threads alike), resident bytes of a process that encodes ten
sentences, seconds of a cold import, microseconds that one call costs above the C library.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent

PROCESS = """
import time
start = time.perf_counter()
from {package} import SentenceTransformer
imported = time.perf_counter() - start
model = SentenceTransformer({model!r}, {options})
model.encode([f"sentence number {{i}}" for i in range(10)])
with open("/proc/self/status") as status:
    resident = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))
import json
print(json.dumps({{"import_seconds": imported, "resident_bytes": resident}}))
"""


def processes(model):
    """Import time and resident bytes, each in a process of its own."""
    kinds = [("sentence_transformers", "device='cpu'"), ("embound", ""),
             ("embound", "dtype='bf16'"), ("embound", "memory='64MiB'"),
             ("embound", "dtype='int8'")]
    for package, options in kinds:
        source = PROCESS.format(package=package, model=model, options=options)
        done = subprocess.run([sys.executable, "-c", source], text=True, capture_output=True,
                              check=False)
        found = json.loads(done.stdout) if done.returncode == 0 else {
            "skipped": done.stderr.strip().rsplit("\n", 1)[-1]}
        print(json.dumps({"what": "process", "package": package, "options": options, **found}),
              flush=True)


def texts_of(path):
    """The abstracts, one a line."""
    with open(path, encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if line.strip()]


def speed(model, texts, rounds, dtypes):
    """Texts per second of both packages, turn by turn."""
    import embound
    import sentence_transformers
    import torch

    torch.set_num_threads(len(__import__("os").sched_getaffinity(0)))
    engines = {"sentence_transformers f32":
               sentence_transformers.SentenceTransformer(model, device="cpu")}
    for dtype in dtypes:
        try:
            engines[f"embound {dtype}"] = embound.SentenceTransformer(model, dtype=dtype).open()
        except embound.UnsupportedError as error:
            print(json.dumps({"what": "speed", "dtype": dtype, "skipped": str(error)}))
    best = dict.fromkeys(engines, 0.0)
    for _ in range(rounds):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.encode(texts, show_progress_bar=False)
            best[name] = max(best[name], len(texts) / (time.perf_counter() - start))
    base = best["sentence_transformers f32"]
    for name, rate in best.items():
        print(json.dumps({"what": "speed", "engine": name, "texts": len(texts),
                          "texts_per_second": round(rate, 1), "ratio": round(rate / base, 2)}))


def best_call(call, count, batches=40):
    """Microseconds of one call: the best of batches, so that other work on the machine is out."""
    best = float("inf")
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - start) / count)
    return 1e6 * best


def overhead(model, calls):
    """One short sentence: encode against the extension's own call, and growth over many calls.

    The tiny model's work is a few microseconds, so that what Python adds stands out.
    """
    import embound
    from embound._plan import resident_bytes

    engine = embound.SentenceTransformer(model, threads=1).open()
    core = engine._core
    whole = best_call(lambda: engine.encode("one short sentence"), 200)
    inner = best_call(lambda: core.encode("one short sentence", None, -1, False, None), 200)
    seconds = -engine.memory_report()["seconds_encode"]
    for _ in range(2000):
        engine.encode("one short sentence")
    before, start = resident_bytes()[0], time.perf_counter()
    for _ in range(calls):
        engine.encode("one short sentence")
    elapsed, grown = time.perf_counter() - start, resident_bytes()[0] - before
    print(json.dumps({
        "what": "call", "model": pathlib.Path(model).name, "encode_us": round(whole, 2),
        "extension_us": round(inner, 2), "python_us": round(whole - inner, 2), "calls": calls,
        "mean_us": round(1e6 * elapsed / calls, 2), "grown_bytes": grown,
        "lanes_us": round(1e6 * (engine.memory_report()["seconds_encode"] + seconds) /
                          (calls + 2000), 2)}))


def main():
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default=str(ROOT / "build/models/all-MiniLM-L6-v2"))
    parser.add_argument("--texts", help="a file of abstracts, one a line")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=100000)
    parser.add_argument("--only", choices=["process", "speed", "call"])
    chosen = parser.parse_args()
    if chosen.only in (None, "process"):
        processes(chosen.model)
    if chosen.only in (None, "call"):
        overhead(str(ROOT / "tests/data/tiny-bert"), chosen.calls)
        overhead(chosen.model, chosen.calls // 100)
    if chosen.only in (None, "speed") and chosen.texts:
        speed(chosen.model, texts_of(chosen.texts), chosen.rounds, ["f32", "bf16", "int8"])


if __name__ == "__main__":
    main()
