"""Rows on a GPU, on a fake one: device_cases.py in a process of its own, as one that has used a GPU
cannot fork.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import subprocess
import sys

import pytest
from conftest import FAKE_GPU, FAKE_MODULE

HERE = pathlib.Path(__file__).resolve().parent


def test_cases_on_a_fake_gpu():
    if not FAKE_MODULE.exists():
        pytest.skip("the fake CUDA module is not built (make everything)")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "device_cases.py"],
        text=True, capture_output=True, timeout=180, check=False,
        env={**os.environ, **FAKE_GPU, "EMB_FAKE_DEVICES": "2", "EMB_FAKE_JITTER": "50"})
    assert done.returncode == 0, done.stdout + done.stderr
