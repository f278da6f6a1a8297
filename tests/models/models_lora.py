#!/usr/bin/env python3
"""Adapters that train wrote, loaded by PEFT and by sentence-transformers' load_adapter, against the
model that train wrote with them added; and a step of SGD against PyTorch's. Needs the oracle's
environment (tools/oracle_env.sh) and peft; a model or package that is not here is skipped.

    build/venv-oracle/bin/python tests/models/models_lora.py [--build DIR] [MODEL ...]

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer

try:
    from peft import PeftModel
except ImportError:
    print("peft is not installed: skipped")
    sys.exit(0)

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ["build/models/all-MiniLM-L6-v2", "build/models/all-mpnet-base-v2"]
LIMIT = 1e-5
STEP_LIMIT = 1e-4
WORDS = "river stone moon memory walks slow light cat sleeps rain north bread butter train".split()


def write_pairs(path, count=24):
    """Pairs of texts with the same words; gives the texts."""
    draw, texts = random.Random(1), []
    for _ in range(count):
        first = draw.choices(WORDS, k=draw.randint(3, 12))
        texts += [" ".join(first), " ".join(draw.sample(first, len(first)))]
    lines = [f"{a},{b}" for a, b in zip(texts[::2], texts[1::2])]
    path.write_text("\n".join(["anchor,positive", *lines]) + "\n")
    return texts


def compare(program, model, folder, targets):
    """The largest differences of the two ways from the merged model, and how far it has moved."""
    texts = write_pairs(folder / "pairs.csv")
    how = [program, "train", model, "-i", folder / "pairs.csv", "--lora", "4", "--lora-targets",
           targets, "--learning-rate", "1e-3", "--batch-size", "16", "-q", "--force"]
    subprocess.run([*how, "-o", folder / "merged"], check=True)
    subprocess.run([*how, "-o", folder / "adapter", "--adapter-only"], check=True)

    def load(path):
        return SentenceTransformer(str(path), device="cpu")
    merged, before = load(folder / "merged").encode(texts), load(model).encode(texts)
    loaded, wrapped = load(model), load(model)
    loaded.load_adapter(str(folder / "adapter"))
    wrapped[0].auto_model = PeftModel.from_pretrained(wrapped[0].auto_model,
                                                      str(folder / "adapter"))
    return [float(np.abs(merged - other).max())
            for other in (loaded.encode(texts), wrapped.encode(texts), before)]


def step_off(program, model, folder):
    """How far one step of SGD moves B from where PyTorch would, of its way; A stays: B was 0."""
    texts = write_pairs(folder / "pairs.csv", 16)
    how = [program, "train", model, "-i", folder / "pairs.csv", "--lora", "4", "--lora-targets",
           "all", "--learning-rate", "1", "--batch-size", "16", "-q", "--force", "--steps", "1",
           "--optimizer", "sgd", "--max-grad-norm", "0", "--adapter-only", "-o", folder / "one"]
    subprocess.run(how, check=True)
    ours = load_file(folder / "one" / "adapter_model.safetensors")
    peer = SentenceTransformer(str(model), device="cpu")
    peer.eval()
    peer[0].auto_model = PeftModel.from_pretrained(peer[0].auto_model, str(folder / "one"),
                                                   is_trainable=True)
    found = {name: value for name, value in peer[0].auto_model.named_parameters()
             if "lora_B" in name}
    with torch.no_grad():
        for value in found.values():
            value.zero_()
    rows = [peer(peer.tokenize(column))["sentence_embedding"] for column in
            (texts[::2], texts[1::2])]
    first, second = (torch.nn.functional.normalize(row, dim=1) for row in rows)
    torch.nn.functional.cross_entropy(20 * first @ second.T, torch.arange(16)).backward()
    away = way = 0.0
    for name, value in found.items():
        plain = name.removeprefix("base_model.model.").replace(".default", "")
        moved = ours[f"base_model.model.{plain}"]
        away += float(np.square(moved + value.grad.numpy()).sum())
        way += float(np.square(moved).sum())
    return (away / way) ** 0.5


def main():
    """Compares every model that is here; exits 1 if one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("models", nargs="*", default=MODELS)
    options = parser.parse_args()
    good = True
    for model in options.models:
        if not (ROOT / model).exists():
            print(f"{model}: skipped, not here (make models)")
            continue
        with tempfile.TemporaryDirectory() as name:
            off = step_off(ROOT / options.build / "embound", ROOT / model, pathlib.Path(name))
        good &= off <= STEP_LIMIT
        print(f"{model}: a step of SGD off {off:.1e} of its length"
              f"{'' if off <= STEP_LIMIT else '  FAIL'}")
        for targets in ["query,value", "ffn.out"]:
            with tempfile.TemporaryDirectory() as name:
                loaded, wrapped, moved = compare(ROOT / options.build / "embound", ROOT / model,
                                                 pathlib.Path(name), targets)
            fine = max(loaded, wrapped) <= LIMIT < moved
            good &= fine
            print(f"{model} {targets}: load_adapter off {loaded:.1e}, PEFT off {wrapped:.1e}; "
                  f"training moved vectors by {moved:.1e}{'' if fine else '  FAIL'}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
