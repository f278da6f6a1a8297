#!/usr/bin/env python3
"""embound beside onnxruntime and sentence-transformers: the same texts, cores and run, interleaved.

    bench/peers/compare.py [--rounds N] [--latency-only | --ragged-only] [--model NAME]

latency: one text of 128 tokens (and of 16), one thread, ids to vector. ragged: 1,024 real texts of
4 to 250 tokens, two threads, strings to vectors, peers at their best batch size and sorted by
length; with the peak memory of each process. Appends JSON lines to bench/results/peers.jsonl.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "models"), str(ROOT / "tools")]
import make_texts  # noqa: E402
import real  # noqa: E402
import reference  # noqa: E402
from support import program  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "peers.jsonl"
LATENCY_REPEATS = 20
RAGGED_TEXTS = 1024
BATCHES = {"onnxruntime": (4, 8, 16), "sentence-transformers": (8, 16, 32)}


class Worker:
    """A program that does its work N times for each N on its standard input."""

    def __init__(self, name, command, to_seconds):
        self.name, self.to_seconds, self.samples, self.peak = name, to_seconds, [], None
        self.processor = []
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        text=True, cwd=ROOT)

    def ask(self, repeats):
        """One round; keeps its samples in seconds, and processor seconds a repeat."""
        before = self.processor_seconds()
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"compare: {self.name} ended early")
        samples, peak = self.to_seconds(line)
        self.samples += samples
        self.peak = peak or self.peak
        self.processor.append((self.processor_seconds() - before) / repeats)

    def processor_seconds(self):
        """What the process has used so far, in ticks of 10 ms."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1]
        return sum(int(word) for word in fields.split()[11:13]) / os.sysconf("SC_CLK_TCK")

    def close(self):
        """Ends the program."""
        self.process.stdin.close()
        self.process.wait()


class Command:
    """The embound program, run anew each round; its own clock from open to the last row."""

    def __init__(self, name, model, source, dtype, threads, scratch):
        self.name, self.samples, self.peak, self.stats = name, [], None, None
        self.processor = []
        self.scratch = scratch
        self.command = ["encode", model, "-i", source, "-o", scratch / "rows.npy", "--dtype",
                        dtype, "--threads", threads, "--quiet", "--stats", scratch / "stats.json"]

    def ask(self, repeats):
        """One round."""
        for _ in range(repeats):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done, self.peak, _ = program.run_with_peak(*self.command)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.processor.append(after.ru_utime + after.ru_stime
                                  - before.ru_utime - before.ru_stime)
            if done.returncode:
                raise SystemExit(f"compare: embound: {done.stderr}")
            self.stats = json.loads((self.scratch / "stats.json").read_text())
            self.samples.append(self.stats["seconds"])

    def close(self):
        """Nothing runs between rounds."""


def read_latency(line):
    """Samples of bench/latency.c."""
    return [float(word) / 1e3 for word in line.split()], None


def read_peer(line):
    """Samples of peer.py."""
    answer = json.loads(line)
    return answer["seconds"], answer["peak_bytes"]


def peer(name, folder, work, threads, batch):
    """A running peer.py."""
    return Worker(f"{name} f32", [reference.oracle_python(), ROOT / "bench" / "peers" / "peer.py",
                                  name, folder, work, threads, batch], read_peer)


def build_latency(scratch):
    """Compiles bench/latency.c against the built library."""
    out = scratch / "latency"
    subprocess.run([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-I",
                    ROOT / "include", ROOT / "bench" / "latency.c", "-o", out, "-L",
                    program.BUILD, f"-Wl,-rpath,{program.BUILD}", "-lembound"], check=True)
    return out


def ragged_texts(count):
    """Runs of whole sentences, mostly short, of abstracts."""
    draw = random.Random(17)
    lines = make_texts.abstracts_file().read_text(encoding="utf-8").split("\n")[:-1]
    sentences = [s for line in lines for s in line.replace(". ", ".\n").split("\n")]
    texts = []
    while len(texts) < count:
        start = draw.randrange(len(sentences) - 8)
        length = draw.choice((1, 1, 1, 1, 1, 2, 2, 3, 5))
        text = " ".join(sentences[start:start + length])
        if 3 <= len(text.split()) <= 170:
            texts.append(text)
    return texts


