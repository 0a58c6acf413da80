"""Gives the models of all jobs the same autocast context, so that jobs share compiled code.

Runs in a worker. It must not know what a job trains.

In 16-bit precision, accelerate runs a model's forward in a `torch.autocast` that it creates for
each model (1.15). PyTorch drops compiled code along with this object (2.11 to 2.13), so each job
would compile again.
"""

from __future__ import annotations

import torch
from accelerate.utils import get_mixed_precision_context_manager
from accelerate.utils.operations import ConvertOutputsToFp32
from transformers import Trainer

_shared: dict[tuple[str, ...], torch.autocast] = {}
"""One for each device and precision."""


def share_autocast(trainer: Trainer) -> None:
    """Make the forward of a trainer's model, once it is prepared, run in the shared context."""
    accelerator = trainer.accelerator
    forward = getattr(trainer.model.forward, "__wrapped__", None)
    own = get_mixed_precision_context_manager(accelerator.native_amp, accelerator.autocast_handler)
    if not isinstance(forward, ConvertOutputsToFp32) or not isinstance(own, torch.autocast):
        return
    handler = accelerator.autocast_handler
    options = repr(handler.to_kwargs() if handler else {})
    shared = _shared.setdefault((own.device, accelerator.mixed_precision, options), own)
    forward.model_forward = shared(forward.model_forward.__wrapped__)
