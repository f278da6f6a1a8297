#!/usr/bin/env python3
"""int8, int4 and fp8 on a fake GPU: vectors, bits over budgets, stored directories, refusals.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import shutil
import sys
import tempfile

import test_fake_device as fake
from test_fake_device import MIB, check, cosine, rows_of, run

BERT, MPNET = fake.MODELS
FLOORS = {"f16": 0.99999, "int8": 0.9995, "int4": 0.98, "fp8": 0.995}  # of the least cosine
# hidden, intermediate, heads, layers, longest chunk
L6, MPNET_BASE = (384, 1536, 12, 6, 256), (768, 3072, 12, 12, 384)


def plan(model, *options, **environment):
    """The plan as JSON, or the message."""
    code, out, messages = run("plan", model, "--device", "cuda", "--json", *options, **environment)
    return json.loads(out) if code == 0 else messages


def encode(model, texts, out, *options, **environment):
    """The vectors' rows and bytes; an empty list if it failed."""
    code, _, messages = run("encode", model, "-i", texts, "-o", out, *options, **environment)
    check(code == 0, f"{model.name} {options}: {code} {messages}")
    return rows_of(out) if code == 0 else ([], b"")


def budgets_of(model, *options):
    """From the smallest to full speed."""
    made = plan(model, *options)
    low, high = made["device_bytes_min"], made["device_bytes_knee"]
    return low, low + MIB // 2, (low + high) // 2, high


