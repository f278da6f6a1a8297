"""What the constructor takes, checked and turned into the engine's limits; the model's own files.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import json
import os
import re
from typing import Any

from ._errors import ArgumentError, ModelError, UnsupportedError, tell_once
from ._hub import name_in_cache
from ._sizes import parse_size, whole

_DEVICE_AUTO, _DEVICE_CPU, _DEVICE_CUDA = 0, 1, 2
_DTYPES = {
    "f32": 1, "float32": 1, "float": 1, "fp32": 1,
    "bf16": 2, "bfloat16": 2,
    "f16": 3, "float16": 3, "half": 3, "fp16": 3,
    "int8": 4, "int4": 5, "fp8": 6,
}
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_LONG = {"chunk": 0, "truncate": 1, "error": 2}

# What the interpreter may grow by while the engine is open, if the caller states nothing: a
# thousand result objects of one row, warnings, imports of the standard library.
CALLER_BYTES = 8 << 20

# Options of other runtimes that change speed, memory or placement there, and nothing here.
_IGNORED_OPTIONS = frozenset((
    "attn_implementation", "low_cpu_mem_usage", "use_safetensors", "provider", "file_name",
    "export", "use_cache", "trust_remote_code", "revision", "token", "local_files_only",
    "torchscript", "gradient_checkpointing"))
_OUR_WAY = {
    "load_in_8bit": "state dtype='int8'", "load_in_4bit": "state dtype='int4'",
    "quantization_config": "state dtype='int8' or 'int4'",
    "device_map": "state device='cuda:all', or memory= and gpu_memory=",
    "max_memory": "state memory= and gpu_memory="}


class Device(str):
    """A device's name, with ``type`` and ``index`` as a torch.device has them. ``chosen_by``: by
    what the device was chosen, if no parameter did, such as ``"EMB_DEVICE=cuda"``."""

    chosen_by = ""

    @property
    def type(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The GPU's number (of several, the first), or None."""
        return self.gpus[0] if self.gpus else None

    @property
    def gpus(self) -> list[int]:
        """The GPUs' numbers; empty: not stated, or all."""
        numbers = self.partition(":")[2]
        return [int(number) for number in numbers.split(",")] if numbers[:1].isdigit() else []

    @property
    def gpus_max(self) -> int:
        """How many GPUs share the work."""
        return 16 if self.endswith(":all") else max(1, len(self.gpus))


def parse_device(device: Any) -> Device | None:
    """``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"cuda:0,2"`` and ``"cuda:all"`` (several GPUs, one
    engine), a torch.device or a GPU's number; None: a GPU if there is one, else the CPU."""
    if device is None:
        return None
    number = None if isinstance(device, (str, bool)) else whole(device)
    name = str(device) if number is None else f"cuda:{number}"
    if name != "cpu" and not re.fullmatch(r"cuda(:all|:\d+(,\d+)*)?", name):
        raise UnsupportedError(f"device {device!r}: embound runs on 'cpu', 'cuda', 'cuda:N', "
                               "'cuda:N,M' and 'cuda:all'")
    return Device(name)


def join_devices(devices: Any) -> Device:
    """A list of devices, as for processes, as the one device of an engine that uses them all:
    the CPU however often it is named, or every GPU of the list."""
    several = hasattr(devices, "__iter__") and not isinstance(devices, (str, bytes))
    named = [parse_device(device) for device in devices] if several else []
    parsed = [device for device in named if device is not None]
    if not parsed or len(parsed) < len(named):
        raise ArgumentError(f"devices {devices!r}: state a list of at least one")
    if len({device.type for device in parsed}) > 1:
        raise UnsupportedError(f"devices {list(devices)!r}: one engine computes on the CPU or on "
                               "GPUs, not on both: leave one kind out")
    if parsed[0].type == "cpu":
        return parsed[0]
    if any(device.endswith(":all") for device in parsed):
        return Device("cuda:all")
    gpus = [index for device in parsed for index in device.gpus or [0]]
    return Device("cuda:" + ",".join(map(str, dict.fromkeys(gpus))))


def check_count(value: Any, name: str) -> int:
    """A whole number of at least 1."""
    count = whole(value)
    if count is None or count < 1:
        raise ArgumentError(f"{name}={value!r}: state a whole number, at least 1")
    return count


