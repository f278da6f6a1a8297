"""Names that are not in the cache are downloaded by the program, from a hub on loopback.

SPDX-License-Identifier: Apache-2.0
"""
import os
import pathlib
import random
import subprocess
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


def test_a_name_without_an_organisation(hub, tiny):
    hub.repos["sentence-transformers/tiny"] = hub.repos.pop("lab/tiny")
    assert embound.find_model("tiny") is None
    assert embound.pull("tiny") == embound.find_model("tiny")
    assert numpy.array_equal(embound.SentenceTransformer("tiny").encode("x"), tiny.encode("x"))


def test_weights_that_other_tools_left_out_are_fetched(hub, tmp_path):
    path = pathlib.Path(embound.pull("lab/tiny"))
    (path / "model.safetensors").unlink()
    assert embound.find_model("lab/tiny") is None
    with pytest.raises(embound.ModelNotFoundError, match="switched off"):
        embound.SentenceTransformer("lab/tiny", local_files_only=True)
    assert embound.SentenceTransformer("lab/tiny").encode("x").ndim == 1


def cut(hub, place):
    """The next large file ends at this byte, once."""
    data = (TINY / "model.safetensors").read_bytes()
    cuts = []

    def fault(handler, host):
        if host != "store" or handler.command != "GET" or cuts:
            return False
        cuts.append(place)
        handler.cut(data, handler.begin(), place, place % 2)
        return True
    hub.fault = fault
    return cuts


def test_cuts_at_random_bytes(hub, tiny, tmp_path):
    draw = random.Random(11)
    expected = tiny.encode("same")
    for number in range(10):
        cuts = cut(hub, draw.randrange(1, 218000))
        model = embound.SentenceTransformer("lab/tiny", cache_folder=str(tmp_path / str(number)))
        assert len(cuts) == 1 and numpy.array_equal(model.encode("same"), expected)


def test_wrong_bytes_are_never_used(hub, tmp_path):
    data = (TINY / "model.safetensors").read_bytes()
    hub.lie = {"model.safetensors": data[:500] + bytes([data[500] ^ 1]) + data[501:]}
    with pytest.raises(embound.ModelError, match="another checksum"):
        embound.SentenceTransformer("lab/tiny")
    assert embound.find_model("lab/tiny") is None
    hub.lie = {}
    assert embound.SentenceTransformer("lab/tiny").encode("x").ndim == 1


def test_failures_are_told_apart(hub, tmp_path, monkeypatch):
    hub.fault = lambda handler, host: handler.refuse(404) or True
    with pytest.raises(embound.ModelNotFoundError, match="no such model") as told:
        embound.pull("lab/tiny")
    assert str(told.value).count("lab/tiny") == 1 and "embound: " not in str(told.value)
    with pytest.raises(embound.ArgumentError, match="name"):
        embound.pull("no name")
    with pytest.raises(embound.ArgumentError, match="None"):
        embound.pull(None)
    hub.fault = None
    (tmp_path / "file").write_text("")
    with pytest.raises(embound.InputOutputError):
        embound.pull("lab/tiny", cache_folder=str(tmp_path / "file"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(embound.InputOutputError, match="127.0.0.1"):
        embound.pull("lab/tiny", cache_folder=str(tmp_path / "other"))


def test_a_full_disk(hub, tmp_path):
    done = subprocess.run([sys.executable, "-c", """
import embound, resource, signal
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    embound.pull("lab/tiny")
except embound.InputOutputError as error:
    print(error)
print(embound.find_model("lab/tiny"))
"""], text=True, capture_output=True, check=True)
    said = done.stdout.split("\n")
    assert "large" in said[0] or "space" in said[0], said
    assert said[1] == "None"
    assert embound.SentenceTransformer("lab/tiny").encode("x").ndim == 1


def test_the_token_stays_with_the_hub(hub):
    embound.pull("lab/tiny", token="hf_mine")
    assert hub.asked("hub")[0][3]["Authorization"] == "Bearer hf_mine"
    assert hub.asked("store")
    assert not any("Authorization" in request[3] for request in hub.asked("store"))


def test_the_hubs_own_package_reads_our_cache_and_we_read_its(hub, tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub")
    read = "import huggingface_hub as hub, sys; print(hub.snapshot_download(sys.argv[1]))"

    def theirs(**variables):
        return subprocess.run([sys.executable, "-c", read, "lab/tiny"], text=True, check=True,
                              capture_output=True,
                              env={**os.environ, **variables}).stdout.split("\n")[-2]
    path = embound.pull("lab/tiny")
    assert theirs(HF_HUB_OFFLINE="1") == path
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "its"))
    path = theirs()
    asked = len(hub.requests)
    assert embound.find_model("lab/tiny") == path
    assert embound.SentenceTransformer("lab/tiny").encode("x").ndim == 1
    assert len(hub.requests) == asked


def test_another_cache(hub, tmp_path):
    model = embound.SentenceTransformer("lab/tiny", cache_folder=str(tmp_path / "mine"))
    assert model.encode("x").ndim == 1
    assert (tmp_path / "mine" / "models--lab--tiny").exists() and not (tmp_path / "hub").exists()
