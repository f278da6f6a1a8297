#!/usr/bin/env python3
"""Memory on a GPU against the plan, as NVML and the kernel see it from outside; JSON lines.

cap      512-token texts on a card capped at 4 GB: embound, and the peer's best that fits
million  one text of a million tokens among 10,000 short ones inside 1 GB
limits   50 random limit sets: device and host peak against the plan
sweep    the smallest --gpu-memory with 95 % of the top speed
stream   a model of mpnet's shape inside 64 MiB beyond the context

usage: bench/gpu_memory.py STEP... --model DIR --mpnet DIR --bert DIR --texts DIR [--seconds N]
SPDX-License-Identifier: Apache-2.0
"""
import random

from gpu_common import (CHUNK, DTYPE, FAKE, MIB, Run, best_of, context_of, emit, fastest,
                        giant_text, lines_of, long_texts, main, mib, npy_rows, peer, plan, run,
                        same_bytes, short_texts, within, write_lines)

CAP = 40 * MIB if FAKE else 4 * 10**9
SMALL_CAP = 20 * MIB if FAKE else 10**9
BATCHES = (8, 32, 64, 128, 256)


def cap_one(label, model, folder, options, watch, clock):
    """One model inside the cap; gives whether all holds."""
    texts = long_texts(options.texts / "abstracts.txt", folder / f"{label}.txt",
                       options.count(6000))
    limits = ("--device", "cuda", "--dtype", DTYPE, "--gpu-memory", CAP, "--max-length", CHUNK,
              "--long", "truncate")
    ours = best_of(2, model, texts, folder / "rows.npy", limits, watch, clock)
    emit(bench="cap", model=label, engine="embound", dtype=DTYPE, cap_mib=mib(CAP),
         failed=ours.message if ours.code else None, texts=ours.stats.get("texts"),
         tokens=ours.stats.get("tokens"), tokens_per_second=ours.tokens_per_second,
         texts_per_second=ours.texts_per_second, device_mib_nvml=mib(ours.device_peak),
         device_mib_planned=mib(plan(model, *limits).get("device_bytes")))
    lines = []
    for dtype in ("f32",) if FAKE else ("f32", "f16"):  # f32 is the peer's default
        for line in peer(model, texts, watch, clock, tokens=CHUNK, batches=BATCHES, dtype=dtype,
                         limit=options.count(768), cap=CAP, repeat=1):
            emit(bench="cap", model=label, **line)
            lines.append(line)
    top, default = fastest(lines), fastest([n for n in lines if n.get("dtype") == "f32"])
    died = [f"{n['dtype']} batch {n['batch']}" for n in lines if n.get("failed")]
    faster = ours.texts_per_second / top["texts_per_second"] if top else None
    good = ours.code == 0 and ours.device_peak <= CAP and (faster is None or faster >= 3)
    emit(check="the mission's failure", model=label, required=">= 3 x the peer's best that fits",
         faster=faster and round(faster, 2), peer_best=top, peer_died=died,
         faster_than_default_dtype=default and round(
             ours.texts_per_second / default["texts_per_second"], 2), passed=good and bool(top))
    return good and bool(top)


def cap(options, folder, watch, clock):
    """The mission's failure, in two shapes."""
    models = [(n, m) for n, m in (("bert-base", options.bert), ("mpnet", options.mpnet)) if m]
    return all([cap_one(n, m, folder, options, watch, clock) for n, m in models])


