"""The arguments of sentence-transformers' training that mean nothing here: each with its default,
which is taken, and with what to do instead, which is said of any other value.

SPDX-License-Identifier: Apache-2.0
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BATCH = ("state the whole batch as per_device_train_batch_size: it is cut into tiles that fit the "
          "memory, whatever its size")
_PLAN = "the plan keeps what the memory allows and computes the rest again; state memory= to cap it"
_CPU = "leave it out: training computes on the CPU"
_F32 = "products are in f32, or with bf16=True in bf16; all else is f32"
_ONE = "leave it out: one process trains"
_TORCH = "leave it out: there is no torch here"
_LOADER = "leave it out: examples are in memory, there is no loader"
_HUB = "nothing is uploaded: upload output_dir when it is done"
_EVAL = "leave it out: evaluation gives losses and the evaluators' metrics"
_REPORT = "leave it out: it is of another reporter than tensorboard"
_ROUTES = "leave it out: the models here have no routes"

# name: default, remedy
FOREIGN: Mapping[str, tuple[Any, str]] = {
    "lr_scheduler_kwargs": (None, "the schedules here have no further settings"),
    "optim_args": (None, "leave it out: AdamW's settings have arguments of their own"),
    "optim_target_modules": (None, "leave it out: all parameters are trained"),
    "learning_rate_mapping": (None, "leave it out: one learning rate is for all parameters"),
    "auto_find_batch_size": (False, _BATCH),
    "average_tokens_across_devices": (True, _ONE),
    "label_smoothing_factor": (0.0, "leave it out: the losses here have no smoothing"),
    "fp16": (False, _F32), "fp16_full_eval": (False, _F32), "bf16_full_eval": (False, _F32),
    "tf32": (None, _F32),
    "activation_checkpointing": (None, _PLAN), "activation_checkpointing_kwargs": (None, _PLAN),
    "gradient_checkpointing": (None, _PLAN), "gradient_checkpointing_kwargs": (None, _PLAN),
    "torch_compile": (False, _TORCH), "torch_compile_backend": (None, _TORCH),
    "torch_compile_mode": (None, _TORCH), "torch_empty_cache_steps": (None, _TORCH),
    "use_liger_kernel": (False, _TORCH), "liger_kernel_config": (None, _TORCH),
    "use_cache": (False, _TORCH), "jit_mode_eval": (False, _TORCH),
    "neftune_noise_alpha": (None, "leave it out: no noise is added to embeddings"),
    "log_on_each_node": (True, _ONE), "save_on_each_node": (False, _ONE),
    "logging_nan_inf_filter": (True, "a loss that is not finite ends the training"),
    "include_num_input_tokens_seen": ("no", "log.jsonl has the tokens of every step"),
    "log_level": ("passive", "set the level of logging.getLogger('embound')"),
    "log_level_replica": ("warning", _ONE),
    "project": ("huggingface", _REPORT), "trackio_space_id": (None, _REPORT),
    "trackio_bucket_id": (None, _REPORT), "trackio_static_space_id": (None, _REPORT),
    "prediction_loss_only": (False, _EVAL), "eval_do_concat_batches": (True, _EVAL),
    "eval_use_gather_object": (False, _EVAL), "eval_accumulation_steps": (None, _EVAL),
    "include_for_metrics": ((), _EVAL), "batch_eval_metrics": (False, _EVAL),
    "label_names": (None, "name the label's column label, labels, score or scores"),
    "enable_jit_checkpoint": (False, "Ctrl-C stores a checkpoint; a signal that kills does not"),
    "push_to_hub": (False, _HUB), "hub_token": (None, _HUB), "hub_private_repo": (None, _HUB),
    "hub_model_id": (None, _HUB), "hub_strategy": ("every_save", _HUB),
    "hub_always_push": (False, _HUB), "hub_revision": (None, _HUB),
    "ignore_data_skip": (False, "leave it out: batches passed by cost no time"),
    "accelerator_config": (None, _ONE), "parallelism_config": (None, _ONE),
    "local_rank": (-1, _ONE), "fsdp": (None, _ONE), "fsdp_config": (None, _ONE),
    "deepspeed": (None, f"{_ONE}; memory= bounds what it takes"),
    "ddp_find_unused_parameters": (None, _ONE), "ddp_bucket_cap_mb": (None, _ONE),
    "ddp_broadcast_buffers": (None, _ONE), "ddp_static_graph": (None, _ONE),
    "ddp_backend": (None, _ONE), "ddp_timeout": (1800, _ONE),
    "dataloader_num_workers": (0, _LOADER), "dataloader_pin_memory": (True, _LOADER),
    "dataloader_persistent_workers": (False, _LOADER),
    "dataloader_prefetch_factor": (None, _LOADER),
    "dataloader_multiprocessing_context": (None, _LOADER), "dataloader_in_order": (True, _LOADER),
    "remove_unused_columns": (True, "all columns are texts or a label; remove the others yourself"),
    "length_column_name": ("length", "leave it out: tiles are sorted by length by themselves"),
    "debug": ("", _TORCH),
    "skip_memory_metrics": (True, "log.jsonl has the bytes of every step"),
    "do_train": (False, "call train()"),
    "do_eval": (False, "call evaluate(), or set eval_strategy"),
    "do_predict": (False, "call model.encode()"),
    "resume_from_checkpoint": (None, "give it to train(resume_from_checkpoint=...)"),
    "multi_dataset_batch_sampler": ("proportional", "join the data sets: one is trained on"),
    "router_mapping": (None, _ROUTES),
    "no_cuda": (False, _CPU), "use_ipex": (False, _CPU), "use_mps_device": (False, _CPU),
}


def is_default(name: str, value: Any) -> bool:
    """Whether a foreign argument says nothing new: its default, or another way to say none."""
    default = FOREIGN[name][0]
    value = getattr(value, "value", value)  # of an enumeration
    if default in (None, (), ""):
        return value is None or value in (False, "") or value in ([], (), {})
    return bool(value == default)
