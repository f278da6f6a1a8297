#!/bin/sh
# Builds and installs the Python package into build/venv-python and runs its tests there; ends with
# "N passed, N failed, N skipped". With build/venv-oracle the comparisons with sentence-transformers
# run too, with build/models those on real weights. Arguments go to pytest. Needs pip's index once.
#   ADAPTERS=1  the adapters' tests, in build/venv-adapters with the five packages they are for
#   SHORT=1     numpy alone, without the long test of signals; skipped where no venv can be made
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
venv=build/venv-python
patience=1200 # seconds for pip
packages="scikit-build-core ninja numpy pytest"
if [ -n "${ADAPTERS:-}" ]; then
    venv=build/venv-adapters
    packages="$packages langchain-core llama-index-core haystack-ai chromadb lancedb"
    set -- -k integrations "$@"
elif [ -n "${SHORT:-}" ]; then
    venv=build/venv-python-short
    patience=180
    set -- -k "not random_moments and not ctrl_c_while" "$@"
else
    packages="$packages tqdm pyarrow polars pandas datasets tensorboard mypy"
fi

unavailable() {
    echo "python package: $1"
    [ -n "${SHORT:-}" ] || exit 1
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
header=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
[ -f "$header" ] || unavailable "no Python.h (Debian: apt-get install python3-dev)"
if ! [ -x $venv/bin/python ]; then
    python3 -m venv $venv || unavailable "no venv (Debian: apt-get install python3-venv)"
fi
python="$PWD/$venv/bin/python"
if ! [ -f $venv/.ready ] || [ tools/test_python.sh -nt $venv/.ready ]; then
    # shellcheck disable=SC2086
    timeout $patience "$python" -m pip install --quiet --retries 2 \
        --disable-pip-version-check $packages || unavailable "pip reaches no index, or too slowly"
    touch $venv/.ready
fi
# the reference implementations, whenever they are there: seen from here, and never written to
oracle=$(echo "$PWD"/build/venv-oracle/lib/python3.*/site-packages)
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -f "$site/oracle.pth"
if [ -f build/venv-oracle/made-from ] &&
    [ "${oracle#*venv-oracle/}" = "${site#*venv-python/}" ]; then
    echo "$oracle" >"$site/oracle.pth"
fi
# tests without a GPU need no CUDA module
EMB_CUDA=${EMB_CUDA:-OFF} "$python" -m pip install --quiet --disable-pip-version-check \
    --no-build-isolation --no-deps .
exec "$python" -m pytest python/tests "$@"
