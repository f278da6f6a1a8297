#!/usr/bin/env python3
"""Writes src/text/normalize/unicode_table.c: what Hugging Face tokenizers does to each code point.

The tables are not taken from any Unicode release. Every code point is put through BertNormalizer,
BertPreTokenizer, NFD and an added token, and what comes out is tabulated, so that our ids are equal
to theirs even where their Unicode data are older than the standard.

usage: make_unicode_tables.py OUTPUT        (needs the tokenizers wheel of requirements-oracles.txt)

SPDX-License-Identifier: Apache-2.0
"""
import random
import sys
import unicodedata

try:
    import tokenizers
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
except ImportError:
    sys.exit("make_unicode_tables: needs the tokenizers wheel (tools/oracle_env.sh, then "
             "build/venv-oracle/bin/python)")

REMOVED, SPACE, CHINESE, WHITE, PUNCTUATION, WORD, DECOMPOSED, LOWERED = (1 << i for i in range(8))
BLOCK_BITS = 7
HANGUL = range(0xAC00, 0xD7A4)
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def bert(clean=False, chinese=False, strip=False, lower=False):
    return normalizers.BertNormalizer(clean, chinese, strip, lower).normalize_str


def word_character_test():
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.add_tokens([AddedToken("zzq", single_word=True, normalized=False)])
    return lambda c: tokenizer.encode("zzq" + c).ids[0] == 0


def combining_class_test(nfd):
    """Gives a function that finds the class by which the library's NFD orders a character."""
    def moves(first, second):
        return first != second and nfd("a" + first + second) == "a" + second + first

    low, high = chr(0x334), chr(0x345)  # of the lowest and the highest class
    reference = {1: low, 240: high}
    for code in CODE_POINTS:
        c, k = chr(code), unicodedata.combining(chr(code))
        if k not in reference and k and nfd(c) == c and (moves(c, low) or moves(high, c)):
            reference[k] = c
    classes = sorted(reference)

    def combining_class(c):
        if not moves(c, low) and not moves(high, c):
            return 0
        below = [k for k in classes if moves(c, reference[k])]
        above = [k for k in classes if moves(reference[k], c)]
        same = [k for k in classes if k not in below and k not in above]
        assert len(same) == 1, (hex(ord(c)), same)
        return same[0]

    return combining_class


def ask():
    """Gives flags, decompositions (without what strip_accents drops), lower case, classes."""
    clean, chinese, strip, lower = (bert(**{k: True}) for k in
                                   ("clean", "chinese", "strip", "lower"))
    nfd = normalizers.NFD().normalize_str
    pre = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    is_word, combining_class = word_character_test(), combining_class_test(nfd)
    flags, decomposed, lowered, classes = [0] * 0x110000, {}, {}, {}
    for code in CODE_POINTS:
        c, f = chr(code), 0
        cleaned = clean(c)
        f |= REMOVED if cleaned == "" else SPACE if cleaned == " " else 0
        assert cleaned in ("", " ", c)
        f |= CHINESE if chinese(c) == " " + c + " " else 0
        parts = len(pre("a" + c + "a"))
        f |= {1: 0, 2: WHITE, 3: PUNCTUATION}[parts]
        f |= WORD if is_word(c) else 0
        small = lower(c)
        if small != c:
            f |= LOWERED
            lowered[code] = [ord(x) for x in small]
        full = nfd(c)
        k = combining_class(full[0])
        if len(full) == 1 and k:
            classes[code] = k
        rest = strip(c)
        if code in HANGUL:
            assert rest == full == unicodedata.normalize("NFD", c)
            f |= DECOMPOSED
        elif rest != c or k:
            f |= DECOMPOSED
            decomposed[code] = (k == 0, [ord(x) for x in rest])
        assert not (k and f & (WHITE | PUNCTUATION | CHINESE | SPACE)), hex(code)
        flags[code] = f
    kept = {x for _, rest in decomposed.values() for x in rest}
    return flags, decomposed, lowered, {c: k for c, k in classes.items() if c in kept}


