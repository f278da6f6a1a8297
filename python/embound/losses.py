"""The losses that training has, by sentence-transformers' names; its own objects are read too.

A loss is a row of ``LOSSES``: what the library calls it, which data it takes, and how it is
computed from vectors alone, for evaluations.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ._errors import ArgumentError, UnsupportedError

__all__ = [
    "BatchHardTripletLoss", "BatchHardTripletLossDistanceFunction",
    "CachedMultipleNegativesRankingLoss", "CachedMultipleNegativesSymmetricRankingLoss",
    "CoSENTLoss", "CosineSimilarityLoss", "MatryoshkaLoss", "MultipleNegativesRankingLoss",
    "MultipleNegativesSymmetricRankingLoss", "SimilarityDistillationLoss", "TripletDistanceMetric",
    "TripletLoss",
]

_BOTH_WAYS = ("query_to_doc", "doc_to_query")
_WIDTHS_MAX = 8
_DISTANCES = {"euclidean": 0, "cosine": 1}


@dataclass(frozen=True)
class Kind:
    """What is known of a loss. ``number``: its emb_loss_kind; ``texts``: of an example, at least
    and at most; ``target``: what each example has beside them, ``"score"``, ``"class"``,
    ``"teacher"`` (vectors) or None; ``compares``: the examples of a batch with one another, so that
    it needs two; ``value``: of vectors by column [n, dim] and targets."""

    number: int
    texts: tuple[int, int]
    target: str | None
    compares: bool
    value: Callable[[Loss, list[Any], Any], Any]
    score_range: tuple[float, float] | None = None


class Loss:
    """A loss and its settings. ``name``: its row of ``LOSSES``; ``widths``: of a Matryoshka loss,
    with their weights."""

    def __init__(self, name: str, scale: float = 20.0, symmetric: bool = False,
                 distance: str = "euclidean", margin: float = 5.0) -> None:
        for what, value in (("scale", scale), ("margin", margin)):
            if not (isinstance(value, (int, float)) and value > 0 and math.isfinite(value)):
                raise ArgumentError(f"{what}={value!r}: state a number above 0")
        self.name, self.scale, self.symmetric = name, float(scale), symmetric
        self.distance, self.margin = distance, float(margin)
        self.widths: dict[int, float] = {}

    @property
    def kind(self) -> Kind:
        """Its row."""
        return LOSSES[self.name]

    def options(self) -> dict[str, Any]:
        """As the extension takes it."""
        return {"loss": self.kind.number, "scale": self.scale, "symmetric": int(self.symmetric),
                "distance": _DISTANCES[self.distance], "margin": self.margin,
                "widths_count": len(self.widths), "widths": list(self.widths),
                "width_weights": list(self.widths.values())}

    def value(self, columns: list[Any], targets: Any) -> float:
        """Of the vectors of a batch, a matrix [n, dim] for each text of an example."""
        if not self.widths:
            points = self.name in ("triplet", "batch_hard") and self.distance == "euclidean"
            given = columns if points else [_units(one) for one in columns]
            return float(self.kind.value(self, given, targets))
        return float(sum(
            weight * self.kind.value(self, [_units(one[:, :width]) for one in columns], targets)
            for width, weight in self.widths.items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options()})"


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


def _units(vectors: Any) -> Any:
    import numpy

    return vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _ranking(loss: Loss, units: list[Any], targets: Any) -> Any:
    import numpy

    value = _entropy(units[0], numpy.concatenate(units[1:]), loss.scale)
    if loss.symmetric:
        value = (value + _entropy(units[1], units[0], loss.scale)) / 2
    return value


def _cosent(loss: Loss, units: list[Any], targets: Any) -> Any:
    import numpy

    scores = loss.scale * (units[0] * units[1]).sum(axis=1)
    differences = scores[:, None] - scores[None, :]
    wrong = differences[targets[:, None] < targets[None, :]]
    return _log_sums(numpy.concatenate([[0.0], wrong])[None, :])[0]


def _cosine(loss: Loss, units: list[Any], targets: Any) -> Any:
    return (((units[0] * units[1]).sum(axis=1) - targets) ** 2).mean()


def _distance(loss: Loss, a: Any, b: Any) -> Any:
    """Of rows at equal places; as PyTorch's pairwise_distance no difference is 0."""
    if loss.distance == "cosine":
        return 1 - (a * b).sum(axis=-1)
    return (((a - b + 1e-6) ** 2).sum(axis=-1)) ** 0.5


