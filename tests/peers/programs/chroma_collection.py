"""A collection on disk, asked, closed and asked again. Needs: chromadb

SPDX-License-Identifier: Apache-2.0
"""
import sys
import tempfile

import chromadb
from chromadb.config import Settings
from report import report
from texts import LABELS, QUERIES, TEXTS
from upstream import chroma


def ask(collection):
    """The nearest texts of each query, then among those with a label."""
    found = collection.query(query_texts=QUERIES, n_results=4)
    among = collection.query(query_texts=QUERIES[:1], n_results=3, where={"label": 2})
    return [found["ids"], found["distances"], among["ids"]]


with tempfile.TemporaryDirectory() as folder:
    settings = Settings(anonymized_telemetry=False)
    collection = chromadb.PersistentClient(folder, settings=settings).create_collection(
        "texts", embedding_function=chroma(sys.argv[1]),
        configuration={"hnsw": {"space": "cosine"}})
    collection.add(ids=[f"{i:02}" for i in range(len(TEXTS))], documents=TEXTS,
                   metadatas=[{"label": label} for label in LABELS])
    first = ask(collection)
    again = ask(chromadb.PersistentClient(folder, settings=settings).get_collection("texts"))
report(first=first, again=again)
