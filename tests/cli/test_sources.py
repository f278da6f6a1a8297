#!/usr/bin/env python3
"""Sources: every format gives exactly the texts it holds, whatever the buffers; bad rows fail
alone. What a source gave is seen through token ids, which are compared with those of the same text
given as JSON.

SPDX-License-Identifier: Apache-2.0
"""
import csv
import io
import json
import os
import pathlib
import random
import tempfile
import threading

from common import BERT, expect_exit, ids_of, ids_of_texts, program, read_jsonl, ready, run

BOM = b"\xef\xbb\xbf"

# (name, bytes of a .txt file, texts)
TXT = [
    ("empty file", b"", []), ("one newline", b"\n", [""]), ("two", b"a b\nc\n", ["a b", "c"]),
    ("no newline at the end", b"one\ntwo", ["one", "two"]), ("empty lines", b"\n\nx\n\n",
                                                             ["", "", "x", ""]),
    ("crlf", b"one\r\ntwo\r\n\r\nthree", ["one", "two", "", "three"]),
    ("lone cr", b"a\rb\nc\r", ["a\rb", "c\r"]), ("cr cr lf", b"a\r\r\nb", ["a\r", "b"]),
    ("bom", BOM + b"the cat\nsat", ["the cat", "sat"]), ("bom alone", BOM, []),
    ("bom inside", b"a\n" + BOM + b"b\n", ["a", "\ufeffb"]),
    ("tabs", b"\ta\t b \n", ["\ta\t b "]), ("utf-8", "naïve 東京\n…".encode(), ["naïve 東京", "…"]),
]

# (name, bytes, options, texts; None: a failed row)
CSV = [
    ("by name", b"id,text\n1,the cat\n2,sat\n", [], ["the cat", "sat"]),
    ("only column", b"words\nthe cat\n\nsat\n", [], ["the cat", "", "sat"]),
    ("number", b"a,b\nx,the cat\ny,sat\n", ["--column", "2"], ["the cat", "sat"]),
    ("named", b"a,b\nthe,x\nsat,y", ["--column", "a"], ["the", "sat"]),
    ("quotes", b'text\n"a, b"\n"he said ""no"""\n"two\nlines"\n""\n', [],
     ["a, b", 'he said "no"', "two\nlines", ""]),
    ("crlf", b'id,text\r\n1,"x y"\r\n2,z\r\n', [], ["x y", "z"]),
    ("quote inside", b'text\n5" disk\n', [], ['5" disk']),
    ("no quotes", b'text\n"a\nb"\n', ["--no-quotes"], ['"a', 'b"']),
    ("no header", b"1,cat\n2,sat\n", ["--no-header", "--column", "2"], ["cat", "sat"]),
    ("no header, first", b"cat,1\nsat,2\n", ["--no-header"], ["cat", "sat"]),
    ("blank line in a table", b"id,text\n1,cat\n\n2,sat\n\n", [], ["cat", "sat"]),
    ("blank line, first column", b"text,label\nhello,1\n\nworld,2\n\n", ["--column", "text"],
     ["hello", "world"]),
    ("blank line, first column by default", b"text,id\r\nhello,1\r\n\r\nworld,2\r\n", [],
     ["hello", "world"]),
    ("blank line, no header", b"hello,1\n\nworld,2\n", ["--no-header"], ["hello", "world"]),
    ("blank line, no header, one column", b"hello\n\nworld\n", ["--no-header"],
     ["hello", "", "world"]),
    ("quoted empty cell", b'text,id\n"",1\n""\n', [], ["", ""]),
    ("too few cells", b"id,text\n1,cat\n2\n3,sat\n", [], ["cat", None, "sat"]),
    ("more cells", b"id,text\n1,cat,9,9\n2,sat\n", [], [None, "sat"]),
    ("more cells, empty", b"id,text\n1,cat,,\n2,sat\n", [], ["cat", "sat"]),
    ("blank lines before the header", b"\r\n\nid,text\n1,cat\n", [], ["cat"]),
    ("cr inside", b"id,text\n1,c\rat\n2,sat\n3,on\r", [], [None, "sat", "on"]),
    ("cr inside quotes", b'id,text\n1,"c\rat"\n2,sat\n', [], ["c\rat", "sat"]),
    ("text after a quote", b'id,text\n1,"cat" x\n2,sat\n', [], [None, "sat"]),
    ("never closed", b'id,text\n1,cat\n2,"sat\nand more\n', [], ["cat", None]),
    ("last cell empty", b"id,text\n1,cat\n2,", [], ["cat", ""]),
    ("header only", b"id,text\n", [], []),
    ("empty", b"", [], []), ("bom", BOM + b"text,id\ncat,1\n", [], ["cat"]),
    ("quoted header", b'id,"text"\n1,cat\n', [], ["cat"]),
    ("name of digits", b"1,2,3\na,cat,c\n", ["--column", "2"], ["cat"]),
]

