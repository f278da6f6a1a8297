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


def _checked(text: Any, number: int) -> str:
    if not isinstance(text, str):
        raise ArgumentError(f"text {number} is of type {type(text).__name__}; only str can be "
                            "encoded: convert it first")
    return text


def _check_iterable(texts: Any) -> None:
    """Said at the call, not when the first vector is taken."""
    if isinstance(texts, (str, bytes)) or not (
            hasattr(texts, "__iter__") or hasattr(texts, "__aiter__")):
        raise ArgumentError(f"a stream takes an iterable of str, not one {type(texts).__name__}")


def blocks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of at most BLOCK_TEXTS texts, of about BLOCK_CHARACTERS at most."""
    block: list[str] = []
    size = 0
    for number, text in enumerate(texts):
        block.append(text)
        size += len(_checked(text, number))
        if len(block) == BLOCK_TEXTS or size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


def encode(model: SentenceTransformer, texts: Iterable[str], prompt: str | None,
           truncate_dim: int | None, normalize: bool) -> Iterator[Any]:
    """Yields one vector per text. A vector is a copy, so that keeping one keeps no block."""
    _check_iterable(texts)
    return _vectors(model, texts, prompt, truncate_dim, normalize)


def _vectors(model: SentenceTransformer, texts: Iterable[str], prompt: str | None,
             truncate_dim: int | None, normalize: bool) -> Iterator[Any]:
    import numpy

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
    number = 0
    async for text in texts:
        block.append(text)
        size += len(_checked(text, number))
        number += 1
        if len(block) == BLOCK_TEXTS or size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block


async def encode_async(model: SentenceTransformer, texts: Any,
                       options: dict[str, Any]) -> AsyncIterator[Any]:
    """As encode, in a thread, block by block."""
    _check_iterable(texts)
    async for block in _listed(texts):
        for row in await in_thread(functools.partial(model.encode, block, **options)):
            yield row
