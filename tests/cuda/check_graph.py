#!/usr/bin/env python3
"""Recorded against plain forwards on a real GPU: same bits over ragged texts, and one query's time.

Needs a GPU, build/embound with build/libembound_cuda.so, a model directory; cc for the latency
program. Prints JSON lines; the status is not 0 if bits differ or a run fails.

usage: tests/cuda/check_graph.py MODEL [--sanitizer] [--texts N]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import ast
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("EMB_BUILD", ROOT / "build"))
PROGRAM = BUILD / "embound"
WORDS = ("the quick brown fox jumps over a lazy dog while rivers run to the old sea and "
         "measurement of embedding vectors needs patience").split()
SANITIZER = ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9")
failed = 0


def emit(good, **line):
    """One JSON line; counts what is not good."""
    global failed
    failed += not good
    print(json.dumps({**line, "ok": bool(good)}), flush=True)


def write_texts(path, count, words_max):
    """Ragged texts, from nothing to beyond a window, in a fixed order."""
    pick = random.Random(7)
    lengths = [pick.choice((0, 1, 3, 8, 20, 60, 150, 300, words_max)) for _ in range(count)]
    path.write_text("".join(" ".join(pick.choice(WORDS) for _ in range(n)) + "\n"
                            for n in lengths), encoding="utf-8")
    return path


def encode(model, texts, folder, *options, before=()):
    """Vectors as bytes and the statistics; None and the messages if it fails."""
    out, stats = folder / "out.npy", folder / "stats.json"
    command = [*before, str(PROGRAM), "encode", str(model), "-i", str(texts), "-o", str(out),
               "--stats", str(stats), "--quiet", "--device", "cuda", *map(str, options)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        return None, f"{done.returncode}: {done.stderr[-400:]}{done.stdout[-400:]}"
    raw = out.read_bytes()
    end = 10 + int.from_bytes(raw[8:10], "little")
    ast.literal_eval(raw[10:end].decode())
    return raw[end:], json.loads(stats.read_text(encoding="utf-8"))


def same_bits(model, folder, count):
    """Each dtype: plain launches are the reference; few texts make small tiles."""
    many = write_texts(folder / "many.txt", count, 900)
    for dtype in ("f16", "bf16", "f32"):
        expected, stats = encode(model, many, folder, "--dtype", dtype, "--graphs", "off")
        emit(expected is not None and stats["graphs"] == 0, check="plain", dtype=dtype,
             failed=None if expected else stats)
        rows = many.read_text(encoding="utf-8").split("\n")[:-1]
        width = len(expected or b"") // len(rows)
        for options in (("--graphs", "on"), ("--graphs", "on", "--threads", 1),
                        ("--graphs", "on", "--max-length", 64), ("--graphs", "auto")):
            bits, stats = encode(model, many, folder, "--dtype", dtype, *options)
            reference = expected
            if "--max-length" in options:
                reference, _ = encode(model, many, folder, "--dtype", dtype, "--graphs", "off",
                                      "--max-length", 64)
            emit(bits is not None and bits == reference and stats["graphs"] > 0,
                 check="graph, same bits", dtype=dtype, options=" ".join(map(str, options)),
                 graphs=stats["graphs"] if bits else None, failed=None if bits else stats)
        for some in (1, 2, 5, 11, 40, 90):
            part = folder / "part.txt"
            part.write_text("\n".join(rows[:some]) + "\n", encoding="utf-8")
            bits, stats = encode(model, part, folder, "--dtype", dtype, "--graphs", "on")
            emit(bits is not None and expected is not None and bits == expected[:some * width],
                 check="graph, small tiles, same bits", dtype=dtype, texts=some,
                 failed=None if bits else stats)


def tuned(model, folder, count):
    """`embound tune`, then a run with what it found beside one without: same bits."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    texts = write_texts(folder / "tuned.txt", count, 400)
    for dtype in ("f16", "bf16", "f32"):
        done = subprocess.run([str(PROGRAM), "tune", str(model), "--device", "cuda", "--dtype",
                               dtype, "--json"], text=True, capture_output=True, check=False)
        emit(done.returncode == 0, check="tune", dtype=dtype,
             found=json.loads(done.stdout)["kernels"] if done.returncode == 0 else done.stderr)
        usual, stats = encode(model, texts, folder, "--dtype", dtype, "--autotune", "off")
        emit(usual is not None and stats["tuned"] == "no", check="usual kernels", dtype=dtype,
             tokens_per_second=round(stats["tokens_per_second"]) if usual else stats)
        found, stats = encode(model, texts, folder, "--dtype", dtype)
        emit(found is not None and found == usual and stats["tuned"] == "before",
             check="tuned kernels, same bits", dtype=dtype,
             tokens_per_second=round(stats["tokens_per_second"]) if found else stats)


