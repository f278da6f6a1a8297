#!/usr/bin/env python3
"""train: what it learns and writes, the same bits for any number of threads, bytes within its plan,
faults of files by row, signals, the log.

SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import pathlib
import random
import re
import resource
import signal
import subprocess
import tempfile
import time

from common import BERT, MPNET, expect_exit, leftovers, program, read_jsonl, read_npy, ready, run

WORDS = ("river stone moon cat mat walk slow bounded memory plan light house tree bird winter city "
         "road paper cold warm blue green letter kitchen").split()


def groups(count, texts=3, seed=1):
    """Rows of an anchor, a text of the same words, and others."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        anchor = draw.choices(WORDS, k=6)
        positive = draw.sample(anchor, 6)
        others = [draw.choices(WORDS, k=6) for _ in range(texts - 2)]
        rows.append([" ".join(text) for text in [anchor, positive, *others]])
    return rows


def pairs(count, seed=2):
    """(score, text, text): the score is the share of words in common."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        first, kept = draw.sample(WORDS, 5), draw.randrange(6)
        second = first[:kept] + draw.sample(WORDS, 5 - kept)
        rows.append([str(kept / 5), " ".join(first), " ".join(second)])
    return rows


def write(path, rows, header=None, between=","):
    """A table without quotes."""
    lines = [between.join(row) for row in ([header] if header else []) + rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_jsonl(path, rows):
    """Objects, a line each."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train(model, out, *arguments, **more):
    """The finished process of a training at a rate that shows."""
    return run("train", model, "-o", out, "--learning-rate", "1e-3", *arguments, **more)


def weights(folder):
    """The bytes of the parameters."""
    return (folder / "model.safetensors").read_bytes()


def check_learns(tally, folder, model):
    """A few epochs lower the loss; the report, the log and the written model agree with them."""
    source = write(folder / "groups.csv", groups(100), ["anchor", "positive", "negative"])
    rated = write(folder / "pairs.csv", pairs(60), ["score", "sentence1", "sentence2"])
    out, log = folder / "learned", folder / "log.jsonl"
    done = train(model, out, "-i", source, "--batch-size", 16, "--epochs", 3, "--json", "--log",
                 log, "--eval", rated, "--eval-steps", 8)
    if not expect_exit(tally, done, 0, "memory:", "Spearman"):
        return
    said, lines = json.loads(done.stdout), read_jsonl(log.read_bytes())
    steps = [line for line in lines if "loss" in line]
    scores = [line for line in lines if "spearman" in line]
    tally.expect(said["steps"] == said["steps_planned"] == len(steps) == 21, f"steps: {said}")
    tally.expect(said["examples"] == 300 and not said["interrupted"], f"{said}")
    tally.expect(said["tokens"] == sum(s["tokens"] for s in steps), "tokens")
    tally.expect(said["loss_last"] < 0.5 * said["loss_first"], f"the loss: {said}")
    tally.expect(steps[0]["loss"] == said["loss_first"] and steps[-1]["loss"] == said["loss_last"],
                 "the losses of the log")
    tally.expect([s["step"] for s in scores] == [0, 8, 16, 21], f"evaluated at {scores}")
    tally.expect([s["epoch"] for s in steps] == [0] * 7 + [1] * 7 + [2] * 7, "epochs")
    tally.expect(scores[0]["spearman"] == said["spearman_before"] and
                 scores[-1]["spearman"] == said["spearman_after"], f"{scores}")
    tally.expect(all(s["host_bytes"] <= said["host_bytes_planned"] and s["gradient_norm"] > 0 and
                     s["tokens_per_second"] > 0 for s in steps), "the log's bytes and rates")
    tally.expect(math.isclose(steps[0]["learning_rate"], 1e-3, rel_tol=1e-6), "first rate")
    for which, when in [(model, "before"), (out, "after")]:
        eval_said = json.loads(run("eval", which, "-i", rated, "--json", "-q").stdout)
        tally.expect(abs(eval_said["spearman"] - said[f"spearman_{when}"]) < 0.05,
                     f"eval {when}: {eval_said} and {said}")
    vectors = folder / "v.npy"
    expect_exit(tally, run("encode", out, "-i", source, "--column", "anchor", "-o", vectors), 0)
    tally.expect(read_npy(vectors)[0] == 100, "vectors of the trained model")
    info = json.loads(run("info", out, "--json").stdout)["model"]
    tally.expect(info["stored_dtype"] == "f32" and (out / "embound_training.json").exists(),
                 f"{info}")
    tally.expect(weights(out) != weights(model), "the parameters are as before")
    expect_exit(tally, train(model, out, "-i", source), 64, "is there already", "--force")
    expect_exit(tally, train(model, out, "-i", source, "--force", "--steps", 1, "-q"), 0)


