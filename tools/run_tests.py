#!/usr/bin/env python3
"""Runs every test suite and ends with one line: N passed, N failed, N skipped.

Suites are the C programs that CMake registered (add_test) and the Python files
tests/<folder>/test_*.py (kind "test"), models_*.py ("models"), slow_*.py ("slow") and
server_*.py ("triton").
Each runs from the project's root with EMB_BUILD naming the build directory. A suite reports
through cmocka's lines, unittest's lines, or a last line "N passed, N failed, N skipped"; one that
reports nothing counts as one test. Exit status 77 means skipped.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON_PREFIX = {"test": "test_", "models": "models_", "slow": "slow_", "triton": "server_"}
COUNT_LINE = re.compile(r"^\s*(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\.?\s*$", re.M)
CMOCKA = {
    "passed": re.compile(r"^\[  PASSED  \] (\d+) test", re.M),
    "failed": re.compile(r"^\[  FAILED  \] (?:[^:\n]*: )?(\d+) test", re.M),
    "skipped": re.compile(r"^\[  SKIPPED \] (?:[^:\n]*: )?(\d+) test", re.M),
}
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in", re.M)
UNITTEST_PARTS = re.compile(r"(failures|errors|skipped)=(\d+)")


def c_suites(build):
    """The registered C tests as (name, command, directory)."""
    found = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, text=True,
                           capture_output=True, check=False)
    if found.returncode:
        sys.exit(f"ctest failed in {build}: {found.stderr.strip()}")
    suites = []
    for test in json.loads(found.stdout)["tests"]:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        command = test.get("command") or ["false"]
        suites.append((test["name"], command, properties.get("WORKING_DIRECTORY", str(ROOT))))
    return suites


def python_suites(kind):
    """The Python suites of that kind as (name, command, directory)."""
    paths = sorted((ROOT / "tests").glob(f"*/{PYTHON_PREFIX[kind]}*.py"))
    return [(f"{p.parent.name}/{p.stem}", [sys.executable, str(p)], str(ROOT)) for p in paths]


def read_counts(output, code):
    """Passed, failed and skipped, from what a suite printed and how it ended."""
    counted = COUNT_LINE.findall(output)
    if counted:
        passed, failed, skipped = (int(n or 0) for n in counted[-1])
    elif CMOCKA["passed"].search(output) or CMOCKA["failed"].search(output):
        sums = {k: sum(int(n) for n in r.findall(output)) for k, r in CMOCKA.items()}
        passed, failed, skipped = sums["passed"], sums["failed"], sums["skipped"]
    elif UNITTEST_RAN.search(output):
        parts = {k: int(n) for k, n in UNITTEST_PARTS.findall(output)}
        skipped = parts.get("skipped", 0)
        failed = parts.get("failures", 0) + parts.get("errors", 0)
        passed = int(UNITTEST_RAN.findall(output)[-1]) - failed - skipped
    elif code == 77:
        return 0, 0, 1
    else:
        return (1, 0, 0) if code == 0 else (0, 1, 0)
    if code not in (0, 77) and failed == 0:
        failed = 1
    return passed, failed, skipped


def run_suite(suite, environment, limit_seconds):
    """Runs one suite in a process group of its own, so that a hung one can be ended whole."""
    name, command, directory = suite
    began = time.monotonic()
    with subprocess.Popen(command, cwd=directory, env=environment, text=True, errors="replace",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=limit_seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nended after {limit_seconds} seconds\n"
            code = 124
    return name, code, output, time.monotonic() - began


def report(result, verbose):
    """Prints a suite's line of the table, and its output if it failed; gives its counts."""
    name, code, output, seconds = result
    passed, failed, skipped = read_counts(output, code)
    print(f"{name:<36} {passed:>7} {failed:>7} {skipped:>7} {seconds:>7.1f} s", flush=True)
    if failed or verbose:
        lines = output.rstrip().splitlines()
        ended = f"signal {-code}" if code < 0 else f"status {code}"
        print(f"--- {name} ended with {ended}; its last lines:")
        print("\n".join("    " + line for line in lines[-60:]), flush=True)
    elif skipped:
        why = [line for line in output.splitlines() if line.startswith("skipped: ")]
        print("\n".join("    " + line for line in dict.fromkeys(why)), end="\n" if why else "")
    return passed, failed, skipped


def main():
    """Parses the command line, runs the suites side by side, prints the sum."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--kind", default="test",
                        choices=["test", "models", "slow", "triton", "sanitized"])
    parser.add_argument("--jobs", type=int, default=min(4, len(os.sched_getaffinity(0))))
    parser.add_argument("--only", default="", help="suites whose name contains this")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    build = pathlib.Path(options.build).resolve()
    suites = []
    if options.kind in ("test", "sanitized"):
        suites += c_suites(build)
    if options.kind != "sanitized":
        suites += python_suites(options.kind)
    if options.kind in ("triton", "models", "slow"):
        options.jobs = 1  # these measure time and memory
    suites = [s for s in suites if options.only in s[0]]
    environment = dict(os.environ, EMB_BUILD=str(build), PYTHONDONTWRITEBYTECODE="1",
                       EMB_SANITIZED="1" if options.kind == "sanitized" else "")
    limit = {"test": 170, "triton": 600, "sanitized": 900, "models": 1800,
             "slow": 3600}[options.kind]
    print(f"{'suite':<36} {'passed':>7} {'failed':>7} {'skipped':>7} {'time':>9}")
    sums = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(run_suite, s, environment, limit) for s in suites]
        for done in concurrent.futures.as_completed(waiting):
            counts = report(done.result(), options.verbose)
            sums = [a + b for a, b in zip(sums, counts)]
    print(f"{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped")
    return 1 if sums[1] or not suites else 0


if __name__ == "__main__":
    sys.exit(main())
