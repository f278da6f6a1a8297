"""Long or endless inputs in bounded memory, and calls that do not block an event loop.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from ._engine import EngineModel
from ._errors import ArgumentError, TextError

BLOCK_TEXTS = 1024
BLOCK_CHARACTERS = 1 << 20


def _checked(text: Any, number: int) -> str:
    if text is None or isinstance(text, float) and text != text:  # nan: what pandas has for None
        raise TextError(f"text {number} is {'None' if text is None else 'missing (nan)'}; only str "
                        "can be encoded: leave such rows out, or fill them", number)
    if not isinstance(text, str):
        raise TextError(f"text {number} is of type {type(text).__name__}; only str can be "
                        "encoded: convert it first", number)
    return text


def _check_iterable(texts: Any) -> None:
    """Said at the call, not when the first vector is taken."""
    if isinstance(texts, (str, bytes)) or not (
            hasattr(texts, "__iter__") or hasattr(texts, "__aiter__")):
        raise ArgumentError(f"a stream takes an iterable of str, not one {type(texts).__name__}")


def texts_at_a_time(model: EngineModel, most: int = BLOCK_TEXTS) -> int:
    """So many texts that their vectors have room in the stated memory, if one is stated."""
    return max(1, min(most, int(model._core.room()) // (4 * model._dim)))


class _Block:
    """Gathers texts until there are enough for one call."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._number = 0
        self._size = 0
        self.texts: list[str] = []

    def add(self, text: Any) -> list[str] | None:
        """The gathered texts, once they are as many as wanted, or long enough."""
        self._size += len(_checked(text, self._number))
        self._number += 1
        self.texts.append(text)
        if len(self.texts) < self._most and self._size < BLOCK_CHARACTERS:
            return None
        full, self.texts, self._size = self.texts, [], 0
        return full


def blocks(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """Lists of at most so many texts, of about BLOCK_CHARACTERS at most."""
    block = _Block(most)
    for text in texts:
        full = block.add(text)
        if full:
            yield full
    if block.texts:
        yield block.texts


def encode(model: EngineModel, texts: Iterable[str], prompt: str | None,
           truncate_dim: int | None, normalize: bool) -> Iterator[Any]:
    """Yields one vector per text. A vector is a copy, so that keeping one keeps no block."""
    _check_iterable(texts)
    return _vectors(model, texts, prompt, truncate_dim, normalize)


def _vectors(model: EngineModel, texts: Iterable[str], prompt: str | None,
             truncate_dim: int | None, normalize: bool) -> Iterator[Any]:
    import numpy

    done = 0
    for block in blocks(texts, texts_at_a_time(model)):
        try:
            rows = numpy.asarray(model._rows(block, prompt, truncate_dim, normalize, False))
        except TextError as error:
            raise error.after(done) from None
        for number in range(len(rows)):
            yield rows[number].copy()
        done += len(rows)
        del rows  # before the next ones are made


async def in_thread(call: Callable[[], Any]) -> Any:
    """Runs the call in a thread of the event loop's pool."""
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, call)


async def _listed(texts: Any, most: int) -> AsyncIterator[list[str]]:
    if not hasattr(texts, "__aiter__"):
        for ready in blocks(texts, most):
            yield ready
        return
    block = _Block(most)
    async for text in texts:
        full = block.add(text)
        if full:
            yield full
    if block.texts:
        yield block.texts


async def encode_async(model: EngineModel, texts: Any,
                       encode_block: Callable[[list[str]], Any]) -> AsyncIterator[Any]:
    """As encode, in a thread, block by block."""
    _check_iterable(texts)
    most = await in_thread(functools.partial(texts_at_a_time, model))
    done = 0
    async for block in _listed(texts, most):
        try:
            rows = await in_thread(functools.partial(encode_block, block))
        except TextError as error:
            raise error.after(done) from None
        for row in rows:
            yield row
        done += len(block)
