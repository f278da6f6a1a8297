#!/usr/bin/env python3
"""Inputs from the field that are not what they seem: encodings, binary files, line ends, tables of
another form, quotes that are never closed, fields that are not there. Nothing of them is encoded
without a word, and each message names the place and the way out.

SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import pathlib
import struct
import tempfile

from common import BERT, expect_exit, ids_of_texts, program, read_jsonl, read_npy, ready, run

WORDS = b"the cat sat on the mat\n"
UNICODE = "hello\nworld, na\u00efve \u6771\u4eac\n"

# (name, bytes, words of the message)
NO_TEXT = [
    ("UTF-16 with a mark", UNICODE.encode("utf-16"), ["UTF-16", "iconv -f UTF-16 -t UTF-8"]),
    ("UTF-16 of the other order", b"\xfe\xff" + UNICODE.encode("utf-16-be"), ["iconv -f UTF-16"]),
    ("UTF-16LE without a mark", UNICODE.encode("utf-16-le"), ["iconv -f UTF-16LE"]),
    ("UTF-16BE without a mark", UNICODE.encode("utf-16-be"), ["iconv -f UTF-16BE"]),
    ("UTF-32 with a mark", UNICODE.encode("utf-32"), ["iconv -f UTF-32 "]),
    ("UTF-32BE with a mark", b"\0\0\xfe\xff" + UNICODE.encode("utf-32-be"), ["iconv -f UTF-32 "]),
    ("UTF-32LE without a mark", UNICODE.encode("utf-32-le"), ["iconv -f UTF-32LE"]),
    ("UTF-32BE without a mark", UNICODE.encode("utf-32-be"), ["iconv -f UTF-32BE"]),
    ("UTF-16, mostly Chinese", ("\u6771\u4eac" * 40 + "\n").encode("utf-16-le"), ["iconv"]),
    ("a NUL", WORDS + b"a\0b\n" + WORDS, ["byte 25 is NUL", "tr -d '\\000'"]),
    ("zip", b"PK\x03\x04\x14\0\0\0" + WORDS, ["archive", "office"]),
    ("pdf", b"%PDF-1.7\n" + WORDS, ["PDF", "pdftotext"]),
    ("gzip", b"\x1f\x8b\x08\0\0\0\0\0" + WORDS, ["zcat"]),
    ("zstd", b"\x28\xb5\x2f\xfd\x24" + WORDS, ["zstdcat"]),
    ("bzip2", b"BZh91AY&SY\0\0" + WORDS, ["bzcat"]),
    ("xz", b"\xfd7zXZ\0\0\x04" + WORDS, ["xzcat"]),
    ("parquet", b"PAR1\x15\x04\x15\0" + WORDS + b"PAR1", ["encode_parquet"]),
    ("arrow", b"ARROW1\0\0" + WORDS, ["Arrow"]),
    ("npy", b"\x93NUMPY\x01\0v\0{'descr': '<f4'}", ["vectors"]),
    ("safetensors", struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[1]}}', ["tensors"]),
    ("office of old", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + WORDS, ["office"]),
    ("sqlite", b"SQLite format 3\0" + WORDS, ["export"]),
    ("ELF", b"\x7fELF\x02\x01\x01\0" + WORDS, ["program"]),
    ("png", b"\x89PNG\r\n\x1a\n" + WORDS, ["picture"]),
    ("jpeg", b"\xff\xd8\xff\xe0" + WORDS, ["picture"]),
    ("gif", b"GIF89a\0" + WORDS, ["picture"]),
    ("pickle", b"\x80\x04\x95\x10\0\0\0" + WORDS, ["binary"]),
]

# Texts that begin like something else, and are texts.
TEXT = [b"BZh is no word\n", b"PAR1 it says\n", b"GIF89a, a format\n", b"{\n", b"RIFF raff\n",
        b"PK is short\n", b"\xef\xbb\xbfPAR1\n", b"GGUF or not\n", b"ORC\n"]

SUFFIXES = ("gz tgz bz2 xz zst zip 7z tar pdf doc docx xls xlsx pptx odt parquet arrow "
            "feather avro orc npy npz safetensors gguf onnx pt pkl h5 db sqlite png jpg mp3 "
            "mp4 exe json").split()

# (name, bytes, options, exit code, words of the message)
TABLES = [
    ("semicolons", b"id;text\n1;hello\n2;world\n", [], 64,
     ["line 1", '"id;text"', "--delimiter ';'"]),
    ("semicolons, column named", b"id;text\n1;hello\n", ["--column", "text"], 64,
     ['"id;text"', "--delimiter ';'"]),
    ("semicolons and a comma", b"id;text, all;label\n1;a;b\n", [], 64,
     ['"id;text", " all;label"', "--delimiter ';'"]),
    ("bars", b"id|text\n1|hello\n", [], 64, ['"id|text"', "--delimiter '|'"]),
    ("tabs", b"id\ttext\n1\thello\n", [], 64, ["id?text", "--input-format tsv"]),
    ("semicolons in quotes", b'"id";"text"\n1;"hello"\n', [], 64, ["line 1", "--delimiter ';'"]),
    ("semicolons, no header", b"1;hello\n2;world\n", ["--no-header"], 64,
     ["line 1", "--delimiter ';'"]),
    ("no such column", b"id,title,body\n1,a,b\n", ["--column", "words"], 64,
     ['"words"', "3", '"id", "title", "body"', "--column"]),
    ("a column beyond", b"id,title,body\n1,a,b\n", ["--column", "5"], 64,
     ["line 1: --column 5", "has 3", '"id", "title", "body"', "from 1 to 3"]),
    ("column 0", b"id;title\n1;a\n", ["--column", "0"], 64,
     ["line 1: --column 0", "from 1 to 1", "--delimiter ';'"]),
    ("a column beyond, no header", b"1,a\n", ["--no-header", "--column", "5"], 65,
     ["line 1", "2 cells", "cell 5 (--column)"]),
    ("no column text", b"id,title,body\n1,a,b\n", [], 64, ['"id", "title", "body"', "--column"]),
    ("names that are not UTF-8", b"id,t\xe9xt\n1,a\n", [], 64, ['"id", "t?xt"']),
    ("names in UTF-8", "id,t\u00e9xt\n1,a\n".encode(), [], 64, ['"id", "t\u00e9xt"']),
    ("two of a name", b"text,id,text\na,1,b\n", [], 64, ["columns 1 and 3", "--column NUMBER"]),
    ("two of a name, named", b"id,a,a\n1,x,y\n", ["--column", "a"], 64, ["columns 2 and 3"]),
    ("CR alone", b"text,id\ra,1\rb,2\r", [], 65, ["line 1", '"text", "id"', "tr '\\r' '\\n'"]),
    ("CR alone, unknown name", b"words\ra\rb\r", [], 65, ["line 1", '"words"', "tr '\\r' '\\n'"]),
    ("a cell too many", b"id,text\n1,hello, world and more\n2,fine\n", [], 65,
     ["line 2", "3 cells", '"id", "text"']),
    ("a cell too many, no header", b"1,hello\n2,hello, world\n", ["--no-header", "--column", "2"],
     65, ["line 2", "3 cells", "2"]),
    ("a cell too few", b"id,text\n1\n2,fine\n", [], 65, ["line 2", "1 cell,"]),
    ("never closed", b'id,text\n1,ok\n2,"never closed\n3,lost\n4,lost too\n', [], 65,
     ["line 3 to line 5", "--no-quotes"]),
    ("a header never closed", b'id,"text\n1,a\n2,b\n', [], 65,
     ["line 1 to line 3", "never closed"]),
    ("text after a quote", b'id,text\n1,"a" b\n2,c\n', [], 65, ["line 2", "--no-quotes"]),
]


def encode(folder, data, *options, suffix="txt", name="f"):
    """encode of a file with these bytes; gives the process and the rows, or None."""
    path, out = folder / f"{name}.{suffix}", folder / "o.npy"
    path.write_bytes(data)
    out.unlink(missing_ok=True)
    done = run("encode", BERT, "-i", path, "-o", out, *options)
    return done, read_npy(out)[2] if out.exists() else None


def check_no_text(tally, folder):
    """Every kind of input, by name and on a pipe, refuses what is no text."""
    for name, data, words in NO_TEXT:
        done, rows = encode(folder, data)
        expect_exit(tally, done, 65, "f.txt", *words, what=name)
        tally.expect(rows is None, f"{name}: an output in spite of it")
        for form in ("txt", "whole", "jsonl", "csv", "tsv"):
            done = run("tokenize", BERT, "-i", "-", "--input-format", form, stdin=data)
            expect_exit(tally, done, 65, "standard input", *words, what=f"{name} as {form}")
            tally.expect(done.stdout == b"", f"{name} as {form}: ids {done.stdout[:60]}")
    for data in TEXT:
        expect_exit(tally, encode(folder, data)[0], 0, what=f"text {data}")
    for suffix in SUFFIXES:
        done, rows = encode(folder, WORDS, suffix=suffix)
        expect_exit(tally, done, 64, f"f.{suffix}", "--input-format")
        done, rows = encode(folder, WORDS, "--input-format", "txt", suffix=suffix.upper())
        expect_exit(tally, done, 0)
        tally.expect(rows and len(rows) == 1, f".{suffix} with --input-format")
    good, bad = folder / "good.txt", folder / "bad.txt"
    good.write_bytes(WORDS * 10)
    bad.write_bytes(UNICODE.encode("utf-16"))
    done = run("encode", BERT, "-i", good, "-i", bad, "-o", folder / "two.npy")
    expect_exit(tally, done, 65, "bad.txt")
    index = folder / "good.npy"
    expect_exit(tally, run("encode", BERT, "-i", good, "-o", index), 0)
    done = run("search", BERT, "--index", index, "--texts", bad, "cat")
    expect_exit(tally, done, 65, "bad.txt", "iconv")
    done = run("quantize", BERT, "-o", folder / "q", "--dtype", "int8", "--calibrate", bad)
    expect_exit(tally, done, 65, "bad.txt", "iconv")
    expect_exit(tally, run("eval", BERT, bad), 65, "bad.txt", "iconv")
    expect_exit(tally, run("eval", BERT, folder / "p.parquet"), 64, "encode_parquet")


def check_not_utf8(tally, folder):
    """Bytes that are not UTF-8: counted and placed, or failed rows; the rest is as it was."""
    latin = "caf\u00e9\nna\u00efve\nplain\n".encode("latin-1")
    done, rows = encode(folder, latin)
    expect_exit(tally, done, 0, "2 characters of 2 texts", "f.txt line 1, byte 4", "0xE9",
                "--invalid error", "iconv")
    tally.expect(rows and len(rows) == 3, "replaced")
    done, rows = encode(folder, latin, "--invalid", "error")
    expect_exit(tally, done, 65, "f.txt line 1: byte 4", "f.txt line 2: byte 3", "2 rows failed")
    tally.expect([math.isnan(r[0]) for r in rows or []] == [True, True, False], "failed rows")
    listed = read_jsonl((folder / "o.npy.errors.jsonl").read_bytes())
    tally.expect([e["line"] for e in listed] == [1, 2], f"listed {listed}")
    expect_exit(tally, encode(folder, b"caf\xe9\nx\n", "--invalid", "error")[0], 65,
                "1 row failed")
    quiet, _ = encode(folder, latin, "-q")
    tally.expect(quiet.stderr == b"", f"--quiet says {quiet.stderr}")
    clean, _ = encode(folder, UNICODE.encode())
    tally.expect(b"UTF-8" not in clean.stderr, f"of clean texts: {clean.stderr}")
    forms = {"txt": latin, "whole": latin, "csv": b"id,text\n1,caf\xe9\n2,na\xefve\n",
             "tsv": b"id\ttext\n1\tcaf\xe9\n2\tna\xefve\n",
             "jsonl": b'{"text":"caf\xe9"}\n{"text":"na\xefve"}\n'}
    for form, data in forms.items():
        for command in (["tokenize", BERT, "-i", "-"], ["encode", BERT, "-i", "-", "-o", "-"]):
            done = run(*command, "--input-format", form, stdin=data)
            expect_exit(tally, done, 0, "2 characters of", "byte 4", what=f"{command[0]} {form}")
            done = run(*command, "--input-format", form, "--invalid", "error", stdin=data)
            expect_exit(tally, done, 65, "row 0 failed: standard input line", "0xE9",
                        what=f"{command[0]} {form}, error")
    # each of Python's replacement characters is one
    for data in [b"a \xff b", b"\xe2\x82", b"x\xc0\xafy", b"\xed\xa0\x80", b"\xf0\x9f\x98 z",
                 b"\xf0\x9f\x98\xe9\xa0", b"\xf8\x88\x80", b"12345678\xe9 12345678 \xc3"]:
        count = data.decode(errors="replace").count("\ufffd")
        done = run("tokenize", BERT, "-i", "-", stdin=data)
        expect_exit(tally, done, 0, f"{count} character{'s' * (count > 1)} of 1 text ")
    other = b"id,text\n\xe9,fine\n"  # of a column that nobody reads nothing is said
    done = run("tokenize", BERT, "-i", "-", "--input-format", "csv", stdin=other)
    tally.expect(b"UTF-8" not in done.stderr, f"another column: {done.stderr}")
    for line in (rb'{"text":"a\ud800b"}', b'{"text":"a\\ud800"}'):
        done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl", stdin=line)
        expect_exit(tally, done, 0, "1 character of 1 text", what="half a pair")
        done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl", "--invalid", "error",
                   stdin=line)
        expect_exit(tally, done, 65, "row 0 failed")
    late = b"a\n" * 5000 + b"b\0c\n"
    done = run("tokenize", BERT, "-i", "-", stdin=late)
    expect_exit(tally, done, 0, "1 character of 1 text is NUL", "line 5001, byte 2", "0x00",
                "binary", "tr -d '\\000'")
    tally.expect(b"iconv" not in done.stderr and b"UTF-8" not in done.stderr, f"{done.stderr}")
    done = run("tokenize", BERT, "-i", "-", "--invalid", "error", stdin=late)
    expect_exit(tally, done, 65, "line 5001: byte 2 of the text is NUL", "tr -d")
    done = run("tokenize", BERT, "-i", "-", stdin=late + b"caf\xe9\n")
    expect_exit(tally, done, 0, "2 characters of 2 texts are NUL or not UTF-8", "tr -d")
    long = ("\u6771" * 200_000).encode()  # characters cut by every block
    done = run("tokenize", BERT, "-i", "-", "--invalid", "error", stdin=b"x" + long)
    expect_exit(tally, done, 0, what="blocks")


def check_line_ends(tally, folder):
    """CR alone; CR among LF; all of them."""
    done, rows = encode(folder, b"a\rb\rc\r")
    expect_exit(tally, done, 65, "f.txt line 1", '"a"', "CR alone", "tr '\\r' '\\n'",
                "--whole-file")
    tally.expect(rows is None, "CR alone: an output")
    for data in (b"a\rb", b"a\r\rb\r", b"words \r" * 20_000):
        done = run("tokenize", BERT, "-i", "-", stdin=data)
        expect_exit(tally, done, 65, "CR alone", what=f"CR alone {data[:20]}")
    done = run("tokenize", BERT, "-i", "-", "--whole-file", stdin=b"a\rb\rc\r")
    expect_exit(tally, done, 0, what="CR alone, whole file")
    done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl",
               stdin=b'{"text":"a"}\r{"text":"b"}\r')
    tally.expect(done.returncode == 65 and b"line 1" in done.stderr, f"jsonl: {done.stderr}")
    done, rows = encode(folder, b"a\r\nb\nc\rd\ne\r\n")
    expect_exit(tally, done, 0, "1 line holds", "f.txt line 3")
    tally.expect(rows and len(rows) == 4, "mixed line ends")
    expect_exit(tally, encode(folder, b"one line\r")[0], 0, what="one line with a CR at its end")
    for suffix, data in [("csv", b"id,text\r\n1,a\n2,b\r\n3,c"),
                         ("jsonl", b'{"text":"a"}\r\n{"text":"b"}\n\r\n{"text":"c"}')]:
        done, rows = encode(folder, data, suffix=suffix)
        expect_exit(tally, done, 0)
        tally.expect(rows and len(rows) == 3, f"mixed line ends, {suffix}")


def check_tables(tally, folder):
    """Tables of another form than it seems."""
    for name, data, options, code, words in TABLES:
        done, _ = encode(folder, data, *options, suffix="csv")
        expect_exit(tally, done, code, "f.csv", *words, what=f"csv, {name}")
        done = run("tokenize", BERT, "-i", "-", "--input-format", "csv", *options, stdin=data)
        expect_exit(tally, done, code, "standard input", *words, what=f"csv on a pipe, {name}")
    done, _ = encode(folder, b"id,text\n1,hello\n", suffix="tsv")
    expect_exit(tally, done, 64, '"id,text"', "--input-format csv")
    for delimiter, options in [(";", [";"]), ("|", ["|"]), ("\t", ["tab"]), ("\t", ["\\t"]),
                               (":", [":"])]:
        data = 'id,text\n1,hello\n2,"a, b"\n'.replace(",", delimiter).encode()
        done = run("tokenize", BERT, "-i", "-", "--input-format", "csv", "--json", "--no-specials",
                   "--delimiter", *options, stdin=data)
        expect_exit(tally, done, 0)
        ids = [row["ids"] for row in read_jsonl(done.stdout)]
        tally.expect(ids == ids_of_texts(["hello", f"a{delimiter} b"]), f"--delimiter {options}")
    for bad in ("ab", '"', "\n"):
        done = run("tokenize", BERT, "-i", "-", "--input-format", "csv", "--delimiter", bad)
        expect_exit(tally, done, 64, "--delimiter")
    for form in ("txt", "tsv", "jsonl"):
        done = run("tokenize", BERT, "-i", "-", "--input-format", form, "--delimiter", ";")
        expect_exit(tally, done, 64, "--delimiter")
    # a single column may hold what others use as a delimiter, if the user says so
    for options in (["--column", "1"], ["--column", "a; b"]):
        done, rows = encode(folder, b"a; b\nx; y\nz\n", *options, suffix="csv")
        expect_exit(tally, done, 0)
        tally.expect(rows and len(rows) == 2, f"one column with semicolons, {options}")
    done, rows = encode(folder, b"x; y\nz\n", "--no-header", "--column", "1", suffix="csv")
    tally.expect(done.returncode == 0 and len(rows) == 2, "no header, one column with semicolons")
    done, rows = encode(folder, b"1\ta\n2\tb\tmore\n", "--no-header", "--column", "2", suffix="tsv")
    tally.expect(done.returncode == 0 and len(rows) == 2, "more columns in a tsv without a header")


def check_never_closed(tally, folder):
    """A quote that is never closed ends the job soon; long cells with many lines do not."""
    rows = b"".join(b"%d,some words of a text\n" % n for n in range(200_000))
    few = b"1,some words\n" * 100
    for head in (b'id,text\n1,"never closed\n', b'id,"text\n'):
        for tail, words in [(b"", "never closed"), (b'5,"a, b"\n6,c\n', "another one opens")]:
            first = 1 + head.startswith(b"id,text")
            wanted = [f"line {first} to line 2000", "--no-quotes", words, "look like rows"]
            done, out = encode(folder, head + rows + tail, suffix="csv")
            expect_exit(tally, done, 65, *wanted, what=f"{head} {tail}")
            tally.expect(out is None, "an output in spite of it")
            done = run("encode", BERT, "-i", "-", "--input-format", "csv", "-o", folder / "o.npy",
                       stdin=head + rows + tail)
            expect_exit(tally, done, 65, *wanted, what=f"{head} {tail} on a pipe")
    single = b'text\n"never closed\n' + b"some words\n" * 20_000
    expect_exit(tally, encode(folder, single, suffix="csv")[0], 65, "look like rows")
    done, out = encode(folder, b'id,text\n1,"never closed\n' + few, "--no-quotes", suffix="csv")
    expect_exit(tally, done, 0)
    tally.expect(out and len(out) == 101, "--no-quotes")
    path = folder / "p.csv"
    path.write_bytes(b'score,sentence1,sentence2\n1,a,"b\n' + b"2,c,d\n" * 5000)
    expect_exit(tally, run("eval", BERT, path), 65, "p.csv line 2", "--no-quotes")
    for cell in (b"a line of prose, with a comma\nand one without\n" * 3000, b"word\n" * 9000,
                 b"a, b, c\n" * 3000, b"a paragraph\n\n" * 9000, b'"" quoted, too\nno\n' * 500,
                 b"like, rows\n" * 9000, b'1,""like""\n' * 500, b"like,rows\r\n" * 101, rows):
        done, out = encode(folder, b'id,text\n1,"' + cell + b'"\n2,x\n', "-q", suffix="csv")
        expect_exit(tally, done, 0, what=f"a cell of many lines {cell[:20]}")
        tally.expect(out and len(out) == 2, f"a cell of many lines {cell[:20]}")
    done, out = encode(folder, b'text\n"' + b"word\n" * 30_000 + b'"\nx\n', "-q", suffix="csv")
    expect_exit(tally, done, 0, what="a cell of many lines, a single column")
    # one row's quote took in a few: it fails, and those after it are read
    done, out = encode(folder, b'id,text\n1,a\n2,"b\n3,c\n4,"d, e"\n5,f\n', suffix="csv")
    expect_exit(tally, done, 65, "line 3 to line 5", "another one opens", "1 row failed")
    tally.expect(out and len(out) == 3, "rows around a quote that is never closed")


def check_fields(tally, folder):
    """Rows without their field: failed, named, and they cost no computing; a file of them ends."""
    good = [json.dumps({"text": f"text number {n}"}) for n in range(300)]
    lines = good + [json.dumps({"id": n, "body": "x " * 50}) for n in range(5000)] + good
    done, rows = encode(folder, "\n".join(lines).encode(), "--json", suffix="jsonl")
    expect_exit(tally, done, 65, "line 301", '"text" is missing', '"id", "body"', "--field",
                "5000 rows failed")
    alone, few = encode(folder, "\n".join(good + good).encode(), "--json", suffix="jsonl")
    stats, wanted = json.loads(done.stdout), json.loads(alone.stdout)
    tally.expect(stats["tokens"] == wanted["tokens"], f"failed rows cost {stats['tokens']} tokens")
    tally.expect(stats["texts"] == 5600 and stats["texts_failed"] == 5000, f"counts {stats}")
    tally.expect(rows and rows[:300] == few[:300] and rows[5300:] == few[300:] and
                 all(math.isnan(row[0]) for row in rows[300:5300]), "rows beside failed ones")
    for options, names in [([], '"id", "body"'), (["--field", "words"], '"id", "body"')]:
        done, rows = encode(folder, "\n".join(lines[300:5300]).encode(), *options, suffix="jsonl")
        expect_exit(tally, done, 65, "first 1000 rows all failed", "line 1000", names, "--field")
        tally.expect(rows is None, "an output of failed rows alone")
    nested = b'{"a":{"x":1,"y":2},"z":3}\n'
    done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl", "--field", "a.b",
               stdin=nested)
    expect_exit(tally, done, 65, 'has "x", "y"')
    for form, line in [("csv", b"1,2,3\n"), ("jsonl", b"no json\n")]:
        data = (b"id,text\n" if form == "csv" else b"") + line * 1500
        for command in (["tokenize", BERT, "-i", "-"], ["encode", BERT, "-i", "-", "-o", "-"]):
            done = run(*command, "--input-format", form, stdin=data)
            expect_exit(tally, done, 65, "first 1000 rows all failed", what=f"{command[0]} {form}")
    broken = b'{"text":"a"}\n{"text":"b"}\n{"text":"c",}\n\n {"text":nul}\n'
    done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl", stdin=broken)
    expect_exit(tally, done, 65, "line 3, byte 13: a key", "line 5, byte 13: true, false or null")
    nulls = b'{"text":null}\n' * 1500 + b'{"text":"a"}\n'  # the field is there
    done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl", stdin=nulls)
    tally.expect(done.returncode == 65 and done.stdout.count(b"\n") == 1501, "texts that are null")
    first, second = folder / "1.jsonl", folder / "2.jsonl"
    first.write_text("\n".join(good))
    second.write_text('{"body":"x"}\n' * 1500)
    done = run("encode", BERT, "-i", first, "-i", second, "-o", folder / "o.npy")
    expect_exit(tally, done, 65, "2.jsonl line 1000", "first 1000 rows")
    odd = b'{"\\n\\u0001very long name of a field that is shown in part only":1,' + \
        b",".join(b'"name%d":1' % n for n in range(50)) + b"}\n"
    done = run("tokenize", BERT, "-i", "-", "--input-format", "jsonl", stdin=odd)
    expect_exit(tally, done, 65, "...", "--field")
    tally.expect(done.stderr.count(b"\n") == 1, f"one line: {done.stderr}")
    # a long text that fails after the engine has its beginning
    long = b'id,text\n1,x\n2,"' + b"many words " * 40_000 + b'" y\n3,z\n'
    done, rows = encode(folder, long, suffix="csv")
    expect_exit(tally, done, 65, "1 row failed", "line 3")
    tally.expect(rows and [math.isnan(r[0]) for r in rows] == [False, True, False], "long and bad")


def check_pairs(tally, folder):
    """eval counts pairs, names the line of the file, and the columns that are there."""
    path = folder / "p.csv"
    head = b"sentence1,sentence2,score\n"
    path.write_bytes(head + b"a,b,1\nc,d,x\ne,f,2\ng,h,3,more\n")
    done = run("eval", BERT, path, "--json")
    expect_exit(tally, done, 65, "pair 1 failed", "p.csv line 3", "not a number", "pair 3 failed",
                "p.csv line 5", "more cells", "2 pairs failed")
    tally.expect(json.loads(done.stdout)["pairs"] == 2, f"pairs {done.stdout}")
    path.write_bytes(head + b"a,b,1\nc,d,x\n")
    expect_exit(tally, run("eval", BERT, path), 65, "line 3", "fewer than two")
    path.write_bytes(head + b"a,caf\xe9,1\nc,d,2\ne,f,3\n")
    expect_exit(tally, run("eval", BERT, path), 0, "1 character of 1 text", "line 2")
    done = run("eval", BERT, path, "--invalid", "error", "--json")
    expect_exit(tally, done, 65, "pair 0 failed", "line 2", "0xE9", "1 pair failed")
    tally.expect(json.loads(done.stdout)["pairs"] == 2, f"pairs {done.stdout}")
    long = b"many words " * 30_000
    path.write_bytes(head + b"a,b,1\n" + long + b"," + long + b",x\nc,d,2\ne,f,3\n" +
                     b'g,"' + long + b'" h,3\n' + b"i,j,4\n")
    done = run("eval", BERT, path, "--json", "--stats", folder / "s.json")
    expect_exit(tally, done, 65, "pair 1 failed", "pair 4 failed", "line 6", "2 pairs failed")
    tally.expect(json.loads(done.stdout)["pairs"] == 4, f"long pairs {done.stdout}")
    path.write_bytes(b"sentence1;sentence2;score\na;b;1\nc;d;2\n")
    expect_exit(tally, run("eval", BERT, path), 64, "sentence1;sentence2", "--delimiter ';'")
    expect_exit(tally, run("eval", BERT, path, "--delimiter", ";"), 0)
    path.write_bytes(b"first,second,rating\na,b,1\nc,d,2\n")
    expect_exit(tally, run("eval", BERT, path), 64, '"first", "second", "rating"', "--columns")
    path.write_bytes(b"\n\n" + head + b"a,b,1\nc,d,2\n")
    expect_exit(tally, run("eval", BERT, path), 0, what="blank lines before the header")
    path.write_bytes(b"sentence1,sentence2,score\ra,b,1\rc,d,2\r")
    done = run("eval", BERT, path)
    expect_exit(tally, done, 65, "p.csv line 1", "CR alone")


def main():
    """All of it."""
    tally = program.Tally()
    if ready(tally):
        for check in [check_no_text, check_not_utf8, check_line_ends, check_tables,
                      check_never_closed, check_fields, check_pairs]:
            with tempfile.TemporaryDirectory(prefix="embound-cli-") as name:
                check(tally, pathlib.Path(name))
    tally.end()


if __name__ == "__main__":
    main()
