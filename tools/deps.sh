#!/bin/sh
# Installs the Debian packages that building and testing need and that are missing; without root it
# says what to install. Prints nothing if all are there.
# SPDX-License-Identifier: Apache-2.0
set -eu

missing=
need() { # package, and a command or header that shows it is there
    case $2 in
    /*) [ -e "$2" ] || missing="$missing $1" ;;
    *) command -v "$2" >/dev/null 2>&1 || missing="$missing $1" ;;
    esac
}
need gcc gcc
need g++ g++
need libc6-dev /usr/include/stdio.h
need make make
need cmake cmake
need git git
need python3 python3
need libcmocka-dev /usr/include/cmocka.h
need zlib1g-dev /usr/include/zlib.h
curl=$(find /usr/include -path "*/curl/curl.h" 2>/dev/null | head -n 1)
need libcurl4-openssl-dev "${curl:-/usr/include/curl/curl.h}"
if [ "${EMB_DEPS:-}" = check ]; then
    need clang clang
    need clang-format-14 clang-format-14
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing packages; please install:$missing (Debian: apt-get install$missing)" >&2
    exit 1
fi
echo "installing:$missing"
log=$(mktemp)
if ! { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing ||
    { apt-get update &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; }; } \
    >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "installing failed; please install:$missing" >&2
    exit 1
fi
rm -f "$log"
