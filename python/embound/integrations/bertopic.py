"""BERTopic: a backend over any model that encodes as embound's SentenceTransformer does.

``BERTopic(embedding_model=SentenceTransformer(...))`` needs no backend. A subclass does, and a
wrapper: BERTopic goes by the name of the class, and takes a model of its own for what it does not
know.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from ._common import EncoderBackend, not_here

try:
    from bertopic.backend import BaseEmbedder
except ImportError as error:
    raise not_here(error, "bertopic") from error


class EmboundBackend(EncoderBackend, BaseEmbedder):
    """``BERTopic(embedding_model=EmboundBackend("all-MiniLM-L6-v2", memory="300MiB"))``, or
    ``EmboundBackend(model)``; options are the constructor's of SentenceTransformer."""
