#!/usr/bin/env python3
"""search, eval and bench: results against plain Python, and what they refuse.

SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import pathlib
import random
import re
import shutil
import struct
import tempfile

from common import BERT, MPNET, expect_exit, program, read_jsonl, read_npy, ready, run

WORDS = "the cat sat on mat moon looked river stone walks slowly [MASK] naïve".split()


def texts_of(count, seed=1):
    """Different short texts."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) for _ in range(count)]


def vectors_of(folder, texts, model=BERT, *options):
    """Vectors of texts, through encode."""
    source, out = folder / "v.jsonl", folder / "v.npy"
    source.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    done = run("encode", model, "-i", source, "-o", out, *options)
    assert done.returncode == 0, done.stderr
    return read_npy(out)[2]


def cosine(a, b):
    """Cosine of two vectors."""
    dot = math.fsum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def ranks(values):
    """Ranks from 1; equal values share their mean."""
    order = sorted(values)
    first = {}
    for place, value in enumerate(order):
        first.setdefault(value, place)
    return [first[v] + (order.count(v) - 1) / 2 + 1 for v in values]


def pearson(a, b):
    """Correlation."""
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    ab = math.fsum((x - mean_a) * (y - mean_b) for x, y in zip(a, b))
    aa = math.fsum((x - mean_a) ** 2 for x in a)
    bb = math.fsum((y - mean_b) ** 2 for y in b)
    return ab / math.sqrt(aa * bb)


def write_npy(path, rows, descr="<f4", order="False", shape=None, version=1):
    """An .npy file as others write it, right or wrong."""
    dim = len(rows[0]) if rows else 4
    shape = shape or f"({len(rows)}, {dim})"
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    size = 10 if version == 1 else 12
    header += b" " * (-(len(header) + size + 1) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    data = b"".join(struct.pack(f"<{dim}f", *row) for row in rows)
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + header + data)


def check_search(tally, folder):
    """Nearest rows, scores and texts against plain Python."""
    texts = texts_of(3000) + ["last\tline with\na break", "東" * 60]
    vectors = vectors_of(folder, texts)
    source, index = folder / "v.jsonl", folder / "v.npy"
    queries = ["the moon looked", "東東東", texts[17]]
    done = run("search", BERT, "--index", index, "--texts", source, "-k", "5", "--json", *queries)
    if not expect_exit(tally, done, 0):
        return
    hits = read_jsonl(done.stdout)
    tally.expect(len(hits) == 15, f"{len(hits)} hits")
    query_vectors = vectors_of(folder, queries)
    vectors_of(folder, texts)
    for number, query in enumerate(queries):
        scores = [cosine(query_vectors[number], row) for row in vectors]
        best = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:5]
        found = [h for h in hits if h["query"] == query]
        for place, hit in enumerate(found):
            tally.expect(hit["rank"] == place + 1, "rank")
            tally.expect(abs(hit["score"] - scores[best[place]]) < 2e-6,
                         f"{query}: score {hit['score']}, wanted {scores[best[place]]}")
            tally.expect(abs(scores[hit["row"]] - hit["score"]) < 2e-6, "row and score")
            text = texts[hit["row"]].translate({9: " ", 10: " "})
            text = text if len(text.encode()) < 120 else text[:38] + "..."
            tally.expect(hit["text"] == text, f"text {hit['text']!r}, wanted {text!r}")
    for shift in "", "a", "ab":  # a long query is cut between two characters, or this raises
        run("search", BERT, "--index", index, shift + "東" * 200).stdout.decode()
    table = run("search", BERT, "--index", index, "--texts", source, texts[17]).stdout.decode()
    lines = table.splitlines()
    tally.expect(lines[0] == texts[17] and len(lines) == 4, f"table {lines}")
    tally.expect(re.match(r" +1\.0000 +\d+  \S", lines[1]), f"first line {lines[1]}")
    plain = run("search", BERT, "--index", index, "--memory", "16MiB", "--stats",
                folder / "s.json", "river")
    expect_exit(tally, plain, 0)
    tally.expect(json.loads((folder / "s.json").read_text())["texts"] == 1, "search --stats")
    expect_exit(tally, run("search", BERT, "--index", index, "--memory", "1MiB", "river"), 78,
                "--memory")
    scaled = folder / "scaled.npy"
    write_npy(scaled, [[3 * v for v in vectors[0]], [math.nan] * 32, [0.0] * 32, vectors[1]],
              version=2)
    for score, best in [("dot", 3), ("cosine", 1)]:
        done = run("search", BERT, "--index", scaled, "--score", score, "-k", "9", "--json",
                   texts[0])
        found = read_jsonl(done.stdout)
        tally.expect(len(found) == 3 and found[0]["row"] == 0
                     and abs(found[0]["score"] - best) < 1e-4, f"--score {score}: {found}")


