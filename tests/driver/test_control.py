"""What a sweep decides and writes down, on closed-form trials and without Ray.

Above all exact resume: a log that is cut off after any event goes on to the same end.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from transformers import TrainingArguments

from sweeps import SearchSpace, SweepConfig
from sweeps.driver import control
from sweeps.driver.control import Control
from sweeps.driver.submission import Submission
from sweeps.driver.suggestions import Suggestions
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.checkpoints import best_name, finish_checkpoint, state_name
from sweeps.records.event_log import EventLog, read_events
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History, read_history
from sweeps.report import Report
from sweeps.schedulers.make_scheduler import SCHEDULERS, scheduler_maker
from sweeps.searchers.optuna_searcher import OptunaSearcher
from sweeps.workers.job import Reply

EVALUATIONS = 8


def build(args: TrainingArguments, *, height: float = 0.5) -> Any:
    raise AssertionError("nothing is trained here")


SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"height": tune.uniform(0.0, 1.0), "weight_decay": tune.loguniform(1e-3, 1e-1)},
    first_params=[{"height": 0.5, "weight_decay": 1e-2}],
    evals_per_trial=EVALUATIONS,
)
MEASURED = ev.SmokeMeasured(
    steps=8, step_s=0.5, batches=10, batch_s=0.1, metrics={"eval_score": 0.1, "eval_loss": 0.9}
)
CONFIG = SweepConfig(num_trials=7, resume_every=timedelta(0), keep_checkpoints=2, seed=3)
REPEATED = dataclasses.replace(CONFIG, num_trials=8, repeats=2, keep_checkpoints=1)
"""Four params with two seeds each."""


HALVING = "tests.schedulers.halving:Halving"
"""Pauses trials at a quarter and a half, and promotes the better half of four."""
RAY = "tests.schedulers.test_ray_scheduler:asha_with_brackets"
WAYS = {name: dataclasses.replace(CONFIG, scheduler=name) for name in (*SCHEDULERS, HALVING, RAY)}
WAYS["fifo"] = dataclasses.replace(CONFIG, scheduler="fifo", num_trials=4)
WAYS["repeats"] = REPEATED


class Cut(Exception):
    """The sweep process is killed here."""


class CutLog(EventLog):
    """A log whose writer is killed when a number of events stand in it."""

    def __init__(
        self, *args: Any, cut_at: int | None, look: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(*args)
        self._left = cut_at
        self._look = look

    def append(self, *events: ev.Event) -> None:
        for event in events:  # a kill may fall between two lines of one write
            if self._left == 0:
                raise Cut
            self._look()
            super().append(event)
            if self._left is not None:
                self._left -= 1


def curve(height: float, seed: int, number: int) -> float:
    """Rises to `height`, then falls a little for high ones; the second seed is not as good."""
    height -= 0.1 * (seed - CONFIG.seed)
    progress = number / EVALUATIONS
    return height * progress if progress <= 0.75 or height < 0.6 else height * (1.5 - progress)


class Sweep:
    """A sweep with one worker group that is a function."""

    observers: tuple[Any, ...] = ()
    given: list[ev.TrialSuggested] = []
    patience = EVALUATIONS
    """Number of the report at which a trial's own code ends it."""
    saves_late = False
    """Whether a trial is at its next report before what it saved is whole."""
    reason: str | None = None
    """Why the newest run ended before all its trials."""

    def __init__(self, folder: Path, config: SweepConfig = CONFIG) -> None:
        self.folder = SweepFolder(folder)
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        self.config = config

    def run(self, cut_at: int | None = None, look: Callable[[], None] = lambda: None) -> None:
        """Start, or resume; raises `Cut` after so many more events. `look` runs before each."""
        history = History(SPACE.metric, SPACE.mode, self.config.repeats)
        if self.folder.events_file.exists():
            history = self.history
        log = CutLog(
            self.folder.events_file, (history.apply, *self.observers), cut_at=cut_at, look=look
        )
        try:
            log.append(ev.SweepStarted(sweep="curves"))
            control = self.control(log, history)
            control.catch_up()
            if control.smoke_job() is not None:
                control.take(MEASURED)
                control.take(ev.SmokeEnded(attempt=1, outcome="done", device_s=1.0))
            while (submission := control.next_trial()) is not None:
                while submission is not None:
                    assert submission != "wait", "nothing runs"
                    submission = self.train(control, *submission)
            self.reason = control.end_reason()
        finally:
            log.close()

    def control(self, log: EventLog, history: History) -> Control:
        scheduler = scheduler_maker(SPACE, self.config, root=Path(__file__).parents[2])()
        searcher = OptunaSearcher(SPACE, self.config.seed)
        where = "curves.py"
        suggestions = Suggestions(SPACE, self.config, history, searcher, where, self.given)
        return Control(
            *(SPACE, self.config, self.folder, log, history, scheduler, suggestions, where),
            print,
        )

    def train(self, control: Control, job: Any, answers: Any) -> Submission | None:
        control.take(ev.JobStarted(trial=job.trial, attempt=job.attempt, group=1, devices=1))
        first = int(job.checkpoint.rsplit("-", 1)[1]) if job.checkpoint else 0
        saved: list[ev.CheckpointSaved] = []
        for number in range(first + 1, EVALUATIONS + 1):
            report = Report(
                trial=job.trial,
                number=number,
                attempt=job.attempt,
                step=number,
                max_steps=EVALUATIONS,
                epoch=number / EVALUATIONS,
                metrics={"eval_score": curve(job.params["height"], job.seed, number)},
                ends_itself=number == self.patience < EVALUATIONS,
                train_s=float(number - first),
            )
            answer = (
                answers[number] if number in answers else control.decide(ev.Reported(report=report))
            )
            for event in saved:
                control.take(event)
            saved = []
            for kind, wanted in (("best", answer.save_best), ("state", answer.save_state)):
                if wanted:
                    saved.append(self.save(job.trial, number, kind))
                    if not self.saves_late:
                        control.take(saved.pop())
            if answer.decision != "continue" or report.ends_itself:
                break
        for event in saved:
            control.take(event)
        outcome = "paused" if answer.decision == "pause" else "done"
        return control.take(
            ev.AttemptEnded(
                trial=job.trial, attempt=job.attempt, outcome=outcome, train_s=1.0, device_s=1.0
            )
        )

    def save(self, trial: str, number: int, kind: Any) -> ev.CheckpointSaved:
        name = best_name(number) if kind == "best" else state_name(number)
        place = self.folder.checkpoints / trial / name
        assert not place.exists(), "half-written folders are cleared before a trial runs again"
        place.mkdir(parents=True)
        (place / "model.safetensors").write_text(f"{trial} {number}")
        sha256 = finish_checkpoint(place, trial=trial, number=number, step=number)
        path = str(place.relative_to(self.folder.path))
        return ev.CheckpointSaved(trial=trial, number=number, kind=kind, path=path, sha256=sha256)

    @property
    def events(self) -> list[ev.Event]:
        return [event for event, _ in read_events(self.folder.events_file)]

    @property
    def history(self) -> History:
        path, repeats = self.folder.events_file, self.config.repeats
        return read_history(path, SPACE.metric, SPACE.mode, repeats)


