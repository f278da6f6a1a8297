"""LanceDB: an embedding function over a SentenceTransformer of embound.

A table keeps the function's name and options; a program that only reopens one imports this module
first, so that LanceDB knows the name.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import json
from typing import Any

from .._model import SentenceTransformer
from ._common import device_name, kept, make_model, not_here

try:
    from lancedb.embeddings import TextEmbeddingFunction, register
    from pydantic import ConfigDict, PrivateAttr
except ImportError as error:
    raise not_here(error, "lancedb") from error


@register("embound")
class EmboundEmbeddings(TextEmbeddingFunction):
    """``get_registry().get("embound").create(name="all-MiniLM-L6-v2", memory="300MiB")``, in place
    of ``get("sentence-transformers")``, with its parameters; further ones are the constructor's of
    SentenceTransformer. Unknown ones are refused. A ``token`` is stated as ``"$var:NAME"``: LanceDB
    keeps the variable's name with the table."""

    model_config = ConfigDict(extra="forbid")

    name: str = "all-MiniLM-L6-v2"
    device: str | int | None = None
    normalize: bool = True
    trust_remote_code: bool = True
    memory: str | int | None = None
    gpu_memory: str | int | None = None
    caller_memory: str | int | None = None
    dtype: str | None = None
    long: str | None = None
    threads: int | None = None
    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None
    truncate_dim: int | None = None
    max_seq_length: int | None = None
    similarity_fn_name: str | None = None
    model_kwargs: dict[str, Any] | None = None
    cache_folder: str | None = None
    revision: str | None = None
    local_files_only: bool | None = None
    token: str | None = None
    _client: SentenceTransformer | None = PrivateAttr(default=None)

    @classmethod
    def create(cls, **kwargs: Any) -> EmboundEmbeddings:
        """From options, which the table keeps as they are stated here."""
        if "device" in kwargs:
            kwargs["device"] = device_name(kwargs["device"])
        secret = {"token": kwargs["token"]} if "token" in kwargs else {}
        made: EmboundEmbeddings = super().create(**kept(kwargs), **secret)
        return made

    @staticmethod
    def sensitive_keys() -> list[str]:
        """Options that are stated as variables only."""
        return ["token"]

    def __hash__(self) -> int:
        return hash(json.dumps(self.model_dump(), sort_keys=True))

    def _opened(self) -> SentenceTransformer:
        if self._client is None:
            options = self.model_dump(exclude={"name", "normalize", "max_retries"})
            self._client = make_model(self.name, options)
        return self._client

    def ndims(self) -> int:
        """Values of each vector."""
        return self._opened().get_embedding_dimension()

    def compute_query_embeddings(self, query: Any, *arguments: Any, **options: Any) -> list[Any]:
        """One vector per text, with the prompt for queries."""
        texts = list(self.sanitize_input(query))
        return list(self._opened().encode_query(texts, normalize_embeddings=self.normalize))

    def generate_embeddings(self, texts: Any, *arguments: Any, **options: Any) -> Any:
        """One vector per text, with the prompt for documents."""
        return list(self._opened().encode_document(list(texts),
                                                   normalize_embeddings=self.normalize))
