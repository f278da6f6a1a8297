#!/bin/sh
# Makes a Python environment with the reference implementations that tests and benches compare
# against: sentence-transformers, torch (CPU), tokenizers, onnxruntime. About 0.7 GB of downloads,
# 2 GB installed. VENV=DIR chooses the place (default build/venv-oracle). Does nothing if made.
#
# torch's wheel is linked against GPU libraries. The two that run at load time are installed; for
# the others, which a CPU never calls, libraries of the same names whose symbols trap satisfy the
# loader.
# SPDX-License-Identifier: Apache-2.0
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
venv=${VENV:-$root/build/venv-oracle}
requirements=$root/tools/requirements-oracles.txt
stamp=$venv/made-from
wanted=$(cat "$requirements" "$0" | sha256sum)

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    echo "$venv: present"
    exit 0
fi
for tool in python3 gcc readelf; do
    command -v $tool >/dev/null || { echo "oracle_env: $tool is missing" >&2; exit 1; }
done

python3 -m venv "$venv" || {
    echo "oracle_env: python3 -m venv failed (Debian: apt-get install python3-venv)" >&2
    exit 1
}
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$requirements"

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
torch=$site/torch/lib
prefixes='cublas|cudnn|cufft|cusparse|cusolver|cuFile|nccl|nvrtc|nvshmem'
stubs=$venv/stubs.s
{
    echo '.text'
    readelf --dyn-syms --wide "$torch"/libtorch*.so "$torch"/libc10*.so |
        awk '$7 == "UND" { sub(/@.*/, "", $8); print $8 }' | grep -E "^($prefixes)" | sort -u |
        sed 's/.*/.globl &\n&:/'
    echo 'ud2'
    echo '.section .note.GNU-stack,"",@progbits'
} >"$stubs"
# the symbols live in one library of a name of its own: the loader refuses unversioned symbols in
# a library whose name a version refers to
gcc -shared -nostdlib "$stubs" -Wl,-soname,libgpu_stubs.so -o "$torch/libgpu_stubs.so"
readelf -d "$torch"/libtorch*.so "$torch"/libc10*.so |
    sed -n 's/.*(NEEDED).*\[\(lib\(cu\|nv\|nccl\)[^]]*\)\]/\1/p' | sort -u |
    while read -r name; do
        case $name in libcuda.so.* | libcudart.so.* | libcupti.so.*) continue ;; esac
        gcc -shared -nostdlib -x c /dev/null -Wl,-soname,"$name" -Wl,--no-as-needed \
            -L"$torch" -l:libgpu_stubs.so -o "$torch/$name"
    done

"$venv/bin/python" - <<'CHECK'
import numpy, onnx, onnxruntime, scipy, sentence_transformers, tokenizers, torch
print("torch", torch.__version__, "sentence-transformers", sentence_transformers.__version__,
      "onnxruntime", onnxruntime.__version__, "tokenizers", tokenizers.__version__)
CHECK
printf '%s' "$wanted" >"$stamp"
echo "$venv: ready"
