#!/usr/bin/env python3
"""encode: outputs in both forms, failed rows, long texts, places that cannot be written, signals.

SPDX-License-Identifier: Apache-2.0
"""
import fcntl
import json
import math
import os
import pathlib
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import (BERT, MPNET, expect_exit, leftovers, program, read_jsonl, read_npy, ready,
                    run)

TEXTS = ["the cat sat", "", "naïve café — 東京 [MASK]", "word " * 400, "the last one"]
STATS = ["texts", "texts_failed", "texts_long", "tokens", "rows_computed", "seconds",
         "seconds_tokenize", "seconds_encode", "host_bytes_planned", "host_bytes_peak", "rung",
         "rung_name", "passes", "bytes_read", "chunks", "tokens_dropped", "numerics_id"]


def write(folder, texts=None):
    """A jsonl file with the texts; gives its path."""
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts or TEXTS))
    return path


def check_outputs(tally, folder):
    """npy, jsonl to a file, jsonl to a pipe: the same vectors."""
    source = write(folder)
    for model in (BERT, MPNET):
        npy, jsonl = folder / "o.npy", folder / "o.jsonl"
        expect_exit(tally, run("encode", model, "-i", source, "-o", npy), 0, "5 texts")
        expect_exit(tally, run("encode", model, "-i", source, "-o", jsonl, "-q"), 0)
        piped = run("encode", model, "-i", "-", "--input-format", "jsonl", "-o", "-", "--quiet",
                    stdin=source.read_bytes())
        expect_exit(tally, piped, 0)
        tally.expect(piped.stderr == b"", f"--quiet says {piped.stderr}")
        tally.expect(piped.stdout == jsonl.read_bytes(), "pipe and file differ")
        rows, dim, values = read_npy(npy)
        objects = read_jsonl(piped.stdout)
        wanted = json.loads((model / "config.json").read_text())["hidden_size"]
        tally.expect((rows, dim) == (5, wanted), f"shape {rows} {dim}")
        tally.expect([o["index"] for o in objects] == list(range(5)), "index")
        for object_, row in zip(objects, values):
            packed = program_floats(object_["embedding"])
            tally.expect(packed == row, "jsonl does not read back to the same floats")
            tally.expect(abs(math.fsum(v * v for v in row) - 1) < 1e-5, "not normalised")
        tally.expect(not leftovers(folder), f"left behind: {leftovers(folder)}")
        tally.expect(not (folder / "o.npy.errors.jsonl").exists(), "errors without errors")
    by_option = folder / "vectors.bin"
    expect_exit(tally, run("encode", BERT, "-i", source, "-o", by_option, "--output-format",
                           "npy"), 0)
    tally.expect(read_npy(by_option)[0] == 5, "--output-format")
    (folder / "none.txt").write_bytes(b"")
    expect_exit(tally, run("encode", BERT, "-i", folder / "none.txt", "-o", folder / "z.npy"), 0)
    tally.expect(read_npy(folder / "z.npy")[:2] == (0, 32), "no texts, no rows")


def program_floats(numbers):
    """Numbers as 32-bit floats, the way the .npy holds them."""
    import array  # pylint: disable=import-outside-toplevel
    return tuple(array.array("f", numbers))


