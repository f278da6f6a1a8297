#!/usr/bin/env python3
"""train: each loss learns from its own files; Matryoshka widths, steps of several batches, a
teacher, the end by patience, the best model, event files of TensorBoard.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import random
import struct
import tempfile

from common import BERT, MPNET, expect_exit, leftovers, program, read_jsonl, ready, run
from test_train import WORDS, groups, pairs, train, weights, write, write_jsonl

COLUMNS = ["anchor", "positive", "negative"]


def labelled(count, seed=3):
    """(text, label): texts of a label are of the same few words."""
    draw = random.Random(seed)
    rows = []
    for row in range(count):
        label = row % 4
        rows.append([" ".join(draw.choices(WORDS[6 * label:6 * label + 6], k=5)), f"class {label}"])
    return rows


def said_by(tally, done, what=""):
    """The JSON of a run that must end well."""
    return json.loads(done.stdout) if expect_exit(tally, done, 0, what=what) else {}


def check_learns(tally, folder):
    """The loss falls, whatever the format; bits do not depend on threads."""
    triplets = write(folder / "triplets.csv", groups(60), COLUMNS)
    rows = labelled(64)
    table = write(folder / "labels.csv", rows, ["text", "label"])
    objects = write_jsonl(folder / "labels.jsonl", [{"text": t, "label": n} for t, n in rows])
    headless = write(folder / "bare.csv", rows)
    texts = folder / "texts.txt"
    texts.write_text("".join(row[0] + "\n" for row in rows))
    named = write(folder / "named.csv", [[row[1], row[0]] for row in rows], ["label", "text"])
    cases = [("triplet", triplets, []), ("triplet", triplets, ["--distance", "cosine"]),
             ("triplet", triplets, ["--margin", "2"]),
             ("triplet", triplets, ["--matryoshka", "32,16,8"]),
             ("batch-hard", table, []), ("batch-hard", objects, []),
             ("batch-hard", headless, ["--no-header"]),
             ("batch-hard", named, ["--columns", "text,label"]),
             ("batch-hard", table, ["--distance", "cosine", "--margin", "1"]),
             ("batch-hard", table, ["--matryoshka", "32,16"]),
             ("simcse", texts, []), ("simcse", named, []), ("simcse", texts, ["--symmetric"]),
             ("distill", texts, ["--teacher", MPNET]), ("distill", named, ["--teacher", MPNET]),
             ("distill", triplets, ["--teacher", MPNET, "--columns", "positive,negative"]),
             ("distill", texts, ["--teacher", MPNET, "--matryoshka", "32,16:0.5,8:2"]),
             ("ranking", triplets, ["--matryoshka", "32,16,8"])]
    models = {}
    for loss, source, options in cases:
        what = f"{loss} {source.name} {options}"
        found = set()
        for threads in (1, 3):
            done = train(BERT, folder / "out", "-i", source, "--loss", loss, "--force", "--json",
                         "--epochs", 6, "--batch-size", 16, "-t", threads, *options)
            said = said_by(tally, done, what)
            found.add((weights(folder / "out"), said.get("loss_last")))
        tally.expect(said and said["loss_last"] < 0.95 * said["loss_first"], f"{what}: {said}")
        tally.expect(len(found) == 1, f"{what}: bits differ by threads")
        models[what] = weights(folder / "out")
    alike = [models[f"batch-hard {name}"] for name in
             ["labels.csv []", "labels.jsonl []", "bare.csv ['--no-header']"]]
    tally.expect(len(set(alike)) == 1, "the same labels in other formats")
    tally.expect(models["simcse texts.txt []"] == models["simcse named.csv []"], "the same texts")
    card = (folder / "out/README.md").read_text()
    tally.expect("Matryoshka: 32, 16, 8" in card, card)
    tally.expect(not leftovers(folder) and not list(folder.glob("*.teacher*")), "files are left")


def check_vectors(tally, folder):
    """A teacher's vectors from a file are those that its process makes."""
    texts = folder / "texts.txt"
    texts.write_text("".join(row[0] + "\n" for row in labelled(40)))
    vectors = folder / "teacher.npy"
    expect_exit(tally, run("encode", MPNET, "-i", texts, "-o", vectors, "--device", "cpu", "-q"), 0)
    found = set()
    for teacher in (MPNET, vectors):
        done = train(BERT, folder / "out", "-i", texts, "--loss", "distill", "--force", "--teacher",
                     teacher, "-q")
        if expect_exit(tally, done, 0, what=str(teacher)):
            found.add(weights(folder / "out"))
    tally.expect(len(found) == 1, "other bits from a file of the same vectors")
    with texts.open("a") as file:
        file.write("one more\n")
    done = train(BERT, folder / "none", "-i", texts, "--loss", "distill", "--teacher", vectors)
    expect_exit(tally, done, 65, "40 vectors", "41 texts")
    broken = folder / "broken.npy"
    broken.write_bytes(vectors.read_bytes()[:-4])
    done = train(BERT, folder / "none", "-i", texts, "--loss", "distill", "--teacher", broken)
    expect_exit(tally, done, 65, "shorter")
    tally.expect(not (folder / "none").exists(), "something was written")


