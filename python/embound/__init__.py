"""embound: sentence embeddings inside a stated memory budget.

    from embound import SentenceTransformer

    model = SentenceTransformer("all-MiniLM-L6-v2", memory="300MiB")
    vectors = model.encode(["one text", "another"])   # numpy, float32, [2, 384]
    print(model.plan())                                # every byte, before any work

Names, parameters and results are those of sentence-transformers; ``memory=`` (host, the whole
process), ``gpu_memory=``, ``dtype=`` and ``long=`` are added. Importing this package imports
neither numpy nor torch.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "SentenceTransformer": "_model",
    "CrossEncoder": "_refused",
    "SparseEncoder": "_refused",
    "MultiVectorEncoder": "_refused",
    "quantize_embeddings": "quantization",
    "SimilarityFunction": "_similarity",
    "Plan": "_plan",
    "trace_memory": "_plan",
    "encode_parquet": "_parquet",
    "encode_column": "_frames",
    "find_model": "_hub",
    "pull": "_hub",
    "train": "_train",
    "TrainingResult": "_train",
    "SentenceTransformerTrainer": "_trainer",
    "SentenceTransformerTrainingArguments": "_training_arguments",
    **dict.fromkeys((
        "EarlyStoppingCallback", "TrainerCallback", "TrainerControl", "TrainerState"),
        "_callbacks"),
    "TrainingPlan": "_plan",
    "Rows": "_core",
    "DeviceRows": "_core",
    **dict.fromkeys((
        "ArgumentError", "BudgetError", "DeviceError", "DeviceWarning", "EmboundError",
        "EmboundWarning", "InternalError", "InputOutputError", "ModelError", "ModelNotFoundError",
        "NotFiniteError", "OutOfMemoryError", "TextError", "TruncationWarning",
        "UnsupportedError"), "_errors"),
}
_MODULES = ("util", "losses", "quantization", "integrations")

__all__ = ["__version__", *_PLACES, *_MODULES]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _PLACES:
        value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
