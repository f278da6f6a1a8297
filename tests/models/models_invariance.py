#!/usr/bin/env python3
"""The same bits for a text alone, in any order, under any budget and rung, on 1 or 2 threads: every
run of the same texts gives the same rows, for each model and dtype.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import random
import tempfile

import real
from support import program


def rows_of(path):
    """The rows of a two-dimensional f32 .npy file, as bytes."""
    data = pathlib.Path(path).read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:start].decode()
    count, dim = (int(n) for n in header.split("'shape': (")[1].split(")")[0].split(","))
    return [data[start + row * dim * 4:start + (row + 1) * dim * 4] for row in range(count)]


def budgets(folder, dtype):
    """Budgets that give every rung which this model has: least, knee and between."""
    found = {}
    base = ["plan", folder, "--dtype", dtype, "--json"]
    plan = json.loads(program.run(*base).stdout)
    found[plan["rung_name"]] = None
    low, high = plan["host_bytes_min"] + program.MIB, plan["host_bytes_knee"]
    sizes = [low + (high - low) * step // 20 for step in range(20)]
    sizes += [high - (1 << shift) for shift in range(14, 23)]  # fewer tokens: just below the knee
    for size in sizes:
        done = program.run(*base, "--memory", size)
        if done.returncode == 0:
            found.setdefault(json.loads(done.stdout)["rung_name"], size)
    return found


def check(tally, name, folder, dtype, texts, scratch):
    """One model and dtype."""
    def rows(tag, some, *options):
        source, output = scratch / f"{tag}.jsonl", scratch / f"{tag}.npy"
        real.write_jsonl(source, some)
        done, stats = real.encode(folder, source, output, "--dtype", dtype, *options)
        if not tally.expect(done.returncode == 0, f"{name} {dtype} {tag}: {done.stderr}"):
            return [b""] * len(some)
        tally.expect(stats["rows_computed"] == stats["tokens"], f"{name} {dtype} {tag}: padding")
        return rows_of(output)

    wanted = rows("all", texts, "--threads", 2)
    variants = {"one thread": ["--threads", 1]}
    for rung, size in budgets(folder, dtype).items():
        if size:
            variants[f"{rung}, {size >> 20} MiB"] = ["--memory", size]
            variants[f"{rung}, {size >> 20} MiB, one thread"] = ["--memory", size, "--threads", 1]
    for tag, options in variants.items():
        same = rows("variant", texts, *options) == wanted
        tally.expect(same, f"{name} {dtype} {tag}: other bits")
    order = list(range(len(texts)))
    random.Random(3).shuffle(order)
    shuffled = rows("shuffled", [texts[n] for n in order])
    tally.expect(shuffled == [wanted[n] for n in order], f"{name} {dtype} shuffled: other bits")
    for number in range(0, len(texts), 5):
        tally.expect(rows("alone", [texts[number]]) == [wanted[number]],
                     f"{name} {dtype}: text {number} alone has other bits")
    print(f"{name} {dtype}: {len(texts)} texts, {', '.join(variants)}", flush=True)


def main():
    """L6 and mpnet in both dtypes."""
    tally = program.Tally()
    if real.have(tally, real.DATA / "texts" / "abstracts.txt", real.DATA / "naughty" / "blns.json"):
        with tempfile.TemporaryDirectory(prefix="embound-bits-") as scratch:
            for name, folder in real.models(tally, (real.L6, real.MPNET)):
                texts = real.mixed_texts(40 if name == real.L6 else 16, 600, seed=8)
                for dtype in ("f32", "bf16"):
                    check(tally, name, folder, dtype, texts, pathlib.Path(scratch))
    tally.end()


if __name__ == "__main__":
    main()