def record(kind, model, facts, workers):
    """Prints and appends one line a worker."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                            capture_output=True, check=False).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                if line.startswith("model name")), "unknown")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    first, first_processor = min(workers[0].samples), min(workers[0].processor)
    with open(RESULTS, "a", encoding="utf-8") as file:
        for worker in workers:
            best, processor = min(worker.samples), min(worker.processor)
            line = {"bench": kind, "date": datetime.date.today().isoformat(), "commit": commit,
                    "cpu": cpu, "model": model, "engine": worker.name, **facts,
                    "seconds_best": round(best, 6),
                    "tokens_per_second": round(facts["tokens"] / best),
                    "processor_seconds_best": round(processor, 6),
                    "times_embound_f32": round(best / first, 3),
                    "processor_times_embound_f32": round(processor / first_processor, 3),
                    "peak_bytes": worker.peak,
                    "samples": [round(sample, 6) for sample in worker.samples]}
            stats = getattr(worker, "stats", None)
            if stats:
                line["planned_bytes"] = stats["host_bytes_planned"]
            file.write(json.dumps(line) + "\n")
            peak = f"{worker.peak / 1e6:8.1f} MB peak" if worker.peak else ""
            print(f"{kind:8} {worker.name:32} {best * 1e3:10.2f} ms "
                  f"{facts['tokens'] / best:8.0f} tokens/s {best / first:6.2f} x embound f32 "
                  f"({processor / first_processor:5.2f} x processor time) {peak}", flush=True)


def rounds(workers, count, repeats):
    """Interleaved, so that the machine's other work falls on all alike."""
    for _ in range(count):
        for worker in workers:
            worker.ask(repeats)


def latency(model, folder, count, tokens, scratch):
    """One text, one thread."""
    program_path = build_latency(scratch)
    workers = [Worker(f"embound {dtype}", [program_path, folder, tokens, dtype, 1], read_latency)
               for dtype in ("f32", "bf16")]
    workers += [peer(name, folder, tokens, 1, 1) for name in BATCHES]
    rounds(workers, count, LATENCY_REPEATS)
    for worker in workers:
        worker.close()
        worker.peak = None
    record("latency", model, {"threads": 1, "texts": 1, "tokens": tokens}, workers)


def best_batch(name, folder, source, threads):
    """The batch size at which a peer is fastest here, on some of the texts."""
    workers = {batch: peer(name, folder, source, threads, batch) for batch in BATCHES[name]}
    rounds(workers.values(), 3, 1)
    for worker in workers.values():
        worker.close()
    return min(workers, key=lambda batch: min(workers[batch].samples))


def ragged(model, folder, count, scratch):
    """Many texts, two threads."""
    source, some = scratch / "texts.jsonl", scratch / "some.jsonl"
    texts = ragged_texts(RAGGED_TEXTS)
    real.write_jsonl(source, texts)
    real.write_jsonl(some, texts[:128])
    workers = [Command(f"embound {dtype}", folder, source, dtype, 2, scratch)
               for dtype in ("f32", "bf16")]
    for name in BATCHES:
        batch = best_batch(name, folder, some, 2)
        workers.append(peer(name, folder, source, 2, batch))
        workers[-1].name += f" (batch {batch})"
    rounds(workers, count, 1)
    for worker in workers:
        worker.close()
    stats = workers[0].stats
    record("ragged", model, {"threads": 2, "texts": len(texts), "tokens": stats["tokens"]},
           workers)


def main():
    """Both benches, unless told otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=real.L6)
    parser.add_argument("--latency-only", action="store_true")
    parser.add_argument("--ragged-only", action="store_true")
    arguments = parser.parse_args()
    folder = real.MODELS / arguments.model
    onnx = ROOT / "build" / "peers" / f"{arguments.model}.onnx"
    for needed, how in ((program.PROGRAM, "make"), (program.PEAK, "make everything"),
                        (folder / "config.json", "make models"),
                        (pathlib.Path(reference.oracle_python()), "tools/oracle_env.sh")):
        if not needed.exists():
            sys.exit(f"compare: {needed} is missing ({how})")
    if not onnx.exists():
        subprocess.run([sys.executable, ROOT / "bench" / "peers" / "make_onnx.py", folder, onnx],
                       check=True)
    with tempfile.TemporaryDirectory(prefix="embound-peers-") as place:
        scratch = pathlib.Path(place)
        if not arguments.ragged_only:
            for tokens in (128, 16):
                latency(arguments.model, folder, arguments.rounds, tokens, scratch)
        if not arguments.latency_only:
            ragged(arguments.model, folder, arguments.rounds, scratch)


if __name__ == "__main__":
    main()
