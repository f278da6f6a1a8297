#!/usr/bin/env python3
"""quantize: what it writes, how near the vectors stay, what it refuses, and that it leaves nothing.

SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from common import BERT, MPNET, expect_exit, program, read_npy, ready, run

WORDS = ["bounded", "memory", "the", "of", "plan", "café", "東京", "x", "42", "unaffable", "in",
         "stone", "river", "walks", "slowly", "moon", "a", "cat", "sat", "mat"]
# mean and minimum cosine to the full-precision vectors, weights alone (--dtype f32)
FLOORS = {"int8": (0.9999, 0.9998), "int4": (0.985, 0.972), "fp8": (0.9985, 0.998)}


def texts_of(count):
    """Different short texts."""
    return [" ".join(WORDS[(i * 7 + k * k * (i + 1)) % len(WORDS)] for k in range(1 + i % 17))
            for i in range(count)]


def encode(folder, model, texts, *options):
    """The finished process, and vectors (or None)."""
    source, out = folder / "t.txt", folder / "t.npy"
    source.write_text("".join(t + "\n" for t in texts), encoding="utf-8")
    out.unlink(missing_ok=True)
    done = run("encode", model, "-i", source, "-o", out, "-q", *options)
    return done, read_npy(out)[2] if done.returncode == 0 else None


def cosines(rows, others):
    """(mean, minimum) over pairs of rows of length one."""
    values = [math.fsum(a * b for a, b in zip(x, y)) for x, y in zip(rows, others)]
    return math.fsum(values) / len(values), min(values)


def header_of(path):
    """The header of a safetensors file, with a check of its size."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    ends = max(t["data_offsets"][1] for k, t in header.items() if k != "__metadata__")
    assert 8 + length + ends == len(data), "size"
    return header