# (line of .jsonl, options, text or None)
JSONL = [
    ('{"text":"the cat"}', [], "the cat"),
    ('{"id":{"text":"no"},"text":"sat","z":[1,{"text":2}]}', [], "sat"),
    (r'{"text":"a\n\"b\"\u00e9\ud83d\ude00"}', [], 'a\n"b"é😀'), ('{"text":""}', [], ""),
    ('{"body":"x y"}', ["--field", "body"], "x y"),
    ('{"a":{"c":1,"b":"deep"},"b":"flat"}', ["--field", "a.b"], "deep"),
    ('{"a":{"z":{}},"x":{"b":"no"},"a2":{"b":"no"}}', ["--field", "a.b"], None),
    ('{"a":{"b":{"c":"deeper"}}}', ["--field", "a.b.c"], "deeper"),
    ('{"n":[-0.%s,1],"text":"cat"}' % ("3" * 9999), [], "cat"),
    ('{"text":%s}' % ("3" * 99), [], None),
    ('{"text":7}', [], None), ('{"text":null}', [], None), ('{"text":["x"]}', [], None),
    ('{"other":"x"}', [], None), ("[1,2]", [], None), ('"text"', [], None), ("{", [], None),
    ('{"text":"a"', [], None), ('{"text":"a"} x', [], None), ("nonsense", [], None),
    ('{"text":"a","text":"b"}', [], None), ('{"text":"a",}', [], None),
    ('{"a":"no object"}', ["--field", "a.b"], None),
]


def check_ids(tally, name, done, found, texts):
    """The ids of each text; exit 65 exactly if a row failed."""
    bad = any(text is None for text in texts)
    expect_exit(tally, done, 65 if bad else 0, what=name)
    wanted = ids_of_texts([text or "" for text in texts])
    if not tally.expect(len(found) == len(texts), f"{name}: {len(found)} rows of {len(texts)}"):
        return
    for text, ids, golden in zip(texts, found, wanted):
        tally.expect(text is None or ids == golden, f"{name}: ids differ for {str(text)[:40]!r}")


def check_table(tally, folder):
    """Small files of every format."""
    for name, data, texts in TXT:
        (folder / "t.txt").write_bytes(data)
        check_ids(tally, f"txt, {name}", *ids_of("-i", folder / "t.txt"), texts)
        check_ids(tally, f"txt on a pipe, {name}", *ids_of("-i", "-", stdin=data), texts)
    for name, data, options, texts in CSV:
        (folder / "t.csv").write_bytes(data)
        check_ids(tally, f"csv, {name}", *ids_of("-i", folder / "t.csv", *options), texts)
        (folder / "t.tsv").write_bytes(data.replace(b",", b"\t"))
        tabbed = [text and text.replace(",", "\t") for text in texts]
        check_ids(tally, f"tsv, {name}", *ids_of("-i", folder / "t.tsv", *options), tabbed)
    for line, options, text in JSONL:
        key = options[1] if options else "text"
        good = json.dumps({"text": "before"})
        for part in reversed(key.split(".")[:-1] if options else []):
            good = '{"%s":%s}' % (part, good)
        good = good.replace('"text"', '"%s"' % key.split(".")[-1])
        if "." in key:
            inner = json.dumps("before")
            for part in reversed(key.split(".")):
                inner = '{"%s":%s}' % (part, inner)
            good = inner
        data = f"{good}\n{line}\n\n{good}".encode()
        done, found = ids_of("-i", "-", "--input-format", "jsonl", *options, stdin=data)
        check_ids(tally, f"jsonl {line}", done, found, ["before", text, "before"])


