"""Names, order and defaults of parameters are those of sentence-transformers 6.

SPDX-License-Identifier: Apache-2.0
"""
import inspect

import embound
import pytest

METHODS = [
    "__init__", "encode", "encode_query", "encode_document", "encode_multi_process", "similarity",
    "similarity_pairwise", "start_multi_process_pool", "stop_multi_process_pool", "tokenize",
    "preprocess", "get_embedding_dimension", "get_sentence_embedding_dimension",
    "get_max_seq_length", "truncate_embeddings", "truncate_sentence_embeddings",
    "is_singular_input", "get_model_kwargs", "supports", "load", "evaluate",
]
OURS = {"__init__": ["memory", "gpu_memory", "dtype", "long", "threads", "caller_memory"]}
PROPERTIES = ["max_seq_length", "similarity_fn_name", "device", "dtype", "modalities"]


@pytest.mark.parametrize("name", METHODS)
def test_signature(name, reference):
    theirs = inspect.signature(getattr(reference.SentenceTransformer, name)).parameters
    ours = inspect.signature(getattr(embound.SentenceTransformer, name)).parameters
    added = list(ours)[len(theirs):]
    assert added == OURS.get(name, [])
    for a, b in zip(ours.values(), theirs.values()):
        assert (a.name, a.kind, a.default) == (b.name, b.kind, b.default)


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name, reference):
    theirs = inspect.getattr_static(reference.SentenceTransformer, name)
    ours = inspect.getattr_static(embound.SentenceTransformer, name)
    assert isinstance(ours, property) and (ours.fset is None) == (theirs.fset is None)


@pytest.mark.parametrize("name", [
    "cos_sim", "dot_score", "euclidean_sim", "manhattan_sim", "pairwise_cos_sim",
    "pairwise_dot_score", "pairwise_euclidean_sim", "pairwise_manhattan_sim", "semantic_search",
    "quantize_embeddings", "normalize_embeddings", "truncate_embeddings", "pairwise_angle_sim",
    "information_retrieval", "paraphrase_mining", "paraphrase_mining_embeddings",
    "community_detection"])
def test_function(name, reference):
    from sentence_transformers import util

    theirs = inspect.signature(getattr(util, name)).parameters.values()
    ours = inspect.signature(getattr(embound.util, name)).parameters.values()
    for a, b in zip(ours, theirs, strict=True):
        default = getattr(b.default, "__name__", b.default)
        assert (a.name, a.kind, getattr(a.default, "__name__", a.default)) == (
            b.name, b.kind, default)
