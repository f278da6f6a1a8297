"""What the suites of the command line share: a scratch folder, running, reading results.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from support import program  # noqa: E402

BERT = program.TINY[0]
MPNET = program.TINY[1]


def run(*arguments, stdin=None, stdout=subprocess.PIPE, **more):
    """Runs the program with bytes on its standard input; gives the finished process."""
    return subprocess.run([str(program.PROGRAM), *map(str, arguments)], input=stdin or b"",
                          stdout=stdout, stderr=subprocess.PIPE, timeout=120, check=False, **more)


def ready(tally):
    """False, and a note, if the program is not built."""
    if not program.PROGRAM.exists():
        tally.skip(f"{program.PROGRAM} is not built")
    return program.PROGRAM.exists()


def expect_exit(tally, done, code, *words, what=""):
    """The exit code, and words that the message must have; gives whether all hold."""
    message = done.stderr.decode(errors="replace")
    shown = what or " ".join(map(str, done.args[1:]))[:150]
    good = tally.expect(done.returncode == code,
                        f"{shown}: exit {done.returncode}, wanted {code}: {message[:300]}")
    for word in words:
        good &= tally.expect(word in message, f"{shown}: the message lacks {word!r}: {message}")
    return good


def read_npy(path):
    """(rows, dim, values) of an .npy file as this project writes it."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", "magic"
    length = struct.unpack("<H", data[8:10])[0]
    assert (10 + length) % 64 == 0 and data[10 + length - 1:10 + length] == b"\n", "alignment"
    header = eval(data[10:10 + length].decode(), {"__builtins__": {}})  # a literal we wrote
    rows, dim = header["shape"]
    assert header["descr"] == "<f4" and header["fortran_order"] is False
    values = struct.unpack(f"<{rows * dim}f", data[10 + length:])
    return rows, dim, [values[r * dim:(r + 1) * dim] for r in range(rows)]


def read_jsonl(data):
    """The objects of JSON Lines."""
    return [json.loads(line) for line in data.decode().split("\n") if line]


def ids_of(*arguments, stdin=None):
    """Token ids of every text, through `tokenize --json --no-specials`."""
    done = run("tokenize", BERT, "--json", "--no-specials", *arguments, stdin=stdin)
    return done, [line["ids"] for line in read_jsonl(done.stdout)]


def ids_of_texts(texts):
    """Token ids of texts, through jsonl, which can hold every one of them."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    done, ids = ids_of("-i", "-", "--input-format", "jsonl", stdin=lines)
    assert done.returncode == 0 and len(ids) == len(texts), done.stderr
    return ids


def leftovers(folder):
    """Hidden or partial files in a folder."""
    return [p.name for p in pathlib.Path(folder).iterdir()
            if p.name.startswith(".") or p.name.endswith(".part")]