def simulate(text, tables):
    """The rule of src/text/wordpiece/words.c, for the check below: accents, then lower case."""
    flags, decomposed, lowered, classes = tables
    out, run = [], []

    def flush():
        out.extend(x for _, x in sorted(run, key=lambda item: item[0]))
        run.clear()

    for c in text:
        code = ord(c)
        if code in HANGUL:
            starts, rest = True, [ord(x) for x in unicodedata.normalize("NFD", c)]
        else:
            starts, rest = decomposed.get(code, (True, [code]))
        if starts:
            flush()
        for x in rest:
            if x in classes:
                run.append((classes[x], x))
            else:
                flush()
                out.append(x)
    flush()
    return "".join(chr(y) for x in out for y in lowered.get(x, [x]))


def check(tables):
    whole = bert(strip=True, lower=True)
    for code in CODE_POINTS:
        assert simulate(chr(code), tables) == whole(chr(code)), hex(code)
    rng = random.Random(1)
    marks = [c for c in CODE_POINTS if tables[0][c] & DECOMPOSED and c not in HANGUL]
    odd = list(tables[3])
    for _ in range(300000):
        pool = rng.choice((marks, odd, CODE_POINTS, list(range(0x300, 0x370))))
        text = "".join(chr(rng.choice(rng.choice((pool, odd, marks)))) for _ in range(8))
        assert simulate(text, tables) == whole(text), [hex(ord(c)) for c in text]


def two_stage(values):
    size, seen, first, second = 1 << BLOCK_BITS, {}, [], []
    for start in range(0, 0x110000, size):
        block = tuple(values[start:start + size])
        if block not in seen:
            seen[block] = len(seen)
            second.extend(block)
        first.append(seen[block])
    return first, second


def pooled(mapping, classes):
    """Sequences in one pool; entry 0 is 'itself'. Head: ends the run before it << 31 | holds kept
    marks << 30 | length << 24 | first."""
    pool, index, places = [0], [0] * 0x110000, {}
    for code, (starts, rest) in sorted(mapping.items()):
        key = (starts, tuple(rest))
        if key not in places:
            places[key] = len(pool)
            marks = any(x in classes for x in rest)
            pool.append(starts << 31 | marks << 30 | len(rest) << 24 | (rest[0] if rest else 0))
            pool.extend(rest[1:])
        index[code] = places[key]
    assert len(pool) < 65536
    return pool, index


def c_array(kind, name, values):
    lines, line = [], ""
    for v in values:
        word = f"{v},"
        if len(line) + len(word) > 96:
            lines.append("    " + line)
            line = ""
        line += word
    lines.append("    " + line)
    return f"const {kind} {name}[{len(values)}] = {{\n" + "\n".join(lines) + "\n};\n"


def main():
    tables = ask()
    check(tables)
    flags, decomposed, lowered, classes = tables
    parts = [
        "/* unicode_table.c - what each code point becomes, as seen in the reference tokenizer.\n"
        " *\n"
        f" * Generated by tools/make_unicode_tables.py from tokenizers {tokenizers.__version__}.\n"
        " *\n * SPDX-License-Identifier: Apache-2.0 */\n"
        '#include "text/normalize/unicode.h"\n\n/* clang-format off */\n']
    first, second = two_stage(flags)
    parts.append(c_array("uint8_t", "emb_text_flags_first", first)
                 if max(first) < 256 else c_array("uint16_t", "emb_text_flags_first", first))
    parts.append(c_array("uint8_t", "emb_text_flags_second", second))
    for name, mapping in (("decomposed", decomposed),
                          ("lowered", {c: (True, s) for c, s in lowered.items()})):
        pool, index = pooled(mapping, classes)
        first, second = two_stage(index)
        assert max(first) < 256
        parts.append(c_array("uint8_t", f"emb_text_{name}_first", first))
        parts.append(c_array("uint16_t", f"emb_text_{name}_second", second))
        parts.append(c_array("uint32_t", f"emb_text_{name}_pool", pool))
    ordered = sorted(classes.items())
    parts.append(f"const uint32_t emb_text_classes_count = {len(ordered)};\n")
    parts.append(c_array("uint32_t", "emb_text_classes", [k << 24 | c for c, k in ordered]))
    with open(sys.argv[1], "w") as out:
        out.write("\n".join(parts) + "/* clang-format on */\n")
    print(f"{len(decomposed)} decomposed, {len(lowered)} lowered, {len(classes)} kept marks")


main()
