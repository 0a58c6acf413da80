"""After which steps a trial evaluates."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.workers.gate import evaluation_steps

LENGTHS = (st.integers(1, 2**31 - 1), st.integers(1, 64))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(*LENGTHS)
def test_a_trial_evaluates_as_often_as_asked_or_at_each_step_and_at_its_end(
    max_steps: int, evaluations: int
):
    steps = evaluation_steps(max_steps, evaluations)
    assert len(steps) == min(max_steps, evaluations)
    assert steps == sorted(set(steps))
    assert steps[0] >= 1
    assert steps[-1] == max_steps


@settings(derandomize=True, deadline=None, max_examples=300)
@given(*LENGTHS)
def test_each_evaluation_comes_at_the_first_step_that_has_its_share_of_the_trial(
    max_steps: int, evaluations: int
):
    if max_steps < evaluations:
        assert evaluation_steps(max_steps, evaluations) == list(range(1, max_steps + 1))
        return
    for i, step in enumerate(evaluation_steps(max_steps, evaluations), 1):
        share = Fraction(i, evaluations)
        assert Fraction(step, max_steps) >= share > Fraction(step - 1, max_steps)


@pytest.mark.parametrize(
    ("max_steps", "evaluations", "steps"),
    [
        (16, 8, [2, 4, 6, 8, 10, 12, 14, 16]),
        (9, 8, [2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 4, [3, 5, 8, 10]),
        (3, 8, [1, 2, 3]),
        (1, 1, [1]),
        (7, 1, [7]),
    ],
)
def test_evaluations_are_spread_evenly(max_steps: int, evaluations: int, steps: list[int]):
    assert evaluation_steps(max_steps, evaluations) == steps
