#!/usr/bin/env python3
"""Distillation: the small model learns the large one's cosines on pairs of sentences (STS-B train,
without its scores, and neighbours in abstracts), and scores higher on STS-B test than before.

    tests/models/models_distill.py [--record]   # adds a line to bench/results/training_cpu.jsonl

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import platform
import random
import re
import sys
import tempfile
import time

import real
from support import program

RESULTS = program.ROOT / "bench/results/training_cpu.jsonl"
STSB_PAIRS, ABSTRACTS = 4000, 600
HOW = ["--loss", "distill", "--columns", "first,second", "--batch-size", 64, "--epochs", 3,
       "--learning-rate", "1e-4", "--warmup-ratio", "0.1", "--max-length", 64]


def pairs():
    """Pairs of related sentences, none of them of STS-B's dev or test set."""
    found = []
    for line in (real.DATA / "stsb/sts-train.csv").read_text(encoding="utf-8").split("\n")[:-1]:
        cells = line.split("\t")
        found.append((" ".join(cells[5].split()), " ".join(cells[6].split())))
    found = random.Random(1).sample(found, STSB_PAIRS)
    for abstract in real.abstracts()[:ABSTRACTS]:
        sentences = re.split(r"(?<=[.!?]) +(?=[A-Z])", abstract.strip())
        if len(sentences) > 1:
            found.append((sentences[0], sentences[1]))
    return [pair for pair in found if all(pair)]


def spearman(tally, model):
    """Of STS-B test, times 100."""
    done = program.run("eval", model, "-i", real.DATA / "stsb/sts-test.csv", "--json", "-q",
                       timeout=real.LIMIT_SECONDS)
    if not tally.expect(done.returncode == 0, f"{model}: {done.stderr}"):
        return 0
    return json.loads(done.stdout)["spearman"]


def main():
    """Before, the training, after."""
    tally = program.Tally()
    student, teacher = real.MODELS / real.L3, real.MODELS / real.MPNET
    if real.have(tally, student / "model.safetensors", teacher / "model.safetensors",
                 real.DATA / "stsb/sts-train.csv"):
        rows = pairs()
        with tempfile.TemporaryDirectory(prefix="embound-distill-") as name:
            folder = pathlib.Path(name)
            source = folder / "pairs.jsonl"
            source.write_text("".join(json.dumps({"first": a, "second": b}) + "\n"
                                      for a, b in rows), encoding="utf-8")
            started = time.monotonic()
            done = program.run("train", student, "-i", source, "-o", folder / "out", "--teacher",
                               teacher, *HOW, "--json", timeout=real.LIMIT_SECONDS)
            seconds = time.monotonic() - started
            if tally.expect(done.returncode == 0, done.stderr):
                said = json.loads(done.stdout)
                before, after = (spearman(tally, m) for m in (student, folder / "out"))
                line = {"bench": "training_cpu", "row": "distillation",
                        "date": time.strftime("%Y-%m-%d"), "teacher": real.MPNET,
                        "student": real.L3, "pairs": len(rows), "options": " ".join(map(str, HOW)),
                        "steps": said["steps"], "loss_first": said["loss_first"],
                        "loss_last": said["loss_last"], "stsb_test_before": before,
                        "stsb_test_after": after, "seconds_with_teacher": round(seconds, 1),
                        "seconds_training": said["seconds"], "cores": os.cpu_count(),
                        "host_bytes_peak": said["host_bytes_peak"], "machine": platform.machine(),
                        "command": "tests/models/models_distill.py --record"}
                print(json.dumps(line), flush=True)
                tally.expect(after > before, f"STS-B test: {before} before, {after} after")
                if "--record" in sys.argv:
                    with RESULTS.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
    tally.end()


if __name__ == "__main__":
    main()
