"""Finds models: local directories, names in the standard hub cache, and what must be downloaded.

The layout is the one that huggingface_hub and ``embound pull`` share:
CACHE/models--ORG--NAME/{refs/REVISION, snapshots/COMMIT/FILES}.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import json
import os

from ._errors import ArgumentError, InputOutputError, ModelError, ModelNotFoundError

DEFAULT_ORGANISATION = "sentence-transformers"


def _truthy(name: str) -> bool:
    return os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE")


def cache_directory(cache_folder: str | None = None) -> str:
    """The cache in use: the argument, SENTENCE_TRANSFORMERS_HOME, or the hub's own choice."""
    folder = cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    if folder:
        return os.fspath(folder)
    if os.environ.get("HF_HUB_CACHE"):
        return os.path.expanduser(os.environ["HF_HUB_CACHE"])
    home = os.environ.get("HF_HOME")
    if not home:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
        home = os.path.join(base, "huggingface")
    return os.path.join(os.path.expanduser(home), "hub")


def _snapshot(cache: str, repository: str, revision: str | None) -> str | None:
    folder = os.path.join(cache, "models--" + repository.replace("/", "--"))
    wanted = revision or "main"
    commit = wanted
    try:
        with open(os.path.join(folder, "refs", *wanted.split("/")), encoding="utf-8") as file:
            commit = file.read().strip()
    except OSError:
        pass
    path = os.path.join(folder, "snapshots", commit)
    return path if _is_whole(path) else None


def _weights_folder(snapshot: str) -> str:
    """Where config.json and the weights are: the folder of the first module, which of older models
    is 0_Transformer."""
    try:
        with open(os.path.join(snapshot, "modules.json"), encoding="utf-8") as file:
            return os.path.join(snapshot, json.load(file)[0]["path"])
    except (OSError, ValueError, LookupError, TypeError):
        return snapshot


def _is_whole(snapshot: str) -> bool:
    """Whether a snapshot has its weights: of some, other tools have fetched a few files only."""
    snapshot = _weights_folder(snapshot)
    if not os.path.exists(os.path.join(snapshot, "config.json")):
        return False
    if os.path.exists(os.path.join(snapshot, "model.safetensors")):
        return True
    try:
        with open(os.path.join(snapshot, "model.safetensors.index.json"), encoding="utf-8") as file:
            parts = set(json.load(file)["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return all(os.path.exists(os.path.join(snapshot, str(part))) for part in parts)


def name_in_cache(path: str) -> tuple[str | None, str | None]:
    """The hub's name and the commit of a snapshot's directory; None for any other."""
    repository, snapshots, commit = (path.rstrip("/").split("/")[-3:] + ["", ""])[:3]
    if snapshots != "snapshots" or not repository.startswith("models--"):
        return None, None
    return repository.removeprefix("models--").replace("--", "/", 1), commit


def _names(name: str) -> list[str]:
    return [name] if "/" in name else [f"{DEFAULT_ORGANISATION}/{name}", name]


def find_model(name: str, cache_folder: str | None = None,
               revision: str | None = None) -> str | None:
    """The directory of a local path or of a name in the cache; None if it is in neither."""
    if os.path.exists(name):
        return name
    cache = cache_directory(cache_folder)
    for repository in _names(name):
        found = _snapshot(cache, repository, revision)
        if found:
            return found
    return None


def _run_pull(wanted: str, variables: dict[str, str]) -> tuple[int, str, str]:
    """Runs ``embound pull``: its status, the path that it prints, and the last line it says. On a
    terminal what it says is shown as it comes, the moving line too."""
    import subprocess
    import sys

    from ._program import program

    shown = sys.stderr is not None and sys.stderr.isatty()
    moving = shown and not _truthy("HF_HUB_DISABLE_PROGRESS_BARS")
    command = [program(), "pull", wanted, "--json", "--progress", "always" if moving else "never"]
    said = b""
    try:
        with subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            assert running.stdout is not None and running.stderr is not None
            while chunk := os.read(running.stderr.fileno(), 4096):
                said = (said + chunk)[-8192:]
                if shown:
                    sys.stderr.write(chunk.decode(errors="replace"))
                    sys.stderr.flush()
            answer = running.stdout.read()
    except OSError as error:
        return 71, "", str(error)
    lines = said.decode(errors="replace").replace("\r", "\n").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "embound pull said nothing")
    return running.returncode, json.loads(answer)["path"] if answer else "", last.strip()


def pull(name: str, revision: str | None = None, *, cache_folder: str | None = None,
         token: bool | str | None = None) -> str:
    """Downloads a model into the standard cache and gives its directory.

    Runs ``embound pull``, which checks sizes and sha256, resumes what was interrupted and shows
    its progress on a terminal. ``token``: a string is used instead of HF_TOKEN; False sends none.
    Raises, with what ``embound pull`` said: ModelNotFoundError where the hub has no such model or
    refuses it, ModelError for malformed answers and wrong checksums, ArgumentError for a name that
    is none, InputOutputError where the network or the disk failed: a later call goes on there.
    """
    from ._program import environment

    if not isinstance(name, str):
        raise ArgumentError(f"pull({name!r}): the name of a model is needed")
    variables = environment()
    variables["HF_HUB_CACHE"] = cache_directory(cache_folder)
    if isinstance(token, str):
        variables["HF_TOKEN"] = token
    elif token is False:
        variables.pop("HF_TOKEN", None)
        variables["HF_TOKEN_PATH"] = os.devnull
    status, path, said = _run_pull(f"{name}@{revision}" if revision else name, variables)
    if status == 0 and path:
        return path
    if status < 0 or status >= 128:
        raise KeyboardInterrupt
    kind = {64: ArgumentError, 65: ModelError, 66: ModelNotFoundError}.get(status, InputOutputError)
    said = said.removeprefix("embound: ").removeprefix(f"{name}: ")
    raise kind(f"{name}: not downloaded: {said}")


def resolve_model(name: str, *, cache_folder: str | None, revision: str | None,
                  local_files_only: bool, token: bool | str | None) -> str:
    """The directory of a model; downloads it unless that is switched off."""
    found = find_model(name, cache_folder, revision)
    if found:
        return found
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_local:
        raise ModelNotFoundError(f"{name}: no such directory")
    offline = local_files_only or _truthy("HF_HUB_OFFLINE") or _truthy("TRANSFORMERS_OFFLINE")
    if offline:
        raise ModelNotFoundError(
            f"{name}: neither a directory nor in the cache {cache_directory(cache_folder)}, and "
            "downloads are switched off (local_files_only or HF_HUB_OFFLINE)")
    return pull(name, revision, cache_folder=cache_folder, token=token)
