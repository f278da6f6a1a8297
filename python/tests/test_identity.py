"""How packages that ask for a SentenceTransformer see a model, and what stays as it was.

SPDX-License-Identifier: Apache-2.0
"""
import copy
import pickle
import shutil
import subprocess
import sys

import embound
import numpy
import pytest
from conftest import TINY


class Derived(embound.SentenceTransformer):
    """What users write."""

    def encode(self, inputs, **options):
        return super().encode(inputs, **options)


def test_the_class_is_ours():
    """In a process of its own: nothing is imported, also not when somebody asks."""
    done = subprocess.run([sys.executable, "-c", f"""
import sys, embound
model = embound.SentenceTransformer({str(TINY)!r})
assert model.__class__ is type(model) is embound.SentenceTransformer
assert not isinstance(model, int) and isinstance(model, embound.SentenceTransformer)
assert not {{"torch", "sentence_transformers"}} & set(sys.modules)
sys.modules["sentence_transformers"] = embound  # as some do
assert isinstance(model, sys.modules["sentence_transformers"].SentenceTransformer)
assert model.__class__ is type(model)
"""], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_name_of_the_class_is_one_that_packages_know(tiny):
    assert "sentence_transformers" in str(type(tiny))
    assert type(tiny).__name__ == "SentenceTransformer"
    import embound.sentence_transformers

    assert embound.sentence_transformers.SentenceTransformer is type(tiny)


def test_is_an_instance(reference, tiny):
    torch = pytest.importorskip("torch")
    base = reference.SentenceTransformer.__mro__[1]
    for model in (tiny, Derived(str(TINY))):
        assert isinstance(model, reference.SentenceTransformer) and isinstance(model, base)
        assert issubclass(type(model), reference.SentenceTransformer)
        for other in (reference.CrossEncoder, reference.SparseEncoder, torch.nn.Module):
            assert not isinstance(model, other)
    assert not isinstance(object(), reference.SentenceTransformer)
    assert not issubclass(embound.CrossEncoder, reference.SentenceTransformer)


def test_copies_are_of_the_true_class(reference):
    torch = pytest.importorskip("torch")
    for kind in (embound.SentenceTransformer, Derived):
        model = kind(str(TINY))
        assert isinstance(model, reference.SentenceTransformer)
        copies = [pickle.loads(pickle.dumps(model, protocol)) for protocol in range(6)]
        copies += [copy.copy(model), copy.deepcopy(model)]
        for one in copies:
            assert type(one) is one.__class__ is kind
            assert numpy.array_equal(one.encode("a"), model.encode("a"))

    class Parent(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedder = Derived(str(TINY))
            self.head = torch.nn.Linear(32, 2)

    parent = Parent().train().to("cpu").to(torch.float64)
    assert list(parent.state_dict()) == ["head.weight", "head.bias"]
    assert copy.deepcopy(parent).embedder.encode(["a"]).shape == (1, 32)


def test_the_class_can_be_changed(tiny):
    tiny.__class__ = Derived
    assert type(tiny) is Derived and tiny.encode(["a"]).shape == (1, 32)


def test_what_a_card_says(tmp_path, tiny):
    card = tiny.model_card_data
    assert (card.model_name, card.base_model, card.base_model_revision) == (None, None, None)
    folder = tmp_path / "models--org--tiny-bert" / "snapshots" / "c0ffee"
    shutil.copytree(TINY, folder)
    card = embound.SentenceTransformer(
        "org/tiny-bert", cache_folder=str(tmp_path), revision="c0ffee").model_card_data
    assert (card.base_model, card.base_model_revision) == ("org/tiny-bert", "c0ffee")
