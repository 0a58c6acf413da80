"""Names that an argument had before transformers 5 or trl 1, and what stands for them now.

Pure; used where a key is unknown. It must not know which names the installed class has.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeps.space.search_space import OWNED, nearest

DROPPED = {
    "warmup_ratio": "warmup_steps takes a share of all steps below 1",
    "evaluation_strategy": OWNED["eval_strategy"],
    "per_gpu_train_batch_size": "use per_device_train_batch_size, or total_train_batch_size",
    "per_gpu_eval_batch_size": "use per_device_eval_batch_size",
    "group_by_length": "use train_sampling_strategy = 'group_by_length'",
    "adafactor": "use optim = 'adafactor'",
    "logging_dir": OWNED["report_to"],
    "overwrite_output_dir": OWNED["output_dir"],
    "no_cuda": OWNED["use_cpu"],
    "use_mps_device": OWNED["use_cpu"],
    "xpu_backend": OWNED["ddp_backend"],
    "half_precision_backend": "use bf16 or fp16",
    "fp16_backend": "use bf16 or fp16",
    "fp16_opt_level": "use bf16 or fp16",
    "include_inputs_for_metrics": "use include_for_metrics = ['inputs']",
    "include_tokens_per_second": "use include_num_input_tokens_seen",
    "split_batches": "use accelerator_config.split_batches",
    "dispatch_batches": "use accelerator_config.dispatch_batches",
    "torchdynamo": "use torch_compile_backend",
    "fsdp_min_num_params": "use fsdp_config.min_num_params",
    "fsdp_transformer_layer_cls_to_wrap": "use fsdp_config.transformer_layer_cls_to_wrap",
    "save_safetensors": "checkpoints are always safetensors; remove it",
    "push_to_hub_model_id": OWNED["push_to_hub"],
    "push_to_hub_token": OWNED["push_to_hub"],
    "max_seq_length": "use max_length",
}
"""Old name to what to write now."""


def unknown(key: str, valid: Sequence[str]) -> str:
    """Return what is said of a key that is none of the valid ones."""
    if key in DROPPED:
        return f"no such argument any more; {DROPPED[key]}"
    return f"no such TrainingArguments field or builder keyword{nearest(key, valid)}"
