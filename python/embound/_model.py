"""SentenceTransformer: the interface of sentence-transformers over an engine of fixed memory.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

import copy
import functools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NoReturn, overload

from . import _core, _results, _settings
from ._checkpoints import copy_model
from ._engine import EngineModel
from ._errors import ArgumentError, UnsupportedError
from ._hub import resolve_model
from ._options import check_extra, refuse_unknown, renamed, without_options_for_others
from ._plan import Plan, register
from ._similarity import SimilarityFunction, check_name

_PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary", None)
_TENSOR_BYTES = 640  # of a tensor that is a row of another
_OUTPUTS = ("sentence_embedding", "token_embeddings", None)

# What a copy creates anew; it takes over all else, including attributes that the user has set.
_MADE_ANEW = frozenset(("_path", "_limits", "_asarray", "_core", "_opens", "_info", "_dim",
                        "_planned", "_trainer"))

_OUR_WAY = {
    "tokenizer": "model.tokenize(texts) gives token ids, long='chunk' encodes texts of any length",
    "forward": "model.encode(texts)",
    "gradient_checkpointing_enable": "nothing is kept for gradients; memory= bounds the process",
    **dict.fromkeys(
        ("parameters", "named_parameters", "modules", "named_modules", "children",
         "named_children", "apply", "state_dict"),
        "weights in fewer bits are SentenceTransformer(..., dtype='int8'), 'int4' or 'bf16'")}


class SentenceTransformer(EngineModel):
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
        memory: bytes, or ``"300MiB"``: what the whole process may hold, this interpreter, its
            libraries and vectors that are alive included. None: as much as full speed needs.
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

    __module__ = "embound.sentence_transformers"  # which says why
    SUPPORTED_SIMILARITY_FN_NAMES: ClassVar[tuple[str, ...]] = (
        "cosine", "dot", "euclidean", "manhattan")

    @without_options_for_others
    @renamed(tokenizer_kwargs="processor_kwargs")
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
        refuse_unknown(modules, processor_kwargs, backend)
        if model_name_or_path is None:
            raise ArgumentError("a model's directory or name is needed: "
                                "SentenceTransformer('all-MiniLM-L6-v2')")
        if use_auth_token is not None and token is not None:
            raise ArgumentError("state token alone, not use_auth_token too")
        self.model_name = _settings.check_name(model_name_or_path)
        # absolute: a later chdir must not lose files that are opened when they are needed
        path = os.path.abspath(resolve_model(
            self.model_name, cache_folder=cache_folder, revision=revision,
            local_files_only=local_files_only,
            token=token if token is not None else use_auth_token))
        limits = _settings.Limits(
            device=device, memory=memory, gpu_memory=gpu_memory, dtype=dtype,
            torch_dtype=_settings.dtype_of_options(model_kwargs, config_kwargs), long=long,
            threads=threads, caller_memory=caller_memory)
        saved = _settings.read_model_options(path)
        self.prompts = _settings.merge_prompts(prompts, saved)
        self.default_prompt_name = default_prompt_name or saved.get("default_prompt_name")
        if self.default_prompt_name and self.default_prompt_name not in self.prompts:
            raise ArgumentError(f"default_prompt_name {self.default_prompt_name!r} is none of the "
                                f"prompts {sorted(self.prompts)}")
        self._similarity_name: str | None = None
        self.similarity_fn_name = similarity_fn_name or saved.get("similarity_fn_name") or None
        self.truncate_dim = _settings.check_dim(
            truncate_dim if truncate_dim is not None else saved.get("truncate_dim"))
        self.model_card_data = model_card_data or _settings.CardData(path)
        self._attach(path, limits)
        register(self)

    # ---- encoding ------------------------------------------------------------------------------

    @renamed(sentences="inputs")
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
                strings or categories (pyarrow, polars), which is read without copies.
            prompt_name, prompt: a text put before each input, by name or as it is.
            batch_size: an upper bound that the plan need not reach; the plan sets the batches.
            show_progress_bar: needs tqdm; None: only if logging is at INFO or DEBUG.
            output_value: ``"sentence_embedding"``, ``"token_embeddings"`` (one tensor per text,
                [tokens, dim]) or None (one dict per text); the latter two on a CPU.
            precision: ``"float32"``, or int8, uint8 (whose ranges are those of this very call),
                binary, ubinary.
            convert_to_numpy, convert_to_tensor: the result's kind; the latter wins.
            device: to move to. A list of GPUs makes one engine share the work among them; a list
                of ``"cpu"``, however long, is the CPU: one engine uses all its cores.
            normalize_embeddings: vectors of length one, after ``truncate_dim``.
            pool: see start_multi_process_pool. chunk_size: of no effect, there are no processes.

        Returns: numpy float32 [n, dim], or [dim] for one str, over memory that the engine filled
        (never copied); or tensors if asked for: of a model on a GPU there, in memory that counts
        in ``gpu_memory`` (see encode_rows). Other precisions than float32 are made on the host.

        Raises ValueError for parameters, TextError for a text that cannot be encoded, BudgetError
        before the work if the vectors, n * dim * 4 bytes, have no room in ``memory``, or the engine
        no longer fits beside what the process has grown to.
        KeyboardInterrupt stops the work within one batch; the engine opens anew at the next call.
        """
        _settings.check_count(batch_size, "batch_size")
        if chunk_size is not None:
            _settings.check_count(chunk_size, "chunk_size")
        if precision not in _PRECISIONS:
            raise ArgumentError(f"precision {precision!r}: state one of {_PRECISIONS[:-1]}")
        if output_value not in _OUTPUTS:
            raise ArgumentError(f"output_value {output_value!r}: state 'sentence_embedding', "
                                "'token_embeddings' or None")
        if kwargs:
            check_extra(kwargs)
        prompt = self._prompt_of(prompt_name, prompt)
        if pool is not None:
            from . import _pool

            device = _pool.device_of(pool)
        elif isinstance(device, (list, tuple)):
            device = _settings.join_devices(device)
        tensors = convert_to_tensor or not convert_to_numpy
        if device is not None:
            self._move(device)
        if output_value != "sentence_embedding":
            from . import _tokens

            return _tokens.encode(self, inputs, prompt, output_value, truncate_dim)
        plain = precision in ("float32", None)
        if tensors and plain and self._planned["device"] == "cuda":
            return _results.tensors_on_gpu(self, inputs, prompt, truncate_dim,
                                           normalize_embeddings, show_progress_bar,
                                           convert_to_tensor)
        listed = tensors and not convert_to_tensor
        rows = self._rows(inputs, prompt, truncate_dim, normalize_embeddings, show_progress_bar,
                          beside=(0 if plain else self._dim) + listed * _TENSOR_BYTES)
        if plain and not tensors and len(rows):
            return self._asarray(rows)
        return _results.finish(self, inputs, self._asarray(rows), precision, convert_to_numpy,
                               convert_to_tensor)

    @renamed(sentences="inputs")
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
        return self.encode(
            inputs=inputs, prompt_name=prompt_name, prompt=prompt, batch_size=batch_size,
            show_progress_bar=show_progress_bar, output_value=output_value, precision=precision,
            convert_to_numpy=convert_to_numpy, convert_to_tensor=convert_to_tensor, device=device,
            normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, pool=pool,
            chunk_size=chunk_size, task="query", **kwargs)

    @renamed(sentences="inputs")
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
        return self.encode(
            inputs=inputs, prompt_name=prompt_name, prompt=prompt, batch_size=batch_size,
            show_progress_bar=show_progress_bar, output_value=output_value, precision=precision,
            convert_to_numpy=convert_to_numpy, convert_to_tensor=convert_to_tensor, device=device,
            normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, pool=pool,
            chunk_size=chunk_size, task="document", **kwargs)

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

        return _stream.encode_async(self, inputs, functools.partial(self.encode, **options))

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

    def to(self, device: Any = None, dtype: Any = None, non_blocking: bool = False,
           memory_format: Any = None) -> SentenceTransformer:
        """Moves to another device, or to another dtype, or to those of a tensor: the engine opens
        there at the next use. The last two parameters are torch's, and change nothing."""
        if hasattr(device, "device") and hasattr(device, "dtype"):
            device, dtype = device.device, device.dtype
        elif "torch" in sys.modules and isinstance(device, sys.modules["torch"].dtype):
            device, dtype = None, device
        if device is not None:
            self._move(device)
        if dtype is not None:
            number, half = _settings.torch_dtypes(dtype)
            self._change(dtype=number, half=half)
        return self

    def cpu(self) -> SentenceTransformer:
        """Moves to the CPU."""
        return self.to("cpu")

    def cuda(self, device: int | str | None = None) -> SentenceTransformer:
        """Moves to a GPU."""
        return self.to("cuda" if device is None else device)

    def half(self) -> SentenceTransformer:
        """Computes in f16 on a GPU; on a CPU in bf16, with a warning that says so."""
        return self.to(dtype="f16")

    def bfloat16(self) -> SentenceTransformer:
        """Computes in bf16."""
        return self.to(dtype="bf16")

    def float(self) -> SentenceTransformer:
        """Computes in f32."""
        return self.to(dtype="f32")

    def eval(self) -> SentenceTransformer:
        """Does nothing: only a trainer trains."""
        return self

    def train(self, mode: bool = True) -> SentenceTransformer:
        """``train(False)`` is eval; training is refused, see fit."""
        return self.fit() if mode else self

    def requires_grad_(self, requires_grad: bool = True) -> SentenceTransformer:
        """``requires_grad_(False)`` does nothing; gradients are refused, see fit."""
        return self.fit() if requires_grad else self

    def open(self) -> SentenceTransformer:
        """Takes the engine's memory and loads the weights now, not at the first use."""
        self._core.open()
        self._plan_now()
        return self

    def close(self) -> None:
        """Gives the engine's memory back; the next use opens it again."""
        self._core.close()

    def __enter__(self) -> SentenceTransformer:
        return self.open()

    def __exit__(self, *unused: Any) -> None:
        self.close()

    def plan(self) -> Plan:
        """The plan: of the open engine, else made now for this process as it is."""
        return Plan(self._plan_now())

    def memory_report(self) -> dict[str, Any]:
        """Planned bytes beside observed ones (``host_bytes_planned``, ``_now`` and ``_peak``, of
        the whole process), ``device_rows_bytes`` (of rows on the GPU that are still alive), and
        counters since the engine opened: texts, tokens, tokens_dropped, seconds, ... As they are
        now, also while another thread encodes."""
        return dict(self._core.stats())

    def evaluate(self, evaluator: Callable[..., Any], output_path: str | None = None) -> Any:
        """What an evaluator of sentence-transformers says of this model; it may write into the
        directory ``output_path``, which is made."""
        if output_path is not None:
            os.makedirs(output_path, exist_ok=True)
        return evaluator(self, output_path)

    # ---- several devices -----------------------------------------------------------------------

    def start_multi_process_pool(self, target_devices: list[str] | None = None) -> dict[str, Any]:
        """For ``encode(pool=...)``: moves the model to the devices, which one engine uses together
        inside one budget; no process is started. None: every GPU for a model on a GPU, else the
        CPU. Any number of threads may use a pool."""
        from . import _pool

        return _pool.start(self, target_devices)

    @staticmethod
    def stop_multi_process_pool(pool: dict[str, Any]) -> None:
        """Ends the use of a pool; the model stays as it is."""
        from . import _pool

        _pool.stop(pool)

    # ---- files ---------------------------------------------------------------------------------

    def save_pretrained(self, path: str, *arguments: Any, **options: Any) -> None:
        """Copies the model's files into a directory, which is made: after a training the trained
        ones. What was set on this object is not in them."""
        if not os.path.isdir(self._path):
            raise UnsupportedError(f"the model is the file {self._path}: copy it yourself")
        if os.path.realpath(path) != os.path.realpath(self._path):
            copy_model(self._path, path)

    save = save_pretrained

    # ---- what is refused -----------------------------------------------------------------------

    @staticmethod
    def load(input_path: str) -> SentenceTransformer:
        """The older name of the constructor."""
        return SentenceTransformer(input_path)

    def fit(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refused: ``embound.train`` and ``embound.SentenceTransformerTrainer`` train."""
        raise UnsupportedError("the model does not train itself: use embound.train(model, dataset, "
                               "...) or embound.SentenceTransformerTrainer")

    def push_to_hub(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refused: nothing is uploaded."""
        raise UnsupportedError(f"embound uploads nothing: the model's files are in {self._path}")

    def __getattr__(self, name: str) -> Any:
        # only for what is not there; the interpreter's own questions get a plain answer
        hint = "" if name.startswith("_") else (
            ": embound is no module of torch; "
            + _OUR_WAY.get(name, "docs/migration.md lists what it has"))
        raise AttributeError(f"{type(self).__name__!r} object of embound has no attribute "
                             f"{name!r}{hint}", name=name, obj=self)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}
        state["prompts"] = dict(self.prompts)
        return _reopen, (type(self), self._path, self._limits), state

    def __repr__(self) -> str:
        if not hasattr(self, "_planned"):
            return "SentenceTransformer(not made)"
        return (f"SentenceTransformer({self.model_name!r}, device={str(self.device)!r}, "
                f"dtype={self._planned['dtype']!r}, max_seq_length={self.max_seq_length}, "
                f"dim={self.get_embedding_dimension()})")


def _reopen(kind: type[SentenceTransformer], path: str,
            limits: _settings.Limits) -> SentenceTransformer:
    """A copy: of the same class, files and limits, not open yet; its other state follows."""
    model = kind.__new__(kind)
    model._attach(path, copy.copy(limits))
    register(model)
    return model
