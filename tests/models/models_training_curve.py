#!/usr/bin/env python3
"""The loss of every one of 300 steps of embound train beside sentence-transformers' model and
MultipleNegativesRankingLoss in torch: at most 1e-3 apart, relative to the loss or to 0.05.

all-MiniLM-L6-v2, STS-B's training pairs (all of them, so that the loss is not near 0), batches of
32, AdamW at 2e-5 with warm-up and linear decay, clipped at 1, without dropout and weight decay, the
same order. EMB_TORCH_THREADS: torch's threads (default: all cores).

    build/venv-oracle/bin/python tests/models/models_training_curve.py

SPDX-License-Identifier: Apache-2.0
"""
import os
import tempfile
import time

import real
import training
from support import program

STEPS, BATCH, RATE, WARMUP = int(os.environ.get("EMB_STEPS") or 300), 32, 2e-5, 30
FLOOR, LIMIT = 0.05, 1e-3


def main():
    """Both curves."""
    tally = program.Tally()
    training.need_torch()
    if not real.have(tally, training.TRAIN, real.MODELS / real.L6 / "model.safetensors"):
        tally.end()
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    pairs = [row[1:] for row in training.read_pairs(training.TRAIN)]
    rows = training.epochs(pairs, STEPS * BATCH, seed=1)[:STEPS * BATCH]
    with tempfile.TemporaryDirectory() as folder:
        ours, _, seconds = training.embound_train(
            folder, "curve", ("anchor", "positive"), rows, "--steps", STEPS, "--batch-size", BATCH,
            "--learning-rate", RATE, "--warmup-steps", WARMUP)
    reference = training.Reference(MultipleNegativesRankingLoss, RATE, STEPS, WARMUP, dropout=False)
    began, worst, at = time.monotonic(), 0.0, 0
    theirs = []
    for step in range(STEPS):
        theirs.append(reference.step(list(zip(*rows[step * BATCH:(step + 1) * BATCH]))))
        off = abs(ours[step]["loss"] - theirs[-1]) / max(theirs[-1], FLOOR)
        if off > worst:
            worst, at = off, step + 1
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}: {ours[step]['loss']:.6f} and {theirs[-1]:.6f}, at most "
                  f"{worst:.2e} apart so far", flush=True)
    training.keep({
        "bench": "training_curve", "model": real.L6, "loss": "ranking", "steps": STEPS,
        "batch": BATCH, "learning_rate": RATE, "pairs": len(pairs), "worst_relative": worst,
        "worst_step": at, "required": LIMIT, "passed": worst <= LIMIT,
        "loss_first": ours[0]["loss"], "loss_last": ours[-1]["loss"],
        "mean_of_last_50": sum(one["loss"] for one in ours[-50:]) / 50,
        "theirs_mean_of_last_50": sum(theirs[-50:]) / 50, "seconds": round(seconds, 1),
        "theirs_seconds": round(time.monotonic() - began, 1)})
    tally.expect(len(ours) == STEPS, f"{len(ours)} steps of {STEPS}")
    tally.expect(worst <= LIMIT, f"step {at}: {worst:.2e} apart, at most {LIMIT}")
    tally.expect(sum(theirs[-50:]) < sum(theirs[:50]), "the loss does not fall")
    tally.end()


if __name__ == "__main__":
    main()
