"""Chroma: an embedding function over a SentenceTransformer of embound.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from chromadb import Documents, EmbeddingFunction, Embeddings
from chromadb.utils.embedding_functions import register_embedding_function

from .._model import SentenceTransformer


@register_embedding_function
class EmboundEmbeddingFunction(EmbeddingFunction[Documents]):
    """``EmboundEmbeddingFunction("all-MiniLM-L6-v2", memory="300MiB")``; options are the
    constructor's of SentenceTransformer, and are kept with the collection."""

    def __init__(self, model: str, **options: Any) -> None:
        self.model = model
        self.options = options
        self.client = SentenceTransformer(model, **options)

    def __call__(self, input: Documents) -> Embeddings:
        """One float32 vector per text, with the prompt for documents."""
        return list(self.client.encode_document(list(input)))

    def embed_query(self, input: Documents) -> Embeddings:
        """The same with the prompt for queries."""
        return list(self.client.encode_query(list(input)))

    @staticmethod
    def name() -> str:
        """The name that a collection keeps."""
        return "embound"

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps."""
        return {"model": self.model, **self.options}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmboundEmbeddingFunction:
        """From what a collection kept."""
        return EmboundEmbeddingFunction(**config)

    def default_space(self) -> Any:
        """Cosine, unless the model says otherwise."""
        return {"dot": "ip", "euclidean": "l2"}.get(self.client.similarity_fn_name, "cosine")

    def supported_spaces(self) -> Any:
        """All of Chroma's."""
        return ["cosine", "l2", "ip"]
