"""The losses that training has, by sentence-transformers' names; its own objects are read too.

A loss is a row of ``LOSSES``: what the library calls it, which data it takes, and how it is
computed from vectors alone, for evaluations.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._errors import ArgumentError, UnsupportedError

__all__ = [
    "CachedMultipleNegativesRankingLoss", "CachedMultipleNegativesSymmetricRankingLoss",
    "CoSENTLoss", "CosineSimilarityLoss", "MultipleNegativesRankingLoss",
    "MultipleNegativesSymmetricRankingLoss",
]

_BOTH_WAYS = ("query_to_doc", "doc_to_query")


@dataclass(frozen=True)
class Kind:
    """What is known of a loss. ``number``: its emb_loss_kind."""

    number: int
    scored: bool  # two texts and a label; else a group of texts
    compares: bool  # the examples of a batch with one another, so that it needs two
    score_range: tuple[float, float] | None
    value: Callable[[Loss, list[Any], Any], float]  # of unit vectors by column [n, dim], labels


class Loss:
    """A loss and its settings. ``name``: its row of ``LOSSES``."""

    def __init__(self, name: str, scale: float = 20.0, symmetric: bool = False) -> None:
        if not (isinstance(scale, (int, float)) and scale > 0 and math.isfinite(scale)):
            raise ArgumentError(f"scale={scale!r}: what cosines are multiplied by is above 0")
        self.name, self.scale, self.symmetric = name, float(scale), symmetric

    @property
    def kind(self) -> Kind:
        """Its row."""
        return LOSSES[self.name]

    def options(self) -> dict[str, Any]:
        """As the extension takes it."""
        return {"loss": self.kind.number, "scale": self.scale, "symmetric": int(self.symmetric)}

    def value(self, columns: list[Any], labels: Any) -> float:
        """Of the vectors of a batch, a matrix [n, dim] for each text of an example."""
        import numpy

        units = []
        for vectors in columns:
            norms = numpy.linalg.norm(vectors, axis=1, keepdims=True)
            units.append(vectors / numpy.maximum(norms, 1e-12))
        return float(self.kind.value(self, units, labels))

    def __repr__(self) -> str:
        more = ", symmetric" if self.symmetric else ""
        return f"{type(self).__name__}({self.name!r}, scale={self.scale:g}{more})"


# ---- how they are computed -----------------------------------------------------------------------

def _log_sums(scores: Any) -> Any:
    """The logarithm of the sum of e^score of each row."""
    import numpy

    highest = scores.max(axis=1, keepdims=True)
    return highest[:, 0] + numpy.log(numpy.exp(scores - highest).sum(axis=1))


def _entropy(queries: Any, candidates: Any, scale: float) -> Any:
    """The mean cross-entropy where candidate i is right for query i."""
    scores = scale * (queries @ candidates.T)
    return (_log_sums(scores) - scores.diagonal()).mean()


def _ranking(loss: Loss, units: list[Any], labels: Any) -> Any:
    import numpy

    value = _entropy(units[0], numpy.concatenate(units[1:]), loss.scale)
    if loss.symmetric:
        value = (value + _entropy(units[1], units[0], loss.scale)) / 2
    return value


def _cosent(loss: Loss, units: list[Any], labels: Any) -> Any:
    import numpy

    scores = loss.scale * (units[0] * units[1]).sum(axis=1)
    differences = scores[:, None] - scores[None, :]
    wrong = differences[labels[:, None] < labels[None, :]]
    return _log_sums(numpy.concatenate([[0.0], wrong])[None, :])[0]


def _cosine(loss: Loss, units: list[Any], labels: Any) -> Any:
    return (((units[0] * units[1]).sum(axis=1) - labels) ** 2).mean()


LOSSES: dict[str, Kind] = {
    "ranking": Kind(0, scored=False, compares=True, score_range=None, value=_ranking),
    "cosent": Kind(1, scored=True, compares=True, score_range=None, value=_cosent),
    "cosine": Kind(2, scored=True, compares=False, score_range=(-1.0, 1.0), value=_cosine),
}


# ---- by sentence-transformers' names -------------------------------------------------------------

def _need_function(name: str, function: Any, wanted: str) -> None:
    """The similarities that gradients exist for are cosines."""
    called = getattr(function, "__name__", repr(function))
    if function is not None and called != wanted:
        raise UnsupportedError(f"{name}: similarity_fct={called}: training has cosines alone: "
                               f"leave it out, or state util.{wanted}")


def _is_symmetric(name: str, directions: Any, partition_mode: str) -> bool:
    wanted = tuple(directions)
    if wanted == _BOTH_WAYS[:1]:
        return False
    if set(wanted) == set(_BOTH_WAYS) and partition_mode == "per_direction":
        return True
    raise UnsupportedError(
        f"{name}: directions={wanted}, partition_mode={partition_mode!r}: training has "
        "('query_to_doc',), and ('query_to_doc', 'doc_to_query') with 'per_direction'")


class MultipleNegativesRankingLoss(Loss):
    """Each anchor is to be nearest to its positive among all positives and negatives of the batch
    (InfoNCE). ``scale``: one over the temperature. Texts: anchor, positive, any negatives."""

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None,
                 gather_across_devices: bool = False,
                 directions: tuple[str, ...] = ("query_to_doc",), partition_mode: str = "joint",
                 hardness_mode: str | None = None, hardness_strength: float = 0.0) -> None:
        name = type(self).__name__
        _need_function(name, similarity_fct, "cos_sim")
        if hardness_mode is not None and hardness_strength:
            raise UnsupportedError(f"{name}: hardness_mode={hardness_mode!r} is not there: leave "
                                   "it out; all negatives weigh the same")
        super().__init__("ranking", scale, _is_symmetric(name, directions, partition_mode))


class CachedMultipleNegativesRankingLoss(MultipleNegativesRankingLoss):
    """The same as MultipleNegativesRankingLoss: the plan cuts every batch into tiles, so there are
    no mini-batches to choose, and ``mini_batch_size`` changes nothing."""

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None,
                 mini_batch_size: int = 32, mini_batch_num_tokens: int | None = None,
                 gather_across_devices: bool = False,
                 directions: tuple[str, ...] = ("query_to_doc",), partition_mode: str = "joint",
                 show_progress_bar: bool = False, hardness_mode: str | None = None,
                 hardness_strength: float = 0.0) -> None:
        super().__init__(model, scale, similarity_fct, gather_across_devices, directions,
                         partition_mode, hardness_mode, hardness_strength)


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """Half of MultipleNegativesRankingLoss, and half of the same the other way: each positive is
    to be nearest to its anchor among all anchors."""

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None,
                 gather_across_devices: bool = False) -> None:
        super().__init__(model, scale, similarity_fct, gather_across_devices, _BOTH_WAYS,
                         "per_direction")


class CachedMultipleNegativesSymmetricRankingLoss(MultipleNegativesSymmetricRankingLoss):
    """The same as MultipleNegativesSymmetricRankingLoss."""

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None,
                 mini_batch_size: int = 32, mini_batch_num_tokens: int | None = None,
                 gather_across_devices: bool = False, show_progress_bar: bool = False) -> None:
        super().__init__(model, scale, similarity_fct, gather_across_devices)


class CoSENTLoss(Loss):
    """The cosines of the pairs of a batch are to have the order of their labels."""

    def __init__(self, model: Any = None, scale: float = 20.0, similarity_fct: Any = None) -> None:
        _need_function("CoSENTLoss", similarity_fct, "pairwise_cos_sim")
        super().__init__("cosent", scale)


class CosineSimilarityLoss(Loss):
    """The squared error of the cosines of pairs beside their labels, from -1 to 1."""

    def __init__(self, model: Any = None, loss_fct: Any = None,
                 cos_score_transformation: Any = None) -> None:
        for name, given, wanted in (("loss_fct", loss_fct, "MSELoss"),
                                    ("cos_score_transformation", cos_score_transformation,
                                     "Identity")):
            if given is not None and type(given).__name__ != wanted:
                raise UnsupportedError(f"CosineSimilarityLoss: {name}={given!r}: training has "
                                       f"{wanted} alone: leave it out")
        super().__init__("cosine")


# Class, and the attributes that one of sentence-transformers of the same name has.
_RANKING = ("scale", "similarity_fct", "directions", "partition_mode", "hardness_mode",
            "hardness_strength")
_CLASSES: dict[str, tuple[Callable[..., Loss], tuple[str, ...]]] = {
    "MultipleNegativesRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "CachedMultipleNegativesRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "MultipleNegativesSymmetricRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "CachedMultipleNegativesSymmetricRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "CoSENTLoss": (CoSENTLoss, ("scale", "similarity_fct")),
    "CosineSimilarityLoss": (CosineSimilarityLoss, ("loss_fct", "cos_score_transformation")),
}


def read_loss(loss: Any, model: Any = None) -> Loss:
    """A loss of ``LOSSES`` by name, an object or class of this module or of sentence-transformers,
    or a function that makes one for a model."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        if loss in LOSSES:
            return Loss(loss)
        near = difflib.get_close_matches(loss, [*LOSSES, *_CLASSES], 1)
        if loss in _CLASSES:
            return globals()[loss]()  # type: ignore[no-any-return]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"loss={loss!r}: state one of {', '.join(LOSSES)}{hint}")
    if isinstance(loss, dict):
        raise UnsupportedError("losses by the name of a data set: join the data sets, and state "
                               "one loss")
    if isinstance(loss, type) and loss.__name__ in _CLASSES:
        return globals()[loss.__name__]()  # type: ignore[no-any-return]
    name = type(loss).__name__
    if name in _CLASSES:
        kind, attributes = _CLASSES[name]
        inner = getattr(loss, "loss", None)
        return kind(**{attribute: getattr(loss, attribute, getattr(inner, attribute, None))
                       for attribute in attributes})
    if callable(loss) and not hasattr(loss, "forward") and not isinstance(loss, type):
        return read_loss(loss(model))
    raise UnsupportedError(f"the loss {getattr(loss, '__name__', name)} is not there: training has "
                           f"{', '.join(_CLASSES)}")
