"""SentenceTransformerTrainer: callbacks, evaluation, checkpoints to the same bits, logs, Ctrl-C.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings

import embound
import numpy
import pytest
from conftest import TINY
from embound import losses
from embound._tensorboard import masked_crc
from training_data import WORDS, groups, pairs, weights

ROWS = groups(48)


def arguments(directory, **more):
    options = {"num_train_epochs": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-3,
               "disable_tqdm": True, "logging_steps": 5, "save_strategy": "no", "dropout": 0.0,
               "attention_dropout": 0.0, **more}
    return embound.SentenceTransformerTrainingArguments(str(directory), **options)


def trainer_of(directory, rows=ROWS, loss=None, model=None, **more):
    own = {name: more.pop(name) for name in
           ("eval_dataset", "evaluator", "callbacks", "columns") if name in more}
    return embound.SentenceTransformerTrainer(
        model or str(TINY), arguments(directory, **more), rows,
        loss=loss or losses.MultipleNegativesRankingLoss(), **own)


class Recorder(embound.TrainerCallback):
    """Notes what it is told."""

    def __init__(self):
        self.events, self.logs, self.metrics = [], [], []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            def note(args, state, control, **more):
                self.events.append((name[3:], state.global_step))
                assert more["model"] is not None and args.output_dir
                if name == "on_log":
                    self.logs.append((state.global_step, dict(more["logs"])))
                if name == "on_evaluate":
                    self.metrics.append(more["metrics"])
            return note
        return super().__getattribute__(name)


# ---- the usual flow ------------------------------------------------------------------------------

def test_training_trains_the_model_that_was_given(tmp_path, tiny):
    before = tiny.encode("river stone")
    recorder = Recorder()
    trainer = trainer_of(tmp_path, model=tiny, callbacks=[recorder], logging_first_step=True)
    done = trainer.train()
    assert done.global_step == 24 == trainer.state.max_steps == len(trainer.steps)
    assert done.training_loss == pytest.approx(numpy.mean(trainer.steps.column("loss")))
    after = tiny.encode("river stone")
    assert trainer.model is tiny and not numpy.allclose(before, after)
    saved = embound.SentenceTransformer(str(tmp_path)).encode("river stone")
    assert numpy.array_equal(after, saved)
    kinds = [kind for kind, _ in recorder.events]
    assert kinds[:4] == ["init_end", "train_begin", "epoch_begin", "step_begin"]
    assert kinds.count("step_end") == 24 and kinds.count("epoch_end") == 4
    assert kinds.count("epoch_begin") == 4 and kinds[-1] == "train_end"
    steps = [step for step, logs in recorder.logs if "loss" in logs]
    assert steps == [1, 5, 10, 15, 20]
    five = recorder.logs[1][1]
    assert five["loss"] == pytest.approx(numpy.mean(trainer.steps.column("loss")[1:5]))
    assert trainer.state.log_history[0]["step"] == 1 and trainer.state.epoch == 4.0
    assert trainer.state.log_history[-1]["train_loss"] == done.training_loss


def test_saved_by_save_model(tmp_path, tiny):
    trainer = trainer_of(tmp_path / "run", model=tiny, num_train_epochs=1)

    class Midway(embound.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            if state.global_step == 3:
                trainer.save_model(str(tmp_path / "midway"))

    trainer.add_callback(Midway)
    trainer.train()
    trainer.save_model(str(tmp_path / "end"))
    assert weights(tmp_path / "end") == weights(tmp_path / "run") != weights(tmp_path / "midway")
    assert embound.SentenceTransformer(str(tmp_path / "midway")).encode("x").shape == (32,)
    assert trainer.pop_callback(Midway).__class__ is Midway and trainer.pop_callback(Midway) is None


def test_dropout_is_the_models_unless_stated(tmp_path):
    plain = trainer_of(tmp_path / "a", max_steps=3)
    model = trainer_of(tmp_path / "b", max_steps=3, dropout=None, attention_dropout=None)
    stated = trainer_of(tmp_path / "c", max_steps=3, dropout=0.1, attention_dropout=0.1)
    for trainer in (plain, model, stated):
        trainer.train()
    assert model.steps.column("loss") == stated.steps.column("loss") != plain.steps.column("loss")


@pytest.mark.parametrize(("more", "steps"), [
    ({"max_steps": 7}, 7), ({"num_train_epochs": 1.5}, 9), ({"per_device_train_batch_size": 47}, 4),
    ({"dataloader_drop_last": True, "per_device_train_batch_size": 20}, 8),
    ({"per_device_train_batch_size": 20}, 12), ({"train_sampling_strategy": "sequential"}, 24),
    ({"batch_sampler": "no_duplicates"}, 24), ({"bf16": True, "max_steps": 2}, 2),
    ({"optim": "adamw_bnb_8bit", "max_steps": 2}, 2),
    ({"optim": "sgd", "momentum": 0.9, "nesterov": True, "layer_decay": 0.9}, 24),
    ({"gradient_accumulation_steps": 5}, 5)], ids=str)
def test_numbers_of_steps(tmp_path, more, steps):
    trainer = trainer_of(tmp_path, **more)
    try:
        assert trainer.train().global_step == steps
    except embound.UnsupportedError as error:
        assert "bf16" in str(error) and "bf16" in more  # this CPU has no fast products of it


def test_accumulated_gradients_are_one_step(tmp_path):
    """For a loss that compares no examples the mean of two batches is that of one of both."""
    rows = pairs(48)
    one, two = (trainer_of(tmp_path / str(count), rows, losses.CosineSimilarityLoss(),
                           per_device_train_batch_size=16 // count, num_train_epochs=3,
                           gradient_accumulation_steps=count, save_strategy="steps", save_steps=4)
                for count in (1, 2))
    assert one.train().global_step == two.train().global_step == 9
    assert numpy.allclose(one.steps.column("loss"), two.steps.column("loss"), rtol=1e-4)
    assert one.steps.column("tokens") == two.steps.column("tokens") and two.state.epoch == 3.0
    (tmp_path / "2" / "checkpoint-9").rename(tmp_path / "2" / "last")
    again = trainer_of(tmp_path / "2", rows, losses.CosineSimilarityLoss(), num_train_epochs=3,
                       gradient_accumulation_steps=2)
    again.train(True)
    assert len(again.steps) == 1 and weights(tmp_path / "2") == weights(tmp_path / "2" / "last")


def test_a_sampling_that_drops_the_last(tmp_path):
    sizes = []
    trainer = trainer_of(tmp_path, per_device_train_batch_size=20, num_train_epochs=1,
                         dataloader_drop_last=True)
    take = trainer._examples.batch
    trainer._examples.batch = lambda rows: sizes.append(len(rows)) or take(rows)
    trainer.train()
    assert sizes == [20, 20]


# ---- evaluation ----------------------------------------------------------------------------------

def spearman_of(model, rows):
    from scipy import stats

    first, second = (model.encode([row[i] for row in rows]) for i in (0, 1))
    cosines = [a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b)
               for a, b in zip(first, second)]
    return stats.spearmanr(cosines, [row[2] for row in rows])[0]


def test_evaluators_of_sentence_transformers(tmp_path, reference):
    from sentence_transformers.sentence_transformer.evaluation import (
        EmbeddingSimilarityEvaluator, TripletEvaluator)

    rows = [row for row in pairs(64) if row[2] < 1]  # equal texts would be ties
    sts = EmbeddingSimilarityEvaluator(*zip(*rows), name="sts")
    triplets = TripletEvaluator(*zip(*groups(20, seed=4)), name="t")
    recorder = Recorder()
    trainer = trainer_of(tmp_path, rows, losses.CoSENTLoss(), evaluator=[sts, triplets],
                         eval_strategy="epoch", eval_on_start=True, callbacks=[recorder])
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    found = [one["eval_sts_spearman_cosine"] for one in recorder.metrics]
    assert len(found) == 7 and found[0] == pytest.approx(found[1], abs=1e-3)
    assert found[0] == before["eval_sts_spearman_cosine"]
    assert found[-1] > found[0] and len(set(found)) >= 5
    assert abs(found[-1] - found[-2]) < 1e-3  # by the trainer's parameters, by the saved model's
    assert after["eval_sts_spearman_cosine"] == pytest.approx(
        spearman_of(trainer.model, rows), abs=1e-6)
    assert "eval_t_cosine_accuracy" in after
    assert (tmp_path / "eval" / "similarity_evaluation_sts_results.csv").exists()


def test_the_model_encodes_by_the_parameters_of_the_moment(tmp_path, tiny):
    seen = []

    def look(model, output_path=None, epoch=-1, steps=-1):
        assert model is tiny and os.path.isdir(output_path)
        rows = model.encode(["river stone"] * 70 + ["x"], normalize_embeddings=True)
        one = model.encode("river stone", truncate_dim=8)
        assert rows.shape == (71, 32) and one.shape == (8,)
        assert numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-5)
        pyarrow = pytest.importorskip("pyarrow")
        column = model.encode(pyarrow.array(["x", "y"]))
        assert numpy.allclose(column[0] / numpy.linalg.norm(column[0]), rows[-1], atol=1e-5)
        with pytest.raises(embound.UnsupportedError, match="while it is trained"):
            model.encode("x", output_value="token_embeddings")
        seen.append(rows[0])
        return float(steps)

    trainer = trainer_of(tmp_path, model=tiny, evaluator=look, eval_strategy="steps", eval_steps=8)
    trainer.train()
    assert [one["eval_evaluator"] for one in trainer.state.log_history if "eval_evaluator" in one
            ] == [8, 16, 24]
    assert not numpy.allclose(seen[0], seen[2], atol=1e-3)
    assert numpy.allclose(tiny.encode("river stone", normalize_embeddings=True), seen[2], atol=1e-5)
    if "torch" in sys.modules:
        assert len(tiny.encode("x", output_value="token_embeddings")) == 3


def test_several_sets_of_evaluation(tmp_path):
    several = {"one": groups(9, seed=3), "two": groups(5, seed=4)}
    trainer = trainer_of(tmp_path, eval_dataset=several)
    metrics = trainer.evaluate()
    assert {"eval_one_loss", "eval_two_loss", "eval_runtime"} <= set(metrics)
    other = trainer.evaluate(groups(9, seed=3), metric_key_prefix="test")
    assert other["test_loss"] == metrics["eval_one_loss"]
    with pytest.raises(embound.ArgumentError, match="eval_dataset or evaluator"):
        trainer_of(tmp_path).evaluate()
    with pytest.raises(embound.ArgumentError, match="needs eval_dataset or"):
        trainer_of(tmp_path, eval_strategy="epoch")


# ---- callbacks -----------------------------------------------------------------------------------

class StopAt(embound.TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **more):
        control.should_training_stop |= state.global_step == self.step


def test_a_callback_ends_the_training(tmp_path):
    trainer = trainer_of(tmp_path, callbacks=[StopAt(7)])
    assert trainer.train().global_step == 7
    whole = trainer_of(tmp_path / "whole")
    whole.train()
    assert trainer.steps.column("loss") == whole.steps.column("loss")[:7]


def test_a_callback_ends_an_epoch_and_asks_for_more(tmp_path):
    class Ask(embound.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            control.should_epoch_stop = state.global_step == 2
            control.should_save = control.should_log = state.global_step == 3
            return control

    recorder = Recorder()
    trainer = trainer_of(tmp_path, callbacks=[Ask, recorder], num_train_epochs=2)
    trainer.train()
    assert (tmp_path / "checkpoint-3").is_dir() and ("save", 3) in recorder.events
    assert [step for kind, step in recorder.events if kind == "epoch_begin"][:2] == [0, 2]
    assert 3 in [step for step, logs in recorder.logs if "loss" in logs]


def scores(values):
    """An evaluator that gives these in turn."""
    left = iter(values)
    return lambda model, **more: {"score": next(left)}


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_early_stopping(tmp_path, kind):
    if kind == "ours":
        stop = embound.EarlyStoppingCallback(2, 0.05)
    else:
        pytest.importorskip("transformers")
        from transformers import EarlyStoppingCallback

        stop = EarlyStoppingCallback(2, 0.05)
    trainer = trainer_of(
        tmp_path, evaluator=scores([0.5, 0.7, 0.72, 0.71, 0.9, 0.9, 0.9, 0.9]), callbacks=[stop],
        eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3,
        metric_for_best_model="score", load_best_model_at_end=True, save_total_limit=1)
    assert trainer.train().global_step == 12
    assert trainer.state.best_metric == 0.72 and trainer.state.best_global_step == 9
    best = tmp_path / "checkpoint-9"
    assert trainer.state.best_model_checkpoint == str(best)
    assert weights(tmp_path) == weights(best) != weights(tmp_path / "checkpoint-12")
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-12", "checkpoint-9"]  # the last, and the best


def test_early_stopping_says_what_it_needs(tmp_path):
    trainer = trainer_of(tmp_path, callbacks=[embound.EarlyStoppingCallback])
    with pytest.raises(embound.ArgumentError, match="metric_for_best_model"):
        trainer.train()
    trainer = trainer_of(tmp_path, evaluator=scores([1]), eval_strategy="epoch",
                         metric_for_best_model="scre")
    with pytest.raises(embound.ArgumentError, match="none of the metrics"):
        trainer.train()


# ---- checkpoints ---------------------------------------------------------------------------------

RESUMED = {"save_strategy": "steps", "save_steps": 5, "dropout": 0.1, "attention_dropout": 0.1,
           "lr_scheduler_type": "cosine", "warmup_steps": 4}


@pytest.mark.parametrize("more", [
    {}, {"optim": "adamw_8bit"}, {"optim": "sgd", "momentum": 0.9},
    {"batch_sampler": "no_duplicates"}], ids=str)
def test_a_resumed_training_has_the_same_bits(tmp_path, more):
    rows = ROWS + ROWS[:9]
    whole = trainer_of(tmp_path / "whole", rows, **RESUMED, **more)
    whole.train()
    trainer_of(tmp_path / "cut", rows, callbacks=[StopAt(13)], **RESUMED, **more).train()
    trainer = trainer_of(tmp_path / "cut", rows, threads=1, **RESUMED, **more)
    done = trainer.train(resume_from_checkpoint=True)
    assert done.global_step == whole.state.global_step
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    begun = 10  # the last checkpoint before the end at 13
    assert trainer.steps.column("loss") == whole.steps.column("loss")[begun:]
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    found = [[(one["step"], one["loss"]) for one in map(json.loads, lines) if "loss" in one]
             for lines in logs]
    assert found[0] == found[1]
    history = [[one for one in each.state.log_history if "loss" in one]
               for each in (whole, trainer)]
    assert [one["step"] for one in history[0]] == [one["step"] for one in history[1]]
    assert trainer_of(tmp_path / "cut", rows, **RESUMED, **more).train(True).global_step == (
        whole.state.global_step)  # nothing is left to do


def test_a_checkpoint_is_a_model_and_knows_its_state(tmp_path, reference):
    trainer = trainer_of(tmp_path, save_strategy="epoch", save_total_limit=2)
    trainer.train()
    names = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert names == ["checkpoint-18", "checkpoint-24"]
    state = json.loads((tmp_path / "checkpoint-18" / "trainer_state.json").read_text())
    assert state["global_step"] == 18 and state["epoch"] == 3.0 and state["log_history"]
    theirs = reference.SentenceTransformer(str(tmp_path / "checkpoint-18"), device="cpu")
    ours = embound.SentenceTransformer(str(tmp_path / "checkpoint-18"))
    assert numpy.allclose(theirs.encode("river"), ours.encode("river"), atol=1e-5)
    assert not list(tmp_path.glob("*.partial")) and not (tmp_path / "model.new").exists()


def test_what_is_not_the_same_is_named(tmp_path):
    more = {"save_strategy": "steps", "save_steps": 5, "callbacks": [StopAt(6)]}
    trainer_of(tmp_path, **more).train()
    for changed, said in (({"learning_rate": 2e-3}, "learning_rate was 0.001 and is 0.002"),
                          ({"per_device_train_batch_size": 9}, "batch_examples was 8 and is 9"),
                          ({"seed": 1}, "seed was 42 and is 1"),
                          ({"num_train_epochs": 5}, "steps was 24 and is 30"),
                          ({"rows": ROWS[:40] + groups(8, seed=8)}, "of other examples")):
        with pytest.raises(embound.ArgumentError, match=said):
            trainer_of(tmp_path, **changed).train(True)
    with pytest.raises(embound.ArgumentError, match="no complete checkpoint"):
        trainer_of(tmp_path / "other").train(True)
    with pytest.raises(embound.ModelError, match="no checkpoint"):
        trainer_of(tmp_path / "other").train(str(tmp_path / "absent"))


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    whole = trainer_of(tmp_path / "whole")
    whole.train()
    more = {"save_strategy": "steps", "save_steps": 5}
    trainer_of(tmp_path / "cut", callbacks=[StopAt(16)], **more).train()
    (tmp_path / "cut" / "checkpoint-15" / "trainer.state").write_bytes(b"cut")
    (tmp_path / "cut" / "checkpoint-99").mkdir()  # not completed
    (tmp_path / "cut" / "checkpoint-20.partial").mkdir()
    trainer = trainer_of(tmp_path / "cut", **more)
    with pytest.warns(embound.EmboundWarning, match="from the checkpoint before"):
        trainer.train(True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole") and len(trainer.steps) == 14
    assert not list((tmp_path / "cut").glob("*.partial"))


@pytest.mark.filterwarnings("ignore::embound.EmboundWarning")
def test_only_models_are_kept_if_so_asked(tmp_path):
    trainer_of(tmp_path, save_strategy="epoch", save_only_model=True).train()
    assert not list(tmp_path.glob("checkpoint-*/trainer.state"))
    with pytest.raises(embound.ModelError, match="save_only_model"):
        trainer_of(tmp_path).train(True)


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path, tiny):
    before = tiny.encode("x")
    with numpy.errstate(all="ignore"), pytest.raises(
            embound.NotFiniteError, match="not finite.*; the last checkpoint is"):
        trainer_of(tmp_path, model=tiny, learning_rate=1e30, save_strategy="steps", save_steps=1,
                   save_total_limit=1, max_grad_norm=0, warmup_steps=1).train()
    kept = list(tmp_path.glob("checkpoint-*"))
    assert len(kept) == 1 and not (tmp_path / "model.safetensors").exists()
    assert numpy.array_equal(tiny.encode("x"), before)  # the model as it was


def test_stateful_callbacks_go_on(tmp_path):
    class Count(embound.TrainerCallback):
        def __init__(self):
            self.count = 0

        def on_step_end(self, args, state, control, **more):
            self.count += 1
            control.should_training_stop = control.should_training_stop or self.count == 8

        def state(self):
            return {"args": {}, "attributes": {"count": self.count}}

    trainer_of(tmp_path, save_strategy="steps", save_steps=4, callbacks=[Count]).train()
    count = Count()
    trainer_of(tmp_path, save_strategy="steps", save_steps=4, callbacks=[count]).train(True)
    assert count.count > 8


# ---- logs ----------------------------------------------------------------------------------------

def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """(number, bytes or number) of each field of a message."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        else:
            length = {1: 8, 5: 4}.get(key & 7)
            if length is None:
                length, at = varint(data, at)
            value, at = data[at:at + length], at + length
        yield key >> 3, value


