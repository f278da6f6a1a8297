#!/usr/bin/env python3
"""train --layerwise: the bits of a training without, in less memory; what it does not go with.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import tempfile

from common import BERT, MPNET, expect_exit, program, ready, run
from test_train import groups, weights, write

BASE = ("--batch-size", 8, "--max-length", 16, "--learning-rate", "1e-3", "--max-grad-norm", 0,
        "--force")


def check_bits(tally, folder, source):
    """Each optimizer, with and without, and as many threads as you like."""
    for model in [BERT, MPNET]:
        for optimizer in ["adamw", "adamw8", "sgd"]:
            said, found = {}, {}
            for name, options in [("plain", ()), ("layerwise", ("--layerwise", "-t", 3))]:
                done = run("train", model, "-i", source, "-o", folder / "out", *BASE, "--json",
                           "--optimizer", optimizer, "--dropout", "0.1", *options)
                if expect_exit(tally, done, 0):
                    said[name] = json.loads(done.stdout)
                found[name] = weights(folder / "out")
            what = f"{model.name} {optimizer}"
            tally.expect(found["plain"] == found["layerwise"], f"{what}: bits")
            tally.expect(said["layerwise"]["host_bytes_peak"] <=
                         said["layerwise"]["host_bytes_planned"], f"{what}: {said}")


def check_refused(tally, folder, source):
    """It knows no norm of all gradients, and needs the whole batch in memory."""
    for options, words in [(("--layerwise", "--max-grad-norm", 1), "--max-grad-norm 0"),
                           (("--layerwise", "--lora", 2), "one of them")]:
        done = run("train", BERT, "-i", source, "-o", folder / "none", *BASE, *options)
        expect_exit(tally, done, 64, words)
    done = run("train", BERT, "-i", source, "-o", folder / "none", *BASE, "--layerwise", "-m",
               "1MiB")
    expect_exit(tally, done, 78, "--memory")
    tally.expect(not (folder / "none").exists(), "something was written")


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        for check in (check_bits, check_refused):
            with tempfile.TemporaryDirectory(prefix="embound-layerwise-") as name:
                folder = pathlib.Path(name)
                source = write(folder / "groups.csv", groups(40, 2), ["anchor", "positive"])
                check(tally, folder, source)
    tally.end()


if __name__ == "__main__":
    main()
