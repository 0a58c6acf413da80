"""What the events of a sweep add up to: statuses, the winner, and who beats whom."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweeps.answer.results import Results
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import (
    History,
    read_history,
    sweep_status,
    trial_status,
)
from sweeps.records.trial import count
from sweeps.report import LogEntry, Mode, Report
from tests.written_record import a_record

NAN = math.nan
SUM = "0" * 64


class Told:
    """A history, told in short words, through a log on disk where there is one."""

    def __init__(self, mode: Mode = "max", path: Path | None = None, repeats: int = 1) -> None:
        self.history = History("eval_score", mode, repeats)
        self.now = 0.0
        self.log = EventLog(path, (self.history.apply,)) if path else None

    def put(self, kind: type[ev.Event], /, **fields: Any) -> None:
        self.now += 10
        tell = self.log.append if self.log else self.history.apply
        tell(kind(time=self.now, **fields))

    def trial(self, trial: str, *values: float, **fields: Any) -> None:
        """A running trial with these values at its evaluations, of eight."""
        fields = {"origin": "searcher", "params": {"height": 1.0}, "seed": 0} | fields
        self.put(ev.TrialSuggested, trial=trial, **fields)
        self.put(ev.JobStarted, trial=trial, attempt=1, group=1, devices=2)
        for value in values:
            self.report(trial, value)

    def report(self, trial: str, value: float, loss: float = 0.5) -> Report:
        number = len(self.history.trials[trial].reports) + 1
        report = Report(
            trial=trial,
            number=number,
            step=number,
            max_steps=8,
            epoch=number / 8,
            metrics={"eval_score": value},
            train_s=float(number),
            log_entries=(LogEntry(step=number, loss=loss),),
        )
        self.put(ev.Reported, report=report)
        return report

    def save(self, trial: str, number: int, kind: ev.CheckpointKind = "best") -> None:
        path = f"checkpoints/{trial}/{kind}-{number}"
        self.put(ev.CheckpointSaved, trial=trial, number=number, kind=kind, path=path, sha256=SUM)

    def end(self, trial: str, status: ev.TrialEnd, failure: ev.FailureKind | None = None) -> None:
        self.attempt(trial, failure or "done")
        self.put(ev.TrialEnded, trial=trial, status=status, failure=failure)

    def attempt(self, trial: str, outcome: Any, train_s: float = 8.0) -> None:
        number = len(self.history.trials[trial].attempts) + 1
        self.put(
            ev.AttemptEnded,
            trial=trial,
            attempt=number,
            outcome=outcome,
            train_s=train_s,
            device_s=20.0,
        )

    @property
    def winner(self) -> str | None:
        winner = self.history.winner()
        return winner.id if winner else None

    @property
    def ranked(self) -> list[str]:
        return [trial.id for trial in self.history.ranked()]


# Statuses.


def test_a_trial_waits_runs_and_ends():
    told = Told()
    told.put(ev.TrialSuggested, trial="t001", params={"height": 1.0}, origin="first_params", seed=0)
    trial = told.history.trials["t001"]
    assert (trial.status, trial.origin, trial.params) == ("waiting", "first_params", {"height": 1})
    told.put(ev.JobStarted, trial="t001", attempt=1, group=1, devices=2)
    assert trial.status == "running"
    told.attempt("t001", "interrupted")
    assert trial.status == "waiting"
    told.put(ev.JobStarted, trial="t001", attempt=2, group=1, devices=2)
    assert trial.status == "running"
    assert trial.job is not None
    assert trial.job.attempt == 2
    told.end("t001", "failed", "out_of_memory")
    assert (trial.status, trial.failure) == ("failed", "out_of_memory")
    assert (trial.train_s, trial.device_s) == (16.0, 40.0)


def test_the_status_of_a_sweep_is_its_end_or_whether_its_log_is_held():
    told = Told()
    told.put(ev.SweepStarted, sweep="s")
    assert sweep_status(told.history, held=True) == "running"
    assert sweep_status(told.history, held=False) == "interrupted"
    told.put(ev.SweepEnded, status="failed", reason="no trial reported anything")
    assert sweep_status(told.history, held=False) == "failed"
    assert sweep_status(told.history, held=True) == "failed"
    told.put(ev.SweepStarted, sweep="s")
    assert sweep_status(told.history, held=True) == "running"
    told.put(ev.SweepEnded, status="finished")
    assert sweep_status(told.history, held=False) == "finished"


def test_a_sweep_that_was_taken_up_again_started_when_it_first_did():
    told = Told()
    told.put(ev.SweepStarted, sweep="s")
    told.trial("t001", 0.5)
    told.put(ev.SweepStarted, sweep="s")
    assert told.history.started == 10.0
    assert told.history.newest == 50.0


def test_a_trial_that_was_cut_off_waits_for_a_resume():
    told = Told()
    told.trial("t001", 0.5)
    told.trial("t002", 0.5)
    told.end("t002", "finished")
    cut_off, ended = told.history.trials.values()
    assert trial_status(cut_off, "running") == "running"
    for status in ("interrupted", "failed", "finished"):
        assert trial_status(cut_off, status) == "waiting"
        assert trial_status(ended, status) == "finished"
    assert count(told.history.trials.values(), "running", "failed") == 1


def test_a_trial_is_paused_from_its_saved_state_on_until_it_is_resumed():
    told = Told()
    told.trial("t001", 0.5)
    trial = told.history.trials["t001"]
    pause: dict[str, Any] = {"trial": "t001", "save_best": False, "save_state": True}
    told.put(ev.Decided, number=1, decision="pause", **pause)
    told.attempt("t001", "error")
    assert trial.status == "waiting", "its state is not saved: it runs again"
    told.put(ev.JobStarted, trial="t001", attempt=2, group=1, devices=2)
    told.save("t001", 1, "state")
    told.attempt("t001", "interrupted")
    assert trial.status == "paused", "its state is saved, whatever the attempt came to"
    assert trial_status(trial, "interrupted") == "paused"
    assert not trial.ended
    told.put(ev.TrialResumed, trial="t001")
    assert trial.status == "waiting"
    told.put(ev.JobStarted, trial="t001", attempt=3, group=1, devices=2)
    told.attempt("t001", "preempted")
    assert trial.status == "waiting", "the pause was lifted"


def test_what_stopped_or_diverged_a_trial_is_in_its_decisions():
    told = Told()
    told.trial("t001", 0.5)
    trial = told.history.trials["t001"]
    go: dict[str, Any] = {"trial": "t001", "save_best": False, "save_state": False}
    told.put(ev.Decided, number=1, decision="continue", **go)
    assert trial.diverged is None
    told.put(ev.Decided, number=2, decision="stop", diverged="eval_score is nan", **go)
    assert trial.diverged == "eval_score is nan"


def test_a_checkpoint_is_known_until_it_or_its_successor_is_dropped():
    told = Told()
    told.trial("t001", 0.1, 0.2)
    known = told.history.trials["t001"].checkpoints
    told.save("t001", 1)
    told.save("t001", 2)
    told.put(ev.CheckpointDropped, trial="t001", kind="best", path="checkpoints/t001/best-1")
    assert known["best"].number == 2, "the older one was dropped"
    told.save("t001", 2, "state")
    told.put(ev.CheckpointDropped, trial="t001", kind="best", path="checkpoints/t001/best-2")
    assert set(known) == {"state"}
    told.put(ev.CheckpointDropped, trial="t001", kind="best", path="checkpoints/t001/best-2")
    assert set(known) == {"state"}


# Who is ahead.


@pytest.mark.parametrize(
    ("mode", "ranked"), [("max", ["t002", "t001", "t003"]), ("min", ["t003", "t001", "t002"])]
)
def test_trials_are_ranked_by_their_best_report_whatever_their_last_one_says(
    mode: Mode, ranked: list[str]
):
    told = Told(mode)
    low, mid, high = (0.1, 0.5, 0.9)
    told.trial("t001", mid, mid)
    told.trial("t002", high, *([low] if mode == "max" else []))
    told.trial("t003", low, *([high] if mode == "min" else []))
    assert told.ranked == ranked
    assert told.winner == ranked[0]


@pytest.mark.parametrize(
    ("mode", "ranked"),
    [("max", ["t002", "t003", "t001", "t004"]), ("min", ["t001", "t004", "t002", "t003"])],
)
def test_of_equal_trials_the_earlier_one_is_ahead(mode: Mode, ranked: list[str]):
    told = Told(mode)
    for trial, value in (("t001", 0.3), ("t002", 0.5), ("t003", 0.5), ("t004", 0.3)):
        told.trial(trial, value)
    assert told.ranked == ranked


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_a_value_that_is_not_finite_never_wins(mode: Mode, value: float):
    told = Told(mode)
    told.trial("t001", value)
    assert told.winner is None
    assert told.history.value(told.history.trials["t001"]) is None
    told.trial("t002", 0.5)
    assert told.ranked == ["t002", "t001"]
    assert told.winner == "t002"
    told.report("t001", 0.5)
    assert told.winner == "t001", "its later report counts, and it is the earlier trial"


def test_a_sweep_without_a_report_has_no_winner():
    told = Told()
    assert told.winner is None
    told.trial("t001")
    assert told.winner is None


def test_a_failed_trial_wins_only_with_the_whole_checkpoint_of_its_best_report():
    told = Told()
    told.trial("t001", 0.3)
    told.trial("t002", 0.5, 0.9, 0.7)
    assert told.winner == "t002", "a running trial may win without one"
    told.end("t002", "failed", "error")
    assert told.winner == "t001"
    told.save("t002", 1)
    assert told.winner == "t001", "that is the checkpoint of an earlier report"
    told.save("t002", 2, "state")
    assert told.winner == "t001", "a state is rotated away"
    told.save("t002", 2)
    assert told.winner == "t002"
    told.put(ev.CheckpointDropped, trial="t002", kind="best", path="checkpoints/t002/best-2")
    assert told.winner == "t001"


def test_a_sweep_of_failed_trials_without_checkpoints_has_no_winner():
    told = Told()
    told.trial("t001", 0.3)
    told.end("t001", "failed", "error")
    assert told.winner is None


@pytest.mark.parametrize("status", ["finished", "stopped_early"])
def test_a_trial_that_ended_well_wins_without_a_checkpoint_too(status: ev.TrialEnd):
    told = Told()
    told.trial("t001", 0.3)
    told.end("t001", status)
    assert told.winner == "t001"


def test_the_baseline_is_the_first_trial_of_the_first_params_once_it_has_a_value():
    told = Told()
    assert told.history.baseline() is None
    told.trial("t001", origin="first_params")
    told.trial("t002", 0.5, origin="first_params")
    assert told.history.baseline() is None
    told.report("t001", 0.1)
    assert told.history.baseline() is told.history.trials["t001"]
    own = Told()
    own.trial("t001", 0.5)
    assert own.history.baseline() is None


# How a report compares.


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_report_beats_its_own_trial_strictly_and_counts_the_others_that_are_not_worse(mode: Mode):
    sign = 1 if mode == "max" else -1
    told = Told(mode)
    told.trial("t001", 0.5 * sign, 0.1 * sign)
    told.trial("t002", 0.7 * sign)
    told.trial("t003", NAN)
    told.trial("t004")
    beats = told.history.beats
    assert beats(told.report("t003", 0.6 * sign)) == (True, 1)
    assert beats(told.report("t003", 0.6 * sign))[0] is False, "equal is not better"
    assert beats(told.report("t003", 0.7 * sign)) == (True, 1), "equal to t002"
    assert beats(told.report("t004", 0.1 * sign)) == (True, 3)
    assert beats(told.report("t001", 0.9 * sign)) == (True, 0)
    assert beats(told.report("t001", NAN))[0] is False


# Params that are repeated with other seeds.


def repeated(mode: Mode = "max", **sets: list[float | None]) -> Told:
    """Sets of two trials, `t001=[0.3, 0.5]`: one without a value is running, one left out is not
    there yet."""
    told = Told(mode, repeats=2)
    for first, values in sets.items():
        for i, value in enumerate(values):
            trial = f"t{int(first[1:]) + i:03}"
            more = {"origin": "repeat", "of": first} if i else {}
            told.trial(trial, *([] if value is None else [value]), **more)
    return told


@pytest.mark.parametrize("mode", ["max", "min"])
def test_params_are_judged_by_the_mean_of_their_trials_best_reports(mode: Mode):
    sign = 1 if mode == "max" else -1
    told = repeated(mode, t001=[0.5 * sign, 0.6 * sign], t003=[0.9 * sign, 0.1 * sign])
    assert told.ranked == ["t002", "t001", "t003", "t004"], "t003 alone is the best trial"
    assert told.winner == "t002", "of the best params the best trial"
    told.report("t004", 0.4 * sign)
    assert told.ranked == ["t003", "t004", "t002", "t001"]
    best, other = told.history.set_of(told.history.trials["t004"]), told.history.sets()[0]
    assert best.mean == pytest.approx(0.65 * sign)
    assert best.error == pytest.approx(0.25)
    assert (other.id, other.error) == ("t001", pytest.approx(0.05))


def test_params_that_lack_a_repeat_are_behind_those_that_have_all():
    told = repeated(t001=[0.5, 0.6], t003=[0.9, None], t005=[0.8])
    assert told.ranked == ["t002", "t001", "t003", "t004", "t005"]
    told.end("t004", "failed", "error")
    assert told.winner == "t002", "params that fail with a seed are behind those that do not"
    assert told.history.set_of(told.history.trials["t003"]).error is None
    told.trial("t006", 0.1, of="t005", origin="repeat")
    assert told.ranked == ["t002", "t001", "t005", "t006", "t003", "t004"]


def test_without_complete_params_the_best_of_the_others_wins():
    assert repeated(t001=[0.5, None], t003=[0.9]).winner == "t003"


def test_the_baseline_has_the_mean_of_its_seeds():
    told = Told(repeats=2)
    told.trial("t001", origin="first_params")
    assert told.history.baseline() is None
    told.trial("t002", 0.4, origin="repeat", of="t001")
    told.trial("t003", 0.5)
    assert told.history.baseline() is told.history.trials["t001"]


def test_a_report_is_saved_for_what_its_params_may_come_to():
    told = repeated(t001=[0.5, 0.6], t003=[0.9])
    beats = told.history.beats
    told.trial("t004", of="t003", origin="repeat")
    assert beats(told.report("t004", 0.2))[0] is False, "t003 is the best of these params"
    told.trial("t005")
    assert beats(told.report("t005", 0.52)) == (True, 2), "complete: 0.55 and, of t003, 0.55"
    assert beats(told.report("t005", 0.56)) == (True, 0)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_what_a_diverged_trial_reports_last_counts_for_nothing(mode: Mode):
    sign = 1 if mode == "max" else -1
    told = Told(mode)
    told.trial("t001", 0.8 * sign)
    told.save("t001", 1)
    broken = told.report("t001", 0.9 * sign, NAN)
    assert told.history.beats(broken)[0] is False
    told.end("t001", "failed", "diverged")
    told.trial("t002", 0.7 * sign)
    assert told.winner == "t001"
    assert told.history.value(told.history.trials["t001"]) == 0.8 * sign


def test_params_that_diverge_with_one_of_their_seeds_are_behind_those_that_do_not():
    told = repeated(t001=[0.5, 0.6], t003=[0.9, 0.8])
    assert told.winner == "t003"
    told.end("t004", "failed", "diverged")
    assert told.winner == "t002"


REPEATED_STEPS = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from((0.1, 0.2, 0.3, 0.4, 0.5)),
        st.sampled_from((None, None, None, "diverged", "error")),
    ),
    min_size=1,
    max_size=40,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(REPEATED_STEPS, st.sampled_from(("max", "min")), st.integers(1, 2), st.integers(1, 3))
def test_whatever_the_order_of_reports_the_winner_has_the_checkpoint_of_its_best(
    steps: list[tuple[int, float, ev.FailureKind | None]], mode: Mode, keep: int, repeats: int
):
    """Saved and dropped as the sweep does; trials report in any order, all end.

    One that fails does so at a report, before its save.
    """
    told = Told(mode, repeats=repeats)
    trials = [f"t{i + 1:03}" for i in range(8 // repeats * repeats)]
    for i, trial in enumerate(trials):
        first = trials[i - i % repeats]
        told.trial(trial, of=None if trial == first else first)

    def drop() -> None:
        for trial in told.history.trials.values():
            saved = trial.checkpoints.get("best")
            if saved is not None and told.history.left_behind(trial, keep):
                told.put(ev.CheckpointDropped, trial=trial.id, kind="best", path=saved.path)

    running = list(trials)
    for i, value, failure in steps:
        trial = trials[i % len(trials)]
        if trial not in running:
            continue
        report = told.report(trial, value, NAN if failure == "diverged" else 0.5)
        leads, ahead = told.history.beats(report)
        if failure is not None:
            told.end(trial, "failed", failure)
            running.remove(trial)
        elif leads and ahead < keep:
            told.save(trial, report.number)
        drop()
    for trial in running:
        told.end(trial, "finished")
        drop()
    winner = told.history.winner()
    if winner is None:
        assert not any(told.history.best(told.history.trials[trial]) for trial in running)
        return
    best, saved = told.history.best(winner), winner.checkpoints.get("best")
    assert best is not None
    assert saved is not None
    assert saved.number == best.number
    sets = [told.history.set_of(t).id for t in told.history.trials.values() if t.checkpoints]
    assert len(sets) == len(set(sets)) <= keep


# The log alone.

ALL_VALUES = st.floats() | st.sampled_from((0.25, 0.5))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trial")),
        st.tuples(st.just("report"), st.integers(0, 3), ALL_VALUES),
        st.tuples(st.just("save"), st.integers(0, 3), st.sampled_from(("best", "state"))),
        st.tuples(
            st.just("end"),
            st.integers(0, 3),
            st.sampled_from((("finished", None), ("failed", "error"), ("stopped_early", None))),
        ),
    ),
    max_size=14,
)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(STEPS, st.sampled_from(("max", "min")))
def test_the_log_alone_rebuilds_the_results_and_the_winner_is_the_best_that_may_win(
    tmp_path: Path, steps: list[tuple[Any, ...]], mode: Mode
):
    folder = SweepFolder(tmp_path)
    folder.events_file.unlink(missing_ok=True)
    told = Told(mode, folder.events_file)
    assert told.log is not None
    for what, *of in steps:
        ids = list(told.history.trials)
        if what == "trial":
            told.trial(f"t{len(ids) + 1:03}")
        elif of[0] < len(ids):
            trial = ids[of[0]]
            if what == "report":
                told.report(trial, of[1])
            elif what == "save" and told.history.trials[trial].reports:
                told.save(trial, len(told.history.trials[trial].reports), of[1])
            elif what == "end" and told.history.trials[trial].status == "running":
                told.end(trial, *of[1])
    told.log.close()
    read = read_history(folder.events_file, "eval_score", mode)
    record = a_record("curves")
    live, again = (
        Results(folder, record, h, "finished", ()).in_json() for h in (told.history, read)
    )
    assert repr(again) == repr(live)
    winner = told.history.winner()
    values = [t["value"] for t in live["trials"] if t["value"] is not None]
    assert values == sorted(values, reverse=mode == "max")
    for trial in told.history.trials.values():
        value = told.history.value(trial)
        if value is not None and trial.status != "failed":
            assert winner is not None
            won = told.history.value(winner)
            assert won is not None
            assert won >= value if mode == "max" else won <= value
