#!/usr/bin/env python3
"""A real tritonserver gives the library's vectors, bit for bit: over HTTP and gRPC, from texts and
ids, in each output datatype, with and without batches, each long rule, and prompts.

SPDX-License-Identifier: Apache-2.0
"""
import json
import pathlib
import shutil
import tempfile

import triton_server
from support import program

triton_server.end_without_client()
import numpy  # noqa: E402
import tritonclient.utils  # noqa: E402

TEXTS = ["a short text", "", "naïve café — 東京 [MASK]", "word " * 700, "the last one", "x"]
LONG = ("chunk", "truncate")


def refused(call):
    """The message of the error that a call raises, or None."""
    try:
        call()
    except tritonclient.utils.InferenceServerException as error:
        return error.message()
    return None


def check_same(tally, server, name, want, ids, batch):
    """Texts and ids, over both protocols."""
    for module, client in server.clients():
        place = f"{name} over {module.__name__}"
        for what, tensors in (
                ("texts", triton_server.inputs(module, texts=TEXTS, batch=batch)),
                ("ids", triton_server.inputs(module, ids=ids, batch=batch))):
            got = client.infer(name, tensors).as_numpy("EMBEDDING")
            tally.expect(got.dtype == want.dtype and numpy.array_equal(got, want),
                         f"{place}: {what} give the library's bits")


def models(folder):
    """The models of the repository: (name, source, dtype)."""
    rows = [("bert", program.TINY[0], "f32"), ("mpnet", program.TINY[1], "int8")]
    real = program.BUILD / "models" / "all-MiniLM-L6-v2"
    if (real / "model.safetensors").exists():
        rows.append(("l6", real, "int8"))
    prompted = folder / "prompted"
    shutil.copytree(program.TINY[0], prompted)
    (prompted / "config_sentence_transformers.json").write_text(json.dumps({
        "prompts": {"query": "query: ", "passage": "about this: "},
        "default_prompt_name": "passage"}))
    return rows, prompted


def check_prompts(tally, server, prompted):
    """The default one, a stated one, one for each text, none."""
    rows = [(None, ["--prompt-name", "passage"]), ("query", ["--prompt-name", "query"]),
            ("", ["--prompt", ""])]
    for stated, arguments in rows:
        want = triton_server.library_vectors(prompted, TEXTS, *arguments)
        for module, client in server.clients():
            prompts = None if stated is None else [stated] * len(TEXTS)
            tensors = triton_server.inputs(module, texts=TEXTS, prompts=prompts)
            got = client.infer("prompted", tensors).as_numpy("EMBEDDING")
            tally.expect(numpy.array_equal(got, want), f"prompt {stated!r} over {module.__name__}")
    for module, client in server.clients():
        tensors = triton_server.inputs(module, texts=TEXTS, prompts=["nowhere"] * len(TEXTS))
        said = refused(lambda: client.infer("prompted", tensors))
        tally.expect(said and "nowhere" in said, f"an unknown prompt is refused by name: {said}")


def check_outputs(tally, server, name, want):
    """FP16 and INT8 are the f32 vectors, rounded."""
    rows = [("f16", want.astype(numpy.float16)),
            ("i8", numpy.rint(want * (127 / numpy.maximum(
                numpy.abs(want).max(axis=1, keepdims=True), 1e-30).astype(numpy.float64)))),
            ("i8r", numpy.clip(numpy.rint(want.astype(numpy.float64) * (127 / 0.25)), -127, 127))]
    for suffix, expected in rows:
        for module, client in server.clients():
            tensors = triton_server.inputs(module, texts=TEXTS)
            got = client.infer(f"{name}_{suffix}", tensors).as_numpy("EMBEDDING")
            tally.expect(got.shape == expected.shape and
                         (got.astype(numpy.float64) == expected.astype(numpy.float64)).all(),
                         f"{name}_{suffix} over {module.__name__}")


def check_long(tally, server, source):
    """Each rule for long texts; `error` fails that request alone."""
    for rule in LONG:
        want = triton_server.library_vectors(source, TEXTS, "--long", rule)
        for module, client in server.clients():
            got = client.infer(f"long_{rule}", triton_server.inputs(module, texts=TEXTS))
            tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want), f"long: {rule}")
    want = triton_server.library_vectors(source, TEXTS[:3])
    for module, client in server.clients():
        said = refused(lambda: client.infer("long_error",
                                            triton_server.inputs(module, texts=TEXTS)))
        tally.expect(said and "text 3" in said and "longer" in said, f"long: error says {said}")
        got = client.infer("long_error", triton_server.inputs(module, texts=TEXTS[:3]))
        tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want), "and short ones go on")


def main():
    """One server with many models."""
    tally = program.Tally()
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as place:
        folder = pathlib.Path(place)
        repository = folder / "repository"
        rows, prompted = models(folder)
        names, wants = [], {}
        add = triton_server.add_model
        for name, source, dtype in rows:
            wants[name] = triton_server.library_vectors(source, TEXTS, "--dtype", dtype)
            dim = wants[name].shape[1]
            for suffix, more in (("", {}), ("_plain", {"dynamic": None}),
                                 ("_none", {"batch": 0}), ("_wide", {"ids": "TYPE_INT64"}),
                                 ("_f16", {"output": "TYPE_FP16"}),
                                 ("_i8", {"output": "TYPE_INT8"}),
                                 ("_i8r", {"output": "TYPE_INT8", "int8_range": "0.25"})):
                text = triton_server.configuration(dim, dtype=dtype, **more)
                add(repository, name + suffix, source, text)
                names.append(name + suffix)
        dim = wants["bert"].shape[1]
        add(repository, "prompted", prompted, triton_server.configuration(dim))
        for rule in (*LONG, "error"):
            add(repository, f"long_{rule}", program.TINY[0],
                triton_server.configuration(dim, long=rule))
        names += ["prompted", *(f"long_{rule}" for rule in (*LONG, "error"))]
        with triton_server.Server(repository, load=names) as server:
            for name, source, dtype in rows:
                ids = triton_server.library_ids(source, TEXTS)
                for suffix in ("", "_plain", "_none"):
                    check_same(tally, server, name + suffix, wants[name], ids, suffix != "_none")
                for module, client in server.clients():
                    got = client.infer(f"{name}_wide",
                                       triton_server.inputs(module, ids=ids, wide=True))
                    tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), wants[name]),
                                 f"{name}: ids of 64 bits over {module.__name__}")
                check_outputs(tally, server, name, wants[name])
            check_prompts(tally, server, prompted)
            check_long(tally, server, program.TINY[0])
        tally.expect(server.result == 0, f"the server ends with {server.result}")
    tally.end()


if __name__ == "__main__":
    main()
