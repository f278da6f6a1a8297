"""What programs written for sentence-transformers do with a model beside encode: subclasses and
wrappers, copies, torch's ways of moving, kinds of numbers, paths; each works, or says our way.

SPDX-License-Identifier: Apache-2.0
"""
import copy
import functools
import importlib.util
import json
import os
import pathlib
import pickle
import shutil
import warnings

import embound
import numpy
import pytest
from conftest import TINY

TEXTS = ["a small test", "of the model", "with three texts"]


class Wrapper(embound.SentenceTransformer):
    """As users write them: a signature of their own."""

    def encode(self, inputs, **options):
        self.tasks = [*getattr(self, "tasks", ()), options.get("task")]
        return super().encode(inputs, **{**options, "normalize_embeddings": True})


def unit(rows):
    return numpy.allclose(numpy.linalg.norm(rows, axis=-1), 1, atol=1e-6)


# ---- subclasses and wrappers of encode -----------------------------------------------------------

def test_encode_query_calls_the_encode_that_there_is():
    options = {"prompts": {"query": "ask: ", "document": "text: "}, "truncate_dim": 5}
    plain, model = (kind(str(TINY), **options) for kind in (embound.SentenceTransformer, Wrapper))
    assert not unit(plain.encode_query(TEXTS))
    assert unit(model.encode_query(TEXTS)) and unit(model.encode_document(TEXTS[0]))
    assert model.tasks == ["query", "document"]
    for prompt, method in (("ask: ", "encode_query"), ("text: ", "encode_document")):
        expected = plain.encode(TEXTS, prompt=prompt, normalize_embeddings=True)
        assert numpy.array_equal(getattr(model, method)(TEXTS), expected)
    expected = plain.encode_query(TEXTS)
    inner = plain.encode
    plain.encode = lambda inputs, **options: inner(inputs, **{**options,
                                                              "normalize_embeddings": True})
    assert unit(plain.encode_query(TEXTS)) and unit(plain.encode_document(TEXTS))
    plain.encode = functools.partial(inner, normalize_embeddings=True)  # which are stated again
    assert unit(plain.encode(TEXTS)) and numpy.array_equal(plain.encode_query(TEXTS), expected)
    with pytest.raises(ValueError, match="normalize_embedding"):
        plain.encode_query(TEXTS, normalize_embedding=True)


def test_evaluators_take_subclasses_and_wrappers(reference, tmp_path):
    from sentence_transformers.sentence_transformer import evaluation

    queries = {"1": "a small test", "2": "the model"}
    corpus = {"a": "a test", "b": "one model", "c": "others"}
    plain = embound.SentenceTransformer(str(TINY))
    wrapped = embound.SentenceTransformer(str(TINY))
    wrapped.encode = functools.partial(wrapped.encode, normalize_embeddings=False)
    scores = []
    for model in (plain, wrapped, Wrapper(str(TINY))):
        evaluators = [
            evaluation.InformationRetrievalEvaluator(queries, corpus, {"1": {"a"}, "2": {"b"}}),
            evaluation.EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], [0.1, 0.9, 0.5]),
            evaluation.TripletEvaluator(TEXTS, TEXTS, TEXTS[::-1])]
        found = {}
        for evaluator in evaluators:
            found.update(model.evaluate(evaluator, str(tmp_path)))
        scores.append(found)
    for other in scores[1:]:
        assert other == pytest.approx(scores[0], abs=1e-6)


# ---- copies --------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)),
                                  lambda x: pickle.loads(pickle.dumps(x, 0))])
def test_copies_are_like_their_models(make):
    model = Wrapper(str(TINY), prompts={"query": "ask: "}, device="cpu", threads=1, long="chunk",
                    similarity_fn_name="manhattan")
    model.similarity_fn_name = "dot"
    model.max_seq_length = 20
    model.truncate_dim = 8
    model.default_prompt_name = "query"
    model.mine = {"any": ["thing"]}
    model.model_card_data.set_evaluation_metrics(None, {})
    expected = model.open().encode(TEXTS)
    other = make(model)
    assert type(other) is Wrapper and not other.is_open
    for name in ("similarity_fn_name", "max_seq_length", "truncate_dim", "default_prompt_name",
                 "prompts", "mine", "model_name"):
        assert getattr(other, name) == getattr(model, name), name
    assert numpy.array_equal(other.encode(TEXTS), expected)
    assert other.plan()["long"] == "chunk" and other.plan()["lanes"] == 1
    other.max_seq_length = 30
    other.prompts["query"] = "other: "
    assert model.max_seq_length == 20 and model.prompts["query"] == "ask: "
    if make is not copy.copy:
        other.mine["any"].append(1)
        assert model.mine == {"any": ["thing"]}


