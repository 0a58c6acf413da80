"""Warnings about what is allowed but probably wrong, for `plan` and the start of a run.

Runs in the sweep process before the first trial. It must not refuse anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweeps.builders.hub import is_hub_name
from sweeps.config import SweepConfig, is_uri
from sweeps.planning.code_warnings import (
    early_stopping_warnings,
    seed_warnings,
    split_warnings,
)
from sweeps.planning.forecast import first_evaluation
from sweeps.planning.request import Request
from sweeps.planning.rows import judged_set
from sweeps.planning.samples import optimizer_warnings
from sweeps.planning.training_warnings import training_warnings
from sweeps.records.provenance import git_state
from sweeps.report import may_be_share_of_rows, usual_mode
from sweeps.searchers.optuna_searcher import STARTUP
from sweeps.secrets import unsearched
from sweeps.space import domains
from sweeps.space.builder import EVAL
from sweeps.space.conditions import branches_of
from sweeps.space.domain_checks import never_active
from sweeps.space.domain_data import condition_text
from sweeps.space.needed_packages import package_problems
from sweeps.space.search_space import TOTAL_BATCH, SearchSpace, fixed_values, highest

FEWEST = 4
"""Minimum number of evaluations per trial; with fewer, a scheduler has too little to compare."""
DIFFERENCE = 0.01
"""The difference in accuracy that a sweep should be able to detect: one point."""
UNCHECKED = (
    "the GPUs of this cluster are not checked: other processes may be using them, or they may be"
    " divided into slices (MIG)"
)
"""The warning about the GPUs of a Ray cluster that was not started here."""


def find_warnings(request: Request, nodes: int, *, gpu: bool) -> list[str]:
    """Return the warnings about a sweep, most serious first.

    Args:
        request: The checked sweep.
        nodes: Number of nodes of the cluster.
        gpu: Whether trials run on GPUs.
    """
    space, config = request.space, request.config
    return [
        *_metric(space),
        *_never_tuned(space),
        *split_warnings(request),
        *_rungs(request),
        *_packages(space),
        *training_warnings(space, workers=config.workers_per_trial, gpu=gpu),
        *optimizer_warnings(space, config, request.loaded.root),
        *_rows(request),
        *_trials(request),
        *_repeats(request),
        *_hub(space),
        *seed_warnings(request),
        *early_stopping_warnings(request),
        *_without_effect(config),
        *_storage(request, nodes),
        *_secrets(),
        *_uncommitted(request),
    ]


def marked(warning: str) -> str:
    """Return a warning as `plan` and `run` print it."""
    return f"warning: {warning}"


def _packages(space: SearchSpace) -> Iterator[str]:
    """Yield a warning for each value whose package this machine lacks; a cluster may have it."""
    for problem in package_problems(space):
        yield f"{problem} on each node that lacks it"


def _metric(space: SearchSpace) -> Iterator[str]:
    if usual_mode(space.metric) not in (space.mode, None):
        yield (
            f"metric {space.metric!r} has mode {space.mode!r}, but its usual mode is"
            f" {usual_mode(space.metric)!r}"
        )
    if space.builder.metric_names is None and not space.metric.startswith(EVAL):
        yield (
            f"metric {space.metric!r}: HF's metric names begin with {EVAL!r};"
            f" did you mean {EVAL + space.metric!r}?"
        )


def _never_tuned(space: SearchSpace) -> Iterator[str]:
    """Yield a warning for each key whose conditions contradict what all trials share."""
    lost = {branch.name for branch in never_active(space)}
    for key, declared in space.tuned.items():
        of_key = list(branches_of(key, declared))
        if all(branch.name in lost for branch in of_key):
            conditions = "; ".join(condition_text(branch.condition) for branch in of_key)
            yield f"{key} is never tuned: no trial meets its condition ({conditions})"


def _rungs(request: Request) -> Iterator[str]:
    space = request.space
    rungs = request.new_scheduler().rungs()
    if not rungs:
        return
    if space.evals_per_trial < FEWEST:
        yield (
            f"evals_per_trial = {space.evals_per_trial}: trials are compared only at evaluations;"
            f" use {FEWEST} or more, or --scheduler fifo"
        )
    first = first_evaluation(rungs[0], space.evals_per_trial) / space.evals_per_trial
    longest = max((value for value in highest(space, "warmup_steps") if value < 1), default=0.0)
    if longest >= first:
        yield (
            f"warmup_steps up to {longest:g}: the first rung, at {first:.1%} of a trial, falls"
            f" within the warmup; shorten the warmup{_or_raise_the_rung(request.config.scheduler)}"
        )


def _or_raise_the_rung(scheduler: str) -> str:
    return "" if ":" in scheduler else ", or raise --first-rung"


def _rows(request: Request) -> Iterator[str]:
    space = request.space
    if request.config.tiny:
        return
    train, judged = space.builder.count_rows()
    sets = space.builder.eval_sets
    if (name := judged_set(space.metric, sets)) is not None:
        judged = sets[name]
    largest = max(highest(space, TOTAL_BATCH), default=0)
    if train is not None and largest > train:
        yield (
            f"{TOTAL_BATCH} up to {largest} exceeds the {train} train rows: such a trial takes one"
            f" step per epoch, on {train} rows"
        )
    if judged is not None and may_be_share_of_rows(space.metric):
        error = 0.5 / math.sqrt(judged)
        if error > DIFFERENCE:
            yield (
                f"{judged} evaluation rows: the standard error of {space.metric} is up to"
                f" {error:.3f}, so smaller differences between trials may be noise;"
                f" {math.ceil(0.25 / DIFFERENCE**2)} rows would lower it to {DIFFERENCE}"
            )


def _trials(request: Request) -> Iterator[str]:
    space, config = request.space, request.config
    sizes = []
    for declared in space.tuned.values():
        found = [domains.values(branch.domain) for branch in branches_of("", declared)]
        if any(one is None for one in found):
            return
        sizes.append(sum(len(one or ()) for one in found) + any(_conditions(declared)))
    most = math.prod(sizes)
    if most < config.params_sets:
        asked = f"--num-trials {config.num_trials}"
        if config.repeats > 1:
            asked += f", {config.params_sets} params x {config.repeats} seeds"
        yield (
            f"{asked}: the space has at most {most} different params sets;"
            " the sweep ends when all have been trained"
        )


def _repeats(request: Request) -> Iterator[str]:
    config = request.config
    if config.repeats == 1:
        return
    if request.new_scheduler().rungs():
        yield (
            f"--repeats {config.repeats} with --scheduler {config.scheduler}: a trial stopped"
            " early contributes its best value so far, so the means mix trials of different"
            " lengths; --scheduler fifo runs every trial to completion"
        )
    if (
        config.searcher == "optuna"
        and config.params_sets + len(request.warm_start_trials) <= STARTUP
    ):
        yield (
            f"{config.params_sets} params x {config.repeats} seeds: Optuna learns only after"
            f" {STARTUP} params sets, so this sweep draws all params at random; raise --num-trials,"
            " or lower --repeats"
        )


def _conditions(declared: Any) -> Iterator[bool]:
    return (bool(branch.condition) for branch in branches_of("", declared))


def _hub(space: SearchSpace) -> Iterator[str]:
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE or space.builder.checks:
        return  # a builder with check() has checked this
    for key, value in fixed_values(space).items():
        kind = next((k for k in ("model", "dataset") if k in key), None)
        if kind is None or not isinstance(value, str) or not is_hub_name(value):
            continue
        cache = constants.HF_HUB_CACHE
        if not Path(cache, f"{kind}s--{value.replace('/', '--')}").is_dir():
            yield (
                f"{key} = {value!r}: not in the local cache ({cache}), and HF_HUB_OFFLINE prevents"
                " a download; unset it, or download the repository first"
            )


def _without_effect(config: SweepConfig) -> Iterator[str]:
    """Yield a warning for each option that was set and that this sweep does not use."""
    default = SweepConfig()
    scheduler = f"with --scheduler {config.scheduler}"
    if config.first_rung != default.first_rung and config.scheduler not in ("asha", "median"):
        yield f"--first-rung {config.first_rung:g} has no effect {scheduler}"
    if config.reduction_factor != default.reduction_factor and config.scheduler != "asha":
        yield f"--reduction-factor {config.reduction_factor:g} has no effect {scheduler}"
    if config.tracking_uri is not None and "mlflow" not in config.trackers:
        yield "--tracking-uri has no effect without --tracker mlflow"
    if config.trials_per_gpu not in (1, default.trials_per_gpu):
        unless = f"--trials-per-gpu {config.trials_per_gpu} has no effect with"
        if config.workers_per_trial > 1:
            yield f"{unless} --workers-per-trial {config.workers_per_trial}"
        elif config.gpus_per_worker is not None:
            yield f"{unless} --gpus-per-worker {config.gpus_per_worker:g}"


def _storage(request: Request, nodes: int) -> Iterator[str]:
    if nodes > 1 and not is_uri(request.config.storage):
        yield (
            f"--storage {request.config.storage} is a folder, so all {nodes} nodes of the cluster"
            " must be able to see it"
        )


def _secrets() -> Iterator[str]:
    if names := ", ".join(f"${name}" for name in unsearched()):
        yield (
            f"{names}: not hidden in messages and output, because it is too short or too common to"
            " be recognised as a secret"
        )


def _uncommitted(request: Request) -> Iterator[str]:
    state = request.git or git_state(request.loaded.file)
    if state is not None and state.dirty:
        yield "the working tree has uncommitted changes, which the recorded commit does not contain"
