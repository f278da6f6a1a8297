#!/usr/bin/env python3
"""sentence-transformers on a GPU in a process of its own, one JSON line for each batch size.

    gpu_peer.py MODEL TEXTS [--tokens N] [--dtype f16|bf16|f32] [--batches N,N] [--cap BYTES]

Same texts as embound's, cut at --tokens. --cap is the device memory that it may take, context
included: PyTorch's own limit is set to what the context leaves. Running out of memory is a result.

SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import pathlib
import sys
import time


def parse():
    """Arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--dtype", choices=("f16", "bf16", "f32"), default="f16")
    parser.add_argument("--batches", default="64,256,1024")
    parser.add_argument("--limit", type=int, default=20000)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--cap", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300)
    return parser.parse_args()


def say(**line):
    """One JSON line."""
    print(json.dumps(line), flush=True)


def cap(torch, limit):
    """Lets PyTorch take what the context leaves of the limit; gives the context's bytes."""
    torch.ones(1024, 1024, device="cuda").half() @ torch.ones(1024, 1024, device="cuda").half()
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(max(limit - context, 1) / total)
    return context


def measure(network, torch, lines, batch, repeat, end):
    """Best texts a second with a batch size, or why it has none."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    best = 0.0
    try:
        network.encode(lines[:2 * batch], batch_size=batch, show_progress_bar=False)
        for _ in range(repeat):
            began = time.monotonic()
            network.encode(lines, batch_size=batch, show_progress_bar=False)
            took = time.monotonic() - began
            best = max(best, len(lines) / took)
            if time.monotonic() + took > end:
                break
    except RuntimeError as reason:  # out of memory in PyTorch or in a library beneath it
        return {"failed": " ".join(str(reason).split())[:120]}
    reserved = torch.cuda.max_memory_reserved() if on_gpu else 0
    return {"texts_per_second": round(best, 1), "mib_torch": round(reserved / 2**20)}


def main():
    """See the head of the file."""
    options = parse()
    end = time.monotonic() + options.seconds
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as reason:
        sys.exit(str(reason))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    context = cap(torch, options.cap) if options.cap and device == "cuda" else 0
    kind = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}[options.dtype]
    network = SentenceTransformer(options.model, device=device, model_kwargs={"dtype": kind})
    network.max_seq_length = options.tokens
    text = pathlib.Path(options.texts).read_text(encoding="utf-8")
    lines = text.rstrip("\n").split("\n")[:options.limit]
    ids = network.tokenizer(lines[:2000], truncation=True, max_length=options.tokens)["input_ids"]
    mean_tokens = sum(map(len, ids)) / len(ids)
    for batch in map(int, options.batches.split(",")):
        if time.monotonic() > end:
            say(batch=batch, left_out="time")
            continue
        found = measure(network, torch, lines, batch, options.repeat, end)
        speed = found.get("texts_per_second")
        say(engine="sentence-transformers", dtype=options.dtype, device=device, batch=batch,
            texts=len(lines), mean_tokens=round(mean_tokens, 1),
            tokens_per_second=round(speed * mean_tokens) if speed else None,
            cap_mib=round(options.cap / 2**20, 1) if options.cap else None,
            context_mib=round(context / 2**20, 1) if context else None, **found)


if __name__ == "__main__":
    main()
