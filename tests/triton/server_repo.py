#!/usr/bin/env python3
"""A real tritonserver loads what `embound triton-repo` wrote, and gives the library's vectors.

SPDX-License-Identifier: Apache-2.0
"""
import tempfile

import triton_server
from support import program

triton_server.end_without_client()
import numpy  # noqa: E402

TEXTS = ["a short text", "", "naïve café — 東京", "word " * 700]


def main():
    """Two models, each with other options."""
    tally = program.Tally()
    rows = {"plain": (program.TINY[0], [], []),
            "small": (program.TINY[1], ["--dtype", "int8", "--long", "truncate", "--dim", "16",
                                        "--threads", "1"], ["--memory", "8MiB"])}
    with tempfile.TemporaryDirectory(prefix="embound-triton-") as repository:
        for name, (model, options, memory) in rows.items():
            done = program.run("triton-repo", model, "-o", repository, "--name", name, *options,
                               *memory)
            tally.expect(done.returncode == 0, done.stderr)
        with triton_server.Server(repository, load=list(rows)) as server:
            for name, (model, options, _memory) in rows.items():
                want = triton_server.library_vectors(model, TEXTS, *options)
                for module, client in server.clients():
                    got = client.infer(name, triton_server.inputs(module, texts=TEXTS))
                    tally.expect(numpy.array_equal(got.as_numpy("EMBEDDING"), want),
                                 f"{name} over {module.__name__}")
        tally.expect(server.result == 0, f"the server ends with {server.result}")
    tally.end()


if __name__ == "__main__":
    main()
