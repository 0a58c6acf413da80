"""Trials compared on the same rows, and over seeds too: what is there is found, and no more."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sweeps.answer.answer import find_answer
from sweeps.answer.row_noise import (
    Comparison,
    compare,
    lead_by_noise,
    mcnemar,
    only_right_in,
    over_rows,
    over_seeds_and_rows,
)
from sweeps.answer.seed_statistics import estimate
from sweeps.answer.standing import interval
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.records.row_values import MOST, pack, row_values
from sweeps.report import Report

LABELS = "0a1b2c3d"


def report(right: Sequence[bool], trial: str = "t001", labels: str = LABELS) -> Report:
    return Report(
        trial=trial,
        number=1,
        step=8,
        max_steps=8,
        epoch=1.0,
        metrics={"eval_accuracy": sum(right) / len(right)},
        eval_rows=len(right),
        labels_per_row=1,
        right_rows=f"{labels}:{np.packbits(right).tobytes().hex()}",
        train_s=1.0,
    )


def of_losses(
    losses: np.ndarray, trial: str = "t001", labels: str = LABELS, weights: np.ndarray | None = None
) -> Report:
    weights = np.ones(len(losses)) if weights is None else weights
    value = float(losses.sum() / weights.sum())
    return Report(
        trial=trial,
        number=1,
        step=8,
        max_steps=8,
        epoch=1.0,
        metrics={"eval_loss": value},
        eval_rows=len(losses),
        row_parts=pack(losses, weights, labels, value),
        train_s=1.0,
    )


def compared(first: Report, *others: Report) -> list[Comparison]:
    found = [compare(first, other) for other in others]
    assert None not in found
    return [each for each in found if each is not None]


def test_rows_are_compared_one_by_one_and_only_where_they_are_the_same():
    one, other = report([1, 1, 1, 0, 0, 1, 0, 1, 1]), report([1, 0, 0, 0, 1, 1, 0, 1, 0])
    assert only_right_in(one, other) == (3, 1)
    assert only_right_in(other, one) == (1, 3)
    assert only_right_in(one, report([1] * 9, labels="ffffffff")) is None
    assert only_right_in(one, report([1] * 10)) is None


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ():
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(6, 0) == mcnemar(0, 6) == pytest.approx(2 / 64)
    assert mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(600, 400) == pytest.approx(2.7e-10, rel=0.1)


def test_the_lead_by_noise_is_what_the_best_of_equal_models_gets():
    numbers, n, trials = random.Random(0), 300, 10
    rows = [numbers.random() * 0.4 + 0.6 for _ in range(n)]  # some are hard for every model
    leads, expected = [], []
    for _ in range(60):
        reports = [report([numbers.random() < row for row in rows]) for _ in range(trials)]
        shares = [one.metrics["eval_accuracy"] for one in reports]
        leads.append(max(shares) - statistics.fmean(shares))
        by_noise = lead_by_noise(compared(*reports))
        assert by_noise is not None
        expected.append(by_noise)
    assert statistics.fmean(leads) == pytest.approx(statistics.fmean(expected), rel=0.08)
    assert lead_by_noise([]) is None
    far_worse = report([False] * n)
    same = [reports[0]] * 5  # some trials often judge every row alike
    with_others = lead_by_noise(compared(*reports, far_worse, *same))
    assert with_others == pytest.approx(expected[-1], rel=0.35)


def test_what_the_same_rows_cannot_tell_from_the_winner_is_named():
    history = History("eval_accuracy", "max")
    right = [True] * 91 + [False] * 9
    trials = {
        "t001": [False] * 10 + [True] * 90,  # wrong in other rows: 10 and 9
        "t002": right,
        "t003": [False] * 7 + right[7:],  # wrong in seven more: p = 0.016
        "t004": [True] * 84 + [False] * 16,
    }
    for trial, rows in trials.items():
        history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
        history.apply(ev.Reported(report=report(rows, trial)))
        history.apply(ev.TrialEnded(trial=trial, status="finished"))
    answer = find_answer(history, "finished")
    assert answer.winner is not None
    assert answer.winner.trial == "t002"
    assert answer.not_told_apart == ("t001",), "one standard error, 0.029, is no measure of it"
    assert answer.row_noise is not None
    assert answer.row_noise.trials == 4
    assert answer.row_noise.lead == pytest.approx(0.91 - (0.90 + 0.91 + 0.84 + 0.84) / 4)


def test_the_mean_of_the_finished_trials_waits_for_the_winner_to_finish():
    history = History("eval_accuracy", "max")
    for trial, right in (("t001", 80), ("t002", 90)):
        rows = [number < right for number in range(100)]
        history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
        history.apply(ev.Reported(report=report(rows, trial)))
    history.apply(ev.TrialEnded(trial="t001", status="finished"))
    assert find_answer(history, "running").row_noise is None
    history.apply(ev.TrialEnded(trial="t002", status="finished"))
    noise = find_answer(history, "running").row_noise
    assert noise is not None
    assert noise.trials == 2


def test_the_luckiest_of_many_equal_trials_is_told_apart_from_few_of_them():
    """Unadjusted, McNemar's test at 5 % tells it apart from a fifth of the others."""
    numbers, missed, times, trials = np.random.default_rng(6), 0, 10, 25
    for _ in range(times):
        history, hard = History("eval_accuracy", "max"), numbers.uniform(0.5, 1.0, 200)
        for place in range(trials):
            trial, right = f"t{place:03}", numbers.random(200) < hard
            history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
            history.apply(ev.Reported(report=report([*right], trial)))
        missed += trials - 1 - len(find_answer(history, "running").not_told_apart or ())
    assert missed / (times * (trials - 1)) < 0.05


