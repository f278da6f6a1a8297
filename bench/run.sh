#!/bin/sh
# Runs the benches and leaves JSON lines in bench/results/: the program's own throughput by stage
# with planned and observed peak, and, where the oracles are there, the peers beside it.
# SPDX-License-Identifier: Apache-2.0
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${EMB_BUILD:-$root/build}
results=$root/bench/results
mkdir -p "$results"

for model in "$root"/build/models/* "$root"/tests/data/tiny-bert; do
    [ -f "$model/config.json" ] || continue
    for dtype in f32 bf16; do
        "$build/embound" bench "$model" --dtype "$dtype" --json --quiet |
            tee -a "$results/embound.jsonl"
    done
done
python3 "$root/bench/peers/compare.py"
