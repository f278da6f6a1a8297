#!/usr/bin/env python3
"""Rows on a real GPU in a real torch (cupy and jax too where they are): addresses, bits, lifetimes,
budgets, memory given back, speed.

Needs a GPU, torch with CUDA, the package embound (as in a wheel: libembound.so.0 and
libembound_cuda.so beside its extension), a model directory. Prints JSON lines, the last one of
{"check": "all"}; the status is not 0 if a check failed.

usage: tests/cuda/check_dlpack.py MODEL [--dtype f16] [--texts 10000]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import gc
import json
import os
import random
import subprocess
import sys
import threading
import time
import traceback
import warnings

import embound
import numpy
import torch

MIB = 1 << 20
WORDS = ("the quick brown fox jumps over a lazy dog while rivers run to the old sea and "
         "measurement of embedding vectors needs patience").split()
failed = 0
options = None


def emit(check, good, **line):
    """One JSON line; counts what is not good."""
    global failed
    failed += not good
    print(json.dumps({"check": check, **line, "ok": bool(good)}), flush=True)


def texts_of(count, longest=60):
    """Ragged texts in a fixed order."""
    pick = random.Random(11)
    return [" ".join(pick.choice(WORDS) for _ in range(pick.randrange(longest)))
            for _ in range(count)]


def open_model(device="cuda:0", **more):
    """The model on the GPU."""
    return embound.SentenceTransformer(options.model, device=device, dtype=options.dtype, **more)


def same(tensor, rows):
    """Whether a tensor on the GPU has the bits of rows on the host."""
    return tensor.cpu().numpy().tobytes() == numpy.asarray(rows).tobytes()


def free_bytes(device=0):
    """Of the card."""
    torch.cuda.synchronize(device)
    return torch.cuda.mem_get_info(device)[0]


def check_rows(model):
    """Pointers, devices and bits, by DLPack and by __cuda_array_interface__."""
    texts = texts_of(500) + [" ".join(WORDS * 60)]
    for name, more in (("plain", {}), ("truncated", {"truncate_dim": 77}),
                       ("normalised", {"normalize_embeddings": True}),
                       ("both", {"truncate_dim": 130, "normalize_embeddings": True})):
        rows = model.encode_rows(texts, on_device=True, **more)
        host = model.encode_rows(texts, **more)
        taken = torch.from_dlpack(rows)
        emit("from_dlpack", taken.device == torch.device("cuda", 0)
             and taken.data_ptr() == rows.address and tuple(taken.shape) == host.shape
             and taken.is_contiguous() and same(taken, host), form=name)
        other = torch.as_tensor(rows, device="cuda")
        emit("cuda_array_interface", other.data_ptr() == rows.address and same(other, host),
             form=name)
        emit("to_host", numpy.array_equal(numpy.asarray(rows.to_host()), host), form=name)
    single = torch.from_dlpack(model.encode_rows("one text", on_device=True))
    emit("single", single.ndim == 1 and same(single, model.encode("one text")))
    with torch.cuda.stream(torch.cuda.Stream()):
        rows = model.encode_rows(texts, on_device=True)
        doubled = torch.from_dlpack(rows) * 2
        torch.cuda.current_stream().synchronize()
    emit("side_stream", numpy.array_equal(doubled.cpu().numpy(), model.encode(texts) * 2))
    address = rows.address
    taken = torch.from_dlpack(rows)
    again = torch.from_dlpack(taken)
    del rows, taken
    gc.collect()
    emit("shared", again.data_ptr() == address and same(again, model.encode_rows(texts)))


def check_refusals(model):
    """Streams and devices that cannot be."""
    rows = model.encode_rows(["a", "b"], on_device=True)
    wrong = []
    for more in ({"stream": 0}, {"copy": True}, {"dl_device": (1, 0), "copy": False},
                 {"dl_device": (2, 9)}):
        try:
            rows.__dlpack__(**more)
            wrong.append(str(more))
        except BufferError:
            pass
    for stream in (None, -1, 1, 2, torch.cuda.Stream().cuda_stream):
        rows.__dlpack__(stream=stream, max_version=(1, 0))
    try:
        numpy.asarray(rows)
        wrong.append("numpy")
    except TypeError:
        pass
    emit("refusals", not wrong, wrong=wrong)
    copy = numpy.from_dlpack(rows, device="cpu") if numpy.__version__ >= "2.1" else rows.to_host()
    emit("copy_to_the_host", numpy.array_equal(numpy.asarray(copy), model.encode(["a", "b"])))


def check_tensors(model):
    """convert_to_tensor as sentence-transformers has it."""
    texts = texts_of(300)
    host = model.encode(texts)
    tensor = model.encode(texts, convert_to_tensor=True)
    emit("convert_to_tensor", tensor.device == torch.device("cuda", 0) == model.device
         and tensor.dtype == torch.float32 and same(tensor, host))
    rows = model.encode(texts[:3], convert_to_numpy=False)
    emit("list_of_tensors", len(rows) == 3 and all(row.is_cuda for row in rows)
         and same(torch.stack(rows), host[:3]))
    similar = model.similarity(tensor[:10], tensor)
    emit("similarity", similar.is_cuda and tuple(similar.shape) == (10, 300))
    codes = model.encode(texts, precision="ubinary", convert_to_tensor=True)
    emit("ubinary", codes.is_cuda and numpy.array_equal(
        codes.cpu().numpy(), model.encode(texts, precision="ubinary")))


def check_lifetime():
    """Rows after their model, dropped by another thread, in a child of fork."""
    model = open_model()
    texts = texts_of(200)
    host = model.encode(texts)
    before = torch.cuda.current_device()
    tensor = model.encode(texts, convert_to_tensor=True)
    rows = model.encode_rows(texts, on_device=True)
    del model
    gc.collect()
    emit("after_the_model", same(tensor, host) and same(torch.from_dlpack(rows), host))
    # kernels that still read them when the last reference goes
    total = sum((tensor * i).sum() for i in range(200))
    del tensor
    emit("dropped_at_work", bool(torch.isfinite(total)))
    child = os.fork()
    if child == 0:
        del rows
        os._exit(0)
    emit("fork", os.waitpid(child, 0)[1] == 0 and same(torch.from_dlpack(rows), host))
    held = [rows]
    del rows
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    emit("other_thread", torch.cuda.current_device() == before
         and float(torch.ones(4, device="cuda").sum()) == 4)


def check_memory(model):
    """What rows take on the card, and that it comes back."""
    texts = ["x"] * 60000
    model.encode_rows(texts[:5000], on_device=True)
    before = free_bytes()
    rows = model.encode_rows(texts, on_device=True)
    held = model.memory_report()["device_rows_bytes"]
    during = free_bytes()
    bytes_needed = len(texts) * rows.shape[1] * 4
    emit("memory_taken", bytes_needed <= held and before - during <= held + 2 * MIB,
         needed=bytes_needed, stated=held, observed=before - during)
    del rows
    emit("memory_back", before - free_bytes() <= 2 * MIB, observed=before - free_bytes())
    for _ in range(200):
        model.encode(texts[:700], convert_to_tensor=True)
        torch.from_dlpack(model.encode_rows("x", on_device=True))
    emit("memory_after_400_calls", before - free_bytes() <= 2 * MIB, observed=before - free_bytes())

    def stop(done):
        raise KeyboardInterrupt

    try:
        model._core.encode(texts, None, -1, False, stop, True, 0)
        emit("interrupted", False)
    except KeyboardInterrupt:
        emit("interrupted", model.memory_report()["device_rows_bytes"] == 0)


def check_budget():
    """Rows inside gpu_memory, or a BudgetError that names what would do."""
    texts = ["x"] * 60000
    gc.collect()
    torch.cuda.empty_cache()  # what torch keeps counts as the process's
    least = open_model().plan()["device_bytes_min"]
    small = open_model(gpu_memory=least)
    try:
        small.encode_rows(texts, on_device=True)
        emit("budget_error", False)
        return
    except embound.BudgetError as error:
        needed = error.minimum_bytes
        emit("budget_error", error.region == "device" and needed > least, stated=least,
             minimum_bytes=needed)
    small.close()
    needed += 8 * MIB  # a context may have grown meanwhile
    enough = open_model(gpu_memory=needed)
    rows = enough.encode_rows(texts, on_device=True)
    plan = enough.plan()
    emit("budget_kept", plan["device_bytes"] <= needed and len(rows) == len(texts),
         device_bytes=plan["device_bytes"], budget=needed, rung=plan["rung"])
    try:
        torch.from_dlpack(rows)
        enough.encode_rows(texts * 3, on_device=True)
        emit("rows_alive_count", False)
    except embound.BudgetError as error:
        emit("rows_alive_count", error.minimum_bytes > needed)


def best_of(calls, rounds):
    """Best seconds of each, interleaved."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def check_speed(model):
    """Rows on the card beside rows on the host that torch then moves there."""
    texts = texts_of(options.texts)
    calls = {"host": lambda: model.encode(texts),
             "host_then_to": lambda: torch.from_numpy(model.encode(texts)).to("cuda"),
             "convert_to_tensor": lambda: model.encode(texts, convert_to_tensor=True)}
    seconds = dict(zip(calls, best_of(list(calls.values()), 7)))
    emit("speed", seconds["convert_to_tensor"] <= 1.1 * seconds["host_then_to"],
         texts=len(texts), **{name: round(value, 5) for name, value in seconds.items()})
    calls = {"host_then_to": lambda: torch.from_numpy(model.encode("a query")).to("cuda"),
             "convert_to_tensor": lambda: model.encode("a query", convert_to_tensor=True)}
    seconds = dict(zip(calls, best_of(list(calls.values()), 300)))
    emit("speed_one_query", True, **{name: round(1e6 * value, 1) for name, value in
                                     seconds.items()}, unit="us")


