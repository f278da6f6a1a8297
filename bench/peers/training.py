#!/usr/bin/env python3
"""A plain training loop of sentence-transformers, a step for each line of standard input:
bench/training_cpu.py runs it. training.py MODEL TABLE PAIRS THREADS STEPS

SPDX-License-Identifier: Apache-2.0
"""
import json
import sys
import time

import torch
from sentence_transformers import SentenceTransformer

try:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
except ImportError:
    from sentence_transformers.losses import MultipleNegativesRankingLoss

path, table, (pairs, threads, steps) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:6])
torch.set_num_threads(threads)
model = SentenceTransformer(path, device="cpu")
model.max_seq_length = 128
model.train()
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
loss = MultipleNegativesRankingLoss(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: max(0.0, 1 - n / steps))
with open(table, encoding="utf-8") as lines:
    rows = [line.rstrip("\n").split("\t") for line in lines]
tokenize = getattr(model, "preprocess", None) or model.tokenize
at = 0
for _ in sys.stdin:
    texts = rows[at:at + pairs]
    at = (at + pairs) % len(rows)
    features = [tokenize([row[k] for row in texts]) for k in range(2)]
    begin = time.perf_counter()
    value = loss(features, None)
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    print(json.dumps({"seconds": time.perf_counter() - begin, "loss": value.item()}), flush=True)
