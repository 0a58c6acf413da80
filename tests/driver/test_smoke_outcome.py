"""What a sweep makes of its smoke run, without Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.driver.control import Control
from sweeps.driver.smoke_outcome import TRIES
from sweeps.driver.suggestions import Suggestions
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History, read_history
from sweeps.records.remote import of
from sweeps.schedulers.fifo import FIFO
from sweeps.searchers.optuna_searcher import OptunaSearcher
from tests.driver.test_control import CONFIG, MEASURED, SPACE
from tests.s3_server import s3_server


class Process:
    """A sweep process, as far as its control."""

    def __init__(self, folder: SweepFolder, **changes: Any) -> None:
        config = dataclasses.replace(CONFIG, **changes)
        history = History(SPACE.metric, SPACE.mode)
        if folder.events_file.exists():
            history = read_history(folder.events_file, SPACE.metric, SPACE.mode)
        self.log = EventLog(folder.events_file, (history.apply,))
        self.notes: list[str] = []
        searcher = OptunaSearcher(SPACE, config.seed)
        suggestions = Suggestions(SPACE, config, history, searcher, "curves.py", ())
        self.control = Control(
            *(SPACE, config, folder, self.log, history, FIFO(SPACE, config)),
            *(suggestions, "curves.py", self.notes.append),
        )
        self.log.append(ev.SweepStarted(sweep="curves"))
        self.control.catch_up()

    @property
    def due(self) -> bool:
        return self.control.smoke_job() is not None


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    folder = SweepFolder(tmp_path / "curves")
    folder.logs.mkdir(parents=True)
    return folder


@pytest.fixture
def process(folder: SweepFolder) -> Iterator[Process]:
    process = Process(folder)
    yield process
    process.log.close()


def ended(outcome: Any, **changes: Any) -> ev.SmokeEnded:
    whole: dict[str, Any] = {"attempt": 1, "outcome": outcome, "device_s": 1.0, **changes}
    return ev.SmokeEnded(**whole)


def raised(**changes: Any) -> ev.SmokeEnded:
    text = "Traceback (most recent call last): ...\nKeyError: 'x'\n"
    return ended("error", message="rank 1: KeyError: 'x'", traceback=text, **changes)


def next_process(process: Process, folder: SweepFolder) -> Process:
    process.log.close()
    return Process(folder)


def test_it_has_the_params_of_the_first_trial_which_comes_next(process: Process):
    job = process.control.smoke_job()
    assert job is not None
    process.control.take(MEASURED)
    assert process.control.take(ended("done")) is None
    submission = process.control.next_trial()
    assert submission is not None
    assert (submission[0].trial, submission[0].params) == ("t001", job.params)
    assert not process.due


def test_one_that_is_left_out_or_that_a_trial_came_before_is_not_due(
    process: Process, folder: SweepFolder
):
    process.log.close()
    assert not Process(folder, smoke=False).due
    process = Process(folder)
    assert process.due
    process.log.append(ev.JobStarted(trial="t001", attempt=1, group=1, devices=1))
    assert not next_process(process, folder).due


def test_a_sweep_that_was_cut_off_in_it_does_it_again_and_never_after_it(
    process: Process, folder: SweepFolder
):
    assert process.due
    process.control.take(MEASURED)
    process = next_process(process, folder)
    first = process.control.smoke_job()
    assert first is not None
    assert first.params == process.control.history.trials["t001"].params
    assert len(process.control.history.trials) == 1
    process.control.take(MEASURED)
    process.control.take(ended("done"))
    process = next_process(process, folder)
    assert not process.due
    assert process.control.history.measured == MEASURED, "the time left is known as before"


def test_an_exception_in_it_ends_the_sweep_and_is_looked_for_again_after(
    process: Process, folder: SweepFolder
):
    assert process.due
    with pytest.raises(SweepError) as fault:
        process.control.take(raised())
    assert fault.value.exit_code == 1
    assert str(fault.value) == (
        "the smoke run failed before the first trial: rank 1: KeyError: 'x'"
    )
    assert (folder.logs / "smoke-attempt1.traceback").read_text() == raised().traceback
    assert next_process(process, folder).due


def test_what_the_user_can_fix_ends_the_sweep_with_exit_code_2(process: Process):
    assert process.due
    with pytest.raises(UserError) as fault:
        process.control.take(raised(fixable=True))
    assert fault.value.exit_code == 2
    assert str(fault.value) == "curves.py: rank 1: KeyError: 'x'"


def test_a_metric_that_the_evaluation_does_not_produce_ends_the_sweep_before_the_first_trial(
    process: Process, folder: SweepFolder
):
    assert process.due
    with pytest.raises(UserError) as fault:
        process.control.take(dataclasses.replace(MEASURED, metrics={"eval_loss": 1.0, "epoch": 1}))
    assert str(fault.value) == (
        "curves.py: the evaluation did not return the metric 'eval_score'; it returned: epoch,"
        " eval_loss"
    )
    assert process.control.history.measured is None
    assert next_process(process, folder).due


GOES_ON = "the trials start anyway, because other params may work"


@pytest.mark.parametrize(
    ("measured", "end", "said"),
    [
        (
            [],
            ended("out_of_memory", message="rank 0: OutOfMemoryError: CUDA", traceback="..."),
            f"the smoke run ran out of memory (rank 0: OutOfMemoryError: CUDA); {GOES_ON}",
        ),
        (
            [dataclasses.replace(MEASURED, diverged="eval_loss is nan")],
            ended("done"),
            f"the smoke run diverged (eval_loss is nan); {GOES_ON}",
        ),
        (
            [dataclasses.replace(MEASURED, mean_loss=True)],
            ended("done"),
            "the model returns a mean loss, which HF would multiply by the number of workers and"
            " accumulation steps; sweeps makes HF average it, as model.accepts_loss_kwargs = False"
            " does",
        ),
        (
            [dataclasses.replace(MEASURED, steps=3)],
            ended("done"),
            "evals_per_trial = 8: the first trial has only 3 steps, so it evaluates after each"
            " step",
        ),
        (
            [dataclasses.replace(MEASURED, steps=80, batch_s=1.0)],
            ended("done"),
            "evaluations take 67% of a trial's time; a larger per_device_eval_batch_size, fewer"
            " evaluation rows or a lower evals_per_trial would shorten them",
        ),
    ],
    ids=["out of memory", "diverged", "mean loss", "few steps", "evaluations"],
)
def test_a_finding_about_the_params_is_said_and_the_trials_begin(
    process: Process, measured: list[ev.SmokeMeasured], end: ev.SmokeEnded, said: str
):
    assert process.due
    for event in measured:
        process.control.take(event)
    assert process.control.take(end) is None
    assert process.notes == [said]
    assert not process.due


def test_a_stall_ends_the_sweep_at_once_and_is_looked_for_again_after(
    process: Process, folder: SweepFolder
):
    """Another try would cost another `--stall-timeout`."""
    assert process.due
    with pytest.raises(SweepError) as fault:
        process.control.take(ended("stalled", message="rank 1: no step for 1800 s"))
    assert str(fault.value) == (
        "the smoke run stalled before the first trial: rank 1: no step for 1800 s; the stacks of"
        " its ranks are in the sweep's logs/smoke-attempt1-rank*.stacks"
    )
    assert next_process(process, folder).due


def test_a_lost_group_is_tried_again_with_the_same_params_and_not_for_ever(process: Process):
    first = process.control.smoke_job()
    assert first is not None
    process.control.next_trial()  # Tune asks meanwhile

    def lost(attempt: int) -> ev.SmokeEnded:
        return ended("error", attempt=attempt, message="rank 0 died: SIGKILL")

    for attempt in range(2, TRIES + 1):
        again = process.control.take(lost(attempt - 1))
        assert again is not None
        assert (again[0].attempt, again[0].params) == (attempt, first.params)
    with pytest.raises(SweepError) as fault:
        process.control.take(lost(TRIES))
    assert str(fault.value) == (
        "the smoke run failed 3 times before the first trial: rank 0 died: SIGKILL"
    )
    assert process.notes == ["retrying the smoke run: rank 0 died: SIGKILL"] * 2


def test_nodes_that_go_in_it_are_not_held_against_it(process: Process):
    assert process.control.smoke_job() is not None
    for attempt in range(2, 2 * TRIES):
        again = process.control.take(ended("preempted", attempt=attempt - 1))
        assert again is not None
        assert again[0].attempt == attempt


def test_what_it_saved_is_gone_however_it_ended(process: Process, folder: SweepFolder):
    assert process.due
    state = folder.smoke.checkpoints / "smoke" / "checkpoint-2"
    state.mkdir(parents=True)
    with pytest.raises(SweepError):
        process.control.take(raised())
    assert not folder.smoke.path.exists()


def test_what_it_uploaded_is_gone_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with s3_server(monkeypatch) as uri:
        folder = SweepFolder(tmp_path / "curves", uri)
        folder.logs.mkdir(parents=True)
        of(folder.smoke).write("checkpoints/smoke/checkpoint-2/model.safetensors", b"1")
        of(folder).write("sweep.json", b"{}")
        process = Process(folder)
        assert process.due
        process.control.take(MEASURED)
        process.control.take(ended("done"))
        process.log.close()
        assert of(folder.smoke).files("") == {}
        assert list(of(folder).files("")) == ["sweep.json"]
