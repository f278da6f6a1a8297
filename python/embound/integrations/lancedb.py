"""LanceDB: an embedding function over a SentenceTransformer of embound.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from lancedb.embeddings import TextEmbeddingFunction, register
from pydantic import PrivateAttr

from .._model import SentenceTransformer


@register("embound")
class EmboundEmbeddings(TextEmbeddingFunction):
    """``get_registry().get("embound").create(name="all-MiniLM-L6-v2", memory="300MiB")``."""

    name: str = "all-MiniLM-L6-v2"
    memory: str | int | None = None
    gpu_memory: str | int | None = None
    device: str | None = None
    dtype: str | None = None
    long: str | None = None
    normalize: bool = False
    _client: SentenceTransformer | None = PrivateAttr(default=None)

    def _opened(self) -> SentenceTransformer:
        if self._client is None:
            self._client = SentenceTransformer(
                self.name, memory=self.memory, gpu_memory=self.gpu_memory, device=self.device,
                dtype=self.dtype, long=self.long)
        return self._client

    def ndims(self) -> int:
        """Values of each vector."""
        return self._opened().get_embedding_dimension()

    def generate_embeddings(self, texts: Any, *arguments: Any, **options: Any) -> Any:
        """One vector per text."""
        return list(self._opened().encode_document(list(texts),
                                                   normalize_embeddings=self.normalize))
