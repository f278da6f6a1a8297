#!/usr/bin/env python3
"""Losses and their gradients against sentence-transformers' own classes in f64, on random vectors.
Needs the oracle's environment (tools/oracle_env.sh).

    build/venv-oracle/bin/python tests/models/models_losses.py [--build DIR]

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch

warnings.simplefilter("ignore")
from sentence_transformers import losses  # noqa: E402 (deprecated only in its place)

ROOT = pathlib.Path(__file__).resolve().parents[2]
KINDS = {"ranking": 0, "cosent": 1, "cosine": 2, "triplet": 3, "batch-hard": 4, "distill": 5}
LIMIT = 3e-5
WIDTH = 96


class Vectors(torch.nn.Module):
    """Stands for a model: its features are the vectors."""

    def get_embedding_dimension(self):
        """Of the vectors."""
        return WIDTH

    def forward(self, features):
        """The vectors as a model gives them."""
        return dict(features, sentence_embedding=features["vectors"])


class Distill(torch.nn.Module):
    """(cosine - teacher's cosine)^2, the mean over pairs in an example and over all others."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, features, teacher):
        """The loss of all texts of all columns; the teacher's are [examples, columns, width]."""
        rows = torch.cat([self.model(f)["sentence_embedding"] for f in features])
        wanted = torch.cat([teacher[:, k] for k in range(teacher.shape[1])])
        units = [torch.nn.functional.normalize(x, dim=1) for x in (rows, wanted)]
        away = (units[0] @ units[0].T - units[1] @ units[1].T) ** 2
        same, examples = torch.eye(len(rows), dtype=torch.bool), len(rows) // teacher.shape[1]
        inside = torch.eye(examples, dtype=torch.bool).repeat(*[teacher.shape[1]] * 2) & ~same
        others = ~inside & ~same
        return away[others].mean() + (away[inside].mean() if inside.any() else 0)


def loss_of(kind, options, model):
    """sentence-transformers' loss of that kind."""
    cosine = options.get("distance", 0)
    if kind == "ranking":
        many = (losses.MultipleNegativesSymmetricRankingLoss if options.get("symmetric")
                else losses.MultipleNegativesRankingLoss)
        return many(model, scale=options["scale"])
    if kind == "cosent":
        return losses.CoSENTLoss(model, scale=options["scale"])
    if kind == "cosine":
        return losses.CosineSimilarityLoss(model)
    if kind == "triplet":
        metric = (losses.TripletDistanceMetric.COSINE if cosine
                  else losses.TripletDistanceMetric.EUCLIDEAN)
        return losses.TripletLoss(model, distance_metric=metric, triplet_margin=options["margin"])
    if kind == "batch-hard":
        by = losses.BatchHardTripletLossDistanceFunction
        return losses.BatchHardTripletLoss(
            model, distance_metric=by.cosine_distance if cosine else by.eucledian_distance,
            margin=options["margin"])
    return Distill(model)


def theirs(kind, vectors, targets, options):
    """Loss and gradient by autograd."""
    model = Vectors()
    loss = loss_of(kind, options, model)
    if options.get("width"):
        dims, weights = zip(*options["width"])
        loss = losses.MatryoshkaLoss(model, loss, list(dims), list(weights))
    given = torch.tensor(vectors, dtype=torch.float64, requires_grad=True)
    features = [{"vectors": column} for column in given]
    labels = None
    if targets is not None:
        labels = torch.tensor(targets, dtype=torch.int64 if kind == "batch-hard"
                              else torch.float64)
    value = loss(features, labels)
    value.backward()
    return value.item(), given.grad.numpy()


def ours(program, kind, vectors, targets, options):
    """The same from our program."""
    columns, examples, width = vectors.shape
    count = 0 if targets is None else targets.size
    words = [f"{name}={value}" for name, value in options.items() if name != "width"]
    words += [f"width={n}:{w}" for n, w in options.get("width", [])]
    if kind == "distill":
        words.append(f"teacher={targets.shape[-1]}")
    with tempfile.TemporaryDirectory() as folder:
        source, target = pathlib.Path(folder, "in"), pathlib.Path(folder, "out")
        parts = [vectors] + ([] if targets is None else [targets])
        source.write_bytes(b"".join(p.astype(np.float32).tobytes() for p in parts))
        run = subprocess.run([program, str(KINDS[kind]), str(examples), str(columns), str(width),
                              str(count), source, target, *words], capture_output=True, text=True,
                             check=False)
        if run.returncode:
            sys.exit(run.stderr)
        return float(run.stdout), np.frombuffer(target.read_bytes(), np.float32).reshape(
            vectors.shape)


WIDTHS = {"width": [(WIDTH, 1.0), (48, 0.5), (20, 2.0)]}
CASES = [
    ("ranking", 3, {"scale": 20.0}), ("ranking", 2, {"scale": 20.0, "symmetric": 1}),
    ("ranking", 2, {"scale": 20.0, **WIDTHS}), ("cosent", 2, {"scale": 20.0}),
    ("cosent", 2, {"scale": 20.0, **WIDTHS}), ("cosine", 2, {}), ("cosine", 2, WIDTHS),
    ("triplet", 3, {"margin": 5.0}), ("triplet", 3, {"margin": 0.3}),
    ("triplet", 3, {"margin": 0.02, "distance": 1}), ("triplet", 3, {"margin": 5.0, **WIDTHS}),
    ("triplet", 3, {"margin": 0.02, "distance": 1, **WIDTHS}),
    ("batch-hard", 1, {"margin": 5.0}), ("batch-hard", 1, {"margin": 0.5}),
    ("batch-hard", 1, {"margin": 0.05, "distance": 1}),
    ("batch-hard", 1, {"margin": 5.0, **WIDTHS}), ("distill", 1, {}), ("distill", 3, {}),
    ("distill", 1, WIDTHS)]


def make(kind, columns, examples, width, seed):
    """Vectors [columns, examples, width] that lie near one another, and targets."""
    random = np.random.default_rng(seed)
    vectors = (0.3 + random.random((columns, examples, width))).astype(np.float32)
    targets = None
    if kind in ("cosent", "cosine"):
        targets = random.integers(0, 6, examples).astype(np.float32) / 5
    elif kind == "batch-hard":
        targets = (np.arange(examples) % (examples // 3)).astype(np.float32)
    elif kind == "distill":
        targets = (0.3 + random.random((examples, columns, 128))).astype(np.float32)
    return vectors, targets


def main():
    """Compares every case at several sizes; exits 1 if one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    program = ROOT / parser.parse_args().build / "tests/losses"
    good = True
    for number, (kind, columns, options) in enumerate(CASES):
        worst = [0.0, 0.0]
        for examples in (6, 70, 300):
            vectors, targets = make(kind, columns, examples, WIDTH, number * 1000 + examples)
            loss, gradient = ours(program, kind, vectors, targets, options)
            value, wanted = theirs(kind, vectors, targets, options)
            worst[0] = max(worst[0], abs(loss - value) / max(abs(value), 1e-3))
            worst[1] = max(worst[1], np.linalg.norm(gradient - wanted) /
                           max(np.linalg.norm(wanted), 1e-9))
        fine = max(worst) <= LIMIT
        good &= fine
        print(f"{kind} {options}: loss {worst[0]:.1e}, gradient {worst[1]:.1e} apart"
              f"{'' if fine else '  FAIL'}", flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
