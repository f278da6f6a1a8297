#!/usr/bin/env python3
"""A text of 4 MB takes at most 11 times as long as one of 400 kB (L3, bf16): nothing grows with
the square of a text's length. The time is the engine's own, from open to the last row.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import tempfile

import real
from support import program

RATIO_MAX = 11
TRIES = 3  # best of, since other work on the machine only ever adds time


def seconds(tally, folder, scratch, size):
    """Best time for one text of `size` bytes."""
    source, best = scratch / f"{size}.txt", float("inf")
    source.write_text(real.long_text(size) + "\n", encoding="utf-8")
    for _ in range(TRIES):
        done, stats = real.encode(folder, source, scratch / "rows.npy", "--dtype", "bf16")
        if not tally.expect(done.returncode == 0, f"{size} bytes: {done.stderr}"):
            return best
        best = min(best, stats["seconds"])
    return best


def main():
    """One ratio."""
    tally = program.Tally()
    if real.have(tally, real.DATA / "texts" / "abstracts.txt"):
        with tempfile.TemporaryDirectory(prefix="embound-linear-") as scratch:
            for _, folder in real.models(tally, (real.L3,)):
                small = seconds(tally, folder, pathlib.Path(scratch), 400_000)
                large = seconds(tally, folder, pathlib.Path(scratch), 4_000_000)
                print(f"400 kB {small:.2f} s, 4 MB {large:.2f} s, ratio {large / small:.2f}")
                tally.expect(large <= RATIO_MAX * small, f"ratio {large / small:.2f}")
    tally.end()


if __name__ == "__main__":
    main()
