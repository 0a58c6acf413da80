"""What a sweep was asked to do, read back from its folder."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from ray import cloudpickle, tune

import sweeps
from sweeps import SearchSpace
from sweeps.config import SweepConfig
from sweeps.driver.requests.finished import Changes, note_resumption, nothing_left
from sweeps.driver.requests.make_sweep_record import make_record, space_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.requests.rerun import make_rerun
from sweeps.driver.requests.resume_request import make_resumption
from sweeps.errors import SweepError, UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog, SweepIsRunning
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import read_record, write_record
from sweeps.space.code_copy import copy_code

SPACE = """
import helper
from ray import cloudpickle, tune
from sweeps import SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=helper.build,
    metric="eval_score",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    fixed={"num_train_epochs": 1},
    evals_per_trial=4,
)
"""
HELPER = """
from transformers import TrainingArguments

def build(args: TrainingArguments, *, rows: str = "here"):
    raise AssertionError
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a space, its helper and its data."""
    mine = tmp_path / "mine"
    (mine / "rows").mkdir(parents=True)
    (mine / "space.py").write_text(SPACE)
    (mine / "helper.py").write_text(HELPER)
    monkeypatch.chdir(mine)
    monkeypatch.syspath_prepend(str(mine))
    return mine


def started(source: str | SearchSpace = "space.py", *assignments: str, **config: object):
    """The folder of a sweep that has written down what it was asked to do."""
    options = SweepConfig(**{"storage": "out", "resume_every": timedelta(seconds=7), **config})
    request = make_request(source, options, assignments=assignments, command="python -m sweeps")
    folder = SweepFolder(options.storage_folder / "space-20261123-0741-k3f9")
    folder.path.mkdir(parents=True)
    write_record(folder, make_record(request, folder.id))
    copy_code(request.loaded, folder.code)
    return request, folder


def resumed(folder: SweepFolder, *, take_new_code: bool = False, **changes: object):
    return make_resumption(
        folder,
        Changes(**changes),  # type: ignore[arg-type]
        storage=str(folder.path.parent),
        take_new_code=take_new_code,
        command="python -m sweeps resume space",
    )


def test_a_resume_asks_for_the_same_as_the_run_from_any_folder(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    request, folder = started("space.py", "rows=./rows", "weight_decay=0.1", seed=4, num_trials=7)
    monkeypatch.chdir(tmp_path)
    again = resumed(folder)
    assert again.lines == []
    assert again.space.fixed == request.space.fixed
    assert again.space.fixed["rows"] == str(mine / "rows")
    assert again.config == dataclasses.replace(request.config, storage=str(folder.path.parent))
    assert again.loaded.name == "space"
    assert again.loaded.root == folder.code, "its own copy of the code"


def test_only_what_is_said_is_changed(mine: Path):
    request, folder = started()
    changes = {"num_trials": 99, "time_budget": timedelta(hours=3), "trackers": ("tensorboard",)}
    again = resumed(folder, **changes)
    assert {name: getattr(again.config, name) for name in changes} == changes
    same = dataclasses.replace(
        again.config, num_trials=32, time_budget=None, trackers=request.config.trackers
    )
    assert same == dataclasses.replace(request.config, storage=str(folder.path.parent))


def test_a_text_that_a_trial_may_have_written_is_not_called_changed_code(mine: Path):
    """It was copied unasked. New code that is asked for takes it all the same."""
    for name in ("results.csv", "labels.csv"):
        (mine / name).write_text("0")
    (mine / "space.py").write_text(
        SPACE.replace("    metric", '    files=["lab*.csv"],\n    metric')
    )
    _, folder = started()
    (mine / "results.csv").write_text("0, 1")
    assert resumed(folder).lines == []
    (mine / "labels.csv").write_text("1")
    (said,) = resumed(folder).lines
    assert said.startswith("changed since the sweep began: labels.csv; the sweep continues")
    taken = resumed(folder, take_new_code=True).lines
    assert taken == ["using the changed files: labels.csv, results.csv"]


def test_changed_code_is_named_and_taken_only_when_asked_for(mine: Path):
    _, folder = started()
    (mine / "helper.py").write_text(HELPER + "# better\n")
    assert resumed(folder).lines == [
        "changed since the sweep began: helper.py; the sweep continues with its own copy (to use"
        " the changed files, pass --take-new-code)"
    ]
    assert (folder.code / "helper.py").read_text() == HELPER
    assert resumed(folder, take_new_code=True).lines == ["using the changed files: helper.py"]
    assert (folder.code / "helper.py").read_text() == HELPER + "# better\n"
    assert [taken.files for taken in read_record(folder).new_code] == [["helper.py"]]
    assert resumed(folder).lines == []


def test_what_would_make_trials_incomparable_is_refused(mine: Path):
    _, folder = started()
    (mine / "space.py").write_text(
        SPACE.replace('"eval_score"', '"eval_loss"').replace("1e-5", "1e-6")
    )
    with pytest.raises(UserError) as raised:
        resumed(folder, take_new_code=True)
    assert "loguniform(1e-5" in (folder.code / "space.py").read_text(), "its own copy stays"
    assert str(raised.value) == (
        "space-20261123-0741-k3f9 was recorded with another space, so its trials and new ones"
        " would not be comparable: metric was 'eval_score', is now 'eval_loss'; tuned was"
        " {'learning_rate': 'loguniform(1e-05, 0.001)'}, is now"
        " {'learning_rate': 'loguniform(1e-06, 0.001)'}; start a new sweep"
    )


WITH_FIELDS = """
import pathlib
from dataclasses import dataclass
from transformers import TrainingArguments

