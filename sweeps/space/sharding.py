"""Sharded trials (FSDP): checks their arguments, and the names of the layers that they wrap.

Runs in the sweep process before Ray starts, and in a worker once it has the model. It must not
import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.naming import nearest
from sweeps.space.search_space import SearchSpace, fixed_values

FSDP, CONFIG = "fsdp", "fsdp_config"
LAYERS = "transformer_layer_cls_to_wrap"
SAVED_AS, COMPLETE = "state_dict_type", "FULL_STATE_DICT"
ONLY_COMPLETE = f"only {COMPLETE}, HF's default, saves a model that can be exported; remove it"
KEYS = frozenset(
    {
        *("activation_checkpointing", "auto_wrap_policy", "backward_prefetch", "cpu_offload"),
        *("cpu_ram_efficient_loading", "forward_prefetch", "limit_all_gathers", "min_num_params"),
        *("reshard_after_forward", SAVED_AS, "sync_module_states", "use_orig_params"),
        *("version", "xla", "xla_fsdp_grad_ckpt", "xla_fsdp_settings", "xla_fsdp_v2", LAYERS),
    }
)
"""The entries of `fsdp_config` that HF reads (5.17 to 5.23); it silently ignores all others."""


def shards(space: SearchSpace) -> bool:
    """Tell whether any trials of the space are sharded."""
    return FSDP in space.tuned or bool(fixed_values(space).get(FSDP))


def sharding_problems(space: SearchSpace, workers: int) -> list[str]:
    """Return what is wrong with the sharding arguments that the space sets.

    Args:
        space: The search space.
        workers: Workers per trial.
    """
    values = fixed_values(space)
    given = space.fixed.get(CONFIG)  # a script may set it without effect
    nested = given.items() if isinstance(given, Mapping) else ()
    entries = {f"{CONFIG}.{name}": value for name, value in nested}
    dotted = [key for key in (*space.tuned, *space.fixed) if key.startswith(f"{CONFIG}.")]
    entries |= {key: space.fixed.get(key) for key in dotted}  # None if tuned
    keys = {key: key.partition(".")[2] for key in entries}
    problems = [
        f"{key}: fsdp_config has no such entry{nearest(name, sorted(KEYS))}"
        for key, name in keys.items()
        if name.removeprefix("fsdp_") not in KEYS
    ]
    if not shards(space):
        if keys or given or CONFIG in space.tuned:
            problems.append(f"{CONFIG} has no effect without fsdp=True; add fsdp=True to fixed")
        return problems
    problems += [
        f"{key}: {ONLY_COMPLETE}"
        for key, name in keys.items()
        if name.removeprefix("fsdp_") == SAVED_AS and not _is_complete(entries[key])
    ]
    if workers == 1:
        problems.append(
            "fsdp shards a model across a trial's workers, but each trial has only one; use"
            " --workers-per-trial 2 or more, or remove fsdp"
        )
    if "deepspeed" in space.tuned or values.get("deepspeed"):
        problems.append("fsdp and deepspeed both shard the model; keep one")
    return problems


def config_problem(config: Any, model: Any) -> str | None:
    """Return why a model cannot be trained with a `fsdp_config`, or not exported; None if it can.

    Args:
        config: The trial's `fsdp_config`.
        model: The model, not yet wrapped.
    """
    if isinstance(config, Mapping) and not _is_complete(config.get(SAVED_AS, COMPLETE)):
        return f"{CONFIG}.{SAVED_AS}: {ONLY_COMPLETE}"
    named = config.get(LAYERS) if isinstance(config, Mapping) else None
    names = [named] if isinstance(named, str) else named or []
    classes = sorted({type(module).__name__ for module in model.modules()})
    missing = [name for name in names if name not in classes]
    if not missing:
        return None
    own = sorted(getattr(model, "_no_split_modules", None) or ())
    instead = f"; without it, HF wraps {', '.join(own)}" if own else nearest(missing[0], classes)
    return (
        f"{CONFIG}.{LAYERS} names {', '.join(missing)}, but {type(model).__name__} has no such"
        f" layer{instead}"
    )


def _is_complete(kind: Any) -> bool:
    return isinstance(kind, str) and kind.upper() == COMPLETE
