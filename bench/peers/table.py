#!/usr/bin/env python3
"""One table of embound and the other engines on a CPU: latency, throughput, peak memory.

    bench/cpu_peers.sh [--model NAME] [--rounds N] [--only WORDS] [--texts N]

Columns: one query of 16 tokens from its string, alone in its turn, on one thread; the same from
ids, ten times in a row; one text of 128 tokens and 32 of them, from ids; then real texts of 4 to
250 tokens on two threads, from strings, sorted by length (each engine at the best of a few batch
sizes, with two threads or as two engines of one) and as they come in batches of 32. All engines
take turns in each round; the best sample counts. Peak is the VmHWM of the process that did the
sorted texts, as another process reads it. Appends a JSON line for each engine, column, and way to
use threads and batches to bench/results/cpu_peers.jsonl.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import compare  # noqa: E402
import engines  # noqa: E402
import real  # noqa: E402

ROOT = compare.ROOT
RESULTS = ROOT / "bench" / "results" / "cpu_peers.jsonl"
VENV = ROOT / "build" / "venv-peers"
OURS = ("embound f32", "embound bf16", "embound int8", "embound int4")
BATCHES = (4, 16)
DEFAULT_BATCH = 32
QUERY_ROUNDS = 10  # times as many, because a round is one query
QUERY = "how do i renew a library card that has expired over the summer holidays"
QUERY_TOKENS = 16  # in BERT's vocabulary
LANES = ("onnxruntime", "OpenVINO")
COLUMNS = {"query": ("text:" + QUERY, 1, 1, "ms"),
           "1x16": ("1x16", 1, 10, "ms"), "1x128": ("1x128", 1, 5, "ms"),
           "32x128": ("32x128", 1, 1, "ms"), "sorted": ("texts.jsonl", 2, 1, "tok/s"),
           "unsorted": ("texts.jsonl:unsorted", 2, 1, "tok/s")}


class Peer:
    """A running engine.py; None in `why` once it is ready."""

    def __init__(self, name, folder, work, threads, batch, scratch):
        self.name, self.samples, self.peak, self.why = name, [], None, None
        self.batch, self.lanes = batch, threads if str(work).endswith(":lanes") else 1
        self.log = scratch / "engine.log"
        environment = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1",
                           TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1",
                           EMB_CALIBRATION=str(scratch / "calibration.txt"))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(VENV / "bin" / "python"), str(ROOT / "bench" / "peers" / "engine.py"), name,
                 str(folder), str(work), str(threads), str(batch)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment)

    def answer(self, key):
        """The next line that has this key, past whatever a library prints."""
        for line in self.process.stdout:
            if line.startswith("{") and key in line:
                return json.loads(line)
        lines = self.log.read_text(errors="replace").strip().split("\n")
        self.why = lines[-1][:200] or "ended early"
        return None

    def wait_ready(self):
        """Whether it can work."""
        return self.answer("ready") is not None

    def ask(self, repeats):
        """One round."""
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        self.samples += (self.answer("seconds") or {"seconds": []})["seconds"]

    def close(self):
        """Reads its peak from outside, and ends it."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status")
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
        self.peak = int(found[1]) * 1024 if found else None
        self.process.stdin.close()
        self.process.wait()


class Ours(compare.Worker):
    """bench/latency.c, which takes as many texts together as it is told."""

    batch = why = None

    def __init__(self, name, folder, work, threads, program):
        super().__init__(name, [program, folder, work, name.split()[1], threads],
                         compare.read_latency)


def absent():
    """Engines that are not installed, with the reason."""
    missing = {}
    for name, packages in engines.PACKAGES.items():
        for package in packages:
            reason = VENV / "absent" / package
            if reason.exists():
                missing[name] = f"{package}: {reason.read_text().strip() or 'not installed'}"
    return missing


def ways(name, column):
    """Batch sizes and ways to use the threads that a peer tries."""
    if column != "sorted":
        return [(DEFAULT_BATCH, "")]
    hows = ("", ":lanes") if name.startswith(LANES) else ("",)
    return [(batch, how) for how in hows for batch in BATCHES]


def start(names, column, model, folder, scratch, missing):
    """A worker for each name that can work, several where batch sizes are tried."""
    work, threads, _, unit = COLUMNS[column]
    workers = []
    for name in names:
        if name.startswith("embound"):
            if unit == "ms":
                workers.append(Ours(name, folder, work, threads, scratch / "latency"))
            else:
                workers.append(compare.Command(name, folder, scratch / "texts.jsonl",
                                               name.split()[1], threads, scratch))
            continue
        for batch, how in ways(name, column) if name not in missing else ():
            place = str(scratch / work) + how if ".jsonl" in work else work
            peer = Peer(name, folder, place, threads, batch, scratch)
            if peer.wait_ready():
                workers.append(peer)
            else:
                missing[name] = f"{model}: {peer.why}"
                peer.close()
                break
    return workers


def measure(names, column, model, folder, scratch, rounds, missing):
    """Interleaved rounds; records every worker and gives the best one a name."""
    workers = start(names, column, model, folder, scratch, missing)
    for _ in range(rounds * (QUERY_ROUNDS if column == "query" else 1)):
        for worker in workers:
            worker.ask(COLUMNS[column][2])
    best = {}
    for worker in workers:
        worker.close()
    record(column, model, tokens_of(column, workers), workers)
    for worker in workers:
        if worker.samples and (worker.name not in best or
                               min(worker.samples) < min(best[worker.name].samples)):
            best[worker.name] = worker
    return best


