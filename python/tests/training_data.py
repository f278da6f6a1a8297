"""Examples that a tiny model learns: groups of the same words, and pairs scored by shared words.

SPDX-License-Identifier: Apache-2.0
"""
import random

WORDS = ("river stone moon cat mat walk slow bounded memory plan light house tree bird winter city "
         "road paper cold warm blue green letter kitchen").split()


def groups(count=60, texts=3, seed=1):
    """An anchor, a text of the same words, and others."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        anchor = draw.choices(WORDS, k=6)
        others = [draw.choices(WORDS, k=6) for _ in range(texts - 2)]
        rows.append(tuple(" ".join(text) for text in [anchor, draw.sample(anchor, 6), *others]))
    return rows


def pairs(count=60, seed=2):
    """Two texts and the share of words in common."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        first, kept = draw.sample(WORDS, 5), draw.randrange(6)
        second = first[:kept] + draw.sample(WORDS, 5 - kept)
        rows.append((" ".join(first), " ".join(second), kept / 5))
    return rows


def weights(directory):
    """The bytes of the parameters."""
    with open(f"{directory}/model.safetensors", "rb") as file:
        return file.read()
