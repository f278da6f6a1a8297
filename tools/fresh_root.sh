#!/bin/sh
# Tries what the README promises on a machine that has nothing: makes a bare Debian root (minbase,
# git, make, certificates), clones this repository into it and runs tools/fresh_steps.sh there as
# root and as an ordinary user. Fails at the first step that does not work, and names it.
#   tools/fresh_root.sh [--short] [--cache DIR] [--keep]
#   --short      as root alone: the README's lines, without check and fuzz
#   --cache DIR  keeps the bare root there for a week, so that the next run need not make it
# Mirror, proxies, credentials, certificates and pip's index are the host's, read when it runs.
# Needs root, debootstrap and unshare; where one of them cannot be had it says so, and is skipped.
# SPDX-License-Identifier: Apache-2.0
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
short= cache= keep=
while [ $# -gt 0 ]; do
    case $1 in
    --short) short=short ;;
    --keep) keep=1 ;;
    --cache) cache=$2 && shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2 && exit 64 ;;
    esac
    shift
done

skip() {
    echo "skipped: $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
for tool in debootstrap unshare chroot apt-config git; do
    command -v $tool >/dev/null 2>&1 || skip "$tool is missing"
done
[ "$(id -u)" -eq 0 ] || skip "needs root"
grep -q '^ID=debian$' /etc/os-release || skip "needs a Debian host, for its mirror"
unshare --mount true 2>/dev/null || skip "no mount namespace may be made here"
# Mounts live in a namespace of the second half's own, which ends with its processes, however this
# script ends; then the root is removed.
if [ -z "${EMB_FRESH_WORK:-}" ]; then
    [ -z "$cache" ] || { mkdir -p "$cache" && cache=$(cd "$cache" && pwd); }
    EMB_FRESH_WORK=$(mktemp -d)
    export EMB_FRESH_WORK
    child=
    leave() {
        if [ -n "$child" ] && kill -KILL "$child" 2>/dev/null; then wait "$child" || true; fi
        if [ -z "$keep" ]; then rm -rf --one-file-system "$EMB_FRESH_WORK"; fi
    }
    trap leave EXIT
    trap 'exit 130' HUP INT TERM
    unshare --mount --pid --fork --kill-child "$source/tools/fresh_root.sh" \
        ${short:+--short} ${cache:+--cache "$cache"} &
    child=$!
    status=0
    wait "$child" || status=$?
    child=
    [ -z "$keep" ] || echo "kept: $EMB_FRESH_WORK/root"
    exit "$status"
fi

suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' | awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }')
[ -n "$mirror" ] || skip "apt names no mirror of ${suite:-this release}"

work=$EMB_FRESH_WORK
root=$work/root
chmod 700 "$work" # credentials of the host lie in it; who is inside the root needs only that
mkdir "$root" && chmod 755 "$root"

bare_root() { # what is in it and no more
    saved=${cache:+$cache/$suite.tar}
    if [ -n "$saved" ] && [ -n "$(find "$saved" -mtime -7 2>/dev/null)" ]; then
        tar -xpf "$saved" -C "$root"
        return
    fi
    # debootstrap's downloads go through apt's proxies and credentials, too
    eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
    [ -z "${http_proxy:-}" ] || export http_proxy
    [ -z "${https_proxy:-}" ] || export https_proxy
    mkdir -m 700 "$work/home"
    (umask 077 && cat /etc/apt/auth.conf /etc/apt/auth.conf.d/* >"$work/home/.netrc") \
        2>/dev/null || true
    HOME=$work/home debootstrap --variant=minbase --include=git,make,ca-certificates \
        "$suite" "$root" "$mirror" >"$work/log" 2>&1 || {
        tail -n 5 "$work/log"
        skip "no bare root could be made from apt's mirror"
    }
    rm -r "$work/home"
    rm -f "$root"/var/cache/apt/archives/*.deb
    [ -z "$saved" ] || { tar -cpf "$saved.part" -C "$root" . && mv "$saved.part" "$saved"; }
}

host_network() { # names, apt's and pip's ways out, whom to trust
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    apt-config dump | grep '^Acquire::' | grep -v -E 'IndexTargets|Changelogs' \
        >"$root/etc/apt/apt.conf.d/99host" || true
    for each in auth.conf auth.conf.d; do
        [ ! -e "/etc/apt/$each" ] || cp -r "/etc/apt/$each" "$root/etc/apt/"
    done
    if [ -n "$(find /usr/local/share/ca-certificates -name '*.crt' 2>/dev/null)" ]; then
        cp -rL /usr/local/share/ca-certificates "$root/usr/local/share/"
        chroot "$root" update-ca-certificates >/dev/null 2>&1
    fi
    keys='index-url|extra-index-url|trusted-host|proxy|cert|timeout'
    { echo "[global]" && python3 -m pip config list 2>/dev/null |
        sed -n -E "s/^global\.($keys)='(.*)'\$/\1 = \2/p"; } >"$root/etc/pip.conf"
    variables='PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|PROXY|CERT|DEFAULT_TIMEOUT)'
    (umask 077 && env | grep -E "^($variables|SSL_CERT_FILE|(http|https|no)_proxy|JOBS)=" \
        >"$work/env") || true
    for file in $(sed -n 's/^[A-Z_]*CERT[A-Z_]*=//p' "$work/env") \
        $(sed -n 's/^cert = //p' "$root/etc/pip.conf"); do
        [ -e "$root$file" ] || (cd / && cp -L --parents ".$file" "$root")
    done
}

enter() { # user, command...: a login of that user, without the host's variables
    user=$1
    shift
    home=$(chroot "$root" getent passwd "$user" | cut -d: -f6)
    # shellcheck disable=SC2046
    chroot --userspec="$user:$user" "$root" env -i HOME="$home" USER="$user" LANG=C.UTF-8 \
        TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        $(cat "$work/env") sh -c "cd && $*" </dev/null
}

began=$(date +%s)
bare_root
host_network
mount -t proc proc "$root/proc"
mount --bind /sys "$root/sys"
mkdir -p "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
git clone -q --bare --no-local "$source" "$root/srv/embound.git"
git config -f "$root/etc/gitconfig" safe.directory /srv/embound.git # root's, and the user clones it
git -C "$root/srv/embound.git" update-ref refs/heads/fresh "$(git -C "$source" rev-parse HEAD)"
git -C "$root/srv/embound.git" symbolic-ref HEAD refs/heads/fresh
git -C "$source" show HEAD:tools/fresh_steps.sh >"$root/srv/steps.sh"
git -C "$source" show HEAD:README.md >"$root/srv/README.md"
echo "a bare $suite in $(($(date +%s) - began)) s"

steps="sh /srv/steps.sh /srv/embound.git /srv/README.md"
passed=0
run() { # user, kind
    { enter "$1" "$steps $2" || echo "status $?"; } 2>&1 | tee "$work/out"
    counts=$(sed -n 's/^\([0-9]*\) steps passed, \([0-9]*\) left out$/\1 \2/p' "$work/out")
    if [ -z "$counts" ]; then
        echo "$passed passed, 1 failed, 0 skipped"
        exit 1
    fi
    passed=$((passed + ${counts% *})) skipped=$((${skipped:-0} + ${counts#* }))
}
if [ -z "$short" ]; then
    chroot "$root" useradd -m -s /bin/sh reader
    run reader bare
fi
run root "${short:-full}"
if [ -z "$short" ]; then run reader user; fi
echo "all in $(($(date +%s) - began)) s"
echo "$passed passed, 0 failed, ${skipped:-0} skipped"
