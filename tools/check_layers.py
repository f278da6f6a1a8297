#!/usr/bin/env python3
"""Fails on any include that is not an arrow of the layer table (ARCHITECTURE.md), and on folders or
Python modules that go round: that need one another, directly or through others. Run by the build.

A folder of src/ counts with all below it, one of apps/ by itself. An import counts wherever it
stands, for the type checker alone too.

SPDX-License-Identifier: Apache-2.0
"""
import ast
import re
import sys

from c_source import ROOT, project_files, read

# folder: project headers it may include beside its own; a trailing slash means the whole folder
ARROWS = {
    "src/base": [],
    "src/text": ["base/"],
    "src/model": ["base/", "backend/spec.h"],
    "src/backend": ["base/"],
    "src/encoder": ["base/", "model/", "backend/backend.h"],
    "src/plan": ["base/", "text/", "model/", "backend/backend.h"],
    "src/engine": ["base/", "text/", "model/", "backend/backend.h", "encoder/", "plan/"],
    "src/package": ["base/", "model/"],
    "src/quantizer": ["base/", "text/", "model/", "backend/backend.h", "encoder/", "package/",
                      "plan/"],
    # a part of the CUDA module, on the kernels of the backend's
    "src/train/cuda": ["base/", "backend/", "train/"],
    # its kernels use the vector functions of the backend's
    "src/train": ["base/", "text/", "model/", "backend/backend.h", "backend/cpu/avx2/avx2.h",
                  "backend/cpu/avx512/avx512.h", "encoder/", "package/", "plan/"],
    "apps": ["base/file.h", "base/hash.h", "base/json.h", "base/json_text.h", "base/quantize.h",
             "base/threads.h", "base/vector.h"],
    "python": ["base/vector.h"],
    "examples": [],
    "bench": [],
}
PUBLIC = ("embound.h", "embound_experimental.h", "embound_train.h")
FREE = ("tests/", "bench/kernels/", "lab/", "include/", "tools/")
# What the core may take from the system: libc, POSIX and Linux; intrinsics where vectors are used.
SYSTEM = set("""assert ctype errno fcntl float inttypes limits locale math pthread sched signal
    stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings time
    unistd poll link elf dirent sys/mman sys/resource sys/stat sys/syscall sys/time sys/types
    sys/uio sys/wait sys/auxv sys/eventfd sanitizer/asan_interface linux/futex""".split())
VECTORS = set("immintrin cpuid arm_neon x86intrin".split())
VECTOR_FOLDERS = ("src/backend/", "src/text/", "src/train/")
CUDA = set("cuda cuda_runtime cuda_runtime_api cuda_fp16 cuda_bf16 cublasLt mma dlfcn".split())
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def folder_of(name):
    """The row of ARROWS that a file falls under, or None."""
    return next((f for f in ARROWS if name.startswith(f + "/")), None)


def judge(name, folder, quote, header):
    """Why this include is refused, or None."""
    if quote == "<":
        stem = header[:-2] if header.endswith(".h") else header
        if folder.startswith("src/") and stem not in SYSTEM:
            if stem in VECTORS and name.startswith(VECTOR_FOLDERS):
                return None
            if stem in CUDA and name.startswith(("src/backend/cuda/", "src/train/cuda/")):
                return None
            return f"system header <{header}> is not libc or POSIX"
        return None
    if header in PUBLIC:
        return None
    if ".." in header:
        return f'"{header}": write includes from src/ (or apps/), never relative'
    own = folder.split("/", 1)[1] + "/" if folder.startswith("src/") else None
    if own and header.startswith(own) and (ROOT / "src" / header).is_file():
        return None
    if any(header == a or (a.endswith("/") and header.startswith(a)) for a in ARROWS[folder]):
        return None if (ROOT / "src" / header).is_file() else f'"{header}" does not exist'
    if not own and ((ROOT / folder / header).is_file() or
                    (ROOT / name).parent.joinpath(header).is_file()):
        return None
    allowed = ", ".join(["embound.h"] + ARROWS[folder])
    return f'"{header}": {folder} may include its own headers, {allowed}'


def node_of(name):
    """What a file counts as where circles are looked for: a folder, or a Python module."""
    parts = name.split("/")
    if parts[0] == "src":
        return "/".join(parts[:2])
    return "/".join(parts[:-1]) if name.endswith((".c", ".h")) else name


def included(name, header):
    """The project file that an include means, or None."""
    own = name.rsplit("/", 1)[0]
    places = [f"src/{header}", f"apps/{header}", f"{own}/{header}"]
    return next((place for place in places if (ROOT / place).is_file()), None)


def imported(name, text):
    """The modules of the package that one of them imports, at its top or inside."""
    folder, found = name.split("/")[:-1], set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = folder[:len(folder) - node.level + 1]
        base += node.module.split(".") if node.module else []
        for path in ["/".join(base)] + ["/".join(base + [alias.name]) for alias in node.names]:
            if (ROOT / f"{path}.py").is_file():
                found.add(f"{path}.py")
    return found


def needs():
    """For each folder and Python module those that it needs."""
    graph = {}
    for name in project_files(".c", ".h", ".py"):
        if not name.startswith(("src/", "apps/", "python/embound/")):
            continue
        if name.endswith(".py"):
            targets = imported(name, read(name))
        else:
            headers = (m.group(2) for m in INCLUDE.finditer(read(name)) if m.group(1) == '"')
            targets = {node_of(f) for h in headers if (f := included(name, h))}
        graph.setdefault(node_of(name), set()).update(targets - {node_of(name)})
    return graph


def circles(graph):
    """The groups that need one another, each sorted."""
    def reach(start):
        seen, queue = set(), [start]
        while queue:
            for node in graph.get(queue.pop(), ()):
                if node not in seen:
                    seen.add(node)
                    queue.append(node)
        return seen

    reached = {node: reach(node) for node in graph}
    groups = {tuple(sorted(other for other in reached[node] if node in reached.get(other, ())))
              for node in graph if node in reached[node]}
    return sorted(groups)


def main():
    """Prints each refused include and each circle; exits 1 if there is one."""
    bad = files = 0
    for name in project_files(".c", ".h", ".cu", ".cuh", ".cpp"):
        folder = folder_of(name)
        if folder is None or name.startswith(FREE):
            if folder is None and not name.startswith(FREE):
                print(f"{name}: in no folder of the layer table")
                bad += 1
            continue
        files += 1
        text = read(name)
        for match in INCLUDE.finditer(text):
            reason = judge(name, folder, match.group(1), match.group(2))
            if reason:
                print(f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {reason}")
                bad += 1
    found = circles(needs())
    for group in found:
        print(f"these need one another: {', '.join(group)}")
    if bad or found or "--quiet" not in sys.argv[1:]:
        print(f"layers: {files} files, {bad} refused includes, {len(found)} circles")
    return 1 if bad or found else 0


if __name__ == "__main__":
    sys.exit(main())
