"""Vectors in fewer bits: int8, uint8, binary and ubinary, as sentence-transformers makes them.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from ._errors import ArgumentError, EmboundWarning, warn
from ._similarity import is_float_tensor, to_numpy

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_STEADY = 100  # vectors from which ranges are taken without a warning
_BLOCK = 1024  # vectors quantized at a time


def _host(vectors: Any) -> Any:
    """A tensor, wherever it is and of whatever floats, as an array; all else as it is."""
    return to_numpy(vectors) if is_float_tensor(vectors) else vectors


def _ranges(vectors: Any, precision: str, calibration: Any) -> Any:
    import numpy

    if calibration is None:
        if vectors.ndim == 1 or len(vectors) == 1:
            raise ArgumentError(
                f"{precision} needs the range of each dimension, which one vector cannot show: "
                "use quantize_embeddings with ranges or calibration_embeddings")
        if len(vectors) < _STEADY:
            warn(f"{precision}: the range of each dimension is taken from {len(vectors)} vectors "
                 "only; give ranges or calibration_embeddings for steady results", EmboundWarning)
        calibration = vectors
    return numpy.vstack((numpy.min(calibration, axis=0), numpy.max(calibration, axis=0)))


def quantize_embeddings(embeddings: Any, precision: str, ranges: Any = None,
                        calibration_embeddings: Any = None) -> Any:
    """Vectors [n, dim] in another precision.

    ``int8`` and ``uint8`` cut the range of each dimension, [2, dim] minima and maxima in ``ranges``
    (else those of ``calibration_embeddings``, else of the vectors themselves), into 256 steps;
    ``binary`` (int8) and ``ubinary`` (uint8) keep one bit per dimension, eight to a byte.
    Raises ValueError for an unknown precision, or where ranges cannot be had.
    """
    import numpy

    if precision not in PRECISIONS:
        raise ArgumentError(f"precision {precision!r}: state one of {PRECISIONS}")
    if isinstance(embeddings, list):
        if not embeddings:
            return []
        embeddings = [_host(vector) for vector in embeddings]
    vectors = numpy.asarray(_host(embeddings))
    if vectors.dtype in (numpy.uint8, numpy.int8):
        raise ArgumentError("these vectors are quantized already: floats are needed")
    if precision == "float32":
        return vectors.astype(numpy.float32)
    if precision in ("binary", "ubinary"):
        bits = numpy.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits - 128).astype(numpy.int8)
    if vectors.ndim == 2 and len(vectors) == 0:
        return vectors.astype(precision)
    if ranges is None:
        ranges = _ranges(vectors, precision, _host(calibration_embeddings))
    ranges = numpy.asarray(_host(ranges), dtype=numpy.float32)
    steps = (ranges[1] - ranges[0]) / 255
    steps = numpy.where(steps == 0, 1, steps)
    levels = numpy.clip(numpy.floor((vectors - ranges[0]) / steps), 0, 255)
    return levels.astype(numpy.uint8) if precision == "uint8" else (levels - 128).astype(numpy.int8)


def quantize_in_blocks(vectors: Any, precision: str) -> Any:
    """The same of an array, without others of its size on the way."""
    import numpy

    integers = precision in ("int8", "uint8")
    ranges = _ranges(vectors, precision, None) if integers else None
    out: Any = None
    for at in range(0, len(vectors), _BLOCK):
        block = quantize_embeddings(vectors[at:at + _BLOCK], precision, ranges)
        if out is None:
            out = numpy.empty((len(vectors), block.shape[1]), block.dtype)
        out[at:at + _BLOCK] = block
    return out
