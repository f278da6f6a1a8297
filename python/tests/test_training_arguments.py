"""SentenceTransformerTrainingArguments: names and defaults of sentence-transformers 6, refusals.

SPDX-License-Identifier: Apache-2.0
"""
import dataclasses
import enum

import embound
import pytest
from embound import SentenceTransformerTrainingArguments as Arguments
from embound._foreign_arguments import FOREIGN

OURS = {"attention_dropout", "caller_memory", "dropout", "layer_decay", "logging_dir", "memory",
        "momentum", "nesterov", "threads"}
OLDER = {"jit_mode_eval", "no_cuda", "use_ipex", "use_mps_device"}  # of transformers 4


def default_of(field):
    made = field.default_factory
    value = made() if made is not dataclasses.MISSING else field.default
    return getattr(value, "value", value)


def test_every_argument_of_theirs_is_known(reference):
    theirs = {one.name: default_of(one)
              for one in dataclasses.fields(reference.SentenceTransformerTrainingArguments)}
    ours = {one.name: default_of(one) for one in dataclasses.fields(Arguments)}
    assert set(ours) - set(theirs) == OURS
    assert set(theirs) - set(ours) == set(FOREIGN) - OLDER
    assert {name: theirs[name] for name in ours if name in theirs} == {
        name: value for name, value in ours.items() if name in theirs}
    Arguments(**{name: value for name, value in theirs.items()})


def test_signature_of_the_trainer(reference):
    import inspect

    for name in ("__init__", "train", "evaluate", "save_model", "log", "add_callback",
                 "pop_callback", "remove_callback"):
        theirs = inspect.signature(getattr(reference.SentenceTransformerTrainer, name)).parameters
        ours = inspect.signature(getattr(embound.SentenceTransformerTrainer, name)).parameters
        assert list(ours)[:len(theirs)] == list(theirs), name
        for one in theirs.values():
            assert ours[one.name].default == one.default, (name, one.name)


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_arguments_are_refused_with_what_to_do(name):
    Arguments(**{name: FOREIGN[name][0]})
    value = "thing" if FOREIGN[name][0] != "thing" else "other"
    with pytest.raises(embound.UnsupportedError, match=f"{name}='thing': ...."):
        Arguments(**{name: value})


@pytest.mark.parametrize(("options", "error", "said"), [
    ({"learning_rte": 1}, embound.ArgumentError, "did you mean learning_rate"),
    ({"evaluation_strategy": "no"}, embound.ArgumentError, "did you mean eval_strategy"),
    ({"xyz": 1}, embound.ArgumentError, "no argument xyz$"),
    ({"fp16": True}, embound.UnsupportedError, "bf16=True"),
    ({"gradient_accumulation_steps": 0}, embound.ArgumentError, "at least 1"),
    ({"momentum": 0.9}, embound.ArgumentError, "optim='sgd'"),
    ({"nesterov": True, "optim": "sgd"}, embound.ArgumentError, "needs momentum"),
    ({"optim": "adafactor"}, embound.UnsupportedError, "adamw_8bit"),
    ({"lr_scheduler_type": "polynomial"}, embound.UnsupportedError, "linear, cosine"),
    ({"report_to": "wandb"}, embound.UnsupportedError, "on_log"),
    ({"report_to": ["tensorboard", "mlflow"]}, embound.UnsupportedError, "mlflow"),
    ({"batch_sampler": "group_by_label"}, embound.UnsupportedError, "no_duplicates"),
    ({"prompts": {"a": {"b": "c"}}}, embound.UnsupportedError, "each column"),
    ({"per_device_train_batch_size": 0}, embound.ArgumentError, "at least 1"),
    ({"learning_rate": 0}, embound.ArgumentError, "above 0"),
    ({"learning_rate": float("nan")}, embound.ArgumentError, "above 0"),
    ({"num_train_epochs": -1}, embound.ArgumentError, "above 0"),
    ({"max_steps": 1.5}, embound.ArgumentError, "whole number"),
    ({"weight_decay": -0.1}, embound.ArgumentError, "at least 0"),
    ({"dropout": 1}, embound.ArgumentError, "below 1"),
    ({"warmup_ratio": 2}, embound.ArgumentError, "from 0 to 1"),
    ({"seed": -1}, embound.ArgumentError, "seed"),
    ({"memory": "much"}, embound.ArgumentError, "memory"),
    ({"save_total_limit": 0}, embound.ArgumentError, "save_total_limit"),
    ({"load_best_model_at_end": True}, embound.ArgumentError, "same steps"),
    ({"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 3, "save_steps": 4},
     embound.ArgumentError, "multiple of eval_steps"),
    ({"save_strategy": "best"}, embound.ArgumentError, "metric_for_best_model"),
], ids=str)
def test_refused(options, error, said):
    with pytest.raises(error, match=said):
        Arguments("out", **options)


def test_what_follows_from_them():
    class Sampler(str, enum.Enum):
        NO_DUPLICATES = "no_duplicates"

    args = Arguments(batch_sampler=Sampler.NO_DUPLICATES, report_to=None, eval_strategy="steps",
                     logging_steps=7)
    assert args.no_duplicates and args.output_dir == "trainer_output" and args.eval_steps == 7
    assert args.report_to == [] and Arguments(report_to="tensorboard").report_to == ["tensorboard"]
    best = Arguments(load_best_model_at_end=True, eval_strategy="epoch", save_strategy="epoch")
    assert best.metric_for_best_model == "loss" and best.greater_is_better is False
    better = Arguments(metric_for_best_model="sts_spearman_cosine")
    assert better.greater_is_better is True and best.to_dict()["seed"] == 42
    assert Arguments(warmup_ratio=0.1).get_warmup_steps(101) == 11
    assert Arguments(warmup_steps=0.1).get_warmup_steps(101) == 11
    assert Arguments(warmup_steps=7).get_warmup_steps(101) == 7
    assert Arguments(warmup_steps=7, lr_scheduler_type="constant").get_warmup_steps(101) == 0
    assert [args.steps_of(value, 10) for value in (0.25, 4, None)] == [3, 4, 0]
