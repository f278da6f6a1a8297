#!/usr/bin/env python3
"""Compares our ids with those of Hugging Face tokenizers, text by text; every one must be equal.

usage: differential.py [--long] [--megabytes N] [--models DIR] [--naughty BLNS.json] [--only NAME]
                       [--ids-of PROGRAM]

Tokenizers: those of the models in DIR (build/models), the same files with other options (cased,
accents kept, text not cleaned, Chinese not split, literals of every kind), and one whose vocabulary
is single characters, so that no order of marks hides behind [UNK]. Where DIR is absent, the tiny
models of tests/data stand in.

Texts: naughty strings, literals, mixtures of scripts and marks, invalid UTF-8, long words; with
--long every code point alone and inside a word, and documentation installed on this machine in
many languages. A part is fed in pieces of random sizes. Needs the tokenizers wheel of
tools/requirements-oracles.txt; prints "skipped" without it.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import gzip
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import threading

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("EMB_BUILD", ROOT / "build"))
ORACLE = ROOT / "build/venv-oracle/bin/python"
try:
    import numpy as np
    from tokenizers import Tokenizer
except ImportError:
    if ORACLE.exists() and pathlib.Path(sys.executable) != ORACLE:
        os.execv(ORACLE, [str(ORACLE), *sys.argv])
    print("tokenizers is not installed (tools/oracle_env.sh)\n0 passed, 0 failed, 1 skipped")
    sys.exit(77)

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
LITERALS = ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "<mask>", "<s>", "</s>", "<unk>", "<pad>",
            "[mask]", "[Mask]", "[MASK", "MASK]", "[[MASK]]", "<<mask>>", "<UNK>", "<Unk>", "[MA",
            "SK]", "[MASK][MASK]", "[UNUSED]", "[unused1]", "##ing", "</", "<", "[", "new york",
            "New  York", "ab", "abc", "Café", "cafe\u0301", "東京", "東", "\u0130x", "_ab", "ab_"]
SCRIPTS = [range(0x20, 0x7F), range(0xA0, 0x250), range(0x300, 0x370), range(0x370, 0x400),
           range(0x400, 0x530), range(0x590, 0x600), range(0x600, 0x700), range(0x900, 0xA00),
           range(0xE00, 0xE80), range(0x1100, 0x1200), range(0x1E00, 0x2000), range(0x2000, 0x2070),
           range(0x20D0, 0x2100), range(0x3000, 0x3100), range(0x4E00, 0x5000),
           range(0xAC00, 0xAD00), range(0xF900, 0xFB00), range(0xFE00, 0xFE10),
           range(0xFF00, 0xFFF0), range(0x1D150, 0x1D1F0), range(0x1F300, 0x1F650),
           range(0x20000, 0x20100), range(0x2F800, 0x2FA20), range(0xE0000, 0xE01F0),
           range(0, 0x20)]


# ---- tokenizers ----------------------------------------------------------------------------------

def literal(content, **flags):
    base = {"id": 0, "special": False, "content": content, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False}
    return {**base, **flags}


def many_literals(document):
    document["added_tokens"] += [
        literal("<mask>", lstrip=True), literal("new york", normalized=True),
        literal("New", normalized=True, single_word=True), literal("ab", single_word=True),
        literal("_ab", single_word=True, rstrip=True), literal("[MASK][MASK]"),
        literal("Café", normalized=True), literal("東京", normalized=True),
        literal("\u0130x", normalized=True), literal("<unk>", normalized=True),
        literal("각", normalized=True), literal("é", single_word=True, lstrip=True, rstrip=True)]


def single_characters(document):
    from tokenizers import normalizers
    strip = normalizers.BertNormalizer(False, False, True, True).normalize_str
    kept = {x for c in CODE_POINTS for x in strip(chr(c)) if c < 0x3000 or 0x1D000 < c < 0x1E900}
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    for c in sorted(kept):
        vocabulary.setdefault(c, len(vocabulary))
        vocabulary.setdefault("##" + c, len(vocabulary))
    document["model"]["vocab"] = vocabulary


def option(key, value):
    return lambda document: document["normalizer"].update({key: value})


VARIANTS = [("cased", option("lowercase", False)), ("accents", option("strip_accents", False)),
            ("stripped-cased",
             lambda d: d["normalizer"].update(lowercase=False, strip_accents=True)),
            ("unclean", option("clean_text", False)),
            ("unsplit", option("handle_chinese_chars", False)),
            ("plain", lambda d: d.update(normalizer=None)),
            ("literals", many_literals), ("characters", single_characters)]


def tokenizers_of(models, scratch):
    """Gives (name, directory, reference file) of real models, then of variants of the first."""
    found = [p for name in ("all-MiniLM-L6-v2", "all-mpnet-base-v2")
             for p in [models / name] if (p / "tokenizer.json").exists()]
    if not found:
        found = sorted(p.parent for p in (ROOT / "tests/data").glob("*/tokenizer.json"))
        print("no real models: the tiny ones stand in (make models)")
    for directory in found:
        yield directory.name, directory, directory / "tokenizer.json"
    for name, change in VARIANTS:
        document = json.loads((found[0] / "tokenizer.json").read_text())
        change(document)
        directory = scratch / name
        directory.mkdir()
        (directory / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))
        yield name, directory, directory / "tokenizer.json"
        if name == "cased":
            lines = scratch / "vocab.txt"
            lines.mkdir()
            vocabulary = document["model"]["vocab"]
            (lines / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
            (lines / "tokenizer_config.json").write_text('{"do_lower_case": false}')
            yield "vocab.txt", lines, directory / "tokenizer.json"


# ---- texts ---------------------------------------------------------------------------------------

def naughty(path):
    strings = json.loads(path.read_text()) if path and path.exists() else []
    yield from (s.encode("utf-8", "surrogatepass") for s in strings)
    yield " ".join(strings).encode("utf-8", "surrogatepass")


def code_points():
    yield from (chr(c).encode() for c in CODE_POINTS)
    yield from (f"ab{chr(c)}cd".encode() for c in CODE_POINTS)


def mixtures(count, seed):
    """Words of mixed scripts, literals and spaces; some with bytes broken."""
    rng = random.Random(seed)
    for _ in range(count):
        scripts = [rng.choice(SCRIPTS) for _ in range(rng.randint(1, 3))]
        parts = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.2:
                parts.append(rng.choice(LITERALS))
            elif kind < 0.3:
                parts.append(chr(rng.choice(CODE_POINTS)))
            elif kind < 0.35:
                parts.append(rng.choice("aé中\u0301") * rng.choice((98, 99, 100, 101, 300)))
            else:
                parts.append("".join(chr(rng.choice(rng.choice(scripts)))
                                     for _ in range(rng.randint(1, 9))))
            parts.append(rng.choice(("", "", " ", "  ", "\n", "\t", ",", "\u3000", "\x0b", "\x00")))
        data = bytearray("".join(parts).encode())
        if rng.random() < 0.3:
            for _ in range(rng.randint(1, 6)):
                at = rng.randint(0, len(data))
                data[at:at + rng.randint(0, 2)] = rng.choice(
                    (b"\xff", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\x80", b"\x80",
                     b"\xf4\x90\x80\x80", b"\xe0\x80", bytes([rng.randint(0, 255)])))
        yield bytes(data)


def marks(count, seed):
    """Runs of combining marks of every class, where only the order tells."""
    import unicodedata
    rng = random.Random(seed)
    pool = [c for c in CODE_POINTS if unicodedata.combining(chr(c))]
    odd = [c for c in pool if unicodedata.category(chr(c)) != "Mn" or c > 0x1D000]
    for _ in range(count):
        length = rng.choice((2, 3, 5, 8, 30, 99, 130))
        text = "".join(chr(rng.choice(rng.choice((pool, odd, odd)))) for _ in range(length))
        before, behind = rng.choice(("", "a", "é", "\u1100", "中")), rng.choice(("", "b", " "))
        yield (before + text + behind).encode()


def documentation(megabytes, seed):
    """Documents of this machine, in shuffled order, in texts of many lengths."""
    rng = random.Random(seed)
    roots = ("/usr/share/man", "/usr/share/doc", "/usr/share/locale", "/usr/share/i18n",
             "/usr/share/perl", "/usr/lib/python3", "/usr/include")
    paths = [os.path.join(d, f) for root in roots for d, _, fs in os.walk(root) for f in fs]
    # the few files of each other language first, then all of them
    other = [p for p in paths
             if p.split("/")[3:4] == ["man"] and not p.split("/")[4].startswith("man")]
    rng.shuffle(paths)
    rng.shuffle(other)
    left, seen = megabytes * 1000000, set()
    for path in other + paths:
        try:
            real = os.path.realpath(path)
            if real in seen:
                continue
            seen.add(real)
            data = (gzip.open if path.endswith(".gz") else open)(path, "rb").read(4000000)
        except (OSError, EOFError, gzip.BadGzipFile):
            continue
        at = 0
        while at < len(data) and left > 0:
            n = rng.choice((40, 300, 3000, 3000, 30000))
            yield data[at:at + n]
            at += n
            left -= min(n, len(data) - at + n)
        if left <= 0:
            return


# ---- comparison ----------------------------------------------------------------------------------

def ours(program, directory, texts, seed):
    command = [str(program), str(directory)] + ([str(seed)] if seed else [])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)

    def send():
        process.stdin.write(data)
        process.stdin.close()

    thread = threading.Thread(target=send)
    thread.start()
    out = np.frombuffer(process.stdout.read(), dtype=np.uint32)
    thread.join()
    if process.wait():
        sys.exit(f"{program} {directory}: exit {process.returncode}")
    return out


def theirs(tokenizer, texts):
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    out = []
    for e in encode([t.decode("utf-8", "replace") for t in texts], add_special_tokens=False):
        ids = e.ids
        out.append(len(ids))
        out.extend(ids)
    return np.array(out, dtype=np.uint32)


def report(name, texts, mine, reference, limit):
    """Prints the texts that differ; gives their number."""
    i = j = differences = 0
    for text in texts:
        a, b = mine[i:i + 1 + mine[i]], reference[j:j + 1 + reference[j]]
        i, j = i + len(a), j + len(b)
        if not np.array_equal(a, b):
            differences += 1
            if differences <= limit:
                print(f"{name}: {text[:100]!r}\n  ours   {a[1:][:40].tolist()}"
                      f"\n  theirs {b[1:][:40].tolist()}", flush=True)
    return differences


def compare(program, name, directory, reference_file, texts, seed):
    tokenizer = Tokenizer.from_file(str(reference_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts_done = bytes_done = ids = differences = 0
    batch, size = [], 0

    def flush():
        nonlocal texts_done, bytes_done, ids, differences
        reference = theirs(tokenizer, batch)
        for pieces in (0, seed):
            mine = ours(program, directory, batch, pieces)
            if not np.array_equal(mine, reference):
                differences += report(name, batch, mine, reference, 1)
        texts_done += len(batch)
        bytes_done += size
        ids += len(reference) - len(batch)

    for text in texts:
        batch.append(text)
        size += len(text)
        if size > 4000000 or len(batch) == 300000:
            flush()
            seed += 1
            batch, size = [], 0
    if batch:
        flush()
    return texts_done, bytes_done, ids, differences


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--megabytes", type=int, default=210, help="of documentation, with --long")
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / "build/models")
    parser.add_argument("--naughty", type=pathlib.Path,
                        default=ROOT.parent / "shared/data/naughty/blns.json")
    parser.add_argument("--only", action="append", help="of the tokenizers, or of the text kinds")
    parser.add_argument("--ids-of", type=pathlib.Path, default=BUILD / "tests/ids_of")
    options = parser.parse_args()
    if not options.ids_of.exists():
        print(f"{options.ids_of} is not built\n0 passed, 0 failed, 1 skipped")
        sys.exit(77)
    scale = 20 if options.long else 1
    passed = failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        found = tokenizers_of(options.models, pathlib.Path(scratch))
        for i, (name, directory, reference) in enumerate(found):
            real = i < 2
            kinds = {"naughty": lambda: naughty(options.naughty),
                     "mixtures": lambda: mixtures(2000 * scale, i + 1),
                     "marks": lambda: marks(300 * scale, i + 1)}
            if options.long:
                kinds["code points"] = code_points
                share = options.megabytes if name in ("all-MiniLM-L6-v2",) else 0
                share = share or (options.megabytes // 4 if real or name == "cased" else 10)
                kinds["documentation"] = lambda: documentation(share, i + 1)
            for kind, texts in kinds.items():
                if options.only and not {name, kind} & set(options.only):
                    continue
                count, size, ids, bad = compare(options.ids_of, name, directory, reference,
                                                texts(), i + 1)
                print(f"{name}, {kind}: {count} texts, {size / 1e6:.1f} MB, {ids} ids, "
                      f"{bad} differ", flush=True)
                passed, failed = passed + (bad == 0), failed + (bad != 0)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(failed != 0)


if __name__ == "__main__":
    main()
