"""An index over vectors of a function. Needs: txtai

SPDX-License-Identifier: Apache-2.0
"""
import sys

from report import report
from sentence_transformers import SentenceTransformer
from texts import QUERIES, TEXTS
from txtai import Embeddings

model = SentenceTransformer(sys.argv[1])


def transform(texts):
    """The vectors of texts."""
    return model.encode(texts)


embeddings = Embeddings(method="external", transform=transform, backend="numpy")
embeddings.index(TEXTS)
report(hits=[embeddings.search(query, 5) for query in QUERIES],
       best=embeddings.similarity(QUERIES[0], TEXTS)[:3])