def read_events(path):
    """(step, tag, value) of each scalar; every checksum is checked."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        length, crc = struct.unpack("<QI", data[at:at + 12])
        body, end = data[at + 12:at + 12 + length], at + 16 + length
        assert crc == masked_crc(data[at:at + 8])
        assert data[end - 4:end] == struct.pack("<I", masked_crc(body))
        at, event = end, dict(fields(body))
        for _, value in fields(event.get(5, b"")):
            one = dict(fields(value))
            found.append((event[2], one[1].decode(), struct.unpack("<f", one[2])[0]))
    return found


def test_tensorboard_reads_the_events(tmp_path):
    trainer = trainer_of(tmp_path, report_to="tensorboard", logging_steps=8, run_name="one",
                         eval_strategy="epoch", eval_dataset=groups(10, seed=3))
    trainer.train()
    (path,) = (tmp_path / "runs" / "one").glob("events.out.tfevents.*")
    logged = [(one["step"], one["loss"]) for one in trainer.state.log_history if "loss" in one]
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(path))
    events.Reload()
    found = [(one.step, one.value) for one in events.Scalars("train/loss")]
    assert [step for step, _ in found] == [8, 16, 24] == [step for step, _ in logged]
    assert numpy.allclose([a for _, a in found], [a for _, a in logged], rtol=1e-6)
    assert [one.step for one in events.Scalars("eval/loss")] == [6, 12, 18, 24]
    assert {"train/grad_norm", "train/learning_rate", "train/epoch"} <= set(
        events.Tags()["scalars"])


def test_events_have_their_checksums(tmp_path):
    trainer = trainer_of(tmp_path, report_to=["tensorboard"], logging_dir=str(tmp_path / "mine"))
    trainer.train()
    (path,) = (tmp_path / "mine").glob("events.out.tfevents.*")
    found = [one for one in read_events(path) if one[1] == "train/loss"]
    logged = [(one["step"], one["loss"]) for one in trainer.state.log_history if "loss" in one]
    assert [step for step, _, _ in found] == [step for step, _ in logged]
    assert numpy.allclose([a for _, _, a in found], [a for _, a in logged], rtol=1e-6)
    assert masked_crc(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8
                                        ) & 0xFFFFFFFF  # CRC-32C's check value, masked


def test_the_bar_shows_loss_rate_and_memory(tmp_path, capsys):
    pytest.importorskip("tqdm")
    trainer_of(tmp_path, disable_tqdm=False).train()
    shown = capsys.readouterr().err
    assert "24/24" in shown and "loss " in shown and "tok/s" in shown and "MiB" in shown
    trainer_of(tmp_path, disable_tqdm=True).train()
    assert "24/24" not in capsys.readouterr().err


# ---- ends ----------------------------------------------------------------------------------------

def test_ctrl_c_keeps_what_was_trained(tmp_path, tiny):
    whole = trainer_of(tmp_path / "whole")
    whole.train()

    class Interrupt(embound.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            if state.global_step == 9:
                raise KeyboardInterrupt

    more = {"save_strategy": "steps", "save_steps": 20}
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer_of(tmp_path / "cut", model=tiny, callbacks=[Interrupt], **more).train()
    assert "after step 9 of 24" in caught.value.__notes__[0]
    assert numpy.array_equal(
        tiny.encode("x"), embound.SentenceTransformer(str(tmp_path / "cut")).encode("x"))
    assert (tmp_path / "cut" / "checkpoint-9" / "trainer_state.json").exists()
    trainer_of(tmp_path / "cut", **more).train(True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_a_real_ctrl_c_at_any_moment(tmp_path):
    trainer = trainer_of(tmp_path / "cut", num_train_epochs=4000, save_strategy="steps",
                         save_steps=2**30)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    (kept,) = (tmp_path / "cut").glob("checkpoint-*")
    step = int(kept.name[11:])
    whole = trainer_of(tmp_path / "whole", num_train_epochs=4000, callbacks=[StopAt(step)])
    whole.train()
    assert weights(kept) == weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_killed_at_any_moment_it_goes_on_to_the_same_bits(tmp_path):
    source = f"""