def check_others(model):
    """cupy and jax, where they are installed."""
    rows = model.encode_rows(texts_of(50), on_device=True)
    host = numpy.asarray(rows.to_host())
    try:
        import cupy

        taken, other = cupy.from_dlpack(rows), cupy.asarray(rows)
        emit("cupy", taken.data.ptr == rows.address == other.data.ptr
             and numpy.array_equal(cupy.asnumpy(taken), host))
    except ImportError:
        print(json.dumps({"check": "cupy", "skipped": "not installed"}))
    try:
        import jax

        taken = jax.dlpack.from_dlpack(rows)
        emit("jax", numpy.array_equal(numpy.asarray(taken), host), device=str(taken.devices()))
    except ImportError:
        print(json.dumps({"check": "jax", "skipped": "not installed"}))


def check_several():
    """Several GPUs: rows on the first of the model's; torch's current device stays."""
    if torch.cuda.device_count() < 2:
        print(json.dumps({"check": "several", "skipped": "one GPU"}))
        return
    texts = texts_of(3000)
    host = open_model().encode(texts)
    second = open_model(device="cuda:1")
    torch.cuda.set_device(0)
    tensor = second.encode(texts, convert_to_tensor=True)
    emit("current_device_stays_at_open", torch.cuda.current_device() == 0)
    emit("second_gpu", tensor.device == torch.device("cuda", 1) and same(tensor, host))
    torch.cuda.set_device(0)
    rows = second.encode_rows(texts, on_device=True)
    kept = torch.cuda.current_device()
    del rows, tensor
    emit("current_device_stays", kept == 0 == torch.cuda.current_device())
    both = open_model(device="cuda:all")
    tensor = both.encode(texts, convert_to_tensor=True)
    emit("all_gpus", tensor.device == torch.device("cuda", 0) and same(tensor, host))


