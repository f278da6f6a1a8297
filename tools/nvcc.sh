#!/bin/sh
# Prints the path of the CUDA compiler: CUDACXX where it is set, else nvcc in PATH, in the folders
# that CUDA_HOME and CUDA_PATH name, or where NVIDIA's packages put it; or says that there is none.
# SPDX-License-Identifier: Apache-2.0
if [ -n "${CUDACXX:-}" ]; then
    command -v "$CUDACXX" && exit
    echo "CUDACXX names $CUDACXX, which is no program here" >&2
    exit 1
fi
for each in nvcc "${CUDA_HOME:-}/bin/nvcc" "${CUDA_PATH:-}/bin/nvcc" /usr/local/cuda/bin/nvcc; do
    command -v "$each" && exit
done
echo "no nvcc in PATH, CUDA_HOME/bin, CUDA_PATH/bin or /usr/local/cuda/bin" >&2
exit 1
