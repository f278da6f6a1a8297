#!/usr/bin/env python3
"""Text file to .npy on a GPU, beside sentence-transformers in the same run; JSON lines.

cosine     vectors in f32, f16, bf16 against the CPU's f32; bits and peaks across budgets (numpy)
abstracts  texts of up to 256 tokens, the peer in f16 at its best batch size
short      STS-B sentences, likewise

usage: bench/gpu_encode.py STEP... --model DIR --texts DIR [--seconds N]
SPDX-License-Identifier: Apache-2.0
"""
from gpu_common import (CHUNK, DTYPE, FAKE, Run, best_of, emit, fastest, lines_of, main, mib, peer,
                        plan, same_bytes, within, write_lines)

COSINES = {"f32": 0.99999, "f16": 0.99995, "bf16": 0.9995}
PEER_TEXTS = 20000


def beside_peer(label, options, folder, watch, clock, texts, tokens, required):
    """One text file through both engines."""
    limits = ("--device", "cuda", "--long", "truncate", "--max-length", tokens)
    ours = {}
    for dtype in (DTYPE,) if FAKE else ("f16", "bf16"):
        done = best_of(3, options.model, texts, folder / "rows.npy", (*limits, "--dtype", dtype),
                       watch, clock)
        ours[dtype] = done
        emit(bench=label, engine="embound", dtype=dtype, texts=done.stats.get("texts"),
             tokens=done.stats.get("tokens"), seconds=done.stats.get("seconds"),
             tokens_per_second=done.tokens_per_second, texts_per_second=done.texts_per_second,
             seconds_of_the_process=round(done.seconds, 3),
             seconds_tokenize=done.stats.get("seconds_tokenize"),
             device_mib_planned=mib(plan(options.model, *limits, "--dtype", dtype)
                                    .get("device_bytes")),
             device_mib_nvml=mib(done.device_peak),
             host_mib_planned=mib(done.stats.get("host_bytes_planned")),
             host_mib_peak=mib(done.host_peak), failed=done.message if done.code else None)
    lines = peer(options.model, texts, watch, clock, tokens=tokens, dtype=DTYPE,
                 batches=(64, 256, 1024), limit=options.count(PEER_TEXTS))
    for line in lines:
        emit(bench=label, **line)
    top = fastest(lines)
    if not top or ours[DTYPE].code:
        return False
    faster = ours[DTYPE].texts_per_second / top["texts_per_second"]
    emit(check=label, required=f">= {required} x", dtype=DTYPE, faster=round(faster, 2),
         peer_best=top, passed=faster >= required)
    return faster >= required


def copies(options, name, folder, many):
    """A text file several times over."""
    lines = lines_of(options.texts / name)
    return write_lines(folder / name, (lines * many)[:options.count(many * len(lines))])


def abstracts(options, folder, watch, clock):
    """Up to 256 tokens."""
    return beside_peer("abstracts", options, folder, watch, clock,
                       copies(options, "abstracts.txt", folder, 12), min(256, CHUNK), 10)


def short(options, folder, watch, clock):
    """Sentences."""
    return beside_peer("short", options, folder, watch, clock,
                       copies(options, "sts.txt", folder, 12), min(128, CHUNK), 20)


def cosine_one(dtype, options, texts, folder, watch, clock):
    """One dtype beside the CPU's vectors."""
    import numpy as np
    done = Run(options.model, texts, folder / f"{dtype}.npy",
               ("--device", "cuda", "--dtype", dtype), watch, clock)
    if done.code:
        emit(check="cosine", dtype=dtype, failed=done.message, passed=False)
        return False
    a, b = np.load(folder / "cpu.npy"), np.load(folder / f"{dtype}.npy")
    near = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    good = float(near.min()) >= COSINES[dtype]
    emit(check="cosine", dtype=dtype, texts=len(near), minimum=float(near.min()),
         mean=float(near.mean()), required=COSINES[dtype], passed=good)
    return good


def cosine(options, folder, watch, clock):
    """Against the CPU, and across budgets and lanes."""
    texts = write_lines(folder / "texts.txt",
                        lines_of(options.texts / "mixed.txt")[:options.count(2000)])
    reference = Run(options.model, texts, folder / "cpu.npy", ("--device", "cpu", "--dtype", "f32"),
                    None, clock)
    if reference.code:
        emit(check="cosine", failed=reference.message, passed=False)
        return False
    good = all([cosine_one(dtype, options, texts, folder, watch, clock)
                for dtype in ((DTYPE,) if FAKE else COSINES)])
    base = ("--device", "cuda", "--dtype", DTYPE)
    asked = plan(options.model, *base)
    low, high = asked["device_bytes_min"], asked["device_bytes_knee"]
    for share in (0, 0.1, 0.5, 1):
        for threads in (1, 3):
            budget = int(low + share * (high - low))
            done = Run(options.model, texts, folder / "bits.npy",
                       (*base, "--gpu-memory", budget, "--threads", threads), watch, clock)
            same = done.code == 0 and same_bytes(folder / "bits.npy", folder / f"{DTYPE}.npy")
            host = within(done.stats.get("host_bytes_planned", 0), done.host_peak)
            holds = same and done.device_peak <= budget and host[0]
            good &= holds
            emit(check="same bits, inside the budget", threads=threads, same=same,
                 rung=done.stats.get("rung"), gpu_mib_budget=mib(budget),
                 gpu_mib_nvml=mib(done.device_peak), host_below=host[0], host_near=host[1],
                 failed=done.message if done.code else None, passed=holds)
    return good


if __name__ == "__main__":
    main(__doc__, {"cosine": cosine, "abstracts": abstracts, "short": short})
