"""encode on a model of two layers: kinds of input and output, prompts, precisions, refusals.

SPDX-License-Identifier: Apache-2.0
"""
import pickle
import threading
import warnings

import embound
import numpy
import pytest
from conftest import TINY, TINY_MPNET

TEXTS = ["a small test", "of the model", "", "with five texts, one empty", "héllo wörld"]


def test_shapes_and_kinds(tiny):
    rows = tiny.encode(TEXTS)
    dim = tiny.get_embedding_dimension()
    assert isinstance(rows, numpy.ndarray) and rows.shape == (5, dim)
    assert rows.dtype == numpy.float32 and rows.flags.writeable and rows.flags.c_contiguous
    assert numpy.isfinite(rows).all()
    one = tiny.encode(TEXTS[0])
    assert one.shape == (dim,) and numpy.array_equal(one, rows[0])
    assert tiny.encode([]).shape == (0,)


@pytest.mark.parametrize("kind", [tuple, numpy.array, lambda t: (x for x in t)])
def test_kinds_of_input(tiny, kind):
    assert numpy.array_equal(tiny.encode(kind(TEXTS)), tiny.encode(TEXTS))


@pytest.mark.parametrize("bad", [
    5, None, b"bytes", {"text": "x"}, ["a", 3], [None], [b"x"], [["a", "b"]], [("a", "b")],
    numpy.array("a"), numpy.array([["a"]]), numpy.arange(3), float("nan"), str, ["a", float("nan")],
    [{"role": "user", "content": "a"}], range(3)])
def test_what_is_no_text_is_refused(tiny, bad):
    with pytest.raises(ValueError, match="str"):
        tiny.encode(bad)
    assert tiny.encode(["still works"]).shape[0] == 1


def test_rows_before_a_bad_text_leave_the_engine(tiny):
    with pytest.raises(ValueError, match="text 300 "):
        tiny.encode(["x"] * 300 + [7])
    assert tiny.memory_report()["opens"] == 1
    assert numpy.array_equal(tiny.encode(["x"])[0], tiny.encode("x"))


@pytest.mark.parametrize("long", ["the quick brown fox " * 60_000, "\u00e9" * 700_000])
def test_a_bad_text_after_one_of_several_slabs(tiny, long):
    few = ["one text", "two"]
    expected = tiny.encode(few)
    tokens = tiny._core.encode_tokens(few, None)[0]
    for call in (tiny.encode, lambda texts: tiny._core.encode_tokens(texts, None)):
        for bad in ([long, 5], [long, None], ["a", long, 5]):
            with pytest.raises(embound.TextError) as caught:
                call(bad)
            assert caught.value.index == len(bad) - 1
            assert tiny.encode("x").shape == (32,)
            assert numpy.array_equal(tiny.encode(few), expected)
    again = tiny._core.encode_tokens(few, None)[0]
    assert all(numpy.array_equal(a, b) for a, b in zip(again, tokens))


def test_a_bad_text_of_another_thread(tiny):
    expected = tiny.encode("good")
    wrong = []

    def fail():
        for _ in range(5):
            try:
                tiny.encode(["the quick brown fox " * 60_000, 5])
            except embound.EmboundError as error:
                wrong.extend([] if isinstance(error, embound.TextError) else [error])

    def work():
        for _ in range(20):
            try:
                wrong.extend([] if numpy.array_equal(tiny.encode("good"), expected) else ["rows"])
            except embound.EmboundError as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    threads.append(threading.Thread(target=fail))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lone_surrogates_are_replaced(tiny):
    assert numpy.isfinite(tiny.encode("half of a pair \ud800")).all()


