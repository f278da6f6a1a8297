#!/bin/sh
# Installs the Debian packages that a task needs and that are missing; without root it names them.
# Prints nothing if all are there.
#   tools/deps.sh [build | test | check | fuzz | models | python | ci]...     (default: build)
# SPDX-License-Identifier: Apache-2.0
set -eu

missing= wished=
need() { # package, and a command or a file that shows it is there
    case $2 in
    /*) [ -e "$2" ] || missing="$missing $1" ;;
    *) command -v "$2" >/dev/null 2>&1 || missing="$missing $1" ;;
    esac
}
python_path() { # NAME of sysconfig, or nothing
    python3 -c "import sysconfig; print(sysconfig.get_path('$1'))" 2>/dev/null || true
}

build() {
    need gcc gcc
    need libc6-dev /usr/include/stdio.h
    need make make
    need cmake cmake
    need python3 python3
    [ -n "$(find /usr/include -path "*/curl/curl.h" 2>/dev/null)" ] || wished=libcurl4-openssl-dev
}
test() {
    build
    need g++ g++
    need git git
    need libcmocka-dev /usr/include/cmocka.h
    need zlib1g-dev /usr/include/zlib.h
    missing="$missing $wished" wished=
}
check() {
    test
    need clang clang
    need clang-format-14 clang-format-14
}
fuzz() {
    build
    need clang clang
    found=$(clang -print-resource-dir 2>/dev/null || true)
    [ -n "$(find "$found/lib" -name "libclang_rt.fuzzer-*.a" 2>/dev/null)" ] ||
        missing="$missing libclang-rt-dev"
}
models() {
    need python3 python3
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
}
python() {
    build
    python3 -c "import ensurepip" 2>/dev/null || missing="$missing python3-venv"
    need python3-dev "$(python_path include)/Python.h"
}
ci() {
    for each in test check fuzz models python; do $each; done
    need debootstrap debootstrap
    need openssl openssl
}

for group in "${@:-build}"; do
    case $group in
    build | test | check | fuzz | models | python | ci) $group ;;
    *) echo "deps: no group '$group'" >&2; exit 64 ;;
    esac
done
# each once
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
missing=${missing% }
[ -n "$missing$wished" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    [ -z "$wished" ] || echo "$wished is missing: there will be no \`embound pull\`" >&2
    [ -n "$missing" ] || exit 0
    echo "missing packages; please install: $missing (Debian: sudo apt-get install $missing)" >&2
    exit 1
fi
missing="$missing $wished"
echo "installing: $missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
}
if ! { install || { apt-get update && install; }; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    echo "installing failed; please install: $missing" >&2
    exit 1
fi
