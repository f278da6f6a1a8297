#!/usr/bin/env python3
"""train --checkpoint, --resume: killed at random instants and resumed, it ends with the bits
of one that was not; checkpoints of something else are refused and stay; --optimizer, --dtype.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import random
import signal
import subprocess
import tempfile
import time

from common import (BERT, MPNET, expect_exit, leftovers, program, read_jsonl, ready, run)
from test_train import groups, weights, write

KILLS = 12
BASE = ("--batch-size", 8, "--dropout", "0.1", "--learning-rate", "1e-3", "-q")


def check_killed(tally, folder, source, seed=4):
    """SIGKILL at random instants, and on again until it ends by itself; gives how often."""
    how = (*BASE, "--steps", 600, "--optimizer", "adamw8")
    started = time.monotonic()
    expect_exit(tally, run("train", BERT, "-i", source, "-o", folder / "whole", *how), 0)
    lasted = time.monotonic() - started
    draw = random.Random(seed)
    arguments = ["train", BERT, "-i", source, "-o", folder / "parts", *how, "--checkpoint",
                 folder / "state", "--checkpoint-steps", 3, "--resume", "--force"]
    kills = 0
    for _ in range(KILLS):
        process = subprocess.Popen([program.PROGRAM, *map(str, arguments)])
        try:
            process.wait(draw.uniform(0.02, 0.5) * lasted)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    expect_exit(tally, run(*arguments), 0, what=f"after {kills} kills")
    tally.expect(weights(folder / "parts") == weights(folder / "whole"),
                 f"the same bits after {kills} kills")
    return kills


def check_some_kills(tally, folder, source):
    """A few, in one training."""
    tally.expect(check_killed(tally, folder, source) > 0, "nothing was killed")


def check_refused(tally, folder, source):
    """Checkpoints that do not belong to what is asked for; options that need one."""
    state = folder / "state"
    how = (*BASE, "--steps", 6, "--checkpoint", state)
    expect_exit(tally, run("train", BERT, "-i", source, "-o", folder / "a", *how), 0)
    before = state.read_bytes()
    for model, options, code, words in [
            (BERT, ("--steps", 7), 64, "state the same"), (BERT, ("--seed", 3), 64, "the same"),
            (BERT, ("--scale", 3), 64, "other examples or options"),
            (BERT, ("--batch-size", 4), 64, "state the same"),
            (BERT, ("--optimizer", "adamw8"), 64, "32 bits"),
            (BERT, ("--optimizer", "sgd"), 64, "another optimizer"),
            (BERT, ("--layer-decay", "0.9"), 64, "state the same"),
            (MPNET, (), 65, "another shape")]:
        done = run("train", model, "-i", source, "-o", folder / "b", *how, *options, "--resume")
        expect_exit(tally, done, code, words, what=str(options))
        tally.expect(state.read_bytes() == before and not (folder / "b").exists(),
                     f"{options}: the checkpoint stays, nothing is written")
    state.write_bytes(before[:-40])
    done = run("train", BERT, "-i", source, "-o", folder / "b", *how, "--resume")
    expect_exit(tally, done, 65, "cut")
    state.write_bytes(before[:5000] + bytes([before[5000] ^ 1]) + before[5001:])
    done = run("train", BERT, "-i", source, "-o", folder / "b", *how, "--resume")
    expect_exit(tally, done, 65, "damaged")
    for options, words in [(("--resume",), "--checkpoint FILE"),
                           (("--checkpoint-steps", 5), "--checkpoint FILE"),
                           (("--optimizer", "adam"), "adamw"),
                           (("--momentum", "0.9"), "--optimizer sgd"),
                           (("--optimizer", "sgd", "--nesterov"), "--momentum"),
                           (("--optimizer", "sgd", "--momentum", 1), "below 1"),
                           (("--layer-decay", 0), "above 0"), (("--dtype", "f16"), "bf16")]:
        done = run("train", BERT, "-i", source, "-o", folder / "b", *BASE, *options)
        expect_exit(tally, done, 64, words, what=str(options))
    tally.expect(not leftovers(folder), "files are left")


def check_log(tally, folder, source):
    """A training that goes on adds to the log of the one that was stopped; another one begins it
    anew. Steps after the checkpoint come twice, with the same numbers."""
    log = folder / "log"
    arguments = ["train", BERT, "-i", source, "-o", folder / "out", *BASE, "--steps", 10000,
                 "--log", log, "--checkpoint", folder / "state", "--checkpoint-steps", 4]
    for number, options in [(signal.SIGKILL, []), (signal.SIGINT, ["--resume"])]:
        begun = log.stat().st_size if log.exists() else 0
        child = subprocess.Popen([program.PROGRAM, *map(str, [*arguments, *options])],
                                 stderr=subprocess.DEVNULL)
        for _ in range(4000):
            if log.exists() and log.read_bytes()[begun:].count(b"\n") >= 9:
                break
            time.sleep(0.005)
        child.send_signal(number)
        child.wait()
    steps = {}
    for line in read_jsonl(log.read_bytes()):
        loss = steps.setdefault(line["step"], line["loss"])
        tally.expect(loss == line["loss"], f"step {line['step']} has two losses")
    tally.expect(list(steps) == list(range(1, len(steps) + 1)) and len(steps) >= 14,
                 f"steps of the log: {list(steps)[:3]}...")
    how = [*BASE, "--steps", 2, "--log", log]
    expect_exit(tally, run("train", BERT, "-i", source, "-o", folder / "new", *how), 0)
    tally.expect(log.read_bytes().count(b"\n") == 2, "the log of another training is not new")


def check_places(tally, folder, source):
    """A checkpoint that cannot be written, or would replace something else, is refused at once."""
    other = folder / "other.txt"
    other.write_text("of the user")
    for place, code in [(folder / "no/such/folder/state", 73), (other, 64), (source, 64),
                        (folder, 64), ("/dev/null", 64)]:
        before = source.read_bytes()
        done = run("train", BERT, "-i", source, "-o", folder / "c", *BASE, "--steps", 4,
                   "--checkpoint", place)
        tally.expect(done.returncode in (code, 74) and not (folder / "c").exists(),
                     f"{place}: exit {done.returncode}: {done.stderr}")
        tally.expect(other.read_text() == "of the user" and source.read_bytes() == before and
                     pathlib.Path("/dev/null").is_char_device(), f"{place}: stays as it was")


def check_card(tally, folder, source):
    """A model with a README, such as one that train wrote, gets a new one."""
    how = ("-i", source, *BASE, "--steps", 2)
    expect_exit(tally, run("train", BERT, "-o", folder / "first", *how), 0)
    expect_exit(tally, run("train", folder / "first", "-o", folder / "second", *how), 0)
    card = (folder / "second/README.md").read_text()
    tally.expect("# first, fine-tuned" in card, card[:200])


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        for check in (check_some_kills, check_refused, check_places, check_card,
                      check_log):
            with tempfile.TemporaryDirectory(prefix="embound-train-") as name:
                folder = pathlib.Path(name)
                source = write(folder / "groups.csv", groups(60, 2), ["anchor", "positive"])
                check(tally, folder, source)
    tally.end()


if __name__ == "__main__":
    main()
