"""LlamaIndex: a ``BaseEmbedding`` over a SentenceTransformer of embound.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from .._model import SentenceTransformer
from .._stream import in_thread
from ._common import kept, make_model, not_here, options_of

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
except ImportError as error:
    raise not_here(error, "llama-index-core") from error


class EmboundEmbedding(BaseEmbedding):
    """``EmboundEmbedding("all-MiniLM-L6-v2", memory="300MiB")``, in place of LlamaIndex's
    ``HuggingFaceEmbedding``, with its parameters.

    Args:
        model_name: a name, a directory, or a SentenceTransformer of embound.
        embed_batch_size: texts that come at a time: many suit the engine.
        normalize: vectors of length one.
        max_length: tokens of a text.
        query_instruction, text_instruction: put before queries and texts; None: the model's own.
        options: of the constructor of SentenceTransformer. All but ``token`` are part of
            ``to_dict()``, on which caches key.
    """

    normalize: bool = Field(default=True, description="Vectors of length one.")
    show_progress_bar: bool = Field(default=False, description="A progress bar for texts.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Options of embound's SentenceTransformer.")
    _client: SentenceTransformer = PrivateAttr()

    def __init__(self, model_name: str | SentenceTransformer, embed_batch_size: int = 1024, *,
                 normalize: bool = True, max_length: int | None = None,
                 query_instruction: str | None = None, text_instruction: str | None = None,
                 show_progress_bar: bool = False, options: dict[str, Any] | None = None,
                 callback_manager: Any = None, num_workers: int | None = None,
                 embeddings_cache: Any = None, rate_limiter: Any = None, **more: Any) -> None:
        stated = {**(options or {}), **more}
        if max_length is not None:
            stated["max_seq_length"] = max_length
        instructions = {"query": query_instruction, "document": text_instruction}
        instructions = {name: text for name, text in instructions.items() if text is not None}
        if instructions:
            stated["prompts"] = {**(stated.get("prompts") or {}), **instructions}
        client = make_model(model_name, stated)
        base = {"callback_manager": callback_manager, "num_workers": num_workers,
                "embeddings_cache": embeddings_cache, "rate_limiter": rate_limiter}
        super().__init__(
            model_name=client.model_name, embed_batch_size=embed_batch_size, normalize=normalize,
            show_progress_bar=show_progress_bar,
            options=options_of(client) if client is model_name else kept(stated),
            **{name: value for name, value in base.items() if value is not None})
        self._client = client

    @classmethod
    def class_name(cls) -> str:
        """The name under which it is serialised."""
        return "EmboundEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        row: list[float] = self._client.encode_query(
            query, normalize_embeddings=self.normalize).tolist()
        return row

    def _get_text_embedding(self, text: str) -> list[float]:
        row: list[float] = self._client.encode_document(
            text, normalize_embeddings=self.normalize).tolist()
        return row

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._client.encode_document(
            list(texts), normalize_embeddings=self.normalize,
            show_progress_bar=self.show_progress_bar).tolist()
        return rows

    async def _aget_query_embedding(self, query: str) -> list[float]:
        row: list[float] = await in_thread(lambda: self._get_query_embedding(query))
        return row

    async def _aget_text_embedding(self, text: str) -> list[float]:
        row: list[float] = await in_thread(lambda: self._get_text_embedding(text))
        return row

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = await in_thread(lambda: self._get_text_embeddings(texts))
        return rows
