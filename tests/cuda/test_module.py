#!/usr/bin/env python3
"""The real CUDA module, where it has been built, on a machine without a GPU: whether there is no
driver or one that finds no device, that is told, and the CPU is used where that may be.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support import program  # noqa: E402

MODULE = pathlib.Path(os.environ.get("EMB_CUDA_MODULE") or program.BUILD / "libembound_cuda.so")
DRIVER = program.BUILD / "tests" / "libcuda.so.1"  # tests/cuda/fake_driver.c
MODEL = program.TINY[0]


def check_without_gpu(tally, label, environment):
    """Asked for, a GPU that is not there is an error; else the CPU does the work."""
    for command in ("plan", "encode"):
        rest = ("-i", "README.md", "-o", "/dev/null") if command == "encode" else ()
        done = program.run(command, MODEL, "--device", "cuda", *rest, env=environment)
        tally.expect(done.returncode == 69 and "no usable CUDA device" in done.stderr,
                     f"{label}, {command}: {done.returncode} {done.stderr}")
    done = program.run("plan", MODEL, "--device", "auto", "--json", env=environment)
    tally.expect(done.returncode == 0 and json.loads(done.stdout)["device"] == "cpu",
                 f"{label}, auto: {done.returncode} {done.stderr} {done.stdout[:200]}")
    done = program.run("info", env=environment)
    tally.expect(done.returncode == 0 and "not used" in done.stdout, f"{label}, info: "
                 f"{done.returncode} {done.stdout} {done.stderr}")


def main():
    """With a driver and without."""
    tally = program.Tally()
    if not MODULE.exists():
        tally.skip("no CUDA module: `make cuda` builds it")
    elif pathlib.Path("/dev/nvidia0").exists():
        tally.skip("there is a GPU here")
    else:
        plain = {**os.environ, "EMB_CUDA_MODULE": str(MODULE.resolve())}
        check_without_gpu(tally, "no driver", plain)
        if DRIVER.exists():
            check_without_gpu(tally, "no device", {**plain, "EMB_FAKE_DRIVER": "none",
                                                   "LD_LIBRARY_PATH": str(DRIVER.parent)})
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
