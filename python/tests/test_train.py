"""embound.train: what it learns and writes, the same losses as the program's, every kind of data,
faults by row, memory inside its figure.

SPDX-License-Identifier: Apache-2.0
"""
import csv
import json
import os
import pathlib
import subprocess
import sys
import threading

import embound
import numpy
import pytest
from conftest import ROOT, TINY, TINY_MPNET
from embound import losses
from training_data import WORDS, groups, pairs, weights

FAST = {"learning_rate": 1e-3, "batch_size": 16, "progress": False}
GROUPS = ("anchor", "positive", "negative")
PAIRS = ("sentence1", "sentence2", "score")


def program():
    """The program embound, beside the package or built."""
    from embound._program import program as place

    for path in (place(), str(ROOT / "build" / "embound")):
        if os.path.exists(path):
            return path
    return pytest.skip("the program is not built")


def write_table(path, names, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    return str(path)


def classes(count):
    """A text and its class."""
    return [(f"{row[0]} {WORDS[i % 3]} {WORDS[i % 3]}", i % 3)
            for i, row in enumerate(groups(count))]


def taught(count, texts):
    """Texts and a teacher's vectors of them, which are of another width."""
    random = numpy.random.default_rng(3)
    return [(*row[:texts], random.standard_normal((texts, 12)).tolist()) for row in groups(count)]


# ---- what it learns ------------------------------------------------------------------------------

@pytest.mark.parametrize("model", [TINY, TINY_MPNET], ids=lambda path: path.name)
@pytest.mark.parametrize(("loss", "rows"), [
    ("ranking", groups()), ("cosent", pairs()), ("cosine", pairs())], ids=lambda one: str(one)[:8])
def test_the_loss_falls_and_the_model_is_the_trained_one(tmp_path, model, loss, rows):
    before = embound.SentenceTransformer(str(model)).encode("river stone")
    result = embound.train(str(model), rows, loss, output=tmp_path / "out", epochs=6, **FAST)
    assert result.steps == len(result.losses) == 24
    assert numpy.mean(result.losses[-4:]) < 0.9 * numpy.mean(result.losses[:4])
    again = embound.SentenceTransformer(str(tmp_path / "out"))
    after = result.model.encode("river stone")
    assert numpy.array_equal(after, again.encode("river stone"))
    assert not numpy.allclose(before, after, atol=1e-3)
    assert result.memory["host_bytes_planned"] == result.plan["host_bytes"]
    assert sum(size for _, size in result.plan["regions"][0]["items"]) <= result.plan["host_bytes"]
    assert "tokens per tile" in str(result.plan) and "TrainingPlan" in repr(result.plan)


def test_the_log_has_every_step(tmp_path):
    result = embound.train(str(TINY), groups(), output=tmp_path / "out", epochs=2,
                           eval_dataset=groups(20, seed=5), eval_steps=4, **FAST)
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().split("\n")
             if line]
    steps = [line for line in lines if "loss" in line]
    assert [line["loss"] for line in steps] == result.losses
    assert steps == [{key: row[key] for key in line} for line, row in zip(steps, result.log)]
    assert [line["step"] for line in lines if "eval_loss" in line] == [4, 8]
    assert [one["step"] for one in result.evaluations] == [4, 8]
    assert result.evaluations[-1]["eval_loss"] < result.evaluations[0]["eval_loss"]
    assert all(line["host_bytes"] > 0 and line["tokens_per_second"] > 0 for line in steps)
    assert lines[-1]["host_bytes_peak"] > 0


@pytest.mark.parametrize(("loss", "more"), [
    ("ranking", []), ("ranking", ["--no-duplicates"]), ("ranking", ["--no-shuffle"]),
    ("ranking", ["--symmetric", "--scale", "10", "--weight-decay", "0.1"]),
    ("ranking", ["--dropout", "0.1", "--seed", "7", "--schedule", "cosine"]),
    ("cosent", ["--warmup-ratio", "0.2"]), ("cosine", ["--optimizer", "adamw8"]),
    ("cosine", ["--optimizer", "sgd", "--momentum", "0.9", "--layer-decay", "0.8"])],
    ids=lambda one: "".join(one))
