"""Functions that stand beside the model: similarities, search among vectors, precisions.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from ._retrieval import (
    community_detection, information_retrieval, paraphrase_mining, paraphrase_mining_embeddings,
    semantic_search)
from ._similarity import (
    SimilarityFunction, cos_sim, dot_score, euclidean_sim, manhattan_sim, normalize_embeddings,
    pairwise_angle_sim, pairwise_cos_sim, pairwise_dot_score, pairwise_euclidean_sim,
    pairwise_manhattan_sim)
from .quantization import quantize_embeddings

__all__ = [
    "SimilarityFunction", "community_detection", "cos_sim", "dot_score", "euclidean_sim",
    "information_retrieval", "manhattan_sim", "normalize_embeddings", "pairwise_angle_sim",
    "pairwise_cos_sim", "pairwise_dot_score", "pairwise_euclidean_sim", "pairwise_manhattan_sim",
    "paraphrase_mining", "paraphrase_mining_embeddings", "pytorch_cos_sim", "quantize_embeddings",
    "semantic_search", "truncate_embeddings",
]

pytorch_cos_sim = cos_sim  # its older name


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """The first ``truncate_dim`` values of each vector."""
    return embeddings[..., :truncate_dim]
