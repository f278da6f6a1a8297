#!/usr/bin/env python3
"""plan --train: bytes and work of each way of training, as train then plans them.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import re
import tempfile

from common import BERT, MPNET, expect_exit, program, ready, run
from test_train import groups, write

MIB = 1 << 20
OPTIONS = {"adamw": (), "adamw8": ("--optimizer", "adamw8"),
           "layerwise": ("--layerwise", "--max-grad-norm", 0),
           "sgd": ("--optimizer", "sgd", "--momentum", "0.9"), "lora": ("--lora", 8),
           "lora-all": ("--lora", 8, "--lora-targets", "all")}
PLACES = ("weights", "gradients", "moments", "activations", "rest")


def rows_of(tally, *arguments):
    """{(method, budget): row} of a plan."""
    done = run("plan", *arguments, "--json", "-t", 2)
    if not expect_exit(tally, done, 0):
        return {}
    return {(row["method"], row["budget"]): row for row in json.loads(done.stdout)["methods"]}


def check_rows(tally):
    """All kept, within the budget, the least: each in fewer bytes and with more work."""
    for model in [BERT, MPNET]:
        budget = 24 * MIB
        rows = rows_of(tally, model, "--train", 2000, "-m", f"{budget // MIB}MiB")
        tally.expect(len(rows) == 13, f"{list(rows)}")
        for (method, given), row in rows.items():
            parts = sum(row[f"{place}_bytes"] for place in PLACES)
            tally.expect(parts == row["host_bytes"], f"{method} {given}: {row}")
            if given == "stated" and method != "layerwise":  # whose batch is one tile
                tally.expect(row["fits"] and row["host_bytes"] <= budget, f"{method}: {row}")
        whole, stated, least = (rows["adamw", given] for given in ["all", "stated", "least"])
        tally.expect(whole["passes"] == 3 and whole["tiles"] == whole["tiles_kept"], f"{whole}")
        tally.expect(whole["host_bytes"] > stated["host_bytes"] > least["host_bytes"], "bytes")
        tally.expect(3 < stated["passes"] <= least["passes"] < 6, "work")
        lora = rows["lora", "stated"]
        tally.expect(lora["gradients_bytes"] < stated["gradients_bytes"] / 4 and
                     lora["moments_bytes"] == 2 * lora["gradients_bytes"], f"{lora}")
        tally.expect(rows["lora", "least"]["passes"] < rows["lora-all", "least"]["passes"], "LoRA")
        tally.expect(rows["sgd", "least"]["moments_bytes"] * 2 == least["moments_bytes"], "SGD")


def check_train(tally, folder):
    """The least is what train names when the budget is too small, but for the process' own."""
    source = write(folder / "pairs.csv", groups(40, 2), ["anchor", "positive"])
    rows = rows_of(tally, BERT, "--train", 40)
    for method, options in OPTIONS.items():
        done = run("train", BERT, "-i", source, "-o", folder / "none", "--batch-size", 40, "-m",
                   "1MiB", "-t", 2, *options)
        found = re.search(r"--memory ([\d.]+)MiB", done.stderr.decode())
        if tally.expect(found is not None, f"{done.stderr}"):
            away = float(found.group(1)) * MIB - rows[method, "least"]["host_bytes"]
            tally.expect(abs(away) < 2 * MIB, f"{method}: off by {away} bytes")


def check_words(tally, folder):
    """The table; quantized models, which have adapters alone; what is refused."""
    done = run("plan", BERT, "--train", 64, "-m", "12MiB")
    expect_exit(tally, done, 0)
    for words in ["steps of 64 pairs", "LoRA 8: all matrices", "in the least memory", "budget"]:
        tally.expect(words in done.stdout.decode(), f"the table lacks {words!r}")
    done = run("plan", BERT, "--train", 64, "-m", "1MiB")
    tally.expect(done.stdout.decode().count("does not fit") == 6, f"{done.stdout.decode()}")
    expect_exit(tally, run("quantize", BERT, "-o", folder / "int8", "--dtype", "int8"), 0)
    rows = rows_of(tally, folder / "int8", "--train", 64)
    tally.expect({method for method, _ in rows} == {"lora", "lora-all"}, f"{list(rows)}")
    for arguments in [("plan", BERT, "--train", 0), ("encode", BERT, "--train", 3),
                      ("plan", BERT, "--train", 8, "--max-length", 500)]:
        expect_exit(tally, run(*arguments), 64, what=str(arguments))


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        check_rows(tally)
        for check in (check_train, check_words):
            with tempfile.TemporaryDirectory(prefix="embound-plan-") as name:
                check(tally, pathlib.Path(name))
    tally.end()


if __name__ == "__main__":
    main()
