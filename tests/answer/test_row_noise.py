"""Trials compared on the same rows: McNemar's exact test, and the lead that noise alone gives."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import numpy as np
import pytest

from sweeps.answer.answer import find_answer
from sweeps.answer.row_noise import lead_by_noise, mcnemar, only_right_in
from sweeps.records import events as ev
from sweeps.records.history import History
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
        by_noise = lead_by_noise(reports)
        assert by_noise is not None
        expected.append(by_noise)
    assert statistics.fmean(leads) == pytest.approx(statistics.fmean(expected), rel=0.08)
    assert lead_by_noise(reports[:1]) is None
    assert lead_by_noise([]) is None


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
        history.apply(ev.TrialSuggested(trial=trial, params={}, origin="searcher"))
        history.apply(ev.Reported(report=report(rows, trial)))
        history.apply(ev.TrialEnded(trial=trial, status="finished"))
    answer = find_answer(history, "finished")
    assert answer.winner is not None
    assert answer.winner.trial == "t002"
    assert answer.not_told_apart == ("t001",), "one standard error, 0.029, is no measure of it"
    assert answer.row_noise is not None
    assert answer.row_noise.trials == 4
    assert answer.row_noise.lead == pytest.approx(0.91 - (0.90 + 0.91 + 0.84 + 0.84) / 4)