def cublaslt(model, folder, count):
    """The library's products: recorded and plain alike, alone and in a batch alike."""
    texts = write_texts(folder / "library.txt", count, 400)
    for dtype in ("f16", "bf16", "f32"):
        plain, stats = encode(model, texts, folder, "--dtype", dtype, "--gemm", "cublaslt",
                              "--graphs", "off")
        emit(plain is not None, check="cublaslt", dtype=dtype,
             host_planned=stats["host_bytes_planned"] if plain else None,
             host_peak=stats["host_bytes_peak"] if plain else stats)
        graph, stats = encode(model, texts, folder, "--dtype", dtype, "--gemm", "cublaslt",
                              "--graphs", "on")
        emit(graph is not None and graph == plain, check="cublaslt, graph, same bits", dtype=dtype,
             tokens_per_second=round(stats["tokens_per_second"]) if graph else stats)
        small, stats = encode(model, texts, folder, "--dtype", dtype, "--gemm", "cublaslt",
                              "--max-length", 256, "--threads", 1)
        large, stats = encode(model, texts, folder, "--dtype", dtype, "--gemm", "cublaslt",
                              "--max-length", 256, "--threads", 2)
        emit(small is not None and small == large, check="cublaslt, lanes, same bits", dtype=dtype,
             failed=None if small else stats)


def latency(model, folder):
    """One query of 16 and of 128 tokens through the public interface, interleaved."""
    program = folder / "latency"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-I", ROOT / "include",
                    ROOT / "bench" / "latency.c", "-o", program, "-L", BUILD, "-lembound",
                    f"-Wl,-rpath,{BUILD}"], check=True)
    for tokens in (16, 128):
        runs = {}
        for graphs in ("off", "on"):
            runs[graphs] = subprocess.Popen(
                [program, model, str(tokens), "f16", "1", "cuda", graphs], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env={**os.environ, "EMB_CUDA_MODULE": str(BUILD / "libembound_cuda.so")})
        best = {name: [] for name in runs}
        for _ in range(5):
            for name, process in runs.items():
                process.stdin.write("200\n")
                process.stdin.flush()
                samples = sorted(map(float, process.stdout.readline().split()))
                best[name].append(samples[len(samples) // 2])
        for process in runs.values():
            process.stdin.close()
            process.wait()
        emit(True, bench="one query, text to vector", tokens=tokens, dtype="f16",
             plain_ms=min(best["off"]), graph_ms=min(best["on"]))


def main():
    """See the head of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--sanitizer", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.sanitizer:
            texts = write_texts(folder / "few.txt", 12, 200)
            bits, told = encode(options.model, texts, folder, "--graphs", "on", "--threads", 1,
                                before=SANITIZER)
            emit(bits is not None, check="memcheck of a recorded run",
                 failed=None if bits else told)
        else:
            same_bits(options.model, folder, options.texts)
            tuned(options.model, folder, options.texts)
            cublaslt(options.model, folder, options.texts // 4)
            latency(options.model, folder)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