import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import embound
from training_data import groups
embound.train({str(TINY)!r}, groups(48), output=sys.argv[1], epochs=100, batch_size=8,
              learning_rate=1e-3, checkpoint_steps=20, checkpoints_max=2, resume=True,
              progress=False)
"""
    subprocess.run([sys.executable, "-c", source, str(tmp_path / "whole")], check=True)
    for patience in (0.6, 0.8, 0.7):
        with subprocess.Popen([sys.executable, "-c", source, str(tmp_path / "cut")]) as child:
            until = time.monotonic() + 20
            while not list(tmp_path.glob("cut/checkpoint-*")) and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(patience / 4)
            child.kill()
    subprocess.run([sys.executable, "-c", source, str(tmp_path / "cut")], check=True)
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_what_is_refused(tmp_path, tiny):
    rows = {"train_dataset": ROWS, "args": arguments(tmp_path)}
    for more in ({"data_collator": 1}, {"compute_metrics": len}, {"optimizers": (1, None)},
                 {"model_init": len}, {"processing_class": 1}):
        with pytest.raises(embound.UnsupportedError, match="means nothing to embound"):
            embound.SentenceTransformerTrainer(tiny, **rows, **more)
    with pytest.raises(embound.TextError, match="the label .* is not a number"):
        embound.SentenceTransformerTrainer(tiny, **rows)  # the default is CoSENTLoss, as upstream
    with pytest.raises(embound.ArgumentError, match="make them with embound"):
        embound.SentenceTransformerTrainer(tiny, {"output_dir": "x"}, ROWS)
    with pytest.raises(embound.ArgumentError, match="a directory is needed"):
        embound.SentenceTransformerTrainer(7, **rows)
    with pytest.raises(embound.ArgumentError, match="nothing to train on"):
        embound.SentenceTransformerTrainer(tiny, arguments(tmp_path)).train()
    with pytest.raises(embound.ArgumentError, match=r"prompts for \['x'\]"):
        trainer_of(tmp_path, prompts={"x": "y"}).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer_of(tmp_path, prompts="query: ", max_steps=1).train()
    assert len(WORDS) > 20
