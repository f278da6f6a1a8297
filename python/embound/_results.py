"""Vectors in the form that encode() is asked for: tensors, other precisions, lists, nothing at all.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from . import _settings
from ._engine import EngineModel
from ._errors import UnsupportedError


def tensors_on_gpu(model: EngineModel, inputs: Any, prompt: str | None,
                   truncate_dim: int | None, normalize: bool, show_progress_bar: bool | None,
                   one: bool) -> Any:
    """The vectors as a tensor (or a list of them) over memory of the GPU that holds them."""
    torch = _settings.need_torch("tensors")
    options = (inputs, prompt, truncate_dim, normalize, show_progress_bar)
    try:
        rows = model._rows(*options, True)
    except UnsupportedError:
        if model._plan_now()["device"] == "cuda":
            raise
        # opened later than it was planned, and on the CPU
        return finish(model, inputs, model._asarray(model._rows(*options)), None, False, one)
    if not len(rows):
        return _nothing(False, one)
    tensor = torch.from_dlpack(rows)
    return tensor if one or isinstance(inputs, str) else list(tensor)


def finish(model: EngineModel, inputs: Any, rows: Any, precision: str | None,
           convert_to_numpy: bool, convert_to_tensor: bool) -> Any:
    """What is asked for beside a plain array: other precisions, tensors, nothing at all."""
    single = isinstance(inputs, str)
    if not len(rows):
        return _nothing(convert_to_numpy, convert_to_tensor)
    if precision not in (None, "float32"):
        from .quantization import quantize_in_blocks

        rows = quantize_in_blocks(rows[None, :] if single else rows, str(precision))
        rows = rows[0] if single else rows
    if convert_to_numpy and not convert_to_tensor:
        return rows
    torch = _settings.need_torch("tensors")
    tensor = torch.from_numpy(rows)
    if model._planned["device"] == "cuda":
        tensor = tensor.to(f"cuda:{model._planned['devices'][0]}")
    return tensor if convert_to_tensor or single else list(tensor)


def _nothing(convert_to_numpy: bool, convert_to_tensor: bool) -> Any:
    """The result for no texts, as upstream gives it."""
    if convert_to_tensor:
        return _settings.need_torch("tensors").tensor([])
    if convert_to_numpy:
        import numpy

        return numpy.array([])
    return []
