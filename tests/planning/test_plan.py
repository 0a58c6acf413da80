"""What `plan` says: samples, layout, rungs, work, disk, and what is doubtful."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ray import tune
from rich.table import Table
from safetensors.torch import save_file
from transformers import TrainingArguments

from sweeps import SearchSpace, SweepConfig, TextClassification, when
from sweeps.builders.base import TINY
from sweeps.cli.plan_tables import row_tables
from sweeps.driver.preparing import prepare_data
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.errors import UserError
from sweeps.planning.disk import disk_needed, weights_of
from sweeps.planning.forecast import Expectation, expect, outcome
from sweeps.planning.layout import Node, lay_out
from sweeps.planning.occupancy import occupancy
from sweeps.planning.past_time import PastTime, past_time
from sweeps.planning.plan import Plan, make_plan
from sweeps.planning.request import Request
from sweeps.planning.rows import Choice, SplitRows
from sweeps.planning.samples import built_arguments, sample_params
from sweeps.planning.warnings import find_warnings
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder, new_sweep_id
from sweeps.records.sweep_record import write_record
from sweeps.report import Report
from sweeps.schedulers.asha import ASHA
from sweeps.schedulers.make_scheduler import scheduler_maker
from tests.planning.asked import build, request, reviews
from tests.schedulers.fed import space_of

ONE_NODE = [Node(cpus=2, gpus=0)]


def plan_on(asked: Request, nodes: Sequence[Node], data: Sequence[Choice] = ()) -> Plan:
    return make_plan(asked, nodes, autoscaling=False, data=data, data_notes=(), doubtful_gpus=())


# What the scheduler is expected to do.

HALVING = "tests.schedulers.halving:Halving"


def forecast(trials: int, evaluations: int = 8, **config: Any) -> Expectation:
    asked, space = SweepConfig(**config), space_of("min", evaluations)
    return expect(scheduler_maker(space, asked, root=Path()), space, trials)


def rungs(expected: Expectation) -> list[tuple[float, float]]:
    return [(rung.progress, rung.trials) for rung in expected.rungs]


def test_a_trial_stops_where_the_scheduler_stops_it_and_its_evaluations_count_up_to_there():
    """Each is better than those before, then each is worse."""
    space = space_of("min")
    rising, falling = (
        outcome(values, ASHA(space, SweepConfig()), space)
        for values in ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1])
    )
    assert (rungs(rising), rising.evaluations) == ([(0.125, 4), (0.5, 4), (1.0, 4)], 32)
    assert (rungs(falling), falling.evaluations) == ([(0.125, 4), (0.5, 1), (1.0, 1)], 8 + 3)
    assert falling.work == 11 / 8


def test_what_is_expected_is_the_mean_over_random_standings():
    config, space, generator = SweepConfig(), space_of("min"), np.random.default_rng(1)
    drawn = [outcome(generator.random(32).tolist(), ASHA(space, config), space) for _ in range(100)]
    expected = forecast(32)
    assert [rung.progress for rung in expected.rungs] == [0.125, 0.5, 1.0]
    assert expected.rungs[0].trials == 32
    for i, rung in enumerate(expected.rungs):
        assert rung.trials == pytest.approx(np.mean([d.rungs[i].trials for d in drawn]), rel=0.1)
    assert expected.work == pytest.approx(np.mean([d.work for d in drawn]), rel=0.05)


def test_without_a_scheduler_that_stops_any_all_trials_run_to_their_end():
    expected = forecast(9, scheduler="fifo")
    assert rungs(expected) == [(1.0, 9)]
    assert (expected.work, expected.evaluations, expected.paused) == (9, 72, 0)


def test_the_median_rule_stops_more_than_half_and_not_the_first_three():
    expected = forecast(32, scheduler="median")
    assert [rung.progress for rung in expected.rungs] == [i / 8 for i in range(1, 9)]
    assert 10 < expected.rungs[-1].trials < 16, "a trial that is above a median helps to raise it"
    assert rungs(forecast(3, scheduler="median")) == [(i / 8, 3) for i in range(1, 9)]


def test_trials_that_pause_are_forecast_with_what_they_reach_and_their_states_count_as_disk():
    expected = forecast(8, scheduler=HALVING)
    assert rungs(expected) == [(0.25, 8), (0.5, 4), (1.0, 2)]
    assert expected.evaluations == 8 * 2 + 4 * 2 + 2 * 4
    # Of the first four three never go on, and the next four pause one after another.
    assert expected.paused == 7
    space = space_of("min")
    assert disk_needed(space, SweepConfig(), 2, expected.paused).states == 3 * 2 + 7


# The cluster.

LAYOUTS: dict[str, tuple[list[Node], dict[str, Any], str | None]] = {
    "all GPUs in use": ([Node(16, 8)], {"workers_per_trial": 4}, None),
    "GPUs that a group of five leaves": (
        [Node(16, 8)],
        {"workers_per_trial": 5},
        "3 of 8 GPUs idle: --workers-per-trial 4 would use all",
    ),
    "fewer trials than GPUs": (
        [Node(16, 8)],
        {"num_trials": 6},
        "2 of 8 GPUs idle: --num-trials 8 would use all",
    ),
    "a bound on the trials at once": (
        [Node(16, 4), Node(16, 4)],
        {"max_concurrent": 2},
        "6 of 8 GPUs idle: --max-concurrent 8 would use all",
    ),
    "CPUs that run out first": (
        [Node(8, 4)],
        {"cpus_per_worker": 4},
        "2 of 4 GPUs idle: --cpus-per-worker 2 would use all",
    ),
    "GPUs that nobody asked for": (
        [Node(8, 4)],
        {"gpus_per_worker": 0.0},
        "4 of 4 GPUs idle: --gpus-per-worker 1 would use all",
    ),
    "CPUs that a group of two leaves": (
        [Node(5, 0)],
        {"workers_per_trial": 2},
        "1 of 5 CPUs idle: --workers-per-trial 1 would use all",
    ),
    "two nodes of three GPUs": (
        [Node(8, 3), Node(8, 3)],
        {"gpus_per_worker": 2.0},
        "2 of 6 GPUs idle",
    ),
}


@pytest.mark.parametrize("what", LAYOUTS)
def test_what_is_idle_is_said_with_what_would_use_more(what: str):
    nodes, flags, hint = LAYOUTS[what]
    config = SweepConfig(**flags)
    found = occupancy(nodes, config, lay_out(nodes, config, streams=False))
    assert found.hint == hint
    assert found.gpus == sum(node.gpus for node in nodes)
    assert 0 < found.used_cpus <= found.cpus


# The disk.


def model_of(folder: Path, **shapes: tuple[int, ...]) -> str:
    folder.mkdir()
    weights = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_the_peak_is_the_kept_checkpoints_one_more_a_group_and_two_states_a_group(tmp_path: Path):
    small, large = model_of(tmp_path / "a", w=(2, 3)), model_of(tmp_path / "b", w=(10, 10), b=(10,))
    assert weights_of(small) == 6
    assert weights_of(str(tmp_path)) is None
    space = request(tuned={"model": tune.choice([small, large])}).space
    disk = disk_needed(space, SweepConfig(keep_checkpoints=3, storage=str(tmp_path / "new")), 2, 0)
    assert (disk.best_bytes, disk.state_bytes) == (110 * 4, 110 * 12)
    assert (disk.best, disk.states) == (7, 6)
    assert disk.peak_bytes == 7 * 440 + 6 * 1320
    assert disk.free_bytes > 0


def test_a_state_of_deepspeed_also_has_its_own_copies_of_the_weights(tmp_path: Path):
    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
        fixed={
            "model": model_of(tmp_path / "a", w=(2, 3)),
            "deepspeed.zero_optimization": {"stage": 2},
        },
    )
    assert disk_needed(space, SweepConfig(), 1, 0).state_bytes == 6 * 20


def test_the_size_of_a_model_that_is_not_here_is_not_guessed():
    assert disk_needed(request().space, SweepConfig(), 1, 0).peak_bytes is None


def test_a_disk_that_is_too_small_is_doubtful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    model = model_of(tmp_path / "a", w=(1000, 1000))
    free = type("Usage", (), {"free": 10_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    config = {"storage": str(tmp_path)}
    found = plan_on(request(fixed={"model": model}, config=config), ONE_NODE)
    assert found.disk.copied_bytes == 2 * found.layout.most * 12_000_000
    assert found.warnings[-1] == (
        f"checkpoints need up to 100.0 MB at a time, but {tmp_path} has only 10.0 MB free;"
        " lower --keep-checkpoints or --max-concurrent, or choose another --storage"
    )


# Samples.


def test_the_samples_are_the_first_trials_as_the_searcher_draws_them_and_really_built():
    space = request(
        tuned={
            "total_train_batch_size": tune.choice([32]),
            "learning_rate": tune.loguniform(1e-5, 1e-3),
        },
        first_params=[{"total_train_batch_size": 32, "learning_rate": 1e-4}],
        fixed={
            "max_rows_per_device": 4,
            "lr_scheduler_type": "cosine",
            "lr_scheduler_kwargs.num_cycles": 2,
        },
    ).space
    config = SweepConfig(workers_per_trial=2, seed=3)
    samples = sample_params(space, config, Path())
    assert len(samples) == 5
    assert samples[0] == space.first_params[0]
    assert len({sample["learning_rate"] for sample in samples}) == 5
    assert built_arguments(space, config, samples[0]) == {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "cosine",
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "logging_steps": 1 / 32,
        "seed": 3,
    }


@dataclasses.dataclass
class Derives(TrainingArguments):
    """Has a field that nobody sets."""

    later: float = dataclasses.field(init=False)


def derives(args: Derives) -> None: ...


@pytest.mark.parametrize("builder", [build, derives])
def test_an_argument_that_another_replaces_only_under_a_condition_is_tuned(builder: Any):
    compiled = when({"torch_compile": True}, tune.choice(["eager", "aot_eager"]))
    tuned = {"torch_compile": tune.choice([True, False]), "torch_compile_backend": compiled}
    first = [{"torch_compile": True, "torch_compile_backend": "eager"}]
    asked = request(build_trainer=builder, tuned=tuned, first_params=first)
    assert asked.space.tuned.keys() == tuned.keys()
    always: dict[str, Any] = {
        "tuned": {"torch_compile": tuned["torch_compile"]},
        "fixed": {"torch_compile_backend": "eager"},
    }
    with pytest.raises(UserError, match="torch_compile_backend overrides it"):
        request(build_trainer=builder, **always)


def test_there_are_no_more_samples_than_trials_or_different_params():
    finite = request(tuned={"seed": tune.randint(1, 4)}).space
    assert sorted(s["seed"] for s in sample_params(finite, SweepConfig(), Path())) == [1, 2, 3]
    assert len(sample_params(finite, SweepConfig(num_trials=2), Path())) == 2


# The whole plan.


def test_the_plan_is_strict_json_and_says_it_all(tmp_path: Path):
    tuned = {
        "optim": tune.choice(["adamw_torch", "sgd"]),
        "learning_rate": tune.loguniform(1e-5, 1e-3),
        "adam_beta2": when({"optim": "adamw_torch"}, tune.uniform(0.9, 0.999)),
    }

    def modest(values: Mapping[str, Any]) -> bool:
        return bool(values["learning_rate"] < 5e-4)

    found = plan_on(
        request(
            tuned=tuned,
            constraints=[modest],
            fixed={"num_train_epochs": 2, "bf16": True},
            config={"num_trials": 16, "storage": str(tmp_path)},
        ),
        ONE_NODE,
    ).in_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["tuned"]["adam_beta2"] == "uniform(0.9, 0.999) when optim = 'adamw_torch'"
    assert found["constraints"] == ["modest"]
    assert found["fixed"] == {"num_train_epochs": 2, "bf16": True}
    assert found["notes"] == [
        "no GPU in use: training on the CPU, in full precision",
        "bf16 switched off: half precision needs a GPU",
    ]
    assert found["data"] == []
    assert found["left_to_training"] == [
        "whether the evaluation returns 'eval_loss'",
        "what the rows contain",
        "whether a batch fits in memory",
        "how long a trial takes",
    ]
    assert len(found["samples"]) == 5
    for sample in found["samples"]:
        assert sample["arguments"]["learning_rate"] == sample["params"]["learning_rate"]
        assert ("adam_beta2" in sample["params"]) == (sample["params"]["optim"] == "adamw_torch")
    assert found["layout"] == {
        "nodes": [{"cpus": 2, "gpus": 0}],
        "groups": 2,
        "most_groups": 2,
        "workers": 1,
        "cpus_per_worker": 1,
        "gpus_per_worker": 0.0,
        "data_cpus": 0,
        "cpus": {"used": 2, "idle": 0},
        "gpus": {"used": 0.0, "idle": 0.0},
        "hint": None,
    }
    assert [(r["progress"], r["epochs"], r["evaluation"]) for r in found["rungs"]] == [
        (0.125, 0.25, 1),
        (0.5, 1.0, 4),
        (1.0, 2.0, 8),
    ]
    assert found["rungs"][0]["trials"] == 16
    assert found["stall_timeout_s"] == 1800
    assert found["work"]["share"] == pytest.approx(found["work"]["trials"] / 16)
    assert found["checkpoints"]["peak_bytes"] is None
    assert found["warnings"] == find_warnings(request(tuned=tuned), 1, gpu=False)


def test_a_plan_of_a_trial_that_fits_nowhere_is_refused_with_the_shortfall():
    with pytest.raises(UserError, match="a trial needs 4 workers, each with 1 CPU"):
        plan_on(request(config={"workers_per_trial": 4}), ONE_NODE)


def prepared(asked: Request, folder: Path) -> list[Choice]:
    return prepare_data(asked.space, folder, workers=1, where="mine.py", note=print)


def test_a_plan_counts_rows_classes_and_what_max_tokens_cuts_for_each_choice(tmp_path: Path):
    for split, rows in (("train", 6), ("validation", 3)):
        lines = "".join(f"{'good ' * (4 * i + 1)},{'ab'[i % 2]}\n" for i in range(rows))
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{lines}")
    asked = request(
        build_trainer=TextClassification(model=str(TINY / "model"), dataset=str(tmp_path)),
        tuned={"max_tokens": tune.choice([16, 11])},
    )
    found = plan_on(asked, ONE_NODE, data=prepared(asked, tmp_path / "kept"))
    classes = {"train": {"a": 3, "b": 3}, "eval": {"a": 2, "b": 1}}
    assert found.in_json()["data"] == [
        {
            "split": split,
            "choice": {"max_tokens": tokens},
            "rows": rows,
            "cut": cut,
            "classes": classes[split],
        }
        # Each text has a token a word, and two special ones: 3, 7, 11, 15, 19, 23.
        for tokens, cuts in ((16, (2, 0)), (11, (3, 0)))
        for (split, rows), cut in zip((("train", 6), ("eval", 3)), cuts, strict=True)
    ]
    assert "what the rows contain" not in found.left


def test_classes_stand_in_one_table_though_choices_of_data_have_others():
    rows = [
        SplitRows(split=split, choice={"dataset": name}, rows=9, classes=classes)
        for name, split, classes in (
            ("A", "train", {"a": 4, "b": 5}),
            ("A", "eval", {}),
            ("B", "train", {"b": 1000, "c": 2}),
        )
    ]
    _, table = row_tables(rows)
    assert isinstance(table, Table)
    assert [column.header for column in table.columns] == [
        "class",
        "train dataset=A",
        "train dataset=B",
    ]
    assert [list(column.cells) for column in table.columns] == [
        ["a", "b", "c"],
        ["4", "5", "-"],
        ["-", "1,000", "2"],
    ]


def test_what_a_script_sets_itself_stands_apart_from_what_the_space_sets():
    """Its dry run had one value of each flag, which trials do not have."""

    class Scripted:
        makes_arguments = True
        keyword_names = ("lr",)
        argument_class = TrainingArguments
        argument_values: ClassVar = {
            **{"seed": 3, "weight_decay": 0.1, "learning_rate": 1e-3},
            **{"num_train_epochs": 2, "per_device_train_batch_size": 2},
        }

        def __call__(self, values: Any, **flags: Any) -> None: ...

    def planned(**tuned: Any) -> Plan:
        tuned |= {"total_train_batch_size": tune.choice([16])}
        fixed = {"weight_decay": 0.2}
        return plan_on(request(build_trainer=Scripted(), tuned=tuned, fixed=fixed), ONE_NODE)

    found = planned(lr=tune.loguniform(1e-5, 1e-3))
    assert found.fixed == {"weight_decay": 0.2}
    assert {"seed": 3, "learning_rate": 1e-3, "num_train_epochs": 2}.items() <= found.script.items()
    assert len({sample.builder["lr"] for sample in found.samples}) == 5
    built = {"per_device_train_batch_size": 16, "weight_decay": 0.2, "logging_steps": 1 / 32}
    assert [sample.arguments for sample in found.samples] == [built] * 5
    assert found.epochs is None, "a flag may set them"
    assert planned(learning_rate=tune.loguniform(1e-5, 1e-3)).epochs == 2


def test_a_plan_takes_the_time_of_a_trial_from_an_earlier_sweep_of_the_same_space(tmp_path: Path):
    asked = request(config={"storage": str(tmp_path)})
    folder = SweepFolder(tmp_path / new_sweep_id("inline"))
    folder.path.mkdir()
    folder.events_file.touch()
    assert past_time(asked, gpu=False) is None, "it has no record yet"
    write_record(folder, make_record(asked, folder.id))
    log = EventLog(folder.events_file, [])
    log.append(ev.SweepStarted(sweep=folder.id, devices="CPU"))
    assert past_time(asked, gpu=False) is None, "it has measured nothing"
    log.append(ev.SmokeMeasured(steps=100, step_s=0.5, batches=10, batch_s=0.125, metrics={}))
    log.close()
    found = plan_on(asked, ONE_NODE)
    assert found.time == PastTime(sweep=folder.id, trial_s=60.0, device_s=60.0)
    assert found.in_json()["time"]["sweep_s"] == found.expected.work * 60 / 2
    assert "how long a trial takes" not in found.left
    assert past_time(asked, gpu=True) is None
    for changes in (
        {"fixed": {"num_train_epochs": 9}},
        {"tuned": {"weight_decay": tune.uniform(0, 1)}},
        {"build_trainer": print},
    ):
        other = dataclasses.replace(asked.space, **changes)
        assert past_time(dataclasses.replace(asked, space=other), gpu=False) is None


def test_trials_that_shared_a_gpu_count_by_their_part_of_it(tmp_path: Path):
    asked = request(config={"storage": str(tmp_path), "num_trials": 8})
    folder = SweepFolder(tmp_path / new_sweep_id("inline"))
    folder.path.mkdir()
    write_record(folder, make_record(asked, folder.id))
    log = EventLog(folder.events_file, [])
    log.append(ev.SweepStarted(sweep=folder.id, devices="2 x A100"))
    for trial in ("t001", "t002"):
        log.append(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
        log.append(ev.JobStarted(trial=trial, attempt=1, group=1, devices=0.5))
        values = {"epoch": 3.0, "metrics": {"eval_loss": 0.5}, "train_s": 90.0}
        report = Report(trial=trial, number=1, step=9, max_steps=9, **values)
        log.append(ev.Reported(report=report))
        end = {"outcome": "done", "train_s": 90.0, "device_s": 50.0}
        log.append(ev.AttemptEnded(trial=trial, attempt=1, **end))
    log.close()
    found = plan_on(asked, [Node(cpus=16, gpus=2)])
    assert found.layout.sharing is not None
    assert found.time == PastTime(sweep=folder.id, trial_s=100.0, device_s=50.0)
    assert found.sweep_s(found.time) == found.expected.work * 50 / 2


def test_what_would_use_idle_devices_keeps_to_whole_repeats():
    nodes = [Node(cpus=8, gpus=0)]
    config = SweepConfig(num_trials=4, repeats=4)
    hint = occupancy(nodes, config, lay_out(nodes, config, streams=False)).hint
    assert hint == "4 of 8 CPUs idle: --num-trials 8 would use all"


@pytest.mark.parametrize(
    ("fixed", "workers", "steps", "evaluations"),
    [
        ({"num_train_epochs": 1, "total_train_batch_size": 16}, 1, (3, 3), [1, 2, 3]),
        ({"num_train_epochs": 2, "total_train_batch_size": 32, "max_rows_per_device": 8}, 2,
         (4, 4), [1, 2, 4]),
        ({"num_train_epochs": 1.5, "total_train_batch_size": 16}, 1, (5, 5), [1, 3, 5]),
        ({"max_steps": 2, "total_train_batch_size": 16}, 1, (2, 2), [1, 2]),
        ({"num_train_epochs": 1, "dataloader_drop_last": True}, 1, (2, 5), [1, 3, 5]),
        ({"num_train_epochs": 10, "total_train_batch_size": 16}, 1, (30, 30), [1, 4, 8]),
    ],
)  # fmt: skip
def test_a_plan_counts_the_evaluations_that_a_trial_has_steps_for(
    fixed: dict[str, Any], workers: int, steps: tuple[int, int], evaluations: list[int],
    tmp_path: Path,
):  # fmt: skip
    tuned = {"learning_rate": tune.loguniform(1e-5, 1e-3)}
    if "total_train_batch_size" not in fixed:
        tuned["total_train_batch_size"] = tune.choice([8, 16])
    found = plan_on(
        request(
            build_trainer=reviews(tmp_path, 40, 100),
            tuned=tuned,
            fixed=fixed,
            config={"workers_per_trial": workers, "time_budget": "2h"},
        ),
        ONE_NODE,
    )
    assert found.steps == steps
    assert [rung.evaluation for rung in found.expected.rungs] == evaluations
    what = "a trial" if steps[0] == steps[1] else "the shortest trial"
    said = f"evals_per_trial = 8: {what} has only {steps[0]} steps, so it evaluates after each step"
    assert (said in found.warnings) == (steps[0] < 8)
    kept = found.in_json()
    assert kept["steps_per_trial"] == {"fewest": steps[0], "most": steps[1]}
    assert kept["time_budget_s"] == 7200


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        ({}, (40, 100)),
        ({"train_rows": 30, "eval_rows": 50}, (30, 50)),
        ({"train_rows": 99, "eval_rows": 500}, (40, 100)),
    ],
)
def test_the_rows_of_a_data_set_are_counted_up_to_the_limits(
    tmp_path: Path, limits: dict[str, int], rows: tuple[int, int]
):
    builder = dataclasses.replace(reviews(tmp_path, 40, 100), **limits)
    assert builder.count_rows() == rows
    (tmp_path / "validation.csv").unlink()
    held_out = limits.get("eval_rows", 4)
    if held_out < 40:
        assert builder.count_rows() == (min(limits.get("train_rows", 40), 40 - held_out), held_out)
