#!/bin/sh
# Installs a build, with the CUDA module where one has been built, so that a program linked with
# the library starts right away; or removes what the last installation wrote.
#   tools/install.sh BUILD PREFIX [DESTDIR]      tools/install.sh --remove BUILD [DESTDIR]
# SPDX-License-Identifier: Apache-2.0
set -eu

loader() { # the library is in one of the loader's folders or no longer there
    [ -n "$DESTDIR" ] || [ "$(id -u)" -ne 0 ] || ! command -v ldconfig >/dev/null || ldconfig
}
if [ "$1" = --remove ]; then
    build=$2 DESTDIR=${3:-}
    list=$build/installed.txt
    if ! [ -f "$list" ]; then
        echo "uninstall: nothing was installed from here ($list is missing)" >&2
        exit 1
    fi
    while read -r file; do rm -fv -- "$DESTDIR$file"; done <"$list"
    rm -f "$list"
    loader
    exit
fi
build=$1 prefix=$2 DESTDIR=${3:-}
export DESTDIR
cmake --install "$build" --prefix "$prefix"
cat "$build/install_manifest.txt" >"$build/installed.txt"
if [ -f "$build/libembound_cuda.so" ] && [ -d "$build/cuda" ]; then
    cmake "$build/cuda" -DCMAKE_INSTALL_PREFIX="$prefix" >/dev/null
    cmake --build "$build/cuda" --target embound_cuda
    cmake --install "$build/cuda" --prefix "$prefix" --component cuda
    cat "$build/cuda/install_manifest_cuda.txt" >>"$build/installed.txt"
fi
loader
