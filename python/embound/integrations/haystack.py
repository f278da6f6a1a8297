"""Haystack: embedders of texts and of documents over a SentenceTransformer of embound.

A saved pipeline loads with ``allowed_modules=["embound.integrations.haystack"]``.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict

from .._model import SentenceTransformer


class _Embedder:
    """What both have: a model by name, opened by warm_up or at the first run."""

    def __init__(self, model: str, encode_options: dict[str, Any] | None = None,
                 **options: Any) -> None:
        self.model = model
        self.encode_options = dict(encode_options or {})
        self.options = options
        self.client: SentenceTransformer | None = None

    def warm_up(self) -> None:
        """Opens the model and takes its memory."""
        self._opened().open()

    def _opened(self) -> SentenceTransformer:
        if self.client is None:
            self.client = SentenceTransformer(self.model, **self.options)
        return self.client

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline's description."""
        described: dict[str, Any] = default_to_dict(
            self, model=self.model, encode_options=self.encode_options, **self.options)
        return described

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Any:
        """From a pipeline's description."""
        return default_from_dict(cls, data)


@component
class EmboundTextEmbedder(_Embedder):
    """``run(text)`` gives ``{"embedding": [dim floats]}``, with the prompt for queries."""

    def __init__(self, model: str, encode_options: dict[str, Any] | None = None,
                 **options: Any) -> None:
        # by name: the decorator makes another class of this one
        _Embedder.__init__(self, model, encode_options, **options)

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """The vector of a question."""
        return {"embedding": self._opened().encode_query(text, **self.encode_options).tolist()}


@component
class EmboundDocumentEmbedder(_Embedder):
    """``run(documents)`` gives them with ``embedding`` set, with the prompt for documents."""

    def __init__(self, model: str, encode_options: dict[str, Any] | None = None,
                 **options: Any) -> None:
        # by name: the decorator makes another class of this one
        _Embedder.__init__(self, model, encode_options, **options)

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """The documents, each with the vector of its content."""
        if not documents:
            return {"documents": []}
        texts = [document.content or "" for document in documents]
        rows = self._opened().encode_document(texts, **self.encode_options)
        return {"documents": [replace(document, embedding=row.tolist())
                              for document, row in zip(documents, rows, strict=True)]}