def decisions(sweep: Sweep) -> list[tuple]:
    """All that was decided, in order: params, reports, stops and saves, ends."""
    found: list[tuple] = []
    for event in sweep.events:
        match event:
            case ev.TrialSuggested():
                suggested = (event.trial, dict(event.params), event.origin, event.seed, event.of)
                found.append(("suggested", *suggested))
            case ev.Reported():
                found.append(("reported", event.report.trial, event.report.number))
            case ev.Decided():
                found.append(("decided", *dataclasses.astuple(event)[1:]))
            case ev.TrialResumed():
                found.append(("resumed", event.trial))
            case ev.TrialEnded():
                found.append(("ended", event.trial, event.status, event.failure))
    return found


def kept(sweep: Sweep) -> dict[str, list[str]]:
    """Names of the checkpoint folders on disk, by trial."""
    return {
        place.name: sorted(path.name for path in place.iterdir())
        for place in sorted(sweep.folder.checkpoints.glob("*"))
    }


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("control") / "unbroken")
    sweep.run()
    assert {t.status for t in sweep.history.trials.values()} == {"finished", "stopped_early"}
    return sweep


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("control") / "repeated", REPEATED)
    sweep.run()
    return sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "curves")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
def test_a_log_cut_off_after_any_event_goes_on_to_the_same_end(way: str, tmp_path: Path):
    """The folder is copied before each event: as a kill at this point leaves it."""
    unbroken = Sweep(tmp_path / way.rpartition(":")[2], WAYS[way])
    copies: list[Path] = []

    def copy() -> None:
        copies.append(unbroken.folder.path.with_name(f"{unbroken.folder.path.name}-{len(copies)}"))
        shutil.copytree(unbroken.folder.path, copies[-1])

    unbroken.run(look=copy)
    whole, events = decisions(unbroken), unbroken.events
    assert len(events) == len(copies) > 80
    for cut_at in range(1, len(events)):
        sweep = Sweep(copies[cut_at], unbroken.config)
        sweep.run()
        assert decisions(sweep) == whole, f"cut after event {cut_at} of {len(events)}"
        assert kept(sweep) == kept(unbroken), f"cut after event {cut_at} of {len(events)}"
        shutil.rmtree(copies[cut_at])


