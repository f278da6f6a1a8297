#!/usr/bin/env python3
"""Speed from a text file to .npy on GPUs, in the cases that bench/gpu_encode.py leaves; JSON lines.

mpnet     texts of 512 tokens, a model of mpnet's shape in f16, beside the peer at its best batch
devices   500,000 short texts on one GPU and on all: speed, same bytes
variants  graphs, autotuning and products, each on and off: same bits, speed, host peak

usage: bench/gpu_speed.py STEP... --model DIR --mpnet DIR --texts DIR [--seconds N]
SPDX-License-Identifier: Apache-2.0
"""
import hashlib

from gpu_common import (CHUNK, DTYPE, FAKE, best_of, emit, fastest, lines_of, long_texts, main, mib,
                        options_known, peer, plan, same_bytes, short_texts, within, write_lines)


def mpnet(options, folder, watch, clock):
    """3.5 times the peer's speed in an eighth of its memory."""
    texts = long_texts(options.texts / "abstracts.txt", folder / "texts.txt", options.count(12000))
    limits = ("--device", "cuda", "--dtype", DTYPE, "--max-length", CHUNK, "--long", "truncate")
    ours = best_of(3, options.mpnet, texts, folder / "rows.npy", limits, watch, clock)
    emit(bench="mpnet", engine="embound", dtype=DTYPE, texts=ours.stats.get("texts"),
         tokens=ours.stats.get("tokens"), tokens_per_second=ours.tokens_per_second,
         texts_per_second=ours.texts_per_second, device_mib_nvml=mib(ours.device_peak),
         device_mib_planned=mib(plan(options.mpnet, *limits).get("device_bytes")),
         seconds_of_the_process=round(ours.seconds, 3), failed=ours.message if ours.code else None)
    lines = peer(options.mpnet, texts, watch, clock, tokens=CHUNK, dtype=DTYPE,
                 batches=(16, 32, 64, 128, 256), limit=options.count(1536), repeat=2)
    for line in lines:
        emit(bench="mpnet", **line)
    top = fastest(lines)
    if ours.code or not top:
        return False
    eighth = int(top["device_mib_nvml"] * 2**20 / 8)
    if ours.device_peak > eighth:  # the knee is a choice, not a need
        ours = best_of(3, options.mpnet, texts, folder / "rows.npy",
                       (*limits, "--gpu-memory", eighth), watch, clock)
        emit(bench="mpnet", engine="embound", budget_mib=mib(eighth), device_mib_nvml=mib(
            ours.device_peak), tokens_per_second=ours.tokens_per_second, rung=ours.stats.get(
            "rung"), failed=ours.message if ours.code else None)
    faster = ours.texts_per_second / top["texts_per_second"]
    good = ours.code == 0 and faster >= 3.5 and 0 < ours.device_peak <= eighth
    emit(check="mpnet, 512 tokens", required=">= 3.5 x at <= 1/8 of the memory",
         faster=round(faster, 2), peer_best=top, device_mib_nvml=mib(ours.device_peak),
         eighth_mib=mib(eighth), passed=good)
    return good


def devices(options, folder, watch, clock):
    """One GPU beside all of this machine."""
    texts = short_texts(options.texts / "sts.txt", folder / "texts.txt", options.count(500000))
    report = watch.report()
    if report["devices"] < 2:
        emit(check="several GPUs", skipped=f"{report['devices']} GPU here")
        return None
    found = {}
    for name in ("cuda:0", "cuda:all"):
        limits = ("--device", name, "--dtype", DTYPE)
        done = best_of(3, options.model, texts, folder / f"{name}.npy", limits, watch, clock)
        found[name] = done
        emit(bench="devices", device=name, texts=done.stats.get("texts"),
             texts_per_second=done.texts_per_second, tokens_per_second=done.tokens_per_second,
             seconds=done.stats.get("seconds"), seconds_tokenize=done.stats.get("seconds_tokenize"),
             device_mib_used={gpu: mib(high - low) for gpu, (low, high)
                              in done.seen["used"].items()},
             host_mib_planned=mib(done.stats.get("host_bytes_planned")),
             host_mib_peak=mib(done.host_peak), failed=done.message if done.code else None)
    one, all_of = found["cuda:0"], found["cuda:all"]
    if one.code or all_of.code:
        return False
    same = same_bytes(folder / "cuda:0.npy", folder / "cuda:all.npy")
    gain = all_of.texts_per_second / one.texts_per_second
    good = same and gain >= 1.8
    emit(check="several GPUs", gpus=report["devices"], gain=round(gain, 2), required=">= 1.8 of 2",
         identical=same, passed=good)
    return good


def digest(path):
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else None


def fake_library(made):
    """Host bytes of a plan for cuBLASLt, which the fake device does not open."""
    return sum(item["bytes"] for region in made.get("regions", ()) for item in region["items"]
               if FAKE and item["name"] == "cuBLASLt on the host")


def variants(options, folder, watch, clock):
    """What must not change a bit, and what may only change with its numerics_id."""
    lines = lines_of(options.texts / "abstracts.txt")
    texts = write_lines(folder / "texts.txt", (lines_of(options.texts / "mixed.txt")
                                               + lines * 6)[:options.count(14000)])
    known = options_known("--graphs", "--autotune", "--gemm")
    sets = [()] + [(option, value) for option, values in (
        ("--graphs", ("on", "off")), ("--autotune", ("off", "full")),
        ("--gemm", ("own", "cublaslt"))) if option in known for value in values]
    if {"--graphs", "--autotune"} <= set(known):
        sets.append(("--graphs", "off", "--autotune", "off"))
    bits, good = {}, True
    for chosen in sets:
        base = ("--device", "cuda", "--dtype", DTYPE, "--long", "truncate", *chosen)
        out = folder / "rows.npy"
        done = best_of(3, options.model, texts, out, base, watch, clock)
        made = plan(options.model, *base)
        host = within(done.stats.get("host_bytes_planned", 0) - fake_library(made), done.host_peak)
        device = within(made.get("device_bytes", 0), done.device_peak)
        name, value = done.stats.get("numerics_id"), digest(out)
        if done.code == 0:
            bits.setdefault(name, set()).add(value)
        good &= done.code == 0 and all(host + device)
        emit(bench="variants", options=chosen, tokens_per_second=done.tokens_per_second,
             numerics_id=name, digest=value, host_mib_planned=mib(
                 done.stats.get("host_bytes_planned")), host_mib_peak=mib(done.host_peak),
             host_holds=all(host), device_mib_nvml=mib(done.device_peak), device_holds=all(device),
             seconds_of_the_process=round(done.seconds, 3),
             failed=done.message if done.code else None)
        out.unlink(missing_ok=True)
    same = all(len(values) == 1 for values in bits.values())
    emit(check="variants", options=known, identical_within_numerics_id=same,
         numerics_ids=len(bits), passed=good and same)
    return good and same


if __name__ == "__main__":
    main(__doc__, {"mpnet": mpnet, "devices": devices, "variants": variants})
