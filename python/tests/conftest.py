"""What the tests share: models, the reference implementation if it is there, the last line.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import signal
import warnings

import pytest

# a shell that starts the tests in the background has them ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "data" / "tiny-bert"
TINY_MPNET = ROOT / "tests" / "data" / "tiny-mpnet"
MODELS = ROOT / "build" / "models"
FAKE_MODULE = ROOT / "build" / "tests" / "libembound_fake_cuda.so"
# the driver that is asked for GPUs, and the module that uses them (tests/cuda/fake_*.c)
FAKE_GPU = {"LD_LIBRARY_PATH": str(FAKE_MODULE.parent), "EMB_CUDA_MODULE": str(FAKE_MODULE)}


def real(name):
    """A real model's directory; skips where it is absent."""
    path = MODELS / name
    if not (path / "model.safetensors").exists():
        pytest.skip(f"{name} is not in build/models (make models)")
    return str(path)


@pytest.fixture(scope="session")
def l6():
    """all-MiniLM-L6-v2."""
    return real("all-MiniLM-L6-v2")


@pytest.fixture
def tiny():
    """A model of two layers, opened."""
    import embound

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return embound.SentenceTransformer(str(TINY))


@pytest.fixture(scope="session")
def reference():
    """The module sentence_transformers."""
    return pytest.importorskip("sentence_transformers")


def pytest_terminal_summary(terminalreporter):
    """The line that tools/run_tests.py and .ci/run read."""
    count = {name: len(terminalreporter.stats.get(name, []))
             for name in ("passed", "failed", "error", "skipped")}
    terminalreporter.write_line(
        f"{count['passed']} passed, {count['failed'] + count['error']} failed, "
        f"{count['skipped']} skipped")
