#!/usr/bin/env python3
"""int8, int4 and fp8 on a GPU beside f16 in the same run; JSON lines.

quality  cosine to f32 over real texts, the same bits across budgets, lanes and a stored directory
memory   the smallest budgets that run, with layers on the card and with layers streamed
speed    tokens/s with resident weights, dtypes in turns

usage: bench/gpu_quantized.py STEP... --model DIR --mpnet DIR --texts DIR [--seconds N]
SPDX-License-Identifier: Apache-2.0
"""
import array
import math

from gpu_common import (CHUNK, FAKE, Run, context_of, emit, lines_of, long_texts, main, mib,
                        npy_rows, plan, run, same_bytes, write_lines)

NARROW = ("int8", "fp8", "int4")
DTYPES = ("f16", *NARROW)
# mean over real texts, required; measured on an H200: fp8 0.9973, int4 0.9652 (as on a CPU there)
COSINES = {"f16": 0.9999, "int8": 0.997, "fp8": 0.997, "int4": 0.97}
RATIOS = {"int8": 0.6, "fp8": 0.6, "int4": 0.4}  # of f16's bytes beyond the context
FASTER = {"L6": 1.0, "mpnet": 1.15}  # int8's or fp8's tokens/s against f16's


def models_of(options):
    """Name and directory of those that were given."""
    return [(name, model) for name, model in (("L6", options.model), ("mpnet", options.mpnet))
            if model]


def fits(dtype, message):
    """False where the planner says that card or model lack the dtype."""
    if "multiple of" in message or "fp8 needs" in message:
        emit(dtype=dtype, skipped=message)
        return False
    return True


def cosines(a, b, dim):
    """Of each pair of rows of two .npy files."""
    one, two = (array.array("f", npy_rows(path)) for path in (a, b))
    found = []
    for at in range(0, len(one), dim):
        x, y = one[at:at + dim], two[at:at + dim]
        found.append(sum(map(float.__mul__, x, y)) / math.sqrt(
            sum(map(float.__mul__, x, x)) * sum(map(float.__mul__, y, y))))
    return found


# ---- quality -----------------------------------------------------------------------------------

def bits_of(dtype, options, texts, folder, watch, clock):
    """Budgets from the smallest on, one lane and two; then a directory stored in the dtype."""
    base = ("--device", "cuda", "--dtype", dtype)
    made = plan(options.model, *base)
    low, high = made["device_bytes_min"], made["device_bytes_knee"]
    good, rungs = True, []
    for share, threads in ((0, 1), (0.05, 2), (0.15, 2), (0.5, 1)):
        budget = int(low + share * (high - low))
        done = Run(options.model, texts, folder / "bits.npy",
                   (*base, "--gpu-memory", budget, "--threads", threads), watch, clock)
        same = done.code == 0 and same_bytes(folder / "bits.npy", folder / f"{dtype}.npy")
        holds = same and done.device_peak <= budget
        rungs.append(done.stats.get("rung"))
        if not holds:
            emit(check="same bits, inside the budget", dtype=dtype, budget_mib=mib(budget),
                 threads=threads, rung=rungs[-1], same=same, nvml_mib=mib(done.device_peak),
                 failed=done.message if done.code else None, passed=False)
        good &= holds
    stored = folder / f"stored-{dtype}"
    if dtype != "f16" and run("quantize", options.model, "-o", stored, "--dtype", dtype, "--quiet",
                              timeout=clock.left()).returncode == 0:
        done = Run(stored, texts, folder / "bits.npy", ("--device", "cuda"), watch, clock)
        good &= done.code == 0 and same_bytes(folder / "bits.npy", folder / f"{dtype}.npy")
    emit(check="same bits across budgets, lanes and stored", dtype=dtype, rungs=rungs, passed=good)
    return good


def quality_one(dtype, options, texts, folder, watch, clock):
    """One dtype; gives whether all holds."""
    done = Run(options.model, texts, folder / f"{dtype}.npy",
               ("--device", "cuda", "--dtype", dtype), watch, clock)
    if done.code:
        emit(check="cosine", dtype=dtype, failed=done.message, passed=False)
        return not fits(dtype, done.message)
    near = cosines(folder / "f32.npy", folder / f"{dtype}.npy", done.stats["dim"])
    mean = sum(near) / len(near)
    emit(check="cosine", dtype=dtype, texts=len(near), mean=round(mean, 6),
         minimum=round(min(near), 6), required=COSINES[dtype],
         numerics_id=done.stats.get("numerics_id"), passed=mean >= COSINES[dtype])
    return bits_of(dtype, options, texts, folder, watch, clock) and mean >= COSINES[dtype]


def quality(options, folder, watch, clock):
    """Of the real weights."""
    texts = write_lines(folder / "texts.txt",
                        lines_of(options.texts / "mixed.txt")[:options.count(2000)])
    wide = Run(options.model, texts, folder / "f32.npy", ("--device", "cuda", "--dtype", "f32"),
               watch, clock)
    if wide.code:
        emit(check="cosine", failed=wide.message, passed=False)
        return False
    return all([quality_one(dtype, options, texts, folder, watch, clock) for dtype in DTYPES])


# ---- memory ------------------------------------------------------------------------------------

