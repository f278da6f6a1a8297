#!/usr/bin/env python3
"""A real tritonserver under requests that are wrong, cancelled, or many at once: each gets its own
answer, and the others their vectors.

SPDX-License-Identifier: Apache-2.0
"""
import concurrent.futures
import json
import random
import struct
import tempfile
import threading
import time
import urllib.error
import urllib.request

import triton_server
from support import program

triton_server.end_without_client()
import numpy  # noqa: E402
import tritonclient.grpc  # noqa: E402
import tritonclient.utils  # noqa: E402

MODES = {"batches": {}, "delayed": {"dynamic": "max_queue_delay_microseconds: 2000"},
         "plain": {"dynamic": None}, "single": {"batch": 1}, "none": {"batch": 0},
         "two": {"group": "{ kind: KIND_CPU count: 2 }"}}


def raw_request(server, name, tensors):
    """Posts tensors with the bytes as they are, in Triton's binary form: (name, kind, shape,
    bytes); gives the status and the answer."""
    head = json.dumps({"inputs": [{
        "name": n, "datatype": kind, "shape": shape,
        "parameters": {"binary_data_size": len(data)}} for n, kind, shape, data in tensors]})
    body = head.encode() + b"".join(data for *_, data in tensors)
    request = urllib.request.Request(server.url(f"v2/models/{name}/infer"), body,
                                     {"Inference-Header-Content-Length": str(len(head)),
                                      "Content-Type": "application/octet-stream"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode(errors="replace")


def string(text):
    """A string of a BYTES tensor."""
    return struct.pack("<I", len(text)) + text


def check_malformed(tally, server, name, want):
    """Each wrong request is refused with words that say what, and a right one after it answered."""
    int32 = struct.pack("<3i", 463, 351, 99999)
    rows = [("a length past the end", [("TEXT", "BYTES", [1, 1], struct.pack("<I", 50) + b"x")]),
            ("a string too many", [("TEXT", "BYTES", [1, 1], string(b"a") + string(b"b"))]),
            ("a string too few", [("TEXT", "BYTES", [2, 1], string(b"a"))]),
            ("half a length", [("TEXT", "BYTES", [1, 1], b"\x01\x00")]),
            ("another datatype", [("TEXT", "INT32", [1, 1], b"\0\0\0\0")]),
            ("another shape", [("TEXT", "BYTES", [1, 2], string(b"a") * 2)]),
            ("no text", []),
            ("texts and ids", [("TEXT", "BYTES", [1, 1], string(b"a")),
                               ("INPUT_IDS", "INT32", [1, 3], int32)]),
            ("an id out of range", [("INPUT_IDS", "INT32", [1, 3], int32)]),
            ("ids of another datatype", [("INPUT_IDS", "FP32", [1, 3], int32)]),
            ("too large a batch", [("TEXT", "BYTES", [65, 1], string(b"a") * 65)]),
            ("an unknown input", [("WORDS", "BYTES", [1, 1], string(b"a"))]),
            ("a prompt for ids", [("INPUT_IDS", "INT32", [1, 1], int32[:4]),
                                  ("PROMPT_NAME", "BYTES", [1, 1], string(b"q"))])]
    for what, tensors in rows:
        status, said = raw_request(server, name, tensors)
        tally.expect(status == 400 and len(said) > 20, f"{what}: {status} {said}")
    module, client = server.clients()[1]
    got = client.infer(name, triton_server.inputs(module, texts=["a short text"]))
    tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want), "then a right one")


def check_concurrent(tally, server, texts, want):
    """Sixteen clients over all modes, requests of 1 to 8 texts, one in ten malformed."""
    wrong = []

    def client_of(seed):
        draw = random.Random(seed)
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        for _ in range(40):
            name = draw.choice(list(MODES))
            limit = {"single": 1}.get(name, 8)
            chosen = [draw.randrange(len(texts)) for _ in range(draw.randint(1, limit))]
            if draw.random() < 0.1:
                ids = [[0, 999999] for _ in chosen]
                try:
                    client.infer(name, triton_server.inputs(tritonclient.grpc, ids=ids,
                                                            batch=name != "none"))
                    wrong.append(f"{name}: ids out of range are answered")
                except tritonclient.utils.InferenceServerException as error:
                    if "vocabulary" not in error.message():
                        wrong.append(f"{name}: {error.message()}")
                continue
            tensors = triton_server.inputs(tritonclient.grpc, texts=[texts[i] for i in chosen],
                                           batch=name != "none")
            got = client.infer(name, tensors).as_numpy("EMBEDDING")
            if not numpy.array_equal(got, want[chosen]):
                wrong.append(f"{name}: other vectors than alone")
        client.close()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(client_of, range(16)))
    tally.expect(not wrong, f"sixteen clients at once: {wrong[:3]}")