def _triplet(loss: Loss, points: list[Any], targets: Any) -> Any:
    import numpy

    near = _distance(loss, points[0], points[1])
    return numpy.mean([numpy.maximum(near - _distance(loss, points[0], one) + loss.margin, 0)
                       for one in points[2:]])


def _batch_hard(loss: Loss, points: list[Any], targets: Any) -> Any:
    import numpy

    values = []
    for row, point in enumerate(points[0]):
        far = _distance(loss, point[None, :], points[0])
        same = targets == targets[row]
        alike = far[same & (numpy.arange(len(far)) != row)]
        if len(alike) and not same.all():
            values.append(max(0.0, alike.max() - far[~same].min() + loss.margin))
    return numpy.mean(values) if values else 0.0


def _distill(loss: Loss, units: list[Any], targets: Any) -> Any:
    import numpy

    count, columns = len(units[0]), len(units)
    wanted = _units(targets.reshape(count * columns, -1))
    mine = numpy.stack(units, axis=1).reshape(count * columns, -1)
    off = (mine @ mine.T - wanted @ wanted.T) ** 2
    example = numpy.arange(count * columns) // columns
    inside = example[:, None] == example[None, :]
    itself = numpy.eye(len(mine), dtype=bool)
    return sum(off[pairs].mean() for pairs in (inside & ~itself, ~inside) if pairs.any())


