#!/usr/bin/env python3
"""A real tritonserver loads, reloads and unloads models under load, inside their memory; versions,
warm-up, two models at once, and configurations that are refused by name.

SPDX-License-Identifier: Apache-2.0
"""
import json
import re
import tempfile
import threading

import triton_server
from support import program

triton_server.end_without_client()
import numpy  # noqa: E402
import tritonclient.grpc  # noqa: E402
import tritonclient.utils  # noqa: E402

TEXTS = ["a short text", "", "naïve café — 東京", "word " * 300]
MIB = program.MIB
# While a model is gone, or a new one takes its place, the server itself says one of these.
UNAVAILABLE = ("is not available", "is not ready", "unloading", "is at state", "unknown model",
               "no available versions", "is not found", "failed to poll")

REFUSED = [  # what is stated, a part of what the server must say
    ({"memory": "1MiB"}, "parameter memory: 1.0MiB is too little; the model needs"),
    ({"memory": "lots"}, "parameter memory"),
    ({"dtype": "int3"}, "parameter dtype: int3"),
    ({"long": "cut"}, "parameter long: cut"),
    ({"dim": "0"}, "parameter dim"),
    ({"dim": "100000"}, "dim"),
    ({"threads": "-1"}, "parameter threads"),
    ({"memroy": "1GiB"}, "parameter memroy is not known"),
    ({"model": "nowhere"}, "nowhere"),
    ({"int8_range": "1"}, "int8_range"),
    ({"gpu_memory": "1GiB"}, "gpu_memory"),
    ({"output": "TYPE_FP64"}, "TYPE_FP32, TYPE_FP16 or"),
    ({"group": "{ kind: KIND_MODEL count: 1 }"}, "KIND_MODEL"),
]


def check_refused(tally, server, repository, dim):
    """Each wrong configuration is refused when it is loaded, and nothing of it stays."""
    before = server.memory("VmRSS")
    for i, (stated, part) in enumerate(REFUSED):
        name = f"refused_{i}"
        triton_server.add_model(repository, name, program.TINY[0],
                                triton_server.configuration(dim, **stated))
        status, said = server.load(name)
        tally.expect(status == 400 and part in said, f"{stated}: {status} {said}")
    triton_server.add_model(repository, "wrong_dim", program.TINY[0],
                            triton_server.configuration(dim + 1))
    status, said = server.load("wrong_dim")
    tally.expect(status == 400 and f"the model gives {dim}" in said, f"dims: {said}")
    grown = server.memory("VmRSS") - before
    tally.expect(grown < 8 * MIB, f"refused models leave {grown} bytes")


def check_versions(tally, server, repository):
    """Two versions at once, each with its own weights; the latest alone by default."""
    dims = {}
    wants = [triton_server.library_vectors(model, TEXTS) for model in program.TINY]
    for name, policy in (("both", "version_policy { all { } }"), ("latest", "")):
        text = triton_server.configuration(-1, more=policy)
        triton_server.add_model(repository, name, program.TINY[0], text, version=1)
        folder = triton_server.add_model(f"{repository}/{name}", "new", program.TINY[1], text,
                                         version=3)
        folder.rename(f"{repository}/{name}/3")
        dims[name] = server.load(name)
        tally.expect(dims[name][0] == 200, f"{name}: {dims[name]}")
    for module, client in server.clients():
        for version, want in (("1", wants[0]), ("3", wants[1])):
            got = client.infer("both", triton_server.inputs(module, texts=TEXTS),
                               model_version=version)
            tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want), f"version {version}")
        got = client.infer("latest", triton_server.inputs(module, texts=TEXTS))
        tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), wants[1]), "the latest version")


def check_warmup(tally, server, repository, dim):
    """The server's own warm-up requests go through."""
    warm = ('model_warmup [ { name: "w" batch_size: 1 count: 3 inputs { key: "TEXT" value: '
            '{ data_type: TYPE_STRING dims: [ 1 ] zero_data: true } } } ]')
    triton_server.add_model(repository, "warm", program.TINY[0],
                            triton_server.configuration(dim, more=warm))
    status, said = server.load("warm")
    tally.expect(status == 200, f"warm-up: {said}")
    module, client = server.clients()[0]
    want = triton_server.library_vectors(program.TINY[0], TEXTS)
    got = client.infer("warm", triton_server.inputs(module, texts=TEXTS))
    tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want), "after a warm-up")


def planned(server, name):
    """What the log says a model's own memory is, in bytes."""
    found = re.findall(rf"embound: {name} version \d+: .*its own memory is ([\d.]+)MiB",
                       server.log())
    return float(found[-1]) * MIB


