"""What a confirmation says of drawn runs: how often it is wrong, how often it finds a gap."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sweeps.answer.answer import find_answer
from sweeps.answer.confirmation import Confirmed, find_confirmed
from sweeps.answer.gain import Compared
from sweeps.answer.page.best_so_far import find_best_so_far
from sweeps.answer.page.sentences import three_sentences
from sweeps.cli.confirmation_lines import confirmation_lines
from sweeps.records.events import OfConfirmation, Reported, SweepEnded
from sweeps.records.history import History
from sweeps.records.row_values import pack
from sweeps.report import Mode
from sweeps.trackers.note import note
from tests.written_confirmation import confirmation_events, trial_events


def confirmed(
    search: Sequence[float],
    arms: dict[str, Sequence[float | None]],
    *,
    mode: Mode = "max",
    ended: bool = True,
) -> Confirmed:
    """What a sweep says whose trials had these values, and its arms these ones for each seed."""
    history = History("eval_score", mode)
    trials = [trial_events(f"t{i:03}", value) for i, value in enumerate(search, 1)]
    for event in [*itertools.chain(*trials), *confirmation_events(arms, ended=ended)]:
        history.apply(event)
    found = find_confirmed(history)
    assert found is not None
    return found


def drawn(numbers: random.Random, gap: float, trials: int = 12, seeds: int = 6) -> Confirmed:
    """A sweep over noise of sd 1 in which the params of the luckiest trial are `gap` better."""
    search = sorted(numbers.gauss(0, 1) for _ in range(trials))
    winner = [numbers.gauss(gap, 1) for _ in range(seeds)]
    baseline = [numbers.gauss(0, 1) for _ in range(seeds)]
    return confirmed(search, {f"t{trials:03}": winner, "t001": baseline})


def share_better(found: Sequence[Confirmed]) -> float:
    verdicts = [one.comparisons[0].verdict for one in found]
    return verdicts.count("better") / len(verdicts)


def test_of_600_sweeps_over_noise_alone_at_most_one_in_twenty_is_called_better():
    numbers = random.Random(0)
    found = [drawn(numbers, gap=0.0) for _ in range(600)]
    assert share_better(found) <= 0.05
    optimism = [one.arms[0].optimism or 0.0 for one in found]
    assert sum(optimism) / 600 > 1, "the search's value of the luckiest of twelve is mostly luck"


def test_a_gap_of_two_standard_deviations_is_found_with_six_seeds():
    numbers = random.Random(1)
    assert share_better([drawn(numbers, gap=2.0) for _ in range(300)]) > 0.7


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_better_means_better_in_either_mode(mode: Mode, sign: int):
    high, low = [sign * (2 + i / 10) for i in range(6)], [sign * i / 10 for i in range(6)]
    found = confirmed([sign * 0.2, sign * 3.0], {"t002": high, "t001": low}, mode=mode)
    (comparison,) = found.comparisons
    assert comparison.named
    assert comparison.verdict == "better"
    assert comparison.difference is not None
    assert comparison.difference.mean == pytest.approx(2.0)
    assert found.arm("t002").optimism == pytest.approx(0.75), "3 seen, 2.25 confirmed"
    assert found.best == "t002"
    again = confirmed([sign * 0.2, sign * 3.0], {"t002": low, "t001": high}, mode=mode)
    assert again.comparisons[0].verdict == "worse"
    assert again.best == "t001"


def test_a_search_that_stopped_a_trial_early_has_not_seen_what_its_complete_runs_confirm():
    history, stopped = History("eval_score", "max"), trial_events("t001", 0.1)
    stopped[-1] = replace(stopped[-1], status="stopped_early")  # type: ignore[call-arg]
    runs = confirmation_events({"t002": [0.8] * 6, "t001": [0.7] * 6})
    for event in [*stopped, *trial_events("t002", 0.9), *runs]:
        history.apply(event)
    found = find_confirmed(history)
    assert found is not None
    assert found.arm("t002").optimism == pytest.approx(0.1)
    assert found.arm("t001").optimism is None


def test_fewer_than_six_pairs_are_described_and_not_judged():
    found = confirmed([0.1, 0.9], {"t002": [0.8] * 5, "t001": [0.1, 0.2, 0.1, 0.2, 0.1]})
    assert found.comparisons[0].verdict is None
    assert found.comparisons[0].p_sign_flip == 0.0625
    assert found.arm("t002").confirmed is not None
    failed = confirmed(
        [0.1, 0.9], {"t002": [0.8, 0.8, None, 0.8, 0.8, 0.8], "t001": [0.1, 0.2, 0.1, 0.2, 0.1, 0]}
    )
    (comparison,) = failed.comparisons
    assert comparison.difference is not None
    assert comparison.difference.n == 5, "the seed whose run failed has no pair"
    assert comparison.verdict is None
    assert failed.best == "t001", "an arm that fails on a seed is behind one that does not"


@pytest.mark.parametrize(
    ("others", "best", "why"),
    [
        ({"t001": [0.1 * i for i in range(7)]}, "t001", "fewer of its runs failed"),
        ({"t003": [0.95] * 6 + [None], "t001": [0.1] * 6 + [None]}, "t003", "its mean is better"),
        ({"t001": [0.1] * 6 + [None]}, "t002", None),
    ],
)
def test_if_export_does_not_take_the_arm_that_is_called_better_all_that_tell_it_say_why(
    others: dict[str, Sequence[float | None]], best: str, why: str | None
):
    history = History("eval_score", "max")
    trials = [trial_events("t001", 0.1), trial_events("t002", 0.9), trial_events("t003", 0.8)]
    runs = confirmation_events({"t002": [0.9 + i / 100 for i in range(6)] + [None], **others})
    for event in [*itertools.chain(*trials), *runs]:
        history.apply(event)
    answer = find_answer(history, "finished")
    found = answer.confirmation
    assert found is not None
    assert found.named is not None
    assert (found.named.verdict, found.best) == ("better", best)
    said = f"export takes a run of {best}, not of t002, because {why}"
    told = [
        *confirmation_lines(found, "eval_score"),
        note(answer, {}),
        *three_sentences(answer, find_best_so_far([], history, 0.0)),
    ]
    assert sum(said in each for each in told) == (3 if why else 0)


def test_runs_that_no_seed_changes_are_one_run_of_each_arm_and_not_six():
    """As with a script that sets a seed of its own, or a metric that few rows make coarse."""
    (found,) = confirmed([0.1, 0.9], {"t002": [0.81] * 6, "t001": [0.8] * 6}).comparisons
    assert (found.varies, found.verdict) == (False, None)
    rounded = [0.8 + number * 1e-13 for number in range(6)]
    (found,) = confirmed([0.1, 0.9], {"t002": [0.81] * 6, "t001": rounded}).comparisons
    assert (found.varies, found.verdict) == (False, None)
    (found,) = confirmed([0.1, 0.9], {"t002": [0.81] * 5 + [0.9], "t001": [0.8] * 6}).comparisons
    assert found.varies
    assert found.verdict is not None


def test_runs_that_are_equal_give_no_interval_and_all_that_tell_it_say_why():
    history = History("eval_score", "max")
    arms = {"t002": [0.9] * 6, "t001": [0.8, 0.81, 0.8, 0.8, 0.82, 0.8]}
    events = [*trial_events("t001", 0.1), *trial_events("t002", 0.9), *confirmation_events(arms)]
    for event in events:
        history.apply(event)
    answer = find_answer(history, "finished")
    found = answer.confirmation
    assert found is not None
    lines = confirmation_lines(found, "eval_score")
    assert lines[1].startswith("      t002: 0.9 (every run has this value, so no interval); the")
    first = three_sentences(answer, find_best_so_far([], history, 0.0))[0]
    assert "eval_score 0.9 (every run has this value, so no interval) against" in first
    said = note(answer, {})
    assert "- t002: 0.9, every run has this value, so no interval\n- t001 (baseline): 0.805" in said


@pytest.mark.parametrize(("seeds", "verdict"), [(6, "better"), (5, None)])
def test_equal_differences_are_judged_by_their_number(seeds: int, verdict: str | None):
    base = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75][:seeds]
    found = confirmed([0.1, 0.9], {"t002": [value + 0.1 for value in base], "t001": base})
    (comparison,) = found.comparisons
    assert comparison.verdict == verdict
    assert comparison.p_value == comparison.p_sign_flip == 2 / 2**seeds
    said = "mean difference 0.1 (the same for each seed, so no interval; positive is better); "
    said += f"exact sign-flip test p {2 / 2**seeds:.2g}"
    assert confirmation_lines(found, "eval_score")[3].endswith(said)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_gap_of_as_many_rows_on_each_seed_proves_no_more_than_the_number_of_seeds(kind: type):
    right = np.array([400, 403, 404, 398, 405, 407])
    arms = {name: ((right - gap) / 450).astype(kind).tolist() for name, gap in GAPS.items()}
    found = confirmed([0.1, 0.85, 0.9], arms)
    assert [one.p_value for one in found.comparisons] == [2 / 2**6] * 2
    for one in found.comparisons:
        assert one.difference is not None
        assert (one.difference.sd, one.difference.low) == (0, None)
    base = arms["t001"]
    three = {**arms, "t004": [value + 1 for value in base], "t001": base}
    assert confirmation_lines(confirmed([0.1, 0.85, 0.9, 0.8], three), "eval_score")[-1].endswith(
        "exact sign-flip test p 0.031, adjusted 0.062"
    )


GAPS = {"t003": 0, "t002": 1, "t001": 52}


def test_the_interval_of_a_share_stays_within_0_and_1_over_seeds_too():
    values = {"t002": [1.0, 1.0, 0.99, 1.0, 1.0, 0.9], "t001": [0.5, 0.52, 0.5, 0.51, 0.5, 0.5]}
    history = History("eval_accuracy", "max")
    for event in itertools.chain(
        trial_events("t001", 0.1, "eval_accuracy"),
        trial_events("t002", 0.9, "eval_accuracy"),
        confirmation_events(values, metric="eval_accuracy"),
    ):
        history.apply(event)
    found = find_confirmed(history)
    assert found is not None
    own = found.arm("t002").confirmed
    assert own is not None
    assert own.low is not None
    assert (own.low < 0.95, own.high) == (True, 1.0)
    in_points = confirmed([0.1, 0.9], values).arm("t002").confirmed
    assert in_points is not None
    assert in_points.high is not None
    assert in_points.high > 1, "a score has no such bound"


def test_a_note_says_what_became_of_each_arm_whatever_the_verdict():
    def said(
        arms: dict[str, Sequence[float | None]], search: tuple[float, float] = (0.1, 0.9)
    ) -> str:
        history = History("eval_score", "max")
        trials = [*trial_events("t001", search[0]), *trial_events("t002", search[1])]
        for event in [*trials, *confirmation_events(arms)]:
            history.apply(event)
        return note(find_answer(history, "finished"), {})

    base = [0.5, 0.52, 0.48, 0.5, 0.51, 0.49]
    failed = said({"t002": [None] * 6, "t001": base})
    why = "because the two have fewer than two seeds in common"
    assert f"On 6 fresh seeds each: **no verdict** (t002 against t001), {why}.\n" in failed
    itself = said({"t001": [0.9] * 6, "t002": base}, search=(0.9, 0.1))
    why = "because the search's winner is the baseline itself"
    assert f"On 6 fresh seeds each: **no verdict**, {why}.\n" in itself
    assert "- t002: every run failed\n- t001 (baseline): 0.5, 95 % interval" in failed
    assert "On 6 fresh seeds each: **worse** (t002" in said(
        {"t002": [value - 0.1 for value in base], "t001": base}
    )


def test_a_mean_is_not_shown_outside_its_interval():
    low = [1_234_567 + tenths / 10 for tenths in (1, 2, 3, 2, 4, 3)]
    found = confirmed([0.1, 0.9], {"t002": [value + 1 for value in low], "t001": low})
    lines = confirmation_lines(found, "eval_score")
    assert lines[1].startswith("      t002: 1234568.2 (1234568.1 to 1234568.4), sd 0.1049")


def test_arms_that_differ_only_in_their_last_bits_do_not_differ():
    base = [0.5, 0.53, 0.48, 0.51, 0.55, 0.49]
    ahead = [value * (1 + 2.3e-16) for value in base]
    assert all(one > other for one, other in zip(ahead, base, strict=True))
    found = confirmed([0.1, 0.9], {"t002": ahead, "t001": base})
    (comparison,) = found.comparisons
    assert comparison.verdict == "not told apart"
    assert (comparison.p_value, comparison.p_sign_flip) == (1, 1)


def test_no_verdict_while_runs_are_missing():
    values = {"t002": [0.8] * 6, "t001": [0.1 + i / 100 for i in range(6)]}
    running = confirmed([0.1, 0.9], values, ended=False)
    assert running.comparisons[0].verdict is None
    assert running.best is None
    assert confirmed([0.1, 0.9], values).comparisons[0].verdict == "better"


@pytest.mark.parametrize("missing", [0, 1])
def test_a_confirmation_has_ended_once_all_its_runs_have_even_if_all_failed(missing: int):
    history = History("eval_score", "max")
    *runs, _ = confirmation_events({"t002": [None] * 6, "t001": [None] * 6})
    failed = SweepEnded(time=0, status="failed", reason="no trial reported anything")
    before = [*trial_events("t001", 0.1), *trial_events("t002", 0.9)]
    for event in [*before, *runs[: len(runs) - missing], OfConfirmation(time=0, inner=failed)]:
        history.apply(event)
    found = find_confirmed(history)
    assert found is not None
    assert found.ended == (missing == 0)
    assert (found.best, found.comparisons[0].verdict) == (None, None)


def test_runs_that_failed_are_said_beside_the_verdict():
    runs = {"t002": [0.8, 0.9, 0.85] * 2 + [None] * 3, "t001": [0.1, 0.2, 0.1] * 3}
    history = History("eval_score", "max")
    for event in [
        *(*trial_events("t001", 0.1), *trial_events("t002", 0.9)),
        *confirmation_events(runs),
    ]:
        history.apply(event)
    answer = find_answer(history, "finished")
    assert three_sentences(answer, find_best_so_far((), history, 0.0))[0].startswith(
        "t002 is better than the baseline t001: on 9 fresh seeds eval_score 0.85 (95 % interval"
        " 0.8031 to 0.8969; 3 of 9 runs failed) against 0.1333"
    )
    assert "; 3 of 9 runs failed\n" in note(answer, {})


def test_a_search_that_saw_what_the_seeds_confirm_was_neither_lucky_nor_unlucky():
    found = confirmed([0.1, 0.9], {"t002": [0.9] * 9, "t001": [0.1] * 9})
    assert sum([0.9] * 9) / 9 != 0.9
    assert found.arm("t002").optimism == 0


@pytest.mark.parametrize("mode", ["max", "min"])
def test_no_difference_is_0_and_not_minus_0(mode: Mode):
    found = confirmed([0.5, 0.5], {"t001": [0.4, 0.6] * 3, "t002": [0.5] * 6}, mode=mode)
    assert [str(arm.optimism) for arm in found.arms] == ["0.0", "0.0"]
    assert str(Compared(winner=0.5, baseline=0.5).gain(mode)) == "0.0"


def test_further_comparisons_pay_for_their_number_and_the_named_one_does_not():
    base = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    close = [b + d for b, d in zip(base, (0.05, 0.3, 0.1, 0.2, -0.02, 0.1), strict=True)]
    arms = {"t002": close, "t003": close, "t004": close, "t001": base}
    found = confirmed([0.1, 0.9, 0.8, 0.7], arms)
    named, *further = found.comparisons
    assert named.named
    assert 0.025 < named.p_value < 0.05
    assert named.verdict == "better"
    assert [one.p_value for one in further] == pytest.approx([2 * named.p_value] * 2)
    assert [one.verdict for one in further] == ["not told apart"] * 2


def test_a_baseline_that_won_the_search_is_compared_with_the_next_best_and_nothing_is_named():
    values = {"t001": [0.5 + i / 100 for i in range(6)], "t002": [0.4] * 6}
    found = confirmed([0.9, 0.8], values)
    assert found.named is None
    (comparison,) = found.comparisons
    assert (comparison.params_set, comparison.verdict) == ("t002", "worse")


def test_a_winner_that_came_after_the_confirmation_is_not_confirmed():
    history = History("eval_score", "max")
    events = [trial_events("t001", 0.1), trial_events("t002", 0.9)]
    arms = {"t002": [0.8] * 6, "t001": [0.1] * 6}
    for event in [*itertools.chain(*events), *confirmation_events(arms)]:
        history.apply(event)
    assert find_confirmed(history) is not None
    for event in trial_events("t003", 0.95):
        history.apply(event)
    assert find_confirmed(history) is None


@pytest.mark.parametrize(("mode", "sign"), [("max", 1), ("min", -1)])
def test_an_interval_that_counts_the_choice_of_rows_stands_beside_that_of_the_seeds(
    mode: Mode, sign: int
):
    numbers = np.random.default_rng(5)
    rows = numbers.normal(5, 1, 60)
    odd = numbers.normal(0.2, 1, 60)  # how much better one arm does on each row
    runs = {
        arm: [rows + sign * gap + numbers.normal(0, 0.1, 60) for _ in range(6)]
        for arm, gap in (("t002", odd), ("t001", 0.0))
    }
    arms = {arm: [float(values.mean()) for values in each] for arm, each in runs.items()}
    in_order = itertools.chain(*zip(*runs.values(), strict=True))
    history = History("eval_score", mode)
    for event in itertools.chain(trial_events("t001", 5.0), trial_events("t002", 5.0 + sign)):
        history.apply(event)
    for event in confirmation_events(arms):
        if isinstance(event, OfConfirmation) and isinstance(event.inner, Reported):
            values = next(in_order)
            parts = pack(values, np.ones(60), "0a1b2c3d", float(values.mean()))
            report = replace(event.inner.report, eval_rows=60, row_parts=parts)
            event = replace(event, inner=replace(event.inner, report=report))
        history.apply(event)
    confirmed = find_confirmed(history)
    assert confirmed is not None
    named = confirmed.named
    assert named is not None
    assert named.difference is not None
    assert named.difference.mean == pytest.approx(odd.mean(), abs=0.1)
    assert named.verdict == ("better" if odd.mean() > 0 else "worse")
    assert named.with_rows is not None
    low, high = named.with_rows
    assert (low + high) / 2 == pytest.approx(named.difference.mean, rel=1e-2)
    assert (high - low) / 2 == pytest.approx(2 * odd.std() / 60**0.5, rel=0.15)
