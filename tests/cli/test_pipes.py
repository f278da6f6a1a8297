#!/usr/bin/env python3
"""Pipes that ask and wait: the row of a line comes before the next line is sent; a pipe that pauses
loses nothing; the share of the work that the moving line shows is of rows done.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import re
import select
import subprocess
import tempfile
import time

from common import BERT, MPNET, expect_exit, program, read_jsonl, ready, run

TEXTS = ["the cat sat", "", "na\u00efve \u6771\u4eac", "word " * 3000, "the last one"]


def lines_of(form):
    """What is written before the first line, and each text as a line of this form."""
    if form == "jsonl":
        return b"", [json.dumps({"id": 1, "text": t}).encode() + b"\n" for t in TEXTS]
    if form == "csv":
        return b"id,text\n", [f"1,{t}\n".encode() for t in TEXTS]
    return b"", [t.encode() + b"\n" for t in TEXTS]


def ask(job, data, seconds=30):
    """Writes and waits for one line of an answer; None if none comes."""
    job.stdin.write(data)
    job.stdin.flush()
    if not select.select([job.stdout], [], [], seconds)[0]:
        return None
    return job.stdout.readline()


def start(*arguments, **more):
    """The program between two pipes, unbuffered here."""
    return subprocess.Popen([str(program.PROGRAM), *map(str, arguments)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **more)


def check_asking(tally, command, form, **more):
    """Each line is answered while the pipe stays open; the answers are those of a file."""
    name = f"{command[0]} {command[1].name} {form} {command[2:]}"
    head, lines = lines_of(form)
    whole = run(*command, "-i", "-", "--input-format", form, stdin=head + b"".join(lines), **more)
    wanted = whole.stdout.splitlines(keepends=True)
    if not tally.expect(len(wanted) == len(lines), f"{name}: {whole.stderr}"):
        return
    with start(*command, "-i", "-", "--input-format", form, **more) as job:
        if head:
            job.stdin.write(head)
        for number, line in enumerate(lines):
            answer = ask(job, line)
            if not tally.expect(answer is not None, f"{name}: no answer to line {number}"):
                job.kill()
                return
            tally.expect(answer == wanted[number], f"{name}: answer {answer[:80]}")
        # half a line is no text yet; then several at once
        job.stdin.write(lines[0][:-3])
        time.sleep(0.1)
        answers = [ask(job, lines[0][-3:] + lines[2] + lines[4]), *(ask(job, b"") for _ in "12")]
        tally.expect(answers[0] == whole_row(wanted[0], 5), f"{name}: halves {answers[0][:60]}")
        tally.expect(all(answers), f"{name}: several at once")
        job.stdin.close()
        rest = job.stdout.read()
        tally.expect(rest == b"" and job.wait(timeout=30) == 0, f"{name}: the end {rest[:80]}")


def whole_row(line, index):
    """An answer with another number."""
    return re.sub(rb'^\{"index":\d+', b'{"index":%d' % index, line)


def check_failed(tally):
    """A failed row is answered too, and what comes after it."""
    with start("encode", BERT, "-i", "-", "--input-format", "jsonl", "-o", "-", "-q") as job:
        for index, line in enumerate([b'{"no":1}\n', b'{"text":"a"}\n', b"{\n", b"{}\n",
                                      b'{"text":"b"}\n']):
            answer = ask(job, line)
            if not tally.expect(answer is not None, f"no answer to {line}"):
                job.kill()
                return
            row = json.loads(answer)
            good = b"text" in line
            tally.expect(row["index"] == index and (row["embedding"] is not None) == good,
                         f"answer to {line}: {answer[:80]}")
        job.stdin.close()
        tally.expect(job.wait(timeout=30) == 65, "exit of failed rows")


def check_pauses(tally, folder):
    """A pipe that comes in bursts gives the bits of a file, also where layers are streamed."""
    texts = [f"text number {n} " * (n % 7) for n in range(600)]
    data = "".join(t + "\n" for t in texts).encode()
    path = folder / "t.txt"
    path.write_bytes(data)
    for model, options in [(BERT, []), (program.DEEP, ["--memory", "8MiB"])]:
        if not (model / "model.safetensors").exists():
            tally.skip(f"{model} is not built")
            continue
        command = ["encode", model, "-q", "-o", "-", *options]
        wanted = run(*command, "-i", path)
        with start(*command, "-i", "-") as job:
            got = b""
            for at in range(0, len(data), 4001):
                job.stdin.write(data[at:at + 4001])
                time.sleep(0.02)
                while select.select([job.stdout], [], [], 0)[0]:
                    got += os.read(job.stdout.fileno(), 1 << 20)
            job.stdin.close()
            got += job.stdout.read()
        tally.expect(got == wanted.stdout, f"{model.name}: bursts give other rows")


def check_other_end(tally, folder):
    """A reader that goes away while the input pauses ends the job; so does a signal."""
    with start("encode", BERT, "-i", "-", "-o", "-", "-q") as job:
        ask(job, b"a\n")
        job.stdout.close()
        job.stdin.write(b"b\n")
        tally.expect(job.wait(timeout=30) == 74, f"closed reader: {job.returncode}")
    out = folder / "o.npy"
    with start("encode", BERT, "-i", "-", "-o", out) as job:
        job.stdin.write(b"a\nb\n")
        time.sleep(0.3)
        job.terminate()
        tally.expect(job.wait(timeout=30) == 143 and not out.exists(), "signal in a pause")


def check_share(tally, folder):
    """The moving line never shows a greater share than that of the rows that are done."""
    count = 30_000
    path = folder / "t.txt"
    command = ["encode", BERT, "-i", path, "-o", folder / "o.npy", "--progress", "always",
               "-t", "1"]
    path.write_text("the cat sat on the mat and looked at the moon\n" * count)
    done = run(*command)
    expect_exit(tally, done, 0)
    shown = re.findall(r"(\d+)% [#.]+ (\d+) texts", done.stderr.decode())
    tally.expect(len(shown) > 2 and shown[-1] == ("100", str(count)), f"the bar {shown[-3:]}")
    for share, texts in shown:
        tally.expect(abs(int(share) - 100 * int(texts) / count) < 1, f"{share} % at {texts} texts")
    path.write_text("the cat sat on the mat and looked at the moon " * 50_000)
    done = run(*command)
    shares = [int(s) for s in re.findall(r"(\d+)% [#.]+ 0 texts", done.stderr.decode())]
    tally.expect(shares == sorted(shares) and max(shares, default=0) > 5, f"one text: {shares}")


def main():
    """All of it."""
    tally = program.Tally()
    if ready(tally):
        for form in ("txt", "jsonl", "csv"):
            check_asking(tally, ["encode", BERT, "-o", "-", "-q"], form)
            check_asking(tally, ["tokenize", BERT, "--json"], form)
        check_asking(tally, ["encode", MPNET, "-o", "-", "-q"], "jsonl")
        if program.FAKE_MODULE.exists():
            env = {**os.environ, **program.FAKE_GPU}
            check_asking(tally, ["encode", BERT, "-o", "-", "-q", "--device", "cuda"], "txt",
                         env=env)
        else:
            tally.skip("the fake CUDA module is not built")
        check_failed(tally)
        for check in (check_pauses, check_other_end, check_share):
            with tempfile.TemporaryDirectory(prefix="embound-cli-") as name:
                check(tally, pathlib.Path(name))
    tally.end()


if __name__ == "__main__":
    main()
