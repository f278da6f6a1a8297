#!/usr/bin/env python3
"""Fails if what a compiled program sees of the public headers differs from tools/abi.txt: functions
with their types, sizes and places of struct members, values of enumerations. --write renews the
list, whose change then shows in review: before 1.0 a minor version may make one.

SPDX-License-Identifier: Apache-2.0
"""
import difflib
import pathlib
import re
import subprocess
import sys
import tempfile

from c_source import ROOT, read, strip

PUBLIC = ("embound.h", "embound_experimental.h", "embound_train.h")
LIST = ROOT / "tools" / "abi.txt"
ENTRY = re.compile(r"^ <(\d+)><[0-9a-f]+>: Abbrev Number: \d+(?: \((DW_TAG_\w+)\))?")
VALUE = re.compile(r"^    <[0-9a-f]+>   (DW_AT_\w+)\s*: (?:\(indirect\w* string, [^)]*\): |"
                   r"\((?:data\d|sdata|udata|implicit_const|string)\) )?(.*?)\s*$")
DECLARED = re.compile(r"EMB_API\s+([^;]+?);")


def entries(text):
    """Yields (depth, tag, attributes) of each entry that readelf shows."""
    current = None
    for line in text.splitlines():
        found = ENTRY.match(line)
        if found:
            if current:
                yield current
            current = (int(found.group(1)), found.group(2), {})
        elif current and (found := VALUE.match(line)):
            current[2][found.group(1)] = found.group(2)
    if current:
        yield current


def number(attributes, name):
    """A number, which readelf writes in either base."""
    return int(attributes.get(name, "0").split()[0], 0)


def types(text):
    """Lines for structs, their members and enumerations, of the names that begin with emb_."""
    lines, owner = [], None
    for depth, tag, values in entries(text):
        name = values.get("DW_AT_name", "")
        if depth == 1:
            owner = None
            if name.startswith("emb_") and "DW_AT_byte_size" in values:
                if tag == "DW_TAG_structure_type":
                    owner = f"struct {name}"
                    lines.append(f"{owner}: {number(values, 'DW_AT_byte_size')} bytes")
                elif tag == "DW_TAG_enumeration_type":
                    owner = f"enum {name}"
        elif depth == 2 and owner and tag == "DW_TAG_member":
            lines.append(f"{owner}.{name} at {number(values, 'DW_AT_data_member_location')}")
        elif depth == 2 and owner and tag == "DW_TAG_enumerator":
            lines.append(f"{owner}: {name} = {number(values, 'DW_AT_const_value')}")
    return lines


def interface():
    """The whole list, sorted."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "abi.c"
        source.write_text("".join(f'#include "{name}"\n' for name in PUBLIC))
        target = source.with_suffix(".o")
        subprocess.run(["gcc", "-gdwarf-4", "-fno-eliminate-unused-debug-types", "-c", source,
                        "-o", target, "-I", ROOT / "include"], check=True)
        shown = subprocess.run(["readelf", "--debug-dump=info", target], text=True, check=True,
                               capture_output=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    lines = types(shown.stdout)
    for name in PUBLIC:
        for declared in DECLARED.findall(strip(read(f"include/{name}"))):
            if "__attribute__" not in declared:
                lines.append("function " + " ".join(declared.split()))
    return sorted(lines)


def main():
    """Compares, or writes."""
    found = interface()
    if "--write" in sys.argv[1:]:
        LIST.write_text("\n".join(found) + "\n", encoding="utf-8")
    kept = LIST.read_text(encoding="utf-8").splitlines() if LIST.exists() else []
    different = [line for line in difflib.unified_diff(kept, found, "tools/abi.txt", "include/",
                                                       lineterm="", n=0)]
    print("\n".join(different))
    if different:
        print("the interface differs from its list: if that is meant, run tools/check_abi.py "
              "--write, and say so in CHANGELOG.md")
    print(f"abi: {len(found)} lines, {len(different)} of a difference")
    return 1 if different or not found else 0


if __name__ == "__main__":
    sys.exit(main())