def check_bits(tally, folder, model):
    """The same bits for any number of threads; within rounding under the smallest budget."""
    source = write(folder / "groups.csv", groups(80, 2), ["anchor", "positive"])
    how = ["-i", source, "--batch-size", 64, "--steps", 5, "--dropout", "0.1"]
    outs = {}
    for threads in [1, 2, 5]:
        out = folder / f"threads{threads}"
        expect_exit(tally, train(model, out, *how, "-q", "-t", threads), 0)
        outs[threads] = weights(out)
    tally.expect(outs[1] == outs[2] == outs[5], "bits differ by threads")
    losses = []
    for budget in ["auto", "8.6MiB"]:
        done = train(model, folder / "budget", *how, "-m", budget, "-t", 1, "--force", "--json")
        if expect_exit(tally, done, 0):
            losses.append(json.loads(done.stdout)["loss_last"])
    tally.expect(len(losses) == 2 and math.isclose(*losses, rel_tol=1e-3),
                 f"losses under budgets: {losses}")


def check_formats(tally, folder):
    """The same examples from each format, by names and numbers, give the same bits."""
    rows = groups(20)
    names = ["anchor", "positive", "negative"]
    other = ["query", "answer", "wrong"]
    shuffled = [[row[2], "x", row[0], row[1]] for row in rows]
    objects = [dict(zip(names, row)) for row in rows]
    cases = [
        (write(folder / "a.csv", rows, names), []),
        (write(folder / "b.csv", rows, other), ["--columns", "query,answer,wrong"]),
        (write(folder / "c.csv", rows), ["--no-header"]),
        (write(folder / "d.csv", shuffled, ["negative", "note", "anchor", "positive"]), []),
        (write(folder / "e.csv", shuffled), ["--no-header", "--columns", "3,4,1"]),
        (write(folder / "f.tsv", rows, names, "\t"), []),
        (write(folder / "g.txt", rows, names, ";"), ["--delimiter", ";"]),
        (write(folder / "h.csv", [[f'"{t}"' for t in r] for r in rows], names, "\t"),
         ["--input-format", "tsv"]),
        (write_jsonl(folder / "i.jsonl", objects), []),
        (write_jsonl(folder / "j.jsonl", [dict(zip(reversed(other), reversed(r))) for r in rows]),
         ["--columns", "query,answer,wrong"]),
    ]
    found = set()
    for source, options in cases:
        out = folder / "out"
        done = train(BERT, out, "-i", source, "--batch-size", 8, "--force", "-q", *options)
        if expect_exit(tally, done, 0, what=source.name):
            found.add(weights(out))
    first = write(folder / "k.csv", rows[:9], names)
    second = write_jsonl(folder / "l.jsonl", objects[9:])
    done = train(BERT, folder / "out", "-i", first, "-i", second, "--batch-size", 8,
                 "--force", "-q")
    if expect_exit(tally, done, 0, what="two files"):
        found.add(weights(folder / "out"))
    tally.expect(len(found) == 1, f"{len(found)} models of the same examples")


