"""Each package's embedder over sentence-transformers: its own where it has one, else the custom one
that its documentation describes. `ours` has the same functions over embound.

SPDX-License-Identifier: Apache-2.0
"""


def langchain_class():
    """A class of LangChain embeddings; the model's directory is its parameter ``model_name``."""
    from langchain_core.embeddings import Embeddings
    from sentence_transformers import SentenceTransformer

    class Custom(Embeddings):
        """Of documents and of queries."""

        def __init__(self, model_name):
            self.model = SentenceTransformer(model_name)

        def embed_documents(self, texts):
            """One list of floats per text."""
            return self.model.encode_document(texts).tolist()

        def embed_query(self, text):
            """One list of floats."""
            return self.model.encode_query(text).tolist()

    return Custom


def llama_index(directory):
    """A LlamaIndex embedding."""
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from sentence_transformers import SentenceTransformer

    class Custom(BaseEmbedding):
        """Of texts and of queries."""

        _model = PrivateAttr()

        def __init__(self, **data):
            super().__init__(**data)
            self._model = SentenceTransformer(self.model_name)

        def _get_query_embedding(self, query):
            return self._model.encode_query(query, normalize_embeddings=True).tolist()

        def _get_text_embedding(self, text):
            return self._model.encode_document(text, normalize_embeddings=True).tolist()

        async def _aget_query_embedding(self, query):
            return self._get_query_embedding(query)

    return Custom(model_name=directory)


def haystack(directory):
    """Haystack's components: of texts, and of documents with their title before the content."""
    from haystack import Document, component
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(directory)

    @component
    class TextEmbedder:
        """A question's vector."""

        @component.output_types(embedding=list[float])
        def run(self, text: str):
            """Of one text."""
            return {"embedding": model.encode_query(text).tolist()}

    @component
    class DocumentEmbedder:
        """The documents' vectors."""

        @component.output_types(documents=list[Document])
        def run(self, documents: list[Document]):
            """Of many documents."""
            rows = model.encode_document(
                [f"{one.meta['title']}\n{one.content}" for one in documents])
            for document, row in zip(documents, rows, strict=True):
                document.embedding = row.tolist()
            return {"documents": documents}

    return TextEmbedder(), DocumentEmbedder()


def chroma(directory):
    """A Chroma embedding function."""
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    return SentenceTransformerEmbeddingFunction(model_name=directory)


def lancedb(directory):
    """A LanceDB embedding function."""
    from lancedb.embeddings import get_registry

    return get_registry().get("sentence-transformers").create(name=directory)
