#!/bin/sh
# Runs the benches and leaves JSON lines in bench/results/: the program's own throughput by stage
# with planned and observed peak, and, where the oracles are there, the peers beside it.
# SPDX-License-Identifier: Apache-2.0
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
build=${EMB_BUILD:-$root/build}
results=$root/bench/results
[ -x "$build/embound" ] || { echo "bench: $build/embound is missing (make)" >&2; exit 1; }
[ -d "$root/build/models" ] || echo "bench: no real models (make models): the tiny one alone" >&2

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
for model in "$root"/build/models/* "$root"/tests/data/tiny-bert; do
    [ -f "$model/config.json" ] || continue
    for dtype in f32 bf16; do
        "$build/embound" bench "$model" --dtype "$dtype" --json --quiet >"$lines"
        cat "$lines"
        cat "$lines" >>"$results/embound.jsonl"
    done
done
if [ -x "$root/build/venv-oracle/bin/python" ] && [ -d "$root/build/models" ]; then
    python3 "$root/bench/peers/compare.py"
else
    echo "bench: the peers are left out (tools/oracle_env.sh, make models)" >&2
fi
