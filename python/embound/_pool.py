"""start_multi_process_pool and lists of devices, without processes: one engine uses all cores of a
CPU, and shares the work among several GPUs.

The pool is a dict with the keys of sentence-transformers'; what counts is the device in it.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

from . import _settings
from ._engine import EngineModel
from ._errors import ArgumentError


class Pool(dict[str, Any]):
    """What start_multi_process_pool gives. ``processes``: the names of the devices, for their
    number; ``input`` and ``output`` are None, as there are no queues."""

    def __init__(self, device: _settings.Device, names: list[str]) -> None:
        super().__init__(input=None, output=None, processes=names)
        self.device = device
        self.stopped = False


def start(model: EngineModel, wanted: Any) -> Pool:
    """Moves the model to the devices: what is wrong with them is said now."""
    if wanted is None:
        on_gpu = model.device.type == "cuda"
        wanted = ["cuda:all" if on_gpu else "cpu"]
    device = _settings.join_devices(wanted)
    model._move(device)
    return Pool(device, [str(name) for name in wanted])


def stop(pool: Any) -> None:
    """The model stays open."""
    _check(pool)
    pool.stopped = True


def _check(pool: Any) -> None:
    if not isinstance(pool, Pool):
        raise ArgumentError(f"pool={pool!r}: give what start_multi_process_pool of this package "
                            "gave")


def device_of(pool: Any) -> _settings.Device:
    """Where ``encode(pool=pool)`` computes."""
    _check(pool)
    if pool.stopped:
        raise ArgumentError("this pool has been stopped: start a new one, or leave pool= out")
    device: _settings.Device = pool.device
    return device
