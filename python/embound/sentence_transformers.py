"""SentenceTransformer under a name that packages know.

Some (BERTopic, KeyBERT) look for "sentence_transformers" in the name of a model's class, and take
another model if it is not there; so this is the module that the class names as its own.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from ._model import SentenceTransformer as SentenceTransformer
from ._refused import CrossEncoder as CrossEncoder
from ._refused import MultiVectorEncoder as MultiVectorEncoder
from ._refused import SparseEncoder as SparseEncoder
from ._similarity import SimilarityFunction as SimilarityFunction
from .quantization import quantize_embeddings as quantize_embeddings
