"""The answer: who won, by how much, at what cost, and what cannot be told apart from the winner."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Sequence
from typing import Any

import pytest

from sweeps.answer.answer import Answer, find_answer
from sweeps.answer.page.best_so_far import find_best_so_far
from sweeps.answer.page.seed_values import find_seed_values
from sweeps.answer.page.sentences import three_sentences
from sweeps.answer.standing import Standing, interval
from sweeps.cli.summary import answer_lines
from sweeps.records import events as ev
from sweeps.records.history import History, SweepStatus
from sweeps.report import Mode, Report
from sweeps.trackers.note import note


class Sweep:
    """A history made event by event, 10 seconds apart, on groups of 2 devices."""

    def __init__(self, metric: str = "eval_accuracy", mode: Mode = "max", repeats: int = 1) -> None:
        self.history = History(metric, mode, repeats)
        self.now = 0.0
        self.events = list[ev.Event]()
        self.put(ev.SweepStarted, sweep="s")

    def put(self, kind: type[ev.Event], /, **fields: Any) -> None:
        self.now += 10
        self.events.append(kind(time=self.now, **fields))
        self.history.apply(self.events[-1])

    def trial(
        self,
        trial: str,
        *values: float,
        of: str | None = None,
        rows: int | None = 100,
        labels: int | None = None,
        seed: int | None = None,
        steps: Sequence[int] = (20, 40, 60, 80),
        max_steps: int = 80,
        classes_differ: bool = False,
        **params: Any,
    ) -> None:
        origin = "repeat" if of else "first_params" if trial == "t001" else "searcher"
        fields = {"params": params, "origin": origin, "of": of}
        seed = int(trial[1:]) if seed is None else seed
        self.put(ev.TrialSuggested, trial=trial, seed=seed, **fields)
        self.put(ev.JobStarted, trial=trial, attempt=1, group=1, devices=2)
        for number, (value, step) in enumerate(zip(values, steps, strict=False), 1):
            report = Report(
                trial=trial,
                number=number,
                step=step,
                max_steps=max_steps,
                epoch=number / 2,
                metrics={self.history.metric: value},
                eval_rows=rows,
                labels_per_row=labels,
                classes_differ=classes_differ,
                train_s=number * 4.0,
            )
            self.put(ev.Reported, report=report)

    def end(self, trial: str, status: ev.TrialEnd, failure: ev.FailureKind | None = None) -> None:
        ended = {"attempt": 1, "outcome": failure or "done", "train_s": 8.0, "device_s": 30.0}
        self.put(ev.AttemptEnded, trial=trial, **ended)
        self.put(ev.TrialEnded, trial=trial, status=status, failure=failure)

    def answer(self, status: SweepStatus = "running", now: float | None = None) -> Answer:
        return find_answer(self.history, status, now)


def test_the_winner_stands_with_its_best_report_beside_what_it_beats_and_what_it_cost():
    sweep = Sweep()
    sweep.trial("t001", 0.5, 0.6, learning_rate=1e-5)
    sweep.end("t001", "stopped_early")
    sweep.trial("t002", 0.7, 0.9, 0.8, learning_rate=9e-5)
    sweep.end("t002", "finished")
    sweep.trial("t003")
    sweep.end("t003", "failed", "out_of_memory")
    sweep.trial("t004", 0.1)
    sweep.put(ev.SweepEnded, status="failed", reason="no disk")
    assert sweep.answer("failed").in_json() == {
        "metric": "eval_accuracy",
        "mode": "max",
        "status": "failed",
        "reason": "no disk",
        "winner": {
            "trial": "t002",
            "params_set": "t002",
            "params": {"learning_rate": 9e-5},
            "value": 0.9,
            "step": 40,
            "max_steps": 80,
            "epoch": 1.0,
            "progress": 0.5,
            "mean": 0.9,
            "seeds": 1,
            "repeats": 1,
            "checkpoint": None,
            "error": pytest.approx(0.03133, abs=1e-5),
            "why_no_error": None,
            "df": None,
            "center": pytest.approx(92 / 104),
        },
        "baseline": {
            "params_set": "t001",
            "mean": 0.6,
            "status": "stopped_early",
            "progress": 0.5,
        },
        "compared": {"winner": 0.9, "baseline": 0.6},
        "gain": pytest.approx(0.3),
        "majority": None,
        "tied": [],
        "not_told_apart": [],
        "why_not_tested": None,
        "row_noise": None,
        "trials": {"finished": 1, "stopped_early": 1, "failed": 1, "not_ended": 1},
        "failures": {"out_of_memory": 1},
        "device_s": 3 * 30.0 + 2 * 20.0,  # t004 has 2 devices since 20 s before the newest event
        "confirmation": None,
    }


def test_what_ties_with_the_winner_is_named_and_the_first_that_was_suggested_has_won():
    sweep = Sweep()
    for trial, value in (("t001", 0.5), ("t002", 0.9), ("t003", 0.8), ("t004", 0.9)):
        sweep.trial(trial, value)
    answer = sweep.answer()
    assert answer.winner is not None
    assert (answer.winner.trial, answer.tied) == ("t002", ("t004",))
    sweep.end("t004", "failed", "error")
    assert sweep.answer().tied == (), "without a checkpoint it cannot win"
    path = "checkpoints/t004/best-20"
    sweep.put(ev.CheckpointSaved, trial="t004", number=1, kind="best", path=path, sha256="0")
    assert sweep.answer().tied == ("t004",)
    sweep.trial("t005", 0.95)
    assert sweep.answer().tied == ()


def test_with_repeats_means_tie_and_not_trials_nor_sets_that_lack_a_seed():
    sweep = Sweep(repeats=2)
    for first, values in (("t001", (0.5, 0.75)), ("t003", (0.75, 0.5)), ("t005", (0.625,))):
        for number, value in enumerate(values):
            again = f"t{int(first[1:]) + number:03}"
            sweep.trial(again, value, of=first if number else None)
            sweep.end(again, "finished")
    assert sweep.answer().tied == ("t003",)


def test_before_the_first_value_there_is_no_winner():
    sweep = Sweep()
    assert sweep.answer().winner is None
    sweep.trial("t001")
    sweep.trial("t002", math.nan)
    answer = sweep.answer()
    assert (answer.winner, answer.baseline, answer.gain, answer.not_told_apart) == (None,) * 4
    assert answer.trials == {"finished": 0, "stopped_early": 0, "failed": 0, "not_ended": 2}


def test_a_running_trial_costs_until_now():
    sweep = Sweep()
    sweep.trial("t001")
    assert sweep.answer(now=sweep.now + 50).device_s == 100.0
    assert sweep.answer("interrupted").device_s == 0.0


def test_the_standard_error_of_an_accuracy_follows_from_its_rows():
    sweep = Sweep()
    sweep.trial("t001", 0.9)
    assert sweep.answer().winner.error == pytest.approx(0.03133, abs=1e-5)  # type: ignore[union-attr]
    sweep.trial("t002", 0.98, rows=None)
    answer = sweep.answer()
    assert answer.winner is not None
    assert (answer.winner.trial, answer.winner.error, answer.not_told_apart) == ("t002", None, None)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_that_all_rows_are_right_or_all_wrong_does_not_make_a_share_exact(mode: Mode):
    """With 50 rows, 98 % is one row less than all of them."""
    sweep = Sweep(mode=mode)
    best, next_best = (1.0, 0.98) if mode == "max" else (0.0, 0.02)
    sweep.trial("t001", next_best, rows=50)
    sweep.trial("t002", best, rows=50)
    answer = sweep.answer()
    assert answer.winner is not None
    assert answer.not_told_apart == ("t001",)
    low, high = interval(answer.winner, "eval_accuracy") or (0, 0)
    assert (low, high) == pytest.approx((0.9126, 1) if mode == "max" else (0, 0.0874), abs=1e-4)


@pytest.mark.parametrize(("rows", "share"), [(64, 0.95), (100, 0.9), (256, 0.98)])
def test_the_interval_of_an_accuracy_holds_near_1_too(rows: int, share: float):
    held = 0.0
    for right in range(rows + 1):
        sweep = Sweep()
        sweep.trial("t001", right / rows, rows=rows)
        winner = sweep.answer().winner
        assert winner is not None
        low, high = interval(winner, "eval_accuracy") or (0, 0)
        times = math.comb(rows, right) * share**right * (1 - share) ** (rows - right)
        held += times * (low <= share <= high)
    assert held > 0.94


@pytest.mark.parametrize(
    ("metric", "labels", "has"),
    [
        ("eval_accuracy", 1, True),
        ("eval_hard_accuracy", 1, True),
        ("eval_accuracy", 128, False),
        ("eval_mean_token_accuracy", None, False),
        ("eval_balanced_accuracy", 1, False),
    ],
)
def test_a_share_of_tokens_or_a_mean_over_classes_has_no_standard_error(
    metric: str, labels: int | None, has: bool
):
    sweep = Sweep(metric)
    sweep.trial("t001", 0.9, labels=labels)
    winner = sweep.answer().winner
    assert winner is not None
    assert (winner.error is not None) == has


@pytest.mark.parametrize(("metric", "value"), [("eval_loss", 0.5), ("eval_accuracy", 87.5)])
def test_another_metric_and_an_accuracy_in_percent_have_no_standard_error(
    metric: str, value: float
):
    sweep = Sweep(metric)
    sweep.trial("t001", value)
    sweep.trial("t002", value)
    answer = sweep.answer()
    assert answer.winner is not None
    assert (answer.winner.error, answer.not_told_apart) == (None, None)


@pytest.mark.parametrize(("mode", "gained"), [("max", 0.4), ("min", 0.2)])
def test_the_gain_is_how_much_better_the_winner_is_than_the_first_params(mode: Mode, gained: float):
    sweep = Sweep(mode=mode)
    sweep.trial("t001", 0.5)
    assert sweep.answer().gain == 0
    sweep.trial("t002", 0.9)
    sweep.trial("t003", 0.3)
    assert sweep.answer().gain == pytest.approx(gained)


@pytest.mark.parametrize(
    ("end", "failure"), [("stopped_early", None), ("failed", "diverged"), (None, None)]
)
def test_first_params_that_trained_less_than_the_winner_are_compared_where_they_stopped(
    end: ev.TrialEnd | None, failure: ev.FailureKind | None
):
    sweep = Sweep()
    sweep.trial("t001", 0.5)
    if end is not None:
        sweep.end("t001", end, failure)
    sweep.trial("t002", 0.4, 0.6, 0.9, 0.8)
    sweep.end("t002", "finished")
    assert sweep.answer().gain == pytest.approx(-0.1), "0.4 against 0.5, not 0.9"
    sweep.trial("t003", 0.7, 0.95)
    answer = sweep.answer()
    assert answer.gain == pytest.approx(0.2)
    assert answer.baseline is not None
    how = (end or "running").replace("_", " ")
    said = (
        f"ompared at 25% of the trial, where the first params (t001, {how}) ended: 0.7 against 0.5,"
        " 0.2 better"
    )
    for text in (
        "\n".join(answer_lines(answer)),
        note(answer, {}),
        three_sentences(answer, find_best_so_far((), sweep.history, 0.0))[0],
    ):
        assert said in text, "everyone says the same"


def test_trials_with_different_numbers_of_steps_are_compared_at_the_same_share_of_training():
    sweep = Sweep()
    sweep.trial("t001", 0.5, steps=[10])  # the first of 8 evaluations
    sweep.end("t001", "stopped_early")
    sweep.trial("t002", 0.6, 0.9, steps=[2, 3], max_steps=10)  # the first two of 8 evaluations
    assert sweep.answer().gain == pytest.approx(0.1)


def test_first_params_that_failed_on_a_seed_give_no_gain():
    sweep = Sweep(repeats=2)
    for trial, value in (("t001", 0.5), ("t002", None), ("t003", 0.7), ("t004", 0.9)):
        sweep.trial(
            trial,
            *(() if value is None else (value,) * 4),
            of={"t002": "t001", "t004": "t003"}.get(trial),
        )
        if value is None:
            sweep.end(trial, "failed", "error")
        else:
            sweep.end(trial, "finished")
    answer = sweep.answer()
    assert answer.winner is not None
    assert (answer.winner.params_set, answer.gain) == ("t003", None)
    assert (
        "      no fair comparison with the first params (t001: 0.5, failed at 0% of the trial) is"
        " possible"
    ) in answer_lines(answer)


def test_there_is_no_gain_without_first_params():
    sweep = Sweep()
    sweep.trial("t009", 0.5)
    answer = sweep.answer()
    assert (answer.baseline, answer.gain) == (None, None)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_params_cannot_be_told_apart_if_the_errors_of_both_explain_their_difference(mode: Mode):
    sweep = Sweep(mode=mode)
    side = 1 if mode == "max" else -1
    for trial, below in {
        "t001": 0.2,
        "t002": 0.03,
        "t003": 0.0,
        "t004": 0.02,
        "t005": 0.16,
    }.items():
        sweep.trial(trial, 0.5 - side * below)
    sweep.trial("t006", 0.5 - side * 0.01)
    sweep.end("t006", "failed", "diverged")
    answer = sweep.answer()
    assert answer.winner is not None
    assert (answer.winner.trial, answer.winner.error) == ("t003", pytest.approx(0.05, rel=0.02))
    # The difference of t005 alone has p = 0.017, but it is one of four; that of t001 has 0.002.
    assert answer.not_told_apart == ("t004", "t002", "t005"), "the best first"


def test_the_luckiest_of_many_equal_trials_is_told_apart_from_few_of_them():
    """Unadjusted, a test at 5 % tells the luckiest of 30 apart from a quarter of the others."""
    numbers, missed = random.Random(0), 0
    for _ in range(20):
        sweep = Sweep()
        for trial in range(1, 31):
            sweep.trial(f"t{trial:03}", sum(numbers.random() < 0.8 for _ in range(100)) / 100)
        missed += 29 - len(sweep.answer().not_told_apart or ())
    assert missed / (20 * 29) < 0.05


def test_the_interval_of_the_best_of_several_is_said_to_be_too_favourable():
    sweep = Sweep()
    for trials, lucky in ((1, ")"), (2, ", not adjusted for picking the best of many)")):
        sweep.trial(f"t{trials:03}", 0.8)
        first = three_sentences(sweep.answer(), find_best_so_far((), sweep.history, 0.0))[0]
        assert f" (95 % interval 0.71 to 0.867{lucky}" in first


def test_repeated_params_are_judged_by_their_mean_and_compared_seed_by_seed():
    sweep = Sweep(repeats=3)
    for first, values in {
        "t1": (0.8, 0.6, 0.7),
        "t2": (0.9, 0.3, 0.6),
        "t3": (0.21, 0.0, 0.1),
    }.items():
        for seed, value in enumerate(values):
            sweep.trial(f"{first}{seed}", value, of=f"{first}0" if seed else None, seed=seed)
    answer = sweep.answer()
    winner = answer.winner
    assert winner is not None
    assert (winner.trial, winner.params_set, winner.value) == ("t10", "t10", 0.8)
    assert (winner.mean, winner.seeds) == (pytest.approx(0.7), 3)
    assert winner.error == pytest.approx(0.1 / 3**0.5), "over the seeds, not over the rows"
    assert answer.not_told_apart == ("t20",)


def test_seeds_that_agree_do_not_make_a_mean_exact():
    """Of 50 rows, two seeds may well get the same number right."""
    sweep = Sweep(repeats=2)
    for trial, value, seed in (
        ("t001", 0.86, 0),
        ("t002", 0.88, 1),
        ("t003", 0.9, 0),
        ("t004", 0.92, 1),
    ):
        of = {"t002": "t001", "t004": "t003"}.get(trial)
        sweep.trial(trial, value, of=of, seed=seed)
    answer = sweep.answer()
    assert answer.winner is not None
    assert answer.winner.params_set == "t003"
    assert answer.not_told_apart == ("t001",)


def test_params_that_cannot_be_tested_are_not_told_apart_either():
    sweep = Sweep("eval_f1", repeats=2)
    for trial, value, seed, of in (
        *(("t001", 0.80, 0, None), ("t002", 0.82, 1, "t001")),
        *(("t003", 0.40, 0, None), ("t004", 0.42, 1, "t003")),
        *(("t005", 0.50, 0, None), ("t006", 0.90, 1, "t005")),
        ("t007", 0.79, 0, None),  # its other seed has not run
    ):
        sweep.trial(trial, value, of=of, seed=seed)
    answer = sweep.answer()
    assert answer.winner is not None
    assert answer.winner.params_set == "t001"
    assert answer.not_told_apart == ("t007", "t005", "t003"), "two equal gaps show little"
    assert answer.why_not_tested is None


@pytest.mark.parametrize(
    ("repeats", "why"),
    [
        (1, "nothing is known of what each row adds to eval_f1"),
        (2, "no other params have two seeds in common with it"),
    ],
)
def test_if_nothing_can_be_tested_everyone_says_that_it_is_unknown_and_why(repeats: int, why: str):
    sweep = Sweep("eval_f1", repeats=repeats)
    sweep.trial("t001", 0.8)
    assert sweep.answer().why_not_tested is None, "there is nothing to test"
    if repeats == 2:
        sweep.trial("t002", 0.7, of="t001", seed=2)
    sweep.trial("t003", 0.7, seed=1)
    answer = sweep.answer()
    assert answer.not_told_apart is None
    said = f"it is unknown which other params are as good: {why}"
    assert f"      {said}" in answer_lines(answer)
    assert f"I{said[1:]}.\n" in note(answer, {})
    second = three_sentences(answer, find_best_so_far((), sweep.history, 0.0))[1]
    assert second.startswith(f"I{said[1:]}; this ranking may be luck")


def test_a_share_that_the_predicted_classes_do_not_give_has_no_standard_error():
    """Such as the accuracy of the worst group, which 25 of 1,000 rows may decide."""
    sweep = Sweep("eval_worst_group_accuracy")
    sweep.trial("t001", 0.7, classes_differ=True)
    sweep.trial("t002", 0.8, classes_differ=True)
    answer = sweep.answer()
    assert answer.winner is not None
    assert (answer.winner.error, answer.not_told_apart) == (None, None)
    why = "the predicted classes do not give eval_worst_group_accuracy"
    assert (answer.winner.why_no_error, answer.why_not_tested) == (why, why)


def test_why_there_is_no_standard_error_is_said():
    sweep = Sweep("eval_f1")
    sweep.trial("t001", 1.0)
    why = "nothing is known of what each row adds to eval_f1"
    answer = sweep.answer()
    said = f"its standard error is unknown: {why}"
    assert f"      {said}" in answer_lines(answer)
    page = three_sentences(answer, find_best_so_far((), sweep.history, 0.0))
    assert page[0].endswith(f"; {said}.")
    sweep.trial("t002", 0.9)
    page = three_sentences(sweep.answer(), find_best_so_far((), sweep.history, 0.0))
    assert [why in sentence for sentence in page] == [False, True, False], "once is enough"


def test_the_interval_over_repeats_stays_within_0_and_1():
    sweep = Sweep(repeats=3)
    for trial, value in (("t001", 1.0), ("t002", 0.99), ("t003", 1.0)):
        sweep.trial(trial, value, of="t001" if trial != "t001" else None)
    answer = sweep.answer()
    assert answer.winner is not None
    _, high = interval(answer.winner, "eval_accuracy") or (0, 0)
    assert high == 1
    seeds = find_seed_values(sweep.history, answer)
    assert seeds is not None
    assert seeds.params[0].mean is not None
    assert seeds.params[0].mean.high == 1


def test_values_that_are_compared_have_the_digits_that_tell_them_apart():
    sweep = Sweep("eval_loss", "min")
    sweep.trial("t001", 0.69314718)
    sweep.end("t001", "finished")
    sweep.trial("t002", 0.69312)
    answer = sweep.answer()
    gain = "2.718e-05 better than the first params (t001: 0.69315)"
    lines = answer_lines(answer)
    assert lines[0].startswith("best: t002 with eval_loss 0.69312 ")
    assert f"      {gain}" in lines
    first = three_sentences(answer, find_best_so_far((), sweep.history, 0.0))[0]
    assert "is t002 with eval_loss 0.69312," in first
    assert gain in first
    assert "with `eval_loss` **0.69312** (lower" in note(answer, {})
    assert gain in note(answer, {})


def test_first_params_that_almost_finished_are_not_said_to_have():
    sweep = Sweep()
    sweep.trial("t001", 0.5, 0.7, steps=(500, 996), max_steps=1000)
    sweep.end("t001", "stopped_early")
    sweep.trial("t002", 0.5, 0.9, steps=(500, 996), max_steps=1000)
    lines = answer_lines(sweep.answer())
    assert "at step 996, 99.6% of the trial" in lines[0]
    assert any("compared at 99.6% of the trial, where the first" in line for line in lines)


@pytest.mark.parametrize(
    ("status", "far"), [("finished", "."), ("stopped_early", ", compared as far as they trained.")]
)
def test_a_trial_that_was_stopped_is_told_apart_as_far_as_it_trained(status: ev.TrialEnd, far: str):
    sweep = Sweep()
    sweep.trial("t001", 0.5)
    sweep.end("t001", status)
    sweep.trial("t002", 0.6, 0.7, 0.8, 0.9)
    sweep.end("t002", "finished")
    answer = sweep.answer("finished")
    assert answer.not_told_apart == ()
    second = three_sentences(answer, find_best_so_far((), sweep.history, 0.0))[1]
    assert second.startswith(f"At 5 %, a test tells the best from all other params{far}")


def test_the_answer_is_strict_json_where_a_param_is_not_finite():
    def no_such_number(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    sweep = Sweep()
    sweep.trial("t001", 0.5, max_grad_norm=math.inf)
    printed = json.dumps(sweep.answer().in_json())
    assert json.loads(printed, parse_constant=no_such_number)["winner"]["params"] == {
        "max_grad_norm": None
    }


@pytest.mark.parametrize(
    ("metric", "mean", "expected"),
    [
        ("eval_accuracy", 0.99, (0.9704, 1.0)),
        ("eval_f1", 0.99, (0.9704, 1.0)),
        ("eval_f1", 99.0, (98.9804, 99.0196)),
        ("eval_loss", 0.01, (-0.0096, 0.0296)),
    ],
)
def test_an_interval_of_a_share_stays_within_0_and_1(
    metric: str, mean: float, expected: tuple[float, float]
):
    own = Standing(
        trial="t001",
        params_set="t001",
        params={},
        value=mean,
        step=1,
        max_steps=1,
        epoch=1.0,
        progress=1.0,
        mean=mean,
        seeds=1,
        repeats=1,
        checkpoint=None,
        error=0.01,
        why_no_error=None,
        df=None,
        center=mean,
    )
    assert interval(own, metric) == pytest.approx(expected)


@pytest.mark.parametrize(
    "values",
    [((0.7, 0.7, 0.7), (1.0, 0.4, 0.7)), ((1.0, 0.4, 0.7), (0.7, 0.7, 0.7))],
)
def test_means_that_differ_only_in_their_last_bits_tie_and_the_earlier_params_win(
    values: tuple[Sequence[float], Sequence[float]],
):
    assert statistics.fmean(values[0]) != statistics.fmean(values[1])
    sweep = Sweep(repeats=3)
    for first, of_seeds in zip((1, 4), values, strict=True):
        for seed, value in enumerate(of_seeds):
            trial, of = f"t{first + seed:03}", f"t{first:03}" if seed else None
            sweep.trial(trial, value, of=of, seed=seed, rows=10)
            sweep.end(trial, "finished")
    answer = sweep.answer("finished")
    assert answer.winner is not None
    assert (answer.winner.params_set, answer.tied, answer.gain) == ("t001", ("t004",), 0)
    assert "      t001 and t004 tie; t001 is listed first because its number is the lowest" in (
        answer_lines(answer)
    )
    (*_, last) = find_best_so_far(sweep.events, sweep.history, 0.0).steps
    assert sweep.history.set_of(sweep.history.trials[last.trial]).id == "t001"
