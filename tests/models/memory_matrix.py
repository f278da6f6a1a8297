"""Peak memory on 200 abstracts and one text of 400 kB: budgets x models x dtypes. The peak (VmHWM,
read from outside at exit) is at most the budget and at most 2 % + 1 MiB below the plan; a budget
below the floor exits 78 naming a minimum, which then works. Rows computed equal tokens.

One dtype a suite: models_memory_f32.py, models_memory_bf16.py. EMB_SCALE=10 divides the texts by
ten. Prints one JSON line per run.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import re
import tempfile

import real
from support import program

BUDGETS_MIB = (8, 48, 64, 96, 256)  # 8: below every floor
SLACK_SHARE, SLACK_BYTES = 0.02, program.MIB
SIZES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def write_input(path, scale):
    """200 abstracts with the long text in their middle, one a line; gives the number of lines."""
    lines = real.abstracts()[:200 // scale]
    lines.insert(len(lines) // 2, real.long_text(400_000 // scale))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def named_minimum(message):
    """The size that stands after the last --memory of a message, and its bytes."""
    found = re.findall(r"--memory (([\d.]+) ?([KMG]iB)?)", message)
    if not found:
        return None, 0
    text, number, unit = found[-1]
    return text, int(float(number) * SIZES[unit])


def run_one(tally, name, folder, dtype, memory, budget, source, rows, scratch):
    """Encodes under one budget; gives the exit code and what it said."""
    output, stats_path = scratch / "rows.npy", scratch / "stats.json"
    for path in (output, stats_path):
        path.unlink(missing_ok=True)
    done, peak, exact = program.run_with_peak(
        "encode", folder, "-i", source, "-o", output, "--dtype", dtype, "--memory", memory,
        "--quiet", "--stats", stats_path, timeout=real.LIMIT_SECONDS)
    what = f"{name} {dtype} {memory}"
    if done.returncode == 78:
        tally.expect(not output.exists(), f"{what}: exit 78 and yet an output")
        return 78, done.stderr
    if not tally.expect(done.returncode == 0, f"{what}: exit {done.returncode}: {done.stderr}"):
        return done.returncode, done.stderr
    stats = json.loads(stats_path.read_text())
    planned = stats["host_bytes_planned"]
    print(json.dumps({"model": name, "dtype": dtype, "budget_mib": round(budget / program.MIB, 2),
                      "rung": stats["rung_name"], "planned_mib": round(planned / program.MIB, 2),
                      "peak_mib": round(peak / program.MIB, 2), "exact": exact,
                      "tokens": stats["tokens"], "seconds": round(stats["seconds"], 1)}),
          flush=True)
    tally.expect(peak <= budget, f"{what}: peak {peak} above the budget {budget}")
    tally.expect(peak <= planned <= budget, f"{what}: peak {peak}, plan {planned}")
    if exact:
        tally.expect(planned - peak <= planned * SLACK_SHARE + SLACK_BYTES,
                     f"{what}: peak {peak} is {planned - peak} below the plan {planned}")
    tally.expect(stats["rows_computed"] == stats["tokens"],
                 f"{what}: {stats['rows_computed']} rows computed for {stats['tokens']} tokens")
    tally.expect(stats["texts"] == rows and stats["texts_failed"] == 0,
                 f"{what}: {stats['texts']} texts, {stats['texts_failed']} failed, of {rows}")
    return 0, ""


def try_model(tally, name, folder, dtype, scale, scratch):
    """All budgets of one model; each minimum that is named once, on a tenth of the texts, since
    it is slow by nature."""
    tried = set()
    source, short = scratch / "texts.txt", scratch / "short.txt"
    rows, short_rows = write_input(source, scale), write_input(short, scale * 10)
    for mib in BUDGETS_MIB:
        code, message = run_one(tally, name, folder, dtype, f"{mib}MiB", mib * program.MIB, source,
                                rows, scratch)
        if code != 78:
            continue
        least, least_bytes = named_minimum(message)
        what = f"{name} {dtype} {mib}MiB"
        print(f"{what}: exit 78, names {least}", flush=True)
        tally.expect(least_bytes > mib * program.MIB, f"{what}: names {least}")
        if least and least not in tried:
            tried.add(least)
            code, _ = run_one(tally, name, folder, dtype, least.replace(" ", ""), least_bytes + 1,
                              short, short_rows, scratch)
            tally.expect(code == 0, f"{what}: the minimum {least} gives exit {code}")


def run_matrix(dtype):
    """Both models in one dtype; ends the suite."""
    tally = program.Tally()
    scale = int(os.environ.get("EMB_SCALE", "1"))
    if not real.have(tally, real.DATA / "texts" / "abstracts.txt", program.PEAK):
        tally.end()
    with tempfile.TemporaryDirectory(prefix="embound-memory-") as place:
        for name, folder in real.models(tally, (real.L6, real.MPNET)):
            try_model(tally, name, folder, dtype, scale, pathlib.Path(place))
    tally.end()