def test_a_sweep_killed_again_and_again_gets_to_the_same_end(unbroken: Sweep, sweep: Sweep):
    for cut_at in (3, 7, 11, 5, 2, 23, 1, 17, 13, 1, 29, 31):
        with pytest.raises(Cut):
            sweep.run(cut_at)
    sweep.run()
    assert decisions(sweep) == decisions(unbroken)
    assert kept(sweep) == kept(unbroken)


@pytest.mark.parametrize("scheduler", ["asha", HALVING])
def test_what_becomes_whole_after_the_next_report_is_kept_and_resumed_as_if_it_had_been_at_once(
    scheduler: str, tmp_path: Path
):
    class SavesLate(Sweep):
        saves_late = True

    at_once, late, cut = (
        of(tmp_path / name, WAYS[scheduler])
        for of, name in ((Sweep, "at_once"), (SavesLate, "late"), (SavesLate, "cut"))
    )
    at_once.run()
    late.run()
    for cut_at in (3, 7, 11, 5, 2, 23, 1, 17, 13, 1, 29):
        with pytest.raises(Cut):
            cut.run(cut_at)
    cut.run()
    for other in (late, cut):
        assert decisions(other) == decisions(at_once)
        assert kept(other) == kept(at_once)


@pytest.mark.parametrize("scheduler", ["asha", HALVING])
def test_trials_that_end_themselves_have_finished_whatever_is_killed_in_between(
    scheduler: str, tmp_path: Path
):
    class EndsAtFive(Sweep):
        patience = 5

    unbroken = EndsAtFive(tmp_path / "unbroken", WAYS[scheduler])
    unbroken.run()
    trials = unbroken.history.trials.values()
    through = [trial for trial in trials if len(trial.reports) == 5]
    assert through
    assert {trial.status for trial in through} == {"finished"}
    assert {trial.status for trial in trials} == {"finished", "stopped_early"}
    winner = unbroken.history.winner()
    assert winner in through
    assert kept(unbroken)
    cut = EndsAtFive(tmp_path / "cut", WAYS[scheduler])
    for cut_at in (13, 7, 19, 1, 23, 5, 17, 2):
        with pytest.raises(Cut):
            cut.run(cut_at)
    cut.run()
    assert decisions(cut) == decisions(unbroken)
    assert kept(cut) == kept(unbroken)


def test_repeats_follow_their_params_with_the_next_seed_and_the_searcher_is_asked_once_a_set(
    repeated: Sweep, tmp_path: Path
):
    trials = list(repeated.history.trials.values())
    origins = ["first_params", "repeat", *["searcher", "repeat"] * 3]
    assert [trial.origin for trial in trials] == origins
    assert [trial.seed for trial in trials] == [3, 4] * 4
    assert [trial.of for trial in trials[1::2]] == ["t001", "t003", "t005", "t007"]
    assert [trial.params for trial in trials[::2]] == [trial.params for trial in trials[1::2]]
    single = Sweep(tmp_path / "single", dataclasses.replace(REPEATED, num_trials=4, repeats=1))
    single.run()
    asked = [trial.params for trial in single.history.trials.values()]
    assert asked == [trial.params for trial in trials[::2]], "as a sweep without repeats asks"