def test_the_rows_of_a_loss_are_kept_small_and_come_to_it_again():
    losses = np.random.default_rng(0).exponential(2.0, 25_000)
    report = of_losses(losses)
    values = row_values(report)
    assert values is not None
    assert len(values) == MOST, "12 or 13 neighbours make one"
    assert values.mean() == pytest.approx(losses.mean(), rel=1e-4)
    assert len(report.row_parts or "") < 7_000
    assert pack(losses, np.ones(25_000), LABELS, 1.0) is None, "they do not come to it"
    perplexity = math.exp(losses.mean())
    kept = pack(losses, np.ones(25_000), LABELS, perplexity)
    values = row_values(replace(report, row_parts=kept))
    assert values is not None
    assert values.mean() == pytest.approx(perplexity, rel=1e-3)


def test_the_error_over_rows_is_that_of_a_bootstrap():
    numbers = np.random.default_rng(1)
    words = numbers.integers(1, 40, 400).astype(float)
    one, other = (words * numbers.exponential(1 + gap, 400) for gap in (0.1, 0.0))
    found = over_rows(*(of_losses(losses, weights=words) for losses in (one, other)))
    assert found is not None
    drawn = numbers.integers(0, 400, (4000, 400))
    means = [losses[drawn].sum(axis=1) / words[drawn].sum(axis=1) for losses in (one, other)]
    assert found.error == pytest.approx((means[0] - means[1]).std(), rel=0.05)
    assert found.mean == pytest.approx((one.sum() - other.sum()) / words.sum(), rel=1e-2)


def test_losses_on_the_same_rows_tell_more_than_their_means():
    numbers = np.random.default_rng(2)
    hard = numbers.exponential(2.0, 500)  # some rows are hard for every model
    found, wrong = 0, 0
    for _ in range(100):
        base, equal, better = (
            hard + numbers.normal(shift, 0.2, 500) for shift in (0.0, 0.0, -0.05)
        )
        against_equal, against_better = compared(*map(of_losses, (base, equal, better)))
        wrong += against_equal.p_value <= 0.05
        found += against_better.p_value <= 0.05
    assert wrong <= 10
    assert found >= 90, "the standard error of each mean, 0.09, is no measure of it"
    assert compare(of_losses(base), of_losses(equal, labels="ffffffff")) is None


def test_an_interval_over_seeds_and_rows_holds_on_rows_and_seeds_that_were_not_seen():
    """Rows of which a share is consistently better for one arm: their choice matters as well."""
    numbers, seeds, rows, times = np.random.default_rng(3), 6, 80, 200
    held = {"seeds": 0, "both": 0}
    for _ in range(times):
        differences = (
            0.1
            + numbers.normal(0, 0.05, (seeds, 1))
            + numbers.normal(0, 0.8, (1, rows))
            + numbers.normal(0, 0.5, (seeds, rows))
        )
        base = numbers.exponential(2.0, rows) + 5
        pairs = [(of_losses(base + each), of_losses(base)) for each in differences]
        both = over_seeds_and_rows(pairs)
        alone = estimate([each.mean() for each in differences])
        assert both is not None
        assert alone is not None
        assert alone.low is not None
        assert alone.high is not None
        held["seeds"] += alone.low <= 0.1 <= alone.high
        held["both"] += both.interval[0] <= 0.1 <= both.interval[1]
    assert held["both"] / times == pytest.approx(0.95, abs=0.03)
    assert held["seeds"] / times < 0.8


@pytest.mark.parametrize("seeds", range(2, 15))
def test_where_rows_add_nothing_the_interval_is_that_of_the_seeds(seeds: int):
    base, gaps = np.full(50, 4.0), list(np.random.default_rng(seeds).uniform(0, 0.5, seeds))
    found = over_seeds_and_rows([(of_losses(base + gap), of_losses(base)) for gap in gaps])
    alone = estimate(gaps)
    assert found is not None
    assert alone is not None
    assert found.df == seeds - 1
    assert found.interval == pytest.approx((alone.low, alone.high), rel=0.03, abs=0.01)
    assert over_seeds_and_rows([(of_losses(base), of_losses(base))]) is None


