#!/usr/bin/env python3
"""train: two at one output, outputs in one another, what killed processes left, losses that leave
all bounds, full disks, options and files that cannot be meant.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

from common import BERT, MPNET, expect_exit, leftovers, program, read_jsonl, ready, run
from test_train import groups, pairs, train, weights, write, write_jsonl

SCORED = ["score", "sentence1", "sentence2"]


def start(folder, source, *options):
    """A training that does not end by itself, once its log has a few lines."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    child = subprocess.Popen([str(program.PROGRAM), "train", str(BERT), "-i", str(source),
                              "--steps", "10000000", "--log", str(log), *map(str, options)],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(4000):
        if log.exists() and log.read_bytes().count(b"\n") >= 5:
            break
        time.sleep(0.005)
    return child


def ended(child, number=None):
    """Ends it, if a signal is given; its exit code and words."""
    if number:
        child.send_signal(number)
    _, words = child.communicate(timeout=60)
    return child.returncode, words.decode()


def check_place(tally, folder, source):
    """An output is held from the start; what a killed process left is used and cleared."""
    out = folder / "out"
    first = start(folder, source, "-o", out)
    tally.expect(out.is_dir() and not list(out.iterdir()), "the place is not held")
    for options in [[], ["--force"]]:
        expect_exit(tally, train(BERT, out, "-i", source, "-q", *options), 75, "another job", "-o")
    code, words = ended(first, signal.SIGINT)
    tally.expect(code == 130 and (out / "model.safetensors").exists(), f"exit {code}: {words}")
    before = weights(out)
    second = start(folder, source, "-o", out, "--force")
    expect_exit(tally, train(BERT, out, "-i", source, "-q", "--force"), 75, "another job")
    tally.expect(ended(second, signal.SIGKILL)[0] == -9 and weights(out) == before, "killed")
    third = start(folder, source, "-o", folder / "new")
    ended(third, signal.SIGKILL)
    expect_exit(tally, train(BERT, folder / "new", "-i", source, "-q"), 0)
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = [folder / f"place.tmp-{gone.pid}", folder / f"state.tmp-{gone.pid}"]
    others = [folder / f"place.tmp-{os.getpid()}", folder / "place.tmp-x",
              folder / f"place2.tmp-{gone.pid}"]
    (left[0] / "1_Pooling").mkdir(parents=True)
    for path in [left[0] / "1_Pooling/config.json", left[1], *others]:
        path.write_text("x")
    expect_exit(tally, train(BERT, folder / "place", "-i", source, "-q", "--checkpoint",
                             folder / "state"), 0)
    tally.expect(not any(p.exists() for p in left), "what was left is still there")
    tally.expect(all(p.exists() for p in others), "what is not ours was removed")


def check_checkpoint(tally, folder, source):
    """A checkpoint's file is held against another training, with another output, as long as the
    first one works, over all checkpoints that it writes; then it can be gone on from."""
    state, other = folder / "state", ["-o", folder / "other"]
    how = ["--checkpoint", state, "--checkpoint-steps", 1]
    first = start(folder, source, "-o", folder / "out", *how)
    for options in [[], ["--resume"]] * 10:  # also at the instants at which the file is replaced
        done = train(BERT, *other[1:], "-i", source, "-q", *how, *options)
        expect_exit(tally, done, 75, f"{state}: another job is writing it", "another --checkpoint")
    tally.expect(not (folder / "other").exists(), "an output was made")
    tally.expect(ended(first, signal.SIGKILL)[0] == -9 and state.stat().st_size > 0, "killed")
    second = start(folder, source, *other, *how, "--resume")
    steps = [line["step"] for line in read_jsonl((folder / "log").read_bytes())[:1]]
    code, words = ended(second, signal.SIGINT)
    tally.expect(code == 130 and steps and steps[0] > 1, f"exit {code}, from {steps}: {words}")
    tally.expect(not (folder / "state.lock").exists(), "the lock is left")
    lock = folder / "mine.lock"
    lock.write_text("of the user")
    done = train(BERT, folder / "third", "-i", source, "-q", "--checkpoint", folder / "mine")
    expect_exit(tally, done, 0)
    tally.expect(lock.read_text() == "of the user", "a file of the user's was removed")
    done = train(BERT, folder / "fourth", "-i", source, "-m", "2MiB", "--checkpoint",
                 folder / "none")
    expect_exit(tally, done, 78)
    tally.expect(not list(folder.glob("none*")), "something is left")


