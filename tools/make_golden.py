#!/usr/bin/env python3
"""Writes the golden vectors that tests compare with, from the reference implementations.

    tools/make_golden.py                 tests/golden/, from the committed tiny models, with
                                         variants.json (tests/golden/variants.py)
    tools/make_golden.py MODEL_DIR...    build/golden/NAME/, from real models

For each model: ids.json (token ids, special tokens left out), and <rule>.npy [texts, dim] f32 for
truncate (sentence-transformers itself), chunk, chunk-24 (windows of 24 tokens), cls and max.

SPDX-License-Identifier: Apache-2.0"""
import argparse
import json
import os
import sys

import reference

GOLDEN = os.path.join(reference.ROOT, "tests", "golden")


def awkward_texts():
    """Short, long, empty, foreign and hostile texts; every one is valid UTF-8."""
    sentence = "A man is playing the guitar near the river while the children sing old songs. "
    with open(os.path.join(reference.ROOT, "tools", "tiny_vocabulary.txt")) as file:
        words = file.read().split()
    return [
        "", " ", "\t\n \r\n", "a", "The", "hello world", sentence.strip(), sentence * 3,
        sentence * 30, " ".join(words), " ".join(words * 4), "x" * 99, "x" * 100, "x" * 101,
        "y" * 5000, "." * 700, "[MASK]", "[CLS] a [SEP] b [PAD]", "<mask> and <s> and </s> <unk>",
        "[mask] [UNK] [ MASK ]", "a[MASK]b  <mask>c", "embedding embeddings embedded unbounded",
        "It's 3,141.59 — isn't it? (yes/no) #1 & co. @home $5 50% a_b c-d", "ÀÉÎÕÜ àéîõü ñ ç ß Ø",
        "e\u0301 a\u0308 o\u0302 n\u0303", "\u1100\u1161\u11a8 한국어 가나다", "中文字符和日本語のテキスト",
        "漢字mixed with latin漢字", "Ελληνικά ΣΊΣΥΦΟΣ σίσυφος", "Привет мир ЁЖ ёж", "שלום עולם",
        "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "İstanbul ıI iİ",
        "ǅ ǆ Ǆ ﬁ ﬂ ﬀ", "👩‍👩‍👧‍👦 👍🏽 🇩🇪 emoji",
        "zero\u200bwidth\u200djoiner\ufeffbom", "soft\u00adhyphen nb\u00a0space", "nul\u0000inside",
        "\u0001\u0002\u007fcontrol\u0085next", "\ufffd replacement \ufffd", "\U0010ffff \U000e0041",
        "line one\nline two\r\nline three\u2028four\u2029five", "tab\tseparated\tvalues",
        "\u202eright to left\u202c", "Z̸͖̃a̷̢l̵̰g̷o̶",
        "¡Hola! ¿Qué tal? «oui» „ja“", "１２３ ＡＢＣ ｶﾀｶﾅ",
        "x\u0338 ≠ x",
        "' OR 1=1; DROP TABLE texts; --", "<script>alert('x')</script>", "../../etc/passwd%00",
        "NaN Infinity -0 1e309 null undefined", "\\ \" ' ` / \\n \\u0041 {\"a\": [1, 2]}",
    ]


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, separators=(",", ":"))
        file.write("\n")


def make(folder, out, texts):
    import numpy
    model = reference.Reference(folder)
    os.makedirs(out, exist_ok=True)
    rows = {
        "truncate": model.encode_truncated(texts, batch=1),
        "chunk": [model.encode_chunked(text) for text in texts],
        "chunk-24": [model.encode_chunked(text, window=24) for text in texts],
        "cls": [model.encode_chunked(text, pooling="cls") for text in texts],
        "max": [model.encode_chunked(text, pooling="max", normalize=False) for text in texts],
    }
    for name, vectors in rows.items():
        numpy.save(os.path.join(out, f"{name}.npy"), numpy.asarray(vectors, dtype=numpy.float32))
    write_json(os.path.join(out, "ids.json"), [model.ids(text) for text in texts])
    print(f"{out}: {len(texts)} texts, window {model.window}")


def make_variants(out):
    """Vectors of tiny-bert with one file changed, as sentence-transformers loads it."""
    import tempfile
    sys.path.insert(0, GOLDEN)
    import variants
    from sentence_transformers import SentenceTransformer
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, changes in variants.VARIANTS.items():
            folder = os.path.join(scratch, name)
            variants.make(os.path.join(reference.ROOT, "tests", "data", "tiny-bert"), folder,
                          changes)
            model = SentenceTransformer(folder, device="cpu", local_files_only=True)
            vectors = model.encode(variants.TEXTS, batch_size=1)
            rows[name] = [[round(float(x), 7) for x in row] for row in vectors]
    write_json(out, rows)
    print(f"{out}: {len(rows)} variants")


def main():
    reference.enter_oracle_env()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL_DIR")
    arguments = parser.parse_args()
    texts = awkward_texts()
    if arguments.models:
        base = os.path.join(reference.ROOT, "build", "golden")
        os.makedirs(base, exist_ok=True)
    else:
        base = GOLDEN
        arguments.models = [os.path.join(reference.ROOT, "tests", "data", name)
                            for name in ("tiny-bert", "tiny-mpnet")]
        make_variants(os.path.join(GOLDEN, "variants.json"))
    write_json(os.path.join(base, "texts.json"), texts)
    for folder in arguments.models:
        make(folder, os.path.join(base, os.path.basename(os.path.normpath(folder))), texts)


if __name__ == "__main__":
    sys.exit(main())
