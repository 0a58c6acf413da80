"""The median stopping rule, fed by hand."""

from __future__ import annotations

import random
import statistics
from itertools import accumulate

import pytest

from sweeps import SweepConfig
from sweeps.schedulers.median import LEVELS, OTHERS, Median
from tests.schedulers.fed import Fed, space_of

MODES = pytest.mark.parametrize("mode", ["max", "min"])


def three_others(mode: str) -> Fed:
    """Others with running averages of 0.2, 0.4 and 0.6 at a quarter."""
    fed = Fed(mode, scheduler="median")
    for trial, values in (("t001", (0.1, 0.3)), ("t002", (0.3, 0.5)), ("t003", (0.5, 0.7))):
        for number, value in enumerate(values, 1):
            assert not fed.stops(trial, number / 8, value)
    return fed


@MODES
def test_a_trial_stops_where_its_best_value_is_worse_than_the_median_of_the_averages(mode: str):
    fed = three_others(mode)
    assert not fed.stops("t004", 0.125, 0.31), "0.3 is the median of the first values"
    assert fed.stops("t004", 0.25, 0.39)
    fed = three_others(mode)
    assert not fed.stops("t004", 0.125, 0.41)
    assert not fed.stops("t004", 0.25, 0.1), "its best value counts, not its newest"


@MODES
def test_an_equal_trial_goes_on(mode: str):
    fed = three_others(mode)
    fed.decide("t004", 0.125, 0.3)
    assert not fed.stops("t004", 0.25, 0.4)


@MODES
@pytest.mark.parametrize("value", [0.1, 0.7, 1e-7, 0.0, 123.4])
def test_trials_whose_values_never_differ_all_go_on(mode: str, value: float):
    """As when a metric is stuck at the share of the largest class; 0.1 + 0.1 + 0.1 is not 0.3."""
    fed = Fed(mode, scheduler="median")
    for number in range(1, 8):
        for trial in ("t001", "t002", "t003", "t004"):
            assert not fed.stops(trial, number / 8, value)


def test_fewer_than_three_others_stop_nobody_and_only_those_that_got_as_far_count():
    fed = Fed(scheduler="median")
    for trial in ("t001", "t002"):
        fed.decide(trial, 0.125, 0.9)
        fed.decide(trial, 0.25, 0.9)
    fed.decide("t003", 0.125, 0.9)
    assert fed.stops("t004", 0.125, 0.1)
    fed.decide("t005", 0.125, 0.95)
    assert not fed.stops("t006", 0.25, 0.1), "two others got to a quarter"


def test_a_trial_that_stopped_still_counts():
    fed = three_others("max")
    assert fed.stops("t004", 0.125, 0.2)
    # 0.1, 0.2, 0.3, 0.5: their median is 0.25.
    assert fed.stops("t005", 0.125, 0.24)
    assert not fed.stops("t006", 0.125, 0.26)


def test_a_trial_with_other_evaluations_is_compared_at_its_own_progress():
    """One of five steps reports at 0.2, 0.4, ...; before 0.2 it says nothing."""
    fed = Fed(scheduler="median")
    for trial in ("t001", "t002", "t003"):
        fed.decide(trial, 0.2, 0.9)
        fed.decide(trial, 0.4, 0.1)
    assert not fed.stops("t004", 0.125, 0.3)
    assert fed.stops("t004", 0.25, 0.3)


@MODES
def test_a_trial_whose_progress_goes_backwards_is_judged_by_its_best_value(mode: str):
    for best, stops in ((0.95, False), (0.5, True)):
        fed = Fed(mode, scheduler="median")
        for trial in ("t001", "t002", "t003"):
            fed.decide(trial, 0.125, 0.9)
            fed.decide(trial, 0.25, 0.0)
        assert not fed.stops("t004", 0.25, best)
        assert not fed.stops("t004", 0.5, best)
        assert fed.stops("t004", 0.125, best) == stops


@MODES
def test_no_trial_stops_before_the_first_rung(mode: str):
    fed = Fed(mode, scheduler="median", first_rung=0.5)
    for trial in ("t001", "t002", "t003"):
        for number in (1, 2, 3, 4):
            fed.decide(trial, number / 8, 0.9)
    assert not fed.stops("t004", 0.375, 0.1)
    assert fed.stops("t004", 0.5, 0.1)


def test_its_rungs_are_the_evaluations_from_the_first_rung_on():
    config = SweepConfig(first_rung=0.3)
    assert Median(space_of("max", 8), config).rungs() == (0.375, 0.5, 0.625, 0.75, 0.875)
    assert Median(space_of("max", 10), SweepConfig(first_rung=0.3)).rungs()[0] == 0.3


@MODES
@pytest.mark.parametrize("lengths", [(8,), (8, 90)], ids=["same progress", "many"])
def test_it_decides_as_the_rule_computed_anew_for_each_report(mode: str, lengths: tuple[int, ...]):
    draw = random.Random(f"{mode} {lengths}")
    fed = Fed(mode, scheduler="median", first_rung=0.2)
    length_of = {f"t{number:03}": draw.choice(lengths) for number in range(30)}
    curves: dict[str, list[tuple[float, float]]] = {trial: [] for trial in length_of}
    running, stopped, asked = list(curves), 0, set()
    while running:
        trial = draw.choice(running[:9])
        curve = curves[trial]
        progress = round((len(curve) + 1) / length_of[trial], 3)
        curve.append((progress, round(draw.gauss(int(trial[1:]) % 7 / 3, 0.3), 1)))
        means = [
            list(accumulate(until))[-1] / len(until)
            for name, other in curves.items()
            if name != trial and other and other[-1][0] >= progress
            if (until := [value for at, value in other if at <= progress])
        ]
        behind = (
            progress >= 0.2
            and len(means) >= OTHERS
            and max(value for _, value in curve) < statistics.median(means)
        )
        asked.add(progress)
        stops = fed.stops(trial, progress, curve[-1][1])
        assert stops == (behind and progress < 1)
        stopped += stops
        if stops or progress == 1:
            running.remove(trial)
    assert stopped > 5
    assert (len(asked) > LEVELS) == (len(lengths) > 1)