def check_paths(tally, folder, source):
    """Outputs that are one another, or in one another; names that stand for a stream."""
    out, empty = folder / "o", folder / "empty"
    empty.mkdir()
    for options, words in [
            (["-o", out, "--log", out], "--log"), (["-o", out, "--log", f"{out}/"], "--log"),
            (["-o", out, "--checkpoint", out], "--checkpoint"),
            (["-o", out, "--tensorboard", out], "--tensorboard"),
            (["-o", empty, "--log", empty / "log"], "or in it"),
            (["-o", out, "--log", folder / "x", "--checkpoint", folder / "x"], "same file"),
            (["-o", out, "--log", folder / "x", "--tensorboard", folder / "x"], "same file"),
            (["-o", out, "--log", "-"], "--log -: state a file"),
            (["-o", out, "--checkpoint", "-"], "state a file"),
            (["-o", out, "--tensorboard", "-"], "state a directory")]:
        expect_exit(tally, run("train", BERT, "-i", source, "-q", *options), 64, words)
    tally.expect(sorted(p.name for p in folder.iterdir()) == ["empty", source.name] and
                 not list(empty.iterdir()), f"left: {list(folder.iterdir())}")


def check_refused(tally, folder, source):
    """Options that a loss has not, or that cannot be meant."""
    rated = write(folder / "rated.csv", pairs(9), SCORED)
    for options, words in [
            (["--loss", "cosine", "--scale", 20], "--scale"), (["--scale", 0], "above 0"),
            (["--margin", 1], "triplet"), (["--distance", "cosine"], "batch-hard"),
            (["--loss", "triplet", "--margin", 0], "above 0"),
            (["--loss", "triplet"], "at least 3, with a negative"),
            (["--loss", "simcse", "--columns", "anchor", "--dropout", 0], "dropout"),
            (["--loss", "simcse", "--columns", "anchor,positive"], "at most 1"),
            (["--loss", "simcse"], "--columns TEXT"),
            (["--loss", "distill", "--columns", "anchor"], "--teacher"),
            (["--teacher", BERT], "--loss distill"),
            (["--loss", "batch-hard", "--batch-size", 3], "4 or more"),
            (["--loss", "batch-hard"], "--columns TEXT,LABEL"),
            (["--loss", "batch-hard", "--columns", "anchor"], "TEXT,LABEL"),
            (["--matryoshka", "32,0"], "--matryoshka"), (["--matryoshka", "32,,8"], "each once"),
            (["--matryoshka", "32,32"], "each once"), (["--matryoshka", "8:0"], "--matryoshka"),
            (["--matryoshka", "1,2,3,4,5,6,7,8,9"], "up to 8"),
            (["--matryoshka", "4000"], "have"), (["--matryoshka", "8:x"], "--matryoshka"),
            (["--patience", 3], "--eval"), (["--keep-best"], "--eval"),
            (["--patience", 3, "--eval", rated], "--eval-steps"),
            (["--learning-rate", "10"], "below 10"), (["--learning-rate", "1e3"], "from 0 to 10"),
            (["--warmup-steps", 1000], "--warmup-steps 1000")]:
        done = run("train", BERT, "-i", source, "-o", folder / "none", *options)
        expect_exit(tally, done, 64, words, what=str(options))
    done = run("train", BERT, "-i", source, "-o", folder / "none", "--loss", "distill",
               "--columns", "anchor", "--teacher", folder / "missing")
    expect_exit(tally, done, 66, "missing")
    tally.expect(not (folder / "none").exists() and not leftovers(folder), "something was written")


