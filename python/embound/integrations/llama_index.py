"""LlamaIndex: a ``BaseEmbedding`` over a SentenceTransformer of embound.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import BaseEmbedding

from .._model import SentenceTransformer
from .._stream import in_thread


class EmboundEmbedding(BaseEmbedding):
    """``EmboundEmbedding("all-MiniLM-L6-v2", memory="300MiB")``; options are the constructor's of
    SentenceTransformer. ``embed_batch_size`` texts come at a time: many suit the engine."""

    _client: SentenceTransformer = PrivateAttr()

    def __init__(self, model: str | SentenceTransformer, embed_batch_size: int = 1024,
                 **options: Any) -> None:
        client = (model if isinstance(model, SentenceTransformer)
                  else SentenceTransformer(model, **options))
        super().__init__(model_name=client.model_name, embed_batch_size=embed_batch_size)
        self._client = client

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is serialised."""
        return "EmboundEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        row: list[float] = self._client.encode_query(query).tolist()
        return row

    def _get_text_embedding(self, text: str) -> list[float]:
        row: list[float] = self._client.encode_document(text).tolist()
        return row

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._client.encode_document(list(texts)).tolist()
        return rows

    async def _aget_query_embedding(self, query: str) -> list[float]:
        row: list[float] = await in_thread(lambda: self._get_query_embedding(query))
        return row

    async def _aget_text_embedding(self, text: str) -> list[float]:
        row: list[float] = await in_thread(lambda: self._get_text_embedding(text))
        return row
