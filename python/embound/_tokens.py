"""Token ids as tensors, and vectors of single tokens.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._errors import ArgumentError, UnsupportedError

if TYPE_CHECKING:
    from ._model import SentenceTransformer


def _ids(model: SentenceTransformer, texts: Any, prompt: str | None) -> list[Any]:
    import numpy

    items = [texts] if isinstance(texts, str) else list(texts)
    for i, text in enumerate(items):
        if not isinstance(text, str):
            raise ArgumentError(f"text {i} is of type {type(text).__name__}; only str can be "
                                "tokenized")
    if prompt:
        items = [prompt + text for text in items]
    return [numpy.frombuffer(ids, dtype=numpy.uint32)
            for ids in model._core.tokenize(items, model.max_seq_length)]


def _tensor(array: Any) -> Any:
    try:
        import torch
    except ImportError:
        return array
    return torch.from_numpy(array)


def tokenize(model: SentenceTransformer, texts: Any, prompt: str | None = None,
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
    features = {"input_ids": _tensor(ids)}
    if not mpnet:
        features["token_type_ids"] = _tensor(numpy.zeros_like(ids))
    features["attention_mask"] = _tensor(mask)
    features["modality"] = "text"
    return features


def encode(model: SentenceTransformer, inputs: Any, prompt: str | None,
           output_value: str | None) -> Any:
    """Vectors of tokens, or all features of each text."""
    raise UnsupportedError(f"output_value={output_value!r} is not available yet: embound gives one "
                           "vector per text")
