"""What runs where, on the fake device: the cells of tests/cuda/matrix.tsv through the package.

SPDX-License-Identifier: Apache-2.0
"""
import json
import subprocess
import sys

import pytest
from conftest import FAKE_MODULE, ROOT


def test_every_cell():
    if not FAKE_MODULE.exists():
        pytest.skip("the fake CUDA module is not built (make everything)")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/cuda/matrix.py"), "--fake", "--surfaces", "python"],
        text=True, capture_output=True, timeout=300, check=False)
    cells = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert len(cells) > 100 and all(cell["passed"] for cell in cells)
