"""What a run would do: `Plan`, which `plan` displays and `plan --json` prints.

Runs in the sweep process; starts nothing and prepares no data. It must not know how the plan is
displayed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweeps.amounts import size
from sweeps.config import SweepConfig
from sweeps.planning.disk import Disk, disk_needed
from sweeps.planning.forecast import Expectation, expect
from sweeps.planning.layout import Layout, Node, check_reach, lay_out
from sweeps.planning.occupancy import Occupancy, occupancy
from sweeps.planning.past_time import PastTime, past_time
from sweeps.planning.precision import precision
from sweeps.planning.request import Request
from sweeps.planning.rows import Choice, SplitRows, counted_rows, prepared_rows
from sweeps.planning.samples import built_arguments, sample_params
from sweeps.planning.steps import few_steps, steps_of_trials, with_few_steps
from sweeps.planning.warnings import find_warnings
from sweeps.report import Mode
from sweeps.secrets import FREE_TEXT
from sweeps.space.arguments import trial_values
from sweeps.space.code_copy import Code, find_code
from sweeps.space.conditions import describe_tunable
from sweeps.space.constraints import constraint_name
from sweeps.space.plain_values import in_json
from sweeps.space.search_space import SearchSpace, fixed_values


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Params of one of the first trials, and what they become; all values as in JSON."""

    params: Mapping[str, Any] = field(metadata=FREE_TEXT)
    arguments: Mapping[str, Any] = field(metadata=FREE_TEXT)
    """`TrainingArguments` that these params set."""
    builder: Mapping[str, Any] = field(metadata=FREE_TEXT)
    """Keywords of the builder that these params set."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do on a cluster."""

    space: str
    """The space's name."""
    metric: str
    mode: Mode
    tuned: Mapping[str, str] = field(metadata=FREE_TEXT)
    """The domains of each tuned key, as text."""
    constraints: Sequence[str]
    """Names of the constraints."""
    fixed: Mapping[str, Any] = field(metadata=FREE_TEXT)
    """The values that are the same in all trials, as in JSON."""
    script: Mapping[str, Any] = field(metadata=FREE_TEXT)
    """Arguments that a script sets in its dry run and the space does not set."""
    tried_flags: Mapping[str, Any] = field(metadata=FREE_TEXT)
    """Values that the tuned flags of a script had in that dry run."""
    evals_per_trial: int
    steps: tuple[int, int] | None
    """The fewest and the most optimizer steps of a complete trial; None if unknown."""
    config: SweepConfig
    notes: Sequence[str] = field(metadata=FREE_TEXT)
    """What was changed in the request, what was found in the data, and the precision of
    training."""
    rows: Sequence[SplitRows]
    """The data by split; empty if unknown."""
    left: Sequence[str] = field(metadata=FREE_TEXT)
    """What only training can show."""
    samples: Sequence[Sample]
    """Params of the first trials."""
    nodes: Sequence[Node]
    layout: Layout
    occupancy: Occupancy
    expected: Expectation
    epochs: float | None
    """Epochs of a complete trial; None if they are tuned, may depend on a tuned flag of a script,
    or the number of steps is set."""
    time: PastTime | None
    """What an earlier sweep of the space measured; None if there is none."""
    disk: Disk
    code: Code
    """The files that are taken along from the space's folder."""
    warnings: Sequence[str] = field(metadata=FREE_TEXT)

    @property
    def share(self) -> float:
        """Expected work as a fraction of running all trials to completion."""
        return self.expected.work / self.config.num_trials

    def sweep_s(self, measured: PastTime) -> float:
        """Estimate the seconds that the sweep takes, from what an earlier sweep measured."""
        devices = self.layout.groups * self.layout.size.devices
        return self.expected.work * measured.device_s / devices

    def epochs_at(self, progress: float) -> float | None:
        """Return the epochs of a trial at this progress, or None."""
        return None if self.epochs is None else progress * self.epochs

    def in_json(self) -> dict[str, Any]:
        """Return the plan as `plan --json` prints it."""
        size, used, budget = self.layout.size, self.occupancy, self.config.time_budget
        steps = self.steps and {"fewest": self.steps[0], "most": self.steps[1]}
        return {
            "space": self.space,
            "metric": self.metric,
            "mode": self.mode,
            "tuned": self.tuned,
            "constraints": self.constraints,
            "fixed": self.fixed,
            "script": self.script,
            "tried_flags": self.tried_flags,
            "notes": self.notes,
            "data": [dataclasses.asdict(rows) for rows in self.rows],
            "left_to_training": self.left,
            "samples": [dataclasses.asdict(sample) for sample in self.samples],
            "layout": {
                "nodes": [dataclasses.asdict(node) for node in self.nodes],
                "groups": self.layout.groups,
                "most_groups": self.layout.most,
                "workers": size.workers,
                "cpus_per_worker": size.cpus_per_worker,
                "gpus_per_worker": self.layout.gpus_per_worker,
                "data_cpus": size.data_cpus,
                "cpus": {"used": used.used_cpus, "idle": used.cpus - used.used_cpus},
                "gpus": {"used": used.used_gpus, "idle": used.gpus - used.used_gpus},
                "hint": used.hint,
            },
            "trials": self.config.num_trials,
            "repeats": self.config.repeats,
            "evaluations_per_trial": self.evals_per_trial,
            "steps_per_trial": steps,
            "time_budget_s": budget.total_seconds() if budget is not None else None,
            "rungs": [
                {
                    "progress": rung.progress,
                    "evaluation": rung.evaluation,
                    "epochs": self.epochs_at(rung.progress),
                    "trials": rung.trials,
                }
                for rung in self.expected.rungs
            ],
            "work": {
                "trials": self.expected.work,
                "share": self.share,
                "evaluations": self.expected.evaluations,
            },
            "time": self.time
            and {**dataclasses.asdict(self.time), "sweep_s": self.sweep_s(self.time)},
            "stall_timeout_s": self.config.stall_timeout.total_seconds(),
            "checkpoints": {
                **dataclasses.asdict(self.disk),
                "copied_bytes": self.disk.copied_bytes,
                "peak_bytes": self.disk.peak_bytes,
            },
            "code": {
                "files": len(self.code.copied),
                "bytes": self.code.bytes,
                "linked": [str(place) for place in self.code.linked],
            },
            "warnings": self.warnings,
        }


