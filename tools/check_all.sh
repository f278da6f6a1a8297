#!/bin/sh
# Runs every check, one line for each that passes and the whole output of each that does not.
# SPDX-License-Identifier: Apache-2.0
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=${1:-2}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0

check() { # name, command...
    name=$1
    shift
    if "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $name ($(tail -n 1 "$log"))"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/        /' "$log"
    fi
}
build() { # preset
    cmake --preset "$1" && cmake --build "build/$1" -j "$jobs" && echo "no warnings"
}
check layers python3 tools/check_layers.py
check style python3 tools/check_style.py
check format python3 tools/check_format.py
check picture python3 tools/draw_throughput.py --check
check headers tools/check_headers.sh
check abi python3 tools/check_abi.py
check gcc build check-gcc
check clang build check-clang
check symbols python3 tools/check_symbols.py build/check-gcc
check symbols-clang python3 tools/check_symbols.py build/check-clang
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
