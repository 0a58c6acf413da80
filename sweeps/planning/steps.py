"""How many optimizer steps a complete trial has, as far as that is known before any trial.

Pure; used by `plan`. It must not know how rows are prepared.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.amounts import counted
from sweeps.config import SweepConfig
from sweeps.planning.rows import SplitRows
from sweeps.planning.samples import ends
from sweeps.space.arguments import Devices, argument_values
from sweeps.space.search_space import TOTAL_BATCH, SearchSpace

LENGTH = (
    *(TOTAL_BATCH, "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("num_train_epochs", "max_steps"),
)
"""Arguments that determine the number of steps."""


def steps_of_trials(
    space: SearchSpace,
    config: SweepConfig,
    samples: Sequence[Mapping[str, Any]],
    rows: Sequence[SplitRows],
) -> tuple[int, int] | None:
    """Return the fewest and the most optimizer steps that a complete trial may have.

    Args:
        space: The search space.
        config: For the number of workers.
        samples: Params of some trials.
        rows: The rows by split.

    Returns:
        None if the rows are not known, or if a script decides on the steps.
    """
    if space.builder.makes_arguments:
        return None
    lengths = {key: values for key, values in ends(space).items() if key in LENGTH}
    varied = ({**samples[0], key: value} for key, values in lengths.items() for value in values)
    found = [_steps(space, config, params, rows) for params in (*samples, *varied)]
    known = [steps for steps in found if steps is not None]
    return (min(known), max(known)) if len(known) == len(found) else None


def with_few_steps(space: SearchSpace, steps: int) -> SearchSpace:
    """Return the space with the evaluations that a trial with this many steps really has."""
    return dataclasses.replace(space, evals_per_trial=min(space.evals_per_trial, steps))


def few_steps(space: SearchSpace, what: str, steps: int) -> list[str]:
    """Return a line if a trial has fewer steps than evaluations.

    Args:
        space: The search space.
        what: Whose steps these are, in words.
        steps: The number of steps.
    """
    if steps >= space.evals_per_trial:
        return []
    return [
        f"evals_per_trial = {space.evals_per_trial}: {what} has only"
        f" {counted(steps, 'step')}, so it evaluates after each step"
    ]


def _steps(
    space: SearchSpace, config: SweepConfig, params: Mapping[str, Any], rows: Sequence[SplitRows]
) -> int | None:
    """Return what `Trainer.set_initial_training_values` computes (transformers 5.23), or None."""
    devices = Devices(workers=config.workers_per_trial, gpu=False, bf16=False)
    values = space.builder.argument_values | argument_values(
        space, params, devices=devices, output_dir=Path("SWEEP", "checkpoints", "TRIAL"), seed=0
    )
    set_steps: int = values.get("max_steps", -1)
    if set_steps > 0:
        return set_steps
    train = [
        each.rows
        for each in rows
        if each.split == "train" and each.choice.items() <= dict(params).items()
    ]
    if len(train) != 1:
        return None
    batch = values.get("per_device_train_batch_size", 8) * config.workers_per_trial
    whole = math.floor if values.get("dataloader_drop_last") else math.ceil
    updates = math.ceil(whole(train[0] / batch) / values.get("gradient_accumulation_steps", 1))
    epochs: float = values.get("num_train_epochs", 3)
    steps: int = math.ceil(epochs * max(1, updates))
    return steps
