"""A model's files and its engine of fixed memory: limits, the plan that follows, vectors in rows.

What the interface (_model.py) and the parts of it (streams, tokens, pools, results) stand on.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import sys
from typing import Any

from . import _core, _settings
from ._errors import (
    ArgumentError, BudgetError, EmboundWarning, TruncationWarning, UnsupportedError, warn)
from ._inputs import list_inputs, progress_bar, read_inputs
from ._virtual import VirtualSubclass


class EngineModel(VirtualSubclass):
    """Files that are open, limits, and an engine that takes its memory at the first use."""

    model_name: str
    prompts: dict[str, str]
    default_prompt_name: str | None
    truncate_dim: int | None
    _trainer: _core.Trainer | None = None  # that trains the model just now: its parameters count

    def _attach(self, path: str, limits: _settings.Limits) -> None:
        """Opens the model's files, and plans."""
        import numpy  # before anything is measured: it belongs to the process

        self._path, self._limits = path, limits
        self._asarray = numpy.asarray
        self._core = _core.Engine(path)
        self._opens = 0
        self._info = self._core.info
        self._dim: int = self._info["dim"]
        self._configure()

    def _configure(self) -> None:
        """Tells the engine its limits and plans, so that a budget too small is said at once."""
        try:
            self._core.configure(**self._limits.numbers())
            self._planned: dict[str, Any] = self._core.plan()
        except UnsupportedError:
            if not self._limits.half:
                raise
            self._core.configure(**self._limits.numbers_of_half())
            self._planned = self._core.plan()
            warn("float16 is computed on GPUs alone: this CPU computes in bf16, in as many bytes; "
                 "dtype='f32' is exact", EmboundWarning)

    def _adopt(self, path: str) -> None:
        """Goes on with other files of the same model: trained ones. Where the memory has no room
        for an engine now, that is said at its first use."""
        self._path = path
        self._core = _core.Engine(path)
        self._opens = 0
        try:
            self._configure()
        except BudgetError:
            pass

    def _need_engine(self) -> None:
        """For what a trainer cannot compute."""
        if self._trainer is not None:
            raise UnsupportedError("while it is trained, a model gives vectors of texts alone")

    def _plan_now(self) -> dict[str, Any]:
        """Of the open engine, else for this process as it is."""
        self._planned = self._core.plan()
        return self._planned

    def _change(self, **limits: Any) -> None:
        """Plans with other limits; where that fails, all is as it was."""
        before = {name: getattr(self._limits, name) for name in limits}
        vars(self._limits).update(limits)
        try:
            self._configure()
        except BaseException:
            vars(self._limits).update(before)
            self._configure()
            raise

    def _move(self, device: Any) -> None:
        wanted = _settings.parse_device(device)
        kind, devices = str(self._planned["device"]), self._planned["devices"]
        here = {kind} if len(devices) == 1 else set()
        here.add(f"{kind}:" + ",".join(map(str, devices)))
        if wanted is None or str(wanted) in here or wanted == self._limits.device:
            return
        self._change(device=wanted)

    # ---- vectors -------------------------------------------------------------------------------

    def _prompt_of(self, prompt_name: str | None, prompt: str | None) -> str | None:
        if prompt is None:
            name = prompt_name if prompt_name is not None else self.default_prompt_name
            if name is None:
                return None
            if not isinstance(name, str) or name not in self.prompts:
                raise ArgumentError(f"prompt_name {name!r} is none of the prompts "
                                    f"{sorted(self.prompts)}")
            prompt = self.prompts[name]
        elif prompt_name is not None:
            warn("prompt and prompt_name are both stated: prompt is used, prompt_name is not",
                 EmboundWarning)
        if not isinstance(prompt, str):
            raise ArgumentError(f"prompt={prompt!r}: a str is needed")
        return prompt or None

    def _rows(self, inputs: Any, prompt: str | None, truncate_dim: int | None, normalize: bool,
              show_progress_bar: bool | None, on_device: bool = False, beside: int = 0) -> Any:
        """The vectors, whatever holds the texts; warns once of what was cut off. `beside`: bytes
        that each vector takes once more, in another form."""
        if truncate_dim is None:
            truncate_dim = self.truncate_dim
        dim = -1 if truncate_dim is None else _settings.kept_dim(self._dim, truncate_dim)
        if self._trainer is not None:
            one = isinstance(inputs, str)
            return self._trainer.encode(inputs if one else list_inputs(inputs), prompt, dim,
                                        normalize)
        column: tuple[Any, Any, Any] | None = None
        if not isinstance(inputs, (str, list)):
            inputs, column = read_inputs(inputs)
        bar = None
        if not isinstance(inputs, str):
            bar = progress_bar(show_progress_bar, len(inputs))
        try:
            if column is not None:
                rows, texts, tokens = self._core.encode_column(*column, prompt, dim, normalize, bar,
                                                               on_device, beside)
            else:
                rows, texts, tokens = self._core.encode(inputs, prompt, dim, normalize, bar,
                                                        on_device, beside)
        finally:
            if bar is not None:
                bar.close()
        if self._core.opens != self._opens:
            self._opens, self._planned = self._core.opens, self._core.plan()
        if texts:
            warn_of_cut(texts, tokens, self.max_seq_length)
        return rows

    # ---- what it is ----------------------------------------------------------------------------

    @property
    def max_seq_length(self) -> int:
        """Most tokens of a text, special tokens included. Setting it closes the engine, which
        opens with the new limit at the next use; at most the model's positions."""
        return self._limits.tokens or int(self._info["default_tokens"])

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self._change(tokens=_settings.check_tokens(value))

    @property
    def device(self) -> Any:
        """Where the engine computes: a torch.device if torch is imported, else a str that has
        ``type`` and ``index`` too."""
        name = self._planned["device"]
        if name == "cuda":
            name = f"cuda:{self._planned['devices'][0]}"
        torch = sys.modules.get("torch")
        return torch.device(name) if torch is not None else _settings.Device(name)

    @property
    def dtype(self) -> Any:
        """Of the weights: a torch.dtype if torch is imported and has it, else ``"f32"``, ..."""
        name = str(self._planned["dtype"])
        torch = sys.modules.get("torch")
        long = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "int8": "int8"}
        return getattr(torch, long[name]) if torch is not None and name in long else name

    @property
    def is_open(self) -> bool:
        """Whether this process has the engine open."""
        return bool(self._core.is_open)


def warn_of_cut(texts: int, tokens: int, limit: int) -> None:
    """One warning a call."""
    warn(f"{texts} text{'s' if texts > 1 else ''} longer than {limit} tokens: {tokens} tokens "
         "were left out; SentenceTransformer(..., long='chunk') makes every token count",
         TruncationWarning)
