#!/usr/bin/env python3
"""One engine of bench/peers/engines.py in a process of its own, for bench/peers/table.py.

    engine.py NAME MODEL WORK THREADS BATCH

WORK is TEXTSxTOKENS (ids to vectors), text:WORDS (one string to its vector), or a .jsonl file of
texts (strings to vectors, by length; as they come if :unsorted stands behind; if :lanes does, on
THREADS engines with a thread each). Prints one line when it is ready; then, for each number N
read from standard input, does the work N times and prints the N times in seconds as one JSON line.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import sys
import time


def call_of(engine, work, batch):
    """The work as a call without arguments."""
    path, _, order = work.partition(":")
    if path == "text":
        return lambda: engine.encode([order], 1)
    if not path.endswith(".jsonl"):
        texts, tokens = map(int, work.split("x"))
        return engine.ids(texts, tokens)
    lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["text"] for line in lines if line]
    engine.encode(texts[:32], batch)
    return lambda: engine.encode(texts, batch, order != "unsorted")


def main():
    """Answers until standard input ends."""
    name, folder, work, threads, batch = sys.argv[1:6]
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if int(threads) > 1 else "false"
    os.environ.update(RAYON_NUM_THREADS=threads, OMP_NUM_THREADS=threads)
    from engines import ENGINES, Lanes
    if work.endswith(":lanes"):
        engine = Lanes(ENGINES[name], folder, int(threads))
    else:
        engine = ENGINES[name](folder, int(threads))
    run = call_of(engine, work, int(batch))
    run()
    print(json.dumps({"ready": name}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - began)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
