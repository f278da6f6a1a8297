"""What runs where, on the fake device: the cells of tests/cuda/matrix.tsv through the package.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import subprocess
import sys

import pytest
from conftest import FAKE_GPU, FAKE_MODULE, ROOT, TINY


def test_every_cell():
    if not FAKE_MODULE.exists():
        pytest.skip("the fake CUDA module is not built (make everything)")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/cuda/matrix.py"), "--fake", "--surfaces", "python"],
        text=True, capture_output=True, timeout=300, check=False)
    cells = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert len(cells) > 100 and all(cell["passed"] for cell in cells)


def test_the_missions_case_rehearsed(tmp_path):
    """bench/gpu_mission.py on the fake device, with a few texts and without a peer."""
    nvml = FAKE_MODULE.parent / "fake_nvml.so"
    if not (FAKE_MODULE.exists() and nvml.exists()):
        pytest.skip("the fake CUDA module is not built (make everything)")
    held = tmp_path / "held"
    held.mkdir()
    (tmp_path / "abstracts.txt").write_text("the quick brown fox jumps over a lazy dog\n" * 300)
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/gpu_mission.py"), "mission", "snippet", "--model",
         str(TINY), "--texts", str(tmp_path), "--scale", "0.005"],
        text=True, capture_output=True, timeout=120, check=False,
        env={**os.environ, **FAKE_GPU, "EMB_FAKE_HELD": str(held), "EMB_FAKE_NVML": str(held),
             "EMB_NVML": str(nvml)})
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == 4, done.stdout + done.stderr
    assert all(line["passed"] for line in lines) and lines[0]["nvml_mib"] > 10
