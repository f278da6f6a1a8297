"""Long or endless inputs in bounded memory, and calls that do not block an event loop.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ._errors import ArgumentError

if TYPE_CHECKING:
    from ._model import SentenceTransformer

BLOCK_TEXTS = 1024
BLOCK_CHARACTERS = 1 << 20


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of at most BLOCK_TEXTS texts, of about BLOCK_CHARACTERS at most."""
    block: list[str] = []
    size = 0
    for text in texts:
        block.append(text)
        size += len(text)
        if len(block) == BLOCK_TEXTS or size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def encode(model: SentenceTransformer, texts: Iterable[str], prompt: str | None,
           truncate_dim: int | None, normalize: bool) -> Iterator[Any]:
    """Yields one vector per text. A vector is a copy, so that keeping one keeps no block."""
    import numpy

    if isinstance(texts, str):
        raise ArgumentError("encode_stream takes an iterable of str, not one str")
    for block in blocks(texts):
        rows = numpy.asarray(model._rows(block, prompt, truncate_dim, normalize, False))
        for row in rows:
            yield row.copy()


async def in_thread(call: Callable[[], Any]) -> Any:
    """Runs the call in a thread of the event loop's pool."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, call)


async def _listed(texts: Any) -> AsyncIterator[list[str]]:
    if not hasattr(texts, "__aiter__"):
        for ready in blocks(texts):
            yield ready
        return
    block: list[str] = []
    size = 0
    async for text in texts:
        block.append(text)
        size += len(text)
        if len(block) == BLOCK_TEXTS or size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


async def encode_async(model: SentenceTransformer, texts: Any,
                       options: dict[str, Any]) -> AsyncIterator[Any]:
    """As encode, in a thread, block by block."""
    async for block in _listed(texts):
        for row in await in_thread(functools.partial(model.encode, block, **options)):
            yield row