def check_scored(tally, folder):
    """Both losses of scored pairs; with a header, without one, as objects."""
    rows = pairs(40)
    wide = [["a", "b", "c", "d", *row] for row in rows]
    keys = ["score", "sentence1", "sentence2"]
    objects = [dict(zip(keys, [float(row[0]), *row[1:]])) for row in rows]
    sources = [write(folder / "m.csv", rows, keys), write(folder / "n.csv", wide, None, "\t"),
               write_jsonl(folder / "o.jsonl", objects)]
    for loss in ["cosent", "cosine"]:
        found = set()
        for source in sources:
            out = folder / "out"
            done = train(BERT, out, "-i", source, "--loss", loss, "--epochs", 8, "--json",
                         "--force", "--batch-size", 40, "--eval", source)
            if expect_exit(tally, done, 0, what=f"{loss} {source.name}"):
                said = json.loads(done.stdout)
                found.add((weights(out), said["loss_first"], said["spearman_after"]))
                tally.expect(said["loss_last"] < said["loss_first"] and
                             said["spearman_after"] > said["spearman_before"], f"{loss}: {said}")
        tally.expect(len(found) == 1, f"{loss}: {len(found)} models of the same pairs")


BAD_TABLES = [
    ("anchor,positive\na,b\nc\n", [], ["line 3", '"positive"', "lacks"]),
    ("anchor,positive,negative\na,b,c\nd,e,\n", [], ["line 3", '"negative" is empty']),
    ("anchor,positive\n\n  ,b\nc,d\n", [], ["line 3", '"anchor" is empty']),
    ("anchor,positive\na,b,c\n", [], ["line 2", "more cells"]),
    ('anchor,positive\na,b\n"c,d\n', [], ["line 3", "never closed"]),
    ("a,b\nc,d\n", [], ["anchor,positive", '"a", "b"', "--columns", "--no-header"]),
    ("a;b\nc;d\n", [], ["--delimiter ';'"]),
    ("anchor,positive\na,b\n", ["--columns", "anchor"], ["--columns 'anchor'"]),
    ("anchor,positive\na,b\n", ["--columns", "anchor,anchor"], ["each once"]),
    ("anchor,positive\na,b\n", ["--columns", "anchor,7"], ["has no anchor,7"]),
    ("anchor,positive\na,b\n", [], ["single example", "two or more"]),
    ("anchor,positive\n", [], ["no example"]),
    ("", [], ["empty"]),
    ("\n\n", [], ["no example"]),
    ("score,sentence1,sentence2\n1,a,b\nhigh,c,d\n", ["--loss", "cosent"], ["line 3", '"high"']),
    ("score,sentence1,sentence2\n1,a,b\n,c,d\n", ["--loss", "cosent"], ["line 3", "no score"]),
    ("score,sentence1,sentence2\n1,a,b\nnan,c,d\n", ["--loss", "cosent"], ["line 3", '"nan"']),
    ("score,sentence1,sentence2\n1,a,b\n4.5,c,d\n", ["--loss", "cosine"],
     ["line 3", "4.5", "divide", "cosent"]),
    ("anchor,positive\na,b\n", ["--loss", "cosent"], ["SCORE,FIRST,SECOND"]),
    ("score,sentence1,sentence2\n1,a,b\n", ["--loss", "cosent"], ["single example"]),
]
BAD_LINES = [
    ('{"anchor":"a","positive":"b"}\n{"anchor":"c"}\n', [], ["line 2", '"positive"']),
    ('{"anchor":"a","positive":"b"}\n{"anchor":"c","positive":""}\n', [], ["line 2", "empty"]),
    ('{"anchor":"a","positive":"b"}\n{"anchor":"c","positive":["d"]}\n', [],
     ["line 2", "not a string"]),
    ('{"anchor":"a","positive":"b"}\n{"anchor":"c","positive":"d","negative":"e"}\n', [],
     ["line 2", '"negative"', "--columns"]),
    ('{"anchor":"a","positive":"b"}\n{"anchor":"c","anchor":"c","positive":"d"}\n', [],
     ["line 2", "twice"]),
    ('{"anchor":"a","positive":"b"}\n{"anchor":"c",\n', [], ["line 2, byte"]),
    ('{"anchor":"a","positive":"b"}\n[1]\n', [], ["line 2", "object"]),
    ('{"query":"a","answer":"b"}\n', [], ["line 1", '"query", "answer"', "--columns"]),
    ('{"sentence1":"a","sentence2":"b","score":"1"}\n', ["--loss", "cosent"],
     ["line 1", "not a number"]),
    ('{"sentence1":"a","sentence2":"b"}\n', ["--loss", "cosent"], ["line 1", "no score"]),
]


