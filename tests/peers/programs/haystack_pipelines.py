"""A pipeline that indexes and one that asks. Needs: haystack-ai

SPDX-License-Identifier: Apache-2.0
"""
import sys

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from report import report
from texts import LABELS, QUERIES, SUBJECTS, TEXTS
from upstream import haystack

text_embedder, document_embedder = haystack(sys.argv[1])
store = InMemoryDocumentStore(embedding_similarity_function="cosine")
indexing = Pipeline()
indexing.add_component("embedder", document_embedder)
indexing.add_component("writer", DocumentWriter(document_store=store))
indexing.connect("embedder.documents", "writer.documents")
names = list(SUBJECTS)
indexing.run({"embedder": {"documents": [
    Document(content=text, meta={"title": names[label]})
    for text, label in zip(TEXTS, LABELS, strict=True)]}})
asking = Pipeline()
asking.add_component("embedder", text_embedder)
asking.add_component("retriever", InMemoryEmbeddingRetriever(document_store=store, top_k=4))
asking.connect("embedder.embedding", "retriever.query_embedding")
found = [asking.run({"embedder": {"text": query}})["retriever"]["documents"] for query in QUERIES]
report(found=[[(one.content, one.score) for one in documents] for documents in found])
