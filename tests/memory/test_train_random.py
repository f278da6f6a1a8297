#!/usr/bin/env python3
"""20 random limits of a training of the tiny models: the plan holds (train_limits.py). More or
fewer: test_train_random.py COUNT [SEED].

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import sys
import tempfile

import train_limits
from support import program


def main():
    """Draws the sets and judges them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        train_limits.try_all(count, seed, program.models(), pathlib.Path(folder))[0].end()


if __name__ == "__main__":
    main()
