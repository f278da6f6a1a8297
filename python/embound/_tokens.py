"""Token ids as tensors, and vectors of single tokens.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from . import _settings
from ._engine import EngineModel, warn_of_cut
from ._errors import TextError, UnsupportedError
from ._inputs import list_inputs
from ._similarity import unit


def _ids(model: EngineModel, texts: Any, prompt: str | None) -> list[Any]:
    import numpy

    items = list_inputs(texts)
    for i, text in enumerate(items):
        if not isinstance(text, str):
            raise TextError(f"text {i} is of type {type(text).__name__}; only str can be "
                            "tokenized", i)
    return [numpy.frombuffer(ids, dtype=numpy.uint32)
            for ids in model._core.tokenize(items, prompt or None, model.max_seq_length)]


class Features(dict[str, Any]):
    """What tokenize gives. Older programs take ``[0]`` of it; this says what there is."""

    def __missing__(self, key: Any) -> Any:
        raise KeyError(f"{key!r}: tokenize gives a dict of {list(self)}: the ids of the first text "
                       "are ['input_ids'][0]; SentenceTransformer(..., long='chunk') encodes texts "
                       "of any length")


def _prompt_length(model: EngineModel, prompt: str) -> int:
    """Tokens of the prompt, but for a special one at its end, as upstream counts them."""
    return len(_ids(model, [prompt], None)[0]) - min(1, int(model._info["specials_after"]))


def _tensor(array: Any) -> Any:
    try:
        import torch
    except ImportError:
        return array
    return torch.from_numpy(array)


def tokenize(model: EngineModel, texts: Any, prompt: str | None = None,
             **kwargs: Any) -> dict[str, Any]:
    """See SentenceTransformer.tokenize."""
    import numpy

    if set(kwargs) - {"task"}:
        raise UnsupportedError(f"tokenize() has no parameter {sorted(kwargs)}")
    rows = _ids(model, texts, prompt)
    longest = max((len(row) for row in rows), default=0)
    mpnet = model._info["architecture"] == "mpnet"
    ids = numpy.full((len(rows), longest), 1 if mpnet else 0, dtype=numpy.int64)
    mask = numpy.zeros((len(rows), longest), dtype=numpy.int64)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = row
        mask[i, :len(row)] = 1
    features = Features(input_ids=_tensor(ids))
    if not mpnet:
        features["token_type_ids"] = _tensor(numpy.zeros_like(ids))
    features["attention_mask"] = _tensor(mask)
    features["modality"] = "text"
    if prompt:
        features["prompt_length"] = _prompt_length(model, prompt)
    return features


def _pooled(model: EngineModel, rows: Any, truncate_dim: int | None) -> Any:
    """The text's vector from its tokens': as the model's files say."""
    import numpy

    pooling = model._info["pooling"]
    if pooling == "cls":
        vector = rows[0].copy()
    elif pooling == "max":
        vector = rows.max(axis=0)
    else:
        vector = rows.mean(axis=0, dtype=numpy.float64).astype(numpy.float32)
    if model._info["normalizes"]:
        vector = unit(vector)
    return vector[:truncate_dim]


def encode(model: EngineModel, inputs: Any, prompt: str | None, output_value: str | None,
           truncate_dim: int | None) -> Any:
    """Vectors of tokens, [tokens, dim] tensors; or (None) all features of each text, a dict.

    The engine opens again with room for these, inside the same limits, and once more when vectors
    of texts are asked for next. On a CPU only.
    """
    import numpy

    torch = _settings.need_torch("vectors of tokens")
    single = isinstance(inputs, str)
    texts = list_inputs(inputs)
    model._need_engine()
    rows, cut, dropped = model._core.encode_tokens(texts, prompt)
    if cut:
        warn_of_cut(cut, dropped, model.max_seq_length)
    arrays = [numpy.asarray(one) for one in rows]
    results: list[Any] = [torch.from_numpy(array) for array in arrays]
    if output_value is None:
        cut_to = model.truncate_dim if truncate_dim is None else truncate_dim
        prompt_length = _prompt_length(model, prompt) if prompt else 0
        for i, ids in enumerate(_ids(model, texts, prompt)):
            features: dict[str, Any] = {"input_ids": torch.from_numpy(ids.astype(numpy.int64))}
            if model._info["architecture"] != "mpnet":
                features["token_type_ids"] = torch.zeros_like(features["input_ids"])
            features["attention_mask"] = torch.ones_like(features["input_ids"])
            features["modality"] = "text"
            if prompt:
                features["prompt_length"] = prompt_length
            features["token_embeddings"] = results[i]
            features["sentence_embedding"] = torch.from_numpy(_pooled(model, arrays[i], cut_to))
            results[i] = features
    return results[0] if single else results