def test_the_best_trial_of_the_best_params_keeps_its_checkpoint_and_no_other_trial_does(
    repeated: Sweep,
):
    history = repeated.history
    winner = history.winner()
    assert winner is not None
    means = {one.id: one.mean for one in history.sets()}
    assert max(means, key=lambda first: means[first] or 0) == history.set_of(winner).id
    best = history.best(winner)
    assert best is not None
    assert kept(repeated) == {winner.id: [best_name(best.number)]}


def test_params_whose_last_seed_draws_their_mean_down_lose_their_checkpoint(tmp_path: Path):
    config = dataclasses.replace(REPEATED, num_trials=4, scheduler="fifo")
    sweep = Sweep(tmp_path / "curves", config)
    sweep.given = [
        ev.TrialSuggested(trial="t", params={"height": height}, origin="searcher", seed=seed, of=of)
        for height, seed, of in (
            (0.5, 3, None),
            (0.5, 4, "t001"),
            (0.48, 3, None),
            (0.48, 4, "t003"),
        )
    ]
    sweep.run()
    saved = {e.trial for e in sweep.events if isinstance(e, ev.CheckpointSaved) if e.kind == "best"}
    assert saved == {"t001", "t003"}, "0.48 alone is ahead of a mean of 0.45"
    assert list(kept(sweep)) == ["t001"], "0.43 is not"


def test_given_trials_are_run_as_they_were_recorded_and_a_params_set_is_completed(
    repeated: Sweep, tmp_path: Path
):
    recorded = [event for event in repeated.events if isinstance(event, ev.TrialSuggested)]
    sweep = Sweep(tmp_path / "again", dataclasses.replace(REPEATED, seed=99))
    sweep.given = recorded[:7]
    with pytest.raises(Cut):
        sweep.run(40)
    sweep.run()
    assert decisions(sweep) == decisions(repeated)
    alone = Sweep(tmp_path / "alone", dataclasses.replace(CONFIG, num_trials=1, scheduler="fifo"))
    alone.given = [dataclasses.replace(recorded[3], origin="first_params", of=None)]
    alone.run()
    (trial,) = alone.history.trials.values()
    assert (trial.id, trial.seed, trial.params) == ("t001", 4, recorded[3].params)
    assert trial.status == "finished"


def test_half_written_and_unannounced_checkpoints_are_ignored_and_cleared(
    unbroken: Sweep, sweep: Sweep
):
    """Files without an end marker, and a whole folder whose event was not written."""
    due = next(
        i for i, e in enumerate(unbroken.events, 1) if isinstance(e, ev.Decided) and e.save_best
    )
    with pytest.raises(Cut):
        sweep.run(due)
    decided = sweep.events[-1]
    assert isinstance(decided, ev.Decided)
    half = sweep.folder.checkpoints / decided.trial / best_name(decided.number)
    (half / "checkpoint.json").unlink()
    sweep.save(decided.trial, decided.number, "state")
    sweep.run()  # `save` refuses a folder that is there
    assert decisions(sweep) == decisions(unbroken)
    assert kept(sweep) == kept(unbroken)


def test_a_recorded_checkpoint_that_is_damaged_is_not_gone_on_from(unbroken: Sweep, sweep: Sweep):
    saved = [i for i, e in enumerate(unbroken.events, 1) if isinstance(e, ev.CheckpointSaved)]
    with pytest.raises(Cut):
        sweep.run(saved[3])
    for trial in sweep.history.trials.values():
        for checkpoint in trial.checkpoints.values():
            (sweep.folder.path / checkpoint.path / "checkpoint.json").unlink()
    sweep.run()
    assert decisions(sweep) == decisions(unbroken)
    assert kept(sweep) == kept(unbroken)


