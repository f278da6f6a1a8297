"""Chroma: an embedding function over a SentenceTransformer of embound.

A collection keeps the function's name and options; a program that only reopens one imports this
module first, so that Chroma knows the name.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from ._common import kept, make_model, not_here

try:
    from chromadb import Documents, EmbeddingFunction, Embeddings
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise not_here(error, "chromadb") from error


@register_embedding_function
class EmboundEmbeddingFunction(EmbeddingFunction[Documents]):
    """``EmboundEmbeddingFunction("all-MiniLM-L6-v2", memory="300MiB")``, in place of Chroma's
    ``SentenceTransformerEmbeddingFunction``, with its parameters; further options are the
    constructor's of SentenceTransformer. All but ``token`` are kept with the collection."""

    def __init__(self, model_name: str = "all-MiniLM-L6-v2", device: Any = None,
                 normalize_embeddings: bool = False, **options: Any) -> None:
        self.client = make_model(model_name, {"device": device, **options})
        self._config = {"model_name": self.client.model_name,
                        "normalize_embeddings": normalize_embeddings,
                        **kept({"device": device, "kwargs": kept(options)})}

    def __call__(self, input: Documents) -> Embeddings:
        """One float32 vector per text, with the prompt for documents."""
        return list(self.client.encode_document(
            list(input), normalize_embeddings=self._config["normalize_embeddings"]))

    def embed_query(self, input: Documents) -> Embeddings:
        """The same with the prompt for queries."""
        return list(self.client.encode_query(
            list(input), normalize_embeddings=self._config["normalize_embeddings"]))

    @staticmethod
    def name() -> str:
        """The name that a collection keeps."""
        return "embound"

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps."""
        return dict(self._config)

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmboundEmbeddingFunction:
        """From what a collection kept."""
        stated = dict(config)
        return EmboundEmbeddingFunction(**stated.pop("kwargs", {}), **stated)

    def default_space(self) -> Any:
        """Cosine, unless the model says otherwise."""
        return {"dot": "ip", "euclidean": "l2"}.get(self.client.similarity_fn_name, "cosine")

    def supported_spaces(self) -> Any:
        """All of Chroma's."""
        return ["cosine", "l2", "ip"]
