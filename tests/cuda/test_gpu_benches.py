#!/usr/bin/env python3
"""The acceptance benches of a GPU rehearsed on the fake device and a fake NVML, a few texts each;
with --full, every step that needs no peer.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support import program  # noqa: E402

TESTS = program.BUILD / "tests"
MODULE = TESTS / "libembound_fake_cuda.so"
NVML = TESTS / "fake_nvml.so"
STEPS = {"gpu_memory": ("million", "limits"), "gpu_faults": ("steady", "sanitize"),
         "gpu_quantized": ("quality", "memory", "speed")}
FULL = {"gpu_memory": ("million", "limits", "sweep", "stream"), "gpu_speed": ("variants",),
        "gpu_quantized": ("quality", "memory", "speed"),
        "gpu_faults": ("steady", "faults", "sanitize", "monitor")}


def write_folder(folder):
    """The texts that the benches read."""
    draw = random.Random(3)
    words = "the quick brown fox jumps over a lazy dog while rivers run to the old sea".split()
    for name, count, longest in (("abstracts", 12, 90), ("sts", 20, 12), ("mixed", 12, 120),
                                 ("tiny", 12, 60)):
        lines = [" ".join(draw.choices(words, k=draw.randint(3, longest))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def rehearse(tally, name, steps, folder):
    """One bench; every line is JSON and nothing failed."""
    held = folder / "held"
    held.mkdir(exist_ok=True)
    env = {**os.environ, "EMB_BUILD": str(program.BUILD), **program.FAKE_GPU,
           "EMB_NVML": str(NVML), "EMB_FAKE_NVML": str(held), "EMB_FAKE_HELD": str(held),
           "EMB_FAKE_CUBLASLT": str(1 << 20)}
    env.pop("OUT", None)
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / f"{name}.py"), *steps, "--model",
         str(program.TINY[0]), "--mpnet", str(program.TINY[1]), "--texts", str(folder),
         "--scale", "0.0005", "--seconds", "60"],
        env=env, text=True, capture_output=True, check=False, timeout=170)
    try:
        lines = [json.loads(line) for line in done.stdout.splitlines()]
    except json.JSONDecodeError:
        lines = []
    tally.expect(done.returncode == 0 and not done.stderr, f"{name}: exit {done.returncode}: "
                 f"{done.stderr[-1500:]}{done.stdout[-1500:]}")
    ended = {line["step"] for line in lines if "step" in line}
    tally.expect(ended == set(steps), f"{name}: ended {ended}")
    for line in lines:
        tally.expect(line.get("passed") is not False, f"{name}: {line}")
        if line.get("check") == "limits" and "set" in line:
            tally.expect(line["device_nvml"] > 0 and line["polls"] > 1, f"NVML was read: {line}")


def main():
    """Every bench."""
    tally = program.Tally()
    if not MODULE.exists() or not NVML.exists() or not (TESTS / "gpu_steady").exists():
        tally.skip("the fake device is not built")
        tally.end()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_folder(folder)
        for bench, steps in (FULL if "--full" in sys.argv else STEPS).items():
            rehearse(tally, bench, steps, folder)
    tally.end()


if __name__ == "__main__":
    main()
