"""Which report is the best, and which numbers end a trial."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest

from sweeps.report import LogEntry, Mode, Report, better, difference, reached, rounded, usual_mode

NAN, INF = math.nan, math.inf


def make(number: int = 1, value: float = 0.5, **changes: Any) -> Report:
    whole: dict[str, Any] = {
        "trial": "t001",
        "number": number,
        "step": number,
        "max_steps": 8,
        "epoch": number / 8,
        "metrics": {"eval_score": value, "eval_loss": 1.0},
        "train_s": 1.0,
    }
    return Report(**whole | changes)


@pytest.mark.parametrize(
    ("value", "than", "mode", "wins"),
    [
        (0.6, 0.5, "max", True),
        (0.5, 0.6, "max", False),
        (0.5, 0.6, "min", True),
        (0.6, 0.5, "min", False),
        (0.5, 0.5, "max", False),
        (0.5, 0.5, "min", False),
        (0.5, None, "max", True),
        (0.5, None, "min", True),
        (0.5, NAN, "max", True),
        (0.5, NAN, "min", True),
        (0.5, INF, "max", True),
        (0.5, -INF, "min", True),
        (NAN, 0.5, "max", False),
        (NAN, None, "min", False),
        (INF, 0.5, "max", False),
        (-INF, 0.5, "min", False),
        (INF, None, "max", False),
    ],
)
def test_a_value_is_better_if_it_is_finite_and_strictly_ahead(
    value: float, than: float | None, mode: Mode, wins: bool
):
    assert better(value, than, mode) is wins


def test_values_that_differ_only_in_their_last_bits_are_equal():
    low, high = statistics.fmean((0.7, 0.7, 0.7)), statistics.fmean((1.0, 0.4, 0.7))
    assert low != high
    assert rounded(low) == rounded(high) == 0.7
    assert difference(high, low) == 0
    assert not better(high, low, "max")
    assert not better(low, high, "min")
    assert difference(0.8, 0.78) == difference(0.82, 0.8) == 0.02
    assert not any(better(value, 0.5, "max") for value in (0.5 + 1e-10, 0.5 - 1e-10))
    small = float(np.float32(0.7))
    assert better(float(np.nextafter(np.float32(small), np.float32(1))), small, "max")


def test_a_difference_is_rounded_once_at_the_last_digit_of_the_larger_value():
    gaps = {difference(k / 300, (k - 1) / 300) for k in range(60, 300)}
    assert gaps == {0.003333333}
    assert difference(-5.0, 1000.25) == -1005.25
    assert difference(123456789012.0, 123456788012.0) == 1000
    assert difference(3, 1) == 2
    assert difference(0, 0) == difference(1e-300, 1e-300) == 0
    assert difference(INF, 0.5) == INF
    assert math.isnan(difference(NAN, 0.5))
    assert [str(difference(*pair)) for pair in ((0.5, 0.5), (0.3, 0.1 + 0.2))] == ["0.0", "0.0"]


def test_a_trial_has_reached_a_point_even_if_a_rounding_error_says_it_is_just_before():
    assert 3 / 10 < 0.1 * 3
    assert reached(3 / 10, 0.1 * 3)
    assert not reached(2999 / 10_000, 0.3)


def test_progress_is_the_share_of_planned_steps():
    assert make(step=3, max_steps=8).progress == 0.375
    assert make(step=9, max_steps=9).progress == 1.0


@pytest.mark.parametrize(
    ("report", "what"),
    [
        (make(), None),
        (make(metrics={"eval_score": NAN}), None),
        (make(metrics={"eval_score": NAN, "eval_loss": NAN}), "eval_score is nan"),
        (make(metrics={"eval_score": NAN}, number=2), "eval_score is nan"),
        (make(metrics={"eval_score": NAN}, step=8), "eval_score is nan"),
        (make(metrics={"eval_score": NAN}, ends_itself=True), "eval_score is nan"),
        (make(metrics={"eval_score": 0.5, "eval_loss": NAN}, number=2), None),
        (make(metrics={"eval_score": -INF, "eval_loss": NAN}), "eval_score is -inf"),
        (make(metrics={"eval_score": 0.5, "eval_loss": INF}), "eval_loss is inf"),
        (make(metrics={"eval_score": 0.5, "eval_f1": NAN}), None),
        (
            make(log_entries=(LogEntry(step=3, loss=0.1), LogEntry(step=4, loss=NAN))),
            "the training loss is nan at step 4",
        ),
        (make(log_entries=(LogEntry(step=3, learning_rate=1e-5),)), None),
    ],
    ids=str,
)
def test_the_judged_metric_and_every_loss_must_be_finite(report: Report, what: str | None):
    assert report.non_finite("eval_score") == what


def test_a_loss_that_judges_is_not_a_number_at_the_first_evaluation_either():
    assert make(metrics={"eval_loss": NAN}).non_finite("eval_loss") == "eval_loss is nan"


ERRORS = """
    loss ppl nll mape smape msle bpb bits_per_byte brier_score ece eer ter der wer_ortho error_rate
    perplexity_wiki edit_distance mean_squared_error hamming_loss loss/total hard_more_loss rmse
    fid f1_loss word_error_rate cross_entropy_loss
"""
SCORES = """
    accuracy f1 F1 macro-f1 rouge1 rougeLsum bleu4 sacrebleu precision@5 recall_at_10 roc_auc mAP
    map_50 matthews_correlation pearson exact_match mean_token_accuracy rewards/accuracies
    top5_accuracy error_f1 r2 mean_iou
"""
UNKNOWN = (
    "gap score combined_score toxicity_score runtime samples_per_second class_1 rewards/chosen"
)


@pytest.mark.parametrize("mode", ["min", "max", None])
def test_the_usual_mode_follows_from_the_last_known_word_of_a_name(mode: Mode | None):
    names = {"min": ERRORS, "max": SCORES, None: UNKNOWN}[mode].split()
    assert {name: usual_mode(f"eval_{name}") for name in names} == dict.fromkeys(names, mode)