def test_more_trials_extend_a_finished_sweep_as_if_it_had_been_asked_for_them_at_once(
    unbroken: Sweep, tmp_path: Path
):
    sweep = Sweep(tmp_path / "curves", dataclasses.replace(CONFIG, num_trials=3))
    sweep.run()
    assert len(sweep.history.trials) == 3
    sweep.config = CONFIG
    sweep.run()
    assert decisions(sweep) == decisions(unbroken)


def test_a_time_budget_counts_what_earlier_processes_used(sweep: Sweep):
    log = EventLog(sweep.folder.events_file, ())
    log.append(
        ev.SweepStarted(sweep="curves", time=1000.0),
        ev.TrialSuggested(
            trial="t001",
            params={"height": 0.5, "weight_decay": 0.01},
            origin="searcher",
            time=1500.0,
            seed=0,
        ),
        ev.JobStarted(trial="t001", attempt=1, group=1, devices=1, time=1550.0),
        ev.AttemptEnded(
            trial="t001", attempt=1, outcome="out_of_memory", train_s=1.0, device_s=1.0, time=1600.0
        ),
        ev.TrialEnded(trial="t001", status="failed", failure="out_of_memory", time=1600.0),
    )
    log.close()
    for budget, trials in ((49, 1), (599, 7)):
        sweep.config = dataclasses.replace(CONFIG, time_budget=timedelta(seconds=budget))
        sweep.run()
        assert len(sweep.history.trials) == trials


def test_a_used_up_time_budget_is_the_reason_of_the_end_and_counts_from_the_first_job(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
):
    now = itertools.count(1)
    monkeypatch.setattr(control.time, "monotonic", lambda: 10.0 * next(now))
    config = dataclasses.replace(CONFIG, time_budget=timedelta(seconds=65))
    log = EventLog(sweep.folder.events_file, ())
    log.close()
    history = History(SPACE.metric, SPACE.mode)
    begun = sweep.control(log, history)
    assert begun.end_reason() is None, "no budget"
    sweep.config = config
    begun = sweep.control(log, history)
    for _ in range(20):  # Ray starts, and workers do
        assert not begun.out_of_time()
    assert begun.end_reason() is None
    sweep.run()
    last = sweep.history.decided[-1]
    assert isinstance(last, ev.Decided)
    assert (last.decision, last.out_of_time) == ("stop", True)
    assert sweep.reason == "the time budget of 1m5s is used up"
    sweep.config = CONFIG
    sweep.run()
    assert sweep.reason is None


def test_a_time_budget_is_not_longer_after_the_clock_was_set_back(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
):
    sweep.config = dataclasses.replace(CONFIG, time_budget=timedelta(hours=1))
    hours = itertools.count()
    monkeypatch.setattr(control.time, "time", lambda: 1e9 - 3600.0 * next(hours))
    monkeypatch.setattr(control.time, "monotonic", lambda: 360.0 * next(hours))
    sweep.run()
    assert len(sweep.history.trials) < CONFIG.num_trials


def test_an_attempt_that_was_cut_off_is_closed_with_what_is_known_of_its_cost(sweep: Sweep):
    with pytest.raises(Cut):
        sweep.run(8)
    sweep.run()
    attempts = sweep.history.trials["t001"].attempts
    assert [a.outcome for a in attempts] == ["interrupted", "done"]
    assert attempts[0].train_s == max(
        r.train_s for r in sweep.history.reports if r.trial == "t001" and r.attempt == 1
    )
    assert attempts[0].device_s >= attempts[0].train_s > 0


# Trials that pause.


@pytest.fixture
def halved(tmp_path: Path) -> Sweep:
    return Sweep(tmp_path / "halved", WAYS[HALVING])


def test_paused_trials_go_on_from_their_state_and_end_as_stopped_where_nothing_can_resume_them(
    halved: Sweep,
):
    halved.run()
    trials = list(halved.history.trials.values())
    reached = [len(trial.reports) for trial in trials]
    # Four pause at the second report, two at the fourth, one ends; the other three lack a fourth.
    assert sorted(reached[:4]) == [2, 2, 4, 8]
    assert reached[4:] == [2, 2, 2]
    ends = {8: "finished", 4: "stopped_early", 2: "stopped_early"}
    assert [trial.status for trial in trials] == [ends[number] for number in reached]
    for trial in trials:
        numbers = [report.number for report in trial.reports]
        assert numbers == list(range(1, len(numbers) + 1)), "each report once"
        outcomes = ["paused"] * (len(trial.attempts) - 1) + [
            "done" if trial.status == "finished" else "paused"
        ]
        assert [attempt.outcome for attempt in trial.attempts] == outcomes
    assert not list(halved.folder.checkpoints.glob("*/checkpoint-*")), "states go with the end"