def check_files(tally, folder):
    """Several files, whole files, formats that do not mix, files that are not there."""
    (folder / "a.txt").write_bytes(b"one\ntwo")
    (folder / "b.txt").write_bytes(BOM + b"three\n")
    (folder / "c.txt").write_bytes(b"")
    (folder / "d.csv").write_bytes(b"text\nfour\n")
    paths = ["-i", folder / "a.txt", "-i", folder / "c.txt", "-i", folder / "b.txt"]
    check_ids(tally, "three files", *ids_of(*paths), ["one", "two", "three"])
    check_ids(tally, "three files, whole", *ids_of(*paths, "--whole-file"),
              ["one\ntwo", "", "three\n"])
    check_ids(tally, "file and pipe", *ids_of(*paths, "-i", "-", stdin=b"z"),
              ["one", "two", "three", "z"])
    done, _ = ids_of("-i", folder / "a.txt", "-i", folder / "d.csv")
    expect_exit(tally, done, 64, "--input-format")
    check_ids(tally, "csv by option", *ids_of("-i", folder / "d.csv", "--input-format", "txt"),
              ["text", "four"])
    for name, code in [("none.txt", 66), ("", 66), ("t.txt.gz", 64), ("t.json", 64)]:
        expect_exit(tally, ids_of("-i", folder / "a.txt", "-i", folder / name)[0], code)
    hidden = folder / "hidden.txt"
    hidden.write_text("x")
    hidden.chmod(0)
    if os.geteuid() == 0:
        tally.skip("an unreadable file: root reads everything")
    else:
        expect_exit(tally, ids_of("-i", hidden)[0], 66, "hidden.txt")
    for column in ["nothing", "9", "0"]:
        done, _ = ids_of("-i", folder / "d.csv", "--column", column)
        expect_exit(tally, done, 64, column)
    (folder / "e.csv").write_bytes(b"a,b\n1,2\n")
    expect_exit(tally, ids_of("-i", folder / "e.csv")[0], 64, "--column")
    done, _ = ids_of("-i", folder / "e.csv", "--no-header", "--column", "a")
    expect_exit(tally, done, 64, "number")
    done, _ = ids_of("-i", folder / "d.csv", "--field", "a..b", "--input-format", "jsonl")
    expect_exit(tally, done, 64, "single dots")
    done = run("tokenize", BERT, "-i", "-", stdin=None, preexec_fn=lambda: os.close(0))
    expect_exit(tally, done, 66, "standard input")


def check_messages(tally):
    """The message of a failed row names file and line, and the reason."""
    for data, form, line, words in [
            (b'{"text":"a"}\n\n{"no":1}\n', "jsonl", "line 3", "missing"),
            (b'{"text":"a"}\n{"text":1}\n', "jsonl", "line 2", "not a string"),
            (b'{"text":"a"}\n{"text:1}\n', "jsonl", "line 2", "standard input"),
            (b'id,text\n1,"a\nb"\n3\n', "csv", "line 4", "1 cell,"),
            (b'id,text\n1,"a\nb"x\n3,4\n', "csv", "line 2", "closing quote"),
            (b'id,text\n1,a\n2,"b\nc\n', "csv", "line 3", "never closed")]:
        done = run("tokenize", BERT, "-i", "-", "--input-format", form, stdin=data)
        expect_exit(tally, done, 65, line, words, "standard input")


def check_cut_names(tally):
    """A long name is cut between two of its characters, in whichever place the cut falls."""
    for shift in "", "a", "ab":
        name, table = shift + "日本語の見出し" * 9, "id,b\n1,2\n"
        for data, options, code in [
                ('{"other":1}\n', ("jsonl", "--field", name), 65),
                (table, ("csv", "--column", name), 64),
                (f"{name},{name}\n1,2\n", ("csv", "--column", name), 64),
                (f"{name},\"b\"x\n1,2\n", ("csv",), 65)]:
            done = run("tokenize", BERT, "-i", "-", "--input-format", *options,
                       stdin=data.encode())
            expect_exit(tally, done, code, "日本語")
            message = done.stderr.decode("utf-8", "replace")
            tally.expect("\ufffd" not in message, f"{done.stderr!r}")
    done = run("tokenize", BERT, "-i", "日本語の見出し" * 9 + ".txt")
    tally.expect("\ufffd" not in done.stderr.decode("utf-8", "replace"), f"{done.stderr!r}")