def check_memory(tally, folder):
    """Plans hold for the losses that take memory of their own, and for the teacher's process."""
    rows = labelled(3000)
    table = write(folder / "labels.csv", rows, ["text", "label"])
    for loss, options in [("batch-hard", ["--matryoshka", "32,16"]),
                          ("distill", ["--teacher", MPNET, "--columns", "text"]),
                          ("simcse", ["--columns", "text"])]:
        how = ["train", BERT, "-i", table, "-o", folder / "out", "--force", "--steps", 2,
               "--batch-size", 500, "--loss", loss, "--json", *options]
        refused = run(*how, "-m", "1MiB")
        expect_exit(tally, refused, 78, "--memory", what=loss)
        smallest = refused.stderr.decode().split("--memory ")[-1].split()[0]
        for budget in ["auto", smallest]:
            done, peak, exact = program.run_with_peak(*how, "-m", budget)
            if tally.expect(done.returncode == 0, f"{loss} -m {budget}: {done.stderr}"):
                planned = json.loads(done.stdout)["host_bytes_planned"]
                tally.expect(not exact or peak <= planned, f"{loss}: {peak} above {planned}")


def check_accumulate(tally, folder):
    """Two batches of half the size make the step of one; with checkpoints in between, too."""
    source = write(folder / "triplets.csv", groups(64), COLUMNS)
    how = ["-i", source, "--loss", "triplet", "--no-shuffle", "--json", "--force", "--log",
           folder / "log"]
    norms = []
    for options in [["--batch-size", 16], ["--batch-size", 8, "--accumulate", 2]]:
        said = said_by(tally, train(BERT, folder / "out", *how, *options))
        tally.expect(said.get("steps") == 4 and said.get("examples") == 64, f"{said}")
        norms.append([s["gradient_norm"] for s in read_jsonl((folder / "log").read_bytes())])
    tally.expect(all(abs(a - b) < 1e-3 * a for a, b in zip(*norms)), f"gradients: {norms}")
    said = said_by(tally, train(BERT, folder / "out", *how, "--batch-size", 8, "--accumulate", 3))
    tally.expect(said.get("steps") == 3, f"8 batches in steps of three: {said}")
    parts = ["-i", source, "--batch-size", 8, "--accumulate", 3, "--dropout", "0.1", "-q",
             "--epochs", 4]
    expect_exit(tally, train(BERT, folder / "whole", *parts), 0)
    state = ["--checkpoint", folder / "state", "--checkpoint-steps", 1]
    done = train(BERT, folder / "parts", *parts, *state, "--log", "/dev/full")
    expect_exit(tally, done, 74)
    tally.expect(weights(folder / "whole") == weights(folder / "parts"), "checkpoints change bits")


