"""What the comparisons of training share: STS-B's training pairs, embound train on them in a fixed
order, and sentence-transformers' model and losses in a plain loop of torch with the same recipe.

Run with build/venv-oracle/bin/python, which has torch (tools/oracle_env.sh); started by another,
these suites go on there. Training never sees the test split.

SPDX-License-Identifier: Apache-2.0
"""
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import warnings

import real
from support import program

ORACLE = program.ROOT / "build" / "venv-oracle" / "bin" / "python"
TRAIN = real.DATA / "stsb" / "sts-train.csv"
TEST = real.DATA / "stsb" / "sts-test.csv"


def need_torch():
    """Goes on in the oracle's environment where this one lacks torch; a skip without either."""
    if importlib.util.find_spec("sentence_transformers"):
        warnings.simplefilter("ignore")
        return
    if ORACLE.exists() and not os.environ.get("EMB_ORACLE"):
        os.execve(ORACLE, [str(ORACLE), *sys.argv], dict(os.environ, EMB_ORACLE="1"))
    print("skipped: there is no torch (tools/oracle_env.sh)")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def read_pairs(path):
    """(score, text, text) of one of STS-B's tables."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = line.split("\t")
        rows.append((float(cells[4]), cells[5], cells[6]))
    return rows


def epochs(rows, count, seed):
    """At least so many rows: the rows in one random order after another."""
    draw, out = random.Random(seed), []
    while len(out) < count:
        out += draw.sample(rows, len(rows))
    return out


def write_jsonl(path, names, rows):
    """A file for embound train."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(names, row))) + "\n" for row in rows)


def embound_train(folder, name, names, rows, *options):
    """Trains on the rows as they stand; gives the lines of its log, the directory and seconds."""
    folder = pathlib.Path(folder)
    source, out, log = folder / f"{name}.jsonl", folder / name, folder / f"{name}.log"
    write_jsonl(source, names, rows)
    began = time.monotonic()
    done = subprocess.run(
        [program.PROGRAM, "train", real.MODELS / real.L6, "-i", source, "-o", out, "--no-shuffle",
         "--quiet", "--log", log, *map(str, options)], text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    seconds = time.monotonic() - began
    return [json.loads(line) for line in log.read_text().splitlines()], out, seconds


def linear(steps, warmup):
    """The share of the learning rate at a step, as both have it."""
    return lambda at: at / warmup if at < warmup else max(0.0, (steps - at) / (steps - warmup))


class Reference:
    """sentence-transformers' model, trained step by step."""

    def __init__(self, make_loss, rate, steps, warmup, dropout, seed=0):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.manual_seed(seed)
        torch.set_num_threads(int(os.environ.get("EMB_TORCH_THREADS") or os.cpu_count() or 1))
        self.torch = torch
        self.model = SentenceTransformer(str(real.MODELS / real.L6), device="cpu")
        self.model.train(dropout)  # else without dropout; gradients are the same
        self.loss = make_loss(self.model)
        self.parameters = [one for one in self.model.parameters() if one.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, linear(steps, warmup))

    def step(self, columns, labels=None):
        """The loss of a batch, before the step."""
        torch = self.torch
        features = [self.model.preprocess(list(texts)) for texts in columns]
        targets = None if labels is None else torch.tensor(labels)
        loss = self.loss(features, targets)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def save(self, path):
        """As a directory."""
        self.model.save_pretrained(str(path))


def spearman(folder):
    """Of the test split, times 100, by embound eval in f32, for a directory of either."""
    done = program.run("eval", folder, "-i", TEST, "--dtype", "f32", "--json", "--quiet",
                       timeout=real.LIMIT_SECONDS)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)["spearman"]


def keep(line):
    """Prints a result, and appends it to the file EMB_RESULTS."""
    text = json.dumps(line)
    print(text, flush=True)
    if os.environ.get("EMB_RESULTS"):
        with open(os.environ["EMB_RESULTS"], "a", encoding="utf-8") as file:
            file.write(text + "\n")
