#!/usr/bin/env python3
"""Any number of special tokens around a text, from none: against rows of the plain model where the
ids are the same, and against a forward in plain Python where the plain model has no such chunks.

SPDX-License-Identifier: Apache-2.0
"""
import json
import math
import os
import pathlib
import shutil
import struct
import tempfile

from common import BERT, expect_exit, program, read_npy, ready, run

# the special tokens around a text; what the plain model, [CLS] and [SEP], must read for the same
TEMPLATES = {
    "none": ([""], "[CLS] {} [SEP]", "{}"),
    "front": (["[CLS]", ""], "{} [SEP]", "{}"),
    "behind": (["", "[SEP]"], "[CLS] {}", "{}"),
    "three": (["[CLS]", "[MASK]", "", "[SEP]"], "{}", "[MASK] {}"),
    "four": (["[CLS]", "[MASK]", "", "[MASK]", "[SEP]"], "{}", "[MASK] {} [MASK]"),
}
TEXTS = ["the cat", "a mat " * 10, "the cat sat on " * 3, "moon", "[MASK]", ""]
WORDS = "the cat sat on mat moon looked river stone walks slowly".split()


def make_model(folder, single, source=BERT):
    """A copy of a model whose tokenizer.json, taken as it stands, puts these tokens ("": the text)
    around a text."""
    shutil.copytree(source, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "tokenizer_class": "PreTrainedTokenizerFast"}))
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = {
        "type": "TemplateProcessing", "pair": [], "special_tokens": {
            t: {"ids": [content["model"]["vocab"][t]], "tokens": [t]} for t in single if t},
        "single": [{"SpecialToken": {"id": t}} if t else {"Sequence": {"id": "A"}} for t in single]}
    path.write_text(json.dumps(content))
    return folder


def encode(tally, folder, model, texts, *options, **more):
    """The rows of texts, and the file's bytes."""
    source, out = folder / "in.jsonl", folder / "out.npy"
    source.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    done = run("encode", model, "-i", source, "-o", out, "--dtype", "f32", *options, **more)
    if not expect_exit(tally, done, 0, what=f"{model.name} {options}"):
        return [], b""
    rows = read_npy(out)[2], out.read_bytes()
    out.unlink()
    return rows


def check_same_ids(tally, folder):
    """The same ids, the same bits, whichever tokens of them the template puts there."""
    for name, (single, text, plain) in TEMPLATES.items():
        model = make_model(folder / name, single)
        own = encode(tally, folder, model, [text.format(t) for t in TEXTS])[1]
        others = encode(tally, folder, BERT, [plain.format(t) for t in TEXTS])[1]
        tally.expect(own and own == others, f"{name}: other bits than the plain model's")
    done = run("tokenize", folder / "behind", "-i", "-", stdin=b"the cat\n\n")
    tally.expect([line.split()[-1] for line in done.stdout.decode().splitlines()] == ["3"] * 2,
                 f"behind: {done.stdout}")


def check_cut(tally, folder):
    """What is cut leaves room for as many special tokens as there are."""
    cut = ("--long", "truncate", "--max-length", 11)
    long = ["a mat " * 100, "the cat sat on " * 5]
    own = encode(tally, folder, folder / "three", long, *cut)[1]
    others = encode(tally, folder, BERT, ["[MASK] " + t for t in long], *cut)[1]
    tally.expect(own and own == others, "the same ids, the same bits, where texts are cut")
    for name, length, why in (("three", 3, "no room for text"), ("none", 1, None)):
        done = run("encode", folder / name, "-i", folder / "in.jsonl", "-o", folder / "x.npy",
                   "--max-length", length)
        expect_exit(tally, done, 64 if why else 0, *([why] if why else []),
                    what=f"{name}, {length}")
    config = folder / "four/sentence_bert_config.json"
    config.write_text(json.dumps({"max_seq_length": 4, "do_lower_case": False}))
    expect_exit(tally, run("plan", folder / "four"), 65, "4, of 4 in all; no room")
    config.write_text(json.dumps({"max_seq_length": 5, "do_lower_case": False}))
    expect_exit(tally, run("plan", folder / "four"), 0, what="room for one")


# ---- one token alone, in plain Python ---------------------------------------------------------


def read_tensors(model):
    """Tensors of a model.safetensors, as lists of floats."""
    data = (model / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, about in json.loads(data[8:8 + length]).items():
        if about.get("dtype") == "F32":
            begin, end = (8 + length + at for at in about["data_offsets"])
            tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return tensors


def linear(tensors, name, x):
    """W x + b."""
    weight, bias = tensors[name + ".weight"], tensors[name + ".bias"]
    size = len(x)
    return [math.fsum(map(lambda a, b: a * b, weight[i * size:(i + 1) * size], x)) + bias[i]
            for i in range(len(bias))]


def norm(tensors, name, x, epsilon):
    """LayerNorm."""
    mean = math.fsum(x) / len(x)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in x) / len(x) + epsilon)
    return [(v - mean) / deviation * g + b
            for v, g, b in zip(x, tensors[name + ".weight"], tensors[name + ".bias"])]


