"""What the package offers; each name is loaded when it is first used.

SPDX-License-Identifier: Apache-2.0
"""
from . import integrations as integrations
from . import losses as losses
from . import quantization as quantization
from . import util as util
from ._core import DeviceRows as DeviceRows
from ._core import Rows as Rows
from ._callbacks import EarlyStoppingCallback as EarlyStoppingCallback
from ._callbacks import TrainerCallback as TrainerCallback
from ._callbacks import TrainerControl as TrainerControl
from ._callbacks import TrainerState as TrainerState
from ._errors import ArgumentError as ArgumentError
from ._errors import BudgetError as BudgetError
from ._errors import DeviceError as DeviceError
from ._errors import DeviceWarning as DeviceWarning
from ._errors import EmboundError as EmboundError
from ._errors import EmboundWarning as EmboundWarning
from ._errors import InputOutputError as InputOutputError
from ._errors import InternalError as InternalError
from ._errors import ModelError as ModelError
from ._errors import ModelNotFoundError as ModelNotFoundError
from ._errors import NotFiniteError as NotFiniteError
from ._errors import OutOfMemoryError as OutOfMemoryError
from ._errors import TextError as TextError
from ._errors import TruncationWarning as TruncationWarning
from ._errors import UnsupportedError as UnsupportedError
from ._frames import encode_column as encode_column
from ._hub import find_model as find_model
from ._hub import pull as pull
from ._model import SentenceTransformer as SentenceTransformer
from ._parquet import encode_parquet as encode_parquet
from ._plan import Plan as Plan
from ._plan import TrainingPlan as TrainingPlan
from ._plan import trace_memory as trace_memory
from ._refused import CrossEncoder as CrossEncoder
from ._refused import MultiVectorEncoder as MultiVectorEncoder
from ._refused import SparseEncoder as SparseEncoder
from ._similarity import SimilarityFunction as SimilarityFunction
from ._train import TrainingResult as TrainingResult
from ._train import train as train
from ._trainer import SentenceTransformerTrainer as SentenceTransformerTrainer
from ._training_arguments import (
    SentenceTransformerTrainingArguments as SentenceTransformerTrainingArguments)
from .quantization import quantize_embeddings as quantize_embeddings

__version__: str