def check_options(tally, folder):
    """Options that change the vectors, and --stats, --json, --threads, --memory."""
    source = write(folder)

    def rows(*options):
        out = folder / "v.npy"
        done = run("encode", BERT, "-i", source, "-o", out, *options)
        expect_exit(tally, done, 0)
        return read_npy(out)[2]

    base = rows()
    for same in [["--threads", "1"], ["--device", "cpu"], ["--device", "auto"], ["--normalize"],
                 ["--pooling", "mean"], ["--long", "chunk"], ["--dtype", "f32"],
                 ["--memory", "1GB"], ["--progress", "always"], ["--prompt", ""]]:
        tally.expect(rows(*same) == base, f"{same} changes the vectors")
    for other in [["--pooling", "cls"], ["--pooling", "max"], ["--no-normalize"],
                  ["--long", "truncate"], ["--max-length", "16"], ["--chunk-tokens", "16"],
                  ["--prompt", "query: "], ["--dim", "8"]]:
        tally.expect(rows(*other) != base, f"{other} changes nothing")
    tally.expect(len(rows("--dim", "8")[0]) == 8, "--dim")
    prompted = rows("--prompt", "the ")[0]
    write(folder, ["the " + t for t in TEXTS])
    tally.expect(rows()[0] == prompted, "--prompt is not the text with the prompt before it")
    source = write(folder)
    stats_path = folder / "s.json"
    rows("--stats", stats_path)
    stats = json.loads(stats_path.read_text())
    for key in STATS:
        tally.expect(key in stats, f"--stats lacks {key}")
    tally.expect(stats["texts"] == 5 and stats["texts_long"] == 1, f"counts {stats}")
    tally.expect(stats["rows_computed"] == stats["tokens"], "padding")
    tally.expect(0 < stats["host_bytes_peak"] <= stats["host_bytes_planned"], "peak and plan")
    done = run("encode", BERT, "-i", source, "-o", folder / "v.npy", "--json", "-q")
    tally.expect(json.loads(done.stdout)["texts"] == 5, "--json")
    done = run("encode", BERT, "-i", source, "-o", folder / "v.npy")
    for words in ["5 texts", "1 of them longer", "tokens", "planned", "peak"]:
        tally.expect(words in done.stderr.decode(), f"the summary lacks {words!r}")
    done = run("encode", BERT, "-i", source, "-o", folder / "v.npy", "--long", "truncate")
    tally.expect("cut off" in done.stderr.decode(), "what was cut off is not said")


def check_failed_rows(tally, folder):
    """Rows that fail are NaN or null and listed; all others are written; exit 65."""
    good = [json.dumps({"text": f"text number {n}"}) for n in range(400)]
    lines = list(good)
    bad = [0, 7, 199, 200, 399]
    for n in bad:
        lines[n] = '{"text": 3}' if n % 2 else '{"text": "half of it'
    (folder / "b.jsonl").write_text("\n".join(lines))
    (folder / "g.jsonl").write_text("\n".join(good))
    out, errors = folder / "b.npy", folder / "b.npy.errors.jsonl"
    expect_exit(tally, run("encode", BERT, "-i", folder / "b.jsonl", "-o", out), 65,
                "5 rows failed", "b.npy.errors.jsonl", "line 8")
    expect_exit(tally, run("encode", BERT, "-i", folder / "g.jsonl", "-o", folder / "g.npy"), 0)
    found, wanted = read_npy(out)[2], read_npy(folder / "g.npy")[2]
    tally.expect(len(found) == 400, f"{len(found)} rows")
    for n in range(400):
        holds = all(map(math.isnan, found[n])) if n in bad else found[n] == wanted[n]
        tally.expect(holds, f"row {n} beside failed rows")
    listed = read_jsonl(errors.read_bytes())
    tally.expect([e["index"] for e in listed] == bad, f"listed {[e['index'] for e in listed]}")
    tally.expect([e["line"] for e in listed] == [n + 1 for n in bad], "lines")
    tally.expect(all(e["input"].endswith("b.jsonl") and e["status"] == "EMB_BAD_TEXT"
                     and e["message"] for e in listed), "input, status, message")
    expect_exit(tally, run("encode", BERT, "-i", folder / "g.jsonl", "-o", out), 0)
    tally.expect(not errors.exists(), "the list of an earlier run stays")
    piped = run("encode", BERT, "-i", folder / "b.jsonl", "-o", "-")
    objects = read_jsonl(piped.stdout)
    tally.expect(piped.returncode == 65 and len(objects) == 400, "pipe with failed rows")
    tally.expect([o["index"] for o in objects if o["embedding"] is None] == bad, "null rows")
    tally.expect(objects[0]["error"] == "EMB_BAD_TEXT", "error of a null row")
    source = write(folder)
    done = run("encode", BERT, "-i", source, "-o", out, "--long", "error", "--stats",
               folder / "s.json")
    expect_exit(tally, done, 65, "longer than the model's window", "--long chunk", "line 4")
    tally.expect(b"cut off" not in done.stderr, f"a refused text was cut off? {done.stderr}")
    listed = read_jsonl(errors.read_bytes())
    tally.expect([(e["index"], e["status"]) for e in listed] == [(3, "EMB_TOO_LONG")], "too long")
    tally.expect(json.loads((folder / "s.json").read_text())["texts_failed"] == 1, "stats")
    (folder / "many.jsonl").write_text(good[0] + "\n" + "{}\n" * 70000)
    done = run("encode", BERT, "-i", folder / "many.jsonl", "-o", out)
    expect_exit(tally, done, 65, "70000 rows failed", "further failed rows are not shown")
    tally.expect(len(done.stderr.splitlines()) < 20, "too many lines on standard error")