def smallest(name, model, dtype, form, texts, folder, watch, clock):
    """Planned and seen bytes beyond the context of the smallest plan; None if it does not run."""
    base = ("--device", "cuda", "--dtype", dtype, *form)
    free = plan(model, *base)
    if "regions" not in free:
        emit(bench="memory", model=name, dtype=dtype, failed=free["failed"])
        return None
    budget = free["device_bytes_min"]
    made = plan(model, *base, "--gpu-memory", budget)
    done = Run(model, texts, folder / "rows.npy", (*base, "--gpu-memory", budget), watch, clock)
    growth = [i["bytes"] for r in made["regions"] for i in r["items"]
              if i["name"] == "context growth"]
    context = context_of(made)
    planned = made["device_bytes"] - context - sum(growth)
    seen = max(0, done.device_peak - context)
    emit(bench="memory", model=name, dtype=dtype, form=form or ("any",), rung=made["rung"],
         budget_mib=mib(budget), context_mib=mib(context), planned_beyond_mib=mib(planned),
         nvml_beyond_mib=mib(seen), inside=done.device_peak <= budget,
         tokens_per_second=done.tokens_per_second,
         failed=done.message if done.code else None)
    return (planned, seen) if done.code == 0 and done.device_peak <= budget else None


def memory_one(name, model, options, folder, watch, clock):
    """One model; gives whether the ratios with layers on the card hold."""
    texts = write_lines(folder / "texts.txt",
                        lines_of(options.texts / "mixed.txt")[:options.count(400)])
    good = True
    # graphs need the layers on the card, so that the smallest plan with them has all of them there
    for label, form in (("layers on the card", ("--graphs", "on")), ("any rung", ())):
        found = {dtype: smallest(name, model, dtype, form, texts, folder, watch, clock)
                 for dtype in DTYPES}
        for dtype in NARROW:
            if not found["f16"] or not found[dtype]:
                good &= found[dtype] is None and found["f16"] is not None
                continue
            planned, seen = (a / b if b else None for a, b in zip(found[dtype], found["f16"]))
            holds = planned <= RATIOS[dtype]
            emit(check="bytes beyond the context against f16", model=name, dtype=dtype, form=label,
                 planned=round(planned, 3), nvml=seen and round(seen, 3), required=RATIOS[dtype],
                 holds=holds,
                 passed=holds if form and not FAKE else None)
            good &= holds or not form
    return good


def memory(options, folder, watch, clock):
    """All models. Of a rehearsal's, the fixed parts are all there is."""
    verdicts = [memory_one(name, model, options, folder, watch, clock)
                for name, model in models_of(options)]
    return None if FAKE else all(verdicts)


# ---- speed -------------------------------------------------------------------------------------

def stored_models(model, folder, clock):
    """The model in each dtype, quantized once, so that opening does not do it each time."""
    made = {"f16": model}
    for dtype in NARROW:
        to = folder / f"{model.name}-{dtype}"
        done = run("quantize", model, "-o", to, "--dtype", dtype, "--quiet", timeout=clock.left())
        if done.returncode == 0 and "failed" not in plan(to, "--device", "cuda"):
            made[dtype] = to
    return made


def speed_one(name, model, options, folder, watch, clock):
    """One model; gives whether int8 or fp8 is as fast as asked for."""
    texts = folder / f"{name}.txt"
    if name == "L6":
        lines = lines_of(options.texts / "abstracts.txt")
        write_lines(texts, (lines * 24)[:options.count(24 * len(lines))])
    else:
        long_texts(options.texts / "abstracts.txt", texts, options.count(8000))
    limits = ("--device", "cuda", "--long", "truncate", "--max-length",
              min(CHUNK, 256) if name == "L6" else CHUNK)
    stored, best = stored_models(model, folder, clock), {}
    for _ in range(4):
        for dtype, directory in stored.items():
            if clock.over(3):
                break
            done = Run(directory, texts, folder / "rows.npy", (*limits, "--dtype", dtype), watch,
                       clock)
            if done.code:
                emit(bench="speed", model=name, dtype=dtype, failed=done.message)
                return False
            if dtype not in best or done.tokens_per_second > best[dtype].tokens_per_second:
                best[dtype] = done
    for dtype, done in best.items():
        emit(bench="speed", model=name, dtype=dtype, tokens=done.stats.get("tokens"),
             tokens_per_second=done.tokens_per_second, seconds=done.stats.get("seconds"),
             seconds_tokenize=done.stats.get("seconds_tokenize"), rung=done.stats.get("rung"),
             against_f16=round(done.tokens_per_second / max(1, best["f16"].tokens_per_second), 3),
             device_mib_nvml=mib(done.device_peak))
    top = max(best[d].tokens_per_second for d in ("int8", "fp8") if d in best)
    ratio = top / max(1, best["f16"].tokens_per_second)
    good = ratio >= FASTER[name]
    emit(check="int8's or fp8's speed against f16's", model=name, ratio=round(ratio, 3),
         required=FASTER[name], passed=None if FAKE else good)
    return good


def speed(options, folder, watch, clock):
    """All models; a rehearsal's loops say nothing."""
    verdicts = [speed_one(name, model, options, folder, watch, clock)
                for name, model in models_of(options)]
    return None if FAKE else all(verdicts)


if __name__ == "__main__":
    main(__doc__, {"quality": quality, "memory": memory, "speed": speed})
