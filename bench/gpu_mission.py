#!/usr/bin/env python3
"""The case that embound is for, in Python: 4,000 texts of about 1,000 words with batch_size=4000 on
a card where 4 GB are free, in a script that has changed one import; JSON lines.

mission  alone: NVML's peak of the process; beside torch in the same process, which has used the
         GPU: what embound adds; sentence-transformers in a second process, at its best batch
snippet  the README's first lines: the device is the GPU

usage: bench/gpu_mission.py STEP... --model DIR --texts DIR [--seconds N]
SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import subprocess
import sys

from gpu_common import FAKE, MIB, ROOT, emit, fastest, lines_of, main, mib, peer, write_lines

sys.path.insert(0, str(ROOT / "tests" / "cuda"))
from matrix import Filler  # noqa: E402

FREE = 4 * 10**9
PROCESS_MAX = 700 * MIB
TEXTS, WORDS = 4000, 1000
BATCHES = (16, 32, 64, 128, 256, 512)
ROUNDS = 3

# Says where it stands and waits, so that NVML is read from outside at that moment.
WORKER = """
import json, sys, time
def say(**line):
    print(json.dumps(line), flush=True)
    sys.stdin.readline()
model, path, beside = sys.argv[1:]
if beside == "torch":
    import torch
    (torch.ones(512, 512).cuda() @ torch.ones(512, 512).cuda()).sum().item()
texts = open(path, encoding="utf-8").read().rstrip("\\n").split("\\n")
say(phase="before")
from embound import SentenceTransformer
model = SentenceTransformer(model)
context = [size for region in model.plan()["regions"] if region["kind"] == "device"
           for name, size in region["items"] if name == "CUDA context"]
best = 0.0
for _ in range(%d):
    began = time.monotonic()
    rows = model.encode(texts, batch_size=4000)
    best = max(best, len(texts) / (time.monotonic() - began))
plan = model.plan()
few = model.encode(texts[:3])
say(phase="after", texts_per_second=round(best, 1), device=str(model.device), dtype=plan["dtype"],
    shape=rows.shape, same=bool((few == rows[:3]).all()), finite=bool((rows == rows).all()),
    planned=plan["device_bytes"], held=plan["device_held_bytes"], free=plan["device_free_bytes"],
    rung=plan["rung"])
""" % ROUNDS


class Worker:
    """One run of WORKER, with what NVML saw of it before and at its highest."""

    def __init__(self, model, texts, beside, watch):
        self.before = self.peak = 0
        self.found, self.failed = {}, None
        with subprocess.Popen([sys.executable, "-c", WORKER, str(model), str(texts), beside],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as process:
            for text in process.stdout:
                seen = watch.report()["processes"].get(str(process.pid), 0)
                line = json.loads(text)
                if line["phase"] == "before":
                    self.before = seen
                else:
                    self.found, self.peak = line, seen
                process.stdin.write("\n")
                process.stdin.flush()
            message = process.stderr.read().strip()
        if process.returncode or not self.found:
            self.failed = message.split("\n")[-1]


def write_texts(path, folder, count):
    """Texts of about so many words, none the same, from the words of abstracts."""
    words = " ".join(lines_of(folder / "abstracts.txt")).split()
    words *= 1 + 2 * WORDS // len(words)
    span = len(words) - WORDS - WORDS // 10
    return write_lines(path, [" ".join(words[i * 613 % span:][:WORDS + (i * 37 % 201 - 100)])
                              for i in range(count)])


def mission(options, folder, watch, clock):
    """Memory of embound alone and beside torch, and the speed of both."""
    texts = write_texts(folder / "texts.txt", options.texts, options.count(TEXTS))
    filler = None if FAKE else Filler(FREE // MIB)
    if filler and not filler.ready:
        emit(check="the mission's case", failed="the card cannot be filled without torch",
             passed=False)
        return False
    alone = Worker(options.model, texts, "nothing", watch)
    beside = None if FAKE else Worker(options.model, texts, "torch", watch)
    lines = []
    for dtype in () if FAKE else ("f32", "f16"):  # f32 is the peer's default
        for line in peer(options.model, texts, watch, clock, tokens=256, batches=BATCHES,
                         dtype=dtype, limit=options.count(TEXTS), repeat=1):
            emit(bench="mission", **line)
            lines.append(line)
    if filler:
        filler.close()
    return judge(alone, beside, lines)


def judge(alone, beside, lines):
    """What is required of each; prints it."""
    good = not alone.failed and alone.found["same"] and alone.found["finite"] and \
        alone.found["device"] == "cuda:0" and alone.peak <= PROCESS_MAX
    emit(check="the mission's case, embound alone", required_mib=mib(PROCESS_MAX),
         free_mib=round(FREE / MIB), nvml_mib=mib(alone.peak), found=alone.found,
         failed=alone.failed, passed=good)
    if beside is None:
        return good
    context = alone.found.get("held", 0)  # held by the engine's process before it took its own
    added = beside.peak - beside.before
    fits = not beside.failed and beside.before > 0 and added <= PROCESS_MAX - context and \
        beside.found["device"] == "cuda:0"
    emit(check="the mission's case, beside torch", required_mib=mib(PROCESS_MAX - context),
         context_mib=mib(context), before_mib=mib(beside.before), after_mib=mib(beside.peak),
         added_mib=mib(added), found=beside.found, failed=beside.failed, passed=fits)
    top = fastest(lines)
    ours = min(run.found.get("texts_per_second", 0) for run in (alone, beside))
    faster = ours / top["texts_per_second"] if top else None
    died = [f"{n['dtype']} batch {n['batch']}" for n in lines if n.get("failed")]
    fast = bool(faster and faster >= 20)
    emit(check="the mission's case, speed", required=">= 20 x the peer's best that fits",
         texts_per_second=ours, peer_best=top, peer_died=died,
         faster=faster and round(faster, 2), passed=fast)
    return good and fits and fast


def snippet(options, _folder, _watch, clock):
    """What the README's first lines say of themselves."""
    source = ("from embound import SentenceTransformer\n"
              f"model = SentenceTransformer({str(options.model)!r})\n"
              "vectors = model.encode(['one text', 'another'])\n"
              "print(model.device, model.dtype, vectors.shape)\n")
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], text=True,
                          capture_output=True, check=False, timeout=clock.left())
    good = done.returncode == 0 and done.stdout.startswith("cuda:0")
    emit(check="the README's lines after pip install", said=done.stdout.strip(),
         failed=done.stderr.strip().split("\n")[-1] or None, python=pathlib.Path(
             sys.executable).name, passed=good)
    return good


if __name__ == "__main__":
    main(__doc__, {"mission": mission, "snippet": snippet})
