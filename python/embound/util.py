"""Functions that stand beside the model: similarities, search among vectors, precisions.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._similarity import (
    SimilarityFunction, cos_sim, dot_score, euclidean_sim, manhattan_sim, normalize_embeddings,
    pairwise_cos_sim, pairwise_dot_score, pairwise_euclidean_sim, pairwise_manhattan_sim)
from .quantization import quantize_embeddings

__all__ = [
    "SimilarityFunction", "cos_sim", "dot_score", "euclidean_sim", "manhattan_sim",
    "normalize_embeddings", "pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim",
    "pairwise_manhattan_sim", "pytorch_cos_sim", "quantize_embeddings", "semantic_search",
    "truncate_embeddings",
]

pytorch_cos_sim = cos_sim  # its older name


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """The first ``truncate_dim`` values of each vector."""
    return embeddings[..., :truncate_dim]


def _best(scores: Any, count: int) -> list[dict[str, int | float]]:
    import numpy

    row = numpy.asarray(scores)
    order = numpy.argsort(-row, kind="stable")[:count]
    return [{"corpus_id": int(i), "score": float(row[i])} for i in order]


def semantic_search(query_embeddings: Any, corpus_embeddings: Any, query_chunk_size: int = 100,
                    corpus_chunk_size: int = 500000, top_k: int = 10,
                    score_function: Callable[[Any, Any], Any] = cos_sim,
                    ) -> list[list[dict[str, int | float]]]:
    """For each query, the ``top_k`` best vectors of the corpus: ``corpus_id`` and ``score``, best
    first. At most query_chunk_size x corpus_chunk_size scores are held at once."""
    if getattr(query_embeddings, "ndim", 2) == 1:
        query_embeddings = query_embeddings[None, :]
    found: list[list[dict[str, int | float]]] = [[] for _ in range(len(query_embeddings))]
    for q in range(0, len(query_embeddings), query_chunk_size):
        queries = query_embeddings[q:q + query_chunk_size]
        for c in range(0, len(corpus_embeddings), corpus_chunk_size):
            scores = score_function(queries, corpus_embeddings[c:c + corpus_chunk_size])
            if hasattr(scores, "cpu"):
                scores = scores.cpu()
            for i, row in enumerate(scores):
                fresh = _best(row, top_k)
                for hit in fresh:
                    hit["corpus_id"] += c
                both = sorted(found[q + i] + fresh, key=lambda hit: -hit["score"])
                found[q + i] = both[:top_k]
    return found