def check_data(tally, folder):
    """Scores and labels that nothing can be learnt from; arrays instead of lines."""
    alike = write(folder / "alike.csv", [["3", *row[1:]] for row in pairs(8)], SCORED)
    done = train(BERT, folder / "none", "-i", alike, "--loss", "cosent")
    expect_exit(tally, done, 65, "all scores are 3", "--loss cosine")
    mixed = [["1", *row[1:]] for row in pairs(8)] + [["0", *row[1:]] for row in pairs(8)]
    some = write(folder / "some.csv", mixed, SCORED)
    done = train(BERT, folder / "out", "-i", some, "--loss", "cosent", "--no-shuffle",
                 "--batch-size", 4)
    expect_exit(tally, done, 0, "4 batches had equal scores alone", "--batch-size")
    huge = write(folder / "huge.csv", [*pairs(8), ["1e39", "a", "b"]], SCORED)
    for options in [["-i", huge], ["-i", some, "--eval", huge]]:
        done = train(BERT, folder / "none", "--loss", "cosent", *options)
        expect_exit(tally, done, 65, "huge.csv line 10", "1e+39 is beyond single precision")
    done = train(BERT, folder / "none", "-i", some, "--loss", "cosent", "--eval", alike)
    expect_exit(tally, done, 65, "--eval", "alike.csv: all scores are 3", "different scores")
    bad = folder / "bad.csv"
    bad.write_bytes(some.read_bytes().replace(b"sentence2", b"sentence2\n1,a\xff,b", 1))
    done = train(BERT, folder / "bad", "-i", some, "--loss", "cosent", "--eval", bad)
    expect_exit(tally, done, 0, "1 text holds what is not UTF-8", "bad.csv line 2")
    other = write(folder / "other.csv", groups(4, 2), ["anchor", "positive"])
    short = folder / "short.jsonl"
    short.write_text('{"score": 1, "sentence1": "a"}\n')
    for options, code, words in [
            (["--eval", other], 64, "state --eval-columns SCORE,FIRST,SECOND"),
            (["--eval", some, "--eval-columns", "a,b"], 64, "--eval-columns 'a,b': state"),
            (["--eval", short], 65, "all rows have with --eval-columns")]:
        done = train(BERT, folder / "none", "-i", some, "--loss", "cosent", *options)
        expect_exit(tally, done, code, words)
    one = write(folder / "one.csv", [[row[1], "x"] for row in pairs(8)], ["text", "label"])
    done = train(BERT, folder / "none", "-i", one, "--loss", "batch-hard")
    expect_exit(tally, done, 65, "the same label")
    each = write(folder / "each.csv", [[r[1], f"x{i}"] for i, r in enumerate(pairs(8))],
                 ["text", "label"])
    done = train(BERT, folder / "none", "-i", each, "--loss", "batch-hard")
    expect_exit(tally, done, 65, "no two texts have the same label")
    rows = [{"anchor": "a", "positive": "b", "score": 1, "sentence1": "a", "sentence2": "b",
             "text": "a", "label": True}]
    for name, text in [("array", json.dumps(rows)), ("number", "3\n"), ("string", '"a"\n')]:
        source = folder / f"{name}.jsonl"
        source.write_text(text)
        for loss in ["ranking", "cosent", "triplet", "simcse", "batch-hard"]:
            done = train(BERT, folder / "none", "-i", source, "--loss", loss)
            expect_exit(tally, done, 65, "line 1", "not a JSON object", "an array",
                        what=f"{name} {loss}")
    lines = write_jsonl(folder / "lines.jsonl", rows * 4)
    done = train(BERT, folder / "none", "-i", lines, "--loss", "batch-hard")
    expect_exit(tally, done, 65, "line 1", "not a number or string")
    tally.expect(not (folder / "none").exists(), "something was written")


