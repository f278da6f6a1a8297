#!/usr/bin/env python3
"""The host side of a GPU on a fake device: vectors, budgets, bits, and every failing call in turn.

SPDX-License-Identifier: Apache-2.0
"""
import array
import ast
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from support.program import FAKE_GPU  # noqa: E402

BUILD = pathlib.Path(os.environ.get("EMB_BUILD", ROOT / "build"))
PROGRAM = BUILD / "embound"
MODULE = BUILD / "tests" / "libembound_fake_cuda.so"
MODELS = [ROOT / "tests/data/tiny-bert", ROOT / "tests/data/tiny-mpnet"]
WORDS = "the quick brown fox jumps over a lazy dog while rivers run to the old sea".split()
MIB = 1 << 20
passed = failed = 0


def check(truth, what):
    """Counts one assertion."""
    global passed, failed
    passed, failed = passed + bool(truth), failed + (not truth)
    if not truth:
        print("FAILED:", what)


def run(*arguments, **environment):
    """Runs the program with the fake module; gives its exit status and messages."""
    env = {**os.environ, **FAKE_GPU, **environment}
    done = subprocess.run([str(PROGRAM), *map(str, arguments)], env=env, text=True,
                          capture_output=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def rows_of(path):
    """The rows of an .npy as floats, and as bytes."""
    raw = pathlib.Path(path).read_bytes()
    end = 10 + int.from_bytes(raw[8:10], "little")
    rows, dim = ast.literal_eval(raw[10:end].decode())["shape"]
    values = array.array("f", raw[end:])
    return [values[i * dim:(i + 1) * dim] for i in range(rows)], raw[end:]


def cosine(a, b):
    """Of two rows."""
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def write_texts(folder):
    """Texts from nothing to several chunks."""
    path = folder / "texts.txt"
    lengths = [0, 1, 2, 3, 5, 8, 13, 30, 60, 61, 62, 63, 64, 120, 400] * 3
    path.write_text("".join(
        " ".join(WORDS[(i * 7 + j * 3) % len(WORDS)] for j in range(n)) + "\n"
        for i, n in enumerate(lengths)), encoding="utf-8")
    return path


def plan_of(model, *options):
    """The plan as JSON."""
    code, out, _ = run("plan", model, "--device", "cuda", "--dtype", "f32", "--json", *options)
    return code, json.loads(out)


def vectors_and_budgets(model, texts, folder):
    """Same vectors as the CPU's; same bits under every budget and number of lanes."""
    cpu, gpu = folder / "cpu.npy", folder / "gpu.npy"
    check(run("encode", model, "-i", texts, "-o", cpu, "--device", "cpu")[0] == 0, "cpu encode")
    base = ("encode", model, "-i", texts, "-o", gpu, "--device", "cuda", "--dtype", "f32")
    code, _, messages = run(*base)
    check(code == 0, f"gpu encode: {messages}")
    expected, _ = rows_of(cpu)
    got, bits = rows_of(gpu)
    check(min(map(cosine, expected, got)) > 0.999999, f"{model.name}: cosine to the CPU")
    code, plan = plan_of(model)
    check(code == 0 and [r["kind"] for r in plan["regions"]] == ["host", "pinned", "device"],
          "three regions")
    check(sum(r["bytes"] for r in plan["regions"][:2]) == plan["host_bytes"] and
          plan["regions"][2]["bytes"] == plan["device_bytes"], "regions add up")
    rungs = set()
    low, high = plan["device_bytes_min"], plan["device_bytes_knee"]
    for budget in (low, low + MIB // 2, (low + high) // 2, high):
        for threads in (1, 2):
            options = ("--gpu-memory", budget, "--threads", threads)
            code, smaller = plan_of(model, *options)
            check(code == 0 and smaller["device_bytes"] <= budget, f"{model.name} plan {budget}")
            rungs.add(smaller.get("rung"))
            code, _, messages = run(*base, *options)
            check(code == 0 and rows_of(gpu)[1] == bits, f"{model.name} {options}: {messages}")
    check(len(rungs) > 1, f"rungs {rungs}")
    code, _, messages = run("plan", model, "--device", "cuda", "--dtype", "f32", "--gpu-memory",
                            low - 1)
    check(code == 78 and "--gpu-memory" in messages, f"below the floor: {code} {messages}")


def several(model, texts, folder):
    """Two and three GPUs: the same bits under every rung, and the memory of each."""
    one, many = folder / "one.npy", folder / "many.npy"
    base = ("encode", model, "-i", texts, "--dtype", "f32")
    code, _, messages = run(*base, "-o", one, "--device", "cuda")
    check(code == 0, f"one GPU: {messages}")
    _, plan = plan_of(model)
    budgets = (plan["device_bytes_min"], plan["device_bytes_min"] + MIB // 2,
               plan["device_bytes_knee"])
    for device in ("cuda:all", "cuda:2,0", "cuda:1"):
        for budget in budgets:
            code, _, messages = run(*base, "-o", many, "--device", device, "--gpu-memory", budget,
                                    EMB_FAKE_DEVICES="3")
            check(code == 0 and many.read_bytes() == one.read_bytes(),
                  f"{device} {budget}: {code} {messages}")
    code, out, _ = run("plan", model, "--device", "cuda:all", "--dtype", "f32", "--json",
                       EMB_FAKE_DEVICES="3")
    shared = json.loads(out)
    check(code == 0 and shared["devices"] == [0, 1, 2] and shared["lanes"] == 3 * plan["lanes"] and
          shared["device_bytes"] == plan["device_bytes"], "each GPU takes what one takes")
    for n in range(1, 200):
        code, _, messages = run(*base, "-o", many, "--device", "cuda:all", "--threads", 1,
                                EMB_FAKE_DEVICES="2", EMB_FAKE_FAIL=str(n))
        if code == 0:
            break
        check(code in (69, 71) and messages.strip(), f"two GPUs, failure {n}: {code} {messages}")
    check(code == 0 and n > 10, f"two GPUs ran clean after {n - 1} failures")


def many_texts(model, folder):
    """Texts read ahead by several threads and rows written by another: order, bits, a full disk."""
    texts, out, few = folder / "many.csv", folder / "ahead.npy", folder / "alone.npy"
    rows = [" ".join(WORDS[(i * 5 + j) % len(WORDS)] for j in range(i % 9)) for i in range(400)]
    rows[300] = rows[350] = " ".join(WORDS * 30)
    texts.write_text("text\n" + "".join(f'"{row}"\n' for row in rows) + '"open', encoding="utf-8")
    base = ("encode", model, "-i", texts, "--device", "cuda", "--dtype", "f32", "--prompt", "the ")
    _, plan = plan_of(model)
    check(plan["readers"] == min(4, len(os.sched_getaffinity(0))), f"readers {plan['readers']}")
    small = plan["device_bytes_min"] + MIB // 2
    check(plan_of(model, "--gpu-memory", small)[1]["readers"] == 1, "one reader below full speed")
    for path, options in ((out, ()), (few, ("--gpu-memory", small))):
        code, _, messages = run(*base, "-o", path, *options)
        check(code == 65 and "401" in messages, f"many texts {options}: {code} {messages}")
    check(out.read_bytes() == few.read_bytes(), "read ahead or not: the same bits")
    limit = (resource.RLIMIT_FSIZE, (1 << 14, 1 << 14))
    done = subprocess.run([PROGRAM, *map(str, base), "-o", folder / "full.npy"], check=False,
                          env={**os.environ, **FAKE_GPU}, timeout=60,
                          capture_output=True, preexec_fn=lambda: resource.setrlimit(*limit))
    check(done.returncode == 74 and not list(folder.glob("full.npy*")),
          f"file size limit: {done.returncode} {done.stderr}")


def failures(model, texts, folder):
    """Every call of the device that can fail, failed once."""
    out = folder / "failed.npy"
    for n in range(1, 200):
        code, _, messages = run("encode", model, "-i", texts, "-o", out, "--device", "cuda",
                                "--dtype", "f32", "--threads", 1, EMB_FAKE_FAIL=str(n))
        if code == 0:
            break
        check(code in (69, 71) and messages.strip(), f"failure {n}: {code} {messages}")
        check(not out.exists() and not list(folder.glob("*.tmp*")), f"failure {n} left a file")
    check(code == 0 and 5 < n < 200, f"ran clean after {n - 1} failures")


def stats_of(model, texts, folder, *options, **environment):
    """Encodes; gives the exit status, the statistics (or messages) and the bytes of the vectors."""
    out, stats = folder / "graphs.npy", folder / "stats.json"
    code, _, messages = run("encode", model, "-i", texts, "-o", out, "--stats", stats, "--device",
                            "cuda", "--dtype", "f32", *options, **environment)
    if code:
        return code, messages, b""
    return code, json.loads(stats.read_text(encoding="utf-8")), rows_of(out)[1]


def graphs(model, texts, folder):
    """Recorded and plain forwards have the same bits; a device that cannot record does without."""
    small = ("--gpu-memory", plan_of(model)[1]["device_bytes_min"] + 8 * MIB)
    code, plain, bits = stats_of(model, texts, folder, *small, "--graphs", "off")
    check(code == 0 and plain["graphs"] == 0, f"graphs off: {plain}")
    for options, environment, few in ((("--threads", 1), {}, False),
                                      (("--graphs", "on", "--threads", 2), {}, False),
                                      ((), {"EMB_FAKE_GRAPHS": "1"}, True),
                                      ((), {"EMB_FAKE_GRAPHS": "3"}, False)):
        code, stats, got = stats_of(model, texts, folder, *small, *options, **environment)
        check(code == 0 and (stats["graphs"] == 0) == few and got == bits,
              f"{model.name} {options} {environment}: {stats}")
    code, message, _ = stats_of(model, texts, folder, *small, "--graphs", "on",
                                EMB_FAKE_GRAPHS="2")
    check(code == 69 and "record" in message, f"graphs on, but they fail: {code} {message}")
    items = [{i["name"]: i["bytes"] for i in r["items"]} for r in plan_of(model)[1]["regions"]]
    check("CUDA graphs" in items[0] and "CUDA graphs" in items[2], "items of the graphs")
    code, off = plan_of(model, "--graphs", "off")
    check(not any("CUDA graphs" in [i["name"] for i in r["items"]] for r in off["regions"]),
          "no items without graphs")
    for how, lane in (("off", MIB // 2), ("on", 3 * MIB // 2)):  # what a context grows by
        grown = [next(i["bytes"] for r in made["regions"] if r["kind"] == "device"
                      for i in r["items"] if i["name"] == "context growth")
                 for _, made in (plan_of(model, "--graphs", how, "--threads", lanes)
                                 for lanes in (1, 2, 5))]
        check(grown[0] == 3 * MIB and [n - grown[0] for n in grown] == [0, lane, 4 * lane],
              f"context growth with graphs {how}: {grown}")
    code, message, _ = stats_of(model, texts, folder, "--graphs", "maybe")
    check(code == 64 and "auto, on, off" in message, f"graphs maybe: {code} {message}")


def launches(model, texts, folder):
    """A launch that fails is told when its lane ends, of a recording it costs that recording."""
    small = ("--gpu-memory", plan_of(model)[1]["device_bytes_min"] + 8 * MIB, "--threads", 1)
    for how, least in (("off", 80), ("auto", 60)):
        _, whole, bits = stats_of(model, texts, folder, *small, "--graphs", how)
        codes, recorded = [], set()
        for n in (*range(1, 60, 9), *range(60, 1200, 11)):
            code, stats, got = stats_of(model, texts, folder, *small, "--graphs", how,
                                        EMB_FAKE_LAUNCH=str(n))
            codes.append(code)
            if code:
                check(code == 69 and "a kernel" in stats, f"launch {n}: {code} {stats}")
                continue
            check(got == bits, f"launch {n}, graphs {how}: other bits")
            recorded.add(stats["graphs"])
            if stats["graphs"] == whole["graphs"]:
                break
        check(code == 0 and n > least and codes[0] == 69, f"graphs {how}: {codes}")
        check(len(recorded) > (how == "auto"), f"graphs {how}: recordings {recorded}")


def streamed_has_no_graphs(folder):
    """A plan that streams its layers records nothing, and --graphs on never streams."""
    deep = BUILD / "tests/deep-bert"
    texts = write_texts(folder)
    low = plan_of(deep)[1]["device_bytes_min"]
    code, smallest = plan_of(deep, "--gpu-memory", low)
    check(code == 0 and smallest["weight_slots"] > 0, "the smallest plan streams")
    code, stats, _ = stats_of(deep, texts, folder, "--gpu-memory", low)
    check(code == 0 and stats["graphs"] == 0, f"streamed: {stats}")
    code, refused = plan_of(deep, "--gpu-memory", low, "--graphs", "on")
    check(code == 78 and refused["device_bytes_min"] > low, f"streamed, graphs on: {refused}")
    code, stats, _ = stats_of(deep, texts, folder, "--gpu-memory", refused["device_bytes_min"],
                              "--graphs", "on")
    check(code == 0 and stats["graphs"] > 0, f"the minimum with graphs: {stats}")


def products(model, texts, folder):
    """cuBLASLt: items, numerics and host bytes of its own; what is missing is said so."""
    small = ("--gpu-memory", plan_of(model)[1]["device_bytes_min"] + 9 * MIB)
    library = {"EMB_FAKE_CUBLASLT": "1000"}
    options = ("plan", model, "--device", "cuda", "--dtype", "f32", "--json", *small)
    own = json.loads(run(*options)[1])
    code, out, messages = run(*options, "--gemm", "cublaslt", **library)
    check(code == 0, f"plan with cuBLASLt: {messages}")
    other = json.loads(out)
    check(own["numerics_id"] + "-cublaslt" == other["numerics_id"] and own["gemm"] == "own" and
          other["gemm"] == "cublaslt", f"numerics {other['numerics_id']}")
    items = [[i["name"] for i in r["items"]] for r in other["regions"]]
    check("cuBLASLt on the host" in items[0] and "cuBLASLt" in items[2], f"items {items}")
    code, stats, bits = stats_of(model, texts, folder, *small, "--gemm", "cublaslt", **library)
    check(code == 0 and bits and stats["numerics_id"] == other["numerics_id"], f"run: {stats}")
    code, messages, _ = stats_of(model, texts, folder, "--gemm", "cublaslt")
    check(code == 69 and "--gemm own" in messages, f"no library: {code} {messages}")
    code, messages, _ = stats_of(model, texts, folder, "--memory", "1MiB")
    check(code == 78 and "--gemm own needs --memory" in messages and
          "--gemm cublaslt needs --memory" in messages, f"budget: {code} {messages}")
    minima = [word for word in messages.split() if word[0].isdigit() and "MiB" in word]
    code, message, _ = stats_of(model, texts, folder, *small, "--memory", minima[-2].rstrip(","))
    check(code == 0, f"the minimum of own products, {minima}: {message}")


def tuning(model, texts, folder):
    """What `embound tune` finds is kept for later runs of the same kind, and never trusted."""
    cache = folder / "cache"
    small = ("--gpu-memory", plan_of(model)[1]["device_bytes_min"] + MIB // 2)
    home = {"XDG_CACHE_HOME": str(cache)}

    def tuned(*options, **environment):
        code, stats, bits = stats_of(model, texts, folder, *small, *options,
                                     **{**home, **environment})
        return (stats["tuned"], bits) if code == 0 else (stats, b"")

    plain, bits = tuned()
    check(plain == "no" and not cache.exists(), f"nothing kept yet: {plain}")
    code, out, messages = run("tune", model, "--device", "cuda", "--dtype", "f32", *small, "--json",
                              **home)
    files = list((cache / "embound").glob("*"))
    check(code == 0 and json.loads(out)["kernels"][0] == [1, 2, 3, 1] and len(files) == 1,
          f"tune: {code} {messages} {files}")
    check(tuned() == ("before", bits) and tuned("--autotune", "full") == ("before", bits), "kept")
    check(tuned("--autotune", "off") == ("no", bits), "off")
    check(tuned("--gemm", "cublaslt", EMB_FAKE_CUBLASLT="1")[0] != "before", "other products")
    other = MODELS[1]
    code, stats, _ = stats_of(other, texts, folder, "--threads", 1, **home)
    check(code == 0 and stats["tuned"] == ("before" if same_shape(model, other) else "no"),
          f"another model: {stats['tuned']}")
    kept = files[0].read_text(encoding="utf-8")
    for wrong in ("", "{", kept[:-9], kept.replace("fake", "real"), kept.replace("[1,", "[9,"),
                  kept.replace("[1,", "[-1,"), kept + "{}", "[" * 5000, "\0" * 100):
        files[0].write_text(wrong, encoding="utf-8")
        code, stats, got = stats_of(model, texts, folder, *small, **home)
        check(code == 0 and stats["tuned"] == "no" and got == bits, f"corrupt {wrong[:20]!r}")
    code, _, messages = run("encode", model, "-i", texts, "-o", folder / "w.npy", "--device",
                            "cuda", "--dtype", "f32", *small, **home)
    check(messages.count("passed over") == 1, f"one warning: {messages}")
    files[0].unlink()
    check(tuned("--autotune", "full") == ("now", bits) and tuned() == ("before", bits), "full")
    check(files[0].read_text(encoding="utf-8") == kept, "the same file again")
    files[0].unlink()
    for n in range(1, 100):
        code, _, messages = run("tune", model, "--device", "cuda", "--dtype", "f32", *small,
                                "--threads", 1, EMB_FAKE_FAIL=str(n), **home)
        if code == 0:
            break
        check(code in (69, 71) and messages.strip() and not files[0].exists(),
              f"tune, failure {n}: {code} {messages}")
    check(5 < n < 100 and files[0].exists(), f"tuned after {n - 1} failures")
    blocked = folder / "file"
    blocked.write_text("", encoding="utf-8")
    check(tuned("--autotune", "full", XDG_CACHE_HOME=str(blocked)) == ("now", bits), "no folder")
    code, _, messages = run("tune", model, "--device", "cuda", "--dtype", "f32", *small,
                            XDG_CACHE_HOME=str(blocked))
    check(code == 73 and "kept" in messages, f"tune without a folder: {code} {messages}")
    code, _, messages = run("tune", model, "--device", "cpu")
    check(code == 69 and "GPU" in messages, f"tune on a CPU: {code} {messages}")
    code, _, messages = run("tune", model, "--device", "cuda", "--gemm", "cublaslt", "--dtype",
                            "f32", EMB_FAKE_CUBLASLT="1")
    check(code == 64 and "--gemm own" in messages, f"tune cuBLASLt: {code} {messages}")


def same_shape(a, b):
    """Whether two models are one to the tuner."""
    keys = ("hidden_size", "intermediate_size", "num_attention_heads")
    configs = [json.loads((m / "config.json").read_text(encoding="utf-8")) for m in (a, b)]
    return all(configs[0][k] == configs[1][k] for k in keys)


def refusals(model, texts, folder):
    """What is not there is said so."""
    out = folder / "none.npy"
    encode = ("encode", model, "-i", texts, "-o", out)
    code, _, messages = run(*encode, "--device", "cuda:3", "--dtype", "f32")
    check(code == 69 and "3" in messages, f"device 3: {code} {messages}")
    code, _, messages = run(*encode, "--device", "cuda", EMB_CUDA_MODULE="/nowhere.so")
    check(code == 69 and "module" in messages, f"no module: {code} {messages}")
    code, _, messages = run(*encode, "--device", "cuda", "--dtype", "f32",
                            EMB_FAKE_MEMORY=str(1 << 16))
    check(code == 71 and "GPU memory" in messages, f"taken memory: {code} {messages}")
    code, out_text, _ = run("info", model, "--device", "auto")
    check(code == 0 and "fake" in out_text, "info names the device")


def chosen_by(model, folder):
    """EMB_DEVICE is the default of --device; a script's figure for a GPU is no fault beside it."""
    for value, options, device in (("cpu", (), "cpu"), ("cuda", (), "cuda"), ("", (), "cuda"),
                                   ("auto", (), "cuda"), ("cpu", ("--device", "cuda"), "cuda"),
                                   ("cpu", ("--gpu-memory", "1GiB"), "cpu")):
        code, out, messages = run("plan", model, *options, "--json", EMB_DEVICE=value)
        check(code == 0 and json.loads(out)["device"] == device, f"EMB_DEVICE={value} {options}: "
              f"{code} {messages}")
        check(("EMB_DEVICE is cpu" in messages) == ("--gpu-memory" in options), messages)
    code, _, messages = run("plan", model, EMB_DEVICE="tpu")
    check(code == 64 and messages.startswith("embound: EMB_DEVICE 'tpu'"), messages)
    check(run("tokenize", model, "-i", "STYLE.md", EMB_DEVICE="tpu")[0] == 0, "it has no device")
    code, _, messages = run("plan", model, "--device", "cpu", "--gpu-memory", "1GiB")
    check(code == 64 and "leave one of them out" in messages, f"both stated: {code} {messages}")
    code, _, messages = run("plan", model, "--gpu-memory", "5GiB")
    check(code == 64 and "at most 4096 MiB" in messages, f"beyond the card: {code} {messages}")
    reason = "no usable CUDA device: the NVIDIA driver finds no GPU, or use --device cpu\n"
    for options, by in ((), "EMB_DEVICE=cuda: "), (("--device", "cuda"), ""):
        code, _, messages = run("plan", model, *options, EMB_DEVICE="cuda", EMB_FAKE_DRIVER="none")
        check(code == 69 and messages == f"embound: {by}{reason}", f"{code} {messages}")
    code, _, messages = run("plan", model, EMB_DEVICE="cuda:3")
    check(code == 69 and messages.startswith("embound: EMB_DEVICE=cuda:3: "), messages)
    code, _, messages = run("plan", model, "--gpu-memory", "1MiB", EMB_DEVICE="cuda")
    check(code == 78 and messages.startswith("embound: EMB_DEVICE=cuda: a GPU budget"), messages)
    code, _, messages = run("plan", model, "--memory", "1KiB", EMB_DEVICE="cpu")
    check(code == 78 and "EMB_DEVICE" not in messages, f"{code} {messages}")
    code, _, messages = run("plan", model, "--gemm", "cublaslt", EMB_DEVICE="cpu")
    check(code == 64 and "stated for EMB_DEVICE=cpu: leave" in messages, f"{code} {messages}")
    code, _, messages = run("tune", model, EMB_DEVICE="cpu")
    check(code == 69 and messages.startswith("embound: EMB_DEVICE=cpu: tune"), messages)
    code, _, messages = run("plan", model / "none", EMB_DEVICE="cuda")
    check(code == 66 and "EMB_DEVICE" not in messages, f"{code} {messages}")
    texts = folder / "one.txt"
    texts.write_text("one\n", encoding="utf-8")
    encode = ("encode", model, "-i", texts, "-o", folder / "rows.npy")
    for quiet in ((), ("-q",)):
        code, _, messages = run(*encode, *quiet, EMB_FAKE_DRIVER="none")
        check(code == 0 and messages.count("on the CPU: the NVIDIA driver finds no GPU") ==
              (not quiet), f"one line: {messages}")


def what_info_says(model):
    """Every GPU, or why there is none; a card that is full is no reason to say nothing."""
    code, out, _ = run("info", model, EMB_FAKE_DEVICES="2", EMB_FAKE_OTHERS=str(4000 * MIB))
    check(code == 0 and "fake 0, 4096 MiB, of which 86 MiB are free" in out and "fake 1" in out,
          out)
    _, out, _ = run("info", "--json", EMB_FAKE_DEVICES="2")
    for card in json.loads(out)["machine"]["devices"]:  # as what is saved must be
        check(card["context_bytes"] == 10 * MIB and "held_bytes" not in card, f"{card}")
    for environment, reason in (
            ({"EMB_FAKE_DRIVER": "none"}, "the NVIDIA driver finds no GPU"),
            ({"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES is empty or -1"),
            ({"EMB_CUDA_MODULE": "/nowhere.so"}, "/nowhere.so, which EMB_CUDA_MODULE names"),
            ({"EMB_CUDA_MODULE": str(PROGRAM)}, "the CUDA module cannot be opened"),
            ({"EMB_FAKE_OTHERS": str(4095 * MIB)}, "no room for a CUDA context: 1 of 4096 MiB")):
        code, out, messages = run("info", **environment)
        check(code == 0 and "not used: " in out and reason in out and not messages,
              f"{environment}: {code} {out} {messages}")
        code, out, _ = run("info", "--json", **environment)
        check(reason in json.loads(out)["machine"]["device_reason"], f"as JSON: {out}")
    # whatever EMB_DEVICE says, in a line of its own
    for value, problem in (("foo", "EMB_DEVICE 'foo': use auto, cpu, cuda"),
                           ("cuda:1", "EMB_DEVICE=cuda:1: "), ("cpu", ""), ("cuda", ""),
                           ("auto", "")):
        code, out, messages = run("info", model, EMB_DEVICE=value)
        lines = [line for line in out.split("\n") if line.startswith("  problem ")]
        check(code == 0 and "tiny" in out and not messages, f"{value}: {code} {out} {messages}")
        check(len(lines) == bool(problem) and all(problem in line for line in lines), out)
        check(("not asked for (EMB_DEVICE=cpu)" if value == "cpu" else "fake 0") in out, out)
        _, out, _ = run("info", "--json", EMB_DEVICE=value)
        check(problem in json.loads(out).get("device_problem", ""), out)
    code, out, _ = run("info", EMB_DEVICE="cuda", EMB_FAKE_DRIVER="none")
    check(code == 0 and "cuda             not used: the NVIDIA driver finds no GPU" in out and
          "problem          EMB_DEVICE=cuda: no usable CUDA device" in out, f"{code} {out}")
    check(run("info", "--device", "cuda", EMB_FAKE_DRIVER="none")[0] == 69, "an option is a wish")


def remedies(folder):
    """A module that is not there is built as the program was: by make, or by pip."""
    place = folder / "package"
    (place / "bin").mkdir(parents=True)
    shutil.copy(PROGRAM, place / "bin")
    for remedy in ("`make cuda`", "`EMB_CUDA=ON pip install .`"):
        done = subprocess.run([place / "bin" / PROGRAM.name, "info"], text=True, check=False,
                              capture_output=True, timeout=60,
                              env={**os.environ, **FAKE_GPU, "EMB_CUDA_MODULE": ""})
        check(remedy in done.stdout, f"{remedy}: {done.stdout} {done.stderr}")
        (place / "_core.abi3.so").touch()


def main():
    """Runs everything; the last line counts."""
    if not MODULE.exists() or not PROGRAM.exists():
        print("skipped: the fake module is not built\n0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = write_texts(folder)
        for model in MODELS:
            vectors_and_budgets(model, texts, folder)
            graphs(model, texts, folder)
        launches(MODELS[0], texts, folder)
        streamed_has_no_graphs(folder)
        several(MODELS[0], texts, folder)
        products(MODELS[0], texts, folder)
        many_texts(MODELS[0], folder)
        tuning(MODELS[0], texts, folder)
        failures(MODELS[0], texts, folder)
        refusals(MODELS[0], texts, folder)
        chosen_by(MODELS[0], folder)
        what_info_says(MODELS[0])
        remedies(folder)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
