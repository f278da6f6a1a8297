#!/usr/bin/env python3
"""Forward passes on a GPU beside torch in the same run; JSON lines.

Random weights, random ids already on the device, no tokenizer: embedding to normalised mean.
embound is build/gpu/bench_forward (tools/gpu_check.sh makes it), which replays a CUDA graph. The
peers are the same shapes in torch, each layer under torch.compile, whole passes replayed as a CUDA
graph, so that neither side waits for its host. Both take turns in the same way: a pause, 3 passes
to warm up, the median of 9 samples. Each line holds the best batch size of a side. Ragged texts go
to the peers in three ways: padded in their own order, padded in batches of like length, and packed
(variable-length attention, no padding at all); ours are packed, in their order or by length.

usage: bench/gpu_forward.py [--program FILE] [--mode MODE] [--rounds N] [CASE...]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys
import time

try:
    import torch
    from torch import nn
    from torch.nn import functional as F
except ImportError:
    sys.exit("bench/gpu_forward.py: needs an interpreter with torch, the peer")

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = {"L6": (6, 384, 1536), "BERT-base": (12, 768, 3072), "mpnet-base": (12, 768, 3072)}
HEADS, VOCABULARY, POSITIONS = 12, 30522, 512
PAUSE_S = 0.2  # the power limit decides about clocks: each side begins equally cool


def emit(**line):
    """Prints one JSON line."""
    print(json.dumps(line), flush=True)


class Layer(nn.Module):
    """One encoder layer, post-norm; `attend` maps queries, keys and values to the context."""

    def __init__(self, hidden, inner):
        super().__init__()
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.norm1 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, inner)
        self.down = nn.Linear(inner, hidden)
        self.norm2 = nn.LayerNorm(hidden)

    def rest(self, x, context):
        """All that follows the attention."""
        x = self.norm1(x + self.out(context))
        return self.norm2(x + self.down(F.gelu(self.up(x))))

    def forward(self, x, mask):
        """x [batch, length, hidden]; mask None, boolean, or added to the scores."""
        batch, length, hidden = x.shape
        parts = self.qkv(x).view(batch, length, 3, HEADS, hidden // HEADS)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.rest(x, context.transpose(1, 2).reshape(batch, length, hidden))

    def packed(self, x, starts, longest):
        """x [tokens, hidden]; starts [texts + 1]."""
        tokens, hidden = x.shape
        q, k, v = self.qkv(x).view(tokens, 3, HEADS, hidden // HEADS).unbind(1)
        context = varlen(q, k, v, starts, longest)
        return self.rest(x, context.reshape(tokens, hidden))


def varlen(q, k, v, starts, longest):
    """Attention of packed texts: torch's own, or the flash kernel beneath its nested tensors."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return torch.ops.aten._flash_attention_forward(
            q, k, v, starts, starts, longest, longest, 0.0, False, False)[0]
    return varlen_attn(q, k, v, starts, starts, longest, longest)


