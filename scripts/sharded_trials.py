"""Trials that FSDP or DeepSpeed shards, for `sharded.py` and the tests: a Llama on random rows.

Each rank notes its bytes, steps and pauses in a file. `shard_on_cpus` makes FSDP work without GPUs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper
from ray import tune
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, LlamaConfig, Trainer, TrainingArguments

from scripts.field_trials import Outcome, train_job
from sweeps import SearchSpace
from sweeps.records.checkpoints import is_whole
from sweeps.records.folder import SweepFolder
from sweeps.space.arguments import Devices
from sweeps.workers.isolation.isolated import Isolated
from sweeps.workers.job import Reply

LARGE = {"vocab_size": 32_000, "max_position_embeddings": 512}
SIZES = {
    "tiny": {
        **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
        **{"vocab_size": 256, "max_position_embeddings": 32},
    },
    "100m": {
        **{"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12},
        **LARGE,
    },
    "1b": {
        **{"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22},
        **LARGE,
    },
    "7b": {
        **{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
        **LARGE,
    },
}
ROWS, BATCH, STEPS, REPORTS = 128, 8, 12, 3
RATE = 1e-4
ZERO = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
}
SHARDED: dict[str, dict[str, Any]] = {
    "fsdp": {"fsdp": True},
    "zero2": {"deepspeed": {**ZERO, "zero_optimization": {"stage": 2}}},
    "zero3": {
        "deepspeed": {
            **ZERO,
            "zero_optimization": {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True},
        }
    },
}
"""The arguments of a trial, by what shards it."""


class Measure(transformers.TrainerCallback):
    """Appends a line to a file of each rank at the end of a training."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.ends: list[float] = []
        self.found: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.device.type == "cuda":
            self.found["before"] = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        self.found["begun"] = time.time()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(time.time())

    def on_step_end(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: Any = None,
        optimizer: Any = None,
        **_: Any,
    ) -> None:
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.time())
        own, everything = held(model, optimizer)
        self.found |= {"own_bytes": own, "all_bytes": everything}

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        steps = [end - begin for begin, end in zip(self.ends[::2], self.ends[1::2], strict=False)]
        pauses = [b - e for e, b in zip(self.ends[1::2], self.ends[2::2], strict=False)]
        peak = torch.cuda.max_memory_allocated() if args.device.type == "cuda" else 0
        found = {"step_s": statistics.median(steps), "pauses_s": pauses, "peak": peak}
        found |= {"ended": time.time(), "first_step": self.ends[0], **self.found}
        file = Path(self.folder, f"rank{args.process_index}.jsonl")
        with file.open("a") as lines:
            lines.write(json.dumps(found) + "\n")


def held(model: torch.nn.Module, optimizer: Any) -> tuple[int, int]:
    """Return the bytes that this rank has of what is sharded, and those of all ranks together.

    That is the weights; with ZeRO-2, which shards only gradients and the optimizer, the moments of
    AdamW.
    """
    weights = list(model.parameters())
    if hasattr(weights[0], "ds_tensor"):  # ZeRO-3
        own = sum(one.ds_tensor.nbytes for one in weights)
        return own, sum(one.ds_numel * one.element_size() for one in weights)
    if isinstance(optimizer, DeepSpeedOptimizerWrapper):
        inner = optimizer.optimizer.optimizer  # inside that of DeepSpeed
        own = sum(one.nbytes for state in inner.state.values() for one in state.values())
        return own, sum(2 * torch.float32.itemsize * one.numel() for one in weights)
    local = [one.to_local() if isinstance(one, DTensor) else one for one in weights]
    return sum(one.nbytes for one in local), sum(one.nbytes for one in weights)


@dataclass(frozen=True, kw_only=True)
class Llama:
    """Builds a trainer of a random model on random rows."""

    size: str
    notes: str
    """Folder for the measurements."""

    def model(self, **config: Any) -> torch.nn.Module:
        """Return a new model."""
        size = SIZES[self.size]
        heads = max(2, size["hidden_size"] // 128)
        config = LlamaConfig(**size, num_attention_heads=heads, **config)
        return AutoModelForCausalLM.from_config(config)

    def __call__(self, args: TrainingArguments) -> Trainer:
        size = SIZES[self.size]
        draw = torch.Generator().manual_seed(1)
        shape = (ROWS + BATCH, size["max_position_embeddings"])
        drawn = torch.randint(0, size["vocab_size"], shape, generator=draw)
        rows = [{"input_ids": row, "labels": row} for row in drawn]
        with torch.device(args.device):
            model = self.model()
        return Trainer(
            model,
            args,
            train_dataset=rows[:ROWS],
            eval_dataset=rows[ROWS:],
            callbacks=[Measure(self.notes)],
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a group trains next."""

    name: str
    builder: Llama
    by: str | None
    """What shards it; None: nothing."""
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = STEPS
    killed: bool = False
    """Whether rank 0 is killed at the second report, once the state of the first is complete."""
    checkpoint: str | None = None
    saves: bool = True
    """Whether to save a state at the first report, and its best weights at the end."""


def shard_on_cpus() -> None:
    """Make accelerate shard models on CPUs, too, by taking them for others (1.15)."""
    prepare = PartialState._prepare_backend

    def prepare_as_others(*given: Any) -> tuple[str, DistributedType]:
        backend, kind = prepare(*given)
        return backend, DistributedType.MULTI_XPU if kind == DistributedType.MULTI_CPU else kind

    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    PartialState._prepare_backend = prepare_as_others


def work(run: Run, isolated: Isolated, devices: Devices, folder: SweepFolder) -> Outcome:
    """Train in a process of a group."""
    if run.by == "fsdp" and not devices.gpu:
        shard_on_cpus()
    space = SearchSpace(
        build_trainer=run.builder,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(RATE / 2, RATE)},
        fixed={
            "max_steps": run.steps,
            "total_train_batch_size": BATCH,
            "per_device_eval_batch_size": 1,
            "logging_steps": 1,
            **(SHARDED[run.by] if run.by else {}),
            **run.values,
        },
        evals_per_trial=REPORTS,
    )

    def ask(number: int) -> Reply:
        if run.killed and number == 2:
            deadline = time.monotonic() + 300
            while not states(folder, run.name) and time.monotonic() < deadline:
                time.sleep(0.1)
            if int(os.environ["RANK"]) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        save_best = run.saves and number == REPORTS
        return Reply("continue", save_best=save_best, save_state=run.saves and number == 1)

    return train_job(
        lambda: space,
        ask,
        isolated,
        devices,
        folder,
        trial=run.name,
        rate=RATE,
        checkpoint=run.checkpoint,
    )


def states(folder: SweepFolder, trial: str) -> list[Path]:
    """Return the complete states of a trial."""
    return [p for p in (folder.checkpoints / trial).glob("checkpoint-*") if is_whole(p)]
