#!/usr/bin/env python3
"""50 long texts beside a plain Python chunk mean (tools/reference.py): minimum cosine 0.99999 in
f32. All models; L6 with its own window and with a smaller one. EMB_TEXTS=N takes fewer texts.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import tempfile

import real
from support import program

COSINE_MIN = 0.99999
WORDS_MAX = {real.L6: 3000, real.L3: 3000, real.MPNET: 1200}


def long_texts(name, count):
    """Texts of 300 words up to WORDS_MAX, so that nearly all need several chunks."""
    words = " ".join(real.abstracts()).split(" ")
    step = (WORDS_MAX[name] - 300) // max(count - 1, 1)
    return [" ".join(words[997 * n:997 * n + 300 + n * step]) for n in range(count)]


def check(tally, name, folder, window, texts, scratch):
    """One model, one window."""
    import numpy
    import reference
    model = reference.Reference(str(folder))
    source, output = scratch / "texts.jsonl", scratch / f"{name}.npy"
    real.write_jsonl(source, texts)
    options = ["--max-length", window] if window else []
    done, stats = real.encode(folder, source, output, "--dtype", "f32", *options)
    if not tally.expect(done.returncode == 0, f"{name}: {done.stderr}"):
        return
    chunks = sum(len(model.chunks(text, window)) for text in texts)
    tally.expect(stats["chunks"] == chunks, f"{name}: {stats['chunks']} chunks, wanted {chunks}")
    found = numpy.load(output).astype(numpy.float64)
    worst = 1.0
    for row, text in zip(found, texts):
        wanted = model.encode_chunked(text, window)
        value = row @ wanted / (numpy.linalg.norm(row) * numpy.linalg.norm(wanted))
        worst = min(worst, value)
        ratio = numpy.linalg.norm(row) / numpy.linalg.norm(wanted)
        tally.expect(abs(ratio - 1) < 1e-4, f"{name}: length is off by a factor of {ratio:.6f}")
    print(f"{name} window {window or model.window}: {len(texts)} texts, {chunks} chunks, "
          f"cosine min {worst:.7f}", flush=True)
    tally.expect(worst >= COSINE_MIN, f"{name}: cosine {worst:.7f} below {COSINE_MIN}")


def main():
    """All models."""
    import reference
    reference.enter_oracle_env()
    tally = program.Tally()
    count = int(os.environ.get("EMB_TEXTS", "50"))
    if real.have(tally, real.DATA / "texts" / "abstracts.txt"):
        with tempfile.TemporaryDirectory(prefix="embound-models-") as scratch:
            for name, folder in real.models(tally):
                texts = long_texts(name, count)
                check(tally, name, folder, None, texts, pathlib.Path(scratch))
                if name == real.L6:
                    check(tally, name, folder, 100, texts[:10], pathlib.Path(scratch))
    tally.end()


if __name__ == "__main__":
    main()
