#!/bin/sh
# Installs the other engines into private environments under build/ and prints one table of speed,
# latency and peak memory beside ours, all measured in one interleaved run (bench/peers/table.py,
# whose options this takes). An engine that cannot be installed is listed as absent, with the
# reason. PEERS=none leaves installing out.
# SPDX-License-Identifier: Apache-2.0
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
build=${EMB_BUILD:-$root/build}
venv=$root/build/venv-peers
oracle=$root/build/venv-oracle
absent=$venv/absent

if [ ! -d "$root/build/models" ]; then
    echo "cpu_peers: there are no models (make models)" >&2
    exit 1
fi
[ -x "$build/tests/peak" ] || make -C "$root" everything || exit 1

# onnxruntime, sentence-transformers and torch, which the tests compare with too
if [ "${PEERS:-}" != none ] && [ ! -f "$oracle/made-from" ]; then "$root/tools/oracle_env.sh"; fi

if [ "${PEERS:-}" != none ]; then
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv" || exit 1
    mkdir -p "$absent" "$venv/present"
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # what is there already is used, not installed twice
    [ -x "$oracle/bin/python" ] && "$oracle/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/oracle.pth"
    # wheels only: building one of these would take longer than all the measuring; one that could
    # not be had is tried again next time
    for package in openvino nncf ctranslate2 llama-cpp-python; do
        [ ! -e "$venv/present/$package" ] || continue
        if "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
            "$package" 2>"$venv/pip.log"; then
            rm -f "$absent/$package"
            touch "$venv/present/$package"
        else
            grep -m1 -i error "$venv/pip.log" >"$absent/$package"
        fi
    done
fi
exec python3 "$root/bench/peers/table.py" "$@"