def check_places(tally, folder):
    """Outputs that cannot be written: exit 73 or 74, and nothing is left behind."""
    source = write(folder)
    base = ["encode", BERT, "-i", source]
    expect_exit(tally, run(*base, "-o", folder / "no" / "o.npy"), 73, "No such file")
    expect_exit(tally, run(*base, "-o", folder, "--output-format", "npy"), 73, "directory")
    expect_exit(tally, run(*base, "-o", source), 64, "overwritten")
    expect_exit(tally, run(*base, "-o", folder / "o.npy", "--stats", source), 64, "overwritten")
    os.link(source, folder / "same.jsonl")
    expect_exit(tally, run(*base, "-o", folder / "same.jsonl"), 64, "overwritten")
    before = source.read_bytes()
    tally.expect(before == write(folder).read_bytes(), "the input was changed")
    expect_exit(tally, run(*base, "-o", "/dev/full"), 74, "/dev/full")
    with open("/dev/full", "wb") as full:
        expect_exit(tally, run(*base, "-o", "-", stdout=full), 74, "standard output")
        expect_exit(tally, run("plan", BERT, stdout=full), 74, "standard output")
        expect_exit(tally, run("--help", stdout=full), 74)
    closed = run(*base, "-o", "-", preexec_fn=lambda: os.close(1))
    expect_exit(tally, closed, 74, "standard output")
    expect_exit(tally, run("plan", BERT, preexec_fn=lambda: os.close(1)), 74)
    quiet = run(*base, "-o", folder / "q.npy", preexec_fn=lambda: [os.close(n) for n in (0, 1, 2)])
    tally.expect(quiet.returncode == 0 and read_npy(folder / "q.npy")[0] == 5, "0, 1, 2 closed")
    expect_exit(tally, run(*base, "-o", "/dev/null"), 0)
    head = subprocess.run(f"'{program.PROGRAM}' encode '{BERT}' -i /dev/stdin -o - -q | head -n 1",
                          shell=True, input=b"the cat\n" * 3000, capture_output=True, timeout=120,
                          check=False)
    tally.expect(len(read_jsonl(head.stdout)) == 1 and head.stderr == b"",
                 f"a reader that goes away: {head.stderr}")
    locked = folder / "locked"
    locked.mkdir(mode=0o555)
    if os.geteuid() == 0:
        tally.skip("a read-only directory: root writes everywhere")
    else:
        expect_exit(tally, run(*base, "-o", locked / "o.npy"), 73, "Permission")
    limited = run(*base, "-o", folder / "limited.npy",
                  preexec_fn=lambda: __import__("resource").setrlimit(1, (200, 200)))
    tally.expect(limited.returncode in (74, -25, 128 + 25), f"file size: {limited.returncode}")
    target, link = folder / "target.npy", folder / "link.npy"
    target.write_bytes(b"old")
    target.chmod(0o640)
    os.symlink(target, link)
    expect_exit(tally, run(*base, "-o", link), 0)
    tally.expect(link.is_symlink() and read_npy(target)[0] == 5, "an output behind a link")
    tally.expect(target.stat().st_mode & 0o777 == 0o640, "the mode of a replaced file")
    expect_exit(tally, run(*base, "-o", folder / "o.npy", "--stats", folder / "no" / "s"), 73)
    here = run("encode", BERT.resolve(), "-i", source, "-o", "plain.npy", cwd=folder)
    expect_exit(tally, here, 0)
    left = [n for n in leftovers(folder) if "limited" not in n]
    tally.expect(not left, f"left behind: {left}")


