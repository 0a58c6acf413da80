"""Sharded trials (FSDP, DeepSpeed): checks their arguments, and the layers that FSDP wraps.

Runs in the sweep process before Ray starts, and in a worker once it has the model. It must not
import torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Categorical

from sweeps.naming import nearest
from sweeps.space.conditions import branches_of
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

DEEPSPEED, ZERO = "deepspeed", "zero_optimization"
GATHER = "stage3_gather_16bit_weights_on_model_save"


def shards(space: SearchSpace) -> bool:
    """Tell whether any trials of the space are sharded by FSDP."""
    return FSDP in space.tuned or bool(fixed_values(space).get(FSDP))


def uses_deepspeed(space: SearchSpace) -> bool:
    """Tell whether any trials of the space use DeepSpeed."""
    values = {**dict.fromkeys(space.tuned, True), **fixed_values(space)}
    return any(_is_of_deepspeed(key) and value for key, value in values.items())


def without_deepspeed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those for DeepSpeed."""
    return {key: value for key, value in values.items() if not _is_of_deepspeed(key)}


def _is_of_deepspeed(key: str) -> bool:
    return key.partition(".")[0] == DEEPSPEED


def sharding_problems(space: SearchSpace, workers: int) -> list[str]:
    """Return what is wrong with the sharding arguments that the space sets.

    Args:
        space: The search space.
        workers: Workers per trial.
    """
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
    problems += _deepspeed_problems(space)
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
    if uses_deepspeed(space):
        problems.append("fsdp and deepspeed both shard the model; keep one")
    return problems


def _deepspeed_problems(space: SearchSpace) -> Iterator[str]:
    entries = dict[str, Any]()
    for key in filter(_is_of_deepspeed, (*space.tuned, *space.fixed)):
        _, _, entry = key.partition(".")
        if "." in entry:
            whole = f"{DEEPSPEED}.{entry.partition('.')[0]}"
            yield f"{key}: set {whole} as a whole; DeepSpeed would ignore the key"
        elif entry and key in space.fixed:
            entries[entry] = space.fixed[key]
    given = fixed_values(space).get(DEEPSPEED)
    configs = [{**_read(one), **entries} for one in (given, *_choices(space, DEEPSPEED))]
    zeros = _choices(space, f"{DEEPSPEED}.{ZERO}")
    configs += [{**configs[0], ZERO: zero} for zero in zeros]
    yield from dict.fromkeys(filter(None, map(zero_problem, configs)))


def _choices(space: SearchSpace, key: str) -> list[Any]:
    """Return the values that a tuned key may take, of those that can be listed."""
    domains = [branch.domain for branch in branches_of(key, space.tuned.get(key, []))]
    listed = [domain.categories for domain in domains if isinstance(domain, Categorical)]
    return [choice for categories in listed for choice in categories]


def _read(config: Any) -> Mapping[str, Any]:
    """Return a DeepSpeed config, or the content of its file; empty if it is neither.

    HF itself says what is wrong with such a value, and also accepts encoded text.
    """
    if isinstance(config, str):
        try:
            config = json.loads(Path(config).read_text())
        except (OSError, ValueError):
            return {}
    return config if isinstance(config, Mapping) else {}


def zero_problem(config: Mapping[str, Any]) -> str | None:
    """Return why a model that is trained with a config cannot be exported; None if it can."""
    zero = config.get(ZERO)
    if not isinstance(zero, Mapping) or zero.get("stage") != 3 or zero.get(GATHER):
        return None
    return (
        f"{DEEPSPEED}: with ZeRO-3, a model that can be exported is only saved if {ZERO} has"
        f" {GATHER}=true; add it"
    )


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
