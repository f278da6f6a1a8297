"""Similarities of vectors: with torch where tensors are at hand, else with numpy.

A result is a torch tensor if an input is one, or if this process has imported torch already, as
users of sentence-transformers expect; otherwise a numpy array, and torch stays out.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

from ._errors import ArgumentError


def _torch() -> Any:
    return sys.modules.get("torch")


def _is_tensor(value: Any) -> bool:
    torch = _torch()
    return torch is not None and isinstance(value, torch.Tensor)


def wants_tensor() -> bool:
    """Whether results are tensors."""
    return _torch() is not None


def _to_tensor(value: Any, batch: bool) -> Any:
    import numpy

    torch = _torch()
    if isinstance(value, numpy.ndarray):
        value = torch.from_numpy(value) if value.flags.writeable else torch.tensor(value)
    elif isinstance(value, list) and value and all(map(_is_tensor, value)):
        value = torch.stack(value)
    elif isinstance(value, list) and value and isinstance(value[0], numpy.ndarray):
        value = torch.from_numpy(numpy.stack(value))
    elif not _is_tensor(value):
        value = torch.tensor(value)
    if not torch.is_floating_point(value) or torch.finfo(value.dtype).bits < 32:
        value = value.to(torch.float32)
    return value.unsqueeze(0) if batch and value.dim() == 1 else value


def _to_array(value: Any, batch: bool) -> Any:
    import numpy

    array = numpy.asarray(value)
    if array.dtype not in (numpy.float32, numpy.float64):
        array = array.astype(numpy.float32)
    elif not isinstance(value, (numpy.ndarray, list)) or (
            isinstance(value, list) and not (value and isinstance(value[0], numpy.ndarray))):
        array = array.astype(numpy.float32)
    return array[None, :] if batch and array.ndim == 1 else array


def _unit(vectors: Any) -> Any:
    import numpy

    length = numpy.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / numpy.maximum(length, 1e-12)


def normalize_embeddings(embeddings: Any) -> Any:
    """Vectors of length one: [n, dim] or [dim], of the kind that was given."""
    if _is_tensor(embeddings):
        return _torch().nn.functional.normalize(embeddings, p=2, dim=-1)
    return _unit(_to_array(embeddings, False))


def _both(a: Any, b: Any, batch: bool) -> tuple[Any, Any, Any]:
    torch = _torch()
    convert = _to_array if torch is None else _to_tensor
    a, b = convert(a, batch), convert(b, batch)
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-1]:
        raise ArgumentError(f"vectors of shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be "
                            "compared: both need as many values each")
    return torch, a, b


def cos_sim(a: Any, b: Any) -> Any:
    """Cosines [n, m] of all pairs of a [n, dim] and b [m, dim]."""
    torch, a, b = _both(a, b, True)
    if torch:
        unit = torch.nn.functional.normalize
        return unit(a, p=2, dim=-1) @ unit(b, p=2, dim=-1).T
    return _unit(a) @ _unit(b).T


def dot_score(a: Any, b: Any) -> Any:
    """Dot products [n, m] of all pairs."""
    _, a, b = _both(a, b, True)
    return a @ b.T


def _distances(a: Any, b: Any, order: float) -> Any:
    import numpy

    out = numpy.empty((len(a), len(b)), dtype=a.dtype)
    for row, vector in zip(out, a, strict=True):
        row[:] = numpy.linalg.norm(b - vector, ord=order, axis=-1)
    return out


def euclidean_sim(a: Any, b: Any) -> Any:
    """Negative Euclidean distances [n, m] of all pairs."""
    torch, a, b = _both(a, b, True)
    return -torch.cdist(a, b, p=2.0) if torch else -_distances(a, b, 2)


def manhattan_sim(a: Any, b: Any) -> Any:
    """Negative sums of absolute differences [n, m] of all pairs."""
    torch, a, b = _both(a, b, True)
    return -torch.cdist(a, b, p=1.0) if torch else -_distances(a, b, 1)


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """Cosines [n] of a[i] and b[i]."""
    torch, a, b = _both(a, b, False)
    unit = torch.nn.functional.normalize if torch else None
    if unit:
        return (unit(a, p=2, dim=-1) * unit(b, p=2, dim=-1)).sum(-1)
    return (_unit(a) * _unit(b)).sum(-1)


def pairwise_dot_score(a: Any, b: Any) -> Any:
    """Dot products [n] of a[i] and b[i]."""
    _, a, b = _both(a, b, False)
    return (a * b).sum(-1)


def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """Negative Euclidean distances [n] of a[i] and b[i]."""
    _, a, b = _both(a, b, False)
    return -(((a - b) ** 2).sum(-1) ** 0.5)


def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """Negative sums of absolute differences [n] of a[i] and b[i]."""
    _, a, b = _both(a, b, False)
    return -abs(a - b).sum(-1)


class SimilarityFunction(Enum):
    """The similarities of single vectors by name."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def to_similarity_fn(
            similarity_function: str | SimilarityFunction) -> Callable[[Any, Any], Any]:
        """The function over all pairs. ValueError for an unknown name."""
        return _FUNCTIONS[check_name(similarity_function)][0]

    @staticmethod
    def to_similarity_pairwise_fn(
            similarity_function: str | SimilarityFunction) -> Callable[[Any, Any], Any]:
        """The function over a[i] and b[i]. ValueError for an unknown name."""
        return _FUNCTIONS[check_name(similarity_function)][1]

    @staticmethod
    def possible_values() -> list[str]:
        """The names."""
        return [member.value for member in SimilarityFunction]


_FUNCTIONS = {
    "cosine": (cos_sim, pairwise_cos_sim),
    "dot": (dot_score, pairwise_dot_score),
    "euclidean": (euclidean_sim, pairwise_euclidean_sim),
    "manhattan": (manhattan_sim, pairwise_manhattan_sim),
}


def check_name(value: Any) -> str:
    """The name of a similarity; ArgumentError (a ValueError) if there is none such."""
    name = getattr(value, "value", value)
    if name not in _FUNCTIONS:
        raise ArgumentError(f"similarity_fn_name {name!r}: state one of {tuple(_FUNCTIONS)}")
    return str(name)
