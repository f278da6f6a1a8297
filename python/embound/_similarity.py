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


def is_float_tensor(value: Any) -> bool:
    """Whether this is a tensor of floats."""
    return _is_tensor(value) and bool(_torch().is_floating_point(value))


def wants_tensor() -> bool:
    """Whether results are tensors."""
    return _torch() is not None


def is_on_gpu(value: Any) -> bool:
    """Whether this is a tensor in other memory than the host's."""
    return _is_tensor(value) and value.device.type != "cpu"


def to_numpy(value: Any) -> Any:
    """An array of f32 or f64, of a tensor without its gradient; no copy where none is needed."""
    import numpy

    if _is_tensor(value):
        torch = _torch()
        wide = torch.is_floating_point(value) and torch.finfo(value.dtype).bits >= 32
        value = value.detach().cpu() if wide else value.detach().cpu().float()
        return value.numpy()
    array = numpy.asarray(value)
    return array if array.dtype in (numpy.float32, numpy.float64) else array.astype(numpy.float32)


def as_tensor(value: Any) -> Any:
    """A tensor of at least f32, over the array's own memory where it may be written."""
    return _to_tensor(value, False)


def as_vectors(value: Any) -> Any:
    """Vectors [n, dim] to be sliced: a tensor without its gradient, or an array; [dim] is one."""
    import numpy

    if isinstance(value, (list, tuple)):
        value = list(value)
        if value and all(map(_is_tensor, value)):
            value = _torch().stack(value)
    if _is_tensor(value):
        if value.layout is not _torch().strided:
            raise ArgumentError("sparse tensors: give dense ones (.to_dense())")
        value = value.detach()
    else:
        value = numpy.asarray(value)
    if value.ndim == 1 and len(value):
        value = value[None, :]
    if value.ndim > 2 or value.ndim == 0:
        raise ArgumentError(f"vectors of shape {tuple(value.shape)}: [n, dim] or [dim] is needed")
    return value


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


def lengths(vectors: Any) -> Any:
    """Of an array's vectors, to divide by: never 0."""
    import numpy

    return numpy.maximum(numpy.sqrt(numpy.einsum("...d,...d->...", vectors, vectors)), 1e-12)


def unit(vectors: Any) -> Any:
    """An array's vectors, of length one; one of zeros stays."""
    return vectors / lengths(vectors)[..., None]


def products(a: Any, b: Any, out: Any) -> None:
    """Dot products of the arrays a [n, dim] and b [m, dim], of one type, into out [n, m]. By
    torch's threads where torch is there: two pools of threads that wait hinder each other."""
    import numpy

    torch = _torch()
    if torch is None:
        numpy.matmul(a, b.T, out=out)
    else:
        torch.mm(as_tensor(a), as_tensor(b).T, out=torch.from_numpy(out))


def normalize_embeddings(embeddings: Any) -> Any:
    """Vectors of length one: [n, dim] or [dim], of the kind that was given."""
    if _is_tensor(embeddings):
        return _torch().nn.functional.normalize(embeddings, p=2, dim=-1)
    return unit(_to_array(embeddings, False))


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
    _, a, b = _both(a, b, True)
    return normalize_embeddings(a) @ normalize_embeddings(b).T


def dot_score(a: Any, b: Any) -> Any:
    """Dot products [n, m] of all pairs."""
    _, a, b = _both(a, b, True)
    return a @ b.T


def _distances(a: Any, b: Any, order: float) -> Any:
    """Of all pairs, with differences of a few MiB at a time."""
    import numpy

    out = numpy.empty((len(a), len(b)), dtype=numpy.result_type(a, b))
    step = max(1, (1 << 20) // max(1, b.shape[-1]))
    for row, vector in zip(out, a, strict=True):
        for at in range(0, len(b), step):
            row[at:at + step] = numpy.linalg.norm(b[at:at + step] - vector, ord=order, axis=-1)
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
    _, a, b = _both(a, b, False)
    return (normalize_embeddings(a) * normalize_embeddings(b)).sum(-1)


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


def pairwise_angle_sim(x: Any, y: Any) -> Any:
    """AnglE similarities [n] of x[i] and y[i], from 0: their cosine, plus that of x[i] turned by a
    right angle in the planes of dimensions d and d + dim / 2."""
    torch, x, y = _both(x, y, True)
    if x.shape[1] % 2:  # a dimension of zeros makes the number even
        pad: Any = torch.nn.functional.pad if torch else _pad
        x, y = pad(x, (0, 1)), pad(y, (0, 1))
    x, y = normalize_embeddings(x), normalize_embeddings(y)
    half = x.shape[1] // 2
    turned = (x[:, half:] * y[:, :half]).sum(-1) - (x[:, :half] * y[:, half:]).sum(-1)
    return abs((x * y).sum(-1) + turned)


def _pad(vectors: Any, columns: tuple[int, int]) -> Any:
    import numpy

    return numpy.pad(vectors, ((0, 0), columns))


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
