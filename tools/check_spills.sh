#!/bin/sh
# Compiles the CUDA kernels and fails on any that spills registers. ARCHS: "90a" or "75 80 ...";
# needs nvcc. Objects go to OBJECTS (default build/gpu/objects), one per source and architecture.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
archs=${ARCHS:-75 80 86 89 90a}
objects=${OBJECTS:-build/gpu/objects}
jobs=${JOBS:-1}
nvcc=$(tools/nvcc.sh)
mkdir -p "$objects"

compile() { # source, architecture
    stem=$objects/$(basename "$1" .cu).$2
    "$nvcc" -O3 -std=c++17 -Xcompiler -fPIC -Isrc -Iinclude -Xptxas -v \
        -gencode "arch=compute_$2,code=sm_$2" -c "$1" -o "$stem.o" >"$stem.log" 2>&1 || {
        cat "$stem.log"
        echo failed >"$stem.failed"
    }
}
rm -f "$objects"/*.failed
running=0
for arch in $archs; do
    for source in src/backend/cuda/kernels/*/*.cu src/train/cuda/kernels/*.cu; do
        compile "$source" "$arch" &
        running=$((running + 1))
        if [ "$running" -ge "$jobs" ]; then
            wait
            running=0
        fi
    done
done
wait
if ls "$objects"/*.failed >/dev/null 2>&1; then exit 1; fi

spilling=0 kernels=0
for arch in $archs; do
    for source in src/backend/cuda/kernels/*/*.cu src/train/cuda/kernels/*.cu; do
        log=$objects/$(basename "$source" .cu).$arch.log
        kernels=$((kernels + $(grep -c "Compiling entry function" "$log" || true)))
        if grep -B 1 "bytes spill" "$log" | grep -B 1 -E "[1-9][0-9]* bytes spill"; then
            echo "$source: spills registers on sm_$arch"
            spilling=$((spilling + 1))
        fi
    done
done
echo "spills: $kernels kernels for sm_$(echo "$archs" | tr ' ' ,), $spilling files with spills"
[ "$spilling" -eq 0 ]
