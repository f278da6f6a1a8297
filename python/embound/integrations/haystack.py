"""Haystack: embedders of texts and of documents over a SentenceTransformer of embound.

A saved pipeline loads with ``allowed_modules=["embound.integrations.haystack"]``.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._model import SentenceTransformer
from ._common import kept, make_if_here, make_model, not_here

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret
except ImportError as error:
    raise not_here(error, "haystack-ai") from error


class _Embedder:
    """What both have: a model by name, and what is put around a text."""

    def __init__(self, model: str, settings: dict[str, Any], encode: dict[str, Any],
                 options: dict[str, Any]) -> None:
        self.model = model
        self.settings = settings
        self.options = options
        self._encode = {"batch_size": settings["batch_size"], "precision": settings["precision"],
                        "show_progress_bar": settings["progress_bar"],
                        "normalize_embeddings": settings["normalize_embeddings"], **encode}
        self.client = make_if_here(model, self._resolved())

    def _resolved(self) -> dict[str, Any]:
        token = self.options.get("token")
        return {**self.options, "token": token.resolve_value() if isinstance(token, Secret)
                else token}

    def _opened(self) -> SentenceTransformer:
        if self.client is None:
            self.client = make_model(self.model, self._resolved())
        return self.client

    def warm_up(self) -> None:
        """Opens the model and takes its memory."""
        self._opened().open()

    def _around(self, text: str) -> str:
        return f"{self.settings['prefix']}{text}{self.settings['suffix']}"

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline's description: of a token only the variable's name that holds it."""
        stated = {**self.settings, **kept(self.options)}
        token = self.options.get("token")
        if isinstance(token, Secret) and token.type.value == "env_var":
            stated["token"] = token.to_dict()
        described: dict[str, Any] = default_to_dict(self, model=self.model, **stated)
        return described

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """From a pipeline's description."""
        token = data.get("init_parameters", {}).get("token")
        if isinstance(token, dict):
            data = {**data, "init_parameters": {
                **data["init_parameters"], "token": Secret.from_dict(token)}}
        return default_from_dict(cls, data)


@component
class EmboundTextEmbedder(_Embedder):
    """``run(text)`` gives ``{"embedding": [dim floats]}``, with the prompt for queries; in place of
    ``SentenceTransformersTextEmbedder``, with its parameters, and further ones of
    SentenceTransformer (``memory``, ``dtype``, ...). What is wrong with them is said at once."""

    def __init__(self, model: str = "sentence-transformers/all-mpnet-base-v2", *,
                 prefix: str = "", suffix: str = "", batch_size: int = 32,
                 progress_bar: bool = False, normalize_embeddings: bool = False,
                 precision: str = "float32", encode_kwargs: dict[str, Any] | None = None,
                 **options: Any) -> None:
        settings = {"prefix": prefix, "suffix": suffix, "batch_size": batch_size,
                    "progress_bar": progress_bar, "normalize_embeddings": normalize_embeddings,
                    "precision": precision, "encode_kwargs": encode_kwargs}
        # by name: the decorator makes another class of this one
        _Embedder.__init__(self, model, settings, encode_kwargs or {}, options)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector of a question."""
        if not isinstance(text, str):
            raise TypeError(f"EmboundTextEmbedder takes a str, not {type(text).__name__}: "
                            "EmboundDocumentEmbedder takes a list of Documents")
        row = self._opened().encode_query(self._around(text), **self._encode)
        return {"embedding": row.tolist()}


@component
class EmboundDocumentEmbedder(_Embedder):
    """``run(documents)`` gives them with ``embedding`` set, with the prompt for documents; in place
    of ``SentenceTransformersDocumentEmbedder``, with its parameters, and further ones of
    SentenceTransformer. ``meta_fields_to_embed`` stand before the content, each followed by
    ``embedding_separator``."""

    def __init__(self, model: str = "sentence-transformers/all-mpnet-base-v2", *,
                 prefix: str = "", suffix: str = "", batch_size: int = 32,
                 progress_bar: bool = False, normalize_embeddings: bool = False,
                 meta_fields_to_embed: list[str] | None = None, embedding_separator: str = "\n",
                 precision: str = "float32", encode_kwargs: dict[str, Any] | None = None,
                 **options: Any) -> None:
        settings = {"prefix": prefix, "suffix": suffix, "batch_size": batch_size,
                    "progress_bar": progress_bar, "normalize_embeddings": normalize_embeddings,
                    "meta_fields_to_embed": list(meta_fields_to_embed or []),
                    "embedding_separator": embedding_separator, "precision": precision,
                    "encode_kwargs": encode_kwargs}
        # by name: the decorator makes another class of this one
        _Embedder.__init__(self, model, settings, encode_kwargs or {}, options)

    def _text_of(self, document: Document) -> str:
        fields = [str(document.meta[name]) for name in self.settings["meta_fields_to_embed"]
                  if document.meta.get(name) is not None]
        joined = self.settings["embedding_separator"].join([*fields, document.content or ""])
        return self._around(joined)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents, each with the vector of its content."""
        if not isinstance(documents, list) or not all(
                isinstance(document, Document) for document in documents):
            raise TypeError("EmboundDocumentEmbedder takes a list of Documents: "
                            "EmboundTextEmbedder takes a str")
        if not documents:
            return {"documents": []}
        rows = self._opened().encode_document(list(map(self._text_of, documents)), **self._encode)
        return {"documents": [replace(document, embedding=row.tolist())
                              for document, row in zip(documents, rows, strict=True)]}
