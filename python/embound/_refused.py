"""Classes of sentence-transformers that embound does not have, each refused with what to do.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from ._errors import UnsupportedError


class CrossEncoder:
    """Not available yet: rerankers score pairs of texts, and embound encodes single texts."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise UnsupportedError(
            "CrossEncoder does not exist in embound yet: keep sentence-transformers' for "
            "reranking, and use embound's SentenceTransformer for retrieval")


class SparseEncoder:
    """Not available: embound computes dense vectors."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise UnsupportedError("SparseEncoder does not exist in embound: it computes dense "
                               "vectors; keep sentence-transformers' for sparse ones")


class MultiVectorEncoder:
    """Not available: embound computes one vector per text."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise UnsupportedError("MultiVectorEncoder does not exist in embound: vectors of tokens "
                               "come from encode(..., output_value='token_embeddings')")