def test_the_same_as_the_program(tmp_path, loss, more):
    names, rows = (GROUPS, groups()) if loss == "ranking" else (PAIRS, pairs())
    rows = rows + rows[:10]  # texts that stand there twice
    table = write_table(tmp_path / "rows.csv", names, rows)
    log = tmp_path / "log.jsonl"
    subprocess.run([program(), "train", TINY, "-i", table, "-o", tmp_path / "theirs", "--quiet",
                    "--loss", loss, "--log", log, "--epochs", "3", "--batch-size", "16",
                    "--learning-rate", "1e-3", *more], check=True)
    values = dict(zip(more[::2], more[1::2])) if len(more) > 1 else {}
    if "--symmetric" in more:
        values = {"--scale": "10", "--weight-decay": "0.1"}
    options = {
        "no_duplicates": "--no-duplicates" in more, "shuffle": "--no-shuffle" not in more,
        "symmetric": "--symmetric" in more, "dropout": float(values.get("--dropout", 0)),
        "scale": float(values["--scale"]) if "--scale" in values else None,
        "weight_decay": float(values.get("--weight-decay", 0)),
        "seed": int(values.get("--seed", 0)), "schedule": values.get("--schedule", "linear"),
        "warmup_ratio": float(values.get("--warmup-ratio", 0)),
        "optimizer": values.get("--optimizer", "adamw"),
        "momentum": float(values.get("--momentum", 0)),
        "layer_decay": float(values.get("--layer-decay", 1))}
    result = embound.train(str(TINY), table, loss, output=tmp_path / "ours", epochs=3, **options,
                           **FAST)
    theirs = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(theirs) == result.steps
    for line, row in zip(theirs, result.log):
        for key in ("step", "epoch", "tokens", "loss", "gradient_norm", "learning_rate"):
            assert row[key] == pytest.approx(line[key], rel=1e-8), (key, row["step"])
    assert weights(tmp_path / "theirs") == weights(tmp_path / "ours")


@pytest.mark.parametrize(("name", "loss", "more"), [
    ("triplet", losses.TripletLoss(distance_metric="cosine", triplet_margin=0.3),
     ["--distance", "cosine", "--margin", "0.3"]),
    ("ranking", losses.MatryoshkaLoss(None, "ranking", [32, 16], [1, 0.5]),
     ["--matryoshka", "32,16:0.5"])], ids=lambda one: str(one)[:10])
def test_the_other_losses_are_the_programs(tmp_path, name, loss, more):
    table = write_table(tmp_path / "rows.csv", GROUPS, groups())
    done = subprocess.run(
        [program(), "train", TINY, "-i", table, "-o", tmp_path / "theirs", "--quiet", "--loss",
         name, "--epochs", "2", "--batch-size", "16", "--learning-rate", "1e-3", *more],
        text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    result = embound.train(str(TINY), table, loss, output=tmp_path / "ours", epochs=2, **FAST)
    assert weights(tmp_path / "theirs") == weights(tmp_path / "ours") and result.steps == 8


def test_sentence_transformers_reads_the_result(tmp_path, reference):
    result = embound.train(str(TINY), groups(), output=tmp_path / "out", epochs=2, **FAST)
    texts = ["river stone", "a cold winter in the city", "kitchen"]
    theirs = reference.SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(texts)
    assert numpy.abs(result.model.encode(texts) - theirs).max() < 1e-5


def test_training_goes_on_from_a_model_that_was_trained(tmp_path):
    first = embound.train(str(TINY), groups(), output=tmp_path / "first", **FAST)
    second = embound.train(first.model, groups(), output=tmp_path / "second", **FAST)
    assert second.losses[0] < first.losses[0] and second.model is first.model
    assert weights(tmp_path / "first") != weights(tmp_path / "second")
    second.model.save_pretrained(str(tmp_path / "copy"))
    assert weights(tmp_path / "copy") == weights(tmp_path / "second")
    assert sorted(os.listdir(tmp_path / "copy")) == sorted(
        set(os.listdir(tmp_path / "second")) - {"log.jsonl"})


def test_settings_of_names_and_prompts(tmp_path):
    rows = groups(32, texts=2)
    plain = embound.train(str(TINY), rows, output=tmp_path / "a", shuffle=False, **FAST)
    prompted = embound.train(str(TINY), rows, output=tmp_path / "b", shuffle=False,
                             prompts={"anchor": "query: "}, **FAST)
    same = [("query: " + anchor, positive) for anchor, positive in rows]
    written = embound.train(str(TINY), same, output=tmp_path / "c", shuffle=False, **FAST)
    assert prompted.losses == written.losses != plain.losses
    cut = embound.train(str(TINY), rows, output=tmp_path / "d", shuffle=False, max_length=5, **FAST)
    assert cut.log[0]["truncated"] > 0 and plain.log[0]["truncated"] == 0
    half = embound.train(str(TINY), rows, output=tmp_path / "e", host_memory="2GiB", steps=1,
                         threads=1, **FAST)
    assert half.steps == 1 and half.plan["threads"] == 1
    assert half.plan["host_bytes_max"] == 2 << 30


# ---- data ----------------------------------------------------------------------------------------

def as_jsonl(tmp_path, names, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(dict(zip(names, row))) + "\n\n" for row in rows))
    return path


