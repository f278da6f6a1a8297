#!/usr/bin/env python3
"""Real weights in int8 and int4: cosines to the full-precision vectors of 2,758 real sentences and
the Spearman correlation on STS-B test; docs/quality.md has the numbers.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import shutil
import tempfile

import real
from support import program

PAIRS = real.DATA / "stsb" / "sts-test.csv"
TRAIN = real.DATA / "stsb" / "sts-train.csv"
CALIBRATION_TEXTS = 1500
# least mean and minimum cosine, and how far Spearman (x 100) may fall
FLOORS = {"int8": (0.998, 0.99, 0.15), "int8 calibrated": (0.998, 0.99, 0.15),
          "int4": (0.97, 0.87, 0.3), "int4 calibrated": (0.985, 0.87, 0.3)}


def write_calibration(path):
    """First sentences of the training split, evenly spread: never those that are scored."""
    lines = TRAIN.read_text(encoding="utf-8").split("\n")
    texts = [line.split("\t")[5] for line in lines if line.count("\t") >= 6]
    step = max(1, len(texts) // CALIBRATION_TEXTS)
    path.write_text("\n".join(texts[::step]) + "\n", encoding="utf-8")


def check(tally, folder, name, path, kind):
    """Quantizes one model, and compares."""
    target, (dtype, *calibrated) = folder / f"{name}-{kind}", kind.split()
    more = ["--calibrate", folder / "train.txt"] if calibrated else []
    if calibrated and dtype == "int8":
        more += ["--smooth"]
    made = program.run("quantize", path, "-o", target, "--dtype", dtype, "-q", *more, timeout=3600)
    if not tally.expect(made.returncode == 0, f"{name} {kind}: {made.stderr}"):
        return
    done = program.run("eval", path, "--against", target, "-i", PAIRS, "--json", "-q",
                       timeout=3600)
    shutil.rmtree(target)
    if not tally.expect(done.returncode == 0, f"{name} {kind}: {done.stderr}"):
        return
    said = json.loads(done.stdout)
    print(f"{name:26} {kind:16} cosine {said['cosine_mean']:.5f} mean {said['cosine_min']:.4f} "
          f"least, Spearman {said['against_spearman']:.2f} ({said['spearman_delta']:+.2f})",
          flush=True)
    mean, least, fall = FLOORS[kind]
    tally.expect(said["cosine_mean"] >= mean, f"{name} {kind}: mean {said['cosine_mean']}")
    tally.expect(said["cosine_min"] >= least, f"{name} {kind}: least {said['cosine_min']}")
    tally.expect(said["spearman_delta"] >= -fall, f"{name} {kind}: {said['spearman_delta']}")


def main():
    """Every model that is there."""
    tally = program.Tally()
    if real.have(tally, PAIRS, TRAIN):
        with tempfile.TemporaryDirectory(prefix="embound-quantized-") as place:
            folder = pathlib.Path(place)
            write_calibration(folder / "train.txt")
            for name, path in real.models(tally):
                for kind in FLOORS:
                    check(tally, folder, name, path, kind)
    tally.end()


if __name__ == "__main__":
    main()
