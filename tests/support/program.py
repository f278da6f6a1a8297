"""What Python suites share: where the program is, its peak memory read from outside, texts, sums.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("EMB_BUILD") or ROOT / "build")
PROGRAM = BUILD / "embound"
PEAK = BUILD / "tests" / "peak"
TINY = [ROOT / "tests/data/tiny-bert", ROOT / "tests/data/tiny-mpnet"]
DEEP = BUILD / "tests" / "deep-bert"  # written by the build: its smallest plan streams layers
FAKE_MODULE = BUILD / "tests" / "libembound_fake_cuda.so"
# the driver that is asked for GPUs, and the module that uses them (tests/cuda/fake_*.c)
FAKE_GPU = {"LD_LIBRARY_PATH": str(BUILD / "tests"), "EMB_CUDA_MODULE": str(FAKE_MODULE)}
MIB = 1 << 20

# Whoever runs the tests in the background, or under nohup, has these ignored, and so would every
# program that is started here.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


def models():
    """The models that need no download."""
    return TINY + ([DEEP] if (DEEP / "model.safetensors").exists() else [])


def run(*arguments, timeout=120, **more):
    """Runs the program; gives the finished process with text output."""
    return subprocess.run([str(PROGRAM), *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout, check=False, **more)


def run_with_peak(*arguments, timeout=600):
    """Runs the program; gives the process and its VmHWM in bytes (see tests/memory/peak.c)."""
    with tempfile.NamedTemporaryFile("r", prefix="embound-peak-") as report:
        command = [str(PEAK), report.name, str(PROGRAM), *map(str, arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout, check=False)
        numbers = dict(line.split() for line in report)
    return done, int(numbers["bytes"]), numbers["exact"] == "1"


def write_texts(path, count, long_bytes=0, seed=1):
    """Writes lines of 0 to 300 words, and one long line in their middle."""
    draw = random.Random(seed)
    words = ["bounded", "memory", "the", "of", "naïve", "café", "東京", "[MASK]", "x", "42",
             "unaffable", "embedding", "a", "in", "plan,", "(budget)", "…", "Ω"]
    lines = [" ".join(draw.choices(words, k=draw.choice([0, 1, 5, 20, 80, 300])))
             for _ in range(count)]
    if long_bytes:
        text = " ".join(draw.choices(words, k=long_bytes // 4))
        lines.insert(count // 2, text.encode()[:long_bytes].decode(errors="ignore"))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


class Tally:
    """Counts expectations, prints those that do not hold, and ends a suite."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def expect(self, holds, what):
        """Counts one expectation; gives whether it holds."""
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            if self.failed <= 40:
                print(f"FAILED: {what}", flush=True)
        return bool(holds)

    def skip(self, why):
        """Counts something that cannot run here."""
        self.skipped += 1
        print(f"skipped: {why}")

    def end(self):
        """Prints the count line and leaves."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        sys.exit(1 if self.failed else 0)
