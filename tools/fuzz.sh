#!/bin/sh
# Runs each fuzz program of a build directory for some seconds from its corpus; new inputs stay in
# the build directory, and a finding stops with the input that shows it.
# SPDX-License-Identifier: Apache-2.0
set -eu
build=$1
seconds=$2
passed=0
for program in "$build"/tests/fuzz_*; do
    [ -x "$program" ] && [ -f "$program" ] || continue
    what=${program##*/fuzz_}
    mkdir -p "$build/corpus/$what" "$build/findings"
    if ! "$program" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$build/findings/$what-" "$build/corpus/$what" "tests/fuzz/corpus/$what" \
        >"$build/$what.log" 2>&1 </dev/null; then
        tail -n 40 "$build/$what.log"
        echo "finding in fuzz_$what: see $build/findings"
        exit 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$what.log")
    echo "fuzz_$what: $runs runs in $seconds s, no finding"
    passed=$((passed + 1))
done
echo "$passed passed, 0 failed, 0 skipped"