def check_search_refuses(tally, folder):
    """Indexes that are none, or not of this model."""
    index, row = folder / "i.npy", [0.5] * 32
    (folder / "t.txt").write_text("one\ntwo\nthree\n")
    bad = {"descr": dict(descr="<f8"), "order": dict(order="True"), "shape 1": dict(shape="(2,)"),
           "shape 3": dict(shape="(2, 4, 8)"), "short": dict(shape="(3, 32)"),
           "huge": dict(shape="(18446744073709551615, 32)"), "dim 0": dict(shape="(2, 0)"),
           "negative": dict(shape="(-2, 32)"), "wide": dict(shape="(1, 64)")}
    for name, change in bad.items():
        write_npy(index, [row, row], **change)
        done = run("search", BERT, "--index", index, "q")
        expect_exit(tally, done, 65, "i.npy", what=name)
    write_npy(index, [row, row], shape="(-2, 32)")
    expect_exit(tally, run("search", BERT, "--index", index, "q"), 65, "negative")
    write_npy(index, [row, row])
    good = index.read_bytes()
    for version in (b"\x03\x00", b"\x01\x01", b"\x00\x00"):
        index.write_bytes(good[:6] + version + good[8:])
        expect_exit(tally, run("search", BERT, "--index", index, "q"), 65,
                    f"version {version[0]}.{version[1]} of .npy is not supported")
    index.write_bytes(good.replace(b"'fortran_order': False, ", b"'fortran_order':False,  "))
    expect_exit(tally, run("search", BERT, "--index", index, "q"), 0, what="no space")
    for data in [b"", b"text", b"\x93NUMPY\x01\x00\xff\xff{",
                 b"\x93NUMPY\x09\x00\x10\x00" + b" " * 99]:
        index.write_bytes(data)
        expect_exit(tally, run("search", BERT, "--index", index, "q"), 65, "i.npy")
    expect_exit(tally, run("search", BERT, "--index", folder / "no.npy", "q"), 66, "no.npy")
    write_npy(index, [row, row])
    expect_exit(tally, run("search", BERT, "--index", index, "--texts", folder / "t.txt", "q"), 65,
                "3 texts", "2 rows")
    expect_exit(tally, run("search", BERT, "--index", index, "--texts", folder / "n.txt", "q"), 66)
    expect_exit(tally, run("search", MPNET, "--index", index, "q"), 65, "32", "48")
    expect_exit(tally, run("search", BERT, "--index", index, *["q"] * 65), 64, "64")
    expect_exit(tally, run("search", BERT, "--index", index, *["q"] * 64), 0)


def write_pairs(path, pairs, form):
    """Scored pairs in one of the forms that eval reads."""
    lines = {"sts": [f"genre\tfile\t2012\t{n}\t{s}\t{a}\t{b}\textra" for n, (s, a, b) in
                     enumerate(pairs)],
             "csv": ["sentence1,sentence2,score"] +
                    ['"{}","{}",{}'.format(a.replace('"', '""'), b.replace('"', '""'), s)
                     for s, a, b in pairs],
             "tsv": ["x\tscore\tsentence1\tsentence2"] + [f"1\t{s}\t{a}\t{b}" for s, a, b in pairs]}
    path.write_text("\n".join(lines[form]) + "\n")