def check_exit():
    """The interpreter ends while a tensor, rows and the engine are open."""
    source = ("import sys, embound, torch\n"
              f"model = embound.SentenceTransformer({options.model!r}, device='cuda', "
              f"dtype={options.dtype!r})\n"
              "rows = model.encode_rows(['x'] * 1000, on_device=True)\n"
              "sys.tensor = torch.from_dlpack(rows)\nsys.rows = rows\n")
    done = subprocess.run([sys.executable, "-c", source], text=True, capture_output=True,
                          check=False, timeout=300)
    emit("exit", done.returncode == 0, status=done.returncode, said=done.stderr[-300:])


def main():
    """Runs everything; an exception is a failed check."""
    global options
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--dtype", default="f16")
    parser.add_argument("--texts", type=int, default=10000)
    options = parser.parse_args()
    warnings.simplefilter("ignore", embound.TruncationWarning)
    emit("environment", True, python=sys.version.split()[0], torch=torch.__version__,
         numpy=numpy.__version__, gpu=torch.cuda.get_device_name(0))
    model = open_model()
    for check in (check_rows, check_refusals, check_tensors, check_memory, check_others,
                  check_speed):
        try:
            check(model)
        except Exception:
            emit(check.__name__, False, raised=traceback.format_exc()[-1500:])
    model.close()
    for check in (check_lifetime, check_budget, check_several, check_exit):
        try:
            check()
        except Exception:
            emit(check.__name__, False, raised=traceback.format_exc()[-1500:])
    print(json.dumps({"check": "all", "failed": failed}))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