@pytest.mark.parametrize(
    ("returned", "hint"),
    [("eval_loss", ""), ("eval_eval_score", "; did you mean 'eval_eval_score'?")],
)
def test_a_report_without_the_judged_metric_ends_the_sweep_and_is_not_logged(
    returned: str, hint: str, tmp_path: Path
):
    groups = Groups(Sweep(tmp_path / "curves-1", dataclasses.replace(CONFIG, smoke=False)))
    trial = groups.start()
    report = Report(
        **{"trial": trial, "number": 1, "step": 1, "max_steps": EVALUATIONS, "epoch": 0.1},
        metrics={returned: 0.5},
        train_s=1.0,
    )
    with pytest.raises(UserError) as raised:
        groups.control.decide(ev.Reported(report=report))
    assert str(raised.value) == (
        "curves.py: the evaluation did not return the metric 'eval_score'; it returned:"
        f" {returned}{hint}"
    )
    assert groups.history.reports == []


def test_the_same_exception_in_the_first_trials_stops_the_sweep(tmp_path: Path):
    config = dataclasses.replace(CONFIG, smoke=False, max_failures=0, max_failed_trials=2)
    groups = Groups(Sweep(tmp_path / "curves-1", config))

    def fail(text: str) -> None:
        traceback = f'Traceback:\n  File "space.py", line 9, in build\nValueError: {text}\n'
        message = f"rank 0: ValueError: {text}"
        groups.leave(groups.start(), "error", message=message, traceback=traceback)

    fail("a")
    with pytest.raises(SweepError) as raised:
        fail("b")
    assert str(raised.value) == (
        "the sweep stops, because its first trials all failed with the same exception: rank 0:"
        " ValueError: b"
    )


def test_what_the_user_can_fix_ends_the_sweep_unless_other_params_work(tmp_path: Path):
    config = dataclasses.replace(CONFIG, smoke=False)
    groups = Groups(Sweep(tmp_path / "curves-1", config))

    def fail(trial: str, message: str = "optim cannot be sharded", outcome: str = "error") -> None:
        groups.leave(trial, outcome, message=f"rank 0: {message}", fixable=True)

    first, second, third, fourth, fifth = (groups.start() for _ in range(5))
    groups.report(first, 1)
    with pytest.raises(UserError, match=r"^curves\.py: rank 0: optim cannot be sharded"):
        fail(first)
    groups.report(second, 1)
    fail(third, "no such attention")
    assert groups.status(third) == "failed"
    assert groups.history.trials[third].reason == "rank 0: no such attention"
    with pytest.raises(UserError, match="no such attention"):
        fail(fourth, "no such attention")  # twice in a row: the cause may be one for all
    with pytest.raises(UserError, match=r"^rank 0: disk full"):
        fail(fifth, "disk full", "interrupted")
    assert groups.status(fifth) == "waiting", "a full disk is no trial's fault"


def test_a_very_long_traceback_is_whole_in_its_file_and_short_in_the_log(tmp_path: Path):
    """Every verb reads the log."""
    groups = Groups(Sweep(tmp_path / "curves-1", dataclasses.replace(CONFIG, smoke=False)))
    place = 'Traceback:\n  File "space.py", line 9, in build\n'
    text = f"{place}ValueError: {'ü' * 5_000_000}\n"
    trial = groups.start()
    assert groups.leave(trial, "error", message="long", traceback=text) is not None
    groups.take_job(groups.control._submission(groups.history.trials[trial]))
    assert groups.leave(trial, "error", message="long", traceback=text) is None, "twice alike"
    assert groups.status(trial) == "failed"
    for attempt in (1, 2):
        assert groups.sweep.folder.traceback(trial, attempt).read_text() == text
    ends = [event for event in groups.sweep.events if isinstance(event, ev.AttemptEnded)]
    assert [event.traceback for event in ends] == [ends[0].traceback] * 2
    logged = ends[0].traceback or ""
    assert logged.startswith(f"{place}ValueError: üü")
    assert "left out; see the traceback files in logs/) … ü" in logged
    assert groups.sweep.folder.events_file.stat().st_size < 1_000_000