@dataclass
class Build:
    rows: str
    made: object

    def __call__(self, args: TrainingArguments, **keywords):
        raise AssertionError
""" + SPACE.replace("helper.build", "Build(str(pathlib.Path(__file__).parent), lambda: 1)")


def test_new_code_must_have_the_recorded_values(mine: Path):
    """The record, and all that shows it, holds one value for all trials."""
    (mine / "space.py").write_text(WITH_FIELDS)
    _, folder = started()
    before = read_record(folder).space
    request = resumed(folder)
    note_resumption(folder, request.config, request.command, space_record(request))
    assert read_record(folder).space == before, "not with the paths of its own copy"

    fixed = WITH_FIELDS.replace("object\n", "object\n    more: int = 7\n")
    (mine / "space.py").write_text(fixed)
    request = resumed(folder, take_new_code=True)
    note_resumption(folder, request.config, request.command, space_record(request))
    assert read_record(folder).space.fields == {**before.fields, "more": 7}

    other = fixed.replace('epochs": 1', 'epochs": 2').replace("lambda: 1", "lambda: 1, 8")
    (mine / "space.py").write_text(other)
    with pytest.raises(UserError) as raised:
        resumed(folder, take_new_code=True)
    assert str(raised.value) == (
        "space-20261123-0741-k3f9 was recorded with another space, so its trials and new ones"
        " would not be comparable: builder field 'more' was 7, is now 8; fixed 'num_train_epochs'"
        " was 1, is now 2; start a new sweep"
    )


def test_other_versions_are_named_once(mine: Path):
    _, folder = started()
    record = read_record(folder)
    versions = {**record.versions, "optuna": "4.9.0"}
    write_record(folder, dataclasses.replace(record, versions=versions))
    request = resumed(folder)
    assert request.lines == [f"optuna was 4.9.0, is now {record.versions['optuna']}"]
    note_resumption(folder, request.config, request.command)
    assert resumed(folder).lines == []
    noted = read_record(folder)
    assert noted.versions["optuna"] == "4.9.0", "what it began with stays"
    assert [entry.command for entry in noted.resumed] == ["python -m sweeps resume space"]


def test_a_space_without_a_file_is_given_again(mine: Path):
    import helper

    space = SearchSpace(
        build_trainer=helper.build,
        metric="eval_score",
        mode="max",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    )
    _, folder = started(space)
    with pytest.raises(UserError) as raised:
        resumed(folder)
    assert str(raised.value) == (
        "space-20261123-0741-k3f9 was started from Python with a space that has no file;"
        " resume it from Python: sweeps.resume('space-20261123-0741-k3f9', space=...,"
        f" storage='{folder.path.parent}')"
    )
    cloudpickle.unregister_pickle_by_value(helper)  # as in another process
    other = dataclasses.replace(space, fixed={"num_train_epochs": 2})
    with pytest.raises(UserError, match="fixed 'num_train_epochs' was missing, is now 2; start"):
        make_resumption(folder, Changes(), storage=str(folder.path.parent), space=other)
    again = make_resumption(folder, Changes(), storage=str(folder.path.parent), space=space)
    assert again.space.tuned.keys() == space.tuned.keys()
    assert helper.__name__ in cloudpickle.list_registry_pickle_by_value()
    assert make_request(space, SweepConfig(), name="warm-up").loaded.name == "warm-up"
    with pytest.raises(UserError, match=r"use only letters, digits, '_', '-' and"):
        make_request(space, SweepConfig(), name="../up")


def test_what_a_notebook_needs_to_resume_and_to_catch_is_exported():
    assert (sweeps.Changes, sweeps.UserError, sweeps.SweepError) == (Changes, UserError, SweepError)


def test_a_sweep_whose_trials_have_all_ended_has_nothing_left_unless_it_may_have_more(mine: Path):
    _, folder = started("space.py", num_trials=1)
    assert nothing_left(folder, Changes()) is None, "it has not even begun"
    log = EventLog(folder.events_file, [])
    log.append(
        ev.SweepStarted(sweep="space", time=0.0),
        ev.TrialSuggested(trial="t001", params={}, origin="searcher", time=1.0, seed=0),
        ev.JobStarted(trial="t001", attempt=1, group=1, devices=1, time=1.0),
    )
    log.append(ev.TrialEnded(trial="t001", status="finished", time=99.0))
    with pytest.raises(SweepIsRunning):
        resumed(folder)
    log.close()
    assert nothing_left(folder, Changes()) is None, "its end is not written yet"
    log = EventLog(folder.events_file, [])
    log.append(ev.SweepEnded(status="finished", time=100.0))
    log.close()
    assert nothing_left(folder, Changes()) == (
        "every trial has ended; to run more, pass a --num-trials above 1"
    )
    assert nothing_left(folder, Changes(num_trials=2)) is None
    log = EventLog(folder.events_file, [])
    log.append(
        ev.TrialSuggested(trial="t002", params={}, origin="searcher", time=101.0, seed=0),
        ev.JobStarted(trial="t002", attempt=1, group=1, devices=1, time=101.0),
        ev.TrialEnded(trial="t002", status="finished", time=102.0),
        ev.SweepEnded(status="finished", time=103.0),
    )
    log.close()
    with pytest.raises(UserError, match=f"num_trials = 1: {folder.id} already has 2 trials; to"):
        nothing_left(folder, Changes(num_trials=1))
    budget = timedelta(seconds=99)
    assert nothing_left(folder, Changes(num_trials=3, time_budget=budget)) == (
        "the time budget of 1m39s is used up; to run more, pass a longer --time-budget"
    )


@pytest.mark.parametrize(
    ("asked", "added"),
    [
        (["--metric=eval_loss"], ["--mode=min"]),
        (["--metric=eval_loss", "--mode=max"], []),
        (["--mode=min"], []),
        ([], []),
    ],
)
def test_the_mode_that_a_metric_had_is_recorded(mine: Path, asked: list[str], added: list[str]):
    _, folder = started("space.py", *asked)
    assert read_record(folder).source.assignments == [*asked, *added]


# Recorded trials as a new sweep.


def recorded(*assignments: str, **config: object) -> SweepFolder:
    """A sweep of three trials that was interrupted; t002 repeats t001."""
    _, folder = started("space.py", *assignments, **{"num_trials": 8, "repeats": 2, **config})
    log = EventLog(folder.events_file, [])
    log.append(ev.SweepStarted(sweep=folder.id))
    for trial, rate, origin, seed, of in (
        ("t001", 1e-4, "searcher", 17, None),
        ("t002", 1e-4, "repeat", 18, "t001"),
        ("t003", 2e-4, "searcher", 17, None),
    ):
        params = {"learning_rate": rate}
        suggested = {"trial": trial, "params": params, "origin": origin, "seed": seed, "of": of}
        log.append(ev.TrialSuggested(**suggested))
    log.close()
    return folder


def test_a_recorded_sweep_is_asked_for_again_with_its_code_and_its_trials(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = recorded("rows=./rows", "weight_decay=0.1", seed=4, time_budget=timedelta(hours=2))
    (mine / "helper.py").write_text("raise RuntimeError('changed since')")
    monkeypatch.chdir(tmp_path)
    where = {"storage": str(tmp_path / "elsewhere"), "max_concurrent": 3}
    request = make_rerun(folder, None, where)
    assert request.loaded.root == folder.code
    assert request.space.fixed["rows"] == str(mine / "rows")
    assert request.space.fixed["weight_decay"] == 0.1
    kept = read_record(folder).config
    # The second params lack a repeat, which is run, too.
    assert request.config == dataclasses.replace(kept, num_trials=4, **where)
    assert request.rerun is not None
    suggested = [(t.trial, t.seed, t.of) for t in request.rerun.trials]
    assert suggested == [("t001", 17, None), ("t002", 18, "t001"), ("t003", 17, None)]
    assert request.lines == [f"repeating 3 trials of {folder.id}"]


def test_one_trial_is_repeated_alone_and_to_its_end(mine: Path):
    folder = recorded(scheduler="asha", time_budget=timedelta(hours=2))
    request = make_rerun(folder, "t002", {"storage": "out"})
    config = request.config
    assert (config.num_trials, config.repeats, config.scheduler) == (1, 1, "fifo")
    assert config.time_budget is None
    assert request.rerun is not None
    (trial,) = request.rerun.trials
    assert (trial.trial, trial.seed, trial.of, trial.origin) == ("t002", 18, None, "searcher")
    assert request.lines == [f"repeating t002 of {folder.id}"]


def test_what_is_repeated_is_written_down_and_taken_up_by_a_resume(mine: Path):
    folder = recorded()
    request = make_rerun(folder, None, {"storage": "out"})
    again = SweepFolder(folder.path.with_name("space-20261124-0741-abcd"))
    again.path.mkdir()
    write_record(again, make_record(request, again.id))
    copy_code(request.loaded, again.code)
    assert read_record(again).rerun_of == request.rerun
    assert read_record(again).git == read_record(folder).git
    assert resumed(again).rerun == request.rerun
    assert resumed(folder).rerun is None


def test_what_cannot_be_repeated_is_refused(mine: Path):
    folder = recorded()
    with pytest.raises(UserError) as raised:
        make_rerun(folder, "t009", {})
    assert str(raised.value) == (
        f"no trial named 't009' in {folder.id}; available: t001 to t003; did you mean 't003' or"
        " 't002'?"
    )
    log = EventLog(folder.events_file, [])
    with pytest.raises(SweepIsRunning):
        make_rerun(folder, None, {})
    log.close()
    folder.events_file.write_text("")
    with pytest.raises(UserError, match="has no trials to repeat"):
        make_rerun(folder, None, {})