class Encoder(nn.Module):
    """Embedding, layers, mean, length 1."""

    def __init__(self, name, mode):
        super().__init__()
        layers, hidden, inner = SHAPES[name]
        self.words = nn.Embedding(VOCABULARY, hidden)
        self.places = nn.Embedding(POSITIONS, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.layers = nn.ModuleList(Layer(hidden, inner) for _ in range(layers))
        self.relative = None
        if name == "mpnet-base":
            self.relative = nn.Parameter(torch.randn(HEADS, 2 * POSITIONS - 1))
        options = {"mode": mode, "fullgraph": True}
        self.run_dense = torch.compile(Layer.forward, dynamic=False, **options)
        self.run_any = torch.compile(Layer.forward, dynamic=True, **options)
        self.run_packed = torch.compile(Layer.packed, dynamic=False, **options)
        self.run_embed = torch.compile(self.embed, dynamic=True)
        self.run_mean = torch.compile(self.mean, dynamic=True)

    def embed(self, ids, places):
        """The input of the first layer."""
        return self.norm(self.words(ids) + self.places(places))

    @staticmethod
    def mean(x, mask):
        """x [batch, length, hidden] -> [batch, hidden]."""
        if mask is None:
            total = x.float().mean(1)
        else:
            weight = mask[:, 0, 0, :, None].float()
            total = (x.float() * weight).sum(1) / weight.sum(1)
        return F.normalize(total)

    def dense(self, ids, mask=None):
        """ids [batch, length], texts of one length, or of any with mask [batch, 1, 1, length]."""
        length = ids.shape[1]
        x = self.run_embed(ids, torch.arange(length, device="cuda"))
        layer = self.run_dense if mask is None else self.run_any
        bias = mask
        if self.relative is not None:
            place = torch.arange(length, device="cuda")
            bias = self.relative[:, place[None] - place[:, None] + POSITIONS - 1][None]
        for each in self.layers:
            x = layer(each, x, bias)
        return self.run_mean(x, mask)

    def packed(self, ids, places, starts, longest):
        """ids [tokens]."""
        x = self.run_embed(ids, places)
        for each in self.layers:
            x = self.run_packed(each, x, starts, longest)
        texts = len(starts) - 1
        lengths = starts.diff()
        owner = torch.repeat_interleave(torch.arange(texts, device="cuda"), lengths,
                                        output_size=len(ids))
        total = torch.zeros(texts, x.shape[1], device="cuda").index_add_(0, owner, x.float())
        return F.normalize(total / lengths[:, None])


class Torch:
    """One pass of a peer as a CUDA graph."""

    def __init__(self, work):
        stream = torch.cuda.Stream()
        with torch.inference_mode(), torch.cuda.stream(stream):
            for _ in range(3):
                work()
            stream.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=stream):
                self.out = work()
        torch.cuda.synchronize()

    def time_us(self, each):
        """Median of nine samples of `each` replays, as in bench_forward.cu."""
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        samples = []
        for _ in range(3):
            self.graph.replay()
        for _ in range(9):
            start.record()
            for _ in range(each):
                self.graph.replay()
            stop.record()
            stop.synchronize()
            samples.append(start.elapsed_time(stop) * 1000 / each)
        return statistics.median(samples)