def check_cancelled(tally, server, texts, want):
    """Long requests that are cancelled end at once; those beside them keep their bits."""
    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
    long_texts = ["word " * 20000] * 32
    done, states = threading.Event(), []

    def note(result, error):
        states.append((result, error))
        if len(states) == 4:
            done.set()

    calls = [client.async_infer("batches", triton_server.inputs(tritonclient.grpc,
                                                                texts=long_texts), note)
             for _ in range(4)]
    time.sleep(0.2)
    for call in calls:
        call.cancel()
    done.wait(10)
    began = time.monotonic()
    got = client.infer("batches", triton_server.inputs(tritonclient.grpc, texts=texts[:8]))
    waited = time.monotonic() - began
    tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want[:8]), "after cancelled ones")
    tally.expect(len(states) == 4 and all(e is not None for _, e in states), "all are cancelled")
    tally.expect(waited < 5, f"what was cancelled is not computed on: {waited:.1f} s")
    stats = server.get("v2/models/batches/stats")["model_stats"][0]
    # the server does not know of the end of a request that its client left
    tally.expect(stats["inference_stats"]["fail"]["count"] >= 1, "they count as failed")
    client.close()


def check_books(tally, server):
    """Metrics and statistics of a model with known requests."""
    name = "counted"
    module, client = server.clients()[0]
    for _ in range(3):
        client.infer(name, triton_server.inputs(module, texts=["a short text", "x"]))
    labels = {"model": name, "version": "1"}
    texts = server.metrics("embound_texts_total", **labels)
    tokens = server.metrics("embound_tokens_total", **labels)
    ids = triton_server.library_ids(program.TINY[0], ["a short text", "x"])
    tally.expect(list(texts.values()) == [6], f"texts: {texts}")
    tally.expect(list(tokens.values()) == [3 * sum(len(i) + 2 for i in ids)], f"tokens: {tokens}")
    tally.expect(list(server.metrics("embound_padding_tokens", **labels).values()) == [0],
                 "no padding")
    plan = server.metrics("embound_plan_bytes", **labels)
    tally.expect(len(plan) > 8 and all(v > 0 for v in plan.values()), f"plan items: {plan}")
    stats = server.get(f"v2/models/{name}/stats")["model_stats"][0]
    tally.expect(stats["inference_count"] == 6, f"inferences: {stats['inference_count']}")
    tally.expect(stats["inference_stats"]["success"]["count"] == 3, "three requests")
    tally.expect(stats["inference_stats"]["compute_infer"]["ns"] > 0, "their time is told")
    used = [u for u in stats["memory_usage"] if u["type"] == "CPU"]
    tally.expect(used and 1 << 20 < used[0]["byte_size"] < 64 << 20, f"memory: {used}")


def main():
    """One server, a model for each mode."""
    tally = program.Tally()
    draw = random.Random(7)
    words = "bounded memory the of naïve café 東京 x 42 plan (budget) …".split()
    texts = ["a short text"] + [" ".join(draw.choices(words, k=draw.choice([0, 1, 5, 20, 200])))
                                for _ in range(199)]
    want = triton_server.library_vectors(program.TINY[0], texts)
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as repository:
        for name, more in MODES.items():
            triton_server.add_model(repository, name, program.TINY[0],
                                    triton_server.configuration(want.shape[1], **more))
        triton_server.add_model(repository, "counted", program.TINY[0],
                                triton_server.configuration(want.shape[1], memory="64MiB"))
        with triton_server.Server(repository, load=[*MODES, "counted"]) as server:
            check_books(tally, server)
            check_malformed(tally, server, "batches", want[:1])
            check_concurrent(tally, server, texts, want)
            check_cancelled(tally, server, texts, want)
            check_malformed(tally, server, "plain", want[:1])
        tally.expect(server.result == 0, f"the server ends with {server.result}")
    tally.end()


if __name__ == "__main__":
    main()