def check_bad_files(tally, folder):
    """What is wrong, in which file and row, and nothing is written."""
    for cases, suffix in [(BAD_TABLES, "csv"), (BAD_LINES, "jsonl")]:
        for number, (text, options, words) in enumerate(cases):
            source = folder / f"bad{number}.{suffix}"
            source.write_text(text)
            done = train(BERT, folder / "none", "-i", source, *options)
            shown = f"{text!r} {options}"
            tally.expect(done.returncode in (64, 65), f"{shown}: exit {done.returncode}")
            expect_exit(tally, done, done.returncode, *words, what=shown)
    good = write(folder / "good.csv", groups(4, 2), ["anchor", "positive"])
    three = write(folder / "three.csv", groups(4), ["anchor", "positive", "negative"])
    expect_exit(tally, train(BERT, folder / "none", "-i", good, "-i", three), 65, "three.csv",
                "3 texts", "--columns")
    expect_exit(tally, train(BERT, folder / "none", "-i", folder / "missing"), 66, "missing")
    expect_exit(tally, train(BERT, folder / "none", "-i", "-"), 64, "standard input")
    latin = folder / "latin.csv"
    latin.write_bytes(b"anchor,positive\ncaf\xe9,b\nc,d\n")
    expect_exit(tally, train(BERT, folder / "none", "-i", latin, "--invalid", "error"), 65, "0xE9",
                "line 2")
    expect_exit(tally, train(BERT, folder / "latin", "-i", latin), 0, "U+FFFD", "line 2")
    lines = write_jsonl(folder / "lines.jsonl", [{"anchor": "a", "positive": "b"}] * 2)
    for option in [["--no-header"], ["--no-quotes"], ["--delimiter", ";"]]:
        expect_exit(tally, train(BERT, folder / "none", "-i", lines, *option), 64, option[0],
                    "no meaning for", "lines.jsonl")
    same = write(folder / "same.csv", [["one", "two"], ["one", "three"]], ["anchor", "positive"])
    expect_exit(tally, train(BERT, folder / "none", "-i", same, "--no-duplicates"), 65,
                "--no-duplicates")
    tally.expect(not (folder / "none").exists(), "something was written")


