#!/bin/sh
# Runs the backend in a real tritonserver, over HTTP and gRPC; ends with "N passed, N failed, N
# skipped". The server comes in the Python package nvidia-pytriton, into build/venv-triton, made
# once (350 MB of downloads). Where it cannot be installed (another processor, no network) the tests
# are skipped. Arguments go to tools/run_tests.py (--only vectors).
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
venv=build/venv-triton
wanted=$(cat tools/requirements-triton.txt tools/requirements-triton-client.txt | sha256sum)

install() {
    "$venv/bin/python" -m pip install --quiet --retries 2 --disable-pip-version-check \
        --only-binary :all: "$@"
}
make_environment() {
    [ -x $venv/bin/python ] || python3 -m venv $venv || return 1
    # the server's own requirements are those of a Python front end that nobody runs here
    install --no-deps -r tools/requirements-triton.txt || return 1
    install -r tools/requirements-triton-client.txt || return 1
    printf '%s' "$wanted" >$venv/.made-from
}
if [ "$(cat $venv/.made-from 2>/dev/null)" != "$wanted" ] && ! make_environment; then
    echo "skipped: tritonserver cannot be installed here (nvidia-pytriton, for x86-64)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec "$venv/bin/python" tools/run_tests.py --build build --kind triton "$@"
