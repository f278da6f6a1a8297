"""LangChain: an ``Embeddings`` over a SentenceTransformer of embound.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from .._errors import ArgumentError
from .._model import SentenceTransformer
from ._common import make_model, not_here

try:
    from langchain_core.embeddings import Embeddings
except ImportError as error:
    raise not_here(error, "langchain-core") from error


class EmboundEmbeddings(Embeddings):
    """``EmboundEmbeddings("all-MiniLM-L6-v2", memory="300MiB")``, in place of LangChain's
    ``HuggingFaceEmbeddings``, with its parameters.

    Args:
        model_name: a name, a directory, or a SentenceTransformer of embound.
        model_kwargs, options: of the constructor of SentenceTransformer; the former as
            HuggingFaceEmbeddings has them, the latter by themselves.
        encode_kwargs: of encode, for example ``normalize_embeddings``.
        query_encode_kwargs: for queries, in place of encode_kwargs if not empty.
        show_progress: a progress bar for documents.
    """

    def __init__(self, model_name: str | SentenceTransformer = "all-mpnet-base-v2", *,
                 cache_folder: str | None = None, model_kwargs: dict[str, Any] | None = None,
                 encode_kwargs: dict[str, Any] | None = None,
                 query_encode_kwargs: dict[str, Any] | None = None, show_progress: bool = False,
                 multi_process: bool = False, **options: Any) -> None:
        twice = sorted(set(model_kwargs or {}) & set(options))
        if twice:
            raise ArgumentError(f"{', '.join(twice)}: stated in model_kwargs too")
        if multi_process:
            raise ArgumentError("multi_process: leave it out, one model uses all cores; "
                                "device='cuda:all' all GPUs")
        self.client = make_model(model_name, {
            "cache_folder": cache_folder, **(model_kwargs or {}), **options})
        self.model_name = self.client.model_name
        self.encode_kwargs = dict(encode_kwargs or {})
        self.query_encode_kwargs = dict(query_encode_kwargs or {})
        self.show_progress = show_progress

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector per text, with the model's prompt for documents."""
        if not texts:
            return []
        options = {"show_progress_bar": self.show_progress, **self.encode_kwargs}
        rows: list[list[float]] = self.client.encode_document(list(texts), **options).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question, with the model's prompt for queries."""
        options = self.query_encode_kwargs or self.encode_kwargs
        row: list[float] = self.client.encode_query(text, **options).tolist()
        return row
