#!/usr/bin/env python3
"""500 texts from 1 to 10,000 words, naughty strings among them, beside sentence-transformers, which
cuts each at the model's length: minimum cosine 0.99999 in f32 and 0.9995 in bf16, all models.

The reference vectors are kept in build/golden/cosine; EMB_TEXTS=N takes fewer texts.

SPDX-License-Identifier: Apache-2.0
"""
import hashlib
import json
import os
import pathlib
import tempfile

import real
from support import program

COSINE_MIN = {"f32": 0.99999, "bf16": 0.9995}


def reference_vectors(name, folder, texts):
    """Vectors of sentence-transformers, from the cache if the same texts were encoded before."""
    import numpy
    import reference
    from importlib import metadata
    key = json.dumps([texts, metadata.version("sentence-transformers"),
                      metadata.version("transformers"), metadata.version("torch")])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    cache = program.ROOT / "build" / "golden" / "cosine" / f"{name}-{digest}.npy"
    if cache.exists():
        return numpy.load(cache)
    vectors = reference.Reference(str(folder)).encode_truncated(texts, batch=8)
    cache.parent.mkdir(parents=True, exist_ok=True)
    numpy.save(cache, vectors)
    return vectors


def check(tally, name, folder, texts, scratch):
    """Both dtypes of one model."""
    import numpy
    wanted = reference_vectors(name, folder, texts).astype(numpy.float64)
    wanted /= numpy.linalg.norm(wanted, axis=1, keepdims=True)
    source = scratch / "texts.jsonl"
    real.write_jsonl(source, texts)
    for dtype, cosine_min in COSINE_MIN.items():
        output = scratch / f"{name}.{dtype}.npy"
        done, _ = real.encode(folder, source, output, "--dtype", dtype, "--long", "truncate")
        if not tally.expect(done.returncode == 0, f"{name} {dtype}: {done.stderr}"):
            continue
        found = numpy.load(output).astype(numpy.float64)
        cosines = (found * wanted).sum(1) / numpy.linalg.norm(found, axis=1)
        worst = int(numpy.argmin(cosines))
        print(f"{name} {dtype}: {len(texts)} texts, cosine min {cosines[worst]:.7f} "
              f"mean {cosines.mean():.7f}", flush=True)
        tally.expect(cosines[worst] >= cosine_min,
                     f"{name} {dtype}: cosine {cosines[worst]:.7f} below {cosine_min} for text "
                     f"{worst}: {texts[worst][:60]!r}")


def main():
    """All models."""
    import reference
    reference.enter_oracle_env()
    tally = program.Tally()
    if real.have(tally, real.DATA / "texts" / "abstracts.txt", real.DATA / "naughty" / "blns.json"):
        texts = real.mixed_texts(int(os.environ.get("EMB_TEXTS", "500")), 10000)
        with tempfile.TemporaryDirectory(prefix="embound-models-") as scratch:
            for name, folder in real.models(tally):
                check(tally, name, folder, texts, pathlib.Path(scratch))
    tally.end()


if __name__ == "__main__":
    main()
