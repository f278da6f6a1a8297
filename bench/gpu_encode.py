#!/usr/bin/env python3
"""Text file to .npy on a GPU, beside sentence-transformers in the same run; JSON lines.

Needs a GPU, build/embound with build/libembound_cuda.so, a model directory, text files, and
sentence-transformers with torch for the peer (left out if absent). Every engine gets the same
texts; the peer its best batch size. Also compares vectors with the CPU's f32, bits across budgets,
and the plan with NVML's and the kernel's peaks.

usage: bench/gpu_encode.py MODEL NAME=TEXTS[:MAX_TOKENS]... [--mixed TEXTS] [--repeat N]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = pathlib.Path(os.environ.get("EMB_BUILD", ROOT / "build")) / "embound"
BATCHES = (64, 256, 1024)
MIB = 1 << 20


def emit(**line):
    """Prints one JSON line."""
    print(json.dumps(line), flush=True)


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
            numbers = [int(n) for n in shown.split() if n.isdigit()]
            self.peak_mib = max([self.peak_mib, *numbers])

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def encode(model, texts, out, *options):
    """Runs embound; gives exit status, statistics (or the message) and seconds of the process."""
    with tempfile.NamedTemporaryFile(suffix=".json") as stats:
        command = [str(PROGRAM), "encode", str(model), "-i", str(texts), "-o", str(out), "--stats",
                   stats.name, "--quiet", *map(str, options)]
        began = time.monotonic()
        done = subprocess.run(command, text=True, capture_output=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode:
            return done.returncode, done.stderr.strip(), seconds
        return 0, json.loads(pathlib.Path(stats.name).read_text()), seconds


def plan(model, *options):
    """The plan as a dict."""
    done = subprocess.run([str(PROGRAM), "plan", str(model), "--json", *map(str, options)],
                          text=True, capture_output=True, check=False)
    return json.loads(done.stdout)


def throughput(model, name, texts, tokens, repeat, folder):
    """Best of several runs; device peak of one."""
    limits = ("--device", "cuda", "--long", "truncate", "--max-length", tokens)
    best = {}
    for dtype in ("f16", "bf16"):
        out = folder / "speed.npy"
        runs = [encode(model, texts, out, *limits, "--dtype", dtype) for _ in range(repeat)]
        if any(code for code, _, _ in runs):
            emit(bench="gpu_encode", texts=name, dtype=dtype, failed=runs[0][1])
            continue
        with DevicePeak() as peak:
            encode(model, texts, out, *limits, "--dtype", dtype)
        stats = max((s for _, s, _ in runs), key=lambda s: s["tokens_per_second"])
        asked = plan(model, *limits, "--dtype", dtype)
        best[dtype] = stats
        emit(bench="gpu_encode", engine="embound", texts=name, dtype=dtype, count=stats["texts"],
             tokens=stats["tokens"], seconds=stats["seconds"],
             tokens_per_second=round(stats["tokens_per_second"]),
             texts_per_second=round(stats["texts_per_second"]),
             seconds_of_the_process=round(min(s for _, _, s in runs), 3),
             seconds_tokenize=stats["seconds_tokenize"],
             device_mib_planned=round(asked["device_bytes"] / MIB, 1),
             device_mib_nvml=peak.peak_mib,
             host_mib_planned=round(stats["host_bytes_planned"] / MIB, 1),
             host_mib_peak=round(stats["host_bytes_peak"] / MIB, 1))
    return best


def peer(model, name, texts, tokens, best, repeat):
    """sentence-transformers in f16 at its best batch size, on at most 20,000 of the texts."""
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError:
        emit(bench="gpu_encode", engine="sentence-transformers", skipped="not installed")
        return
    network = SentenceTransformer(str(model), device="cuda").half()
    network.max_seq_length = tokens
    lines = pathlib.Path(texts).read_text(encoding="utf-8").split("\n")[:20000]
    ids = network.tokenizer(lines[:4000], truncation=True, max_length=tokens)["input_ids"]
    mean_tokens = sum(map(len, ids)) / len(ids)
    fastest, batch_of = 0.0, 0
    for batch in BATCHES:
        network.encode(lines[:512], batch_size=batch, show_progress_bar=False)
        for _ in range(repeat):
            began = time.monotonic()
            network.encode(lines, batch_size=batch, show_progress_bar=False)
            speed = len(lines) / (time.monotonic() - began)
            if speed > fastest:
                fastest, batch_of = speed, batch
    ours = max((s["texts_per_second"] for s in best.values()), default=0)
    emit(bench="gpu_encode", engine="sentence-transformers", texts=name, dtype="f16",
         batch=batch_of, texts_per_second=round(fastest),
         tokens_per_second=round(fastest * mean_tokens),
         device_mib_torch=round(torch.cuda.max_memory_reserved() / MIB),
         embound_is_faster=round(ours / fastest, 2))


def cosines(a, b):
    """Of rows."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def correctness(model, texts, folder):
    """Cosines to the CPU's f32, bits across budgets and lanes, plans against peaks."""
    reference = folder / "cpu.npy"
    code, message, _ = encode(model, texts, reference, "--device", "cpu", "--dtype", "f32")
    if code:
        emit(check="cosine", failed=message)
        return
    expected = np.load(reference)
    for dtype in ("f32", "f16", "bf16"):
        out = folder / f"{dtype}.npy"
        code, message, _ = encode(model, texts, out, "--device", "cuda", "--dtype", dtype)
        if code:
            emit(check="cosine", dtype=dtype, failed=message)
            continue
        near = cosines(expected, np.load(out))
        emit(check="cosine to the CPU in f32", dtype=dtype, texts=len(near),
             minimum=float(near.min()), mean=float(near.mean()))
    bits = np.load(folder / "f16.npy").view(np.uint32)
    asked = plan(model, "--device", "cuda")
    low, high = asked["device_bytes_min"], asked["device_bytes_knee"]
    for share in (0, 0.1, 0.5, 1):
        for threads in (1, 3):
            budget = int(low + share * (high - low))
            options = ("--device", "cuda", "--gpu-memory", budget, "--threads", threads)
            with DevicePeak() as peak:
                code, stats, _ = encode(model, texts, folder / "bits.npy", *options)
            same = code == 0 and bool((np.load(folder / "bits.npy").view(np.uint32) == bits).all())
            emit(check="same bits, inside the budget", threads=threads,
                 rung=stats["rung"] if code == 0 else None, same=same,
                 gpu_mib_budget=round(budget / MIB, 1), gpu_mib_nvml=peak.peak_mib,
                 host_mib_over=None if code else round(
                     (stats["host_bytes_peak"] - stats["host_bytes_planned"]) / MIB, 2),
                 failed=stats if code else None)


def main():
    """See the head of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--mixed")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.mixed:
            correctness(options.model, options.mixed, folder)
        for item in options.texts:
            label, rest = item.split("=", 1)
            path, _, tokens = rest.partition(":")
            tokens = int(tokens or 256)
            best = throughput(options.model, label, path, tokens, options.repeat, folder)
            peer(options.model, label, path, tokens, best or {}, options.repeat)


if __name__ == "__main__":
    main()