def make_plan(
    request: Request,
    nodes: Sequence[Node],
    *,
    autoscaling: bool,
    data: Sequence[Choice],
    data_notes: Sequence[str],
    doubtful_gpus: Sequence[str],
) -> Plan:
    """Return the plan of a sweep on these nodes.

    Args:
        request: The checked sweep.
        nodes: The current nodes of the cluster.
        autoscaling: Whether the cluster autoscales.
        data: The data that was prepared; empty if the builder prepares none.
        data_notes: Notes about that data.
        doubtful_gpus: Warnings about the cluster's GPUs.

    Raises:
        UserError: Not a single trial fits on the nodes, or not all of them can read the streamed
            rows.
    """
    space, config = request.space, request.config
    streams = space.builder.stream
    if streams:
        check_reach(config, len(nodes), autoscaling=autoscaling)
    layout = lay_out(nodes, config, streams=streams, autoscaling=autoscaling)
    params = sample_params(space, config, request.loaded.root, request.warm_start_trials)
    rows = prepared_rows(data) if data else counted_rows(*space.builder.count_rows())
    steps = steps_of_trials(space, config, params, rows)
    evaluated = with_few_steps(space, steps[1]) if steps is not None else space
    expected = expect(request.new_scheduler, evaluated, config.num_trials)
    disk = disk_needed(space, config, layout.most, expected.paused)
    gpu = layout.size.gpus_per_worker > 0
    time = past_time(request, gpu=gpu)
    return Plan(
        space=request.loaded.name,
        metric=space.metric,
        mode=space.mode,
        tuned={key: describe_tunable(declared) for key, declared in space.tuned.items()},
        constraints=[constraint_name(space, i) for i in range(len(space.constraints))],
        fixed=in_json(_set_by_space(space)),
        script=in_json(_set_by_script(space)),
        tried_flags=in_json(space.builder.tried_values),
        evals_per_trial=space.evals_per_trial,
        steps=steps,
        config=config,
        notes=[*request.lines, *data_notes, *precision(space, gpu=gpu)],
        rows=rows,
        left=[*_left(space, data, time)],
        samples=[_sample(request, one) for one in params],
        nodes=nodes,
        layout=layout,
        occupancy=occupancy(nodes, config, layout),
        expected=expected,
        epochs=_epochs(space),
        time=time,
        disk=disk,
        code=find_code(request.loaded),
        warnings=[
            *(doubtful_gpus if gpu else ()),
            *find_warnings(request, len(nodes), gpu=gpu),
            *_few_steps(space, steps),
            *_too_little_disk(request, disk),
        ],
    )


def _set_by_space(space: SearchSpace) -> dict[str, Any]:
    script = _set_by_script(space)
    return {key: value for key, value in fixed_values(space).items() if key not in script}


def _set_by_script(space: SearchSpace) -> dict[str, Any]:
    of_space = {*space.builder.values, *space.fixed, *space.tuned}
    return {k: v for k, v in space.builder.argument_values.items() if k not in of_space}


def _left(space: SearchSpace, data: Sequence[Choice], time: PastTime | None) -> Iterator[str]:
    """Yield a line for each thing that a plan cannot check."""
    if space.builder.metric_names is None:
        yield f"whether the evaluation returns {space.metric!r}"
    if not data:
        yield "what the rows contain"
    yield "whether a batch fits in memory"
    if time is None:
        yield "how long a trial takes"


def _sample(request: Request, params: dict[str, Any]) -> Sample:
    return Sample(
        params=in_json(params),
        arguments=in_json(built_arguments(request.space, request.config, params)),
        builder=in_json(trial_values(request.space, params)[1]),
    )


def _epochs(space: SearchSpace) -> float | None:
    key, fixed = "num_train_epochs", fixed_values(space)
    if "max_steps" in {*space.tuned, *fixed} or key in space.tuned:
        return None
    if key in _set_by_script(space) and not space.builder.keywords.isdisjoint(space.tuned):
        return None
    epochs: float = fixed.get(key, 3)  # HF's default
    return epochs


def _few_steps(space: SearchSpace, steps: tuple[int, int] | None) -> list[str]:
    if steps is None:
        return []
    fewest, most = steps
    return few_steps(space, "a trial" if fewest == most else "the shortest trial", fewest)


def _too_little_disk(request: Request, disk: Disk) -> list[str]:
    if disk.peak_bytes is None or disk.peak_bytes <= disk.free_bytes:
        return []
    return [
        f"checkpoints need up to {size(disk.peak_bytes)} at a time, but"
        f" {request.config.storage_folder} has only {size(disk.free_bytes)} free; lower"
        " --keep-checkpoints or --max-concurrent, or choose another --storage"
    ]