def test_normalize_after_truncation(tiny):
    rows = tiny.encode(TEXTS, truncate_dim=5, normalize_embeddings=True)
    assert rows.shape == (5, 5)
    assert numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-6)
    whole = tiny.encode(TEXTS)[:, :5]
    assert numpy.allclose(rows, whole / numpy.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("dim", [500, 0, -3, 1])
def test_truncate_dim_is_a_slice(tiny, dim):
    assert numpy.array_equal(tiny.encode(TEXTS, truncate_dim=dim), tiny.encode(TEXTS)[:, :dim])


def test_prompts():
    model = embound.SentenceTransformer(str(TINY), prompts={"query": "ask: ", "passage": "text: "})
    assert model.prompts == {"query": "ask: ", "document": "", "passage": "text: "}
    asked = model.encode("ask: me")
    assert numpy.array_equal(model.encode("me", prompt="ask: "), asked)
    assert numpy.array_equal(model.encode("me", prompt_name="query"), asked)
    assert numpy.array_equal(model.encode_query("me"), asked)
    assert numpy.array_equal(model.encode_document("me"), model.encode("me"))
    model.default_prompt_name = "query"
    assert numpy.array_equal(model.encode("me"), asked)
    with pytest.raises(ValueError, match="prompt_name 'none'"):
        model.encode("me", prompt_name="none")
    with pytest.raises(ValueError, match="default_prompt_name"):
        embound.SentenceTransformer(str(TINY), default_prompt_name="none")


def test_one_warning_counts_the_tokens(tiny):
    limit = tiny.max_seq_length
    texts = ["a " * (limit + 98)] * 3 + ["short"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny.encode(texts)
    assert [w.category for w in caught] == [embound.TruncationWarning]
    assert f"3 texts longer than {limit} tokens: 300 tokens" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_rules_for_long_texts():
    text = "a b c d " * 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chunked = embound.SentenceTransformer(str(TINY), long="chunk").encode(text)
        model = embound.SentenceTransformer(str(TINY), long="error")
    assert numpy.isfinite(chunked).all()
    with pytest.raises(embound.TextError) as caught:
        model.encode(["fine", text, text])
    assert caught.value.index == 1
    assert model.encode(["fine"]).shape[0] == 1
    with pytest.raises(ValueError, match="long='other'"):
        embound.SentenceTransformer(str(TINY), long="other")


def test_max_seq_length(tiny):
    before = tiny.max_seq_length
    tiny.max_seq_length = 10
    assert tiny.max_seq_length == tiny.plan()["max_tokens"] == 10
    with pytest.raises(ValueError, match="window"):
        tiny.max_seq_length = 10**6
    assert tiny.max_seq_length == 10 != before


@pytest.mark.parametrize("precision, dtype", [
    ("float32", "float32"), ("int8", "int8"), ("uint8", "uint8"), ("binary", "int8"),
    ("ubinary", "uint8")])
@pytest.mark.filterwarnings("ignore:.*range of each")
def test_precisions(tiny, precision, dtype):
    rows = tiny.encode(TEXTS, precision=precision)
    dim = tiny.get_embedding_dimension()
    assert rows.dtype == dtype and rows.shape == (5, (dim + 7) // 8 if "bin" in precision else dim)
    if precision.endswith("int8"):
        with pytest.raises(ValueError, match="one vector"):
            tiny.encode("one", precision=precision)
    else:
        assert tiny.encode("one", precision=precision).ndim == 1


@pytest.mark.parametrize("options, message", [
    ({"batch_size": 0}, "batch_size"), ({"precision": "int3"}, "precision"),
    ({"batch_size": "8"}, "batch_size"), ({"batch_size": None}, "batch_size"),
    ({"precision": ["int8"]}, "precision"), ({"output_value": ["x"]}, "output_value"),
    ({"prompt": 5}, "prompt=5"), ({"prompt": b"x"}, "prompt"), ({"prompt": float("nan")}, "nan"),
    ({"prompt_name": ["query"]}, "prompt_name"), ({"truncate_dim": "5"}, "truncate_dim"),
    ({"truncate_dim": 1.5}, "truncate_dim"), ({"device": ""}, "device"), ({"device": "CPU"}, "CPU"),
    ({"device": True}, "True"), ({"device": []}, "at least one"), ({"device": -1}, "-1"),
    ({"device": ["cpu", "zzz"]}, "zzz"), ({"device": b"cpu"}, "cpu"), ({"pool": {}}, "pool"),
    ({"pool": 5}, "pool"), ({"chunk_size": "a", "device": ["cpu"]}, "chunk_size"),
    ({"output_value": "words"}, "output_value"), ({"depth": 3}, "depth"),
    ({"chunk_size": 0, "device": ["cpu"]}, "chunk_size"), ({"device": "mps"}, "mps"),
    ({"processing_kwargs": {"text": {}}}, "processing_kwargs")])
def test_bad_options_are_refused(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        tiny.encode(["x"], **options)


@pytest.mark.parametrize("options, message", [
    ({"memory": 0}, "memory=0"), ({"memory": -1}, "memory"), ({"memory": float("nan")}, "memory"),
    ({"memory": b"1GiB"}, "memory"), ({"memory": "50%"}, "memory"), ({"memory": 2**70}, "memory"),
    ({"memory": True}, "memory"), ({"gpu_memory": "x"}, "gpu_memory"),
    ({"threads": "2"}, "threads"), ({"threads": 1.5}, "threads"),
    ({"long": ["chunk"]}, "long"), ({"dtype": []}, "dtype"),
    ({"prompts": 5}, "prompts"), ({"prompts": ["a"]}, "prompts"),
    ({"prompts": {"a": 5}}, "prompts"), ({"prompts": {1: "x"}}, "prompts"),
    ({"truncate_dim": "x"}, "truncate_dim"),
    ({"model_kwargs": 5}, "model_kwargs"), ({"similarity_fn_name": 5}, "similarity_fn_name")])
def test_bad_options_of_the_constructor(options, message):
    with pytest.raises(ValueError, match=message):
        embound.SentenceTransformer(str(TINY), **options)


@pytest.mark.parametrize("name", [None, 5, "", "a\0b", "a\nb", ["x"]])
def test_what_names_no_model(name):
    with pytest.raises(ValueError, match="model"):
        embound.SentenceTransformer(name)


@pytest.mark.parametrize("value", [0, -1, 1, "64", 1.5, float("nan"), 10**30])
def test_bad_max_seq_length(tiny, value):
    before = tiny.max_seq_length
    with pytest.raises(ValueError, match="tokens|chunk"):
        tiny.max_seq_length = value
    assert tiny.max_seq_length == before and tiny.encode("x").ndim == 1


def test_vectors_that_cannot_be_compared(tiny):
    rows = tiny.encode(TEXTS)
    for a, b in [(rows, rows[:, :4]), (rows, []), (rows, [[1, 2]]), (5, 5)]:
        for method in (tiny.similarity, tiny.similarity_pairwise):
            with pytest.raises(ValueError, match="compared"):
                method(a, b)


def test_what_is_not_there_says_why(tiny):
    for name in ("tokenizer", "parameters", "state_dict"):
        with pytest.raises(AttributeError, match=f"'{name}': embound is no module of torch"):
            getattr(tiny, name)
        assert not hasattr(tiny, name)
    with pytest.raises(TypeError):
        tiny[0]


def test_evaluators_take_the_model(tiny, tmp_path, reference):
    from sentence_transformers.sentence_transformer import evaluation

    evaluator = evaluation.EmbeddingSimilarityEvaluator(["a b", "c", "of the"],
                                                        ["a", "d e", "of"], [1.0, 0.2, 0.7],
                                                        write_csv=True)
    scores = tiny.evaluate(evaluator, str(tmp_path / "new"))
    assert all(-1 <= score <= 1 for score in scores.values()) and list((tmp_path / "new").iterdir())


def test_bad_streams(tiny):
    for bad in (None, 5, "one", b"x"):
        with pytest.raises(ValueError, match="iterable"):
            tiny.encode_stream(bad)
    with pytest.raises(ValueError, match="text 1 is of type int"):
        list(tiny.encode_stream(["a", 1]))

    def breaks():
        yield "a"
        raise KeyError("mine")

    for method in (tiny.encode, lambda x: list(tiny.encode_stream(x))):
        with pytest.raises(KeyError, match="mine"):
            method(breaks())


def test_constructor_refusals(tmp_path):
    make = embound.SentenceTransformer
    for options, kind in [
            ({"modules": [1]}, embound.UnsupportedError), ({"device": "xpu"}, ValueError),
            ({"dtype": "f13"}, ValueError), ({"memory": "lots"}, ValueError),
            ({"threads": 0}, ValueError), ({"processor_kwargs": {"a": 1}}, ValueError),
            ({"model_kwargs": {"a": 1}}, ValueError), ({"backend": "jax"}, ValueError)]:
        with pytest.raises(kind):
            make(str(TINY), **options)
    with pytest.raises(FileNotFoundError):
        make(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OSError, match="config.json") as caught:
        make(str(tmp_path))
    assert isinstance(caught.value, embound.ModelError)
    with pytest.raises(embound.UnsupportedError, match="reranking"):
        embound.CrossEncoder("any/model")


def test_names_of_the_cache(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(TINY, target_is_directory=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert embound.find_model("some/model") == str(snapshot)
    assert embound.find_model("some/model", revision="abc") == str(snapshot)
    assert embound.SentenceTransformer("some/model").encode("x").ndim == 1
    with pytest.raises(embound.ModelNotFoundError, match="switched off"):
        embound.SentenceTransformer("some/other")


def test_budget():
    with pytest.raises(embound.BudgetError) as caught:
        embound.SentenceTransformer(str(TINY), memory="1MiB")
    least = caught.value.minimum_bytes
    assert least > 1 << 20 and str(least) in str(caught.value)
    assert "this process holds" in str(caught.value)
    assert isinstance(caught.value, MemoryError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.minimum_bytes == least
    model = embound.SentenceTransformer(str(TINY), memory=least + (4 << 20))
    assert model.plan()["host_bytes"] <= least + (4 << 20)


def test_plan_and_report(tiny, capsys):
    plan = tiny.plan()
    assert plan["rung"] == "full" and plan["device"] == "cpu"
    assert sum(size for _, size in plan["regions"][0]["items"]) == plan["host_bytes"]
    assert "held by this process already" in str(plan)
    assert not tiny.is_open
    with tiny:
        assert tiny.is_open and tiny.memory_report()["host_bytes_planned"] == plan_bytes(tiny)
        with embound.trace_memory() as account:
            assert str(account) in capsys.readouterr().out and "open" in account
        assert "since then the process has" in capsys.readouterr().out
    assert not tiny.is_open and tiny.encode("again").ndim == 1


def plan_bytes(model):
    return model.plan()["host_bytes"]


def test_models_are_pickled_closed(tiny):
    tiny.max_seq_length = 12
    tiny.open()
    other = pickle.loads(pickle.dumps(tiny))
    assert not other.is_open and other.max_seq_length == 12
    assert numpy.array_equal(other.encode(TEXTS), tiny.encode(TEXTS))


def test_mpnet_and_bf16():
    model = embound.SentenceTransformer(str(TINY_MPNET))
    low = embound.SentenceTransformer(str(TINY_MPNET), dtype="bf16")
    a, b = model.encode(TEXTS), low.encode(TEXTS)
    assert low.plan()["dtype"] == "bf16"
    cosine = (a * b).sum(1) / numpy.linalg.norm(a, axis=1) / numpy.linalg.norm(b, axis=1)
    assert cosine.min() > 0.999


def test_stream_and_async(tiny):
    import asyncio

    texts = [f"text number {i}" for i in range(2500)]
    whole = tiny.encode(texts)
    rows = list(tiny.encode_stream(text for text in texts))
    assert numpy.array_equal(numpy.stack(rows), whole)

    async def both():
        one = await tiny.aencode(texts[:10])
        many = [row async for row in tiny.aencode_stream(texts[:10])]
        return one, numpy.stack(many)

    one, many = asyncio.run(both())
    assert numpy.array_equal(one, whole[:10]) and numpy.array_equal(many, one)


def test_stream_reads_no_further_than_a_block(tiny):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield "again and again"

    stream = tiny.encode_stream(endless())
    assert next(stream).ndim == 1 and len(taken) <= 1024
    tiny.encode("other calls are not held up by an open stream")
    stream.close()


def test_vectors_of_tokens(tiny):
    torch = pytest.importorskip("torch")
    whole = tiny.encode(TEXTS)
    tokens = tiny.encode(TEXTS, output_value="token_embeddings")
    assert [tuple(one.shape) for one in tokens] == [
        (int(n), tiny._dim) for n in tiny.tokenize(TEXTS)["attention_mask"].sum(1)]
    for one, row in zip(tokens, whole, strict=True):
        mean = one.mean(0).numpy()
        assert numpy.allclose(mean / numpy.linalg.norm(mean), row, atol=1e-5)
    features = tiny.encode(TEXTS, output_value=None, truncate_dim=7)
    assert torch.equal(features[1]["token_embeddings"], tokens[1])
    assert numpy.allclose(features[1]["sentence_embedding"], whole[1, :7], atol=1e-5)
    assert isinstance(tiny.encode("one", output_value="token_embeddings"), torch.Tensor)
    assert tiny.encode([], output_value=None) == []
    assert numpy.array_equal(tiny.encode(TEXTS), whole)
    with pytest.raises(ValueError, match="text 1 is of type int"):
        tiny.encode(["a", 5], output_value="token_embeddings")
    chunks = embound.SentenceTransformer(str(TINY), long="chunk")
    with pytest.raises(ValueError, match="long rule"):
        chunks.encode(["a"], output_value="token_embeddings")
    assert chunks.encode("a").ndim == 1
