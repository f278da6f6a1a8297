"""SentenceTransformer: the interface of sentence-transformers over an engine of fixed memory.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, TypeVar, overload

from . import _core, _settings
from ._errors import (ArgumentError, EmboundError, TruncationWarning, UnsupportedError,
                      outside_level)
from ._hub import resolve_model
from ._plan import Plan, register
from ._similarity import SimilarityFunction, check_name

_Method = TypeVar("_Method", bound=Callable[..., Any])
_PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary", None)
_OUTPUTS = ("sentence_embedding", "token_embeddings", None)


def _renamed(**names: str) -> Callable[[_Method], _Method]:
    """Takes keyword arguments by their older names too."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            if options:
                for old, new in names.items():
                    if old in options:
                        value = options.pop(old)
                        options.setdefault(new, value)
            return method(*arguments, **options)

        return call  # type: ignore[return-value]

    return decorate


class SentenceTransformer:
    """A model that turns texts into vectors, inside a memory budget if one is stated.

    Args (all but the first by keyword; up to ``truncate_dim`` as in sentence-transformers):
        model_name_or_path: a local directory, or a hub name such as ``"all-MiniLM-L6-v2"``,
            looked up in the standard cache and downloaded if it is not there.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None: what the environment variable EMB_DEVICE
            says, else the first GPU that can be used. Only if there is none, the CPU; where a GPU
            or a driver is there all the same, one DeviceWarning says why.
        prompts, default_prompt_name: texts put before each input, by name.
        cache_folder, revision, local_files_only, token: where and how the model is found.
        model_kwargs: of it ``torch_dtype`` (or ``dtype``) is used as ``dtype``.
        similarity_fn_name: ``"cosine"``, ``"dot"``, ``"euclidean"`` or ``"manhattan"``.
        truncate_dim: keep the first values of each vector only.
        memory: bytes, or ``"300MiB"``: what the whole process may hold, this interpreter and its
            libraries included. None: as much as full speed needs.
        gpu_memory: the same of the GPU: its context included, what this process holds there beside
            embound (torch, cupy), and vectors that stay there. None: as much as full speed needs,
            within what is free there.
        dtype: ``"f32"`` (the default on a CPU), ``"bf16"``, ``"f16"`` (the default on a GPU), ...
        long: texts of more tokens than ``max_seq_length``: ``"truncate"`` (the default; one
            warning counts the tokens left out), ``"chunk"`` (every token counts: the mean over
            pieces), ``"error"``.
        threads: that compute, on a CPU; None: one per core.
        caller_memory: bytes that the program beside the engine may grow by; part of ``memory``.

    While several models are open, the smallest ``memory`` of theirs bounds the process, and the
    smallest ``gpu_memory`` what it holds of that GPU.

    Raises ModelNotFoundError, ModelError, BudgetError (``.minimum_bytes`` says what would do;
    nothing has been allocated), UnsupportedError, ArgumentError, DeviceError.

    The engine opens, and takes its memory once, at the first use (or at ``open()``). Any number of
    threads may call; their calls queue. After fork a child opens an engine of its own.
    """

    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = (
        "cosine", "dot", "euclidean", "manhattan")

    @_renamed(tokenizer_kwargs="processor_kwargs")
    def __init__(self, model_name_or_path: str | None = None, *, modules: Any = None,
                 device: str | None = None, prompts: dict[str, str] | None = None,
                 default_prompt_name: str | None = None, cache_folder: str | None = None,
                 trust_remote_code: bool = False, revision: str | None = None,
                 local_files_only: bool = False, token: bool | str | None = None,
                 use_auth_token: bool | str | None = None,
                 model_kwargs: dict[str, Any] | None = None,
                 processor_kwargs: dict[str, Any] | None = None,
                 config_kwargs: dict[str, Any] | None = None, model_card_data: Any = None,
                 backend: str = "torch",
                 similarity_fn_name: str | SimilarityFunction | None = None,
                 truncate_dim: int | None = None, memory: int | str | None = None,
                 gpu_memory: int | str | None = None, dtype: Any = None, long: str | None = None,
                 threads: int | None = None, caller_memory: int | str | None = None) -> None:
        self._options: dict[str, Any] = {
            "prompts": prompts, "default_prompt_name": default_prompt_name, "memory": memory,
            "gpu_memory": gpu_memory, "dtype": dtype, "long": long, "threads": threads,
            "caller_memory": caller_memory, "similarity_fn_name": similarity_fn_name,
            "model_kwargs": model_kwargs}
        _refuse_unknown(modules, processor_kwargs, config_kwargs, backend)
        if model_name_or_path is None:
            raise ArgumentError("a model's directory or name is needed: "
                                "SentenceTransformer('all-MiniLM-L6-v2')")
        if use_auth_token is not None and token is not None:
            raise ArgumentError("state token alone, not use_auth_token too")
        self.model_name = _settings.check_name(model_name_or_path)
        self._path = resolve_model(
            self.model_name, cache_folder=cache_folder, revision=revision,
            local_files_only=local_files_only,
            token=token if token is not None else use_auth_token)
        wanted = dtype if dtype is not None else _settings.dtype_of_model_options(model_kwargs)
        self._limits = _settings.Limits(
            device=device, memory=memory, gpu_memory=gpu_memory, dtype=wanted, long=long,
            threads=threads, caller_memory=caller_memory)
        saved = _settings.read_model_options(self._path)
        self.prompts = _settings.merge_prompts(prompts, saved)
        self.default_prompt_name = default_prompt_name or saved.get("default_prompt_name")
        if self.default_prompt_name and self.default_prompt_name not in self.prompts:
            raise ArgumentError(f"default_prompt_name {self.default_prompt_name!r} is none of the "
                                f"prompts {sorted(self.prompts)}")
        self._similarity_name: str | None = None
        self.similarity_fn_name = similarity_fn_name or saved.get("similarity_fn_name") or None
        self.truncate_dim = _settings.check_dim(
            truncate_dim if truncate_dim is not None else saved.get("truncate_dim"))
        self.model_card_data = model_card_data or _settings.CardData()
        import numpy  # before anything is measured: it belongs to the process

        self._asarray = numpy.asarray
        self._core = _core.Engine(self._path)
        self._opens = 0
        self._info = self._core.info
        self._dim: int = self._info["dim"]
        self._configure()
        register(self)

    def _configure(self) -> None:
        """Tells the engine its limits and plans, so that a budget too small is said at once."""
        self._core.configure(**self._limits.numbers())
        self._planned: dict[str, Any] = self._core.plan()

    # ---- encoding ------------------------------------------------------------------------------

    @_renamed(sentences="inputs")
    def encode(self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None,
               batch_size: int = 32, show_progress_bar: bool | None = None,
               output_value: str | None = "sentence_embedding", precision: str = "float32",
               convert_to_numpy: bool = True, convert_to_tensor: bool = False,
               device: Any = None, normalize_embeddings: bool = False,
               truncate_dim: int | None = None, pool: dict[str, Any] | None = None,
               chunk_size: int | None = None, **kwargs: Any) -> Any:
        """Turns texts into vectors.

        Args:
            inputs: one str; a list, tuple, numpy array or Series of str; or an Arrow column of
                strings (pyarrow, polars), which is read without copies.
            prompt_name, prompt: a text put before each input, by name or as it is.
            batch_size: an upper bound that the plan need not reach; the plan sets the batches.
            show_progress_bar: needs tqdm; None: only if logging is at INFO or DEBUG.
            output_value: ``"sentence_embedding"``, ``"token_embeddings"`` (one tensor per text,
                [tokens, dim]) or None (one dict per text); the latter two on a CPU.
            precision: ``"float32"``, or int8, uint8 (whose ranges are those of this very call),
                binary, ubinary.
            convert_to_numpy, convert_to_tensor: the result's kind; the latter wins.
            device: to move to. A list of GPUs makes one engine share the work among them; any
                other list encodes in one process for each.
            normalize_embeddings: vectors of length one, after ``truncate_dim``.
            pool, chunk_size: see start_multi_process_pool.

        Returns: numpy float32 [n, dim], or [dim] for one str, over memory that the engine filled
        (never copied); or tensors if asked for: of a model on a GPU there, in memory that counts
        in ``gpu_memory`` (see encode_rows). Other precisions than float32 are made on the host.

        Raises ValueError for parameters, TextError for a text that cannot be encoded,
        BudgetError if the engine no longer fits beside what the process has grown to.
        KeyboardInterrupt stops the work within one batch; the engine opens anew at the next call.
        """
        if not isinstance(batch_size, int) or batch_size <= 0:
            raise ArgumentError(f"batch_size={batch_size!r}: state a whole number, at least 1")
        if precision not in _PRECISIONS:
            raise ArgumentError(f"precision {precision!r}: state one of {_PRECISIONS[:-1]}")
        if output_value not in _OUTPUTS:
            raise ArgumentError(f"output_value {output_value!r}: state 'sentence_embedding', "
                                "'token_embeddings' or None")
        if kwargs:
            _check_extra(kwargs)
        prompt = self._prompt_of(prompt_name, prompt)
        if pool is None and isinstance(device, (list, tuple)):
            device = _settings.join_devices(device) or device  # GPUs need no processes
        if pool is not None or isinstance(device, (list, tuple)):
            from . import _pool

            rows = _pool.encode(self, inputs, pool, device, chunk_size, prompt=prompt,
                                output_value=output_value, truncate_dim=truncate_dim,
                                normalize_embeddings=normalize_embeddings,
                                show_progress_bar=show_progress_bar)
            return self._finish(inputs, rows, precision, convert_to_numpy, convert_to_tensor)
        tensors = convert_to_tensor or not convert_to_numpy
        if device is not None:
            self._move(device)
        if output_value != "sentence_embedding":
            from . import _tokens

            return _tokens.encode(self, inputs, prompt, output_value, truncate_dim)
        plain = precision in ("float32", None)
        if tensors and plain and self._planned["device"] == "cuda":
            return self._tensors_on_gpu(inputs, prompt, truncate_dim, normalize_embeddings,
                                        show_progress_bar, convert_to_tensor)
        rows = self._rows(inputs, prompt, truncate_dim, normalize_embeddings, show_progress_bar)
        if plain and not tensors and len(rows):
            return self._asarray(rows)
        return self._finish(inputs, self._asarray(rows), precision, convert_to_numpy,
                            convert_to_tensor)

    @_renamed(sentences="inputs")
    def encode_query(self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None,
                     batch_size: int = 32, show_progress_bar: bool | None = None,
                     output_value: str | None = "sentence_embedding", precision: str = "float32",
                     convert_to_numpy: bool = True, convert_to_tensor: bool = False,
                     device: Any = None, normalize_embeddings: bool = False,
                     truncate_dim: int | None = None, pool: dict[str, Any] | None = None,
                     chunk_size: int | None = None, **kwargs: Any) -> Any:
        """As encode, with the prompt ``"query"`` unless another is named."""
        if prompt_name is None and prompt is None and "query" in self.prompts:
            prompt_name = "query"
        return self.encode(inputs, prompt_name, prompt, batch_size, show_progress_bar, output_value,
                           precision, convert_to_numpy, convert_to_tensor, device,
                           normalize_embeddings, truncate_dim, pool, chunk_size, **kwargs)

    @_renamed(sentences="inputs")
    def encode_document(self, inputs: Any, prompt_name: str | None = None,
                        prompt: str | None = None, batch_size: int = 32,
                        show_progress_bar: bool | None = None,
                        output_value: str | None = "sentence_embedding", precision: str = "float32",
                        convert_to_numpy: bool = True, convert_to_tensor: bool = False,
                        device: Any = None, normalize_embeddings: bool = False,
                        truncate_dim: int | None = None, pool: dict[str, Any] | None = None,
                        chunk_size: int | None = None, **kwargs: Any) -> Any:
        """As encode, with the first of the prompts ``"document"``, ``"passage"``, ``"corpus"`` that
        the model has, unless another is named."""
        if prompt_name is None and prompt is None:
            prompt_name = next(
                (x for x in ("document", "passage", "corpus") if x in self.prompts), None)
        return self.encode(inputs, prompt_name, prompt, batch_size, show_progress_bar, output_value,
                           precision, convert_to_numpy, convert_to_tensor, device,
                           normalize_embeddings, truncate_dim, pool, chunk_size, **kwargs)

    def encode_multi_process(self, sentences: list[str], pool: dict[str, Any],
                             prompt_name: str | None = None, prompt: str | None = None,
                             batch_size: int = 32, chunk_size: int | None = None,
                             show_progress_bar: bool | None = None, precision: str = "float32",
                             normalize_embeddings: bool = False,
                             truncate_dim: int | None = None) -> Any:
        """The older name of ``encode(..., pool=pool)``."""
        return self.encode(sentences, prompt_name=prompt_name, prompt=prompt, batch_size=batch_size,
                           show_progress_bar=show_progress_bar, precision=precision,
                           normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim,
                           pool=pool, chunk_size=chunk_size)

    @overload
    def encode_rows(self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None,
                    *, normalize_embeddings: bool = False, truncate_dim: int | None = None,
                    on_device: Literal[False] = False) -> _core.Rows: ...

    @overload
    def encode_rows(self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None,
                    *, normalize_embeddings: bool = False, truncate_dim: int | None = None,
                    on_device: Literal[True]) -> _core.DeviceRows: ...

    @overload
    def encode_rows(self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None,
                    *, normalize_embeddings: bool = False, truncate_dim: int | None = None,
                    on_device: bool) -> _core.Rows | _core.DeviceRows: ...

    def encode_rows(self, inputs: Any, prompt_name: str | None = None, prompt: str | None = None,
                    *, normalize_embeddings: bool = False, truncate_dim: int | None = None,
                    on_device: bool = False) -> _core.Rows | _core.DeviceRows:
        """As encode, but gives the buffer itself: f32 [n, dim] for numpy.asarray, DLPack
        (``torch.from_dlpack``) and Arrow (``pyarrow.array``), each without a copy.

        ``on_device``: in the memory of the model's GPU (of several, the first), for torch, cupy and
        jax by DLPack or ``__cuda_array_interface__``. The bytes, n * dim * 4, are taken before the
        work, inside ``gpu_memory`` if that is stated, together with those of earlier such rows that
        are still alive; if need be the engine opens anew with a smaller plan. They go with the last
        reference, also after the model. When this returns the rows are complete: no stream needs to
        wait for them. Raises BudgetError if they do not fit, UnsupportedError on a CPU."""
        if not isinstance(on_device, bool):
            raise ArgumentError(f"on_device={on_device!r}: state True or False; rows go to the "
                                "model's own GPU")
        chosen = self._prompt_of(prompt_name, prompt)
        rows: _core.Rows | _core.DeviceRows = self._rows(
            inputs, chosen, truncate_dim, normalize_embeddings, False, on_device)
        return rows

    def encode_stream(self, inputs: Iterable[str], *, prompt_name: str | None = None,
                      prompt: str | None = None, normalize_embeddings: bool = False,
                      truncate_dim: int | None = None) -> Iterator[Any]:
        """Yields one vector [dim] per text, in order, from any iterable of str, however long: at
        most a block of texts (a thousand, or a mebibyte) and its vectors are held at a time."""
        from . import _stream

        return _stream.encode(self, inputs, self._prompt_of(prompt_name, prompt), truncate_dim,
                              normalize_embeddings)

    async def aencode(self, inputs: Any, **options: Any) -> Any:
        """encode without blocking the event loop; takes the same parameters."""
        from . import _stream

        return await _stream.in_thread(functools.partial(self.encode, inputs, **options))

    def aencode_stream(self, inputs: Any, **options: Any) -> AsyncIterator[Any]:
        """encode_stream for event loops: takes an iterable or an asynchronous one."""
        from . import _stream

        return _stream.encode_async(self, inputs, options)

    def _rows(self, inputs: Any, prompt: str | None, truncate_dim: int | None, normalize: bool,
              show_progress_bar: bool | None, on_device: bool = False) -> Any:
        """The vectors, whatever holds the texts; warns once of what was cut off."""
        if truncate_dim is None:
            truncate_dim = self.truncate_dim
        dim = -1 if truncate_dim is None else _settings.kept_dim(self._dim, truncate_dim)
        column: tuple[Any, Any, Any] | None = None
        if not isinstance(inputs, (str, list)):
            inputs, column = _read_inputs(inputs)
        bar = None
        if show_progress_bar is not False and not isinstance(inputs, str):
            bar = _progress(show_progress_bar, len(inputs))
        try:
            if column is not None:
                rows, texts, tokens = self._core.encode_column(*column, prompt, dim, normalize, bar,
                                                               on_device)
            else:
                rows, texts, tokens = self._core.encode(inputs, prompt, dim, normalize, bar,
                                                        on_device)
        finally:
            if bar is not None:
                bar.close()
        if self._core.opens != self._opens:
            self._opens, self._planned = self._core.opens, self._core.plan()
        if texts:
            _warn_of_cut(texts, tokens, self.max_seq_length)
        return rows

    def _tensors_on_gpu(self, inputs: Any, prompt: str | None, truncate_dim: int | None,
                        normalize: bool, show_progress_bar: bool | None, one: bool) -> Any:
        """The vectors as a tensor (or a list of them) over memory of the GPU that holds them."""
        torch = _settings.need_torch("tensors")
        options = (inputs, prompt, truncate_dim, normalize, show_progress_bar)
        try:
            rows = self._rows(*options, True)
        except UnsupportedError:
            if self.plan()["device"] == "cuda":
                raise
            # opened later than it was planned, and on the CPU
            return self._finish(inputs, self._asarray(self._rows(*options)), None, False, one)
        if not len(rows):
            return _nothing(False, one)
        tensor = torch.from_dlpack(rows)
        return tensor if one or isinstance(inputs, str) else list(tensor)

    def _finish(self, inputs: Any, rows: Any, precision: str | None, convert_to_numpy: bool,
                convert_to_tensor: bool) -> Any:
        """What is asked for beside a plain array: other precisions, tensors, nothing at all."""
        single = isinstance(inputs, str)
        if isinstance(rows, list):  # of tensors or dicts, from a pool
            return rows[0] if single else rows
        if not len(rows):
            return _nothing(convert_to_numpy, convert_to_tensor)
        if precision not in (None, "float32"):
            from .quantization import quantize_embeddings

            rows = quantize_embeddings(rows[None, :] if rows.ndim == 1 else rows, str(precision))
            rows = rows[0] if single else rows
        if convert_to_numpy and not convert_to_tensor:
            return rows
        torch = _settings.need_torch("tensors")
        tensor = torch.from_numpy(rows)
        if self._planned["device"] == "cuda":
            tensor = tensor.to(f"cuda:{self._planned['devices'][0]}")
        return tensor if convert_to_tensor or single else list(tensor)

    def _prompt_of(self, prompt_name: str | None, prompt: str | None) -> str | None:
        if prompt is None:
            name = prompt_name if prompt_name is not None else self.default_prompt_name
            if name is None:
                return None
            if not isinstance(name, str) or name not in self.prompts:
                raise ArgumentError(f"prompt_name {name!r} is none of the prompts "
                                    f"{sorted(self.prompts)}")
            prompt = self.prompts[name]
        if not isinstance(prompt, str):
            raise ArgumentError(f"prompt={prompt!r}: a str is needed")
        return prompt or None

    # ---- tokens --------------------------------------------------------------------------------

    def tokenize(self, texts: Any, **kwargs: Any) -> dict[str, Any]:
        """Token ids of texts, padded on the right to the longest: ``input_ids``,
        ``token_type_ids`` (BERT) and ``attention_mask``, each [n, tokens] int64; torch tensors if
        torch is installed, else numpy arrays. Texts are cut to ``max_seq_length``."""
        from . import _tokens

        return _tokens.tokenize(self, texts, **kwargs)

    def preprocess(self, inputs: Any, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """As tokenize, with a prompt before each text."""
        from . import _tokens

        return _tokens.tokenize(self, inputs, prompt=prompt, **kwargs)

    @property
    def max_seq_length(self) -> int:
        """Most tokens of a text, special tokens included. Setting it closes the engine, which
        opens with the new limit at the next use; at most the model's positions."""
        return self._limits.tokens or int(self._info["default_tokens"])

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        before, self._limits.tokens = self._limits.tokens, _settings.check_tokens(value)
        self._reconfigure("tokens", before)

    def _reconfigure(self, name: str, before: Any) -> None:
        try:
            self._configure()
        except EmboundError:
            setattr(self._limits, name, before)
            self._configure()
            raise

    def get_max_seq_length(self) -> int:
        """The same as ``max_seq_length``."""
        return self.max_seq_length

    # ---- similarities --------------------------------------------------------------------------

    @property
    def similarity_fn_name(self) -> str:
        """``"cosine"`` unless stated otherwise."""
        return self._similarity_name or "cosine"

    @similarity_fn_name.setter
    def similarity_fn_name(self, value: str | SimilarityFunction | None) -> None:
        self._similarity_name = None if value is None else check_name(value)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Similarities [n, m] of all pairs of [n, dim] and [m, dim] (or [dim]).

        A torch tensor if this process has imported torch (or an input is one), else numpy."""
        return SimilarityFunction.to_similarity_fn(self.similarity_fn_name)(
            embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Similarities [n] of the vectors at equal places; of the same kind as similarity's."""
        return SimilarityFunction.to_similarity_pairwise_fn(self.similarity_fn_name)(
            embeddings1, embeddings2)

    # ---- what the model is ---------------------------------------------------------------------

    def get_embedding_dimension(self) -> int:
        """Values of each vector, after ``truncate_dim``."""
        return (self._dim if self.truncate_dim is None
                else _settings.kept_dim(self._dim, self.truncate_dim))

    def get_sentence_embedding_dimension(self) -> int:
        """The older name of get_embedding_dimension."""
        return self.get_embedding_dimension()

    @contextmanager
    def truncate_embeddings(self, truncate_dim: int | None) -> Iterator[None]:
        """Inside ``with``, vectors have ``truncate_dim`` values."""
        before, self.truncate_dim = self.truncate_dim, truncate_dim
        try:
            yield
        finally:
            self.truncate_dim = before

    truncate_sentence_embeddings = truncate_embeddings

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
    def modalities(self) -> list[str]:
        """``["text"]``."""
        return ["text"]

    def supports(self, modality: str) -> bool:
        """Whether the modality is text."""
        return modality == "text"

    def is_singular_input(self, inputs: Any) -> bool:
        """Whether encode would give one vector: for a str."""
        return isinstance(inputs, str)

    def get_model_kwargs(self) -> list[str]:
        """Further keyword arguments of encode: none."""
        return []

    def get_backend(self) -> str:
        """``"embound"``."""
        return "embound"

    # ---- moving, opening, closing --------------------------------------------------------------

    def _move(self, device: Any) -> None:
        wanted = _settings.parse_device(device)
        kind, devices = str(self._planned["device"]), self._planned["devices"]
        here = {kind} if len(devices) == 1 else set()
        here.add(f"{kind}:" + ",".join(map(str, devices)))
        if wanted is None or str(wanted) in here or wanted == self._limits.device:
            return
        before, self._limits.device = self._limits.device, wanted
        self._reconfigure("device", before)

    def to(self, device: Any = None, **kwargs: Any) -> SentenceTransformer:
        """Moves to another device, or to another dtype: the engine opens there at the next use."""
        dtype = kwargs.pop("dtype", None)
        if kwargs:
            raise UnsupportedError(f"to() takes a device or a dtype, not {sorted(kwargs)}")
        if device is not None and "torch" in sys.modules and isinstance(
                device, sys.modules["torch"].dtype):
            device, dtype = None, device
        if device is not None:
            self._move(device)
        if dtype is not None:
            before, self._limits.dtype = self._limits.dtype, _settings.parse_dtype(dtype)
            self._reconfigure("dtype", before)
        return self

    def cpu(self) -> SentenceTransformer:
        """Moves to the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> SentenceTransformer:
        """Moves to a GPU."""
        return self.to("cuda" if device is None else device)

    def half(self) -> SentenceTransformer:
        """Computes in f16 (a GPU's)."""
        return self.to(dtype="f16")

    def bfloat16(self) -> SentenceTransformer:
        """Computes in bf16."""
        return self.to(dtype="bf16")

    def float(self) -> SentenceTransformer:
        """Computes in f32."""
        return self.to(dtype="f32")

    def eval(self) -> SentenceTransformer:
        """Does nothing: embound never trains here."""
        return self

    def open(self) -> SentenceTransformer:
        """Takes the engine's memory and loads the weights now, not at the first use."""
        self._core.open()
        self._planned = self._core.plan()
        return self

    def close(self) -> None:
        """Gives the engine's memory back; the next use opens it again."""
        self._core.close()

    @property
    def is_open(self) -> bool:
        """Whether this process has the engine open."""
        return bool(self._core.is_open)

    def __enter__(self) -> SentenceTransformer:
        return self.open()

    def __exit__(self, *unused: Any) -> None:
        self.close()

    def plan(self) -> Plan:
        """The plan: of the open engine, else made now for this process as it is."""
        self._planned = self._core.plan()
        return Plan(self._planned)

    def memory_report(self) -> dict[str, Any]:
        """Planned bytes beside observed ones (``host_bytes_planned``, ``_now`` and ``_peak``, of
        the whole process), ``device_rows_bytes`` (of rows on the GPU that are still alive), and
        counters since the engine opened: texts, tokens, tokens_dropped, seconds, ..."""
        return dict(self._core.stats())

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """What an evaluator of sentence-transformers says of this model; it may write into the
        directory ``output_path``, which is made."""
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)
        return evaluator(self, output_path)

    # ---- several processes ---------------------------------------------------------------------

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> dict[str, Any]:
        """Starts one process per device, each with an engine and a budget of its own, for
        ``encode(pool=...)``. None: every GPU, or one process for the CPU, whose cores one engine
        uses already. End it with stop_multi_process_pool."""
        from . import _pool

        return _pool.start(self, target_devices)

    @staticmethod
    def stop_multi_process_pool(pool: dict[str, Any]) -> None:
        """Ends the processes of a pool."""
        from . import _pool

        _pool.stop(pool)

    # ---- what is refused -----------------------------------------------------------------------

    @staticmethod
    def load(input_path: str) -> SentenceTransformer:
        """The older name of the constructor."""
        return SentenceTransformer(input_path)

    def fit(self, *arguments: Any, **options: Any) -> None:
        """Refused: train with sentence-transformers, then open the saved directory here."""
        raise UnsupportedError("embound does not train from Python: train with "
                               "sentence-transformers, save, and open the directory here")

    train = fit

    def save(self, *arguments: Any, **options: Any) -> None:
        """Refused: the model's files are where they were."""
        raise UnsupportedError(f"embound changes no model: its files are in {self._path}")

    save_pretrained = push_to_hub = save

    def __getattr__(self, name: str) -> Any:
        # only for what is not there; the interpreter's own questions get a plain answer
        hint = "" if name.startswith("_") else (
            ": embound is no module of torch; docs/migration.md lists what it has")
        raise AttributeError(f"{type(self).__name__!r} object of embound has no attribute "
                             f"{name!r}{hint}", name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        options = dict(self._options)
        options.update(device=None if self._limits.device is None else str(self._limits.device),
                       truncate_dim=self.truncate_dim, prompts=self.prompts,
                       default_prompt_name=self.default_prompt_name)
        return _reopen, (self._path, options, self._limits.tokens, self._limits.dtype)

    def __repr__(self) -> str:
        if not hasattr(self, "_planned"):
            return "SentenceTransformer(not made)"
        return (f"SentenceTransformer({self.model_name!r}, device={str(self.device)!r}, "
                f"dtype={self._planned['dtype']!r}, max_seq_length={self.max_seq_length}, "
                f"dim={self.get_embedding_dimension()})")


def _reopen(path: str, options: dict[str, Any], tokens: int, dtype: int) -> SentenceTransformer:
    """Unpickles: a model of the same files and limits, not open yet."""
    model = SentenceTransformer(path, **options)
    if tokens:
        model.max_seq_length = tokens
    if dtype != model._limits.dtype:
        model._limits.dtype = dtype
        model._configure()
    return model


def _refuse_unknown(modules: Any, processor: Any, config: Any, backend: str) -> None:
    if modules is not None:
        raise UnsupportedError("modules of torch cannot be run here: save them with "
                               "sentence-transformers, and open the directory")
    if backend not in ("torch", "onnx", "openvino"):
        raise ArgumentError(f"backend {backend!r}: leave it out, embound has kernels of its own")
    for name, options in (("processor_kwargs", processor), ("config_kwargs", config)):
        if options:
            raise UnsupportedError(f"{name}={options!r} mean nothing to embound: set "
                                   "max_seq_length on the model, or change the model's files")


def _check_extra(options: dict[str, Any]) -> None:
    """``task`` is for models with routes, of which embound runs none; others do not exist."""
    unknown = sorted(set(options) - {"task", "processing_kwargs"})
    if unknown:
        raise ArgumentError(f"encode() has no parameter {', '.join(unknown)}")
    if options.get("processing_kwargs"):
        raise UnsupportedError("processing_kwargs mean nothing to embound: set max_seq_length on "
                               "the model")


def _read_inputs(inputs: Any) -> tuple[Any, tuple[Any, Any, Any] | None]:
    """Texts as a list, or as an Arrow column: (sized thing, None or the capsules)."""
    if isinstance(inputs, Sequence) and not isinstance(inputs, (bytes, bytearray)) and not hasattr(
            inputs, "__arrow_c_stream__"):
        return list(inputs), None
    if hasattr(inputs, "__arrow_c_stream__"):
        return inputs, (inputs.__arrow_c_stream__(), None, None)
    if hasattr(inputs, "__arrow_c_array__"):
        schema, array = inputs.__arrow_c_array__()
        return inputs, (None, schema, array)
    if hasattr(inputs, "tolist") and getattr(inputs, "ndim", 1) == 1:
        return inputs.tolist(), None
    if isinstance(inputs, Iterable) and not isinstance(inputs, (dict, bytes, bytearray)) and (
            getattr(inputs, "ndim", 1) == 1):
        return list(inputs), None
    shape = getattr(inputs, "shape", None)
    raise ArgumentError(f"inputs of type {type(inputs).__name__}"
                        f"{'' if shape is None else f' and shape {shape}'}: a str, a list of str, "
                        "or a column of strings is needed")


class _Bar:
    """A progress bar: called by the extension with the number of rows done."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __call__(self, done: int) -> None:
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self._bar.close()


def _progress(wanted: bool | None, total: int) -> _Bar | None:
    if wanted is None:
        logging = sys.modules.get("logging")
        if logging is None or logging.getLogger(__name__).getEffectiveLevel() not in (
                logging.INFO, logging.DEBUG):
            return None
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return _Bar(tqdm(total=total, desc="Batches", unit="text"))


def _warn_of_cut(texts: int, tokens: int, limit: int) -> None:
    """One warning a call, at the first line that is not ours."""
    warnings.warn(
        f"{texts} text{'s' if texts > 1 else ''} longer than {limit} tokens: {tokens} tokens were "
        "left out; SentenceTransformer(..., long='chunk') makes every token count",
        TruncationWarning, stacklevel=outside_level())


def _nothing(convert_to_numpy: bool, convert_to_tensor: bool) -> Any:
    """The result for no texts, as upstream gives it."""
    if convert_to_tensor:
        return _settings.need_torch("tensors").tensor([])
    if convert_to_numpy:
        import numpy

        return numpy.array([])
    return []
