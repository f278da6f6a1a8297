"""LangChain: an ``Embeddings`` over a SentenceTransformer of embound.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from langchain_core.embeddings import Embeddings

from .._model import SentenceTransformer


class EmboundEmbeddings(Embeddings):
    """``EmboundEmbeddings("all-MiniLM-L6-v2", memory="300MiB")``; options are the constructor's of
    SentenceTransformer. ``encode_options`` go to encode, for example ``normalize_embeddings``."""

    def __init__(self, model: str | SentenceTransformer,
                 encode_options: dict[str, Any] | None = None, **options: Any) -> None:
        self.client = (model if isinstance(model, SentenceTransformer)
                       else SentenceTransformer(model, **options))
        self.encode_options = dict(encode_options or {})

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, with the model's prompt for documents."""
        if not texts:
            return []
        rows: list[list[float]] = self.client.encode_document(
            list(texts), **self.encode_options).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, with the model's prompt for queries."""
        row: list[float] = self.client.encode_query(text, **self.encode_options).tolist()
        return row
