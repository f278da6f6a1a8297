#!/usr/bin/env python3
"""Fails every allocation and every file call of `embound pull`, one after the other, from outside.

Each run ends with a documented exit code and a message, leaves no blob or link that is wrong, and
the next ordinary pull into the same cache is whole. Without --full: every second file call, and of
the allocations, which are libcurl's and its libraries' for the most part, every 199th.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import concurrent.futures
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from support import program  # noqa: E402
from test_pull import NAME, Suite, broken, embound, environment  # noqa: E402

INTERPOSER = program.BUILD / "tests" / "interpose.so"
STATE = struct.Struct("=6Qq")  # interpose_state of tests/torture/interpose.h
KINDS = {(1, 0): "an allocation fails once", (2, 0): "allocations fail from then on",
         (1, 1): "a file call fails once", (2, 1): "file calls fail from then on",
         (3, 1): "a file call is interrupted", (4, 1): "a file call moves one byte"}
DOCUMENTED = {0, 64, 65, 66, 71, 74, 75}
# the C library itself ends a process that has no memory for the variables of a thread
THREAD_LOCAL = "cannot allocate memory for thread-local data"


def one(suite, mode, which, number):
    """One pull whose call `number` fails. Gives what was wrong or None, calls made and failed."""
    cache = suite.cache()
    state = cache / "state"
    state.write_bytes(STATE.pack(mode, which, number, 0, 0, 0, 0))
    env = environment(suite.hub, cache / "hub", LD_PRELOAD=INTERPOSER, EMB_INTERPOSE=state)
    done = embound("pull", NAME, env=env, timeout=90)
    numbers = STATE.unpack(state.read_bytes())
    wrong = None
    if done.returncode not in DOCUMENTED and THREAD_LOCAL not in done.stderr:
        wrong = f"exit {done.returncode}: {done.stderr[-200:]}"
    elif done.returncode and not done.stderr:
        wrong = f"exit {done.returncode} without a word"
    elif broken(cache / "hub"):
        wrong = f"half-written: {broken(cache / 'hub')}"
    elif done.returncode == 0 and not suite.is_whole(cache / "hub"):
        wrong = "exit 0, and not whole"
    else:
        again = embound("pull", NAME, env=environment(suite.hub, cache / "hub"))
        if again.returncode or not suite.is_whole(cache / "hub"):
            wrong = f"the next pull: exit {again.returncode}: {again.stderr[-200:]}"
    return wrong, numbers[3 + which], numbers[5] > 0


def run_kind(suite, mode, which, full):
    """Each n (or some) up to the calls that a run makes; gives how many runs were hit."""
    count, number = 0, 1
    step = 1 if full else 199 if which == 0 else 2
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        while True:
            batch = []
            for _ in range(3):
                batch.append((number, pool.submit(one, suite, mode, which, number)))
                number += step
            for at, waiting in batch:
                wrong, calls, failed = waiting.result()
                suite.tally.expect(wrong is None, f"{KINDS[mode, which]}, {at}: {wrong}")
                count += failed
            if calls < at:
                return count


def main():
    """Runs each kind."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    tally = program.Tally()
    if not INTERPOSER.exists() or "built without" in embound("pull", "x", env={}).stderr:
        tally.skip("no interposer, or built without pull")
        tally.end()
    with tempfile.TemporaryDirectory(prefix="embound-hub-") as folder:
        suite = Suite(tally, folder)
        for mode, which in KINDS:
            print(f"{KINDS[mode, which]}: {run_kind(suite, mode, which, options.full)} calls",
                  flush=True)
        suite.hub.close()
    tally.end()


if __name__ == "__main__":
    main()
