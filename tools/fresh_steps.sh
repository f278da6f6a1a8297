#!/bin/sh
# The steps of tools/fresh_root.sh, inside the bare root: every line of the README's sh blocks and
# its Python, in order, in one shell, as a reader would type them; then what README only mentions.
#   fresh_steps.sh REPOSITORY README bare | short | full | user
# Ends with "N steps passed, N left out", or with the step that failed and status 1.
# SPDX-License-Identifier: Apache-2.0
repository=$1 readme=$2 kind=$3
log=$(mktemp) began_all=$(date +%s) passed=0 left_out=0
trap 'rm -f "$log"' EXIT

# evaluated here, not in a child: a line may change the folder or set a variable for those after it
step() { # line
    began=$(date +%s)
    status=0
    eval "$1" >"$log" 2>&1 </dev/null || status=$?
    # a hub that cannot be reached from here is not the README's fault
    case "$status $1" in
    "75 embound pull "*)
        echo "left out  $1: $(tail -n 1 "$log")"
        left_out=$((left_out + 1))
        return
        ;;
    esac
    if [ "$status" -ne 0 ]; then
        tail -n 60 "$log"
        echo "FAILED  $(id -un): $1"
        exit 1
    fi
    passed=$((passed + 1))
    echo "ok  $(id -un): $1 ($(($(date +%s) - began)) s)"
}
blocks() { # language: the lines of the README's blocks in it, without comments
    awk -v start="^\`\`\`$1\$" '$0 ~ start { inside = 1; next } /^```/ { inside = 0 } inside' \
        "$readme" | sed -e 's/  *# .*$//' -e 's/^ *#.*$//'
}

names_packages() { # target: it fails with a few lines that say what to install
    ! make -C bare --no-print-directory "$1" &&
        grep -q "apt-get install .*python3" "$log" && [ "$(wc -l <"$log")" -le 5 ]
}

if [ "$kind" = bare ]; then # without root and without packages
    git clone -q "$repository" bare || exit 1
    for target in all demo test models check fuzz; do step "names_packages $target"; done
    rm -rf bare
    echo "$passed steps passed, $left_out left out"
    exit 0
fi

blocks sh | sed "s,URL-OF-THIS-REPOSITORY,$repository," >"$log.lines"
while read -r line <&3; do
    [ -z "$line" ] || step "$line"
done 3<"$log.lines"
rm -f "$log.lines"
# models by name come from the hub: here the demo's, which is the same
blocks python | sed -e 's,"all-MiniLM-L6-v2","build/models/all-MiniLM-L6-v2",' >build/readme.py
step "python build/readme.py"
deactivate

if [ "$kind" != short ]; then
    step "make check"
    step "make fuzz FUZZ_SECONDS=5"
fi
words='"a cat sleeps" "a kitten naps"'
if [ "$(id -u)" -eq 0 ]; then
    step "make install"
    step "cc examples/embed.c -lembound -o build/embed && build/embed \$M $words"
    step "make uninstall && ! ls /usr/local/bin/embound /usr/local/lib/libembound* 2>/dev/null"
    [ "$kind" = short ] || step "apt-get install -y --no-install-recommends pkg-config"
else
    step "export PKG_CONFIG_PATH=\$HOME/.local/lib/pkgconfig"
    step "cc examples/embed.c \$(pkg-config --cflags --libs embound) -o build/embed &&
        build/embed \$M $words"
    step "make uninstall && ! ls ~/.local/bin/embound ~/.local/lib/libembound* 2>/dev/null"
fi
echo "$(id -un): all in $(($(date +%s) - began_all)) s"
echo "$passed steps passed, $left_out left out"
