#!/usr/bin/env python3
"""Makes up texts for benches where no real ones are at hand, from the sentences of examples/.

    tools/make_texts.py DIR       abstracts.txt, sts.txt, mixed.txt, tiny.txt, one text a line

The same texts every time: 2,101 "abstracts" of 180 to 600 words, 2,758 sentences, 2,000 texts of 1
to 400 words, 100 of at most 60. Real ones are taken where EMB_DATA (default ../shared/data beside
the repository) has texts/abstracts.txt: speeds differ a little, as made-up texts have fewer words.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SENTENCES = ROOT / "examples" / "texts.txt"
MADE = ROOT / "build" / "texts"


def runs(count, low, high, seed):
    """Texts of low to high words: whole sentences in a random order, the last one cut."""
    draw = random.Random(seed)
    lines = SENTENCES.read_text(encoding="utf-8").split("\n")[:-1]
    for _ in range(count):
        words, length = [], draw.randint(low, high)
        while len(words) < length:
            words += draw.choice(lines).split()
        yield " ".join(words[:length])


def write_folder(folder):
    """All files, each under its name once it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in (("abstracts", runs(2101, 180, 600, 1)), ("sts", runs(2758, 4, 16, 2)),
                        ("mixed", runs(2000, 1, 400, 3)), ("tiny", runs(100, 3, 60, 4))):
        part = folder / f".{name}.{os.getpid()}"
        part.write_text("\n".join(texts) + "\n", encoding="utf-8")
        part.rename(folder / f"{name}.txt")


def abstracts_file():
    """Real abstracts if they are at hand, else made-up ones; says which it gives."""
    data = os.environ.get("EMB_DATA")
    real = pathlib.Path(data or ROOT.parent / "shared" / "data") / "texts" / "abstracts.txt"
    if real.exists():
        return real
    if data:
        sys.exit(f"EMB_DATA: {real} is missing")
    if not (MADE / "abstracts.txt").exists():
        write_folder(MADE)
    print(f"texts: made up from {SENTENCES.relative_to(ROOT)} (EMB_DATA=DIR for real ones: "
          "DIR/texts/abstracts.txt, one a line)", file=sys.stderr)
    return MADE / "abstracts.txt"


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__.split("\n\n")[1].strip())
    write_folder(pathlib.Path(sys.argv[1]))
