#!/usr/bin/env python3
"""Fails on what STYLE.md forbids and a program can see: lengths, heads, banned calls, paths.

SPDX-License-Identifier: Apache-2.0
"""
import ast
import os
import re
import sys

from c_source import GENERATED, ROOT, functions, project_files, read, strip

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
HEAD_LINES_MAX = 8
TEXT_SUFFIXES = (".c", ".h", ".cu", ".cuh", ".cpp", ".py", ".sh", ".cmake", ".txt", ".in")
SCRIPTS = ("Makefile", ".ci/run")

# call: files under src/ that may use it, and why
ALLOCATION = "memory is taken at open, from the plan, through emb_arena_open"
OPEN_TIME = (
    "src/model/files.c",     # one block for an open model's description
    "src/engine/model.c",    # the handle of an open model
    "src/train/trainer.c",   # the handle of a trainer
)
BANNED = {
    "malloc": (OPEN_TIME, ALLOCATION), "calloc": (OPEN_TIME, ALLOCATION),
    "realloc": ((), ALLOCATION), "free": (OPEN_TIME, ALLOCATION),
    "strdup": ((), ALLOCATION), "strndup": ((), ALLOCATION), "asprintf": ((), ALLOCATION),
    "aligned_alloc": ((), ALLOCATION), "posix_memalign": ((), ALLOCATION),
    "alloca": ((), ALLOCATION), "getline": ((), ALLOCATION), "fopen": ((), "it allocates"),
    "opendir": (("src/model/", "src/package/tree.c"), "it allocates"),
    "qsort": ((), "it allocates"),
    "mmap": (("src/base/ledger.c",), ALLOCATION), "munmap": (("src/base/ledger.c",), ALLOCATION),
    "mremap": ((), ALLOCATION), "brk": ((), ALLOCATION), "sbrk": ((), ALLOCATION),
    "strcpy": ((), "unbounded"), "strcat": ((), "unbounded"), "sprintf": ((), "unbounded"),
    "vsprintf": ((), "unbounded"), "gets": ((), "unbounded"), "strncpy": ((), "may not terminate"),
    "strtok": ((), "hidden state"), "rand": ((), "hidden state"), "setlocale": ((), "hidden state"),
    "atoi": ((), "cannot report errors"), "atof": ((), "cannot report errors"),
    "printf": ((), "the library never prints"), "fprintf": ((), "the library never prints"),
    "puts": ((), "the library never prints"), "perror": ((), "the library never prints"),
    "exit": ((), "the library never exits"),
    "_exit": ((), "the library never exits"), "fork": ((), "a child cannot use CUDA"),
    "abort": ((), "the library never exits"), "system": ((), "no shell"), "popen": ((), "no shell"),
    "getenv": (("src/backend/cpu/", "src/backend/cuda/module.c", "src/backend/cuda/driver.c"),
               "EMB_CPU, EMB_CUDA_MODULE and CUDA_VISIBLE_DEVICES alone are read from the "
               "environment"),
    "pthread_create": (("src/base/threads.c",), "threads are the plan's"),
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\s*\(?#\d+)")
MACHINE = re.compile(r"/(wor[k]|far[m]|roo[t])/|/hom[e]/\w|bash_job[s]|py[p]i[.]or[g]|"
                     r"python[h]osted|deb[.]debia[n]|fil[e]://")


class Findings:
    """Collects and prints what was found."""

    def __init__(self):
        self.count = 0

    def add(self, name, line, text):
        """One finding."""
        print(f"{name}:{line}: {text}")
        self.count += 1


def check_lines(name, text, found):
    """Length of file and lines, unfinished work, trailing blanks."""
    lines = text.split("\n")
    generated = GENERATED.search(name)
    if not generated and len(lines) - 1 > FILE_LINES_MAX:
        found.add(name, len(lines) - 1, f"more than {FILE_LINES_MAX} lines")
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX and not generated:
            found.add(name, number, f"{len(line)} columns, at most {COLUMNS_MAX}")
        if line != line.rstrip():
            found.add(name, number, "blanks at the end of the line")
        if "\t" in line and name.endswith((".c", ".h", ".py")):
            found.add(name, number, "a tab")
        if name != "tools/check_style.py" and UNFINISHED.search(line):
            found.add(name, number, "unfinished work without an issue number, as in TODO(#12)")
    if text and not text.endswith("\n"):
        found.add(name, len(lines), "no newline at the end")


def check_head(name, text, found):
    """A comment that says the file's one job, and the licence line."""
    head = "\n".join(text.split("\n")[:24])
    if "SPDX-License-Identifier: Apache-2.0" not in head:
        found.add(name, 1, "no SPDX-License-Identifier: Apache-2.0 in its head")
    if not name.endswith((".c", ".h", ".cu", ".cuh")):
        return
    if not text.startswith("/*"):
        found.add(name, 1, "does not begin with a comment that says its job")
        return
    lines = text[2:text.index("*/")].split("\n")
    said = [x for x in lines if x.strip(" *") and "SPDX" not in x]
    if len(said) > HEAD_LINES_MAX:
        found.add(name, 1, f"head of {len(said)} lines, at most {HEAD_LINES_MAX}")


def check_c(name, text, found):
    """Length of functions; under src/ recursion and banned calls too."""
    for function, first, last, body in functions(text):
        if last - first + 1 > FUNCTION_LINES_MAX:
            found.add(name, first, f"{function} has {last - first + 1} lines, "
                                   f"at most {FUNCTION_LINES_MAX}")
        if name.startswith("src/") and re.search(rf"(?<![\w.>]){function}\s*\(", body):
            found.add(name, first, f"{function} calls itself")
    if not name.startswith("src/"):
        return
    code = strip(text)
    for match in CALL.finditer(code):
        call = match.group(1)
        allowed, why = BANNED[call]
        if not any(name == a or (a.endswith("/") and name.startswith(a)) for a in allowed):
            line = code.count("\n", 0, match.start()) + 1
            found.add(name, line, f"{call}() is banned here: {why}")


def check_python(name, text, found):
    """It parses, and its functions are short."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        found.add(name, error.lineno or 1, f"does not parse: {error.msg}")
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                found.add(name, node.lineno, f"{node.name} has {lines} lines, "
                                             f"at most {FUNCTION_LINES_MAX}")


def main():
    """Prints every finding; exits 1 if there is one."""
    found = Findings()
    files = project_files("")
    code = 0
    for name in files:
        raw = (ROOT / name).read_bytes()[:4096]
        if b"\0" in raw or name == "LICENSE":
            continue
        text = read(name)
        for number, line in enumerate(text.split("\n"), 1):
            if MACHINE.search(line):
                found.add(name, number, "an absolute path of some machine, or a registry's host")
        if name.startswith(("tests/data/", "tests/golden/", "tests/fuzz/corpus/")):
            continue
        script = name in SCRIPTS or text.startswith("#!")
        if text.startswith("#!") != os.access(ROOT / name, os.X_OK):
            found.add(name, 1, "a script is executable and begins with #!, and nothing else does")
        if not name.endswith(TEXT_SUFFIXES) and not script:
            continue
        if name.endswith(".txt") and not name.endswith("CMakeLists.txt"):
            continue
        code += 1
        check_lines(name, text, found)
        if name.endswith((".c", ".h", ".cu", ".cuh", ".py")) or script:
            check_head(name, text, found)
        if name.endswith((".c", ".h", ".cu", ".cuh")):
            check_c(name, text, found)
        if name.endswith(".py"):
            check_python(name, text, found)
    print(f"style: {code} files, {found.count} findings")
    return 1 if found.count else 0


if __name__ == "__main__":
    sys.exit(main())