class Groups:
    """A sweep with several worker groups, played step by step."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.history = sweep.history if sweep.folder.events_file.exists() else history()
        self.log = EventLog(sweep.folder.events_file, (self.history.apply,))
        self.log.append(ev.SweepStarted(sweep="curves"))
        self.control = sweep.control(self.log, self.history)
        self.control.catch_up()

    def start(self) -> str:
        """Start the next trial and return its id."""
        submission = self.control.next_trial()
        assert submission is not None
        assert submission != "wait"
        return self.take_job(submission)

    def take_job(self, submission: Submission) -> str:
        job = submission[0]
        self.control.take(ev.JobStarted(trial=job.trial, attempt=job.attempt, group=1, devices=1))
        return job.trial

    def report(self, trial: str, number: int, value: float = 0.5) -> Reply:
        report = Report(
            trial=trial,
            number=number,
            step=number,
            max_steps=EVALUATIONS,
            epoch=number / EVALUATIONS,
            metrics={"eval_score": value},
            train_s=1.0,
        )
        return self.control.decide(ev.Reported(report=report))

    def leave(self, trial: str, outcome: Any = "paused", **fields: Any) -> Submission | None:
        attempt = self.history.trials[trial].next_attempt - 1
        ended = {"trial": trial, "attempt": attempt, "outcome": outcome} | fields
        return self.control.take(ev.AttemptEnded(**ended, train_s=1.0, device_s=1.0))

    def pause(self, trial: str, value: float) -> None:
        """Let a trial report up to the first rung, save its state and leave."""
        assert self.report(trial, 1, value).decision == "continue"
        answer = self.report(trial, 2, value)
        assert (answer.decision, answer.save_state) == ("pause", True)
        self.save(trial, 2)
        assert self.leave(trial) is None

    def save(self, trial: str, number: int) -> None:
        self.control.take(self.sweep.save(trial, number, "state"))

    def status(self, trial: str) -> str:
        return self.history.trials[trial].status


def history() -> History:
    return History(SPACE.metric, SPACE.mode)


def test_no_trial_starts_while_all_are_paused_or_run_and_the_next_comes_when_one_is_promoted(
    halved: Sweep,
):
    halved.config = dataclasses.replace(halved.config, num_trials=4)
    groups = Groups(halved)
    for value in (0.1, 0.9, 0.2):
        groups.pause(groups.start(), value)
    assert groups.start() == "t004"
    assert groups.control.next_trial() == "wait", "t004 may promote one of the others"
    groups.pause("t004", 0.3)
    resumed = groups.control.next_trial()
    assert resumed is not None
    assert resumed != "wait"
    assert (resumed[0].trial, resumed[0].attempt) == ("t002", 2)
    assert resumed[0].checkpoint == groups.history.trials["t002"].checkpoints["state"].path
    assert [groups.status(f"t00{i}") for i in (1, 2, 3, 4)] == ["paused", "waiting"] + [
        "paused"
    ] * 2


def test_a_trial_that_is_resumed_while_it_still_saves_goes_on_once_it_has_left(halved: Sweep):
    groups = Groups(halved)
    for value in (0.1, 0.2, 0.3):
        groups.pause(groups.start(), value)
    last = groups.start()
    groups.report(last, 1, 0.9)
    assert groups.report(last, 2, 0.9).decision == "pause"
    assert groups.start() == "t003", "t004 is promoted first, and still has its group"
    resumed = [e.trial for e in halved.events if isinstance(e, ev.TrialResumed)]
    assert resumed == ["t004", "t003"]
    groups.save(last, 2)
    again = groups.leave(last)
    assert again is not None
    assert again[0].checkpoint == groups.history.trials[last].checkpoints["state"].path
    assert again[1][2].decision == "continue", "the pause is lifted"


def test_a_trial_that_deletes_its_output_folder_begins_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = dataclasses.replace(CONFIG, smoke=False, resume_every=timedelta(0))
    groups = Groups(Sweep(tmp_path / "curves-1", config))
    trial = groups.start()
    assert groups.report(trial, 1).save_state
    groups.save(trial, 1)
    state = groups.history.trials[trial].checkpoints["state"].path
    shutil.rmtree(groups.sweep.folder.checkpoints / trial)
    again = groups.leave(trial, "error", message="rank 0: gone", traceback="Traceback: gone")
    assert again is not None
    assert again[0].checkpoint is None, "otherwise it would fail for lack of its state"
    assert again[1][1].save_state
    [dropped] = [e for e in groups.sweep.events if isinstance(e, ev.CheckpointDropped)]
    assert (dropped.trial, dropped.kind, dropped.path) == (trial, "state", state)
    place = groups.sweep.folder.path / state
    said = capsys.readouterr().out
    assert f"{trial} starts again at step 0: its saved state is gone ({place})\n" in said


def test_a_paused_trial_whose_state_is_deleted_begins_again(halved: Sweep):
    groups = Groups(halved)
    for value in (0.1, 0.2, 0.3):
        groups.pause(groups.start(), value)
    shutil.rmtree(halved.folder.checkpoints)
    groups.pause(groups.start(), 0.9)
    shutil.rmtree(halved.folder.checkpoints)
    again = groups.control.next_trial()
    assert again is not None
    assert again != "wait"
    assert (again[0].trial, again[0].checkpoint) == ("t004", None)
    assert again[1][2].decision == "continue", "the pause is lifted"


def test_a_trial_whose_group_is_lost_before_its_state_is_saved_runs_again_and_pauses_then(
    halved: Sweep,
):
    groups = Groups(halved)
    trial = groups.start()
    groups.report(trial, 1)
    assert groups.report(trial, 2).decision == "pause"
    again = groups.leave(trial, "error", traceback="Traceback: lost")
    assert again is not None
    assert again[1][2] == Reply("pause", False, True)
    groups.take_job(again)
    groups.save(trial, 2)
    assert groups.leave(trial, "error", traceback="Traceback: lost") is None, "its state is there"
    assert groups.status(trial) == "paused"


def test_paused_trials_end_when_the_time_budget_is_used_up(halved: Sweep):
    groups = Groups(halved)
    groups.pause(groups.start(), 0.5)
    groups.log.close()
    halved.config = dataclasses.replace(
        halved.config, time_budget=timedelta(microseconds=1), first_rung=0.2
    )
    groups = Groups(halved)
    assert groups.control.next_trial() is None
    assert groups.status("t001") == "stopped_early"


def test_a_scheduler_whose_answers_do_not_follow_from_the_log_is_refused(halved: Sweep):
    halved.run()
    first = next(event.trial for event in halved.events if isinstance(event, ev.TrialResumed))
    halved.config = dataclasses.replace(halved.config, scheduler="fifo")
    with pytest.raises(SweepError) as raised:
        halved.run()
    assert str(raised.value) == (
        f"the scheduler resumed {first}, but given the same reports, it now resumes no trial; the"
        " sweep cannot be resumed. A scheduler's decisions must depend only on the reports"
    )


def test_a_trial_that_ran_out_of_memory_on_a_shared_gpu_runs_again_whole_however_often(
    halved: Sweep,
):
    groups = Groups(halved)
    trial = groups.start()
    for _ in range(halved.config.max_failures + 2):
        again = groups.leave(trial, "crowded", message="rank 0: OutOfMemoryError")
        assert again is not None
        assert again[0].reduced == frozenset()
        groups.take_job(again)
    assert groups.history.crowded == halved.config.max_failures + 2


def test_what_the_first_trial_uses_of_its_gpu_is_logged_once(halved: Sweep):
    groups = Groups(halved)
    for busy in (0.25, 0.9):
        groups.control.take(ev.GpuMeasured(trial="t001", busy=busy, memory=1, total=8))
    assert groups.history.gpu_use is not None
    assert groups.history.gpu_use.busy == 0.25
    assert len([e for e in halved.events if isinstance(e, ev.GpuMeasured)]) == 1