def million(options, folder, watch, clock):
    """A giant text does not change the others' bits."""
    short = lines_of(short_texts(options.texts / "sts.txt", folder / "short.txt",
                                 options.count(10000)))
    place = len(short) // 2
    giant = giant_text(options.texts / "abstracts.txt", options.count(750000))
    both = write_lines(folder / "both.txt", short[:place] + [giant] + short[place:])
    limits = ("--device", "cuda", "--dtype", DTYPE, "--gpu-memory", SMALL_CAP)
    alone = Run(options.model, folder / "short.txt", folder / "a.npy", limits, watch, clock)
    mixed = Run(options.model, both, folder / "b.npy", limits, watch, clock)
    same = False
    if alone.code == 0 == mixed.code:
        a, b = npy_rows(folder / "a.npy"), npy_rows(folder / "b.npy")
        size = 4 * mixed.stats["dim"]
        same = a == b[:place * size] + b[(place + 1) * size:] and not mixed.stats["texts_failed"]
    tokens = mixed.stats.get("tokens", 0) - alone.stats.get("tokens", 0)
    good = same and max(alone.device_peak, mixed.device_peak) <= SMALL_CAP and \
        (tokens >= 1000000 or options.scale != 1)
    emit(check="one text of a million tokens", tokens_of_it=tokens, short_texts=len(short),
         cap_mib=mib(SMALL_CAP), device_mib_nvml=mib(mixed.device_peak), short_rows_identical=same,
         host_mib_planned=mib(mixed.stats.get("host_bytes_planned")),
         host_mib_peak=mib(mixed.host_peak), seconds=mixed.stats.get("seconds"),
         failed=[r.message for r in (alone, mixed) if r.code] or None, passed=good)
    return good


def draw_limits(draw, model, machine):
    """Options of one random limit set, and the plan for them, made without opening the GPU."""
    described = ("--machine", machine)
    dtypes = ("f32",) if FAKE else ("f32", "f16", "bf16")
    chosen = ["--device", "cuda", "--dtype", draw.choice(dtypes), "--threads", draw.randint(1, 8),
              "--max-length", draw.randint(16, CHUNK)]
    free = plan(model, *chosen, *described)
    if "device_bytes_min" not in free:
        return chosen, free
    low, knee = free["device_bytes_min"], free["device_bytes_knee"]
    if draw.random() < 0.8:
        chosen += ["--gpu-memory", int(low + draw.uniform(0, 1.2) * (knee - low))]
    if draw.random() < 0.6:
        low = plan(model, *chosen, *described)["host_bytes_min"]
        knee = free["host_bytes_knee"]
        chosen += ["--memory", int(low + draw.uniform(0, 1.2) * max(knee - low, 0))]
    return chosen, plan(model, *chosen, *described)


def limits_one(number, draw, options, texts, folder, watch, clock):
    """One set; gives whether it holds."""
    chosen, made = draw_limits(draw, options.model, folder / "machine.json")
    if not made.get("fits"):
        emit(check="limits", set=number, options=chosen, failed=made, passed=False)
        return False
    done = Run(options.model, texts, folder / "rows.npy", chosen, watch, clock)
    device = within(made["device_bytes"], done.device_peak)
    planned = done.stats.get("host_bytes_planned", 0)
    host = within(planned, done.host_peak)
    good = done.code == 0 and all(device + host)
    emit(check="limits", set=number, options=chosen[2:], rung=made["rung"], lanes=made["lanes"],
         device_planned=made["device_bytes"], device_nvml=done.device_peak, device_below=device[0],
         device_near=device[1], host_planned=planned, host_peak=done.host_peak, host_below=host[0],
         host_near=host[1], polls=done.seen["polls"], gap=done.seen["gap"],
         failed=done.message if done.code else None, passed=good)
    return good


def limits(options, folder, watch, clock):
    """Peak against plan."""
    texts = write_lines(folder / "texts.txt",
                        lines_of(options.texts / "mixed.txt")[:options.count(400)])
    run("info", "--device", "cuda", "--save-machine", folder / "machine.json", "--quiet",
        timeout=60)
    draw, verdicts, sets = random.Random(options.seed), [], options.count(50)
    while len(verdicts) < sets and not clock.over(3):
        verdicts.append(limits_one(len(verdicts), draw, options, texts, folder, watch, clock))
    emit(check="limits", sets=len(verdicts), held=sum(verdicts),
         left_out=sets - len(verdicts) or None, passed=all(verdicts) and len(verdicts) == sets)
    return all(verdicts) and len(verdicts) == sets


