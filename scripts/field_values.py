"""Values of every `TrainingArguments` field that a space may set, for `fields.py`.

If a new version of transformers adds a field that is in neither table, `tests/test_fields.py`
fails.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from transformers import SchedulerType, TrainingArguments
from transformers.training_args import OptimizerNames

from sweeps.space.needed_packages import needs as needs_of
from sweeps.space.search_space import OWNED


@dataclass(frozen=True, kw_only=True)
class Case:
    """A value of a field."""

    field: str
    """Name of the field, or of a keyword of the builder in `field_trials.py`."""
    value: Any
    also: Mapping[str, Any] = field(default_factory=dict)
    """Further values without which it has no effect."""
    needs: str | None = None
    """The package that it needs."""
    gpu: bool = False
    """Whether it needs a GPU."""
    workers: int = 1
    """The fewest workers that it needs."""
    slow: bool = False
    """Whether it compiles or starts processes for so long that it is only tried with GPUs."""

    @property
    def name(self) -> str:
        """The value as text, with the values that it requires."""
        with_it = ", ".join(f"{key}={value!r}" for key, value in self.also.items())
        return f"{self.field}={self.value!r}" + (f" ({with_it})" if with_it else "")

    @property
    def values(self) -> dict[str, Any]:
        """All values of the case."""
        return {**self.also, self.field: self.value}

    def lacks(self, *, gpu: bool, workers: int) -> str | None:
        """Return what the case needs that is not available; None if nothing is missing."""
        if self.needs and importlib.util.find_spec(self.needs) is None:
            return self.needs
        if (self.gpu or self.slow) and not gpu:
            return "a GPU, as it takes minutes on a CPU" if self.slow else "a GPU"
        return f"{self.workers} workers" if workers < self.workers else None


NOT_RUN = {
    "parallelism_config": "an object, which no text of a space can give",
    "deepspeed": "tested by `python -m scripts.sharded`, if it is installed",
}
"""Fields without a value, and why."""

_LOADERS = {"dataloader_num_workers": 2}
_LIGER: dict[str, Any] = {"needs": "liger_kernel", "gpu": True, "also": {"kind": "causal"}}

_VALUES: dict[str, list[Any]] = {
    "per_device_train_batch_size": [8],
    "num_train_epochs": [2.5],
    "max_steps": [10],
    "learning_rate": [1e-3],
    "warmup_steps": [3, 0.2],
    "optim_args": ["rank=2"],
    "weight_decay": [0.1],
    "adam_beta1": [0.8],
    "adam_beta2": [0.99],
    "adam_epsilon": [1e-6],
    "gradient_accumulation_steps": [2, 3],
    "average_tokens_across_devices": [False],
    "max_grad_norm": [0.1, 0.0],
    "label_smoothing_factor": [0.1],
    "bf16": [True],
    "fp16": [True],
    "bf16_full_eval": [True],
    "fp16_full_eval": [True],
    "tf32": [True, False],
    "activation_checkpointing": [True],
    "gradient_checkpointing": [True],
    "use_cache": [True],
    "neftune_noise_alpha": [5.0],
    "torch_empty_cache_steps": [2],
    "auto_find_batch_size": [True],
    "logging_strategy": ["epoch", "no"],
    "logging_steps": [5, 0.3],
    "logging_first_step": [True],
    "log_on_each_node": [False],
    "include_num_input_tokens_seen": ["all", "non_padding"],
    "log_level": ["info"],
    "log_level_replica": ["error"],
    "run_name": ["name"],
    "project": ["name"],
    "trackio_space_id": ["owner/name"],
    "trackio_bucket_id": ["owner/name"],
    "trackio_static_space_id": ["owner/name"],
    "per_device_eval_batch_size": [4],
    "prediction_loss_only": [True],
    "eval_use_gather_object": [True],
    "eval_accumulation_steps": [1],
    "include_for_metrics": [["inputs", "loss"]],
    "hub_private_repo": [True],
    "hub_model_id": ["owner/name"],
    "hub_strategy": ["end"],
    "hub_always_push": [True],
    "hub_revision": ["main"],
    "restore_callback_states_from_checkpoint": [True],
    "full_determinism": [True],
    "seed": [7],
    "data_seed": [3],
    "accelerator_config": [
        {"use_seedable_sampler": False},
        {"split_batches": True},
        {"dispatch_batches": True},
        {"even_batches": False},
    ],
    "dataloader_drop_last": [True],
    "dataloader_num_workers": [2],
    "dataloader_pin_memory": [False],
    "remove_unused_columns": [False],
    "label_names": [["labels"]],
    "ddp_find_unused_parameters": [True],
    "ddp_bucket_cap_mb": [1],
    "ddp_broadcast_buffers": [False],
    "ddp_static_graph": [True],
    "ddp_timeout": [600],
    "debug": ["underflow_overflow"],
    "skip_memory_metrics": [False],
    "do_eval": [True],
    "do_predict": [True],
}
"""Values that require nothing else."""

_CASES = [
    *(
        Case(field="lr_scheduler_type", value=kind.value, also=also)
        for kind in SchedulerType
        for also in (
            {
                "cosine_with_restarts": {"lr_scheduler_kwargs": {"num_cycles": 2}},
                "constant_with_warmup": {"warmup_steps": 3},
                "cosine_with_min_lr": {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
                "cosine_warmup_with_min_lr": {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
                "warmup_stable_decay": {"lr_scheduler_kwargs": {"num_decay_steps": 6}},
            }.get(kind.value, {}),
        )
        if kind.value != "linear"
    ),
    Case(
        field="lr_scheduler_kwargs", value={"power": 2.0}, also={"lr_scheduler_type": "polynomial"}
    ),
    *(
        Case(field="optim", value=kind.value, needs=needs, gpu=needs == "bitsandbytes")
        for kind in OptimizerNames
        for needs in (next(iter(needs_of("optim", kind)), None),)
        if kind.value != "adamw_torch_fused"
    ),
    Case(
        field="optim_target_modules",
        value=["attn"],
        needs="galore_torch",
        also={"optim": "galore_adamw"},
    ),
    *(
        Case(
            field=f"{name}_checkpointing_kwargs",
            value={"use_reentrant": False},
            also={f"{name}_checkpointing": True},
        )
        for name in ("activation", "gradient")
    ),
    Case(field="torch_compile", value=True, slow=True),
    *(Case(field="torch_compile_backend", value=name) for name in ("eager", "aot_eager")),
    *(
        Case(field="torch_compile_mode", value=name, slow=True)
        for name in ("default", "reduce-overhead", "max-autotune")
    ),
    Case(field="use_liger_kernel", value=True, **_LIGER),
    Case(
        field="liger_kernel_config",
        value={"rope": False},
        **(_LIGER | {"also": {"kind": "causal", "use_liger_kernel": True}}),
    ),
    *(
        Case(field=name, value=value, also={"kind": "causal"})
        for name, value in (("eval_do_concat_batches", False), ("batch_eval_metrics", True))
    ),
    *(
        Case(field="train_sampling_strategy", value=kind)
        for item in fields(TrainingArguments)
        if item.name == "train_sampling_strategy"
        for kind in item.metadata["choices"]
        if kind != item.default
    ),
    Case(
        field="length_column_name",
        value="tokens",
        also={"train_sampling_strategy": "group_by_length"},
    ),
    *(
        Case(field=name, value=value, also=_LOADERS, slow=value == "spawn")
        for name, value in (
            ("dataloader_persistent_workers", True),
            ("dataloader_prefetch_factor", 4),
            ("dataloader_multiprocessing_context", "spawn"),
            ("dataloader_in_order", False),
        )
    ),
    Case(field="fsdp", value=True, gpu=True, workers=2),
    Case(
        field="fsdp_config",
        value={"activation_checkpointing": True},
        also={"fsdp": True},
        gpu=True,
        workers=2,
    ),
    *(
        Case(field="drawn", value=where, also=also)
        for where in ("in the collator", "in the rows")
        for also in ({}, _LOADERS, {**_LOADERS, "dataloader_persistent_workers": True})
    ),
    *(
        Case(
            field="attention", value=name, needs=needs, gpu=name != "sdpa", also={"kind": "causal"}
        )
        for name, needs in (("eager", None), ("sdpa", None), ("flash_attention_2", "flash_attn"))
    ),
]


def free_fields() -> list[str]:
    """Return the fields of `TrainingArguments` that a space may set."""
    return [item.name for item in fields(TrainingArguments) if item.init and item.name not in OWNED]


def cases() -> Iterator[Case]:
    """Yield every value, in the order of the fields; those of the builder's keywords last."""
    own = [Case(field=name, value=value) for name, values in _VALUES.items() for value in values]
    order = {name: place for place, name in enumerate(free_fields())}
    old = {case.field for case in (*own, *_CASES)} - order.keys() - {"drawn", "attention"}
    yield from sorted(
        (case for case in (*own, *_CASES) if case.field not in old),
        key=lambda case: order.get(case.field, len(order)),
    )