_MANY = 31  # texts of an example, at most, where any number of negatives is possible
LOSSES: dict[str, Kind] = {
    "ranking": Kind(0, (2, _MANY), None, True, _ranking),
    "cosent": Kind(1, (2, 2), "score", True, _cosent),
    "cosine": Kind(2, (2, 2), "score", False, _cosine, (-1.0, 1.0)),
    "triplet": Kind(3, (3, _MANY), None, False, _triplet),
    "batch_hard": Kind(4, (1, 1), "class", True, _batch_hard),
    "distill": Kind(5, (1, _MANY), "teacher", True, _distill),
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


class TripletDistanceMetric:
    """Names of distances, as sentence-transformers has them."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"


class BatchHardTripletLossDistanceFunction:
    """Names of distances, as sentence-transformers has them."""

    euclidean_distance = eucledian_distance = "euclidean"
    cosine_distance = "cosine"


def _distance_name(name: str, metric: Any) -> str:
    """``"euclidean"`` or ``"cosine"`` of those names or of sentence-transformers' functions."""
    if metric is None:
        return "euclidean"
    found = metric if isinstance(metric, str) else getattr(metric, "__name__", "")
    theirs = getattr(sys.modules.get(getattr(metric, "__module__", "")), "TripletDistanceMetric",
                     None)
    for known in ("EUCLIDEAN", "COSINE", "MANHATTAN"):
        if theirs is not None and getattr(theirs, known, None) is metric:
            found = known.lower()
    found = str(found).removesuffix("_distance").replace("eucledian", "euclidean")
    if found not in _DISTANCES:
        raise UnsupportedError(f"{name}: distance_metric={metric!r}: training has "
                               f"{' and '.join(_DISTANCES)}")
    return found


class TripletLoss(Loss):
    """A positive is to be nearer to its anchor than each negative, by the margin. Texts: anchor,
    positive, one negative or more."""

    def __init__(self, model: Any = None, distance_metric: Any = None,
                 triplet_margin: float = 5.0) -> None:
        super().__init__("triplet", distance=_distance_name("TripletLoss", distance_metric),
                         margin=triplet_margin)


class BatchHardTripletLoss(Loss):
    """The same for single texts with a class as label: the positive is the farthest text of its
    class in the batch, the negative the nearest of another. Texts that lack one of the two do not
    count: state large batches. (``embound train`` brings texts of a class together, this does not.)
    """

    def __init__(self, model: Any = None, distance_metric: Any = None, margin: float = 5.0) -> None:
        super().__init__("batch_hard", margin=margin,
                         distance=_distance_name("BatchHardTripletLoss", distance_metric))


class SimilarityDistillationLoss(Loss):
    """The squared error of the cosines of pairs of texts beside those of a teacher, whose vectors,
    of any width, are the labels: the mean over pairs of texts of one example, if it has several,
    and that over all other pairs of the batch. embound's own."""

    def __init__(self, model: Any = None) -> None:
        super().__init__("distill")


class MatryoshkaLoss(Loss):
    """The sum of another loss over the first values of each vector, for each of the dims, times its
    weight."""

    def __init__(self, model: Any = None, loss: Any = "ranking",
                 matryoshka_dims: Sequence[int] = (),
                 matryoshka_weights: Sequence[float] | None = None,
                 n_dims_per_step: int = -1) -> None:
        inner = read_loss(loss, model)
        dims = [int(dim) for dim in matryoshka_dims]
        weights = [1.0] * len(dims) if matryoshka_weights is None else list(matryoshka_weights)
        if not 1 <= len(dims) <= _WIDTHS_MAX or len(set(dims)) < len(dims) or (
                len(weights) != len(dims)):
            raise ArgumentError(f"matryoshka_dims={dims}: state 1 to {_WIDTHS_MAX}, each once, and "
                                "as many weights")
        if 0 < n_dims_per_step < len(dims):
            raise UnsupportedError("n_dims_per_step: every step takes all dims: leave it out")
        super().__init__(inner.name, inner.scale, inner.symmetric, inner.distance, inner.margin)
        self.widths = {dim: float(weight) for dim, weight in zip(dims, weights)}


# Class, and the attributes that one of sentence-transformers of the same name has: as the
# parameter, or as another name of it.
_RANKING = {name: name for name in ("scale", "similarity_fct", "directions", "partition_mode",
                                    "hardness_mode", "hardness_strength")}
_CLASSES: dict[str, tuple[Callable[..., Loss], dict[str, str]]] = {
    "MultipleNegativesRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "CachedMultipleNegativesRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "MultipleNegativesSymmetricRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "CachedMultipleNegativesSymmetricRankingLoss": (MultipleNegativesRankingLoss, _RANKING),
    "CoSENTLoss": (CoSENTLoss, {"scale": "scale", "similarity_fct": "similarity_fct"}),
    "CosineSimilarityLoss": (CosineSimilarityLoss, {
        "loss_fct": "loss_fct", "cos_score_transformation": "cos_score_transformation"}),
    "TripletLoss": (TripletLoss, {
        "distance_metric": "distance_metric", "triplet_margin": "triplet_margin"}),
    "BatchHardTripletLoss": (BatchHardTripletLoss, {
        "distance_metric": "distance_metric", "margin": "triplet_margin"}),
    "MatryoshkaLoss": (MatryoshkaLoss, {
        "loss": "loss", "matryoshka_dims": "matryoshka_dims",
        "matryoshka_weights": "matryoshka_weights", "n_dims_per_step": "n_dims_per_step"}),
}


def _of_theirs(loss: Any, name: str) -> Loss:
    """From an object of sentence-transformers; a cached loss keeps its settings one deeper."""
    make, attributes = _CLASSES[name]
    inner = getattr(loss, "loss", None)
    return make(**{parameter: getattr(loss, attribute, getattr(inner, attribute, None))
                   for parameter, attribute in attributes.items()})


def _of_name(loss: str) -> Loss:
    if loss.replace("-", "_") in LOSSES:  # the command's spelling too
        return Loss(loss.replace("-", "_"))
    if loss in _CLASSES:
        return _CLASSES[loss][0]() if "Symmetric" not in loss else Loss("ranking", symmetric=True)
    near = difflib.get_close_matches(loss, [*LOSSES, *_CLASSES], 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"loss={loss!r}: state one of {', '.join(LOSSES)}{hint}")


def read_loss(loss: Any, model: Any = None) -> Loss:
    """A loss of ``LOSSES`` by name, an object or class of this module or of sentence-transformers,
    or a function that makes one for a model."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        return _of_name(loss)
    if isinstance(loss, dict):
        raise UnsupportedError("losses by the name of a data set: join the data sets, and state "
                               "one loss")
    name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
    if isinstance(loss, type) and issubclass(loss, Loss):
        return loss(model)
    if name in _CLASSES:
        return _of_name(name) if isinstance(loss, type) else _of_theirs(loss, name)
    if callable(loss) and not hasattr(loss, "forward") and not isinstance(loss, type):
        return read_loss(loss(model))
    raise UnsupportedError(f"the loss {name} is not there: training has {', '.join(_CLASSES)}")
