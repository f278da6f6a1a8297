#!/bin/sh
# Builds and installs the Python package into build/venv-python and runs its tests there; ends with
# "N passed, N failed, N skipped". With build/venv-oracle the comparisons with sentence-transformers
# run too, with build/models those on real weights. ADAPTERS=1 gets the five packages that adapters
# exist for, into build/venv-adapters, and runs the adapters' tests there instead. Arguments go to
# pytest. Needs pip's index once.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
venv=build/venv-python
packages="scikit-build-core ninja numpy pytest tqdm pyarrow polars pandas"
if [ -n "${ADAPTERS:-}" ]; then
    venv=build/venv-adapters
    packages="scikit-build-core ninja numpy pytest langchain-core llama-index-core haystack-ai
        chromadb lancedb"
    set -- -k integrations "$@"
fi
[ -x $venv/bin/python ] || python3 -m venv $venv
python="$PWD/$venv/bin/python"
if ! [ -f $venv/.ready ] || [ tools/test_python.sh -nt $venv/.ready ]; then
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --disable-pip-version-check $packages
    oracle=$(echo "$PWD"/build/venv-oracle/lib/python3.*/site-packages)
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # seen from here, and never written to
    if [ -d "$oracle" ] && [ "${oracle#*venv-oracle/}" = "${site#*venv-python/}" ]; then
        echo "$oracle" >"$site/oracle.pth"
    fi
    touch $venv/.ready
fi
"$python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps .
exec "$python" -m pytest python/tests "$@"
