#!/usr/bin/env python3
"""Fails every allocation and every file call of the program, one after the other, from outside.

For n = 1, 2, 3, ... until a run is left untouched, the n-th call fails (once, and from then on for
ever), or is interrupted, or moves one byte. Each run has to end with a documented exit code and a
message, leave no file under the final name and no temporary one, or give the right result; and the
next ordinary run gives the right result. Prints N of N. Without --full: every n up to 40, then
every 29th, of four command lines; with it each n of nine.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

ROOT, BUILD, PROGRAM = program.ROOT, program.BUILD, program.PROGRAM
INTERPOSER = BUILD / "tests" / "interpose.so"
DOCUMENTED = {66, 71, 73, 74, 75}
MEMORY, FILES = 0, 1
ONCE, FOREVER, INTERRUPTED, SHORT = 1, 2, 3, 4
MODES = {ONCE: "fails once", FOREVER: "fails for ever", INTERRUPTED: "is interrupted",
         SHORT: "moves one byte"}
CLASSES = {MEMORY: "memory", FILES: "file"}
STATE = struct.Struct("=6Qq")  # interpose_state of interpose.h
ALWAYS, ROUNDS_MAX = 40, 20000
TEXTS = ["a short text", "", "naïve café — 東京 [MASK]", "word " * 400, "the last one"]


class Case:
    """One command line, in a folder of its own; output is None for what prints."""

    def __init__(self, name, arguments, output=None):
        self.name, self.arguments, self.output = name, arguments, output
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="embound-torture-"))
        (self.folder / "in.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
        lines = [json.dumps({"text": t}) for t in TEXTS]
        (self.folder / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        pairs = [f"0.{i},{TEXTS[0]},text {i}\n" for i in range(8)]
        (self.folder / "pairs.csv").write_text("score,sentence1,sentence2\n" + "".join(pairs))
        self.state = self.folder / "state"
        program.run("info", "--quiet", "--save-machine", self.folder / "machine.json")
        self.inputs = {"in.txt", "in.jsonl", "pairs.csv", "state", "machine.json"}
        self.expected = None

    def run(self, mode=0, which=0, at=0, preload=True):
        """Runs it once; gives the process and the interposer's numbers."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
        if preload:
            self.state.write_bytes(STATE.pack(mode, which, at, 0, 0, 0, 0))
            environment.update(LD_PRELOAD=str(INTERPOSER), EMB_INTERPOSE=str(self.state))
        done = subprocess.run([str(PROGRAM), *self.arguments], cwd=self.folder, env=environment,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                              check=False)
        numbers = STATE.unpack(self.state.read_bytes()) if preload else None
        return done, numbers

    def result(self, done):
        """What the run gave: the file, or what it printed; None if there is no file."""
        if self.output is None:
            return done.stdout
        path = self.folder / self.output
        return path.read_bytes() if path.exists() else None

    def clear(self):
        """Removes all but the inputs; gives the names of what was there beside the output."""
        extra = [p.name for p in self.folder.iterdir() if p.name not in self.inputs]
        for name in extra:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        kept = self.output.split("/")[0] if self.output else None
        return sorted(n for n in extra if n != kept)


def judge(case, done, mode, failed):
    """What is wrong with how a run ended, or None."""
    result = case.result(done)
    code = done.returncode
    left = case.clear()
    if code < 0:
        return f"killed by signal {-code}"
    if left:
        return f"leaves {', '.join(left)}"
    if code == 0:
        return None if result == case.expected else "ends with 0 and a wrong result"
    if not failed:
        return f"ends with {code} although nothing failed"
    if mode in (INTERRUPTED, SHORT):
        return f"ends with {code} instead of going on"
    if code not in DOCUMENTED:
        return f"ends with {code}: {done.stderr.decode(errors='replace').strip()}"
    if len(done.stderr.strip()) < 10:
        return f"ends with {code} and no message"
    if case.output and result is not None and result != case.expected:
        return "leaves an incomplete file under the final name"
    return None


def torture(case, mode, which, stride):
    """All n of one mode; gives (failures met, descriptions of what went wrong)."""
    met, wrong = 0, []
    for at in [*range(1, ALWAYS), *range(ALWAYS, ROUNDS_MAX, stride)]:
        done, numbers = case.run(mode, which, at)
        failed, calls = numbers[5], numbers[3 + which]
        reason = judge(case, done, mode, failed)
        if failed and not reason:
            again, _ = case.run(preload=False)
            if again.returncode or case.result(again) != case.expected:
                reason = "the next ordinary run is not correct"
            case.clear()
        met += 1 if failed else 0
        if reason:
            wrong.append(f"{case.name}: {CLASSES[which]} call {at} {MODES[mode]}: {reason}")
        if calls < at or len(wrong) > 20:
            break
    return met, wrong


