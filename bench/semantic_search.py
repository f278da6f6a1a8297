#!/usr/bin/env python3
"""util.semantic_search beside sentence-transformers' own: the same vectors, taking turns.

Run it with the interpreter of build/venv-python (make test-python makes it), with torch there.
Prints one JSON line per shape: seconds of a median call of each, the median of the ratios within a
turn, whether the same scores were found (places of equal scores may differ). Only the first shape
has a requirement.

SPDX-License-Identifier: Apache-2.0
"""
import json
import statistics
import sys
import time

import numpy
import sentence_transformers.util
import torch

import embound.util

SHAPES = ((100, 200_000, 32, 10), (100, 100_000, 384, 10), (1, 200_000, 384, 10),
          (1000, 20_000, 384, 100))
TURNS = 21


def timed(module, queries, corpus, count):
    """Seconds of one call, and what it found."""
    start = time.perf_counter()
    hits = module.semantic_search(queries, corpus, top_k=count)
    seconds = time.perf_counter() - start
    return seconds, numpy.array([[hit["score"] for hit in one] for one in hits])


def measure(queries, corpus, dim, count):
    """One line of the results."""
    generator = numpy.random.default_rng(0)
    a, b = (torch.from_numpy(generator.standard_normal((n, dim), dtype=numpy.float32))
            for n in (queries, corpus))
    pairs = []
    for _ in range(TURNS):
        ours, found = timed(embound.util, a, b, count)
        theirs, expected = timed(sentence_transformers.util, a, b, count)
        pairs.append((ours, theirs))
    ratio = statistics.median(one / other for one, other in pairs)
    required = 1.0 if (queries, corpus, dim) == SHAPES[0][:3] else None
    same = bool(numpy.allclose(found, expected, atol=1e-5))
    passed = same and (required is None or ratio <= required)
    print(json.dumps({
        "bench": "semantic_search", "queries": queries, "corpus": corpus, "dim": dim,
        "top_k": count, "seconds": round(statistics.median(x for x, _ in pairs), 4),
        "seconds_sentence_transformers": round(statistics.median(x for _, x in pairs), 4),
        "ratio": round(ratio, 3), "required": required, "same_found": same,
        "threads": torch.get_num_threads(), "passed": passed}), flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(0 if all([measure(*shape) for shape in SHAPES]) else 1)
