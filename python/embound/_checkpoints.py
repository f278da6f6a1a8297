"""Directories of a training: checkpoints that are whole or not there, and the model's files.

``checkpoint-N`` is a model's directory with the trainer's whole state (``trainer.state``) and
``trainer_state.json`` beside; it is built under another name and gets its own when it is complete.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

from ._errors import InputOutputError, ModelError, ModelNotFoundError

STORE, STATE = "trainer.state", "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")
_PARTIAL = ".partial"
_OF_TRAINING = re.compile(
    rf"checkpoint-\d+({re.escape(_PARTIAL)})?|model\.new|runs|eval|log\.jsonl|{re.escape(STORE)}|"
    rf"{re.escape(STATE)}")


def list_checkpoints(directory: str) -> list[str]:
    """Those that are complete, the oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    found = [(int(match[1]), name) for name in names if (match := _NAME.fullmatch(name))]
    paths = [os.path.join(directory, name) for _, name in sorted(found)]
    return [path for path in paths if os.path.isfile(os.path.join(path, STATE))]


def step_of(path: str) -> int:
    """The step of a checkpoint's name; -1: it has another."""
    match = _NAME.fullmatch(os.path.basename(os.path.normpath(path)))
    return int(match[1]) if match else -1


def remove_partial(directory: str) -> None:
    """What a run that was killed has left."""
    for name in os.listdir(directory):
        if name.endswith(_PARTIAL) and _NAME.fullmatch(name[:-len(_PARTIAL)]):
            shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_checkpoint(core: Any, directory: str, step: int, mark: tuple[int, ...] | None,
                     state: dict[str, Any]) -> str:
    """Gives its path. ``mark``: the trainer's own file keeps it; None: without that file."""
    path = os.path.join(directory, f"checkpoint-{step}")
    partial = path + _PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        core.save(partial, False)
        if mark is not None:
            core.store(os.path.join(partial, STORE), mark)
        name = os.path.join(partial, STATE)
        with open(name, "w", encoding="utf-8") as file:
            json.dump(state, file, indent=1)
        _sync(name)
        _sync(partial)
        if os.path.lexists(path):
            shutil.rmtree(path)
        os.rename(partial, path)
        _sync(directory)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, InputOutputError):
            raise
        raise InputOutputError(f"{path}: {error.strerror or error}: the checkpoint before it is "
                               "as it was") from error
    return path


def read_state(path: str) -> dict[str, Any]:
    """What trainer_state.json of a checkpoint says."""
    name = os.path.join(path, STATE)
    try:
        with open(name, encoding="utf-8") as file:
            state = json.load(file)
    except FileNotFoundError:
        raise ModelNotFoundError(f"{path}: no checkpoint, or one that was not completed "
                                 f"(there is no {STATE})") from None
    except ValueError as error:
        raise ModelError(f"{name}: {error}") from None
    if not isinstance(state, dict) or not isinstance(state.get("embound"), dict):
        raise ModelError(f"{path}: not a checkpoint of embound")
    return state


def store_of(path: str) -> str:
    """The file of a checkpoint that the trainer goes on from."""
    name = os.path.join(path, STORE)
    if not os.path.lexists(name):
        raise ModelNotFoundError(f"{path}: it holds the model alone (save_only_model), and no "
                                 "training can go on from that")
    return name


def rotate(directory: str, limit: int | None, best: str | None) -> None:
    """Removes the oldest beyond the limit; the best one stays, as the last does."""
    if limit is None:
        return
    kept = list_checkpoints(directory)
    keep = {kept[-1]} if kept else set()
    if best is not None:
        keep.add(best)
    removable = [path for path in kept if path not in keep]
    for path in removable[:max(0, len(kept) - limit)]:
        shutil.rmtree(path, ignore_errors=True)


# ---- the model's files ---------------------------------------------------------------------------

def copy_model(source: str, target: str) -> None:
    """A model's files into a directory, which is made; those of the training stay behind."""
    os.makedirs(target, exist_ok=True)
    for name in sorted(os.listdir(source)):
        if _OF_TRAINING.fullmatch(name):
            continue
        path, place = os.path.join(source, name), os.path.join(target, name)
        if os.path.isdir(path):
            shutil.copytree(path, place, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, place + _PARTIAL)
            os.replace(place + _PARTIAL, place)


def publish(core: Any, directory: str) -> None:
    """Writes the model as it is now among what else the directory has. Each file is replaced whole,
    the weights last."""
    built = os.path.join(directory, "model.new")
    shutil.rmtree(built, ignore_errors=True)
    core.save(built, False)
    for folder, _, names in os.walk(built):
        place = os.path.join(directory, os.path.relpath(folder, built))
        os.makedirs(place, exist_ok=True)
        for name in sorted(names, key=lambda name: (name.endswith(".safetensors"), name)):
            os.replace(os.path.join(folder, name), os.path.join(place, name))
    shutil.rmtree(built)
    _sync(directory)