def check_best(tally, folder):
    """Patience ends it; the directory holds what was best, and --resume goes on knowing it."""
    source = write(folder / "groups.csv", groups(100, 2), ["anchor", "positive"])
    rated = write(folder / "pairs.csv", pairs(60), ["score", "sentence1", "sentence2"])
    how = ["-i", source, "--eval", rated, "--eval-steps", 2, "--batch-size", 8, "--steps", 60,
           "--json", "--learning-rate", "0.02", "--schedule", "constant"]
    done = train(BERT, folder / "best", *how, "--patience", 3, "--keep-best", "--log",
                 folder / "log", "--checkpoint", folder / "state", "--checkpoint-steps", 2)
    said = said_by(tally, done)
    scores = {line["step"]: line["spearman"] for line in
              read_jsonl((folder / "log").read_bytes()) if "spearman" in line and line["step"]}
    if not said or not tally.expect(scores, "no evaluations"):
        return
    best = max(scores, key=lambda step: (scores[step], -step))
    tally.expect(said["best_step"] == best and said["spearman_best"] == scores[best],
                 f"{said}: {scores}")
    tally.expect(said["stopped_early"] and said["steps"] == best + 6 < 60, f"{said}")
    expect_exit(tally, done, 0, "3 evaluations without a better one", "the best: Spearman")
    judged = json.loads(run("eval", folder / "best", "-i", rated, "--json", "-q").stdout)
    tally.expect(abs(judged["spearman"] - scores[best]) < 0.05, f"{judged} and {scores[best]}")
    before = weights(folder / "best")
    again = train(BERT, folder / "best", *how, "--patience", 3, "--keep-best", "--force",
                  "--checkpoint", folder / "state", "--checkpoint-steps", 2, "--resume")
    said = said_by(tally, again)
    tally.expect(said.get("best_step") == best and weights(folder / "best") == before,
                 f"resumed: {said}")
    last = train(BERT, folder / "last", *how, "--patience", 3)
    said = said_by(tally, last)
    tally.expect(said.get("stopped_early") and weights(folder / "last") != before, f"{said}")


def crc(data):
    """CRC-32C, masked."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def fields(data):
    """(number, value) of each field of a message of protocol buffers."""
    at = 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        length = {1: 8, 5: 4}.get(key & 7) or number()
        yield key >> 3, data[at:at + length]
        at += length


def read_events(path):
    """(step, tag, value) of an event file, its checksums and version checked."""
    data, at, found, version = path.read_bytes(), 0, [], None
    while at < len(data):
        length, head = struct.unpack("<QI", data[at:at + 12])
        body = data[at + 12:at + 12 + length]
        assert head == crc(data[at:at + 8]), "the length's checksum"
        assert struct.unpack("<I", data[at + 12 + length:at + 16 + length])[0] == crc(body), "body"
        at += 16 + length
        event = dict(fields(body))
        version = version or event.get(3)
        for _, value in fields(event.get(5, b"")):
            parts = dict(fields(value))
            found.append((event.get(2, 0), parts[1].decode(), struct.unpack("<f", parts[2])[0]))
    assert version == b"brain.Event:2", version
    return found


def check_tensorboard(tally, folder):
    """The event file says what the log says."""
    assert crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF
    source = write(folder / "groups.csv", groups(40, 2), ["anchor", "positive"])
    rated = write(folder / "pairs.csv", pairs(30), ["score", "sentence1", "sentence2"])
    events = folder / "runs/first"
    done = train(BERT, folder / "out", "-i", source, "--batch-size", 8, "--eval", rated,
                 "--eval-steps", 2, "--log", folder / "log", "--tensorboard", events, "-q")
    expect_exit(tally, done, 0)
    files = list(events.glob("events.out.tfevents.*"))
    if not tally.expect(len(files) == 1, f"{files}"):
        return
    found = {(step, tag): value for step, tag, value in read_events(files[0])}
    for line in read_jsonl((folder / "log").read_bytes()):
        names = {"loss": "train/loss", "gradient_norm": "train/gradient_norm",
                 "learning_rate": "train/learning_rate", "spearman": "eval/spearman"}
        for key in names.keys() & line.keys():
            value = found.get((line["step"], names[key]))
            tally.expect(value is not None and abs(value - line[key]) <= 1e-5 * abs(line[key]),
                         f"{line['step']} {key}: {value} and {line[key]}")
    done = train(BERT, folder / "other", "-i", source, "--tensorboard", source)
    expect_exit(tally, done, 64, "overwritten")
    done = train(BERT, folder / "other", "-i", source, "--tensorboard", "/proc/none/x")
    expect_exit(tally, done, 73, "/proc")


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        for check in (check_learns, check_vectors, check_memory, check_accumulate, check_best,
                      check_tensorboard):
            with tempfile.TemporaryDirectory(prefix="embound-train-") as name:
                check(tally, pathlib.Path(name))
    tally.end()


if __name__ == "__main__":
    main()
