"""The command ``embound``: runs the program inside the package in this process's place.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import os
import sys


def program() -> str:
    """The path of the program."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "embound")


def environment() -> dict[str, str]:
    """This process's environment, with the CUDA module of the package if it has one."""
    module = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libembound_cuda.so")
    variables = dict(os.environ)
    if os.path.exists(module):
        variables.setdefault("EMB_CUDA_MODULE", module)
    return variables


def main() -> None:
    """Never returns."""
    path = program()
    try:
        os.execve(path, [path, *sys.argv[1:]], environment())
    except OSError as error:
        sys.exit(f"embound: {path}: {error.strerror}: reinstall the package embound")
