#!/usr/bin/env python3
"""Benches and tools in a fresh clone, which has no build, no models, no other engines: each says in
a line or two what is missing and how to get it. Texts are made up where no real ones are at hand.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tools"))
import c_source  # noqa: E402
from support import program  # noqa: E402

GPU_STEPS = {"gpu_encode": "cosine", "gpu_memory": "sweep", "gpu_speed": "mpnet",
             "gpu_faults": "steady", "gpu_quantized": "speed"}
SCRIPTS = [  # command, a word of the remedy
    ("bench/run.sh", "make"), ("bench/cpu_peers.sh", "make models"),
    ("bench/tokenizer.py", "oracle_env"), ("bench/python_package.py", "make test-python"),
    ("bench/gpu_forward.py", "torch"), ("bench/peers/compare.py", "make"),
    ("bench/peers/table.py", "make"), ("tools/check_symbols.py", "make"),
    ("tools/make_unicode_tables.py out", "oracle_env"), ("tools/make_golden.py", "oracle_env"),
    ("tools/gpu_check.sh", "CUDACXX"), ("tools/check_spills.sh", "CUDACXX"),
    ("tools/gpu_accept.sh", "make models"), ("tools/make_texts.py", "make_texts.py DIR"),
    ("tools/install.sh --remove build", "nothing was installed"),
    *((f"bench/{name}.py {step}", "make") for name, step in GPU_STEPS.items())]


def clone(folder):
    """The project's files alone."""
    for name in c_source.project_files(""):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def check_messages(tally, folder):
    """What each says."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("EMB_", "CUDA"))}
    env.update(PEERS="none", CUDACXX="/nowhere/nvcc", PYTHONDONTWRITEBYTECODE="1")
    for command, remedy in SCRIPTS:
        done = subprocess.run([str(folder / command.split()[0]), *command.split()[1:]],
                              env=env, cwd=folder, text=True, check=False, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        shown = f"{command}: exit {done.returncode}: {done.stdout}"
        tally.expect(done.returncode not in (0, 126, 127) and remedy in done.stdout
                     and "Traceback" not in done.stdout and len(done.stdout.splitlines()) <= 4,
                     shown)
    left = [p for p in folder.glob("bench/results/*") if not p.stat().st_size]
    tally.expect(not left, f"empty results: {left}")


def check_texts(tally, folder):
    """Made-up abstracts are the same every time, and as many and as long as real ones."""
    for name in "ab":
        subprocess.run([str(folder / "tools/make_texts.py"), name], cwd=folder, check=True)
    for name in ("abstracts", "sts", "mixed", "tiny"):
        one, two = ((folder / side / f"{name}.txt").read_bytes() for side in "ab")
        tally.expect(one == two and one.endswith(b"\n"), f"{name}.txt differs")
    words = [len(line.split()) for line in
             (folder / "a" / "abstracts.txt").read_text(encoding="utf-8").splitlines()]
    tally.expect(len(words) == 2101 and min(words) >= 180 and max(words) <= 600,
                 f"abstracts: {len(words)}, {min(words)} to {max(words)} words")


def main():
    """In a copy."""
    tally = program.Tally()
    with tempfile.TemporaryDirectory(prefix="embound-clone-") as name:
        folder = pathlib.Path(name) / "embound"
        clone(folder)
        check_messages(tally, folder)
        check_texts(tally, folder)
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