def sweep(options, folder, watch, clock):
    """Speed by budget, the largest first: what is fast enough is known once it has run."""
    lines = lines_of(options.texts / "abstracts.txt")
    texts = write_lines(folder / "texts.txt",
                        (lines * options.count(12, 1))[:options.count(12 * len(lines))])
    base = ("--device", "cuda", "--dtype", DTYPE, "--max-length", min(CHUNK, 256), "--long",
            "truncate")
    free = plan(options.model, *base)
    if "regions" not in free:
        emit(bench="sweep", failed=free)
        return False
    context, found = context_of(free), []
    for extra in (None, 1024, 512, 384, 256, 192, 160, 143, 128, 112, 96, 80, 64, 56, 48, 40, 32,
                  24, 16):
        budget = () if extra is None else ("--gpu-memory", context + extra * MIB)
        made = plan(options.model, *base, *budget)
        if not made.get("fits") or clock.over(2):
            emit(bench="sweep", beyond_mib=extra, left_out="time" if clock.over(2) else "too small")
            continue
        if found and made["device_bytes"] - context == found[-1][0]:
            continue  # the same plan
        done = best_of(3, options.model, texts, folder / "rows.npy", (*base, *budget), watch, clock)
        mine = made["device_bytes"] - context
        found.append((mine, done.tokens_per_second))
        emit(bench="sweep", beyond_mib=extra, planned_beyond_mb=round(mine / 1e6, 1),
             nvml_beyond_mb=round((done.device_peak - context) / 1e6, 1), rung=made["rung"],
             tokens_per_tile=made["tokens_per_tile"], lanes=made["lanes"],
             tokens_per_second=done.tokens_per_second,
             failed=done.message if done.code else None)
    top = max(speed for _, speed in found)
    enough = min(mine for mine, speed in found if speed >= 0.95 * top)
    emit(check="device memory at 95 % of the top speed", required_mb=150, beyond_mb=round(
        enough / 1e6, 1), top_tokens_per_second=top, passed=enough <= 150e6)
    return enough <= 150e6


def stream(options, folder, watch, clock):
    """Layers streamed: same bits, and at what speed."""
    texts = long_texts(options.texts / "abstracts.txt", folder / "texts.txt", options.count(4000))
    base = ("--device", "cuda", "--dtype", DTYPE, "--max-length", CHUNK, "--long", "truncate")
    free = plan(options.mpnet, *base)
    if "regions" not in free:
        emit(bench="stream", failed=free)
        return False
    budget = context_of(free) + (2 if FAKE else 64) * MIB
    if FAKE:
        budget = max(budget, free["device_bytes_min"])
    made = plan(options.mpnet, *base, "--gpu-memory", budget)
    full = Run(options.mpnet, texts, folder / "full.npy", base, watch, clock)
    done = Run(options.mpnet, texts, folder / "small.npy", (*base, "--gpu-memory", budget), watch,
               clock)
    same = full.code == 0 == done.code and same_bytes(folder / "full.npy", folder / "small.npy")
    good = same and done.device_peak <= budget
    emit(check="layers streamed", budget_mib=mib(budget), context_mib=mib(context_of(free)),
         rung=made.get("rung"), device_mib_nvml=mib(done.device_peak), identical=same,
         tokens_per_second=done.tokens_per_second, resident_tokens_per_second=
         full.tokens_per_second, host_mib_planned=mib(done.stats.get("host_bytes_planned")),
         host_mib_peak=mib(done.host_peak),
         failed=[r.message for r in (full, done) if r.code] or made.get("failed"), passed=good)
    return good


if __name__ == "__main__":
    main(__doc__, {"cap": cap, "million": million, "limits": limits, "sweep": sweep,
                   "stream": stream})
