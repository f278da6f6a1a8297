#!/usr/bin/env python3
"""200 random limits on the tiny models: the plan holds, or exit 78 names a minimum that works.

The plan holds when the observed peak (VmHWM, read from outside) is at most the plan and at most the
budget, and at most 2 % + 1 MiB below the plan. More or fewer: test_plan_random.py COUNT [SEED].

SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import json
import pathlib
import random
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

SLACK_SHARE, SLACK_BYTES = 0.02, program.MIB
# The process itself differs by a few pages from run to run, so that near the minimum one run may be
# refused and the next not.
PROCESS_BYTES = 96 << 10
CHOICES = {
    "--dtype": [None, "f32", "bf16"],
    "--threads": [None, 1, 2, 3],
    "--chunk-tokens": [None, 3, 16, 64, 100, 126],
    "--long": [None, "chunk", "truncate"],
    "--pooling": [None, "mean", "cls", "max"],
    "--dim": [None, 1, 7, 32],
    "--normalize": [None, "", "no"],
}


def draw_limits(draw):
    """A model and options without a budget."""
    options = [draw.choice(program.models())]
    for name, values in CHOICES.items():
        value = draw.choice(values)
        if value == "no":
            options.append("--no-normalize")
        elif value == "":
            options.append(name)
        elif value is not None:
            options += [name, value]
    return options


def draw_budget(draw, plan):
    """None, or bytes from below the least plan to above the knee."""
    least, knee = plan["host_bytes_min"], plan["host_bytes_knee"]
    kind = draw.randrange(5)
    if kind == 0:
        return None
    if kind == 1:
        return draw.randrange(1, least)
    if kind == 2:
        return least + draw.randrange(0, 2 * program.MIB)
    return draw.randrange(least, max(knee + knee // 4, least + 2))


def plan_of(options, memory):
    """Exit code and plan as JSON (None if there is none), and the message."""
    done = program.run("plan", *options, "--json", *memory)
    try:
        return done.returncode, json.loads(done.stdout), done.stderr
    except ValueError:
        return done.returncode, None, done.stderr


def encode(options, memory, folder, number):
    """Encodes under the options; gives the process, peak, statistics and whether there are rows."""
    texts = folder / ("long.txt" if number % 3 == 0 else "short.txt")
    output, stats = folder / f"{number}.npy", folder / f"{number}.json"
    done, peak, exact = program.run_with_peak("encode", *options, *memory, "-i", texts, "-o",
                                              output, "--stats", stats, "--quiet")
    planned = json.loads(stats.read_text())["host_bytes_planned"] if stats.exists() else 0
    there = output.exists()
    output.unlink(missing_ok=True)
    stats.unlink(missing_ok=True)
    return done, peak, exact, planned, there


def holds(tally, options, budget, folder, number):
    """Encodes under a budget and judges the outcome; gives the minimum that a refusal names."""
    memory = [] if budget is None else ["--memory", budget]
    name = " ".join(str(o) for o in options + memory).replace(str(program.ROOT) + "/", "")
    done, peak, exact, planned, there = encode(options, memory, folder, number)
    if done.returncode == 78:
        named = re.search(r"--memory (\S+)", done.stderr)
        tally.expect(named and not there and budget, f"{name}: names no minimum: {done.stderr}")
        return named.group(1) if named else None
    if not tally.expect(done.returncode == 0 and there, f"{name}: encode {done.returncode}: "
                                                        f"{done.stderr}"):
        return None
    tally.expect(not isinstance(budget, int) or planned <= budget, f"{name}: planned {planned}")
    tally.expect(peak <= planned, f"{name}: peak {peak} above the plan {planned} "
                                  f"by {peak - planned}")
    if exact:
        slack = planned * SLACK_SHARE + SLACK_BYTES
        tally.expect(planned - peak <= slack, f"{name}: peak {peak} below the plan {planned} "
                                              f"by {planned - peak}")
    return None


def try_one(number, seed, folder):
    """One combination; gives its tally and rung."""
    tally, draw = program.Tally(), random.Random(f"{seed}/{number}")
    options = draw_limits(draw)
    code, plan, message = plan_of(options, [])
    if not tally.expect(code == 0 and plan, f"{options}: no plan without a budget: {message}"):
        return tally, "none"
    budget = draw_budget(draw, plan)
    named = holds(tally, options, budget, folder, number)
    memory = [] if budget is None else ["--memory", budget]
    code, plan, message = plan_of(options, memory)
    if budget is None or abs(budget - plan["host_bytes_min"]) > PROCESS_BYTES:
        tally.expect(code == (78 if named else 0), f"{options} {memory}: plan ends with {code}")
    if named:
        tally.expect(plan["host_bytes_min"] + PROCESS_BYTES > budget,
                     f"{options} {memory}: refused although it is enough")
        tally.expect(holds(tally, options, named, folder, number) is None,
                     f"{options}: the minimum {named} named for {budget} does not work")
        return tally, "refused, then the named minimum"
    return tally, str(plan.get("rung", "?"))


def main():
    """Runs all, two at a time, and prints how often each rung was taken."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = sys.argv[2] if len(sys.argv) > 2 else "embound"
    tally, rungs = program.Tally(), {}
    if not program.PROGRAM.exists() or not program.PEAK.exists():
        tally.skip("no program, or a sanitizer build")
        tally.end()
    with tempfile.TemporaryDirectory(prefix="embound-plans-") as name:
        folder = pathlib.Path(name)
        program.write_texts(folder / "short.txt", 60)
        program.write_texts(folder / "long.txt", 40, long_bytes=100000)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(try_one, n, seed, folder) for n in range(count)]
            for done in waiting:
                one, rung = done.result()
                rungs[rung] = rungs.get(rung, 0) + 1
                tally.passed += one.passed
                tally.failed += one.failed
    for rung, times in sorted(rungs.items()):
        print(f"rung {rung}: {times}")
    print(f"{count} combinations")
    tally.end()


if __name__ == "__main__":
    main()
