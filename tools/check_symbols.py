#!/usr/bin/env python3
"""Fails unless libembound.so exports exactly what include/ declares EMB_API, each of those says
which threads may call it, every non-static symbol of the core starts with emb_, and no object of
the core holds writable data but what STYLE.md names.

SPDX-License-Identifier: Apache-2.0
"""
import re
import subprocess
import sys

from c_source import ROOT, read, strip

PUBLIC = ("include/embound.h", "include/embound_experimental.h", "include/embound_train.h")
DECLARED = re.compile(r"EMB_API\s+[\w\s*]*?\b(emb_\w+)\s*\(")
COMMENTED = re.compile(r"(/\*(?:(?!\*/).)*\*/)?\s*\bEMB_API\s+[\w\s*]*?\b(emb_\w+)\s*\(", re.S)
WRITABLE = re.compile(r"\s(\.t?(?:data|bss)(?:\.\S+)?)\s+[0-9a-f]+\s+(?:\.hidden\s+)?(\S+)$")
# what STYLE.md allows: that a driver did not answer (backend/cuda/driver.c); clang parts structs
ALLOWED = re.compile(r"silent(\.\d+)?$")


def untold(header):
    """Functions without a comment of their own that says which threads may call them."""
    return [name for comment, name in COMMENTED.findall(header) if "Threads:" not in comment]


def run(*command):
    """The output of a program."""
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


def exported(library):
    """Names that the shared library gives to others."""
    lines = run("nm", "-D", "--defined-only", "--format=posix", library).splitlines()
    return {line.split()[0].split("@")[0] for line in lines if line.strip()}


def archive_symbols(archive):
    """Yields (name, letter) of all defined symbols of the core."""
    for line in run("nm", "--defined-only", "--format=posix", archive).splitlines():
        parts = line.split()
        if len(parts) >= 2 and len(parts[1]) == 1:
            yield parts[0], parts[1]


def writable(archive):
    """Names of objects in .data and .bss sections: mutable globals."""
    names = []
    for line in run("objdump", "-t", archive).splitlines():
        found = WRITABLE.search(line)
        if found and not found.group(1).startswith(".data.rel.ro"):
            if found.group(2) != found.group(1) and not ALLOWED.match(found.group(2)):
                names.append(f"{found.group(2)} ({found.group(1)})")
    return sorted(names)


def main():
    """Compares; prints every difference; exits 1 if there is one."""
    build = sys.argv[1] if len(sys.argv) > 1 else "build"
    for name in ("libembound.so", "libembound_core.a"):
        if not (ROOT / build / name).exists():
            sys.exit(f"symbols: {build}/{name} is missing (make)")
    header = "".join(read(name) for name in PUBLIC)
    declared = set(DECLARED.findall(strip(header)))
    given = exported(f"{build}/libembound.so")
    bad = [f"declared but not exported: {n}" for n in sorted(declared - given)]
    bad += [f"exported but not declared EMB_API: {n}" for n in sorted(given - declared)]
    bad += [f"does not say which threads may call it: {n}" for n in untold(header)]
    count = 0
    for name, letter in archive_symbols(f"{build}/libembound_core.a"):
        count += 1
        if letter.isupper() and not name.startswith("emb_"):
            bad.append(f"not static, and does not start with emb_: {name}")
    bad += [f"mutable global: {n}" for n in writable(f"{build}/libembound_core.a")]
    print("\n".join(bad + [f"symbols: {len(given)} exported, {count} in the core, "
                           f"{len(bad)} findings"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