def row_of_token(model, number):
    """BERT's normalised row of one token without others: attention gives its own value."""
    config, tensors = json.loads((model / "config.json").read_text()), read_tensors(model)
    size, epsilon = config["hidden_size"], config["layer_norm_eps"]
    word = tensors["embeddings.word_embeddings.weight"][number * size:(number + 1) * size]
    place = tensors["embeddings.position_embeddings.weight"][:size]
    kind = tensors["embeddings.token_type_embeddings.weight"][:size]
    x = norm(tensors, "embeddings.LayerNorm", list(map(sum, zip(word, place, kind))), epsilon)
    for n in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{n}."
        value = linear(tensors, at + "attention.self.value", x)
        out = linear(tensors, at + "attention.output.dense", value)
        x = norm(tensors, at + "attention.output.LayerNorm", list(map(sum, zip(x, out))), epsilon)
        wide = linear(tensors, at + "intermediate.dense", x)
        wide = [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in wide]
        out = linear(tensors, at + "output.dense", wide)
        x = norm(tensors, at + "output.LayerNorm", list(map(sum, zip(x, out))), epsilon)
    length = math.sqrt(math.fsum(v * v for v in x))
    return [v / length for v in x]


def ids_of(model):
    """The vocabulary."""
    return json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]


def check_tokens(tally, folder, source, *options, **more):
    """Thousands of texts of one token, as many chunks as tokens; one without any gives zeros."""
    model = folder / (source.name + "-bare")
    if not model.exists():
        make_model(model, [""], source)
    ids = ids_of(model)
    words = [w for w in WORDS if w in ids][:4]
    expected = {w: row_of_token(model, ids[w]) for w in words}
    texts = [words[i % len(words)] if i % 7 else "" for i in range(3000)]
    rows, _ = encode(tally, folder, model, texts, *options, **more)
    far = 0.0
    for text, row in zip(texts, rows):
        want = expected[text] if text else [0.0] * len(row)
        far = max(far, max(abs(a - b) for a, b in zip(row, want)))
    tally.expect(len(rows) == 3000 and far < 2e-5, f"{source.name} {options}: {far} off")


def least(model, *options, **more):
    """The smallest budgets that work, of host and of GPU."""
    plan = json.loads(run("plan", model, "--json", "--dtype", "f32", *options, **more).stdout)
    return plan["host_bytes_min"], plan["device_bytes_min"]


def check_one_token(tally, folder):
    """On every form of weights: resident, streamed, and on a fake GPU."""
    check_tokens(tally, folder, BERT)
    check_tokens(tally, folder, BERT, "--dtype", "f32", env={**os.environ, "EMB_CPU": "ref"})
    gpu = {**os.environ, **program.FAKE_GPU}
    fake = program.FAKE_MODULE.exists()
    for source in program.models()[::2]:  # BERT, and the one that can be streamed
        if fake:
            check_tokens(tally, folder, source, "--device", "cuda", env=gpu)
    if program.DEEP not in program.models():
        tally.skip("no model of many layers")
        return
    deep = folder / "deep-bert-bare"
    if not deep.exists():
        make_model(deep, [""], program.DEEP)
    host = least(deep)[0]
    check_tokens(tally, folder, program.DEEP, "--memory", host + (1 << 20))
    if not fake:
        tally.skip("no fake GPU")
        return
    device = least(deep, "--device", "cuda", env=gpu)[1]
    for budget in (device, device + (64 << 10)):
        check_tokens(tally, folder, program.DEEP, "--device", "cuda", "--gpu-memory", budget,
                     env=gpu)


def check_calibration(tally, folder):
    """The quantizer reads the texts as the engine will; without any token there is nothing."""
    model, source, out = folder / "none", folder / "texts.txt", folder / "int8"
    source.write_text("\n" * 50 + "".join(f"{w}\n" for w in WORDS))
    asked = ("quantize", model, "-o", out, "--dtype", "int8", "--calibrate", source)
    expect_exit(tally, run(*asked), 0, what="calibrated without special tokens")
    texts = [w for w in WORDS] + [""]
    small = encode(tally, folder, out, texts)[0]
    full = encode(tally, folder, model, texts)[0]
    near = min(math.fsum(a * b for a, b in zip(x, y)) for x, y in zip(small[:-1], full))
    tally.expect(near > 0.999 and not any(small[-1]), f"calibrated: cosine {near}")
    source.write_text("\n" * 50)
    expect_exit(tally, run(*asked, "--force"), 64, "are empty", what="no token to calibrate with")


def main():
    """All checks, in a folder of their own."""
    tally = program.Tally()
    if ready(tally):
        with tempfile.TemporaryDirectory(prefix="embound-templates-") as name:
            for check in (check_same_ids, check_cut, check_one_token,
                          check_calibration):
                check(tally, pathlib.Path(name))
    tally.end()


if __name__ == "__main__":
    main()