class Embound:
    """The program that times our passes."""

    def __init__(self, program):
        self.process = subprocess.Popen([str(program), "serve"], text=True, bufsize=1,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def time_us(self, model, lengths):
        """Median of several replays of one pass."""
        self.process.stdin.write(" ".join([model, *map(str, lengths)]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["us"]


def ids_of(*shape):
    """Random ids on the device."""
    return torch.randint(0, VOCABULARY, shape, device="cuda")


def padded(encoder, lengths, batch):
    """Passes over batches of texts in the order given, each padded to its longest (by 8s)."""
    parts = []
    for first in range(0, len(lengths), batch):
        part = torch.tensor(lengths[first:first + batch], device="cuda")
        longest = math.ceil(int(part.max()) / 8) * 8
        mask = torch.arange(longest, device="cuda")[None] < part[:, None]
        parts.append((ids_of(len(part), longest), mask[:, None, None, :]))
    return lambda: [encoder.dense(ids, mask) for ids, mask in parts]


def packed(encoder, lengths):
    """One pass over all texts without padding."""
    count = torch.tensor(lengths, device="cuda")
    starts = F.pad(count.cumsum(0), (1, 0)).int()
    places = torch.cat([torch.arange(n, device="cuda") for n in lengths])
    ids = ids_of(sum(lengths))
    return lambda: encoder.packed(ids, places, starts, max(lengths))


class Bench:
    """Both sides, measured in turns."""

    def __init__(self, options):
        self.rounds = options.rounds
        self.mode = options.mode
        self.embound = Embound(options.program)
        self.encoders = {}

    def encoder(self, name):
        """A peer in f16."""
        if name not in self.encoders:
            self.encoders[name] = Encoder(name, self.mode).half().cuda().eval()
        return self.encoders[name]

    def report(self, what, model, ours, theirs, each):
        """`ours` are lists of lengths, `theirs` (name, real tokens, work); best of each side."""
        peers = []
        for name, tokens, work in theirs:
            try:
                peers.append((name, tokens, Torch(work)))
            except Exception as error:  # pylint: disable=broad-except
                emit(what=what, shape=model, peer=name, failed=str(error).split("\n")[0][:200])
        speeds = {}
        for _ in range(self.rounds):
            for lengths in ours:
                time.sleep(PAUSE_S)
                us = self.embound.time_us(model, lengths)
                speeds.setdefault(("embound", sum(lengths)), []).append(sum(lengths) / us)
            for name, tokens, peer in peers:
                time.sleep(PAUSE_S)
                speeds.setdefault((name, tokens), []).append(tokens / peer.time_us(each))
        best = {}
        for (name, tokens), values in speeds.items():
            speed = statistics.median(values)
            if speed > best.get(name, (0, 0))[0]:
                best[name] = (speed, tokens)
        mine, tokens = best.pop("embound")
        emit(what=what, shape=model, dtype="f16", tok_s=round(mine * 1e6), tokens=tokens,
             us=round(tokens / mine, 1),
             ratio=round(mine / max((v[0] for v in best.values()), default=math.nan), 3))
        for name, (speed, tokens) in sorted(best.items(), key=lambda item: -item[1][0]):
            emit(what=what, shape=model, dtype="f16", peer=name, tok_s=round(speed * 1e6),
                 tokens=tokens, us=round(tokens / speed, 1), ratio=round(mine / speed, 3))

    def dense(self, model):
        """Texts of 128 tokens."""
        encoder = self.encoder(model)
        ids = {n: ids_of(n, 128) for n in (128, 256, 512)}
        theirs = [("torch.compile", n * 128, lambda x=x: encoder.dense(x)) for n, x in ids.items()]
        ours = [[128] * n for n in (64, 128, 240, 256, 480)]
        self.report("L=128", model, ours, theirs, 3)

    def ragged(self, model, low=8, high=256, total=65536):
        """Texts of low to high tokens; speeds count real tokens."""
        encoder = self.encoder(model)
        generator = random.Random(1)
        lengths = []
        while sum(lengths) < total:
            lengths.append(min(generator.randint(low, high), total - sum(lengths)))
        longest_first = sorted(lengths, reverse=True)
        theirs = [("torch.compile, packed, varlen attention", total, packed(encoder, lengths)),
                  ("torch.compile, padded, in order", total, padded(encoder, lengths, 128))]
        theirs += [(f"torch.compile, padded, sorted, batches of {n}", total,
                    padded(encoder, longest_first, n)) for n in (64, 128)]
        # the engine, too, orders a window by length
        ours = [longest_first[::4], longest_first[::2], longest_first, lengths]
        self.report(f"ragged {low}-{high}", model, ours, theirs, 3)

    def query(self, model):
        """One text of 128 tokens."""
        encoder = self.encoder(model)
        ids = ids_of(1, 128)
        theirs = [("torch.compile", 128, lambda: encoder.dense(ids))]
        self.report("one query of 128", model, [[128]], theirs, 20)


def main():
    """See the head of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=ROOT / "build" / "gpu" / "bench_forward")
    parser.add_argument("--mode", default="default", help="of torch.compile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    if not pathlib.Path(options.program).exists():
        sys.exit(f"bench/gpu_forward.py: {options.program} is missing (tools/gpu_check.sh)")
    if not torch.cuda.is_available():
        sys.exit("bench/gpu_forward.py: torch finds no GPU")
    cases = {"L6": lambda b: b.dense("L6"), "BERT-base": lambda b: b.dense("BERT-base"),
             "mpnet-base": lambda b: b.dense("mpnet-base"), "ragged": lambda b: b.ragged("L6"),
             "query": lambda b: b.query("L6")}
    emit(what="settings", device=torch.cuda.get_device_name(), torch=torch.__version__,
         cuda=torch.version.cuda, mode=options.mode, rounds=options.rounds,
         weights="random", ids="random", timing="CUDA graph replays, device events, median")
    bench = Bench(options)
    for name in options.cases or cases:
        cases[name](bench)


if __name__ == "__main__":
    main()
