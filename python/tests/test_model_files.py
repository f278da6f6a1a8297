"""What the model's own files say, as sentence-transformers takes it.

SPDX-License-Identifier: Apache-2.0
"""
import json
import shutil

import embound
import numpy
import pytest
from conftest import TINY

SETTINGS = "config_sentence_transformers.json"


@pytest.fixture
def changed(tmp_path):
    """A copy of a model whose settings, or another file, are what is given."""
    def make(content, name=SETTINGS):
        folder = tmp_path / "model"
        if not folder.exists():
            shutil.copytree(TINY, folder)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
        return str(folder)
    return make


@pytest.mark.parametrize(("saved", "name"), [
    ("dot", "dot"), ("manhattan", "manhattan"), ("dot_score", "cosine"), ("maxsim", "cosine"),
    ("cos_sim", "cosine"), (None, "cosine"), (3, "cosine"), (["dot"], "cosine")])
def test_saved_similarity(changed, saved, name):
    path = changed({"similarity_fn_name": saved})
    assert embound.SentenceTransformer(path).similarity_fn_name == name
    stated = embound.SentenceTransformer(path, similarity_fn_name="euclidean")
    assert stated.similarity_fn_name == "euclidean"


def test_saved_prompts_may_be_null_and_any_number(changed):
    prompts = {"query": None, **{f"p{i}": f"text {i}: " for i in range(500)}}
    model = embound.SentenceTransformer(changed({"prompts": prompts, "default_prompt_name": "p7"}))
    assert model.prompts["query"] == "" and model.prompts["p499"] == "text 499: "
    plain = embound.SentenceTransformer(str(TINY))
    assert numpy.array_equal(model.encode("a"), plain.encode("text 7: a"))
    assert numpy.array_equal(model.encode("a", prompt_name="query"), plain.encode("a"))


def test_query_may_be_the_default_without_being_listed(changed):
    model = embound.SentenceTransformer(changed({"default_prompt_name": "query"}))
    assert numpy.array_equal(model.encode("a"), embound.SentenceTransformer(str(TINY)).encode("a"))


def test_saved_truncate_dim(changed):
    path, whole = changed({"truncate_dim": 5}), embound.SentenceTransformer(str(TINY)).encode("a")
    model = embound.SentenceTransformer(path)
    assert model.truncate_dim == 5 and model.get_embedding_dimension() == 5
    assert numpy.array_equal(model.encode("a"), whole[:5])
    assert numpy.array_equal(model.encode("a", truncate_dim=9), whole[:9])
    wider = embound.SentenceTransformer(path, truncate_dim=7)
    assert numpy.array_equal(wider.encode("a"), whole[:7])
    assert next(iter(model.encode_stream(["a"]))).shape == (5,)


def test_settings_count_only_beside_a_list_of_modules(changed, tmp_path):
    path = changed({"truncate_dim": 5, "prompts": {"p": "x "}, "default_prompt_name": "p",
                    "similarity_fn_name": "dot"})
    (tmp_path / "model" / "modules.json").unlink()
    model = embound.SentenceTransformer(path)
    assert model.truncate_dim is None and model.default_prompt_name is None
    assert model.similarity_fn_name == "cosine" and "p" not in model.prompts
    assert model.encode("a").shape == (32,)


@pytest.mark.parametrize(("single", "ends"), [
    (["[CLS]", "[MASK]", None, "[SEP]"], 1), (["[CLS]", "[MASK]", None], 0),
    ([None, "[SEP]", "[SEP]"], 1)])
def test_any_special_tokens_around_a_text(changed, single, ends):
    content = json.loads((TINY / "tokenizer.json").read_text())
    ids = {t: content["model"]["vocab"][t] for t in single if t}
    content["post_processor"] = {
        "type": "TemplateProcessing", "pair": [],
        "single": [{"SpecialToken": {"id": t}} if t else {"Sequence": {"id": "A"}} for t in single],
        "special_tokens": {t: {"ids": [i]} for t, i in ids.items()}}
    changed(content, "tokenizer.json")
    settings = json.loads((TINY / "tokenizer_config.json").read_text())
    path = changed({**settings, "tokenizer_class": "PreTrainedTokenizerFast"},
                   "tokenizer_config.json")
    model, plain = embound.SentenceTransformer(path), embound.SentenceTransformer(str(TINY))
    words, prompt = (plain.tokenize([t])["input_ids"].tolist()[0][1:-1]
                     for t in ("the cat sat", "the cat"))
    at = single.index(None)
    before, after = [ids[t] for t in single[:at]], [ids[t] for t in single[at + 1:]]
    assert model.tokenize(["the cat sat"])["input_ids"].tolist() == [before + words + after]
    length = model.tokenize(["sat"], prompt="the cat ")["prompt_length"]
    assert length == len(before + prompt + after) - ends  # as upstream counts
    model.max_seq_length = 4
    cut = model.tokenize(["the cat sat on a mat"])["input_ids"].tolist()
    assert cut == [before + words[:4 - len(before + after)] + after]


@pytest.mark.parametrize(("name", "content", "words"), [
    (SETTINGS, {"truncate_dim": 0}, "truncate_dim"),
    (SETTINGS, {"model_type": "SparseEncoder"}, "SparseEncoder"),
    ("sentence_bert_config.json", {"query_length": 8}, "query_length"),
    ("sentence_bert_config.json", {"nova": 8}, "nova"),
    ("tokenizer_config.json", {"truncation_side": "left"}, "truncation_side"),
    ("adapter_config.json", {}, "adapter_config.json"),
    ("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
     "git-lfs pointer")])
def test_refused_by_file_and_key(changed, name, content, words):
    with pytest.raises(embound.EmboundError, match=words) as caught:
        embound.SentenceTransformer(changed(content, name))
    assert name in str(caught.value)