def check_eval(tally, folder):
    """Correlations and comparison of two models against plain Python."""
    draw = random.Random(3)
    texts = texts_of(240, seed=2)
    pairs = [(draw.randrange(11) / 2, texts[2 * n], '"' * (n % 3 == 0) + texts[2 * n + 1])
             for n in range(120)]
    first = vectors_of(folder, [p[1] for p in pairs])
    second = vectors_of(folder, [p[2] for p in pairs])
    cosines = [cosine(a, b) for a, b in zip(first, second)]
    scores = [p[0] for p in pairs]
    for form in ("sts", "csv", "tsv"):
        path = folder / f"pairs.{form}"
        write_pairs(path, pairs, form)
        done = run("eval", BERT, "-i", path, "--json", "-q")
        if not expect_exit(tally, done, 0):
            continue
        result = json.loads(done.stdout)
        tally.expect(result["pairs"] == 120, f"{form}: {result['pairs']} pairs")
        tally.expect(abs(result["pearson"] - 100 * pearson(scores, cosines)) < 1e-3,
                     f"{form}: Pearson {result['pearson']}")
        wanted = 100 * pearson(ranks(scores), ranks(cosines))
        tally.expect(abs(result["spearman"] - wanted) < 2e-2,
                     f"{form}: Spearman {result['spearman']}, wanted {wanted}")
    table = run("eval", BERT, folder / "pairs.sts").stdout.decode()
    tally.expect(re.search(r"Spearman +-?\d+\.\d\d\n", table), f"table {table}")
    same = run("eval", BERT, folder / "pairs.sts", "--against", BERT, "--json", "--stats",
               folder / "s.json")
    expect_exit(tally, same, 0)
    result = json.loads(same.stdout)
    tally.expect(abs(result["cosine_min"] - 1) < 1e-6 and abs(result["cosine_mean"] - 1) < 1e-6,
                 f"a model against itself: {result}")
    tally.expect(result["against_spearman"] == result["spearman"] and not result["spearman_delta"],
                 f"a model's Spearman against itself: {result}")
    tally.expect(json.loads((folder / "s.json").read_text())["texts"] == 240, "eval --stats")
    done = run("eval", BERT, folder / "pairs.sts", "--against", MPNET)
    expect_exit(tally, done, 64, "48", "32")
    for models in [(BERT, MPNET), (MPNET, BERT)]:
        command = ["eval", models[0], folder / "pairs.sts", "--against", models[1], "--dim", "32"]
        small = run(*command, "-m", "1MiB")
        expect_exit(tally, small, 78, "--memory")
        minimum = re.search(r"--memory (\S+)", small.stderr.decode())
        expect_exit(tally, run(*command, "-m", minimum[1] if minimum else "1"), 0)
    narrow = run("eval", BERT, folder / "pairs.sts", "--against", MPNET, "--dim", "32", "--json")
    expect_exit(tally, narrow, 0)
    other = [cosine(a, b) for a, b in zip(
        vectors_of(folder, [t for p in pairs for t in p[1:]], BERT, "--dim", "32"),
        vectors_of(folder, [t for p in pairs for t in p[1:]], MPNET, "--dim", "32"))]
    result = json.loads(narrow.stdout)
    tally.expect(abs(result["cosine_mean"] - math.fsum(other) / len(other)) < 1e-5, "mean cosine")
    alone = json.loads(run("eval", MPNET, folder / "pairs.sts", "--dim", "32", "--json").stdout)
    tally.expect(abs(result["against_spearman"] - alone["spearman"]) < 1e-3 and
                 abs(result["spearman_delta"] - alone["spearman"] + result["spearman"]) < 1e-3,
                 f"Spearman of the other model: {result}, alone {alone}")
    tally.expect(abs(result["cosine_min"] - min(other)) < 1e-5, "minimum cosine")


def check_eval_tables(tally, folder):
    """Columns, header rows and rows that are no good."""
    path = folder / "p.csv"
    body = "the cat,4,x,moon\nriver,1,x,stone\nmat,2.5,x,the mat\n"
    same = None
    for head, options in [("", ["--columns", "2,1,4"]), ("a,b,c,d\n", ["--columns", "b,a,d"]),
                          ("a,b,c,d\n", ["--columns", "2,1,4"]),
                          ("", ["--columns", "2,4,1", "--no-header"])]:
        path.write_text(head + body)
        done = run("eval", BERT, "-i", path, "--json", *options)
        expect_exit(tally, done, 0, what=f"eval {head!r} {options}")
        same = same or done.stdout
        tally.expect(done.stdout == same and b'"pairs":3' in done.stdout, f"{head!r} {options}")
    for options in [[], ["--columns", "1,2"], ["--columns", "2,1,9"], ["--columns", "b,a,zz"],
                    ["--columns", "2,1,1"], ["--columns", "2,1,4,3"], ["--columns", "1,2,4"]]:
        expect_exit(tally, run("eval", BERT, "-i", path, *options), 64, "--columns")
    path.write_text("score,sentence1,sentence2\n4,a,b\nx,the cat,c\n2,only one\n\n1,d,e\n3,,f\n"
                    '2,"g" h,i\n')
    done = run("eval", BERT, "-i", path, "--json")
    expect_exit(tally, done, 65, "line 3", "not a number", "line 4", "line 8")
    tally.expect(json.loads(done.stdout)["pairs"] == 3, f"good pairs {done.stdout}")
    path.write_text("score,sentence1,sentence2\n4,a,b\n")
    expect_exit(tally, run("eval", BERT, "-i", path), 65, "fewer than two")
    path.write_text("")
    expect_exit(tally, run("eval", BERT, "-i", path), 65, "empty")
    expect_exit(tally, run("eval", BERT, "-i", folder / "none.csv"), 66, "none.csv")
    path.write_text("score,sentence1,sentence2\n" + "1,a,b\n2,c,d\n" * 100)
    expect_exit(tally, run("eval", BERT, "-i", path, "--memory", "2MiB"), 78, "--memory")


