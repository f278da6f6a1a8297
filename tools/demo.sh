#!/bin/sh
# The whole way in under five minutes: installs what is missing, builds, gets a model, shows the
# plan for 64 MiB, encodes the samples and a text of 100,000 words inside it, asks three questions.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."

BUDGET=64MiB
WORDS=100000
MODEL=build/models/all-MiniLM-L6-v2
DEMO=build/demo
began=$(date +%s)

step() { printf '\n== %s\n' "$*"; }

step "What building needs"
tools/deps.sh build models
echo "all there"

step "Building (build/embound)"
make --no-print-directory all >/dev/null
build/embound --version

step "A model ($MODEL)"
python3 tools/get_models.py all-MiniLM-L6-v2

step "The plan for $BUDGET: before any work, to the byte"
build/embound plan "$MODEL" --memory "$BUDGET"

step "Encoding $(wc -l <examples/texts.txt) samples and one text of $WORDS words inside $BUDGET"
mkdir -p "$DEMO"
cp examples/texts.txt "$DEMO/texts.txt"
awk -v words="$WORDS" '{ for (i = 1; i <= NF; i++) word[n++] = $i }
    END { for (i = 0; i < words; i++) printf "%s ", word[i % n]; print "" }' \
    examples/texts.txt >>"$DEMO/texts.txt"
build/embound encode "$MODEL" -i "$DEMO/texts.txt" -o "$DEMO/vectors.npy" --memory "$BUDGET" \
    --stats "$DEMO/stats.json" &
job=$!
peak=0
while now=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$job/status" 2>/dev/null) &&
    [ -n "$now" ]; do
    peak=$now
    sleep 0.1
done
wait "$job"

number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" "$DEMO/stats.json"; }
mib() { awk -v bytes="$1" 'BEGIN { printf "%.2f MiB", bytes / 1048576 }'; }

step "Memory: what was promised, what was used"
printf 'budget                                %s\n' "$(mib "$(number host_bytes_max)")"
printf 'planned peak                          %s\n' "$(mib "$(number host_bytes_planned)")"
printf 'observed peak, by the process itself  %s\n' "$(mib "$(number host_bytes_peak)")"
printf 'observed peak, by another process     %s\n' "$(mib "$((peak * 1024))")"
if [ "$((peak * 1024))" -gt "$(number host_bytes_planned)" ]; then
    echo "the peak is above the plan" >&2
    exit 1
fi

step "Three questions to the samples"
while read -r query; do set -- "$@" "$query"; done <examples/queries.txt
build/embound search "$MODEL" --index "$DEMO/vectors.npy" --texts "$DEMO/texts.txt" \
    --memory "$BUDGET" "$@"

printf '\nDone in %d seconds.\n' "$(($(date +%s) - began))"
