"""Running out of memory: how to recognise it, and what would need less memory.

Runs in a worker. It must not know what happens next.
"""

from __future__ import annotations

import torch
from transformers import Trainer

from sweeps.amounts import size
from sweeps.workers.messages import Memory

_OF_DEVICE = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_OF_HOST = "can't allocate memory"
"""Messages of PyTorch's plain RuntimeError when memory ran out (2.13)."""


def exhausted_memory(error: BaseException) -> Memory | None:
    """Return whose memory ran out; None if this is another error."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _OF_DEVICE):
        return "device"
    return "host" if isinstance(error, MemoryError) or _OF_HOST in text else None


def what_takes_less(trainer: Trainer) -> str:
    """Return advice on sharding, recomputing or splitting a trial to use less memory."""
    args = trainer.args
    weights = list(trainer.model.parameters())  # each one in full, even if sharded
    trained = [one for one in weights if one.requires_grad]
    optimizer = str(getattr(args.optim, "value", args.optim))
    adam = "adam" in optimizer and "bit" not in optimizer
    gpu = args.device.type == "cuda"
    sharded = gpu and bool(args.fsdp)
    taken = _bytes(weights) + _bytes(trained) * (3 if adam else 1)
    return advice(
        taken=taken,
        what="weights, gradients and Adam's moments" if adam else "weights and gradients",
        workers=args.world_size,
        gpu=gpu,
        sharded=sharded,
        recomputes=bool(args.gradient_checkpointing)
        or bool(sharded and args.fsdp_config.get("activation_checkpointing")),
        rows=args.per_device_train_batch_size,
    )


def advice(
    *,
    taken: int,
    what: str,
    workers: int,
    gpu: bool,
    sharded: bool,
    recomputes: bool,
    rows: int,
) -> str:
    """Return the advice in one line.

    Args:
        taken: Bytes of what is sharded, over all workers.
        what: The name of what is sharded.
        workers: Number of workers of the trial.
        gpu: Whether they have GPUs; on CPUs nothing is sharded.
        sharded: Whether the trial is sharded.
        recomputes: Whether activations are recomputed.
        rows: Number of rows on a device at once.
    """
    each = taken / workers if sharded else taken
    text = f"{what} take {size(each)} on each worker"
    if gpu:
        more = 2 * workers if sharded or workers == 1 else workers
        text += f", and {size(taken / more)} with"
        text += "" if sharded else " fsdp=True in fixed"
        text += " and" if not sharded and more != workers else ""
        text += f" --workers-per-trial {more}" if more != workers else ""
    less = []
    if not recomputes:
        key = "fsdp_config.activation_checkpointing" if sharded else "gradient_checkpointing"
        less.append(f"{key}=True")
    if rows > 1:
        less.append(f"max_rows_per_device={rows // 2}, with the same total_train_batch_size")
    return text + (f"; activations use less memory with {' or '.join(less)}" if less else "")


def _bytes(weights: list[torch.nn.Parameter]) -> int:
    return sum(one.numel() * one.element_size() for one in weights)
