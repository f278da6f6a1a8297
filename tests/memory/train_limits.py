"""Random limits of a training: what test_train_random.py and slow_train_random.py share.

A set is a model, a batch, a length, an optimizer, adapters or not, threads and a budget. The plan
holds when the observed peak (VmHWM, read from outside) is at most the plan, the plan at most the
budget, and the peak at most 2 % + 4 MiB below the plan. A budget that is refused names one that
works.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import random
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

SLACK_SHARE, SLACK_BYTES = 0.02, 4 * program.MIB
WORDS = ("river stone moon cat mat walk slow bounded memory plan light house tree bird winter city "
         "road paper cold warm blue green letter kitchen").split()
CHOICES = {
    "--batch-size": [2, 5, 16, 40, 64],
    "--max-length": [None, 4, 9, 32, 64],
    "--optimizer": [None, "adamw", "adamw8", "sgd"],
    "--dropout": [None, "0.1"],
    "--threads": [None, 1, 2, 3],
}
WAYS = [(), (), ("--lora", 4), ("--lora", 3, "--lora-targets", "all", "--adapter-only"),
        ("--layerwise", "--max-grad-norm", 0)]


def write_examples(path, texts, count, seed):
    """Rows of so many texts of 1 to 60 words."""
    draw = random.Random(seed)
    rows = ["\t".join(" ".join(draw.choices(WORDS, k=draw.randrange(1, 61)))
                      for _ in range(texts)) for _ in range(count)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def draw_options(draw, model, folder):
    """The command of a training of one or two steps, without a budget."""
    table = folder / f"{draw.randrange(1 << 40)}.tsv"
    write_examples(table, draw.choice([2, 2, 3]), 80, draw.random())
    options = ["train", model, "-i", table, "--no-header", "-o", table.with_suffix(".out"),
               "--steps", draw.choice([1, 2]), "--json", "--quiet"]
    for name, values in CHOICES.items():
        value = draw.choice(values)
        if value is not None:
            options += [name, value]
    return [*options, *draw.choice(WAYS)]


def kept_of(said):
    """What of the activations was kept, as a word for the summary."""
    if said["layers_apart"] < said["layers"]:
        return "every k-th layer"
    insides = said["attention_kept"] + said["ffn_kept"]
    if said["tiles_kept"] < said["tiles"]:
        return "some sums" + (", with insides" if insides else "")
    if insides == 2 * said["tiles"]:
        return "all"
    return "all sums" + (", some insides" if insides else "")


def holds(tally, options, budget):
    """Runs it under a budget and judges; gives what was kept, and plan and peak; or None."""
    done, peak, exact = program.run_with_peak(*options, "-m", budget)
    name = " ".join(map(str, options + ["-m", budget])).replace(str(program.ROOT) + "/", "")
    if not tally.expect(done.returncode == 0, f"{name}: {done.returncode}: {done.stderr}"):
        return None
    said = json.loads(done.stdout)
    planned = said["host_bytes_planned"]
    if budget != "auto":
        limit = budget if isinstance(budget, int) else float(budget[:-3]) * program.MIB
        tally.expect(planned <= limit, f"{name}: {planned} planned")
    tally.expect(peak <= planned, f"{name}: peak {peak} above the plan {planned}")
    slack = planned * SLACK_SHARE + SLACK_BYTES
    tally.expect(not exact or planned - peak <= slack,
                 f"{name}: peak {peak} below the plan {planned} by {planned - peak}")
    return {"kept": kept_of(said), "planned_bytes": planned, "peak_bytes": peak}


def try_one(tally, number, seed, models, folder):
    """One set; gives what `holds` does."""
    draw = random.Random(f"{seed}/{number}")
    options = draw_options(draw, draw.choice(models), folder)
    refused = program.run(*options, "-m", "1MiB")
    least = re.search(r"--memory ([\d.]+MiB)", refused.stderr)
    if not tally.expect(refused.returncode == 78 and least,
                        f"{options}: {refused.returncode}: {refused.stderr}"):
        return None
    bytes_min = int(float(least.group(1)[:-3]) * program.MIB)
    kind = draw.randrange(4)
    if kind == 0:
        return holds(tally, options, least.group(1))
    if kind == 1:
        return holds(tally, options, "auto")
    return holds(tally, options, int(bytes_min * draw.uniform(1.02, 3 if kind == 2 else 1.3)))


def try_all(count, seed, models, folder):
    """So many sets; gives the tally, and what each came to."""
    tally = program.Tally()
    sets = [try_one(tally, number, seed, models, folder) for number in range(count)]
    found = [one["kept"] for one in sets if one]
    print(f"seed {seed}, kept:", {kept: found.count(kept) for kept in sorted(set(found))})
    return tally, sets
