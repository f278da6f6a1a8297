#!/usr/bin/env python3
"""20 random limits of a training of the real models, the small ones: the plan holds
(train_limits.py). More or fewer: slow_train_random.py COUNT [SEED].

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import sys
import tempfile

import train_limits
from support import program

MODELS = pathlib.Path(os.environ.get("EMB_MODELS") or program.ROOT / "build" / "models")


def main():
    """Draws the sets and judges them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    models = [MODELS / name for name in ("all-MiniLM-L6-v2", "paraphrase-MiniLM-L3-v2")]
    models = [model for model in models if (model / "model.safetensors").exists()]
    if not models:
        tally = program.Tally()
        tally.skip("no models (make models)")
        tally.end()
        return
    with tempfile.TemporaryDirectory() as folder:
        train_limits.try_all(count, seed, models, pathlib.Path(folder))[0].end()


if __name__ == "__main__":
    main()