def test_copies_of_a_model_with_an_encode_of_its_own():
    tiny = embound.SentenceTransformer(str(TINY), truncate_dim=5)
    tiny.encode = functools.partial(tiny.encode, normalize_embeddings=True)
    for other in (copy.deepcopy(tiny), pickle.loads(pickle.dumps(tiny))):
        assert unit(other.encode(TEXTS)) and other.encode_query(TEXTS).shape == (3, 5)
        assert other.encode.func.__self__ is other and other is not tiny


# ---- torch's ways --------------------------------------------------------------------------------

def test_moving(tiny):
    for moved in (tiny.to("cpu"), tiny.to("cpu", non_blocking=True), tiny.to("cpu", "float32"),
                  tiny.to(dtype="float32"), tiny.to(device="cpu"), tiny.cpu(), tiny.eval(),
                  tiny.train(False), tiny.requires_grad_(False), tiny.float()):
        assert moved is tiny and tiny.plan()["dtype"] == "f32"
    for call in (tiny.train, tiny.requires_grad_, tiny.fit, lambda: tiny.train(True)):
        with pytest.raises(embound.UnsupportedError, match="does not train"):
            call()
    torch = pytest.importorskip("torch")
    for wanted in ((torch.device("cpu"), torch.float32), (torch.float32,), (torch.float32, True),
                   (torch.zeros(1),)):
        assert tiny.to(*wanted) is tiny
    assert tiny.to("cpu", torch.bfloat16).dtype == torch.bfloat16


def test_16_bits_on_a_cpu_are_bf16_and_said_so(tiny):
    with pytest.warns(embound.EmboundWarning, match="CPU computes in bf16"):
        assert tiny.half() is tiny
    assert tiny.plan()["dtype"] == "bf16" and tiny.encode("x").dtype == numpy.float32
    assert tiny.float().plan()["dtype"] == "f32"
    for options in ({"torch_dtype": "float16"}, {"dtype": "torch.float16"}):
        with pytest.warns(embound.EmboundWarning, match="bf16"):
            model = embound.SentenceTransformer(str(TINY), device="cpu", model_kwargs=options)
        assert model.plan()["dtype"] == "bf16"
        with pytest.warns(embound.EmboundWarning, match="bf16"):
            assert copy.copy(model).plan()["dtype"] == "bf16"
    # our own option means what it says
    with pytest.raises(embound.UnsupportedError, match="f16 is not available on a CPU; use f32"):
        embound.SentenceTransformer(str(TINY), device="cpu", dtype="f16")


def test_a_change_that_fails_changes_nothing(tiny, monkeypatch):
    def interrupted(**numbers):
        monkeypatch.undo()
        raise KeyboardInterrupt

    before = tiny.max_seq_length
    monkeypatch.setattr(tiny, "_core", type("Core", (), {
        "configure": staticmethod(interrupted), "plan": tiny._core.plan})())
    with pytest.raises(KeyboardInterrupt):
        tiny.max_seq_length = 12
    assert tiny.max_seq_length == before == tiny.plan()["max_tokens"]


# ---- prompts -------------------------------------------------------------------------------------

def test_both_prompt_and_prompt_name(tiny):
    with pytest.warns(embound.EmboundWarning, match="prompt is used") as caught:
        rows = tiny.encode(TEXTS, prompt="ask: ", prompt_name="query")
    assert caught[0].filename == __file__
    assert numpy.array_equal(rows, tiny.encode(TEXTS, prompt="ask: "))


