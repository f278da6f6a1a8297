#!/usr/bin/env python3
"""Runs each program of tests/peers/programs twice, with sentence-transformers and with embound, and
compares what they report; ends with "N passed, N failed, N skipped".

The programs are those of sentence-transformers' users. For embound only the name of a module in the
import lines changes. The hub cannot be reached and its cache is empty, so that a package which
takes another model than the one it was handed has none. tools/test_peers.sh makes the environment.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULES = {"from sentence_transformers import": "from embound import",
           "from upstream import": "from ours import"}
SCORES = 2e-4  # by which two engines in f32 may differ
SECONDS = 1200


def model_directory():
    """A real model, else the tests' tiny one."""
    real = ROOT / "build" / "models" / "all-MiniLM-L6-v2"
    return real if (real / "model.safetensors").exists() else ROOT / "tests/data/tiny-bert"


def missing(source):
    """The first of the packages that a program needs and that is not installed."""
    for name in re.search(r"Needs: ([^\n]*)", source).group(1).split():
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return name
    return None


def run(source, name, folder):
    """What a program reports, in a process and an empty home of its own; the error's last lines
    if it fails."""
    file = folder / f"{name}.py"
    file.write_text(source, encoding="utf-8")
    variables = {**os.environ, "PYTHONPATH": str(HERE), "HOME": str(folder), "HF_HUB_OFFLINE": "1",
                 "HF_HOME": str(folder / "hub"), "MTEB_CACHE": str(folder / "mteb"),
                 "TOKENIZERS_PARALLELISM": "false", "NUMBA_CACHE_DIR": str(ROOT / "build/numba")}
    try:
        done = subprocess.run([sys.executable, str(file), str(model_directory())], cwd=folder,
                              env=variables, text=True, capture_output=True, timeout=SECONDS,
                              check=False)
    except subprocess.TimeoutExpired:
        return None, f"no end after {SECONDS} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULTS ")]
    if done.returncode or len(lines) != 1:
        return None, "\n".join((done.stdout + done.stderr).splitlines()[-12:])
    return json.loads(lines[0].removeprefix("RESULTS ")), ""


def difference(ours, theirs, place=""):
    """Where two results differ, as a sentence; "" if nowhere."""
    if isinstance(theirs, float) or isinstance(ours, float):
        same = (isinstance(ours, (int, float)) and isinstance(theirs, (int, float))
                and math.isclose(ours, theirs, rel_tol=0, abs_tol=SCORES))
        return "" if same else f"{place}: {ours}, expected {theirs}"
    if type(ours) is not type(theirs) or not isinstance(ours, (list, dict)):
        return "" if ours == theirs else f"{place}: {ours!r}, expected {theirs!r}"
    if len(ours) != len(theirs) or isinstance(ours, dict) and set(ours) != set(theirs):
        return f"{place}: {len(ours)} entries, expected {len(theirs)}, or others"
    for key in ours if isinstance(ours, dict) else range(len(ours)):
        found = difference(ours[key], theirs[key], f"{place}[{key!r}]")
        if found:
            return found
    return ""


def compare(path, folder):
    """Runs one program both ways: "" if the results are the same, else what is wrong."""
    source = path.read_text(encoding="utf-8")
    changed = source
    for theirs, ours in MODULES.items():
        changed = changed.replace(theirs, ours)
    if changed == source:
        return "imports nothing that could be embound's"
    results = []
    for package, text in (("sentence-transformers", source), ("embound", changed)):
        result, trouble = run(text, path.stem, folder)
        if result is None:
            return f"with {package}: {trouble}"
        results.append(result)
    return difference(results[1], results[0])


def main():
    """All programs, or those whose names hold a word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="run programs whose names hold one of these")
    words = parser.parse_args().words
    count = {"passed": 0, "failed": 0, "skipped": 0}
    for path in sorted((HERE / "programs").glob("*.py")):
        if words and not any(word in path.stem for word in words):
            continue
        absent = missing(path.read_text(encoding="utf-8"))
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            trouble = None if absent else compare(path, pathlib.Path(folder))
        outcome = "skipped" if absent else "failed" if trouble else "passed"
        count[outcome] += 1
        print(f"{outcome:8} {path.stem} ({time.monotonic() - begin:.0f} s)"
              f"{f': {absent} could not be installed' if absent else ''}", flush=True)
        if trouble:
            print("    " + trouble.replace("\n", "\n    "), flush=True)
    print(", ".join(f"{number} {name}" for name, number in count.items()))
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