def tokens_of(column, workers):
    """Tokens that the work has; of texts, as our own engine counts them."""
    work = COLUMNS[column][0]
    if column == "query":
        return QUERY_TOKENS
    if ".jsonl" not in work:
        texts, tokens = map(int, work.split("x"))
        return texts * tokens
    counted = [w.stats["tokens"] for w in workers if getattr(w, "stats", None)]
    return counted[0] if counted else 0


def record(column, model, tokens, workers):
    """Appends a line a worker."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                            capture_output=True, check=False).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                if line.startswith("model name")), "unknown")
    with open(RESULTS, "a", encoding="utf-8") as file:
        for worker in workers:
            if not worker.samples:
                continue
            best = min(worker.samples)
            line = {"bench": "cpu_peers", "date": datetime.date.today().isoformat(),
                    "commit": commit, "cpu": cpu, "model": model, "engine": worker.name,
                    "column": column, "threads": COLUMNS[column][1],
                    "lanes": getattr(worker, "lanes", 1),
                    "batch": getattr(worker, "batch", None), "tokens": tokens,
                    "seconds_best": round(best, 6), "tokens_per_second": round(tokens / best),
                    "peak_bytes": worker.peak,
                    "samples": [round(sample, 6) for sample in worker.samples]}
            file.write(json.dumps(line) + "\n")


def print_table(model, names, results, missing, texts):
    """All columns side by side."""
    print(f"\n{model}: best of interleaved rounds; ms on one thread, tokens/s on two\n")
    print(f"{'engine':28}{'query ms':>9}{'1x16 ms':>9}{'1x128 ms':>10}{'32x128 ms':>11}"
          f"{'sorted':>9}{'texts/s':>9}{'unsorted':>10}{'peak MB':>9}")
    for name in names:
        if name in missing:
            print(f"{name:28} absent: {missing[name]}")
            continue
        cells = []
        for column, (_, _, _, unit) in COLUMNS.items():
            tokens, workers = results.get(column, (0, {}))
            worker = workers.get(name)
            if not worker:
                cells.append("-")
            elif unit == "ms":
                cells.append(f"{min(worker.samples) * 1e3:.2f}")
            else:
                cells.append(f"{tokens / min(worker.samples):.0f}")
        worker = results.get("sorted", (0, {}))[1].get(name)
        rate = f"{texts / min(worker.samples):.0f}" if worker else "-"
        peak = f"{worker.peak / 1e6:.0f}" if worker and worker.peak else "-"
        print(f"{name:28}{cells[0]:>9}{cells[1]:>9}{cells[2]:>10}{cells[3]:>11}{cells[4]:>9}"
              f"{rate:>9}{cells[5]:>10}{peak:>9}")


def supported(folder):
    """Our dtypes that this build can run."""
    return [name for name in OURS
            if compare.program.run("plan", folder, "--dtype", name.split()[1]).returncode == 0]


def prepare(scratch, texts):
    """The works' files and our program."""
    real.write_jsonl(scratch / "texts.jsonl", compare.ragged_texts(texts))
    calibration = compare.ragged_texts(2 * texts)[texts:]
    (scratch / "calibration.txt").write_text("\n".join(calibration), encoding="utf-8")
    os.replace(compare.build_latency(scratch), scratch / "latency")


def make_graph(model, folder):
    """onnxruntime's graph, for architectures that have one."""
    path = engines.MADE / f"{model}.onnx"
    if not (ROOT / path).exists() and (folder / "config.json").read_text().find('"bert"') > 0:
        subprocess.run([sys.executable, ROOT / "bench" / "peers" / "make_onnx.py", folder, path],
                       check=True, cwd=ROOT)


def main():
    """All columns, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=real.L6)
    parser.add_argument("--only", default="",
                        help="peers whose names hold one of these, with commas between")
    parser.add_argument("--ours", default="", help="our dtypes, of those that run: int8 bf16")
    parser.add_argument("--columns", default=",".join(COLUMNS), help="some of " + " ".join(COLUMNS))
    parser.add_argument("--texts", type=int, default=compare.RAGGED_TEXTS)
    arguments = parser.parse_args()
    folder = real.MODELS / arguments.model
    for needed, how in ((compare.program.PROGRAM, "make"),
                        (compare.program.PEAK, "make everything"),
                        (folder / "config.json", "make models"),
                        (VENV / "bin" / "python", "bench/cpu_peers.sh")):
        if not needed.exists():
            sys.exit(f"cpu_peers: {needed} is missing ({how})")
    make_graph(arguments.model, folder)
    words = [word for word in arguments.only.split(",") if word]
    ours = arguments.ours.split()
    names = [name for name in supported(folder) if not ours or name.split()[1] in ours]
    names += [name for name in engines.ENGINES
              if not words or any(word in name for word in words)]
    missing, results = absent(), {}
    with tempfile.TemporaryDirectory(prefix="embound-peers-") as place:
        scratch = pathlib.Path(place)
        prepare(scratch, arguments.texts)
        for column in arguments.columns.split(","):
            workers = measure(names, column, arguments.model, folder, scratch, arguments.rounds,
                              missing)
            results[column] = (tokens_of(column, workers.values()), workers)
    print_table(arguments.model, names, results, missing, arguments.texts)


if __name__ == "__main__":
    main()