def test_the_length_of_a_prompt(reference):
    pytest.importorskip("torch")
    ours = embound.SentenceTransformer(str(TINY), device="cpu")
    theirs = reference.SentenceTransformer(str(TINY), device="cpu")
    for prompt in ("query: ", "a longer prompt, of more words: ", "x"):
        for inputs in (TEXTS, TEXTS[0]):
            a = ours.encode(inputs, output_value=None, prompt=prompt)
            b = theirs.encode(inputs, output_value=None, prompt=prompt)
            a, b = (a, b) if isinstance(a, list) else ([a], [b])
            assert [one["prompt_length"] for one in a] == [one["prompt_length"] for one in b]
        assert ours.preprocess(TEXTS, prompt)["prompt_length"] == a[0]["prompt_length"]
    assert "prompt_length" not in ours.encode(TEXTS[0], output_value=None)


# ---- numbers, columns, paths ---------------------------------------------------------------------

@pytest.mark.parametrize("kind", [numpy.int64, numpy.int32, numpy.uint8])
def test_whole_numbers_of_numpy(kind):
    model = embound.SentenceTransformer(str(TINY), threads=kind(1), truncate_dim=kind(8),
                                        memory=numpy.int64(4 << 30))
    assert model.encode(TEXTS, batch_size=kind(4), chunk_size=kind(2),
                        show_progress_bar=numpy.bool_(False)).shape == (3, 8)
    assert model.encode(TEXTS, truncate_dim=kind(3), batch_size=numpy.array(4)).shape == (3, 3)
    model.max_seq_length = kind(10)
    assert model.max_seq_length == 10
    from embound._settings import parse_device

    assert parse_device(kind(1)) == "cuda:1"


def test_none_in_a_list_is_an_error_of_ours(tiny):
    calls = [tiny.encode, tiny.tokenize, lambda x: list(tiny.encode_stream(x))]
    if importlib.util.find_spec("torch"):
        calls.append(lambda x: tiny.encode(x, output_value="token_embeddings"))
    for call in calls:
        for bad in (None, float("nan"), 5):
            with pytest.raises(embound.TextError, match="text 1 is") as caught:
                call(["a", bad])
            assert caught.value.index == 1


def test_half_a_surrogate_pair_is_said(tiny):
    with pytest.warns(UnicodeWarning, match="U.FFFD"):
        row = tiny.encode("a\ud800b")
    assert numpy.array_equal(row, tiny.encode("a\ufffdb"))
    with pytest.raises(UnicodeWarning), warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.encode(["a", "a\ud800b"])
    assert tiny.encode("a").shape == (32,)


def test_a_relative_path_and_another_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(TINY.parent)
    models = [embound.SentenceTransformer(TINY.name), embound.SentenceTransformer(f"./{TINY.name}"),
              embound.SentenceTransformer(pathlib.Path(TINY.name))]
    expected = models[0].encode(TEXTS)
    streamed = embound.SentenceTransformer(TINY.name).open()
    monkeypatch.chdir(tmp_path)
    for model in (*models, streamed, pickle.loads(pickle.dumps(models[1]))):
        assert numpy.array_equal(model.encode(TEXTS), expected)
        model.close()
        assert numpy.array_equal(model.encode(TEXTS), expected)
    assert models[0].model_name == TINY.name


@pytest.mark.parametrize("layout", ["old", "new"])
def test_layouts_of_the_cache(tmp_path, monkeypatch, layout):
    commit = tmp_path / "models--org--model" / "snapshots" / "abc"
    shutil.copytree(TINY, commit)
    kind = "sentence_transformers.models."
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{kind}Transformer"},
               {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}Pooling"}]
    if layout == "old":
        (commit / "0_Transformer").mkdir()
        for path in list(commit.iterdir()):
            if path.is_file() and path.name != "config_sentence_transformers.json":
                path.rename(commit / "0_Transformer" / path.name)
        modules[0]["path"] = "0_Transformer"
    if not (commit / "1_Pooling").exists():
        (commit / "1_Pooling").mkdir()
        (commit / "1_Pooling" / "config.json").write_text(json.dumps(
            {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}))
    (commit / "modules.json").write_text(json.dumps(modules))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert embound.SentenceTransformer("org/model", revision="abc").encode("x").shape == (32,)
    weights = next(commit.rglob("model.safetensors"))
    weights.unlink()
    assert embound.find_model("org/model", revision="abc") is None


