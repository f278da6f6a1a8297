#!/usr/bin/env python3
"""Cells of matrix.tsv through the Python package: reads one JSON object a line, with what the
process did before, a device and a budget, and prints what came of it. Each is a child of its own,
forked before CUDA is touched, so that it begins as a fresh process does.

    matrix_case.py MODEL

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import sys
import time
import warnings

import embound
import numpy  # noqa: F401  before the first fork, as the package
from embound import _errors

MIB = 1 << 20


def prepare(before, model):
    """What else is in the process; gives what must stay alive."""
    if before in ("torch-imported", "torch-used"):
        import torch

        return torch.zeros(1).cuda() if before == "torch-used" else torch.cuda.is_available()
    if before == "cupy-used":
        import cupy

        return cupy.zeros(1)
    kept = []
    wanted = {"engines-1": 1, "engines-2": 2, "engines-3": 3, "forked": 1}
    for _ in range(wanted.get(before, 0)):
        kept.append(embound.SentenceTransformer(model).open())
    return kept


def figure(device, budget, model):
    """The options that state a budget, just enough or just too little."""
    if budget == "none":
        return {}
    fits = budget == "fits"
    name, least = ("memory", "host_bytes_min") if device == "cpu" else (
        "gpu_memory", "device_bytes_min")
    try:
        plan = embound.SentenceTransformer(model, device=device).plan()
        known = plan[least] if plan["device"] == "cuda" or device == "cpu" else 0
    except embound.EmboundError:
        known = 0
    if not known:
        return {name: 1024 * MIB if fits else MIB}
    if device == "cpu":  # the interpreter itself grows and shrinks a little
        return {name: known + 24 * MIB if fits else known // 2}
    return {name: known + 8 * MIB if fits else known - MIB}


def one_case(case, model):
    """One cell."""
    device = None if case["device"] == "auto" else case["device"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stated = figure(device, case["budget"], model)
    _errors._told.clear()  # what the figure's own plan was told of
    told = {"status": "EMB_OK", "stated": stated.get("gpu_memory", 0), "planned": 0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            made = embound.SentenceTransformer(model, device=device, **stated)
            if case["before"] == "reopened":
                made.open().close()
            rows = made.encode(["one text", "two"])
            plan = made.plan()
            told.update(device=str(made.device).partition(":")[0], dtype=plan["dtype"],
                        planned=plan["device_bytes"], shape=list(rows.shape))
            time.sleep(0.03)  # who watches from outside sees what is held
        except embound.EmboundError as error:
            told.update(status=type(error).__name__, said=str(error))
    if told["status"] == "EMB_OK":
        told["said"] = "; ".join(str(warning.message) for warning in caught)
    return told


def child(case, model):
    """In a process of its own; prints the line."""
    os.environ.update(case.get("environment", {}))
    try:
        try:
            kept = prepare(case["before"], model)
        except ImportError as error:  # elsewhere it is embound's own, and a fault
            print(json.dumps({"pid": os.getpid(), "skipped": str(error)}), flush=True)
            os._exit(0)
        if case["before"] == "forked":
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                os._exit(0)
        told = one_case(case, model)
        told["kept"] = kept is not None
    except BaseException as error:  # whatever it is, it must not look like a missing answer
        told = {"status": type(error).__name__, "said": str(error)}
    print(json.dumps({"pid": os.getpid(), **told}), flush=True)
    os._exit(0)


def main():
    """Until standard input ends."""
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            child(json.loads(line), sys.argv[1])
        os.waitpid(pid, 0)
        print("", flush=True)  # a child that died without a word has an empty answer


if __name__ == "__main__":
    main()