def check_two(tally, repository):
    """Two real models in one server: each within its memory, the same bits as alone."""
    real = [program.BUILD / "models" / n for n in ("all-MiniLM-L6-v2", "paraphrase-MiniLM-L3-v2")]
    if not all((m / "model.safetensors").exists() for m in real):
        tally.skip("two real models: make models gets them")
        return
    stated = {"l6": 60, "l3": 90}
    wants = [triton_server.library_vectors(m, TEXTS, "--dtype", "bf16") for m in real]
    for (name, mib), model in zip(stated.items(), real):
        triton_server.add_model(repository, name, model, triton_server.configuration(
            384, dtype="bf16", memory=f"{mib}MiB"))
    with triton_server.Server(repository, load=["tiny"]) as server:
        module, client = server.clients()[1]
        client.infer("tiny", triton_server.inputs(module, texts=TEXTS * 8))
        base = server.memory("VmHWM")
        for name, mib in stated.items():
            before = server.memory("VmHWM")
            status, said = server.load(name)
            tally.expect(status == 200, f"{name}: {said}")
            own = planned(server, name)
            tally.expect(own <= mib * MIB, f"{name}: plans {own} of {mib} MiB")
            grown = server.memory("VmHWM") - before
            # what the server itself takes to load a model: threads, its configuration
            tally.expect(grown <= own + 6 * MIB, f"{name}: loading took {grown}, planned {own}")
        for name, want in zip(stated, wants):
            for module, client in server.clients():
                got = client.infer(name, triton_server.inputs(module, texts=TEXTS))
                tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want),
                             f"{name} beside another model has the same bits")
        peak = server.memory("VmHWM")
        both = sum(stated.values()) * MIB
        tally.expect(peak <= base + both + 8 * MIB, f"peak {peak}, before {base}, stated {both}")


class Load(threading.Thread):
    """Requests without a pause until it is stopped; keeps what went wrong."""

    def __init__(self, server, name, want):
        super().__init__()
        self.server, self.name_, self.want = server, name, want
        self.ends, self.answered, self.unavailable, self.wrong = threading.Event(), 0, 0, []

    def run(self):
        client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{self.server.grpc_port}")
        while not self.ends.is_set():
            try:
                got = client.infer(self.name_, triton_server.inputs(tritonclient.grpc, texts=TEXTS))
                self.answered += 1
                if not numpy.array_equal(got.as_numpy("EMBEDDING"), self.want):
                    self.wrong.append("other vectors")
            except tritonclient.utils.InferenceServerException as error:
                if any(words in error.message() for words in UNAVAILABLE):
                    self.unavailable += 1
                else:
                    self.wrong.append(error.message())
        client.close()


def check_reloads(tally, server, repository, dim, rounds):
    """Loads, reloads and unloads under load."""
    triton_server.add_model(repository, "moving", program.TINY[0],
                            triton_server.configuration(dim))
    want = triton_server.library_vectors(program.TINY[0], TEXTS)
    server.load("moving")
    loads = [Load(server, "moving", want) for _ in range(4)]
    for one in loads:
        one.start()
    for i in range(rounds):
        if i % 2:
            server.unload("moving")
        else:  # a reload needs a change of the configuration
            path = f"{repository}/moving/config.pbtxt"
            text = triton_server.configuration(dim, threads=str(1 + i // 2 % 2))
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        status, said = server.load("moving")
        tally.expect(status == 200, f"load {i}: {said}")
    for one in loads:
        one.ends.set()
        one.join()
    wrong = [w for one in loads for w in one.wrong]
    tally.expect(not wrong, f"under load: {wrong[:3]}")
    tally.expect(all(one.answered for one in loads), "each client was answered")


def main():
    """Two servers."""
    tally = program.Tally()
    dim = triton_server.library_vectors(program.TINY[0], TEXTS).shape[1]
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as repository:
        triton_server.add_model(repository, "tiny", program.TINY[0],
                                triton_server.configuration(dim))
        with triton_server.Server(repository, load=["tiny"]) as server:
            check_refused(tally, server, repository, dim)
            check_versions(tally, server, repository)
            check_warmup(tally, server, repository, dim)
            check_reloads(tally, server, repository, dim, 20)
            tally.expect("the old and the new one are both there" in server.log(),
                         "the log says what a reload needs")
        tally.expect(server.result == 0, f"the server ends with {server.result}")
        check_two(tally, repository)
    tally.end()


if __name__ == "__main__":
    main()
