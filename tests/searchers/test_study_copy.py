"""The study for optuna-dashboard: a copy, and whatever becomes of it, the sweep goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from sweeps import SearchSpace
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.report import Report
from sweeps.searchers.study_copy import StudyCopy

SPACE = SearchSpace(
    build_trainer=lambda args: None,
    metric="eval_score",
    mode="max",
    tuned={"height": tune.uniform(0.0, 1.0)},
)


def copied(path: Path, meanwhile: Callable[[], None]) -> None:
    """A study of three trials, with something that happens after the first."""
    history = History("eval_score", "max")
    copy = StudyCopy(path, "curves", SPACE, history)
    for number in (1, 2, 3):
        trial = f"t00{number}"
        report = Report(
            trial=trial,
            number=1,
            step=8,
            max_steps=8,
            epoch=1.0,
            metrics={"eval_score": number / 4},
            train_s=1.0,
        )
        for event in (
            ev.TrialSuggested(
                trial=trial, params={"height": number / 4}, origin="searcher", seed=0
            ),
            ev.Reported(report=report),
            ev.TrialEnded(trial=trial, status="finished"),
        ):
            history.apply(event)
            copy.take(event)
        if number == 1:
            meanwhile()


def change(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


def test_each_trial_that_ended_stands_in_the_study(tmp_path: Path):
    path = tmp_path / "study.journal"
    copied(path, lambda: None)
    study = optuna.load_study(
        study_name="curves", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert [trial.value for trial in study.trials] == [0.25, 0.5, 0.75]
    assert [trial.user_attrs["trial_id"] for trial in study.trials] == ["t001", "t002", "t003"]


@pytest.mark.parametrize("text", [None, "{}\n", "no JSON\n" * 200])
def test_a_study_that_somebody_deleted_or_changed_does_not_end_the_sweep(
    tmp_path: Path, text: str | None
):
    path = tmp_path / "study.journal"
    copied(path, lambda: change(path, text))


def test_the_trials_of_a_resumed_sweep_are_flushed_to_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    history = History("eval_score", "max")
    for number in range(1, 51):
        trial = f"t{number:03}"
        params = {"height": number / 100}
        history.apply(ev.TrialSuggested(trial=trial, params=params, origin="searcher", seed=0))
        history.apply(ev.TrialEnded(trial=trial, status="failed", failure="error"))
    flushed: list[int] = []
    monkeypatch.setattr("os.fsync", flushed.append)
    copy = StudyCopy(tmp_path / "study.journal", "curves", SPACE, history)
    assert len(flushed) == 1
    for event in (
        ev.TrialSuggested(trial="t051", params={"height": 0.9}, origin="searcher", seed=0),
        ev.TrialEnded(trial="t051", status="failed", failure="error"),
    ):
        history.apply(event)
        copy.take(event)
    assert len(flushed) == 2
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    [study] = optuna.get_all_study_summaries(storage)
    assert study.n_trials == 51
