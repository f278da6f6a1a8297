#!/usr/bin/env python3
"""A tiny model with one file changed gives the vectors that sentence-transformers gave.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
sys.path.insert(0, str(HERE))
from program import TINY, Tally, run  # noqa: E402
from test_golden import compare, read_npy  # noqa: E402
import variants  # noqa: E402


def main():
    """Every variant."""
    tally = Tally()
    golden = json.loads((HERE / "variants.json").read_text())
    tally.expect(sorted(golden) == sorted(variants.VARIANTS), "variants.json: tools/make_golden.py")
    with tempfile.TemporaryDirectory(prefix="embound-variants-") as folder:
        folder = pathlib.Path(folder)
        source, out = folder / "texts.jsonl", folder / "out.npy"
        source.write_text("".join(json.dumps({"text": t}) + "\n" for t in variants.TEXTS))
        for name, changes in variants.VARIANTS.items():
            model = folder / name.replace(" ", "_")
            variants.make(TINY[0], model, changes)
            done = run("encode", model, "-i", source, "-o", out, "--quiet", "--long", "truncate",
                       "--dtype", "f32")
            if tally.expect(done.returncode == 0, f"{name}: {done.returncode} {done.stderr}"):
                compare(tally, name, read_npy(out), golden[name], variants.TEXTS, 0.99999)
    tally.end()


if __name__ == "__main__":
    main()
