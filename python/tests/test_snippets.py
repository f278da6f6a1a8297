"""The documentation's snippets give the same under both packages, cosine at least 0.99999.

SPDX-License-Identifier: Apache-2.0
"""
import os

import numpy
import pytest
from conftest import MODELS
from snippets import SNIPPETS

NAMES = ("all-MiniLM-L6-v2", "all-mpnet-base-v2", "paraphrase-MiniLM-L3-v2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory, reference):
    """A hub cache whose snapshots are the local models, so that both packages find names in it."""
    folder = tmp_path_factory.mktemp("hub")
    for name in NAMES:
        if not (MODELS / name / "model.safetensors").exists():
            pytest.skip("real models are absent (make models)")
        commit = "0" * 40
        repository = folder / f"models--sentence-transformers--{name}"
        snapshot = repository / "snapshots" / commit
        for path in (MODELS / name).resolve().rglob("*"):
            if path.is_file():
                place = snapshot / path.relative_to((MODELS / name).resolve())
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(path)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
    before = {key: os.environ.get(key) for key in ("HF_HUB_CACHE", "HF_HUB_OFFLINE")}
    import huggingface_hub.constants as constants
    os.environ.update(HF_HUB_CACHE=str(folder), HF_HUB_OFFLINE="1")
    constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = str(folder), True
    yield str(folder)
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


def run(source, package):
    source = source.replace("PACKAGE", package)
    names = {}
    exec(compile(source, package, "exec"), names)
    return names




def flat(value):
    """Any result as rows of numbers."""
    if hasattr(value, "numpy"):
        value = value.cpu().numpy()
    if isinstance(value, list) and value and hasattr(value[0], "numpy"):
        value = [one.cpu().numpy() for one in value]
    array = numpy.asarray(value)
    return array[None, :] if array.ndim == 1 else array


def compare(name, ours, theirs):
    same_kind = isinstance(ours, type(theirs)) or type(ours).__name__ == type(theirs).__name__
    assert same_kind, f"{name}: {type(ours)} where {type(theirs)} was expected"
    a, b = flat(ours), flat(theirs)
    assert a.shape == b.shape and a.dtype == b.dtype, (name, a.shape, b.shape, a.dtype, b.dtype)
    if a.dtype.kind in "iu":
        if a.dtype.itemsize == 1:  # one step where a value lies on the border of two
            assert numpy.mean(a == b) > 0.97, name
        else:
            assert numpy.array_equal(a, b), name
        return
    if a.ndim == 2 and a.shape[1] >= 16:
        cosine = (a * b).sum(1) / numpy.linalg.norm(a, axis=1) / numpy.linalg.norm(b, axis=1)
        assert cosine.min() >= 0.99999, (name, cosine.min())
    assert numpy.allclose(a, b, atol=2e-4, rtol=1e-3), (name, numpy.abs(a - b).max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet(name, cache):
    results, source = SNIPPETS[name]
    theirs = run(source, "sentence_transformers")
    ours = run(source, "embound")
    for result in results.split():
        compare(f"{name}: {result}", ours[result], theirs[result])
