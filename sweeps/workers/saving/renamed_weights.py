"""Loads weights that HF skips on a resume, because their saved names are not the model's.

Runs in a worker, on every rank. It must not know about trials.

transformers 5 saves some models with the weight names of their first release (ViT:
`encoder.layer`), and `from_pretrained` renames the weights. A resume does not (5.17 to 5.23): it
loads the weights whose names match the model's, and only warns that others are missing.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, Trainer

from sweeps.errors import SweepError


def load_renamed(trainer: Trainer, state: Path) -> None:
    """Load all weights of a state that is resumed, if HF has not.

    Raises:
        SweepError: The state does not contain all weights of the model.
    """
    model = trainer.model
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if not isinstance(model, PreTrainedModel) or sharded:
        return
    saved = set[str]()
    for file in state.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            saved |= set(weights.keys())
    if saved <= model.state_dict().keys():
        return
    # 32 bits can represent every 16-bit number.
    whole, found = type(model).from_pretrained(
        state, config=model.config, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(found["missing_keys"]):
        raise SweepError(
            f"cannot resume from {state}: it lacks {len(missing)} weights of the model, such as"
            f" {missing[0]}"
        )
    model.load_state_dict(whole.state_dict())
