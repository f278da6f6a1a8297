#!/bin/sh
# Each header compiles alone: the public ones as C and as C++ with gcc and clang, all others as C.
# Templates (*_template.h) are part of the file that includes them.
# Not so a template, a header with a section "hooks": the files that include it define those.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
strict="-fsyntax-only -Wall -Wextra -Wpedantic -Wshadow -Werror -Iinclude"
failed=0 count=0 skipped=0
# the headers of the CUDA module's host side need the toolkit's
nvcc=$(tools/nvcc.sh 2>/dev/null) || nvcc=/usr/bin/nvcc
cuda=$(dirname "$(dirname "$(readlink -f "$nvcc")")")/include

try() { # compiler, flags...
    count=$((count + 1))
    "$@" || failed=$((failed + 1))
}
for compiler in gcc clang; do
    for header in include/*.h; do
        try $compiler -x c -std=c99 $strict "$header"
        try $compiler -x c -std=c17 -Wc++-compat $strict "$header"
    done
    for header in src/*/*.h src/*/*/*.h src/*/*/*/*.h apps/*/*.h; do
        [ -f "$header" ] || continue
        if grep -q "^/\* ---- hooks" "$header"; then continue; fi
        flags=
        case $header in
        *_template.h) continue ;;
        */avx2/*) flags="-mavx2 -mfma -mf16c" ;;
        */avx512/*) flags="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq" ;;
        esac
        if grep -q "<cuda_runtime" "$header"; then
            flags="-isystem $cuda"
            [ -f "$cuda/cuda_runtime_api.h" ] || { skipped=$((skipped + 1)); continue; }
        fi
        # A header may define static inline functions that nothing here uses.
        try $compiler -x c -std=c17 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Werror \
            -Wno-unused-function -Wno-pragma-once-outside-header -fsyntax-only $flags \
            -Iinclude -Isrc -Iapps "$header"
    done
done
for compiler in g++ clang++; do
    for header in include/*.h; do
        try $compiler -x c++ -std=c++11 $strict "$header"
        try $compiler -x c++ -std=c++20 $strict "$header"
    done
done
[ "$skipped" -eq 0 ] || echo "without the CUDA toolkit $skipped compilations were left out"
echo "headers: $count compilations, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
