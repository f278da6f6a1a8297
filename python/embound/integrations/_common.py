"""What the adapters share: making a model from options, and options as a file may keep them.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import inspect
import os
from enum import Enum
from typing import Any

from .. import _settings
from .._errors import ArgumentError, DeviceError
from .._hub import find_model
from .._model import SentenceTransformer

SECRETS = frozenset(("token", "use_auth_token"))
_OBJECTS = frozenset(("model_name_or_path", "modules", "model_card_data"))
_DTYPE_NAMES = {number: name for name, number in reversed(_settings._DTYPES.items())}


def not_here(error: ImportError, package: str) -> ImportError:
    """What an adapter raises without the package that it is for."""
    return ImportError(f"this adapter needs {package}, which is not installed here, or too old "
                       f"({error}): pip install {package}", name=error.name)


def check_names(options: dict[str, Any]) -> None:
    """Raises ArgumentError for options that the constructor of SentenceTransformer does not have,
    ``max_seq_length`` excepted."""
    known = set(inspect.signature(SentenceTransformer).parameters) - _OBJECTS
    known |= {"max_seq_length", "tokenizer_kwargs"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ArgumentError(f"{', '.join(unknown)}: no option of embound's SentenceTransformer; it "
                            f"has {', '.join(sorted(known))}")


def make_model(model: Any, options: dict[str, Any]) -> SentenceTransformer:
    """The model of a name or directory with its options; a model that is one already, itself."""
    stated = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, SentenceTransformer):
        if stated:
            raise ArgumentError(f"{', '.join(sorted(stated))}: state such options where the model "
                                "is made, or give its name here")
        return model
    check_names(stated)
    if "device" in stated:
        stated["device"] = device_name(stated["device"])
    tokens = stated.pop("max_seq_length", None)
    made = SentenceTransformer(model, **stated)
    if tokens is not None:
        made.max_seq_length = tokens
    return made


def make_encoder(model: Any, options: dict[str, Any]) -> Any:
    """As make_model; whatever has a method ``encode`` is a model too."""
    if not options and not isinstance(model, (str, os.PathLike)) and hasattr(model, "encode"):
        return model
    return make_model(model, options)


class EncoderBackend:
    """What a backend of BERTopic and one of KeyBERT are, beside their package's base class, which
    stands behind this one."""

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__()
        self.embedding_model = make_encoder(model, options)

    def embed(self, documents: list[str], verbose: bool = False) -> Any:
        """Vectors [n, dim]."""
        return self.embedding_model.encode(documents, show_progress_bar=verbose)


def make_if_here(model: Any, options: dict[str, Any]) -> SentenceTransformer | None:
    """The model if its files and its device are here, so that what is wrong with options is said
    at once; else None: a description may be read on another machine, and the use says the rest."""
    check_names(options)
    name = _settings.check_name(model)
    if find_model(name, options.get("cache_folder"), options.get("revision")) is None:
        return None
    try:
        return make_model(name, options)
    except DeviceError:
        return None


def device_name(device: Any) -> Any:
    """A device as a str or a number: also one of torch, an enum, or Haystack's."""
    if device is None or isinstance(device, (str, int)) and not isinstance(device, Enum):
        return device
    if hasattr(device, "to_torch_str"):
        return device.to_torch_str()
    return str(device.value if isinstance(device, Enum) else device)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items() if name not in SECRETS}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def kept(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a file or a database keeps them: no secrets; devices and dtypes by name."""
    return {name: device_name(value) if name == "device" else _plain(value)
            for name, value in options.items() if name not in SECRETS and value is not None}


def options_of(model: SentenceTransformer) -> dict[str, Any]:
    """Options that make a model of the same name give the same vectors in the same memory."""
    limits = model._limits
    return kept({
        "device": limits.device,
        "dtype": None if limits.half else _DTYPE_NAMES.get(limits.dtype),
        "model_kwargs": {"torch_dtype": "float16"} if limits.half else None,
        "memory": limits.host_bytes or None, "gpu_memory": limits.gpu_bytes or None,
        "long": None if limits.long == "truncate" else limits.long,
        "threads": limits.threads or None, "max_seq_length": limits.tokens or None,
        "caller_memory": (None if limits.caller_bytes == _settings.CALLER_BYTES
                          else limits.caller_bytes),
        "truncate_dim": model.truncate_dim, "default_prompt_name": model.default_prompt_name,
        "prompts": {name: text for name, text in model.prompts.items() if text} or None,
        "similarity_fn_name": model._similarity_name})