def as_tsv(tmp_path, names, rows):
    path = tmp_path / "rows.tsv"
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [names, *rows]))
    return path


def columns(names, rows):
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


KINDS = {
    "dicts": lambda _, names, rows: [dict(zip(names, row)) for row in rows],
    "iterator": lambda _, names, rows: iter(rows),
    "lists": lambda _, names, rows: [list(row) for row in rows],
    "csv": lambda tmp_path, names, rows: write_table(tmp_path / "rows.csv", names, rows),
    "tsv": as_tsv,
    "jsonl": as_jsonl,
    "pandas": lambda _, names, rows: pytest.importorskip("pandas").DataFrame(columns(names, rows)),
    "polars": lambda _, names, rows: pytest.importorskip("polars").DataFrame(columns(names, rows)),
    "pyarrow": lambda _, names, rows: pytest.importorskip("pyarrow").table(columns(names, rows)),
    "datasets": lambda _, names, rows: pytest.importorskip("datasets").Dataset.from_dict(
        columns(names, rows)),
    "streaming": lambda _, names, rows: pytest.importorskip("datasets").Dataset.from_dict(
        columns(names, rows)).to_iterable_dataset(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_gives_the_same(tmp_path, kind):
    for loss, names, rows in (("ranking", GROUPS, groups(24)), ("cosent", PAIRS, pairs(24))):
        plain = embound.train(str(TINY), rows, loss, output=tmp_path / f"{loss}-a", **FAST)
        data = KINDS[kind](tmp_path, names, rows)
        given = embound.train(str(TINY), data, loss, output=tmp_path / f"{loss}-b", **FAST)
        assert given.losses == plain.losses


def test_names_of_columns(tmp_path):
    from embound._examples import read_examples

    loss, scored = losses.read_loss("ranking"), losses.read_loss("cosent")
    rows = [{"question": "a", "answer": "b", "id": 1}, {"question": "c", "answer": "d", "id": 2}]
    found = read_examples(rows, loss, ["question", "answer"])
    assert found.names == ["question", "answer"] and found.of(1) == ["c", "d"]
    found = read_examples([{"a": "x", "label": 1, "b": "y"}, {"a": "z", "label": 0, "b": "y"}],
                          scored)
    assert found.names == ["a", "b"] and list(found.labels) == [1, 0]
    many = [{"anchor": "a", "positive": "b", "negative_2": "c", "negative_1": "d", "label": 1}] * 2
    assert read_examples(many, loss).names == ["anchor", "positive", "negative_2", "negative_1"]
    table = write_table(tmp_path / "x.csv", ["id", "positive", "anchor"], [["1", "p", "a"]] * 2)
    assert read_examples(table, loss).of(0) == ["a", "p"]  # a file may have other columns
    sts = tmp_path / "sts.csv"
    sts.write_text('g\tf\ty\t1\t4.5\tA "b" c\td\ng\tf\ty\t2\t1.0\te\tf\n')
    found = read_examples(sts, scored)
    assert found.of(0) == ['A "b" c', "d"] and list(found.labels) == [4.5, 1.0]
    with pytest.raises(embound.ArgumentError, match=r"columns \['id'\] beside"):
        read_examples([{"anchor": "a", "positive": "b", "id": "1"}] * 2, loss)
    for columns_stated in (["question"], ["question", "question"], ["question", "absent"]):
        with pytest.raises(embound.ArgumentError, match="each once, of"):
            read_examples(rows, loss, columns_stated)
    with pytest.raises(embound.ArgumentError, match="needs a label"):
        read_examples(rows, scored)
    with pytest.raises(embound.ArgumentError, match="takes two texts and a label"):
        read_examples([{"a": "x", "b": "y", "c": "z", "score": 1}] * 2, scored)


NAN = float("nan")


@pytest.mark.parametrize(("loss", "rows", "said", "index"), [
    ("cosent", [("a", "b", 1), ("c", "d", NAN)], "row 1: the label is nan", 1),
    ("cosent", [("a", "b", 1), ("c", "d", "much")], "row 1: the label 'much' is not a number", 1),
    ("cosent", [("a", "b", 1), ("c", "d", None)], "row 1: the label None", 1),
    ("cosine", [("a", "b", 1), ("c", "d", 4.5)], "row 1: the label 4.5 is no cosine", 1),
    ("ranking", [("a", "b", "c"), ("d", "e")], "row 1: it has 2 texts, the first row 3", 1),
    ("ranking", [("a", "b", "c"), ("d", "e", None)], "row 1: 'negative_1' is missing", 1),
    ("ranking", [("a", "b"), ("d", NAN)], "row 1: 'positive' is missing", 1),
    ("ranking", [("a", "b"), ("  ", "e")], "row 1: 'anchor' is empty", 1),
    ("ranking", [("a", "b"), ("d", 5)], "row 1: 'positive' is of type int", 1),
    ("ranking", [{"anchor": "a", "positive": "b", "negative": "c"},
                 {"anchor": "a", "positive": "b"}], "row 1: it lacks 'negative'", 1),
    ("ranking", [{"anchor": "a", "positive": "b"},
                 {"anchor": "a", "positive": "b", "negative": "c"}],
     "row 1: it has .'negative'., the first row has not", 1),
    ("ranking", ["a", "b"], "row 0 is of type str", 0),
    ("triplet", [("a", "b")], "row 0: this loss takes three texts or more, not 2", 0),
    ("batch_hard", [("a", 1), ("b", 1.5)], "row 1: the label 1.5 is no class", 1),
    ("distill", [("a", [1.0, 2.0]), ("b", [1.0])], "row 1: the label is no teacher's vector", 1),
    ("distill", [("a", [1.0, 2.0]), ("b", "c")], "row 1: the label is no teacher's vector", 1),
    ("distill", [("a", [1.0]), ("b", [NAN])], "row 1: a teacher's vector is not finite", 1),
    ("ranking", [("a",), ("b",)], "row 0: this loss takes two texts", 0),
], ids=lambda one: str(one)[:24])
def test_faults_name_their_row(tmp_path, loss, rows, said, index):
    with pytest.raises(embound.TextError, match=said) as caught:
        embound.train(str(TINY), rows, loss, output=tmp_path / "out", **FAST)
    assert caught.value.index == index and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "text", "said"), [
    ("a.csv", "anchor,positive\na,b\nc,\n", "a.csv line 3: 'positive' is empty"),
    ("a.csv", "anchor,positive\na,b\n\n\nc\n", "a.csv line 5: it lacks 'positive'"),
    ("a.csv", "anchor,positive\na,b,c\n", "a.csv line 2: it has more cells"),
    ("a.csv", 'anchor,positive\na,"b\n', "a.csv line 2: "),
    ("a.csv", "", "holds no example"),
    ("a.jsonl", '{"anchor": "a", "positive": "b"}\n{"anchor": "a"}\n', "a.jsonl line 2: it lacks"),
    ("a.jsonl", '{"anchor": "a", "positive": "b"}\n[1]\n', "a.jsonl line 2: it is not a JSON obj"),
    ("a.jsonl", '{"anchor": "a", "positive": "b"}\n{"anchor"\n', "a.jsonl line 2: "),
])
def test_faults_of_files_name_their_line(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(embound.TextError, match=said):
        embound.train(str(TINY), path, output=tmp_path / "out", **FAST)


def test_what_cannot_be_done(tmp_path, tiny):
    out = {"output": tmp_path / "out", "progress": False}
    with pytest.raises(embound.ArgumentError, match="single example"):
        embound.train(tiny, [("a", "b")], **out)
    with pytest.raises(embound.ArgumentError, match="holds no example"):
        embound.train(tiny, [], **out)
    with pytest.raises(embound.ArgumentError, match="did you mean 'ranking'"):
        embound.train(tiny, groups(), "rankin", **out)
    with pytest.raises(embound.ArgumentError, match="no two examples"):
        embound.train(tiny, [("a", "b")] * 4, no_duplicates=True, **out)
    with pytest.raises(embound.ArgumentError, match="eval_steps needs"):
        embound.train(tiny, groups(), eval_steps=2, **out)
    with pytest.raises(embound.ArgumentError, match="'ranking' alone"):
        embound.train(tiny, pairs(), "cosent", symmetric=True, **out)
    with pytest.raises(embound.ArgumentError, match="given by name"):
        embound.train(tiny, groups(), losses.CoSENTLoss(), scale=3.0, **out)
    with pytest.raises(embound.ModelNotFoundError, match="no such file"):
        embound.train(tiny, tmp_path / "absent.csv", **out)
    with pytest.raises(embound.ArgumentError, match="positions for 128"):
        embound.train(tiny, groups(), max_length=4096, **out)
    with pytest.raises(embound.ArgumentError, match="a single table|one table"):
        embound.train(tiny, {"anchor": ["a"]}, **out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("mine")
    with pytest.raises(embound.ArgumentError, match="overwrite=True"):
        embound.train(tiny, groups(), output=tmp_path / "full")
    embound.train(tiny, groups(), output=tmp_path / "full", steps=1, progress=False, overwrite=True)
    assert (tmp_path / "full" / "thing").read_text() == "mine"


# ---- losses --------------------------------------------------------------------------------------

def test_losses_of_sentence_transformers_are_read(reference):
    from sentence_transformers import losses as theirs
    from sentence_transformers import util

    model = reference.SentenceTransformer(str(TINY), device="cpu")
    for made, name, scale, symmetric in (
            (theirs.MultipleNegativesRankingLoss(model, scale=7.0), "ranking", 7, False),
            (theirs.CachedMultipleNegativesRankingLoss(model, scale=9.0, mini_batch_size=4),
             "ranking", 9, False),
            (theirs.MultipleNegativesSymmetricRankingLoss(model), "ranking", 20, True),
            (theirs.CoSENTLoss(model, scale=5.0), "cosent", 5, False),
            (theirs.CosineSimilarityLoss(model), "cosine", 20, False)):
        found = losses.read_loss(made)
        assert (found.name, found.scale, found.symmetric) == (name, scale, symmetric)
    for made in (theirs.MultipleNegativesRankingLoss(model, similarity_fct=util.dot_score),
                 theirs.CoSENTLoss(model, similarity_fct=util.pairwise_dot_score),
                 theirs.MegaBatchMarginLoss(model)):
        with pytest.raises(embound.UnsupportedError):
            losses.read_loss(made)


def test_losses_by_class_name_and_function():
    assert losses.read_loss(losses.CoSENTLoss).name == "cosent"
    assert losses.read_loss("CosineSimilarityLoss").name == "cosine"
    assert losses.read_loss("batch-hard").name == "batch_hard"
    assert losses.read_loss(lambda model: losses.CoSENTLoss(model, scale=3)).scale == 3
    assert losses.CachedMultipleNegativesRankingLoss(mini_batch_size=2).name == "ranking"
    assert losses.CachedMultipleNegativesSymmetricRankingLoss().symmetric
    both = losses.MultipleNegativesRankingLoss(
        directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")
    assert both.symmetric and "symmetric" in repr(both)
    ranking = losses.MultipleNegativesRankingLoss
    for make in (lambda: ranking(hardness_mode="all_negatives", hardness_strength=1),
                 lambda: ranking(directions=("query_to_query",)),
                 lambda: losses.CosineSimilarityLoss(loss_fct=object()),
                 lambda: losses.read_loss({"a": losses.CoSENTLoss()}),
                 lambda: losses.read_loss(object())):
        with pytest.raises(embound.UnsupportedError):
            make()
    with pytest.raises(embound.ArgumentError, match="above 0"):
        losses.CoSENTLoss(scale=0)


@pytest.mark.parametrize(("loss", "rows"), [
    (losses.MultipleNegativesRankingLoss(), groups(16)), (losses.CoSENTLoss(), pairs(16)),
    (losses.MultipleNegativesSymmetricRankingLoss(scale=5), groups(16)),
    (losses.CosineSimilarityLoss(), pairs(16)), (losses.TripletLoss(), groups(16)),
    (losses.TripletLoss(distance_metric="cosine", triplet_margin=0.5), groups(16, texts=4)),
    (losses.BatchHardTripletLoss(margin=2), classes(16)),
    (losses.BatchHardTripletLoss(distance_metric=losses.TripletDistanceMetric.COSINE), classes(16)),
    (losses.MatryoshkaLoss(None, losses.CoSENTLoss(), [32, 8], [1, 0.5]), pairs(16)),
    (losses.MatryoshkaLoss(loss=losses.TripletLoss(), matryoshka_dims=[16]), groups(16)),
    (losses.SimilarityDistillationLoss(), taught(16, 1)),
    (losses.SimilarityDistillationLoss(), taught(16, 2))], ids=lambda one: repr(one)[:70])
def test_the_loss_of_an_evaluation_is_that_of_a_step(tmp_path, loss, rows):
    result = embound.train(str(TINY), rows, loss, output=tmp_path / "out", steps=1, shuffle=False,
                           **FAST)
    args = embound.SentenceTransformerTrainingArguments(
        str(tmp_path / "x"), per_device_eval_batch_size=16)
    trainer = embound.SentenceTransformerTrainer(str(TINY), args, eval_dataset=rows, loss=loss)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(result.losses[0], rel=2e-5)


@pytest.mark.parametrize(("loss", "rows"), [
    ("triplet", groups(48)), ("distill", taught(48, 2)),
    (losses.BatchHardTripletLoss(distance_metric="cosine", margin=0.3), classes(48)),
    (losses.MatryoshkaLoss(loss="ranking", matryoshka_dims=[32, 16, 8]), groups(48))],
    ids=lambda one: str(one)[:12])
def test_the_other_losses_learn(tmp_path, loss, rows):
    result = embound.train(str(TINY), rows, loss, output=tmp_path / "out", epochs=8, **FAST)
    assert numpy.mean(result.losses[-3:]) < 0.9 * numpy.mean(result.losses[:3])


def test_the_losses_are_those_of_sentence_transformers(tmp_path, reference):
    import torch
    from sentence_transformers.sentence_transformer import losses as theirs

    model = reference.SentenceTransformer(str(TINY), device="cpu").eval()
    metric, hard = theirs.TripletDistanceMetric, theirs.BatchHardTripletLossDistanceFunction
    for loss, rows in (
            (theirs.MultipleNegativesRankingLoss(model, scale=10.0), groups(16)),
            (theirs.MultipleNegativesRankingLoss(
                model, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"),
             groups(16)),
            (theirs.CoSENTLoss(model), pairs(16)), (theirs.CosineSimilarityLoss(model), pairs(16)),
            (theirs.TripletLoss(model), groups(16)),
            (theirs.TripletLoss(model, distance_metric=metric.COSINE, triplet_margin=0.3),
             groups(16)),
            (theirs.BatchHardTripletLoss(model), classes(16)),
            (theirs.BatchHardTripletLoss(model, distance_metric=hard.cosine_distance, margin=0.4),
             classes(16)),
            (theirs.MatryoshkaLoss(model, theirs.MultipleNegativesRankingLoss(model), [32, 8],
                                   [1, 2]), groups(16))):
        texts = [row if isinstance(row[-1], str) else row[:-1] for row in rows]
        features = [model.preprocess([row[i] for row in texts]) for i in range(len(texts[0]))]
        labels = None if isinstance(rows[0][-1], str) else torch.tensor([row[-1] for row in rows])
        wanted = float(loss(features, labels).detach())
        result = embound.train(str(TINY), rows, loss, output=tmp_path / "out", steps=1,
                               shuffle=False, overwrite=True, **FAST)
        assert result.losses[0] == pytest.approx(wanted, rel=1e-4), loss
    with pytest.raises(embound.UnsupportedError, match="euclidean and cosine"):
        losses.read_loss(theirs.TripletLoss(model, distance_metric=metric.MANHATTAN))


# ---- memory, threads, processes ------------------------------------------------------------------

def test_memory_stays_inside_its_figure(tmp_path):
    done = subprocess.run([sys.executable, "-c", f"""
import embound, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from training_data import groups
rows = groups(2000)
try:
    embound.train({str(TINY)!r}, rows, output={str(tmp_path / "a")!r}, memory="20MiB",
                  batch_size=256)
except embound.BudgetError as error:
    least = error.minimum_bytes
model = embound.SentenceTransformer({str(TINY)!r}, memory=least + (4 << 20))
result = embound.train(model, rows, output={str(tmp_path / "b")!r}, batch_size=256, epochs=2,
                       checkpoint_steps=4, eval_dataset=rows[:300], progress=False)
print(least, result.memory["host_bytes_planned"], result.memory["host_bytes_peak"])
"""], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    least, planned, peak = map(int, done.stdout.split())
    assert peak <= planned <= least + (4 << 20) and planned > 20 << 20
    assert not (tmp_path / "a").exists()


def test_one_thread_at_a_time_and_the_gil_is_free(tiny):
    core = embound._core.Trainer(tiny._core, batch_examples=64, example_texts=2, threads=1,
                                 learning_rate=1e-3)
    texts = [f"{word} and more of it" for word, _ in groups(64, texts=2) for _ in range(2)]
    refused, begun = [], threading.Event()

    def intrude():
        begun.set()
        for _ in range(2000):
            try:
                core.encode(["a"], None, -1, False)
            except embound.ArgumentError as error:
                refused.append(str(error))

    other = threading.Thread(target=intrude)
    other.start()
    begun.wait()
    for _ in range(20):
        try:
            core.step(texts, None, None)
        except embound.ArgumentError as error:
            refused.append(str(error))
    other.join()
    assert refused and all("another thread" in one for one in refused)
    core.close()
    with pytest.raises(embound.ArgumentError, match="closed"):
        core.step(texts, None, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_of_fork_is_told(tiny):
    core = embound._core.Trainer(tiny._core, batch_examples=2, example_texts=2, learning_rate=1e-3)
    child = os.fork()
    if child == 0:
        try:
            core.step(["a", "b", "c", "d"], None, None)
        except embound.DeviceError:
            core = None
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert core.step(["a", "b", "c", "d"], None, None)["step"] == 1


def test_any_sequence_of_str(tiny):
    options = {"batch_examples": 2, "example_texts": 2, "learning_rate": 1e-3, "loss": 1}
    texts = ["grün \U0001F600", "b", "c", "d"]
    one, other = (embound._core.Trainer(tiny._core, **options) for _ in range(2))
    a = one.step(texts, [1, 0], None)
    b = other.step(numpy.array(texts, dtype=object), numpy.array([1.0, 0.0]), (None, None))
    assert a["loss"] == b["loss"]
    for wrong in (["a", "b", "c"], "abcd", ["a"] * 6, []):
        with pytest.raises(embound.ArgumentError, match="1 to 2 examples of 2 texts"):
            one.step(wrong, [1], None)
    with pytest.raises(embound.TextError, match="text 1 is None"):
        one.step(["a", None], [1], None)
    with pytest.raises(embound.ArgumentError, match="needs a score"):
        one.step(["a", "b"], None, None)
    with pytest.raises(embound.ArgumentError, match="1 examples need 1 targets"):
        one.step(["a", "b"], [1, 2], None)
    with pytest.raises(embound.ArgumentError, match="not finite"):
        one.step(["a", "b"], [NAN], None)
    with pytest.raises(TypeError, match="no such option"):
        embound._core.Trainer(tiny._core, bath_examples=2, **options)