def check_clashes(tally, folder):
    """Outputs that would go into one file, or into an input, are refused before any work."""
    source = write(folder)
    before = source.read_bytes()
    for out in ("o.jsonl", "o.npy"):
        job = ["encode", BERT, "-i", source, "-o"]
        for there in (False, True):
            for stats in (out, f"./{out}", f"{out}.errors.jsonl", folder / out):
                done = run(*job, out, "--stats", stats, cwd=folder)
                expect_exit(tally, done, 64, "--stats", "choose another name")
            tally.expect((folder / out).exists() == there, f"{out} after a refusal")
            expect_exit(tally, run(*job, folder / out), 0)
            made = (folder / out).read_bytes()
        os.symlink(folder / out, folder / "link")
        os.link(folder / out, folder / "hard")
        for stats in ("link", "hard"):
            expect_exit(tally, run(*job, out, "--stats", stats, cwd=folder), 64, "--stats")
            (folder / stats).unlink()
        tally.expect((folder / out).read_bytes() == made, f"{out} was changed")
    with open(folder / "o.jsonl", "ab") as held:
        expect_exit(tally, run(*job, "-", "--stats", folder / "o.jsonl", stdout=held), 64)
    expect_exit(tally, run(*job, "-", "--stats", "-"), 64, "--stats")
    expect_exit(tally, run(*job, "/dev/null", "--stats", "/dev/null"), 0)
    expect_exit(tally, run(*job, folder / "o.npy", "--stats", folder / "s.json"), 0)
    failed = folder / "z.npy.errors.jsonl"
    failed.write_bytes(before)
    done = run("encode", BERT, "-i", failed, "-o", folder / "z.npy")
    expect_exit(tally, done, 64, "overwritten")
    tally.expect(failed.exists() and failed.read_bytes() == before, "the input was removed")
    table = folder / "p.csv"
    table.write_text("score,sentence1,sentence2\n1,a,b\n2,the cat,sat\n3,moon,moon\n")
    for arguments, path in [(["eval", BERT, table], table), (["bench", BERT, "-i", source], source),
                            (["search", BERT, "--index", folder / "o.npy", "q"], folder / "o.npy"),
                            (["search", BERT, "--index", folder / "o.npy", "--texts", source, "q"],
                             source)]:
        held = path.read_bytes()
        expect_exit(tally, run(*arguments, "--stats", path), 64, "overwritten")
        tally.expect(path.read_bytes() == held, f"{arguments[0]} --stats changed its input")


def check_model_files(tally, folder):
    """A file of the model is never an output; a new file beside it may be."""
    model, source = folder / "model", write(folder)
    shutil.copytree(BERT, model)
    for name in ("model.safetensors", "config.json", "1_Pooling/config.json"):
        kept = (model / name).read_bytes()
        for job in (["encode", model, "-i", source, "-o", model / name, "--output-format", "npy"],
                    ["encode", model, "-i", source, "-o", folder / "m.npy", "--stats",
                     model / name],
                    ["info", model, "--save-machine", model / name]):
            expect_exit(tally, run(*job), 64, "file of the model")
        tally.expect((model / name).read_bytes() == kept, f"{name} was changed")
    expect_exit(tally, run("encode", model, "-i", source, "-o", model / "new.npy"), 0)


