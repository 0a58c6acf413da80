"""What a run would do, as `plan --json` prints it.

Runs in the sweep process; starts nothing. It must not know how it is shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sweeps.planning.disk import Disk, disk_needed
from sweeps.planning.forecast import Expectation, expect
from sweeps.planning.layout import Layout, Node, check_reach, lay_out
from sweeps.planning.occupancy import occupancy
from sweeps.planning.request import Request
from sweeps.planning.samples import built_arguments, sample_params
from sweeps.planning.warnings import find_warnings
from sweeps.space.arguments import half_precision_switched_off, trial_values
from sweeps.space.conditions import describe_tunable
from sweeps.space.constraints import constraint_name
from sweeps.space.search_space import SearchSpace, fixed_values, in_json, streams


def make_plan(
    request: Request, nodes: Sequence[Node], *, autoscaling: bool = False
) -> dict[str, Any]:
    """Return the plan of a sweep on these nodes.

    Args:
        request: The checked sweep.
        nodes: What the cluster has now.
        autoscaling: Whether the cluster grows by itself.

    Raises:
        UserError: Not one trial fits the nodes, or they cannot all read what is streamed.
    """
    space, config = request.space, request.config
    streaming = streams(space.build_trainer)
    if streaming:
        check_reach(config, len(nodes), grows=autoscaling)
    layout = lay_out(nodes, config, streams=streaming, autoscaling=autoscaling)
    expected = expect(request.new_scheduler, space, config.num_trials)
    disk = disk_needed(space, config, layout.groups, expected.paused)
    return {
        "space": request.loaded.name,
        "metric": space.metric,
        "mode": space.mode,
        "tuned": {key: describe_tunable(declared) for key, declared in space.tuned.items()},
        "constraints": [constraint_name(space, i) for i in range(len(space.constraints))],
        "fixed": in_json(fixed_values(space)),
        "notes": [*request.lines, *_precision(space, layout)],
        "samples": [
            _sample(request, params)
            for params in sample_params(
                space, config, request.loaded.root, request.warm_start_trials
            )
        ],
        "layout": _layout(request, nodes, layout),
        **_expected(request, expected),
        "stall_timeout_s": config.stall_timeout.total_seconds(),
        "checkpoints": _checkpoints(disk),
        "warnings": [*find_warnings(request, len(nodes)), *_too_little_disk(request, disk)],
    }


def _precision(space: SearchSpace, layout: Layout) -> list[str]:
    if layout.size.gpus_per_worker > 0:
        return ["bfloat16 where every GPU has it, unless the space says otherwise"]
    off = half_precision_switched_off(space)
    lines = ["no GPU in use: training on the CPU, in full precision"]
    return lines + ([f"{', '.join(off)} switched off: half precision needs a GPU"] if off else [])


def _sample(request: Request, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "params": in_json(params),
        "arguments": in_json(built_arguments(request.space, request.config, params)),
        "builder": in_json(trial_values(request.space, params)[1]),
    }


def _layout(request: Request, nodes: Sequence[Node], layout: Layout) -> dict[str, Any]:
    found = occupancy(nodes, request.config, layout)
    return {
        "nodes": [dataclasses.asdict(node) for node in nodes],
        "groups": layout.groups,
        "workers": layout.size.workers,
        "cpus_per_worker": layout.size.cpus_per_worker,
        "gpus_per_worker": layout.size.gpus_per_worker,
        "data_cpus": layout.size.data_cpus,
        "cpus": {"used": found.used_cpus, "idle": found.cpus - found.used_cpus},
        "gpus": {"used": found.used_gpus, "idle": found.gpus - found.used_gpus},
        "hint": found.hint,
    }


def _expected(request: Request, expected: Expectation) -> dict[str, Any]:
    """Return rungs and work; epochs where their number is fixed."""
    space, config = request.space, request.config
    epochs = None
    if "max_steps" not in {*space.tuned, *space.fixed} and "num_train_epochs" not in space.tuned:
        epochs = space.fixed.get("num_train_epochs", 3)  # HF's default
    return {
        "trials": config.num_trials,
        "repeats": config.repeats,
        "evaluations_per_trial": space.evals_per_trial,
        "rungs": [
            {
                "progress": rung.progress,
                "evaluation": rung.evaluation,
                "epochs": None if epochs is None else rung.progress * epochs,
                "trials": rung.trials,
            }
            for rung in expected.rungs
        ],
        "work": {
            "trials": expected.work,
            "share": expected.work / config.num_trials,
            "evaluations": expected.evaluations,
        },
    }


def _checkpoints(disk: Disk) -> dict[str, Any]:
    return {**dataclasses.asdict(disk), "peak_bytes": disk.peak_bytes}


def _too_little_disk(request: Request, disk: Disk) -> list[str]:
    if disk.peak_bytes is None or disk.peak_bytes <= disk.free_bytes:
        return []
    return [
        f"checkpoints take up to {disk.peak_bytes / 1e9:.1f} GB at once, and"
        f" {request.config.storage_folder} has {disk.free_bytes / 1e9:.1f} GB free;"
        " lower --keep-checkpoints or --max-concurrent, or give another --storage"
    ]
