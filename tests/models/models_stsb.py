#!/usr/bin/env python3
"""STS-B test set through `embound eval` in f32: Spearman x100 within 0.02 of the published models'.

SPDX-License-Identifier: Apache-2.0
"""
import json

import real
from support import program

WANTED = {real.L6: 82.03, real.MPNET: 83.42, real.L3: 82.41}
TOLERANCE = 0.02


def main():
    """All models."""
    tally = program.Tally()
    pairs = real.DATA / "stsb" / "sts-test.csv"
    if real.have(tally, pairs):
        for name, folder in real.models(tally):
            done = program.run("eval", folder, "-i", pairs, "--dtype", "f32", "--json", "--quiet",
                               timeout=real.LIMIT_SECONDS)
            if not tally.expect(done.returncode == 0, f"{name}: {done.stderr}"):
                continue
            result = json.loads(done.stdout)
            score = result["spearman"]
            print(f"{name}: Spearman {score:.3f}, Pearson {result['pearson']:.3f}, "
                  f"{result['pairs']} pairs", flush=True)
            tally.expect(result["pairs"] == 1379, f"{name}: {result['pairs']} of 1379 pairs")
            tally.expect(abs(score - WANTED[name]) <= TOLERANCE,
                         f"{name}: Spearman {score:.3f}, wanted {WANTED[name]} +- {TOLERANCE}")
    tally.end()


if __name__ == "__main__":
    main()
