#!/usr/bin/env python3
"""Every rung of a real GPU: same bits, inside the budget, and its share of the full speed.

Needs a GPU, build/embound with build/libembound_cuda.so, a model directory. Budgets are what is
left beyond the context. Prints JSON lines; the status is not 0 if bits differ, a budget is exceeded
or a run fails.

usage: tests/cuda/check_stream.py MODEL [--texts FILE] [--repeat N] [--sanitizer]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("EMB_BUILD", ROOT / "build"))
PROGRAM = BUILD / "embound"
WORDS = ("the quick brown fox jumps over a lazy dog while rivers run to the old sea and "
         "measurement of embedding vectors needs patience").split()
SANITIZER = ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9")
MIB = 1 << 20
BEYOND_MIB = (20, 28, 40, 48, 64, 100, 150, 200, 250, 300)
failed = 0


def emit(good, **line):
    """One JSON line; counts what is not good."""
    global failed
    failed += not good
    print(json.dumps({**line, "ok": bool(good)}), flush=True)


class DevicePeak:
    """The most device memory that any process held, as nvidia-smi sees it, while in the block."""

    def __enter__(self):
        self.peak_mib = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        """Polls until told to stop."""
        command = ["nvidia-smi", "--query-compute-apps=used_memory",
                   "--format=csv,noheader,nounits"]
        while not self.stop.is_set():
            shown = subprocess.run(command, text=True, capture_output=True, check=False).stdout
            self.peak_mib = max([self.peak_mib, *(int(n) for n in shown.split() if n.isdigit())])

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def write_texts(path, count):
    """Ragged texts in a fixed order."""
    pick = random.Random(7)
    lengths = [pick.choice((1, 3, 8, 20, 60, 120, 250, 900)) for _ in range(count)]
    path.write_text("".join(" ".join(pick.choice(WORDS) for _ in range(n)) + "\n"
                            for n in lengths), encoding="utf-8")
    return path


def plan(model, *options):
    """The plan, or None where the budget is too small."""
    done = subprocess.run([str(PROGRAM), "plan", str(model), "--device", "cuda", "--json",
                           *map(str, options)], text=True, capture_output=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def encode(model, texts, folder, *options, before=()):
    """Vectors as bytes and the statistics; None and the messages if it fails."""
    out, stats = folder / "out.npy", folder / "stats.json"
    command = [*before, str(PROGRAM), "encode", str(model), "-i", str(texts), "-o", str(out),
               "--stats", str(stats), "--quiet", "--device", "cuda", *map(str, options)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        return None, f"{done.returncode}: {done.stderr[-400:]}{done.stdout[-400:]}"
    return out.read_bytes(), json.loads(stats.read_text(encoding="utf-8"))


def budgets(model):
    """Options by name: GPU budgets, each with and without room on the host for copies."""
    full = plan(model)
    device = next(r for r in full["regions"] if r["kind"] == "device")
    context = sum(i["bytes"] for i in device["items"] if "context" in i["name"])
    yield "least", ("--gpu-memory", full["device_bytes_min"])
    for mib in BEYOND_MIB:
        yield f"{mib} MiB", ("--gpu-memory", context + mib * MIB)
    for mib in (64, 200):
        yield (f"{mib} MiB, no copies on the host",
               ("--gpu-memory", context + mib * MIB, "--memory",
                full["host_bytes_min"] + 24 * MIB))


def rungs(model, texts, folder, repeat):
    """Bits and speed beside the full plan's, run in turns; the peak that NVML tells."""
    expected, stats = encode(model, texts, folder)
    if expected is None:
        emit(False, check="full", message=stats)
        return
    for name, options in budgets(model):
        asked = plan(model, *options)
        if asked is None:
            continue
        full = ours = 0.0
        same, peak_mib, host_over = True, 0, None
        for _ in range(repeat):
            _, stats = encode(model, texts, folder)
            full = max(full, stats["tokens_per_second"])
            with DevicePeak() as peak:
                got, stats = encode(model, texts, folder, *options)
            if got is None:
                emit(False, check=name, message=stats)
                return
            same = same and got == expected
            peak_mib = max(peak_mib, peak.peak_mib)
            ours = max(ours, stats["tokens_per_second"])
            host_over = stats["host_bytes_peak"] - stats["host_bytes_planned"]
        emit(same and peak_mib * MIB <= asked["device_bytes"] and host_over <= 0, check=name,
             rung=asked["rung_name"], lanes=asked["lanes"], slots=asked["weight_slots"],
             tokens_per_tile=asked["tokens_per_tile"], tokens_per_pass=asked["tokens_per_pass"],
             same_bits=same, tokens_per_second=round(ours), of_full_speed=round(ours / full, 3),
             gpu_mib_planned=round(asked["device_bytes"] / MIB, 1), gpu_mib_nvml=peak_mib,
             host_mib_over=round(host_over / MIB, 2))


def sanitized(model, folder):
    """Few texts under memcheck on each kind of rung."""
    texts = write_texts(folder / "few.txt", 60)
    for name, options in budgets(model):
        got, message = encode(model, texts, folder, *options, before=SANITIZER)
        if got is None and message.startswith("78"):
            continue
        emit(got is not None, check=f"memcheck, {name}",
             message=message if got is None else message["rung_name"])


def main():
    """See the head of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--texts")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sanitizer", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.sanitizer:
            sanitized(options.model, folder)
        else:
            texts = options.texts or write_texts(folder / "texts.txt", 20000)
            rungs(options.model, texts, folder, options.repeat)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