# ---- programs as people paste them ---------------------------------------------------------------

def test_options_for_the_memory_of_others_change_nothing(tiny):
    harmless = {"torchscript": True, "gradient_checkpointing": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({"model_kwargs": harmless}, {"config_kwargs": harmless}):
            model = embound.SentenceTransformer(str(TINY), **options)
            assert numpy.array_equal(model.encode(TEXTS), tiny.encode(TEXTS))
    with pytest.warns(embound.EmboundWarning, match="gradient_checkpointing, torchscript.*memory="):
        model = embound.SentenceTransformer(str(TINY), **harmless)
    assert numpy.array_equal(model.encode(TEXTS), tiny.encode(TEXTS))
    with pytest.raises(TypeError, match="torchscripts"):
        embound.SentenceTransformer(str(TINY), torchscripts=True)
    for name, way in (("load_in_8bit", "int8"), ("device_map", "memory="), ("odd", "leave it")):
        for place in ("model_kwargs", "config_kwargs"):
            with pytest.raises(embound.UnsupportedError, match=rf"{place}\['{name}'\].*{way}"):
                embound.SentenceTransformer(str(TINY), **{place: {name: True}})


def test_around_encode(tiny):
    torch = pytest.importorskip("torch")
    expected = tiny.encode(TEXTS)
    tiny.eval()
    for context in (torch.no_grad, torch.inference_mode,
                    lambda: torch.autocast("cpu", dtype=torch.bfloat16),
                    lambda: torch.autocast("cpu", enabled=False)):
        with context():
            rows = tiny.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False)
            torch.cuda.empty_cache()
        assert isinstance(rows, torch.Tensor) and rows.dtype == torch.float32
        assert not rows.requires_grad and numpy.array_equal(rows.numpy(), expected)
    batches = [tiny.encode(TEXTS[i:i + 1], batch_size=1) for i in range(3)]
    torch.cuda.empty_cache()
    assert numpy.array_equal(numpy.vstack(batches), expected)


def test_a_gpu_that_is_not_there(tiny):
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("there is a GPU")
    for call in (lambda: tiny.to("cuda"), tiny.cuda, lambda: tiny.encode("x", device="cuda"),
                 lambda: embound.SentenceTransformer(str(TINY), device="cuda")):
        with pytest.raises(embound.DeviceError):
            call()
    assert tiny.encode("x").ndim == 1 and tiny.plan()["device"] == "cpu"


def test_what_quantizes_modules_of_torch_is_told_our_way(tiny):
    class Manager:  # bitsandbytes' GlobalOptimManager reads parameters
        def register_parameters(self, parameters):
            self.seen = list(parameters)

    with pytest.raises(AttributeError, match="dtype='int8'"):
        Manager().register_parameters(tiny.parameters())
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(AttributeError, match="dtype='int8'"):
            torch.quantization.quantize_dynamic(tiny, {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(AttributeError, match="memory="):
        tiny.gradient_checkpointing_enable()


def test_chunks_of_tokens(tiny):
    """A long text cut into tokens by hand, as for models that forget what is too long."""
    text = "a long text of many words " * 40
    features = tiny.tokenize([text])
    with pytest.raises(KeyError, match=r"\['input_ids'\]\[0\].*long='chunk'"):
        features[0]
    ids = features["input_ids"][0]
    for chunk in (ids[:10], ids[:10].tolist(), [ids[:10].tolist()]):
        with pytest.raises(embound.EmboundError, match="str"):
            tiny.encode(chunk)
    with pytest.raises(embound.TextError, match="long='chunk'"):
        tiny.encode(ids[:10])
    words = text.split()
    chunks = [" ".join(words[at:at + 30]) for at in range(0, len(words), 30)]
    assert tiny.encode(chunks).mean(axis=0).shape == (32,)
    model = embound.SentenceTransformer(str(TINY), long="chunk")
    assert model.encode(text).shape == (32,)