def check_written(tally, model, target, dtype, group):
    """Files, tensors and the report."""
    done = run("quantize", model, "-o", target, "--dtype", dtype, "--json",
               *(["--group", group] if group else []))
    if not expect_exit(tally, done, 0):
        return
    said = json.loads(done.stdout)
    header = header_of(target / "model.safetensors")
    marker = json.loads((target / "embound_quantization.json").read_text())
    for name in ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json"]:
        same = (target / name).read_bytes() == (model / name).read_bytes()
        tally.expect(same, f"{target.name}/{name} is not a copy")
    info = json.loads(run("info", target, "--json").stdout)["model"]
    wanted_group = (group or 32) if dtype == "int4" else 0
    tally.expect(info["stored_dtype"] == dtype, f"info says {info['stored_dtype']}")
    tally.expect(marker["dtype"] == dtype and marker["group"] == wanted_group, f"marker {marker}")
    tally.expect(said["matrices"] == 1 + 6 * info["layers"], f"{said['matrices']} matrices")
    tally.expect(said["bytes"] == (target / "model.safetensors").stat().st_size, "bytes")
    largest = {"int8": 0.03, "int4": 0.11, "fp8": 0.03}[dtype]
    errors = [m["error"] for layer in said["layers"] for m in layer["matrices"]]
    kept = [m["error"] for layer in said["layers"] for m in layer["matrices"]
            if dtype == "fp8" and re.search(r"attention\.(output\.dense|attn\.o)\.", m["tensor"])]
    tally.expect(len(errors) == 6 * info["layers"] and max(errors) < largest and
                 0 < min(set(errors) - set(kept)), f"{dtype}: errors {errors}")
    codes = {"int8": "I8", "int4": "U8", "fp8": "F8_E4M3"}[dtype]
    prefix, out = ("attention.self.query", "attention.output.dense") if model == BERT else (
        "attention.attn.q", "attention.attn.o")
    if dtype == "fp8":
        one = header[f"encoder.layer.1.{out}.weight"]
        tally.expect(one["dtype"] == "F16" and one["data_offsets"][0] % 2 == 0 and
                     len(kept) == info["layers"] and max(kept) < 0.0005, f"{out}: {one}, {kept}")
    name = f"encoder.layer.1.{prefix}.weight"
    hidden = info["hidden"]
    cols = hidden // 2 if dtype == "int4" else hidden
    scales = [hidden, -(-hidden // wanted_group)] if wanted_group else [hidden]
    tally.expect(header[name]["dtype"] == codes and header[name]["shape"] == [hidden, cols] and
                 header[name + ".scales"]["shape"] == scales, f"{name}: {header.get(name)}")


def check_vectors(tally, folder, model):
    """Cosine to the original for each dtype; the same bits stored and on the fly."""
    texts = texts_of(60)
    _, exact = encode(folder, model, texts)
    for dtype in FLOORS:
        for group in [32, 64] if dtype == "int4" else [0]:
            target = folder / f"{model.name}-{dtype}-{group}"
            check_written(tally, model, target, dtype, group)
            done, rows = encode(folder, target, texts, "--dtype", "f32")
            if not expect_exit(tally, done, 0):
                continue
            mean, least = cosines(exact, rows)
            slack = 1.5 if group == 64 else 1
            wanted = [1 - (1 - floor) * slack for floor in FLOORS[dtype]]
            tally.expect(mean >= wanted[0] and least >= wanted[1],
                         f"{target.name}: mean {mean:.6f}, least {least:.6f}, wanted {wanted}")
            if dtype == "fp8" or group == 64:
                continue
            done, fly = encode(folder, model, texts, "--dtype", dtype)
            stored_done, stored = encode(folder, target, texts)
            if b"not available" in done.stderr + stored_done.stderr:
                tally.skip(f"{dtype} kernels: not in this build")
            elif expect_exit(tally, done, 0) and expect_exit(tally, stored_done, 0):
                tally.expect(fly == stored, f"{target.name}: not the bits of --dtype {dtype}")


def check_calibrated(tally, folder, model):
    """Rounding for the texts brings the vectors of other texts nearer; smoothing changes little."""
    texts, others = folder / "calibrate.txt", texts_of(60)
    draws = [" ".join(WORDS[(i * 11 + k * (i % 5 + 1)) % len(WORDS)] for k in range(2 + i % 23))
             for i in range(400)]
    texts.write_text("\n".join(draws) + "\n", encoding="utf-8")
    _, exact = encode(folder, model, others)
    means = {}
    for name, more in [("plain", []), ("calibrated", ["--calibrate", texts]),
                       ("smoothed", ["--calibrate", texts, "--smooth"])]:
        target = folder / f"{model.name}-{name}"
        done = run("quantize", model, "-o", target, "--dtype", "int4", "--json", *more)
        if not expect_exit(tally, done, 0):
            return
        said = json.loads(done.stdout)
        layers = [layer["output_error"] for layer in said["layers"]]
        tally.expect((said["texts"] > 100 and 0 < max(layers) < 0.2) if more else
                     said["texts"] == 0 and layers[0] is None, f"{name}: {said['texts']} {layers}")
        means[name] = cosines(exact, encode(folder, target, others, "--dtype", "f32")[1])[0]
        factors = [k for k in header_of(target / "model.safetensors") if k.endswith(".smooth")]
        wanted = {"plain": 2, "calibrated": 0, "smoothed": 8}[name]  # plain: the norms' alone
        tally.expect(len(factors) == wanted, f"{name}: {factors}")
        tally.expect(name != "plain" or all("intermediate" in k for k in factors), f"{factors}")
    tally.expect(means["calibrated"] > means["plain"], f"{model.name}: {means}")
    tally.expect(means["smoothed"] > 2 * means["plain"] - 1, f"{model.name}: {means}")


def check_odd_texts(tally, folder):
    """A text longer than all that is read is cut; a model that gives nothing finite is refused."""
    texts, target = folder / "odd.txt", folder / "odd"
    ask = ["quantize", BERT, "-o", target, "--dtype", "int8", "--json", "--calibrate", texts]
    texts.write_text("stone river " * 400000, encoding="utf-8")
    done = run(*ask)
    if expect_exit(tally, done, 0):
        said = json.loads(done.stdout)
        tally.expect((said["texts"], said["tokens"]) == (1, 64), f"one long text: {said}")
        shutil.rmtree(target)
    lines, ask[-1] = folder / "odd.jsonl", folder / "odd.jsonl"
    lines.write_text('{"text": "a cat"}\n{"x": 1}\n{"text": 7}\n{"text": "a mat"}\n')
    done = run(*ask)
    if expect_exit(tally, done, 0):
        tally.expect(json.loads(done.stdout)["texts"] == 2, f"two are texts: {done.stdout[:80]}")
        tally.expect(all(f"line {n}".encode() in done.stderr for n in (2, 3)), f"{done.stderr}")
        shutil.rmtree(target)
    expect_exit(tally, run(*ask, "--field", "y"), 64, "line 1", "is missing", "no texts")
    ask[-1] = texts
    broken = folder / "huge-values"
    shutil.copytree(BERT, broken)
    path = broken / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", data[:8])[0]
    name = "encoder.layer.1.attention.self.query.weight"
    first, last = header_of(path)[name]["data_offsets"]
    data[start + first:start + last] = struct.pack("<f", 3e38) * ((last - first) // 4)
    path.write_bytes(data)
    texts.write_text("a cat sat on the mat\n", encoding="utf-8")
    ask[1] = broken
    expect_exit(tally, run(*ask), 65, "layer 1", "not finite")
    tally.expect(not list(folder.glob("odd.tmp*")), f"left {list(folder.glob('odd*'))}")


def check_refused(tally, folder):
    """Options, places and models that are not taken, each with its reason."""
    target, texts = folder / "refused", folder / "refused.txt"
    texts.write_text("a text\n")
    (folder / "empty.txt").write_text("\n\n")
    rows = [(["-o", target], "--dtype"), (["--dtype", "int8"], "-o DIR"),
            (["-o", target, "--dtype", "f16"], "int8, int4, fp8"),
            (["-o", target, "--dtype", "int4", "--group", "48"], "32 and 64"),
            (["-o", target, "--dtype", "int8", "--group", "32"], "int4 alone"),
            (["-o", target, "--dtype", "int8", "--smooth"], "texts"),
            (["-o", target, "--dtype", "fp8", "--calibrate", texts], "int8 and int4"),
            (["-o", target, "--dtype", "int8", "--calibrate-tokens", "99"], "--calibrate"),
            (["-o", target, "--dtype", "int8", "--calibrate", folder / "empty.txt"], "empty"),
            (["-o", BERT, "--dtype", "int8"], "not by quantize"),
            (["-o", f"{folder}/.", "--dtype", "int8", "--force"], "own name"),
            (["-o", "..", "--dtype", "int8"], "own name"),
            (["-o", "-", "--dtype", "int8"], "a directory"),
            (["-o", texts, "--dtype", "int8"], "not a directory")]
    for arguments, reason in rows:
        done = run("quantize", BERT, *arguments)
        expect_exit(tally, done, 64, reason)
        tally.expect(not target.exists(), f"{arguments}: left {target}")
    done = run("quantize", BERT, "-o", target, "--dtype", "int8", "--calibrate", folder / "none")
    expect_exit(tally, done, 66, "none")
    expect_exit(tally, run("quantize", BERT, "-o", folder / "a/b", "--dtype", "int8"), 74,
                "a/b: no directory can be made there")
    for dtype, other in [("int4", "int8"), ("int8", "int4"), ("fp8", "int8")]:
        stored = folder / f"stored-{dtype}"
        run("quantize", BERT, "-o", stored, "--dtype", dtype)
        expect_exit(tally, run("plan", stored, "--dtype", other), 64, f"stored as {dtype}", "f32")
        expect_exit(tally, run("quantize", stored, "-o", target, "--dtype", dtype), 64, "already")
    expect_exit(tally, run("plan", folder / "stored-fp8", "--device", "cpu"), 64, "fp8", "bf16")


def check_late_place(tally, folder):
    """What comes to the place while quantize works stays, too."""
    late, texts = folder / "late", folder / "late.txt"
    texts.write_text("\n".join(texts_of(3000)) + "\n", encoding="utf-8")
    command = [program.PROGRAM, "quantize", MPNET, "-o", late, "--dtype", "int4", "--calibrate",
               texts, "--calibrate-tokens", "8192", "--progress", "always"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        seen = running.stderr.read(30)  # it is at work
        late.mkdir()
        (late / "notes.txt").write_text("mine")
        seen += running.stderr.read()
    tally.expect(running.returncode == 64 and b"is there already" in seen, f"late: {seen[-200:]}")
    tally.expect((late / "notes.txt").exists(), "what came to the place is gone")
    tally.expect(not list(folder.glob("late.tmp*")), f"left {list(folder.glob('late.*'))}")


def check_places(tally, folder):
    """What is there stays, unless quantize wrote it and is told to replace it."""
    target = folder / "place"
    ask = ["quantize", BERT, "-o", target, "--dtype"]
    target.mkdir()
    expect_exit(tally, run(*ask, "int8"), 0)
    expect_exit(tally, run(*ask, "int4"), 64, "--force")
    expect_exit(tally, run(*ask, "int4", "--force"), 0)
    marker = json.loads((target / "embound_quantization.json").read_text())
    tally.expect(marker["dtype"] == "int4", f"--force left {marker}")
    (target / "embound_quantization.json").unlink()
    expect_exit(tally, run(*ask, "int8", "--force"), 64, "not by quantize")
    check_late_place(tally, folder)
    tally.expect((target / "model.safetensors").exists(), "--force took what it must not")
    tally.expect(not list(folder.glob("place.*")), f"left {list(folder.glob('place.*'))}")


def check_nothing_left(tally, folder):
    """A full disk and a signal: the exit code, and no trace."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))  # noqa: E731
    done = run("quantize", BERT, "-o", folder / "full", "--dtype", "int8", preexec_fn=limit)
    expect_exit(tally, done, 74, "model.safetensors", "write failed")
    tally.expect(not list(folder.glob("full*")), f"left {list(folder.glob('full*'))}")
    texts = folder / "long.txt"
    texts.write_text("\n".join(texts_of(3000)) + "\n", encoding="utf-8")
    command = [program.PROGRAM, "quantize", MPNET, "-o", folder / "stopped", "--dtype", "int4",
               "--calibrate", texts, "--calibrate-tokens", "30000", "--progress", "always"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        seen = running.stderr.read(30)
        running.send_signal(signal.SIGINT)
        began = time.monotonic()
        seen += running.stderr.read()
    tally.expect(running.returncode == 130, f"exit {running.returncode}: {seen}")
    tally.expect(time.monotonic() - began < 60, "slow to stop")
    tally.expect(not list(folder.glob("stopped*")), f"left {list(folder.glob('stopped*'))}")


def check_memory(tally, folder):
    """The peak is what was there before, what the report states, and next to nothing more."""
    model = program.DEEP if program.DEEP.exists() else BERT
    texts = folder / "texts.txt"
    texts.write_text("\n".join(texts_of(300)) + "\n", encoding="utf-8")
    machine = json.loads(run("info", "--json").stdout)["machine"]
    for more in [[], ["--calibrate", texts]]:
        done, peak, exact = program.run_with_peak("quantize", model, "-o", folder / "peak",
                                                  "--force", "--dtype", "int4", "--json", *more)
        if not exact or done.returncode:
            tally.skip(f"no exact peak here: {done.stderr}")
            continue
        stated = json.loads(done.stdout)["memory_bytes"]
        allowed = machine["process_base_bytes"] + stated + (6 << 20 if more else 1 << 20)
        tally.expect(peak <= allowed, f"peak {peak}, stated {stated}, allowed {allowed}")
        check_budget(tally, folder, model, stated, more)


def check_budget(tally, folder, model, stated, more):
    """A budget that is too small says which one works, and that one holds. Room for more tokens
    than the texts have is not taken."""
    base = ["quantize", model, "-o", folder / "budget", "--force", "--dtype", "int4", "--json",
            *more]
    done = run(*base, "--memory", "1MiB")
    words = str(done.stderr).split()
    least = int(words[words.index("works") + 2]) if "works" in words else 0
    tally.expect(done.returncode == 78 and least, f"{done.returncode}: {done.stderr}")
    tally.expect(not (folder / "budget").exists(), "a refused budget leaves something")
    done, peak, _ = program.run_with_peak(*base, "--memory", least + (256 << 10))
    tally.expect(done.returncode == 0 and peak <= least + (256 << 10), f"{peak}: {done.stderr}")
    if more:
        many = json.loads(run(*base, "--calibrate-tokens", 1 << 20).stdout)["memory_bytes"]
        tally.expect(many < stated + (64 << 20), f"room for a million tokens: {many}, {stated}")
    shutil.rmtree(folder / "budget")


def main():
    """Runs all of it in a scratch folder."""
    tally = program.Tally()
    if ready(tally):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="embound-quantize-"))
        for model in (BERT, MPNET):
            check_vectors(tally, folder, model)
            check_calibrated(tally, folder, model)
        for check in (check_odd_texts, check_refused, check_places, check_nothing_left,
                      check_memory):
            check(tally, folder)
        shutil.rmtree(folder)
    tally.end()


if __name__ == "__main__":
    main()