def check_lock(tally, folder):
    """A second job on the same output is told so; the place left by a killed job is reused."""
    source, out = write(folder), folder / "lock.npy"
    part = folder / ".lock.npy.part"
    with open(part, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        expect_exit(tally, run("encode", BERT, "-i", source, "-o", out), 75, "another job")
    part.write_bytes(b"rest of a killed job" * 1000)
    expect_exit(tally, run("encode", BERT, "-i", source, "-o", out), 0)
    tally.expect(read_npy(out)[0] == 5 and not part.exists(), "after a killed job")
    victim = folder / "victim"
    victim.write_bytes(b"precious")
    os.symlink(victim, part)
    expect_exit(tally, run("encode", BERT, "-i", source, "-o", out), 73, ".lock.npy.part",
                "symbolic link")
    tally.expect(victim.read_bytes() == b"precious" and part.is_symlink(), "wrote through a link")


def start(*arguments, **more):
    """Starts the program and leaves it running."""
    return subprocess.Popen([str(program.PROGRAM), *map(str, arguments)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)


def wait_for(path, seconds=20):
    """Waits until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return path.exists()


def check_signals(tally, folder):
    """Signals end a job that waits and a job that computes; the old output stays as it was."""
    out, part = folder / "sig.npy", folder / ".sig.npy.part"
    out.write_bytes(b"old")
    busy = folder / "busy.txt"
    busy.write_text("the cat sat on the mat and looked at the moon\n" * 400_000)
    for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]:
        for source in ("-", busy):
            with start("encode", BERT, "-i", source, "-o", out) as job:
                tally.expect(wait_for(part), "no temporary file")
                if source == "-":
                    job.stdin.write(b"one\ntwo\n")
                    job.stdin.flush()
                time.sleep(0.15)
                job.send_signal(number)
                began = time.monotonic()
                try:
                    _, message = job.communicate(timeout=20)
                except subprocess.TimeoutExpired:
                    job.kill()
                    message = b"it never ended"
                took = time.monotonic() - began
            name = f"{number.name} while {'waiting' if source == '-' else 'computing'}"
            tally.expect(job.returncode == code, f"{name}: exit {job.returncode} {message}")
            tally.expect(b"interrupted" in message, f"{name}: says {message}")
            tally.expect(took < 5, f"{name}: took {took:.1f} s")
            tally.expect(out.read_bytes() == b"old" and not part.exists(), f"{name}: output")


def check_blocked(tally, folder):
    """One signal ends a job whose reader has paused, and it says how many rows came through."""
    source = write(folder, ["the cat sat on the mat"] * 20_000)
    for number, code in [(signal.SIGINT, 130), (signal.SIGTERM, 143)]:
        with start("encode", BERT, "-i", source, "-o", "-") as job:
            first = job.stdout.readline()
            time.sleep(0.3)
            job.send_signal(number)
            try:
                job.wait(timeout=10)
            except subprocess.TimeoutExpired:
                job.kill()
            lines = (first + job.stdout.read()).count(b"\n")
            message = job.stderr.read().decode()
        tally.expect(job.returncode == code, f"blocked, {number.name}: {job.returncode} {message}")
        tally.expect(f"interrupted after {lines} rows" in message, f"{lines} rows: {message}")


def check_limits(tally, folder):
    """Limits of the system end in an exit code and a sentence, and leave nothing behind."""
    source, out = write(folder, ["the cat sat on the mat"] * 500), folder / "limit.npy"

    def limited(which, limit):
        return run("encode", BERT, "-i", source, "-o", out,
                   preexec_fn=lambda: resource.setrlimit(which, (limit, limit)))

    expect_exit(tally, limited(resource.RLIMIT_FSIZE, 10 << 10), 74, "limit.npy",
                what="ulimit -f 10")
    tally.expect(not leftovers(folder) and not out.exists(), f"left: {leftovers(folder)}")
    for kib in (64, 128, 256):
        expect_exit(tally, limited(resource.RLIMIT_STACK, kib << 10), 71, f"{kib} KiB",
                    "ulimit -s", what=f"ulimit -s {kib}")
    expect_exit(tally, limited(resource.RLIMIT_STACK, 1 << 20), 0, what="ulimit -s 1024")


def check_progress(tally, folder):
    """A bar on a terminal, none elsewhere, none with --quiet or --progress never."""
    source = write(folder, ["the cat sat on the mat"] * 2000)

    def on_terminal(*options):
        leader, follower = pty.openpty()
        done = subprocess.run([str(program.PROGRAM), "encode", str(BERT), "-i", str(source), "-o",
                               str(folder / "p.npy"), *options], stderr=follower,
                              stdin=subprocess.DEVNULL, timeout=120, check=False)
        os.close(follower)
        text = b""
        try:
            while chunk := os.read(leader, 65536):
                text += chunk
        except OSError:
            pass
        os.close(leader)
        tally.expect(done.returncode == 0, "encode on a terminal")
        return text.decode()

    bar = on_terminal()
    tally.expect(re.search(r"\r *100% #+ .*texts .*/s.* MiB", bar), f"no bar: {bar!r}")
    tally.expect("\r" not in on_terminal("--progress", "never").replace("\r\n", ""), "never")
    tally.expect(on_terminal("--quiet") == "", "--quiet on a terminal")
    piped = run("encode", BERT, "-i", source, "-o", folder / "p.npy")
    tally.expect(b"\r" not in piped.stderr and b"\x1b" not in piped.stderr, "a bar in a pipe")
    piped = run("encode", BERT, "-i", source, "-o", folder / "p.npy", "--progress", "always")
    tally.expect(b"\r" in piped.stderr, "--progress always")
    silent = run("encode", BERT, "-i", source, "-o", folder / "p.npy", "--progress", "always", "-q")
    tally.expect(silent.stderr == b"", "--progress always --quiet")


def check_memory(tally, folder):
    """The process stays inside the plan, whatever the input: seen from outside."""
    if not program.PEAK.exists():
        tally.skip("tests/memory/peak is not built")
        return
    shapes = {"one long line.txt": "the cat sat " * 12_000, "lines.txt": "the cat\n" * 12_000,
              "empty.txt": "\n" * 12_000,
              "one.jsonl": json.dumps({"text": "the cat sat " * 12_000}),
              "bad.jsonl": '{"text":"the cat"}\n' + "{}\n" * 12_000,
              "one.csv": 'id,text\n1,"' + "the cat sat\n" * 12_000 + '"\n'}
    for name, content in shapes.items():
        (folder / name).write_text(content)
        for budget in ("12MiB", "8MiB"):
            for out in ("m.npy", "m.jsonl"):
                done, peak, exact = program.run_with_peak(
                    "encode", BERT, "-i", folder / name, "-o", folder / out, "--memory", budget,
                    "--stats", folder / "m.json", "-q")
                if not tally.expect(done.returncode in (0, 65), f"{name}: {done.stderr}"):
                    continue
                planned = json.loads((folder / "m.json").read_text())["host_bytes_planned"]
                tally.expect(peak <= planned <= int(budget[:-3]) << 20,
                             f"{name} {out}: peak {peak}, planned {planned}, {budget}")
                tally.expect(not exact or planned - peak <= planned * 0.02 + program.MIB,
                             f"{name} {out}: planned {planned}, peak only {peak}")


def main():
    """All of it."""
    tally = program.Tally()
    if ready(tally):
        checks = [check_outputs, check_options, check_failed_rows, check_places, check_clashes,
                  check_model_files,
                  check_lock, check_signals, check_blocked, check_limits, check_progress,
                  check_memory]
        for check in checks:
            with tempfile.TemporaryDirectory(prefix="embound-cli-") as name:
                check(tally, pathlib.Path(name))
            sys.stdout.flush()
    tally.end()


if __name__ == "__main__":
    main()