def default_device() -> Device | None:
    """What EMB_DEVICE says, for programs that state no device; None: auto."""
    name = os.environ.get("EMB_DEVICE") or "auto"
    try:
        device = None if name == "auto" else parse_device(name)
    except UnsupportedError as error:
        raise UnsupportedError(f"EMB_DEVICE: {error}") from None
    if device is not None:
        device.chosen_by = f"EMB_DEVICE={name}"
    return device


def parse_dtype(dtype: Any) -> int:
    """The library's number of ``"f32"``, ``"bfloat16"``, ``torch.float16``, ...; None: 0."""
    if dtype is None or dtype in ("auto", "default"):
        return 0
    name = str(getattr(dtype, "__name__", dtype)).rpartition(".")[2]
    if name not in _DTYPES:
        raise ArgumentError(f"dtype {dtype!r}: state one of f32, bf16, f16, int8, int4, fp8")
    return _DTYPES[name]


def torch_dtypes(dtype: Any) -> tuple[int, bool]:
    """As parse_dtype, for a dtype asked for in torch's ways; and whether it is f16, for which a CPU
    takes bf16: programs that say half() want 16 bits wherever they run."""
    number = parse_dtype(dtype)
    return number, number == _DTYPES["f16"]


def dtype_of_options(model_kwargs: Any, config_kwargs: Any) -> Any:
    """The dtype that they ask for, as upstream spells it; refuses what is unknown."""
    wanted = None
    for place, options in (("config_kwargs", config_kwargs), ("model_kwargs", model_kwargs)):
        if options is not None and not isinstance(options, dict):
            raise ArgumentError(f"{place}={options!r}: a dict is needed")
        for name, value in (options or {}).items():
            if name in ("torch_dtype", "dtype"):
                wanted = None if value == "auto" else value
            elif name not in _IGNORED_OPTIONS:
                raise UnsupportedError(f"{place}[{name!r}] means nothing to embound: "
                                       f"{_OUR_WAY.get(name, 'leave it out')}")
    return wanted


def check_name(value: Any) -> str:
    """A model's path or name as a str."""
    try:
        name = os.fsdecode(value)
    except TypeError:
        raise ArgumentError(f"model {value!r}: a directory or a name is needed, as str or "
                            "Path") from None
    if not name or "\0" in name or "\n" in name:
        raise ArgumentError(f"model {name!r}: this names neither a directory nor a model")
    return name


def check_dim(value: Any) -> int | None:
    """``truncate_dim``: None, or a whole number as a slice takes it."""
    if value is None:
        return None
    dim = whole(value)
    if dim is None:
        raise ArgumentError(f"truncate_dim={value!r}: state a whole number, or None for all "
                            "values")
    return dim


def kept_dim(dim: int, truncate_dim: Any) -> int:
    """How many values of a vector ``[:truncate_dim]`` keeps."""
    return len(range(dim)[:check_dim(truncate_dim)])


def check_tokens(value: Any) -> int:
    """``max_seq_length``: None is the model's own."""
    if value is None:
        return 0
    tokens = whole(value)
    if tokens is None or not 1 <= tokens < 2**31:
        raise ArgumentError(f"max_seq_length={value!r}: state a number of tokens, or None for the "
                            "model's own")
    return tokens