def check_not_finite(tally, folder, source):
    """It stops at the step that is not finite; the checkpoint before stays and can be gone on
    from; no model is written that is none."""
    state = folder / "state"
    how = ("-i", source, "--steps", 400, "--weight-decay", 1, "--schedule", "constant",
           "--checkpoint", state, "--checkpoint-steps", 10)
    done = train(BERT, folder / "out", *how, "--learning-rate", "9")
    expect_exit(tally, done, 65, "is not finite", "nothing was changed",
                f"--checkpoint {state} is whole, as of step", "lower learning rate")
    words = done.stderr.decode()
    failed = re.search(r"step (\d+): (the loss|a gradient) is not finite", words)
    kept = re.search(r"as of step (\d+)", words)
    tally.expect(not (folder / "out").exists() and not leftovers(folder), "a model was written")
    if not tally.expect(failed and kept and int(kept[1]) < int(failed[1]), words):
        return
    before = state.read_bytes()
    done = train(BERT, folder / "out", *how, "--learning-rate", "9", "--resume", "--log",
                 folder / "log")
    again = re.search(r"step (\d+): (the loss|a gradient) is not finite", done.stderr.decode())
    steps = [line["step"] for line in read_jsonl((folder / "log").read_bytes())]
    tally.expect(again and again[1] == failed[1] and done.returncode == 65, done.stderr.decode())
    tally.expect(not steps or steps[0] == int(kept[1]) + 1, f"gone on at {steps[:1]}")
    tally.expect(state.read_bytes() == before, "the checkpoint has changed")


def check_full_disk(tally, folder, source):
    """A disk that is full at a checkpoint: the one before stays whole, and training goes on from
    it when there is room."""
    state = folder / "state"
    how = ("-o", folder / "out", "--checkpoint", state, "--checkpoint-steps", 2)
    child = start(folder, source, *how)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4000, 4000))
    code, words = ended(child)
    tally.expect(code == 74 and f"{state}: write failed" in words, f"exit {code}: {words}")
    kept = re.search(r"--checkpoint \S+ is whole, as of step (\d+)", words)
    tally.expect(not list(folder.glob("*.tmp-*")) and not (folder / "out").exists(),
                 f"left: {list(folder.iterdir())}")
    if not tally.expect(kept, words):
        return
    child = start(folder, source, *how, "--resume")
    first = read_jsonl((folder / "log").read_bytes().split(b"\n")[0])[0]["step"]
    code, words = ended(child, signal.SIGINT)
    tally.expect(code == 130 and first == int(kept[1]) + 1, f"{first} after {kept[1]}: {words}")


def check_teacher(tally, folder, source):
    """A signal to the parent ends the teacher's process, too, and nothing is left."""
    texts = folder / "texts.txt"
    texts.write_text("".join(f"{row[0]} {i}\n" for i, row in enumerate(groups(2000, 2) * 20)))
    command = [str(program.PROGRAM), "train", str(BERT), "-i", str(texts), "-o",
               str(folder / "out"), "--loss", "distill", "--teacher", str(MPNET), "--steps",
               "10000000", "-q"]
    for number in (signal.SIGTERM, signal.SIGINT):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.2)
        code, words = ended(child, number)
        early = "no output was written" in words
        tally.expect(code == 128 + number and early != (folder / "out").exists(),
                     f"exit {code}: {words}")
        if (folder / "out").exists():  # the teacher was done already
            shutil.rmtree(folder / "out")
    tally.expect(sorted(p.name for p in folder.iterdir()) == [source.name, texts.name],
                 f"left: {list(folder.iterdir())}")


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        for check in (check_place, check_checkpoint, check_paths, check_refused, check_data,
                      check_not_finite, check_full_disk, check_teacher):
            with tempfile.TemporaryDirectory(prefix="embound-train-") as name:
                folder = pathlib.Path(name)
                if check is check_data:
                    check(tally, folder)
                    continue
                source = write(folder / "groups.csv", groups(60, 2), ["anchor", "positive"])
                check(tally, folder, source)
    tally.end()


if __name__ == "__main__":
    main()