def check_refused(tally, folder):
    """Options that contradict one another, outputs that cannot be."""
    good = write(folder / "good.csv", groups(4, 2), ["anchor", "positive"])
    cases = [(["--epochs", 2, "--steps", 3], "one of them"), (["--batch-size", 1], "2 or more"),
             (["--symmetric", "--loss", "cosine"], "ranking alone"),
             (["--eval-steps", 3], "needs --eval"), (["--dropout", "1"], "below 1"),
             (["--warmup-steps", 1, "--warmup-ratio", 0.1], "one of them"),
             (["--learning-rate", "-1"], "a number from 0"), (["--learning-rate", "0"], "above 0"),
             (["--learning-rate", "nan"], "a number from 0"), (["--scale", "1x"], "a number"),
             (["--log", good], "overwritten"), (["--max-length", 2], "special tokens"),
             (["--log", BERT / "config.json"], "file of the model"),
             (["--max-length", 500], "positions"), (["--no-specials"], "no meaning")]
    for options, word in cases:
        done = run("train", BERT, "-i", good, "-o", folder / "none", *options)
        expect_exit(tally, done, 64, word)
    expect_exit(tally, run("train", BERT, "-o", folder / "none"), 64, "-i FILE")
    expect_exit(tally, run("train", BERT, "-i", good), 64, "-o DIR")
    expect_exit(tally, run("train", BERT, "-i", good, "-o", BERT, "--force"), 64, "not by train")
    expect_exit(tally, run("train", BERT, "-i", good, "-o", "/nonexistent/a/b"), 73, "a/b")
    expect_exit(tally, run("train", BERT, "-i", good, "-o", folder / "none", "--log",
                           folder / "no/log"), 73, "--log")
    quantized = folder / "int8"
    expect_exit(tally, run("quantize", BERT, "-o", quantized, "--dtype", "int8"), 0)
    expect_exit(tally, run("train", quantized, "-i", good, "-o", folder / "none"), 64,
                "quantized")
    tally.expect(not (folder / "none").exists() and not leftovers(folder), "something was written")


def check_batches(tally, folder):
    """The last partial batch, the order of an epoch, no text twice."""
    nine = write(folder / "nine.csv", groups(9, 2), ["anchor", "positive"])
    for size, steps, examples in [(4, 2, 8), (5, 2, 9), (9, 1, 9), (100, 1, 9)]:
        done = train(BERT, folder / "out", "-i", nine, "--batch-size", size, "--json", "--force")
        said = json.loads(done.stdout) if expect_exit(tally, done, 0) else {}
        tally.expect(said.get("steps") == steps and said.get("examples") == examples,
                     f"9 examples in batches of {size}: {said}")
    found = {}
    for name, options in [("0", []), ("0 again", ["--seed", 0]), ("1", ["--seed", 1]),
                          ("none", ["--no-shuffle"])]:
        train(BERT, folder / "out", "-i", nine, "--batch-size", 3, "--force", "-q", *options)
        found[name] = weights(folder / "out")
    tally.expect(found["0"] == found["0 again"] and len(set(found.values())) == 3, "orders")
    rows = [[f"{WORDS[i % 5]} a", f"{WORDS[i]} b"] for i in range(20)]
    shared = write(folder / "shared.csv", rows, ["anchor", "positive"])
    done = train(BERT, folder / "out", "-i", shared, "--batch-size", 5, "--json", "--force",
                 "--no-duplicates", "--log", folder / "log")
    said = json.loads(done.stdout) if expect_exit(tally, done, 0) else {}
    tally.expect(said.get("steps") == 4, f"{said}")
    for step in read_jsonl((folder / "log").read_bytes()):
        tally.expect(step["epoch"] == (step["step"] > 4), "an epoch of four batches of five")


def check_memory(tally, folder):
    """The observed peak stays in the plan; the smallest budget works, less is refused by name."""
    source = write(folder / "many.csv", groups(40000, 2), ["anchor", "positive"])
    rated = write(folder / "pairs.csv", pairs(2000), ["score", "sentence1", "sentence2"])
    for model in program.models():
        how = ["train", model, "-i", source, "-o", folder / "out", "--force", "--steps", 2,
               "--batch-size", 200, "--no-duplicates", "--eval", rated, "--json"]
        refused = run(*how, "-m", "1MiB")
        expect_exit(tally, refused, 78, "--memory")
        found = re.search(r"--memory ([\d.]+MiB)", refused.stderr.decode())
        for budget in ["auto", found.group(1) if found else "auto"]:
            done, peak, exact = program.run_with_peak(*how, "-m", budget)
            if not tally.expect(done.returncode == 0, f"{model.name} -m {budget}: {done.stderr}"):
                continue
            said = json.loads(done.stdout)
            planned = said["host_bytes_planned"]
            tally.expect(not exact or peak <= planned, f"{model.name}: {peak} above {planned}")
            tally.expect(said["host_bytes_peak"] <= planned, f"{said}")
            tally.expect(said["examples_bytes"] > 40000 * 2 * 20, f"{said}")
            if budget != "auto":
                limit = float(budget[:-3]) * program.MIB
                tally.expect(planned <= limit, f"{planned} bytes planned of {budget}")


