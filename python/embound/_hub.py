"""Finds models: local directories, names in the standard hub cache, and what must be downloaded.

The layout is the one that huggingface_hub and ``embound pull`` share:
CACHE/models--ORG--NAME/{refs/REVISION, snapshots/COMMIT/FILES}.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import os

from ._errors import ModelNotFoundError

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
    # a snapshot of which other tools have fetched a few files only is no model yet
    return path if os.path.exists(os.path.join(path, "config.json")) else None


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


def pull(name: str, revision: str | None = None, *, cache_folder: str | None = None,
         token: bool | str | None = None) -> str:
    """Downloads a model into the standard cache and gives its directory.

    Runs ``embound pull``, which checks sizes and sha256 and resumes what was interrupted.
    ``token``: a string is used instead of HF_TOKEN; False sends none.
    Raises ModelNotFoundError with what ``embound pull`` said.
    """
    import subprocess

    from ._program import environment, program

    variables = environment()
    variables["HF_HUB_CACHE"] = cache_directory(cache_folder)
    if isinstance(token, str):
        variables["HF_TOKEN"] = token
    elif token is False:
        variables.pop("HF_TOKEN", None)
        variables["HF_TOKEN_PATH"] = os.devnull
    said = ""
    for repository in _names(name):
        wanted = f"{repository}@{revision}" if revision else repository
        try:
            done = subprocess.run([program(), "pull", wanted], env=variables, text=True,
                                  capture_output=True, check=False, stdin=subprocess.DEVNULL)
        except OSError as error:
            said = str(error)
            break
        said = (done.stderr.strip() or done.stdout.strip()).rsplit("\n", 1)[-1]
        if done.returncode == 0:
            found = _snapshot(variables["HF_HUB_CACHE"], repository, revision)
            if found:
                return found
    raise ModelNotFoundError(f"{name}: not downloaded: {said or 'embound pull said nothing'}")


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