def one_dtype(model, dtype, texts, folder):
    """Near the CPU's f32; the same bits under every budget and number of lanes and GPUs."""
    expected, _ = encode(model, texts, folder / "cpu.npy", "--device", "cpu")
    base = ("--device", "cuda", "--dtype", dtype)
    got, bits = encode(model, texts, folder / "gpu.npy", *base)
    least = min(map(cosine, expected, got), default=0)
    check(least > FLOORS[dtype], f"{model.name} {dtype}: cosine {least}")
    made = plan(model, *base)
    check(made["numerics_id"].endswith(dtype) and made["dtype"] == dtype,
          f"numerics {made['numerics_id']}")
    rungs = set()
    for turn, budget in enumerate(budgets_of(model, *base)):
        options = ("--gpu-memory", budget, "--threads", 1 + turn % 2)
        rungs.add(plan(model, *base, *options)["rung"])
        check(encode(model, texts, folder / "few.npy", *base, *options)[1] == bits,
              f"{model.name} {dtype} {options}")
    check(len(rungs) > 1, f"rungs {rungs}")
    small = ("--gpu-memory", budgets_of(model, *base)[0] + MIB // 2)
    check(encode(model, texts, folder / "few.npy", *base, *small, "--graphs", "off")[1] == bits,
          f"{model.name} {dtype} without graphs")
    check(encode(model, texts, folder / "few.npy", "--device", "cuda:all", "--dtype", dtype,
                 EMB_FAKE_DEVICES="2")[1] == bits, f"{model.name} {dtype} on two GPUs")
    return bits


def write_texts(folder):
    """A few, from nothing to several chunks."""
    path = folder / "few.txt"
    path.write_text("".join(" ".join(fake.WORDS[(i * 7 + j * 3) % len(fake.WORDS)]
                                     for j in range(n)) + "\n"
                            for i, n in enumerate((0, 1, 5, 13, 30, 62, 63, 150))),
                    encoding="utf-8")
    return path


def stored(model, dtype, bits, texts, folder, *options):
    """A directory that `embound quantize` wrote runs as it is stored; gives its vectors."""
    to = folder / f"stored-{dtype}{len(options)}"
    code, _, messages = run("quantize", model, "-o", to, "--dtype", dtype, *options)
    check(code == 0, f"quantize {dtype} {options}: {messages}")
    made = plan(to)
    check(made["dtype"] == dtype, f"stored {dtype} {options} runs as {made['dtype']}")
    for budget in budgets_of(to):
        rows, got = encode(to, texts, folder / "stored.npy", "--device", "cuda", "--gpu-memory",
                           budget)
        bits = bits or got
        check(got == bits, f"{model.name} stored {dtype} {options} {budget}")
    return rows


def stored_otherwise(texts, folder):
    """Smoothing, and what a stored directory is widened to."""
    expected, _ = encode(BERT, texts, folder / "cpu.npy", "--device", "cpu")
    for dtype in ("int8", "int4"):
        rows = stored(BERT, dtype, b"", texts, folder, "--smooth", "--calibrate", texts)
        least = min(map(cosine, expected, rows))
        check(least > FLOORS[dtype] - 0.005, f"{dtype}, smoothed: cosine {least}")
    wide, _ = encode(folder / "stored-fp80", texts, folder / "wide.npy", "--device", "cuda",
                     "--dtype", "f16")
    check(min(map(cosine, expected, wide)) > FLOORS["fp8"], "stored fp8 as f16")
    message = plan(folder / "stored-int80", "--dtype", "int4")
    check("cannot be made int4" in message, f"int8 as int4: {message}")


def sparse_model(folder, shape):
    """A model of that shape whose weights are a hole: for planning alone."""
    hidden, intermediate, heads, layers, tokens = shape
    to = folder / f"sparse-{hidden}"
    shutil.copytree(BERT, to)
    config = json.loads((to / "config.json").read_text())
    config.update(hidden_size=hidden, intermediate_size=intermediate, num_attention_heads=heads,
                  num_hidden_layers=layers, max_position_embeddings=512, vocab_size=30522)
    (to / "config.json").write_text(json.dumps(config))
    (to / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": tokens}))
    pooling = to / "1_Pooling/config.json"
    pooling.write_text(pooling.read_text().replace("32", str(hidden)))
    raw = (to / "model.safetensors").read_bytes()
    small = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    sizes = {32: hidden, 64: intermediate, 128: 512, 1000: 30522}
    header, end = {}, 0
    for name, entry in small.items():
        if name == "__metadata__" or "position_ids" in name or "layer.1." in name:
            continue
        many = [name.replace("layer.0.", f"layer.{i}.") for i in range(layers)]
        for one in many if "layer.0." in name else [name]:
            dims = [sizes.get(n, n) for n in entry["shape"]]
            size = 4
            for n in dims:
                size *= n
            header[one] = {"dtype": "F32", "shape": dims, "data_offsets": [end, end + size]}
            end += size
    text = json.dumps(header).encode()
    with open(to / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return to


def beyond_context(model, dtype, *options):
    """Device bytes of the smallest plan, without the context and what that grows by."""
    made = plan(model, "--dtype", dtype, *options)
    made = plan(model, "--dtype", dtype, *options, "--gpu-memory", made["device_bytes_min"])
    items = {i["name"]: i["bytes"] for r in made["regions"] if r["kind"] == "device"
             for i in r["items"]}
    return made["device_bytes"] - items["CUDA context"] - items["context growth"]


def planned_bytes(folder):
    """The smallest budget that keeps the layers on the card, against f16; fewer bytes at any."""
    for name, shape in (("L6", L6), ("mpnet", MPNET_BASE)):
        model = sparse_model(folder, shape)
        resident = {d: beyond_context(model, d, "--graphs", "on") for d in FLOORS}
        smallest = {d: beyond_context(model, d) for d in FLOORS}
        for dtype, most in (("int8", 0.6), ("fp8", 0.6), ("int4", 0.4)):
            ratio = resident[dtype] / resident["f16"]
            check(ratio <= most, f"{name} {dtype}: {ratio:.2f} of f16's bytes")
            check(smallest[dtype] < smallest["f16"], f"{name} {dtype}: {smallest}")


def failures(texts, folder):
    """What fp8 makes of a matrix can fail, of resident layers and of streamed ones."""
    out, one = folder / "failed.npy", folder / "one.txt"
    one.write_text("the quick brown fox", encoding="utf-8")
    base = ("--device", "cuda", "--dtype", "fp8", "--threads", 1)
    for budget in budgets_of(BERT, *base)[:1] + budgets_of(BERT, *base)[-1:]:
        told = set()
        for n in range(1, 300):
            code, _, messages = run("encode", BERT, "-i", one, "-o", out, *base, "--gpu-memory",
                                    budget, EMB_FAKE_FAIL=str(n))
            if code == 0:
                break
            told.add(messages.strip().split("\n")[-1])
            check(code in (69, 71) and not out.exists(), f"fp8, failure {n}: {code} {messages}")
        check(code == 0 and n > 10 and any("bounding a matrix" in message for message in told),
              f"fp8 in {budget}, {n} failures: {sorted(told)}")
        out.unlink(missing_ok=True)


def refusals(texts, folder):
    """What a card or its kernels cannot do is said when planning."""
    out = folder / "refused.npy"
    for model, dtype, options, environment, words in (
            (BERT, "int8", ("--gemm", "cublaslt"), {"EMB_FAKE_CUBLASLT": "1"}, ("--gemm own",)),
            (BERT, "fp8", (), {"EMB_FAKE_CAPABILITY": "86"}, ("8.9", "8.6", "f16")),
            (MPNET, "int4", (), {}, ("multiple of 32", "48"))):
        code, _, messages = run("encode", model, "-i", texts, "-o", out, "--device", "cuda",
                                "--dtype", dtype, *options, **environment)
        check(code == 64 and all(word in messages for word in words),
              f"{dtype} {options} {environment}: {code} {messages}")
    check(not out.exists(), "a refusal wrote nothing")
    for shape, words in (((2048, 64, 32, 1, 128), ("'fake 0' (9.0)", "2048", "at most 1536")),
                         ((96, 64, 8, 1, 128), ("12 values", "multiples of 8", "device cpu"))):
        told = plan(sparse_model(folder, shape), "--dtype", "f16")
        check(all(word in told for word in words), f"{shape}: {told}")
    code, out_text, _ = run("plan", BERT, "--device", "auto", "--dtype", "fp8", "--json",
                            EMB_FAKE_CAPABILITY="80")
    check(code == 64, f"fp8 with neither: {code} {out_text}")
    code, out_text, _ = run("plan", BERT, "--device", "auto", "--dtype", "int4", "--json")
    check(code == 0 and json.loads(out_text)["device"] == "cuda", "int4 takes the GPU")


def absent_card(folder):
    """A plan for a card that is not here has that card's numerics."""
    path = folder / "machine.json"
    check(run("info", "--device", "cuda", "--save-machine", path)[0] == 0, "the machine is saved")
    machine = json.loads(path.read_text())
    kept = {"free_bytes", "held_bytes", "grown", "grown_lanes"} & set(machine["devices"][0])
    check(not kept, f"of the moment, and saved: {kept}")
    for capability, dtype, suffix in ((75, "int8", "sm75-int8"), (86, "int4", "sm80-int4"),
                                      (89, "fp8", "sm89-fp8"), (120, "fp8", "sm89-fp8"),
                                      (90, "fp8", "sm90-fp8"), (75, "fp8", "8.9")):
        machine["devices"][0]["compute_capability"] = capability
        path.write_text(json.dumps(machine))
        made = plan(BERT, "--machine", path, "--dtype", dtype)
        told = made if isinstance(made, str) else made["numerics_id"]
        check(suffix in told, f"sm_{capability} {dtype}: {told}")


def main():
    """Runs everything; the last line counts."""
    if not fake.MODULE.exists() or not fake.PROGRAM.exists():
        print("skipped: the fake module is not built\n0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        texts = write_texts(folder)
        one_dtype(BERT, "f16", texts, folder)
        for dtype in ("int8", "int4", "fp8"):
            bits = one_dtype(BERT, dtype, texts, folder)
            stored(BERT, dtype, bits, texts, folder)
        one_dtype(MPNET, "int8", texts, folder)
        stored_otherwise(texts, folder)
        planned_bytes(folder)
        failures(texts, folder)
        refusals(texts, folder)
        absent_card(folder)
    print(f"{fake.passed} passed, {fake.failed} failed, 0 skipped")
    return fake.failed > 0


if __name__ == "__main__":
    sys.exit(main())
