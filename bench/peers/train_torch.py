"""Peers of training on a GPU: sentence-transformers' own losses, and a hand-written loop under
torch.compile, on random ids; autocast bf16, fused AdamW, dropout off.

  train_torch.py FORM PAIRS LENGTH MODEL [MINI [LIMIT_GIB]]

FORM: st, st-cached, compile, compile-cached, each with -ck for activation checkpointing. One JSON
line: tokens a second, best of five steps after three (of one, where a step takes seconds), and the
most that NVML showed beyond the context. An out-of-memory error is a result, too.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import sys
import time

import pynvml
import torch
import torch.nn.functional as F


def used_bytes():
    """What is used on the card, by whomever."""
    return pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used


class Loop:
    """A plain BERT and forty lines: what a careful user writes."""

    def __init__(self, form, pairs, length, model, mini):
        from safetensors.torch import load_file
        from transformers import AutoConfig, BertModel
        config = AutoConfig.from_pretrained(model)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        config._attn_implementation = "sdpa"
        self.net = BertModel(config, add_pooling_layer=False).cuda().train()
        weights = {k: v.float() for k, v in load_file(f"{model}/model.safetensors").items()}
        self.net.load_state_dict(weights, strict=False)
        if form.endswith("-ck"):
            self.net.gradient_checkpointing_enable()
        self.parameters = list(self.net.parameters())
        self.ids = torch.randint(1000, config.vocab_size, (2 * pairs, length), device="cuda")
        self.mask = torch.ones_like(self.ids)
        self.pairs, self.mini = pairs, mini
        self.cached = "cached" in form
        self.embed = torch.compile(self.encode)

    def encode(self, ids):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            x = self.net(input_ids=ids, attention_mask=self.mask[:len(ids)]).last_hidden_state
        return F.normalize(x.float().mean(1), dim=-1)

    def loss_of(self, vectors):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            scores = vectors[:self.pairs] @ vectors[self.pairs:].T * 20
        return F.cross_entropy(scores.float(), torch.arange(self.pairs, device="cuda"))

    def step(self):
        if not self.cached:
            loss = self.loss_of(self.embed(self.ids))
            loss.backward()
            return loss
        pieces = range(0, 2 * self.pairs, self.mini)
        with torch.no_grad():
            vectors = torch.cat([self.embed(self.ids[i:i + self.mini]) for i in pieces])
        vectors = vectors.detach().requires_grad_(True)
        loss = self.loss_of(vectors)
        loss.backward()
        for i in pieces:
            gradient = vectors.grad[i:i + self.mini]
            (self.embed(self.ids[i:i + self.mini]) * gradient).sum().backward()
        return loss


class Theirs:
    """sentence-transformers' model and losses."""

    def __init__(self, form, pairs, length, model, mini):
        from sentence_transformers import SentenceTransformer, losses
        self.model = SentenceTransformer(model, device="cuda").float()
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if form.endswith("-ck"):
            self.model[0].auto_model.gradient_checkpointing_enable()
        self.model.train()
        self.parameters = list(self.model.parameters())
        vocabulary = self.model[0].auto_model.config.vocab_size
        ids = torch.randint(1000, vocabulary, (2 * pairs, length), device="cuda")
        self.features = [{"input_ids": part, "attention_mask": torch.ones_like(part)}
                         for part in (ids[:pairs], ids[pairs:])]
        self.loss = (losses.CachedMultipleNegativesRankingLoss(self.model, mini_batch_size=mini)
                     if "cached" in form else losses.MultipleNegativesRankingLoss(self.model))

    def step(self):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = self.loss([dict(part) for part in self.features], None)
        loss.backward()
        return loss


def measure(peer, optimizer, tokens, base):
    best, peak = float("inf"), 0
    for turn in range(8):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        loss = peer.step()
        torch.nn.utils.clip_grad_norm_(peer.parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
        peak = max(peak, used_bytes())
        long = turn >= 1 and seconds > 2
        if turn >= 3 or long:
            best = min(best, seconds)
        if long:
            break
    return {"tokens_per_s": round(tokens / best),
            "beyond_context_mib": round((peak - base) / 2**20, 1)}


def main():
    form, pairs, length, model = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    mini = int(sys.argv[5]) if len(sys.argv) > 5 else 256
    limit = float(sys.argv[6]) if len(sys.argv) > 6 else 0
    pynvml.nvmlInit()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    base = used_bytes()
    row = {"peer": form, "model": os.path.basename(model), "pairs": pairs, "length": length,
           "mini": mini, "limit_gib": limit}
    if limit:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(limit * 2**30 / whole)
    try:
        peer = (Theirs if form.startswith("st") else Loop)(form, pairs, length, model, mini)
        optimizer = torch.optim.AdamW(peer.parameters, lr=2e-5, weight_decay=0, fused=True)
        row.update(measure(peer, optimizer, 2 * pairs * length, base))
    except torch.cuda.OutOfMemoryError:
        row["error"] = "out of memory"
    print(json.dumps(row), flush=True)


main()