def cases(full):
    """The command lines, each also under the smallest plan where that makes sense."""
    bert, mpnet = ROOT / "tests/data/tiny-bert", ROOT / "tests/data/tiny-mpnet"
    least = least_budget(bert)
    rows = [("encode", ["encode", bert, "-i", "in.txt", "-o", "out.npy"], "out.npy"),
            ("encode, layers streamed", ["encode", bert, "-i", "in.txt", "-o", "out.npy",
                                         "--memory", least], "out.npy"),
            ("quantize", ["quantize", bert, "-o", "out", "--dtype", "int4", "--calibrate",
                          "in.txt", "--quiet"], "out/model.safetensors"),
            ("train", ["train", bert, "-i", "pairs.csv", "-o", "out", "--loss", "cosent", "--eval",
                       "pairs.csv", "--batch-size", "4", "--quiet"], "out/model.safetensors")]
    if full:
        rows += [("encode mpnet bf16 jsonl", ["encode", mpnet, "-i", "in.jsonl", "-o", "out.jsonl",
                                              "--dtype", "bf16"], "out.jsonl"),
                 ("encode two threads", ["encode", bert, "-i", "in.txt", "-i", "in.txt", "-o",
                                         "out.npy", "--threads", "2"], "out.npy"),
                 ("train adapters", ["train", mpnet, "-i", "pairs.csv", "-o", "out", "--loss",
                                     "cosent", "--batch-size", "4", "--quiet", "--lora", "4",
                                     "--adapter-only"], "out/adapter_model.safetensors"),
                 ("tokenize", ["tokenize", bert, "-i", "in.txt"], None),
                 ("plan", ["plan", bert, "--json", "--machine", "machine.json"], None)]
    return [Case(name, [str(a) for a in arguments], output) for name, arguments, output in rows]


def least_budget(model):
    """The smallest budget of a model, in bytes."""
    done = subprocess.run([str(PROGRAM), "plan", str(model), "--json"], capture_output=True,
                          check=True)
    return str(json.loads(done.stdout)["host_bytes_min"] + 4096 * 16)


def run_case(case, stride):
    """Every mode of one case."""
    done, numbers = case.run()
    case.expected = case.result(done)
    case.clear()
    if done.returncode or case.expected is None:
        return case.name, 0, [f"{case.name}: fails untouched: {done.stderr.decode()}"], numbers
    met, wrong = 0, []
    for mode, which in [(ONCE, MEMORY), (FOREVER, MEMORY), (ONCE, FILES), (FOREVER, FILES),
                        (INTERRUPTED, FILES), (SHORT, FILES)]:
        more, worse = torture(case, mode, which, stride)
        met, wrong = met + more, wrong + worse
    shutil.rmtree(case.folder)
    return case.name, met, wrong, numbers


def torture_in_process():
    """Every call inside open, plan, encode and close (torture_api.c); gives (met, failed)."""
    met = failed = 0
    for model in program.models():
        done = subprocess.run([str(BUILD / "tests" / "torture_api"), "1", str(model)], cwd=ROOT,
                              env=dict(os.environ, LD_PRELOAD=str(INTERPOSER)), text=True,
                              capture_output=True, timeout=1200, check=False)
        counts = re.findall(r"^(\d+) passed, (\d+) failed", done.stdout, re.M)
        good, bad = map(int, counts[-1]) if counts else (0, 1)
        met, failed = met + good + bad, failed + bad
        print(f"inside one process, {model.name}: {good} of {good + bad} failures met cleanly")
        print("".join(line + "\n" for line in done.stdout.splitlines() if "FAILED" in line), end="")
    return met, failed


def main():
    """Runs the cases side by side and sums them up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--full", action="store_true", help="all formats, models and plans")
    options = parser.parse_args()
    if not PROGRAM.exists() or not INTERPOSER.exists():
        print("skipped: no program or no interposer (sanitizer builds have none)")
        print("0 passed, 0 failed, 1 skipped")
        return 77
    met, failed = torture_in_process() if options.full else (0, 0)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        stride = 1 if options.full else 29
        waiting = [pool.submit(run_case, case, stride) for case in cases(options.full)]
        for name, more, wrong, numbers in (done.result() for done in waiting):
            print(f"{name}: {numbers[3]} memory calls, {numbers[4]} file calls, "
                  f"{more - len(wrong)} of {more} failures met cleanly")
            for line in wrong[:20]:
                print(f"FAILED: {line}")
            met, failed = met + more, failed + len(wrong)
    print(f"{met - failed} of {met}")
    print(f"{met - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not met else 0


if __name__ == "__main__":
    sys.exit(main())