def need_torch(what: str) -> Any:
    """The module torch, which nothing else here needs."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{what} are torch's, which is not installed here ({error}): "
                          "pip install torch, or take numpy arrays (convert_to_numpy=True, "
                          "output_value='sentence_embedding')") from error
    return torch


class CardData:
    """What evaluators of sentence-transformers store and mteb asks for; no card is written.

    ``model_name``: none of its own. ``base_model``, ``base_model_revision``: the hub's name of the
    model and the commit, where its files are in the hub's cache; else None.
    """

    model_name: str | None = None

    def __init__(self, path: str) -> None:
        self.base_model, self.base_model_revision = name_in_cache(path)

    def set_evaluation_metrics(self, *unused: Any) -> None:
        """Keeps nothing."""


class Limits:
    """What the user states, in the library's numbers."""

    def __init__(self, *, device: Any, memory: int | str | None, gpu_memory: int | str | None,
                 dtype: Any, torch_dtype: Any, long: str | None, threads: int | None,
                 caller_memory: int | str | None) -> None:
        if long is not None and long not in tuple(_LONG):
            raise ArgumentError(f"long={long!r}: state 'truncate', 'chunk' or 'error'")
        counted = 0 if threads is None else whole(threads)
        if counted is None or (threads is not None and not 1 <= counted <= 1024):
            raise ArgumentError(f"threads={threads!r}: state 1 to 1024, or None for one per core")
        self.device = default_device() if device is None else parse_device(device)
        self.dtype, self.half = torch_dtypes(torch_dtype)
        if dtype is not None:
            self.dtype, self.half = parse_dtype(dtype), False
        self.long = long or "truncate"
        self.threads = counted
        self.tokens = 0
        self.host_bytes = parse_size(memory, "memory")
        self.gpu_bytes = parse_size(gpu_memory, "gpu_memory")
        if self.gpu_bytes and self.device == "cpu":
            tell_once("gpu_memory bounds nothing: the device is the cpu "
                      f"({'EMB_DEVICE' if device is None else 'as stated'})")
        self.caller_bytes = (CALLER_BYTES if caller_memory is None
                             else parse_size(caller_memory, "caller_memory"))

    def numbers(self) -> dict[str, Any]:
        """The arguments of the extension's ``configure``."""
        kind = _DEVICE_AUTO
        if self.device is not None:
            kind = _DEVICE_CUDA if self.device.type == "cuda" else _DEVICE_CPU
        return {
            "device": kind, "gpus": self.device.gpus if self.device is not None else [],
            "gpus_max": self.device.gpus_max if self.device is not None else 1,
            "dtype": self.dtype,
            "long_rule": _LONG[self.long], "threads": self.threads, "tokens": self.tokens,
            "host_bytes": self.host_bytes,
            # a figure for the GPU waits while the model is on the CPU
            "gpu_bytes": 0 if kind == _DEVICE_CPU else self.gpu_bytes,
            "caller_bytes": self.caller_bytes,
            "device_by": self.device.chosen_by if self.device is not None else ""}

    def numbers_of_half(self) -> dict[str, Any]:
        """The same with bf16, for a CPU, which has no f16."""
        return {**self.numbers(), "dtype": _DTYPES["bf16"]}


def read_model_options(directory: str) -> dict[str, Any]:
    """What config_sentence_transformers.json says; empty if there is none, or no modules.json
    beside it, without which upstream does not read it. A name of a similarity that is not one of
    the four, such as ``"dot_score"`` or ``"maxsim"``, counts as none, as upstream."""
    folder = directory if os.path.isdir(directory) else os.path.dirname(directory)
    path = os.path.join(folder, "config_sentence_transformers.json")
    if not os.path.lexists(os.path.join(folder, "modules.json")):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            options = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from None
    if not isinstance(options, dict) or not isinstance(options.get("prompts") or {}, dict):
        raise ModelError(f"{path}: must be an object, and 'prompts' one of names and texts")
    if options.get("similarity_fn_name") not in SIMILARITIES:
        options["similarity_fn_name"] = None
    return options


def read_config(directory: str) -> dict[str, Any]:
    """The encoder's config.json, in the directory or in the first module's folder."""
    path = os.path.join(directory, "config.json")
    try:
        if not os.path.isfile(path):
            with open(os.path.join(directory, "modules.json"), encoding="utf-8") as file:
                path = os.path.join(directory, json.load(file)[0]["path"], "config.json")
        with open(path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"{path}: {error}") from None


def merge_prompts(given: dict[str, str] | None, saved: dict[str, Any]) -> dict[str, str]:
    """The user's prompts, then the model's, then empty ones for 'query' and 'document'."""
    if given is not None and not (isinstance(given, dict) and all(
            isinstance(name, str) and isinstance(text, (str, type(None)))
            for name, text in given.items())):
        raise ArgumentError(f"prompts={given!r}: a dict of names and texts is needed")
    prompts: dict[str, str | None] = {"query": None, "document": None}
    prompts.update(given or {})
    for name, text in (saved.get("prompts") or {}).items():
        if prompts.get(name) is None:
            prompts[name] = text
    return {name: text or "" for name, text in prompts.items()}
