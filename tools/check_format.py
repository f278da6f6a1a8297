#!/usr/bin/env python3
"""Fails on C files that clang-format would change (--fix changes them); generated tables exempt.

SPDX-License-Identifier: Apache-2.0
"""
import subprocess
import sys

from c_source import GENERATED, ROOT, project_files


def main():
    """Runs clang-format over all files at once."""
    files = [f for f in project_files(".c", ".h", ".cu", ".cuh") if not GENERATED.search(f)]
    how = ["-i"] if "--fix" in sys.argv[1:] else ["--dry-run", "-Werror"]
    done = subprocess.run(["clang-format-14", *how, *files], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    bad = sorted({line.split(":", 1)[0] for line in done.stderr.splitlines() if ": error:" in line})
    for name in bad:
        print(f"{name}: not as clang-format-14 would have it (tools/check_format.py --fix)")
    if done.returncode and not bad:
        print(done.stderr.strip())
    print(f"format: {len(files)} files, {len(bad)} to change")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
