#!/usr/bin/env python3
"""The tiny models' vectors and ids beside those of the reference implementations, which
tools/make_golden.py wrote into this folder. Needs the program and the standard library alone.

SPDX-License-Identifier: Apache-2.0
"""
import array
import json
import math
import pathlib
import re
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from program import PROGRAM, TINY, Tally, run  # noqa: E402

COSINE_MIN = {"f32": 0.99999, "bf16": 0.9995}
# file of vectors: the options that must give them
RULES = {
    "truncate": ["--long", "truncate"],
    "chunk": [],
    "chunk-24": ["--max-length", "24"],
    "cls": ["--pooling", "cls"],
    "max": ["--pooling", "max", "--no-normalize"],
}


def read_npy(path):
    """Gives the rows of a two-dimensional little-endian f32 .npy file."""
    data = pathlib.Path(path).read_bytes()
    length = int.from_bytes(data[8:10], "little") if data[6] == 1 else 0
    header = data[10:10 + length].decode()
    shape = re.search(r"'shape': \((\d+), (\d+)\)", header)
    if data[:6] != b"\x93NUMPY" or "'<f4'" not in header or "True" in header or not shape:
        raise ValueError(f"{path}: not a two-dimensional f32 array: {header!r}")
    rows, dim = int(shape[1]), int(shape[2])
    values = array.array("f", data[10 + length:])
    if len(values) != rows * dim:
        raise ValueError(f"{path}: {len(values)} values for {rows} x {dim}")
    return [values[row * dim:(row + 1) * dim] for row in range(rows)]


def cosine(a, b):
    """Cosine of two vectors; 0 where one is not finite."""
    dot = sum(x * y for x, y in zip(a, b))
    size = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
    return dot / size if size > 0 and math.isfinite(size) else 0.0


def compare(tally, name, found, wanted, texts, cosine_min):
    """Cosine of every row, and its length, which a cosine does not see."""
    if not tally.expect(len(found) == len(wanted), f"{name}: {len(found)} of {len(wanted)} rows"):
        return
    for text, row, golden in zip(texts, found, wanted):
        value = cosine(row, golden)
        tally.expect(value >= cosine_min, f"{name}: cosine {value:.7f} for {text[:40]!r}")
        ratio = math.sqrt(sum(x * x for x in row) / sum(x * x for x in golden))
        tally.expect(abs(ratio - 1) <= 20 * (1 - cosine_min),
                     f"{name}: length is {ratio:.6f} of what it should be for {text[:40]!r}")


def check_vectors(tally, model, texts, folder):
    """Every rule and dtype of one model."""
    source = pathlib.Path(folder) / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for rule, options in RULES.items():
        wanted = read_npy(HERE / model.name / f"{rule}.npy")
        for dtype, cosine_min in COSINE_MIN.items():
            out = pathlib.Path(folder) / f"{model.name}.{rule}.{dtype}.npy"
            done = run("encode", model, "-i", source, "-o", out, "--dtype", dtype, "--quiet",
                       *options)
            name = f"{model.name} {rule} {dtype}"
            if tally.expect(done.returncode == 0, f"{name}: {done.returncode} {done.stderr}"):
                compare(tally, name, read_npy(out), wanted, texts, cosine_min)


def check_ids(tally, model, texts, folder):
    """Token ids of every text, without special tokens."""
    source = pathlib.Path(folder) / "ids.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = pathlib.Path(folder) / "out.jsonl"
    done = run("tokenize", model, "-i", source, "-o", out, "--json", "--no-specials", "--quiet")
    if not tally.expect(done.returncode == 0, f"tokenize {model.name}: {done.stderr}"):
        return
    wanted = json.loads((HERE / model.name / "ids.json").read_text())
    found = [json.loads(line) for line in out.read_text().split("\n") if line]
    found = [line["ids"] if isinstance(line, dict) else line for line in found]
    tally.expect(len(found) == len(wanted), f"tokenize {model.name}: {len(found)} rows")
    for text, ids, golden in zip(texts, found, wanted):
        tally.expect(ids == golden, f"tokenize {model.name}: ids differ for {text[:40]!r}")


def main():
    """Both tiny models."""
    tally = Tally()
    texts = json.loads((HERE / "texts.json").read_text())
    if not PROGRAM.exists():
        tally.skip(f"{PROGRAM} is not built")
        tally.end()
    with tempfile.TemporaryDirectory(prefix="embound-golden-") as folder:
        for model in TINY:
            check_ids(tally, model, texts, folder)
            check_vectors(tally, model, texts, folder)
    tally.end()


if __name__ == "__main__":
    main()
