#!/bin/sh
# Builds the CUDA kernels for the device here, checks them, runs compute-sanitizer on small cases,
# the forward bench. JSON lines go to OUT (default build/gpu). STEPS chooses among "spills check
# sanitize bench"; ARCH names the architecture (default 90a).
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
OUT=${OUT:-build/gpu}
arch=${ARCH:-90a}
steps=${STEPS:-spills check sanitize bench}
objects=build/gpu/objects
nvcc=$(tools/nvcc.sh)
mkdir -p "$OUT" build/gpu

has() { case " $steps " in *" $1 "*) ;; *) return 1 ;; esac }

ARCHS=$arch OBJECTS=$objects JOBS=${JOBS:-$(nproc)} tools/check_spills.sh
training="check_gradients check_train_attention check_train_ends check_train_ranking"
for program in check_kernels check_quantized $training check_graph bench_forward bench_quantized; do
    "$nvcc" -O2 -std=c++17 -Isrc -Iinclude -Itests -gencode "arch=compute_$arch,code=sm_$arch" \
        -o "build/gpu/$program" "tests/cuda/$program.cu" "$objects"/*."$arch".o -ldl &
done
wait
failed=0
if has check; then
    build/gpu/check_kernels | tee "$OUT/check.jsonl" || true
    tail -n 1 "$OUT/check.jsonl" | grep -q '"check": "all".*"failed": 0}' || failed=1
    build/gpu/check_quantized | tee "$OUT/quantized.jsonl" || true
    tail -n 1 "$OUT/quantized.jsonl" | grep -q '"check": "all", "failed": 0}' || failed=1
    for program in $training; do
        build/gpu/"$program" >"$OUT/program.log" || failed=1
        tee -a "$OUT/training_check.jsonl" <"$OUT/program.log"
        tail -n 1 "$OUT/program.log" | grep -q '"failed": 0}' || failed=1
    done
fi
if has sanitize; then
    for tool in memcheck racecheck synccheck; do
        bad=0 gradients=small
        [ "$tool" != racecheck ] || gradients=races
        : >"$OUT/$tool.log"
        for run in "check_kernels small" "check_quantized small" "check_gradients $gradients" \
            "check_train_attention small" "check_train_ends small" "check_train_ranking small"; do
            # shellcheck disable=SC2086 # a program and its argument
            timeout 150 compute-sanitizer --tool "$tool" --error-exitcode 9 \
                build/gpu/$run >>"$OUT/$tool.log" 2>&1 || bad=1
        done
        [ "$bad" -eq 0 ] || tail -n 20 "$OUT/$tool.log" >&2
        echo "{\"sanitizer\": \"$tool\", \"failed\": $bad}"
    done | tee "$OUT/sanitizer.jsonl"
    grep -q '"failed": 1' "$OUT/sanitizer.jsonl" && failed=1
fi
if has bench; then
    build/gpu/check_graph | tee "$OUT/graph.jsonl" || failed=1
    build/gpu/bench_forward >"$OUT/forward.jsonl" || failed=1
    cat "$OUT/forward.jsonl"
    for program in $training; do
        build/gpu/"$program" bench | grep '"bench"' | tee -a "$OUT/training_bench.jsonl" || failed=1
    done
    build/gpu/bench_quantized ops | tee "$OUT/quantized_forward.jsonl" || failed=1
fi
exit "$failed"
