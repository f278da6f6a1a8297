#!/bin/sh
# Runs the acceptance rows of a GPU, step by step; JSON lines go to OUT (default build/gpu).
#   STEPS="build cap limits" CARRY=folder SECONDS_EACH=300 tools/gpu_accept.sh
# CARRY holds L6/ (all-MiniLM-L6-v2), abstracts.txt, sts.txt, mixed.txt, tiny.txt and, for mpnet's
# vocabulary, mpnet-tokenizer/; without it the model is that of build/models, and texts are made up
# (tools/make_texts.py). WORK (default /tmp/embound-accept) keeps build and models between calls.
# PARTS are those of the step quantized, MATRIX more arguments of the step matrix. ARCH is the
# device's architecture; EMB_BUILD an existing build to use instead. The steps of the Python
# package: `pip` is `pip install .`, as far as that goes without an index (WHEELS, by default
# CARRY/wheels, holds scikit-build-core, pathspec and packaging), and the README's lines with what
# it made; matrix and mission take that package, or else build one in place.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
ALL="cosine abstracts short embed mpnet cap million limits sweep stream devices variants"
ALL="$ALL quantized steady faults sanitize monitor pip matrix mission training"
steps=${STEPS:-build $ALL}
work=${WORK:-/tmp/embound-accept}
texts=${CARRY:-$work/texts}
if [ -n "${CARRY:-}" ]; then model=$CARRY/L6; else model=build/models/all-MiniLM-L6-v2; fi
model=${MODEL:-$model}
if [ ! -f "$model/config.json" ]; then
    echo "gpu_accept: $model is missing (make models, or CARRY)" >&2
    exit 1
fi
wheels=${WHEELS:-$texts/wheels}
each=${SECONDS_EACH:-300}
OUT=${OUT:-build/gpu}
export OUT EMB_BUILD="${EMB_BUILD:-$work/build}"
# rows are written at the speed of memory, not of a disk
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
mkdir -p "$OUT" "$work"
[ -f "$texts/abstracts.txt" ] || python3 tools/make_texts.py "$texts"
failed=0

note() { echo "{\"step\": \"$1\", \"$2\": $3}" | tee -a "$OUT/accept.jsonl"; }

build() {
    cmake -S . -B "$EMB_BUILD" -DCMAKE_BUILD_TYPE=Release -DEMB_CUDA=ON \
        -DCMAKE_CUDA_ARCHITECTURES="${ARCH:-90a}-real" >"$OUT/configure.log" 2>&1 &&
        cmake --build "$EMB_BUILD" -j "$(nproc)" --target embound embound_cli embound_cuda peak \
            gpu_steady driver_calls matrix_case embed check_train >"$OUT/build.log" 2>&1 ||
        { tail -n 20 "$OUT/configure.log" "$OUT/build.log"; exit 1; }
}

# A model of the shape NAME with random weights, once. NAME TOKENIZER
random_model() {
    [ -f "$work/$1/model.safetensors" ] && return
    python3 tools/make_random_model.py "$work/$1.part" --preset "$1" --dtype F16 --tokenizer "$2" &&
        mv "$work/$1.part" "$work/$1"
}

models() {
    tokenizer=$texts/mpnet-tokenizer
    [ -d "$tokenizer" ] || tokenizer=build/models/all-mpnet-base-v2
    random_model bert-base "$model" &
    random_model mpnet-base "$tokenizer"
    wait
}

bench() {
    file=$1
    step=$2
    timeout $((each + 60)) python3 "bench/$file.py" "$step" --model "$model" \
        --mpnet "${MPNET:-$work/mpnet-base}" --bert "${BERT:-$work/bert-base}" --texts "$texts" \
        --seconds "$each" --scale "${SCALE:-1}" || { note "$step" status $?; failed=1; }
}

# What pip makes of a checkout, into $work/site; nothing of the machine's own packages changes.
pip_install() {
    rm -rf "$work/site" "$work/tools"
    python3 -m pip install --quiet --no-index --find-links "$wheels" --target "$work/tools" \
        scikit-build-core &&
        PYTHONPATH="$work/tools" CMAKE_BUILD_PARALLEL_LEVEL="$(nproc)" python3 -m pip install \
            --no-index --no-build-isolation --no-deps --target "$work/site" . \
            >"$OUT/pip.log" 2>&1 ||
        { tail -n 20 "$OUT/pip.log"; return 1; }
}

