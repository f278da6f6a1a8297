"""Names that are not in the cache are downloaded by the program, from a hub on loopback.

SPDX-License-Identifier: Apache-2.0
"""
import sys

import embound
import numpy
import pytest
from conftest import ROOT, TINY

sys.path.insert(0, str(ROOT / "tests" / "hub"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one model, and an empty cache."""
    from fake_hub import FakeHub, Repo, model_files

    opened = FakeHub()
    opened.repos["lab/tiny"] = Repo(model_files(TINY))
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
                 "SENTENCE_TRANSFORMERS_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", opened.url())
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    yield opened
    opened.close()


def test_a_name_is_downloaded_once(hub, tiny):
    model = embound.SentenceTransformer("lab/tiny")
    assert numpy.array_equal(model.encode("same"), tiny.encode("same"))
    asked = len(hub.asked("hub"))
    assert embound.SentenceTransformer("lab/tiny").encode("same").ndim == 1
    assert len(hub.asked("hub")) == asked > 0
    assert embound.find_model("lab/tiny") == embound.pull("lab/tiny")


def test_switched_off(hub):
    with pytest.raises(embound.ModelNotFoundError, match="switched off"):
        embound.SentenceTransformer("lab/tiny", local_files_only=True)
    assert not hub.asked("hub")


def test_what_the_hub_lacks(hub):
    with pytest.raises(embound.ModelNotFoundError, match="lab/absent"):
        embound.SentenceTransformer("lab/absent")
    with pytest.raises(embound.ModelNotFoundError, match="other"):
        embound.SentenceTransformer("lab/tiny", revision="other")


def test_another_cache(hub, tmp_path):
    model = embound.SentenceTransformer("lab/tiny", cache_folder=str(tmp_path / "mine"))
    assert model.encode("x").ndim == 1
    assert (tmp_path / "mine" / "models--lab--tiny").exists() and not (tmp_path / "hub").exists()