def check_chunked_pipe(tally):
    """A pipe that gives a few bytes at a time gives the same texts."""
    texts = ["the cat\tsat", "", "x" * 300, "naïve café 東京 " * 20]
    forms = {"txt": "\r\n".join(texts).encode(),
             "jsonl": "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()}
    table = io.StringIO()
    csv.writer(table).writerows([["id", "text"]] + [[i, t] for i, t in enumerate(texts)])
    forms["csv"] = table.getvalue().encode()
    draw = random.Random(5)
    for form, data in forms.items():
        reading, writing = os.pipe()

        def feed(end=writing, left=data):
            while left:
                size = draw.randrange(1, 8)
                os.write(end, left[:size])
                left = left[size:]
            os.close(end)

        feeder = threading.Thread(target=feed)
        feeder.start()
        with os.fdopen(reading, "rb") as pipe:
            done = program.subprocess.run(
                [str(program.PROGRAM), "tokenize", str(BERT), "-i", "-", "--input-format", form,
                 "--json", "--no-specials"], stdin=pipe, capture_output=True, timeout=120,
                check=False)
        feeder.join()
        check_ids(tally, f"slow pipe, {form}", done,
                  [line["ids"] for line in read_jsonl(done.stdout)], texts)


def check_large(tally, folder):
    """Texts larger than every buffer, and ends of lines at the ends of blocks (160 and 80 KiB)."""
    draw = random.Random(11)
    alphabet = ["the ", "cat ", "sat, ", "naïve ", "東", '"', "\\", "a", "…", "\t"]

    def text(length):
        return "".join(draw.choices(alphabet, k=length))

    texts = [text(3), text(200_000), "", text(10), text(100_000), text(5)]
    (folder / "l.txt").write_text("\r\n".join(texts), newline="")
    check_ids(tally, "large txt", *ids_of("-i", folder / "l.txt"), texts)
    with open(folder / "l.jsonl", "w", encoding="utf-8") as out:
        for number, item in enumerate(texts):
            out.write(json.dumps({"n": [number] * 50, "text": item, "z": item},
                                 ensure_ascii=number % 2 == 0) + "\n")
    check_ids(tally, "large jsonl", *ids_of("-i", folder / "l.jsonl"), texts)
    with open(folder / "l.csv", "w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["z", "text", "id"]] + [[t, t + "\nx", 1] for t in texts])
    check_ids(tally, "large csv", *ids_of("-i", folder / "l.csv"), [t + "\nx" for t in texts])
    for edge in (80 << 10, 160 << 10):
        for shift in range(-3, 4):
            data = b"a" * (edge + shift) + b"\r\nthe cat\r\nsat\r\n"
            first = "a" * (edge + shift)
            check_ids(tally, f"edge {edge}{shift:+}", *ids_of("-i", "-", stdin=data),
                      [first, "the cat", "sat"])
            head = b'text\n"' + b"a" * (edge + shift) + b'"" b"\r\ncat\r\n'
            check_ids(tally, f"csv edge {edge}{shift:+}",
                      *ids_of("-i", "-", "--input-format", "csv", stdin=head),
                      [first + '" b', "cat"])


def check_invalid_utf8(tally):
    """Bytes that are not UTF-8 count as Python's replacement of them, in every format."""
    for data in [b"a \xff b", b"\xe2\x82", b"x\xc0\xafy", b"\xed\xa0\x80", b"\xf0\x9f\x98 z"]:
        texts = [data.decode(errors="replace")]
        check_ids(tally, f"txt {data}", *ids_of("-i", "-", stdin=data), texts)
        check_ids(tally, f"csv {data}",
                  *ids_of("-i", "-", "--input-format", "csv", stdin=b"text\n" + data), texts)
        check_ids(tally, f"jsonl {data}",
                  *ids_of("-i", "-", "--input-format", "jsonl", stdin=b'{"text":"%s"}' % data),
                  texts)


def check_tokenize(tally, folder):
    """The forms of tokenize's output, prompts, and -o."""
    bare = ids_of_texts(["the cat", ""])
    specials = run("tokenize", BERT, "-i", "-", stdin=b"the cat\n\n").stdout.decode().split("\n")
    before, after = specials[1].split()
    tally.expect(specials[0].split() == [before, *map(str, bare[0]), after], "special tokens")
    plain = run("tokenize", BERT, "-i", "-", "--no-specials", stdin=b"the cat\n\n").stdout
    tally.expect(plain == " ".join(map(str, bare[0])).encode() + b"\n\n", f"plain {plain}")
    prompted = run("tokenize", BERT, "-i", "-", "--no-specials", "--prompt", "query: ", "--json",
                   stdin=b"the cat")
    wanted = ids_of_texts(["query: the cat"])[0]
    tally.expect(read_jsonl(prompted.stdout) == [{"index": 0, "ids": wanted}], "--prompt")
    out = folder / "ids.jsonl"
    expect_exit(tally, run("tokenize", BERT, "-i", "-", "-o", out, "--json", stdin=b"the cat"), 0)
    tally.expect(len(read_jsonl(out.read_bytes())) == 1, "tokenize -o")
    expect_exit(tally, run("tokenize", BERT, "-i", out, "-o", out), 64, "overwritten")
    expect_exit(tally, run("tokenize", BERT, "-i", "-", "-o", folder / "no" / "x"), 73)
    with open("/dev/full", "wb") as full:
        expect_exit(tally, run("tokenize", BERT, "-i", "-", stdin=b"the cat\n", stdout=full), 74,
                    "standard output")


def main():
    """All of it."""
    tally = program.Tally()
    if ready(tally):
        with tempfile.TemporaryDirectory(prefix="embound-cli-") as name:
            folder = pathlib.Path(name)
            check_table(tally, folder)
            check_files(tally, folder)
            check_messages(tally)
            check_cut_names(tally)
            check_chunked_pipe(tally)
            check_large(tally, folder)
            check_invalid_utf8(tally)
            check_tokenize(tally, folder)
    tally.end()


if __name__ == "__main__":
    main()
