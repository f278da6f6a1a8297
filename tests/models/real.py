"""What the suites on real weights share: which models there are, real texts, encode to an array.

Models come from `make models` (EMB_ONLY=NAME takes one alone); texts from the folder EMB_DATA
(default ../shared/data beside the repository): texts/abstracts.txt, naughty/blns.json,
stsb/sts-test.csv. Absent ones are skipped.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

sys.path.insert(0, str(program.ROOT / "tools"))

DATA = pathlib.Path(os.environ.get("EMB_DATA") or program.ROOT.parent / "shared" / "data")
MODELS = pathlib.Path(os.environ.get("EMB_MODELS") or program.ROOT / "build" / "models")
L6, L3, MPNET = "all-MiniLM-L6-v2", "paraphrase-MiniLM-L3-v2", "all-mpnet-base-v2"
NAMES = (L6, L3, MPNET)
LIMIT_SECONDS = 3600


def have(tally, *paths):
    """Whether all are there; else counts one skip."""
    missing = [path for path in (program.PROGRAM, *paths) if not path.exists()]
    if missing:
        hint = "make models" if MODELS in missing[0].parents else "see tests/models/real.py"
        tally.skip(f"{missing[0]} is missing ({hint})")
    return not missing


def models(tally, names=NAMES):
    """The models that are there, as (name, path)."""
    only = os.environ.get("EMB_ONLY")
    return [(name, MODELS / name) for name in names
            if only in (None, name) and have(tally, MODELS / name / "model.safetensors")]


def abstracts():
    """Real English paragraphs of 180 to 600 words."""
    return (DATA / "texts" / "abstracts.txt").read_text(encoding="utf-8").split("\n")[:-1]


def naughty():
    """Strings that break programs."""
    return json.loads((DATA / "naughty" / "blns.json").read_text(encoding="utf-8"))


def long_text(size_bytes):
    """Abstracts joined until `size_bytes`, repeated if there are too few."""
    lines = abstracts()
    joined = " ".join(lines)
    while len(joined) < size_bytes:
        joined += " " + joined
    return joined.encode()[:size_bytes].decode(errors="ignore")


def mixed_texts(count, words_max, seed=5):
    """A third naughty strings, the rest runs of 1 to words_max real words, in a fixed order."""
    draw = random.Random(seed)
    words = " ".join(abstracts()).split(" ")
    texts = draw.sample(naughty(), min(count // 3, len(naughty())))
    for length in (1, 2, 3, words_max):
        texts.append(" ".join(words[:length]))
    while len(texts) < count:
        length = int(words_max ** draw.random())
        start = draw.randrange(len(words) - length)
        texts.append(" ".join(words[start:start + length]))
    draw.shuffle(texts)
    return texts


def write_jsonl(path, texts):
    """One object a line, which carries any text whole."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def encode(model, source, output, *options):
    """Runs `embound encode` with --stats; gives (finished process, stats or None)."""
    stats = pathlib.Path(f"{output}.stats.json")
    stats.unlink(missing_ok=True)
    done = program.run("encode", model, "-i", source, "-o", output, "--quiet", "--stats", stats,
                       *options, timeout=LIMIT_SECONDS)
    return done, json.loads(stats.read_text()) if stats.exists() else None
