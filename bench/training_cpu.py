#!/usr/bin/env python3
"""Training on the CPU beside sentence-transformers, in one run, a step of each in turn.

Runs after `make everything` and `make models`, with build/venv-oracle for the other. Prints a JSON
line for each requirement, and appends it to --out:
  speed    seconds of a step (forward, back, AdamW) of 64 pairs of 128 tokens, all-MiniLM-L6-v2,
           f32, no dropout, and both processes' peaks (VmHWM, read from here)
  memory   peak beside the plan of a batch of 8,192 such pairs (--row memory; a quarter hour)
  limits   peaks beside the plans of 20 random sets of limits (--row limits;
           tests/memory/train_limits.py)
The other's texts are tokenised outside its time, ours inside.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests/memory"))
import train_limits  # noqa: E402
from support import program  # noqa: E402


def cpu_name():
    """As the kernel calls it."""
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        return next((line.split(":")[1].strip() for line in info if line.startswith("model name")),
                    "unknown")


def write_pairs(path, model, count, tokens):
    """Pairs of texts of so many tokens, special ones among them, all different."""
    draw = random.Random(count)
    vocabulary = json.loads((model / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    words = sorted(w for w in vocabulary if w.isascii() and w.isalpha() and w.islower())
    with open(path, "w", encoding="utf-8") as out:
        for _ in range(count):
            out.write("\t".join(" ".join(draw.choices(words, k=tokens - 2)) for _ in range(2)))
            out.write("\n")


class Child:
    """A process that does a step for each line that it is sent."""

    def __init__(self, command, **more):
        self.process = subprocess.Popen([str(c) for c in command], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)

    def step(self):
        """What it says of one step, with the CPU seconds that the process took for it."""
        before = self.cpu_seconds()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said = json.loads(self.process.stdout.readline())
        return {**said, "cpu_seconds": round(self.cpu_seconds() - before, 2)}

    def cpu_seconds(self):
        """Of all its threads so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_bytes(self):
        """VmHWM of the living process."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) << 10 for line in status
                        if line.startswith("VmHWM"))

    def end(self):
        """Ends it where it waits for a line that does not come."""
        self.process.terminate()
        self.process.communicate()


def say(options, row, required, passed, **measured):
    """One line of the results."""
    line = json.dumps({"bench": "training_cpu", "row": row, "date": str(datetime.date.today()),
                       "cpu": cpu_name(), "threads": options.threads, "required": required,
                       "passed": bool(passed), **measured})
    print(line, flush=True)
    if options.out:
        with open(options.out, "a", encoding="utf-8") as out:
            out.write(line + "\n")


def speed(options, folder):
    """Both take a step in turn; the first of each warms up."""
    table, pairs, tokens = folder / "pairs.tsv", 64, 128
    write_pairs(table, options.model, pairs * 4, tokens)
    ours = Child([options.build / "tests/steps", options.model, table, "ranking", pairs,
                  options.steps + 2, "2e-5", 0, 0, tokens],
                 env={**os.environ, "STEPS_WAIT": "1", "STEPS_THREADS": str(options.threads)})
    theirs = Child([options.python, ROOT / "bench/peers/training.py", options.model, table, pairs,
                    options.threads, options.steps + 2], stderr=subprocess.DEVNULL)
    said = {"embound": [], "sentence_transformers": []}
    for number in range(options.steps + 1):
        for name, child in [("embound", ours), ("sentence_transformers", theirs)]:
            step = child.step()
            if number:
                said[name].append(step)
    peaks = {name: child.peak_bytes() for name, child in
             [("embound", ours), ("sentence_transformers", theirs)]}
    ours.end()
    theirs.end()

    def ratio(key, of):
        return round(of(s[key] for s in said["sentence_transformers"]) /
                     of(s[key] for s in said["embound"]), 3)

    best, share = ratio("seconds", min), peaks["embound"] / peaks["sentence_transformers"]
    say(options, "speed", "1.5 x as fast at most 1/4 of the memory", best >= 1.5 and share <= 0.25,
        times_as_fast_best=best, times_as_fast_median=ratio("seconds", statistics.median),
        times_as_fast_cpu_seconds=ratio("cpu_seconds", min), share_of_peak=round(share, 4),
        peak_bytes=peaks, load=os.getloadavg()[0],
        tokens_per_second_best={n: round(2 * pairs * tokens / min(x["seconds"] for x in s))
                                for n, s in said.items()},
        seconds={n: [round(x["seconds"], 3) for x in s] for n, s in said.items()},
        cpu_seconds={n: [x["cpu_seconds"] for x in s] for n, s in said.items()},
        losses={n: [round(x["loss"], 4) for x in s] for n, s in said.items()})


def memory(options, folder):
    """One step of a large batch by the program itself."""
    table, pairs, tokens = folder / "pairs.tsv", 8192, 128
    write_pairs(table, options.model, pairs, tokens)
    done, peak, _ = program.run_with_peak(
        "train", options.model, "-i", table, "--no-header", "-o", folder / "out", "--batch-size",
        pairs, "--max-length", tokens, "--no-duplicates", "--steps", 1, "-t", options.threads,
        "--json", "-m", options.budget, timeout=3 * 3600)
    said = json.loads(done.stdout)
    planned, texts = said["host_bytes_planned"], said["examples_bytes"]
    say(options, "memory", "at most 1.2 GiB, the plan above the peak by at most 2 %",
        peak <= planned <= 1.2 * (1 << 30) and planned - peak <= 0.02 * planned,
        budget=options.budget, planned_bytes=planned, peak_bytes=peak, examples_bytes=texts,
        seconds=said["seconds"], tokens_per_second=said["tokens_per_second"],
        tokens_per_tile=said["tokens_per_tile"], tiles=said["tiles"],
        tiles_kept=said["tiles_kept"], attention_kept=said["attention_kept"],
        ffn_kept=said["ffn_kept"])


def limits(options, folder):
    """Twenty sets of limits."""
    tally, sets = train_limits.try_all(20, options.seed, [options.model], folder)
    sets = [one for one in sets if one]
    kept = [one["kept"] for one in sets]
    below = [(one["planned_bytes"] - one["peak_bytes"]) / one["planned_bytes"] for one in sets]
    say(options, "limits", "never above the plan, below by at most 2 % + 4 MiB",
        len(sets) == 20 and not tally.failed, seed=options.seed, sets=len(sets),
        kept={one: kept.count(one) for one in sorted(set(kept))},
        share_below_most=round(max(below), 5), share_below_least=round(min(below), 5),
        planned_bytes=[one["planned_bytes"] for one in sets],
        peak_bytes=[one["peak_bytes"] for one in sets])


def main():
    """As the head says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--row", choices=["speed", "memory", "limits"], default="speed")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--model", type=pathlib.Path,
                        default=ROOT / "build/models/all-MiniLM-L6-v2")
    parser.add_argument("--python", default=ROOT / "build/venv-oracle/bin/python")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--budget", default="auto", help="of the row memory")
    parser.add_argument("--seed", type=int, default=1, help="of the row limits")
    parser.add_argument("--out", help="file of JSON lines that the result is added to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {"speed": speed, "memory": memory, "limits": limits}
        rows[options.row](options, pathlib.Path(folder))


if __name__ == "__main__":
    main()