def interrupted(folder, source, number, wait, *options):
    """Sends a signal once the log has so many lines; gives exit code and words."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    command = [str(program.PROGRAM), "train", str(BERT), "-i", str(source), "-o",
               str(folder / "cut"), "--steps", "1000000", "--log", str(log), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        for _ in range(2000):
            if log.exists() and log.read_bytes().count(b"\n") >= wait:
                break
            time.sleep(0.005)
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    return child.returncode, out, err.decode()


def check_signals(tally, folder):
    """A signal ends it after a step, and what was trained is written."""
    source = write(folder / "groups.csv", groups(50), ["anchor", "positive", "negative"])
    for number in [signal.SIGINT, signal.SIGTERM]:
        code, out, words = interrupted(folder, source, number, 3, "--json", "--force")
        tally.expect(code == 128 + number and "interrupted after step" in words,
                     f"{number}: exit {code}: {words}")
        said = json.loads(out) if out else {}
        tally.expect(said.get("interrupted") and said["steps"] >= 3, f"{said}")
        tally.expect(weights(folder / "cut") != weights(BERT), "nothing was trained")
        steps = read_jsonl((folder / "log").read_bytes())
        tally.expect(len(steps) == said.get("steps"), "lines of the log")
        tally.expect(run("encode", folder / "cut", "-i", "-", "-o", "-", stdin=b"a\n").returncode
                     == 0, "what was written cannot be read")
    rated = write(folder / "pairs.csv", pairs(200000), ["score", "sentence1", "sentence2"])
    (folder / "none").mkdir()
    code, _, words = interrupted(folder / "none", source, signal.SIGINT, 0, "--eval", str(rated))
    tally.expect(code in (-signal.SIGINT, 130) and not (folder / "none" / "cut").exists(),
                 f"before the first step: exit {code}: {words}")
    tally.expect(not leftovers(folder), "files are left")


def check_lines(tally, folder):
    """The moving line, quiet runs, a log that cannot be written, a disk that is full."""
    source = write(folder / "groups.csv", groups(40), ["anchor", "positive", "negative"])
    out = folder / "out"
    done = train(BERT, out, "-i", source, "--progress", "always", "--max-length", 6)
    expect_exit(tally, done, 0, "loss", "tok/s", "left", "MiB", "100%", "cut")
    done = train(BERT, out, "-i", source, "--force", "--progress", "never")
    tally.expect(b"\r" not in done.stderr and b"tokens/s" in done.stderr, "--progress never")
    done = train(BERT, out, "-i", source, "--force", "--progress", "always", "-q")
    tally.expect(not done.stderr and not done.stdout, f"quiet: {done.stderr}")
    done = train(BERT, out, "-i", source, "--force", "--log", "/dev/full")
    expect_exit(tally, done, 74, "training goes on")
    tally.expect(out.exists(), "and nothing was written")

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    done = train(MPNET, folder / "full", "-i", source, "-q", preexec_fn=small_files)
    expect_exit(tally, done, 74)
    tally.expect(not list(folder.glob("full*")), "a part of a model is left")


def main():
    """All of it, in a folder of its own."""
    tally = program.Tally()
    if ready(tally):
        for check, arguments in [(check_learns, [BERT]), (check_learns, [MPNET]),
                                 (check_bits, [BERT]), (check_formats, []), (check_scored, []),
                                 (check_bad_files, []), (check_refused, []), (check_batches, []),
                                 (check_memory, []), (check_signals, []), (check_lines, [])]:
            with tempfile.TemporaryDirectory(prefix="embound-train-") as name:
                check(tally, pathlib.Path(name), *arguments)
    tally.end()


if __name__ == "__main__":
    main()
