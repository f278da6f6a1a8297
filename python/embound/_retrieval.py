"""Search among vectors: the best of a corpus for each query, pairs that are alike, communities.

Scores are computed in tiles, so that what is held beside vectors and results does not grow with the
corpus. Vectors on a GPU are scored there by torch, all others by numpy.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ._errors import ArgumentError
from ._similarity import (
    as_tensor, as_vectors, cos_sim, dot_score, is_on_gpu, lengths, normalize_embeddings, products,
    to_numpy, unit, wants_tensor)

# Scores of a tile: 8 MiB of f32. Smaller ones stay in nearer caches, but make threads wait for one
# another more often, which costs more where other work is on the machine
# (`bench/semantic_search.py`).
_TILE_SCORES = 1 << 21
_TILE_QUERIES = 128
_TILE_VALUES = 1 << 22  # of the vectors of a tile, which may have to be converted

Hit = dict[str, int | float]
Score = Callable[[Any, Any], Any]


def _whole(value: Any, name: str, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ArgumentError(f"{name}={value!r}: state a whole number, at least {least}")
    return number


class _Best:
    """The highest scores of each query so far, the highest first; of equal ones the lower place."""

    def __init__(self, queries: int, count: int) -> None:
        import numpy

        self.count = count
        self.values = numpy.full((queries, count), -numpy.inf, dtype=numpy.float32)
        self.places = numpy.full((queries, count), -1, dtype=numpy.int64)

    def add(self, start: int, scores: Any, first: int) -> None:
        """Scores [queries from start, corpus from first], later places than all before. NaN and
        minus infinity are never among the best."""
        import numpy

        if scores.dtype == numpy.float64 and self.values.dtype != numpy.float64:
            self.values = self.values.astype(numpy.float64)
        at = 0
        while at < scores.shape[1]:
            # parts grow with what has been seen, so that few in each can be among the best
            stop = at + max(256, 4 * self.count, 3 * (first + at))
            self._add_part(start, scores[:, at:stop], first + at)
            at = stop

    def _add_part(self, start: int, scores: Any, first: int) -> None:
        import numpy

        # what comes later must beat the last that is kept: of equal scores the lower place stays
        last = self.values[start:start + len(scores), -1]
        enough = numpy.nextafter(last, last.dtype.type(numpy.inf))
        if not numpy.isfinite(last).all():  # the first part, or scores that are no numbers
            known = numpy.where(numpy.isnan(scores), -numpy.inf, scores)
            at = max(scores.shape[1] - self.count, 0)
            enough = numpy.maximum(enough, numpy.partition(known, at, axis=1)[:, at])
        hopeful = numpy.nonzero(~(scores.max(axis=1) < enough))[0]
        if len(hopeful):
            scores = scores[hopeful]
            found = numpy.flatnonzero(scores >= enough[hopeful, None])
            rows, columns = numpy.divmod(found, scores.shape[1])
            self._merge(start, hopeful[rows], scores.ravel()[found], columns + first)

    def add_some(self, start: int, values: Any, places: Any) -> None:
        """Scores [queries from start, some] of the places beside them, which are in any order."""
        import numpy

        order = numpy.argsort(places, axis=1)
        values = numpy.take_along_axis(values, order, axis=1)
        places = numpy.take_along_axis(places, order, axis=1)
        rows = numpy.repeat(numpy.arange(len(values)), values.shape[1])
        listed = values.ravel() > -numpy.inf
        self._merge(start, rows[listed], values.ravel()[listed], places.ravel()[listed])

    def _merge(self, start: int, rows: Any, values: Any, places: Any) -> None:
        import numpy

        # stable sorts of what comes in the order of places: of equal scores the lower is the first
        touched, rows = numpy.unique(rows, return_inverse=True)
        kept = touched + start
        rows = numpy.concatenate((numpy.repeat(numpy.arange(len(touched)), self.count), rows))
        values = numpy.concatenate((self.values[kept].ravel(), values))
        places = numpy.concatenate((self.places[kept].ravel(), places))
        order = numpy.lexsort((-values, rows))
        begin = numpy.searchsorted(rows[order], numpy.arange(len(touched)))
        first = order[(begin[:, None] + numpy.arange(self.count)).ravel()]
        self.values[kept] = values[first].reshape(len(touched), self.count)
        self.places[kept] = places[first].reshape(len(touched), self.count)

    def listed(self) -> Any:
        """Which entries are there: [queries, count]."""
        import numpy

        return self.values > -numpy.inf


def _add_scores(best: _Best, start: int, scores: Any, first: int) -> None:
    """Scores of a chunk, wherever they are: of a GPU only the best leave it."""
    if is_on_gpu(scores):
        values, places = scores.topk(min(best.count, scores.shape[1]), dim=1)
        best.add_some(start, to_numpy(values), to_numpy(places) + first)
        return
    scores = to_numpy(scores)
    width = max(1, _TILE_SCORES // max(1, len(scores)))
    for at in range(0, scores.shape[1], width):
        best.add(start, scores[:, at:at + width], first + at)


def _add_tiles(best: _Best, queries: Any, corpus: Any, cosine: bool, rows: int,
               columns: int) -> None:
    """Dot products or cosines of everything with everything, on the CPU."""
    import numpy

    if cosine:
        queries = unit(queries)
    many = len(queries) > queries.shape[1]  # then vectors are fewer values than scores
    rows = min(rows, _TILE_QUERIES, len(queries))
    columns = max(1, min(columns, _TILE_SCORES // rows, _TILE_VALUES // queries.shape[1]))
    space = numpy.empty(rows * columns, queries.dtype)  # for the scores of each tile in turn
    for first in range(0, len(corpus), columns):
        tile = to_numpy(corpus[first:first + columns]).astype(queries.dtype, copy=False)
        length = lengths(tile) if cosine and not many else None
        if cosine and many:
            tile = unit(tile)
        for start in range(0, len(queries), rows):
            part = queries[start:start + rows]
            scores = space[:len(part) * len(tile)].reshape(len(part), len(tile))
            products(part, tile, scores)
            if length is not None:
                scores /= length
            best.add(start, scores, first)


def _search(queries: Any, corpus: Any, rows: int, columns: int, count: int,
            score_function: Score) -> _Best:
    """The count best of the corpus for each query, by chunks of at most rows x columns scores."""
    import numpy

    best = _Best(len(queries), count)
    on_gpu = is_on_gpu(corpus) or is_on_gpu(queries)
    if score_function in (cos_sim, dot_score) and not on_gpu:
        _add_tiles(best, to_numpy(queries), corpus, score_function is cos_sim, rows, columns)
        return best
    convert: Any = as_tensor if wants_tensor() else numpy.asarray
    for first in range(0, len(corpus), columns):
        part = convert(corpus[first:first + columns])
        for start in range(0, len(queries), rows):
            chunk = convert(queries[start:start + rows])
            if on_gpu and chunk.device != part.device:
                chunk = chunk.to(part.device)
            _add_scores(best, start, score_function(chunk, part), first)
    return best


def _check_shapes(queries: Any, corpus: Any) -> None:
    if queries.shape[1] != corpus.shape[1]:
        raise ArgumentError(f"queries of shape {tuple(queries.shape)} and a corpus of "
                            f"{tuple(corpus.shape)}: both need as many values per vector")


def semantic_search(query_embeddings: Any, corpus_embeddings: Any, query_chunk_size: int = 100,
                    corpus_chunk_size: int = 500000, top_k: int = 10,
                    score_function: Score = cos_sim) -> list[list[Hit]]:
    """For each query, the ``top_k`` best vectors of the corpus: ``corpus_id`` and ``score``, best
    first, of equal scores (on a CPU) the lower ``corpus_id``.

    Vectors are arrays, tensors or lists: [n, dim], or [dim] for one. At most query_chunk_size x
    corpus_chunk_size scores are held at once, and a few MiB of them for cos_sim and dot_score on a
    CPU; other functions get chunks of that size. A score that is NaN is not listed. Raises
    ValueError for vectors of different lengths, and for sizes below 1.
    """
    rows = _whole(query_chunk_size, "query_chunk_size", 1)
    columns = _whole(corpus_chunk_size, "corpus_chunk_size", 1)
    count = _whole(top_k, "top_k", 0)
    queries, corpus = as_vectors(query_embeddings), as_vectors(corpus_embeddings)
    count = min(count, len(corpus))
    if not count or not len(queries):
        return [[] for _ in range(len(queries))]
    _check_shapes(queries, corpus)
    best = _search(queries, corpus, rows, columns, count, score_function)
    return [[{"corpus_id": place, "score": score} for place, score in zip(places, values)
             if place >= 0]
            for places, values in zip(best.places.tolist(), best.values.tolist(), strict=True)]


def information_retrieval(*args: Any, **kwargs: Any) -> list[list[Hit]]:
    """The older name of semantic_search."""
    return semantic_search(*args, **kwargs)


class _Pairs:
    """The highest scores of pairs (i < j), each pair once, at most ``count`` of them."""

    def __init__(self, count: int, vectors: int) -> None:
        import numpy

        self.count, self.vectors = count, vectors
        self.keys = numpy.empty(0, dtype=numpy.int64)  # i * vectors + j
        self.scores = numpy.empty(0, dtype=numpy.float32)

    def add(self, first: Any, second: Any, scores: Any) -> None:
        """Pairs in any order; the score that a pair came with first is kept."""
        import numpy

        keys = numpy.minimum(first, second) * self.vectors + numpy.maximum(first, second)
        self.keys, at = numpy.unique(numpy.concatenate((self.keys, keys)), return_index=True)
        self.scores = numpy.concatenate((self.scores, scores))[at]
        if len(self.keys) > self.count:  # keys ascend, so that equal scores leave the later pair
            best = numpy.sort(numpy.argsort(-self.scores, kind="stable")[:self.count])
            self.keys, self.scores = self.keys[best], self.scores[best]

    def triplets(self) -> list[list[float | int]]:
        """[score, i, j], the highest score first."""
        import numpy

        order = numpy.argsort(-self.scores, kind="stable")
        first, second = numpy.divmod(self.keys[order], self.vectors)
        return [[score, i, j] for score, i, j in zip(
            self.scores[order].tolist(), first.tolist(), second.tolist(), strict=True)]


def paraphrase_mining(model: Any, sentences: list[str], show_progress_bar: bool = False,
                      batch_size: int = 32, query_chunk_size: int = 5000,
                      corpus_chunk_size: int = 100000, max_pairs: int = 500000, top_k: int = 100,
                      score_function: Score = cos_sim, truncate_dim: int | None = None,
                      prompt_name: str | None = None,
                      prompt: str | None = None) -> list[list[float | int]]:
    """The pairs of texts that are most alike, as [score, i, j] with i < j, the highest score first.
    The texts are encoded by ``model``; see paraphrase_mining_embeddings for the rest."""
    embeddings = model.encode(
        sentences, show_progress_bar=show_progress_bar, batch_size=batch_size,
        convert_to_tensor=wants_tensor(), truncate_dim=truncate_dim, prompt_name=prompt_name,
        prompt=prompt)
    return paraphrase_mining_embeddings(embeddings, query_chunk_size, corpus_chunk_size, max_pairs,
                                        top_k, score_function)


def paraphrase_mining_embeddings(embeddings: Any, query_chunk_size: int = 5000,
                                 corpus_chunk_size: int = 100000, max_pairs: int = 500000,
                                 top_k: int = 100,
                                 score_function: Score = cos_sim) -> list[list[float | int]]:
    """The pairs of vectors that are most alike, as [score, i, j] with i < j, the highest first.

    Of each vector its ``top_k`` nearest others count, and of all such pairs the ``max_pairs`` best
    are kept; ``score_function`` is symmetric. Held beside the vectors: query_chunk_size times
    top_k candidates, the pairs, and scores as in semantic_search.
    """
    import numpy

    rows = _whole(query_chunk_size, "query_chunk_size", 1)
    columns = _whole(corpus_chunk_size, "corpus_chunk_size", 1)
    pairs = _whole(max_pairs, "max_pairs", 1)
    count = _whole(top_k, "top_k", 1)
    if not len(embeddings):
        return []
    vectors = as_vectors(embeddings)
    found = _Pairs(pairs, len(vectors))
    for start in range(0, len(vectors), rows):
        best = _search(vectors[start:start + rows], vectors, rows, columns,
                       min(count + 1, len(vectors)), score_function)
        own = numpy.arange(start, start + len(best.places))[:, None]
        others = best.listed() & (best.places != own)
        others &= numpy.cumsum(others, axis=1) <= count
        mine = numpy.broadcast_to(own, best.places.shape)
        found.add(mine[others], best.places[others], best.values[others])
    return found.triplets()


def _progress(steps: Any, shown: bool) -> Any:
    if not shown:
        return steps
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return steps
    return tqdm(steps, desc="Finding clusters")


def _count_near(vectors: Any, start: int, rows: int, threshold: float) -> Any:
    """Of each vector from start, how many are near it."""
    part, sizes = vectors[start:start + rows], 0
    columns = max(1, _TILE_SCORES // len(part))
    for at in range(0, len(vectors), columns):
        sizes = sizes + (part @ vectors[at:at + columns].T >= threshold).sum(1)
    return to_numpy(sizes)


def community_detection(embeddings: Any, threshold: float = 0.75, min_community_size: int = 10,
                        batch_size: int = 1024,
                        show_progress_bar: bool = False) -> list[list[int]]:
    """Groups of vectors whose cosine to a central one is at least ``threshold``, as lists of
    places: the centre, then by falling cosine; the largest group first, none that overlap, none of
    fewer than ``min_community_size``.

    Held beside the vectors: the same of length one, a few MiB of cosines (``batch_size`` bounds
    their rows), and a few numbers per vector. Raises ValueError for sizes below 1.
    """
    import numpy

    least = _whole(min_community_size, "min_community_size", 1)
    rows = _whole(batch_size, "batch_size", 1)
    threshold = float(threshold)
    if len(embeddings) < least:
        return []
    vectors = as_vectors(embeddings)
    if len(vectors) < least:
        return []
    vectors = normalize_embeddings(vectors if is_on_gpu(vectors) else to_numpy(vectors))
    sizes = numpy.concatenate([
        _count_near(vectors, at, rows, threshold)
        for at in _progress(range(0, len(vectors), rows), show_progress_bar)])
    centres = numpy.argsort(-sizes, kind="stable")
    centres = centres[sizes[centres] >= least]
    rows = min(rows, max(1, _TILE_SCORES * 4 // len(vectors)))
    used = numpy.zeros(len(vectors), dtype=bool)
    found: list[list[int]] = []
    for at in range(0, len(centres), rows):
        batch = centres[at:at + rows]
        batch = batch[~used[batch]]
        for centre, row in zip(batch.tolist(), to_numpy(vectors[batch] @ vectors.T), strict=True):
            near = numpy.nonzero((row >= threshold) & ~used)[0]
            if used[centre] or len(near) < least:
                continue
            near = near[numpy.argsort(-row[near], kind="stable")]
            found.append([centre, *near[near != centre].tolist()])
            used[near] = used[centre] = True
    return sorted(found, key=len, reverse=True)