def check_tokenize(tally, folder):
    """A failed row has no ids, unlike an empty text."""
    path = folder / "t.jsonl"
    path.write_text('{"text":""}\n{"text":"cat"\n{"no":1}\n{"text":"cat"}\n')
    empty, broken, lacking, cat = run("tokenize", BERT, "-i", path).stdout.decode().splitlines()
    tally.expect(len(empty.split()) == 2 and len(cat.split()) == 3, f"good {empty!r} {cat!r}")
    tally.expect(broken == lacking == "", f"failed rows: {broken!r} {lacking!r}")
    done = run("tokenize", BERT, "-i", path, "--json")
    expect_exit(tally, done, 65, "row 1 failed", "row 2 failed")
    rows = read_jsonl(done.stdout)
    tally.expect([row["index"] for row in rows] == [0, 1, 2, 3], "numbers")
    tally.expect([row["ids"] is None for row in rows] == [False, True, True, False], "null")
    tally.expect([row.get("error") for row in rows] == [None] + ["EMB_BAD_TEXT"] * 2 + [None],
                 f"errors {rows}")
    path = folder / "t.csv"  # blocks of input end inside failed rows too
    path.write_text("text,b\n" + 'the cat,x\n"the cat sat" on,x\n' * 20_000)
    lines = run("tokenize", BERT, "-i", path).stdout.decode().splitlines()
    tally.expect(len(lines) == 40_000 and all(lines[0::2]) and not any(lines[1::2]), "blocks")
    path.write_text("text\n" + '"' + "cat " * 200_000 + '"x\ncat\n')
    rows = read_jsonl(run("tokenize", BERT, "-i", path, "--json").stdout)
    tally.expect(len(rows) == 2 and rows[0]["error"] == "EMB_BAD_TEXT" and len(rows[1]["ids"]) == 3,
                 "a long text that failed")


def check_tokens_without_rows(tally, folder):
    """A token that a model's files list, without a row in its table: its texts have no vector."""
    model = folder / "model"
    shutil.copytree(BERT, model)
    path = model / "tokenizer_config.json"
    config = json.loads(path.read_text())
    for key in ("extra_special_tokens", "additional_special_tokens"):
        path.write_text(json.dumps({**config, key: ["nowhere"]}))
        done = run("tokenize", model, "-i", "-", stdin=b"nowhere\n")
        expect_exit(tally, done, 65, "has no row", what=key)
    # blank lines at the end of vocab.txt are entries without a row, and of no text
    path.write_text(json.dumps(config))
    (model / "tokenizer.json").unlink()
    words = (model / "vocab.txt").read_bytes()
    asked = ["tokenize", model, "-i", "-", "--json"]
    whole = run(*asked, stdin=b"the cat  foo\n\n")
    expect_exit(tally, whole, 0)
    for tail in (b"\n", b"\n\n", b"  \n\r\n", b"\n \n\t\n"):
        (model / "vocab.txt").write_bytes(words + tail)
        done = run(*asked, stdin=b"the cat  foo\n\n")
        expect_exit(tally, done, 0, what=f"vocab.txt and {tail}")
        tally.expect(done.stdout == whole.stdout, f"ids with {tail}: {done.stdout}")
    (model / "vocab.txt").write_bytes(words + b"\nfoo\n")
    expect_exit(tally, run(*asked, stdin=b"the cat\n"), 65, "id 1001 has no row")


def check_bench(tally, folder):
    """bench with its own texts and with the user's."""
    done = run("bench", BERT, "--json")
    expect_exit(tally, done, 0)
    stats = json.loads(done.stdout)
    again = json.loads(run("bench", BERT, "--json").stdout)
    tally.expect(stats["texts"] == 512 and stats["tokens"] == again["tokens"], "own texts")
    (folder / "b.txt").write_text("the cat\nsat\n")
    done = run("bench", BERT, "-i", folder / "b.txt", "--repeat", "3", "--json", "--memory",
               "16MiB")
    tally.expect(json.loads(done.stdout)["texts"] == 6, "--repeat")
    table = run("bench", BERT).stdout
    for words in [b"tokenizing", b"encoding", b"a second", b"memory observed"]:
        tally.expect(words in table, f"bench lacks {words}")
    expect_exit(tally, run("bench", BERT, "-i", folder / "none.txt"), 66)


def main():
    """All of it."""
    tally = program.Tally()
    if ready(tally):
        for check in [check_search, check_search_refuses, check_eval, check_eval_tables,
                      check_tokenize, check_tokens_without_rows, check_bench]:
            with tempfile.TemporaryDirectory(prefix="embound-cli-") as name:
                check(tally, pathlib.Path(name))
    tally.end()


if __name__ == "__main__":
    main()