# The package for what follows: pip's, or one beside the build, with the build's CUDA module.
package() {
    if ! [ -d "$work/site/embound" ]; then
        cmake -S . -B "$work/py" -DCMAKE_BUILD_TYPE=Release -DEMB_PYTHON_MODULE=ON \
            -DEMB_CUDA=OFF -DEMB_BUILD_TESTS=OFF >"$OUT/python.log" 2>&1 &&
            cmake --build "$work/py" -j "$(nproc)" --target embound_python embound_cli \
                >>"$OUT/python.log" 2>&1 &&
            cmake --install "$work/py" --component python --prefix "$work/site" \
                >>"$OUT/python.log" && cp -r python/embound "$work/site/" ||
            { tail -n 20 "$OUT/python.log"; exit 1; }
    fi
    [ -f "$work/site/embound/libembound_cuda.so" ] ||
        export EMB_CUDA_MODULE="$EMB_BUILD/libembound_cuda.so"
    export PYTHONPATH="$work/site"
}

# Training against the CPU's gradients, for both families and a shape whose loss is the host's; then
# beside its peers.
training() {
    export EMB_CUDA_MODULE="$EMB_BUILD/libembound_cuda.so"
    check=$EMB_BUILD/tests/check_train
    python3 tools/make_random_model.py "$work/mpnet-small" --architecture mpnet --layers 2 \
        --hidden 384 --heads 6 --intermediate 1536
    for one in "$model" "$work/mpnet-small" tests/data/tiny-mpnet; do
        timeout "$each" "$check" "$one" | tee -a "$OUT/training.jsonl"
        tail -n 1 "$OUT/training.jsonl" | grep -q '"failed": 0}' || failed=1
    done
    [ -n "${BERT:-}" ] || random_model bert-base "$model"
    # shellcheck disable=SC2086
    timeout $((2 * each)) python3 bench/gpu_training.py "$check" "$model" \
        "${BERT:-$work/bert-base}" ${ROWS:-} | tee -a "$OUT/training.jsonl"
    ! grep -q '"ok": false' "$OUT/training.jsonl" || failed=1
}

for step in $steps; do
    case $step in
    build) build ;;
    cosine | abstracts | short) bench gpu_encode "$step" ;;
    embed) # emb_engine_embed beside submit and collect
        EMB_CUDA_MODULE="$EMB_BUILD/libembound_cuda.so" \
            timeout "$each" "$EMB_BUILD/tests/bench_embed" "$model" cuda |
            tee -a "$OUT/accept.jsonl"
        tail -n 1 "$OUT/accept.jsonl" | grep -q '"step": "embed".*"passed": true' || failed=1
        ;;
    mpnet | cap | stream)
        [ -n "${MPNET:-}" ] || models
        case $step in mpnet) bench gpu_speed mpnet ;; *) bench gpu_memory $step ;; esac
        ;;
    million | limits | sweep) bench gpu_memory "$step" ;;
    quantized)
        [ -n "${MPNET:-}" ] || models
        for part in ${PARTS:-quality memory speed}; do bench gpu_quantized "$part"; done
        ;;
    devices | variants) bench gpu_speed "$step" ;;
    steady | faults | sanitize | monitor) bench gpu_faults "$step" ;;
    pip)
        if pip_install; then
            PYTHONPATH="$work/site" bench gpu_mission snippet
        else
            note pip passed false
            failed=1
        fi
        ;;
    matrix)
        package
        # shellcheck disable=SC2086
        timeout $((2 * each)) python3 tests/cuda/matrix.py --model "$model" --jobs 6 \
            ${MATRIX:-} || failed=1
        ;;
    mission)
        package
        bench gpu_mission mission
        ;;
    training) training ;;
    *) echo "gpu_accept: no step '$step'; there are: build $ALL" >&2; exit 64 ;;
    esac
done
exit "$failed"
