"""How many trials share a GPU, from what the first one uses of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.planning.layout import Layout, Node, at_once_in_words, lay_out
from sweeps.planning.occupancy import occupancy
from sweeps.planning.sharing import further_size, groups_now, in_words, trials_per_gpu
from sweeps.records import events as ev
from sweeps.records.history import History

GB = 10**9
ONE, FOUR = [Node(cpus=16, gpus=1)], [Node(cpus=64, gpus=4)]


def layout(nodes: Sequence[Node], **config: Any) -> Layout:
    return lay_out(nodes, SweepConfig(**{"num_trials": 32, **config}), streams=False)


def use(busy: float | None = 0.25, memory: int = 5 * GB, total: int = 80 * GB) -> ev.GpuMeasured:
    return ev.GpuMeasured(trial="t001", busy=busy, memory=memory, total=total)


def history(*events: ev.Event) -> History:
    found = History("eval_score", "max")
    for event in events:
        found.apply(event)
    return found


def crowded(trial: str) -> list[ev.Event]:
    return [
        ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0),
        ev.AttemptEnded(trial=trial, attempt=1, outcome="crowded", train_s=1.0, device_s=1.0),
    ]


@pytest.mark.parametrize(
    ("measured", "trials"),
    [
        (use(0.25), 4),
        (use(0.05), 4),  # --trials-per-gpu
        (use(0.0), 4),
        (use(0.3), 3),
        (use(0.5), 2),
        (use(0.7), 1),
        (use(1.0), 1),
        (use(0.1, memory=30 * GB), 2),  # a tenth of the GPU's memory is left free
        (use(0.1, memory=37 * GB), 1),
        (use(0.1, memory=79 * GB), 1),
        (use(None), 1),
        (None, 1),
    ],
)
def test_as_many_share_a_gpu_as_its_time_and_its_memory_allow(
    measured: ev.GpuMeasured | None, trials: int
):
    assert trials_per_gpu(layout(ONE), history(*([measured] if measured else []))) == trials


def test_what_the_smoke_run_needed_counts_too():
    smoke = ev.SmokeMeasured(
        steps=8, step_s=0.5, batches=10, batch_s=0.1, metrics={}, gpu_memory=30 * GB
    )
    assert trials_per_gpu(layout(ONE), history(smoke, use(0.1))) == 2
    line = in_words(layout(ONE), history(smoke, use(0.1)))
    assert line is not None
    assert "uses 30.0 GB of 80.0 GB" in line


def test_another_kind_of_gpu_is_measured_anew():
    before = [ev.SweepStarted(sweep="s", devices="H100"), use(), *crowded("t001")]
    again = history(*before, ev.SweepStarted(sweep="s", devices="H100"))
    assert (again.gpu_use is not None, again.crowded) == (True, 1)
    other = history(*before, ev.SweepStarted(sweep="s", devices="L4"))
    assert (other.gpu_use, other.crowded) == (None, 0)


def test_a_share_that_the_user_gives_is_taken_as_it_is():
    found = layout(ONE, gpus_per_worker=0.52, trials_per_gpu=1)
    assert (found.size.gpus_per_worker, found.sharing) == (0.52, None)
    assert layout(ONE, gpus_per_worker=0.52) == found


def test_before_a_trial_was_measured_each_gpu_has_one_group():
    found = layout(FOUR)
    assert (found.groups, found.most, groups_now(found, history())) == (4, 16, 4)
    assert groups_now(found, history(use())) == 16
    assert groups_now(found, history(use(0.5))) == 8


def test_no_more_groups_than_trials_and_those_spread_over_the_gpus():
    found = layout(FOUR, num_trials=6)
    assert trials_per_gpu(found, history(use())) == 2
    assert groups_now(found, history(use())) == 6
    # Two further groups on one GPU would leave another alone: each takes all that is left of one.
    assert further_size(found, 2).gpus_per_worker > (1 - found.size.gpus_per_worker) / 2


def test_the_groups_of_a_gpu_fit_on_it_and_two_first_ones_do_not():
    for most in (2, 3, 4, 7, 8):
        found = layout([Node(cpus=64, gpus=1)], trials_per_gpu=most)
        first = found.size.gpus_per_worker
        assert first + (most - 1) * further_size(found, most).gpus_per_worker <= 1
        assert 2 * first > 1


def test_each_time_that_memory_runs_out_one_group_fewer_is_left_down_to_one_a_gpu():
    found = layout(ONE)
    lost = [event for number in range(1, 6) for event in crowded(f"t{number:03}")]
    assert groups_now(found, history(use(), *lost[:2])) == 3
    assert groups_now(found, history(use(), *lost[:4])) == 2
    assert groups_now(found, history(use(), *lost)) == 1


@pytest.mark.parametrize(
    ("nodes", "config"),
    [
        ([Node(cpus=8, gpus=0)], {}),
        (FOUR, {"workers_per_trial": 2}),
        (FOUR, {"trials_per_gpu": 1}),
        (FOUR, {"gpus_per_worker": 1.0}),
        (FOUR, {"gpus_per_worker": 0.5}),
        (ONE, {"num_trials": 1}),
        (FOUR, {"num_trials": 4}),
        (FOUR, {"max_concurrent": 3}),
        ([Node(cpus=4, gpus=4)], {}),
    ],
)
def test_gpus_are_not_shared_where_it_was_not_asked_for_or_nothing_is_left_to_share(
    nodes: list[Node], config: dict[str, Any]
):
    found = layout(nodes, **config)
    assert found.sharing is None
    assert found == layout(nodes, **{**config, "trials_per_gpu": 1})
    assert in_words(found, history(use())) is None


def test_cpus_are_divided_among_the_trials_that_may_share_a_gpu():
    assert layout(ONE).size.cpus_per_worker == 4
    assert layout(ONE, trials_per_gpu=2).size.cpus_per_worker == 8
    assert layout(ONE, trials_per_gpu=3, cpus_per_worker=8).most == 2


def test_plan_counts_a_gpu_that_may_be_shared_as_used():
    found = layout(FOUR)
    used = occupancy(FOUR, SweepConfig(num_trials=32), found)
    assert (used.used_gpus, used.used_cpus, used.hint) == (4, 64, None)
    assert at_once_in_words(found) == "4 (up to 16 if they can share a GPU)"
    assert at_once_in_words(layout(FOUR, trials_per_gpu=1)) == "4"


def test_what_was_measured_and_what_follows_is_one_line():
    assert in_words(layout(ONE), history(use(0.27))) == (
        "4 trials share each GPU: t001 keeps its GPU busy 27% of the time and uses 5.0 GB of"
        " 80.0 GB; at most 4 may share one (--trials-per-gpu)"
    )
    assert in_words(layout(ONE), history(use(0.9))) == (
        "each trial has a GPU to itself: t001 keeps its GPU busy 90% of the time and uses 5.0 GB"
        " of 80.0 GB; at most 4 may share one (--trials-per-gpu)"
    )
    assert in_words(layout(ONE), history(use(None))) == (
        "trials do not share GPUs, because NVML does not report how busy a GPU is; with"
        " --gpus-per-worker 0.5, two trials share one"
    )
