#!/usr/bin/env python3
"""WordPiece on one thread beside Hugging Face tokenizers: the same texts and run, interleaved.

    bench/tokenizer.py [--model DIR] [--text FILE] [--megabytes N] [--rounds N] [--program PROGRAM]

Every line of FILE is a text. We read it again and again to N megabytes (100) each round, the peer
once, in one batch, without threads of its own, through its faster call (encode_batch_fast: no
offsets). All ids are compared first. Speeds are by processor time of the one thread, which other
work on the machine disturbs least; "wall" stands beside it. Best of the rounds. Appends JSON
lines to bench/results/tokenizer.jsonl. Needs the tokenizers wheel of tools/requirements-
oracles.txt.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import make_texts  # noqa: E402

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("EMB_BUILD", ROOT / "build"))
ORACLE = ROOT / "build/venv-oracle/bin/python"
RESULTS = ROOT / "bench/results/tokenizer.jsonl"
try:
    import numpy as np
    import tokenizers
except ImportError:
    if ORACLE.exists() and pathlib.Path(sys.executable) != ORACLE:
        os.execv(ORACLE, [str(ORACLE), *sys.argv])
    sys.exit("bench/tokenizer.py: tokenizers is not installed (tools/oracle_env.sh)")


def build(scratch):
    """Compiles bench/tokenizer.c against the built library."""
    out = scratch / "tokenizer"
    subprocess.run([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2", "-I",
                    ROOT / "include", ROOT / "bench/tokenizer.c", "-o", out, "-L", BUILD,
                    f"-Wl,-rpath,{BUILD}", "-lembound"], check=True)
    return out


def compare_ids(path, reference):
    """Gives the number of texts whose ids differ."""
    mine = np.fromfile(path, dtype=np.uint32)
    at = differences = 0
    for encoding in reference:
        count = int(mine[at])
        differences += mine[at + 1:at + 1 + count].tolist() != encoding.ids
        at += 1 + count
    return differences if at == len(mine) else len(reference)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=pathlib.Path,
                        default=ROOT / "build/models/all-MiniLM-L6-v2")
    parser.add_argument("--text", type=pathlib.Path, help="default: abstracts, real or made up")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--program", type=pathlib.Path, help="bench/tokenizer.c, compiled already")
    options = parser.parse_args()
    for needed, how in ((options.model / "tokenizer.json", "make models"),
                        (options.program or BUILD / "libembound.so", "make")):
        if not needed.exists():
            sys.exit(f"bench/tokenizer.py: {needed} is missing ({how})")
    options.text = options.text or make_texts.abstracts_file()

    data = options.text.read_bytes()
    texts = [line.decode("utf-8", "replace") for line in data.removesuffix(b"\n").split(b"\n")]
    passes = max(1, -(-int(options.megabytes * 1e6) // len(data)))
    peer = tokenizers.Tokenizer.from_file(str(options.model / "tokenizer.json"))
    peer.no_truncation()
    peer.no_padding()
    encode = getattr(peer, "encode_batch_fast", peer.encode_batch)

    with tempfile.TemporaryDirectory() as scratch:
        program = options.program or build(pathlib.Path(scratch))
        ids = pathlib.Path(scratch) / "ids"
        ours = subprocess.Popen([program, options.model, options.text, ids], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        samples = {"embound": [], "tokenizers": []}
        for _ in range(options.rounds):
            ours.stdin.write(f"{passes}\n")
            ours.stdin.flush()
            wall, processor, size, count = map(float, ours.stdout.readline().split())
            samples["embound"].append((size / processor / 1e6, size / wall / 1e6))
            start, start_wall = time.process_time(), time.perf_counter()
            reference = encode(texts, add_special_tokens=False)
            processor, wall = time.process_time() - start, time.perf_counter() - start_wall
            samples["tokenizers"].append((len(data) / processor / 1e6, len(data) / wall / 1e6))
        ours.stdin.close()
        ours.wait()
        differences = compare_ids(ids, reference)

    best = {name: max(s[0] for s in found) for name, found in samples.items()}
    ratio = best["embound"] / best["tokenizers"]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True,
                            capture_output=True, check=False).stdout.strip()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                if line.startswith("model name")), "unknown")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        for name, found in samples.items():
            line = {"bench": "tokenizer", "date": datetime.date.today().isoformat(),
                    "commit": commit, "cpu": cpu, "model": options.model.name,
                    "text": options.text.name, "engine": name, "threads": 1,
                    "bytes": len(data) * (passes if name == "embound" else 1),
                    "tokens": int(count) if name == "embound" else int(count) // passes,
                    "megabytes_per_second": round(best[name], 2),
                    "megabytes_per_second_wall": round(max(s[1] for s in found), 2),
                    "embound_is_faster": round(best["embound"] / best[name], 1),
                    "texts_that_differ": differences,
                    "samples": [round(s[0], 2) for s in found]}
            if name == "tokenizers":
                line["version"] = tokenizers.__version__
            file.write(json.dumps(line) + "\n")
            print(json.dumps(line))
    print(f"embound {best['embound']:.0f} MB/s, tokenizers {best['tokenizers']:.2f} MB/s: "
          f"{ratio:.0f} x; {len(texts)} texts compared, {differences} differ")
    sys.exit(differences != 0)


if __name__ == "__main__":
    main()