def test_two_seeds_that_agree_by_chance_do_not_make_the_interval_narrow():
    numbers, rows, times, held = np.random.default_rng(7), 100, 300, 0
    for _ in range(times):
        gaps = numbers.normal(0, 0.1, (2, 1)) + numbers.normal(0, 0.5, (2, rows))
        base = numbers.exponential(2.0, rows) + 5
        found = over_seeds_and_rows([(of_losses(base + gap), of_losses(base)) for gap in gaps])
        alone = estimate([gap.mean() for gap in gaps])
        assert found is not None
        assert alone is not None
        assert alone.high is not None
        assert found.interval[1] >= alone.high - 0.01
        held += found.interval[0] <= 0 <= found.interval[1]
    assert held / times > 0.93


def test_two_seeds_that_differ_by_equally_many_rows_are_not_taken_as_exact():
    """On 64 rows, this happens by chance to one of 25 pairs that are equally good."""
    pairs = []
    for first in (0, 20):
        one, other = [True] * 64, [True] * 64
        other[first : first + 6] = [False] * 6
        one[first + 6 : first + 10] = [False] * 4
        pairs.append((report(one), report(other)))
    found = over_seeds_and_rows(pairs)
    assert found is not None
    assert found.mean == pytest.approx(2 / 64)
    assert found.p_value > 0.2


@pytest.mark.parametrize("repeats", [1, 3])
def test_trials_judged_by_a_loss_are_told_apart_by_their_rows(repeats: int):
    numbers = np.random.default_rng(4)
    history = History("eval_loss", "min", repeats)
    hard = numbers.exponential(2.0, 500)
    for place, shift in enumerate((0.0, 0.01, 0.3), 1):
        for seed in range(repeats):
            trial, of = f"t{place}{seed}", f"t{place}0" if seed else None
            suggested = ev.TrialSuggested(
                trial=trial, params={}, origin="searcher", seed=seed, of=of
            )
            losses = hard + shift + numbers.normal(0, 0.3, 500)
            for event in (
                suggested,
                ev.Reported(report=of_losses(losses, trial)),
                ev.TrialEnded(trial=trial, status="finished"),
            ):
                history.apply(event)
    answer = find_answer(history, "finished")
    assert answer.winner is not None
    assert answer.winner.params_set == "t10"
    assert answer.winner.error is not None
    assert answer.not_told_apart == ("t20",)
    if repeats == 1:
        assert answer.row_noise is not None
        assert answer.row_noise.lead == pytest.approx(0.1, abs=0.03)
        assert answer.row_noise.by_noise == pytest.approx(0.3 / 500**0.5 * 0.846, rel=0.15)


@pytest.mark.parametrize("rows", [2, 4, 6, 50])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_gap_that_is_equal_on_every_row_shows_no_more_than_their_number(rows: int, seeds: int):
    losses = 1 + np.arange(rows) / 16
    one, other = of_losses(losses), of_losses(losses + 0.5)
    if seeds == 1:
        (found,) = compared(one, other)
        assert found.p_value == pytest.approx(2 / 2**rows)
        assert compared(one, one)[0].p_value == 1
        return
    both = over_seeds_and_rows([(one, other)] * seeds)
    assert both is not None
    assert both.p_value == 2 / 2**seeds
    assert both.interval is None


def test_the_interval_of_a_mean_over_few_rows_is_as_wide_as_their_number_asks():
    """With 1.96 standard errors, 10 rows hold the true mean in 92 % of cases."""
    numbers, held, times = np.random.default_rng(8), 0, 1500
    for _ in range(times):
        history = History("eval_loss", "min")
        history.apply(ev.TrialSuggested(trial="t001", params={}, origin="searcher", seed=0))
        history.apply(ev.Reported(report=of_losses(numbers.normal(5.0, 1.0, 10))))
        winner = find_answer(history, "running").winner
        assert winner is not None
        low, high = interval(winner, "eval_loss") or (0, 0)
        held += low <= 5.0 <= high
    assert held / times > 0.94


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rows_that_all_add_the_same_give_no_standard_error(value: float):
    history = History("eval_f1", "max")
    parts, weights = np.full(20, 2 * value), np.full(20, 2.0)
    found = replace(
        of_losses(weights),
        metrics={"eval_f1": value},
        row_parts=pack(parts, weights, LABELS, value),
    )
    history.apply(ev.TrialSuggested(trial="t001", params={}, origin="searcher", seed=0))
    history.apply(ev.Reported(report=found))
    winner = find_answer(history, "running").winner
    assert winner is not None
    assert winner.error is None
    assert interval(winner, "eval_f1") is None


def test_a_set_that_cannot_be_compared_is_not_named_as_like_a_winner_whose_seeds_agree():
    history = History("eval_accuracy", "max", repeats=3)
    for trial, of, seed, right in (
        *(("t001", None, 0, 60), ("t002", "t001", 1, 60), ("t003", "t001", 2, 60)),
        ("t004", None, 0, 5),  # its other seeds have no value
    ):
        suggested = ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=seed, of=of)
        rows = [number < right for number in range(64)]
        for event in (suggested, ev.Reported(report=report(rows, trial))):
            history.apply(event)
    answer = find_answer(history, "running")
    assert answer.winner is not None
    assert (answer.winner.params_set, answer.winner.error) == ("t001", None)
    assert answer.not_told_apart is None
