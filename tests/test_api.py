"""Sweeps from Python that need no cluster: one without trials, and one with nothing left to run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
from ray import tune

import sweeps
from sweeps import Changes, SearchSpace, SweepConfig
from sweeps.answer.results import Results, read_results
from sweeps.api import Sweep
from sweeps.cli import export_command
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import read_record
from tests.conftest import CommandLine
from tests.watching import Recorder
from tests.written_record import put_record

SWEEP = "curves-20261123-0741-k3f9"


def written(storage: Path, *events: ev.Event) -> None:
    folder = SweepFolder(storage / SWEEP)
    folder.path.mkdir(parents=True)
    put_record(folder, config=SweepConfig(num_trials=1, trackers=()))
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepStarted(sweep=SWEEP), *events)
    log.close()


def test_a_sweep_without_trials_is_a_table_without_rows(tmp_path: Path):
    written(tmp_path)
    table = sweeps.load(SWEEP, tmp_path).to_pandas()
    assert (len(table), table.index.name) == (0, "trial")


def test_a_notebook_shows_a_table_and_an_answer_of_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written(tmp_path)
    reads = list[str]()

    def read(folder: SweepFolder) -> Results:
        reads.append(folder.id)
        return read_results(folder)

    monkeypatch.setattr("sweeps.api.read_results", read)
    assert SWEEP in sweeps.load(SWEEP, tmp_path)._repr_html_()
    assert reads == [SWEEP]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The storage of a sweep with nothing left to run."""
    written(
        tmp_path,
        ev.TrialSuggested(trial="t001", params={}, origin="searcher", seed=0),
        ev.JobStarted(trial="t001", attempt=1, group=1, devices=1),
        ev.TrialEnded(trial="t001", status="finished"),
        ev.SweepEnded(status="finished"),
    )
    return tmp_path


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: sweeps.run("bert_yelp", {"num_trials": 3}),
            "sweeps.run: config = {'num_trials': 3}: must be a SweepConfig or None",
        ),
        (lambda: sweeps.run(3), "sweeps.run: space = 3: must be a string or a SearchSpace"),
        (
            lambda: sweeps.run("bert_yelp", overrides="seed=1", followers=[3]),
            "sweeps.run has 2 problems\n"
            "  overrides = 'seed=1': must be a list of strings; write ['seed=1']\n"
            "  followers[0] = 3: must be a Follower",
        ),
        (
            lambda: sweeps.resume("s", {"num_trials": 3}, take_new_code="no"),
            "sweeps.resume has 2 problems\n"
            "  changes = {'num_trials': 3}: must be a Changes or None\n"
            "  take_new_code = 'no': must be True or False",
        ),
        (
            lambda: sweeps.confirm("s", top="2", seeds=True),
            "sweeps.confirm has 2 problems\n"
            "  top = '2': must be an integer or None; write 2 without quotes\n"
            "  seeds = True: must be an integer or None",
        ),
        (lambda: sweeps.load(None), "sweeps.load: sweep = None: must be a string or a Sweep"),
        (
            lambda: sweeps.compare(["a", "b"], storage=4),
            "sweeps.compare has 2 problems\n"
            "  sweeps[0] = ['a', 'b']: must be a string or a Sweep\n"
            "  storage = 4: must be a string or a path",
        ),
        (
            lambda: Sweep(SweepFolder(Path("s"))).export(3, trial=1),
            "sweeps.Sweep.export has 2 problems\n"
            "  out = 3: must be a string or a path\n"
            "  trial = 1: must be a string or None",
        ),
        (
            lambda: sweeps.Changes(trackers="mlflow", time_budget="2 h"),
            "Changes has 2 problems\n"
            "  trackers = 'mlflow': must be a list of strings or None; write ['mlflow']\n"
            "  time_budget: '2 h' is not a duration such as 90s, 30m, 1h30m or 2d",
        ),
    ],
    ids=lambda value: value.partition(":")[0].partition(" ")[0] if isinstance(value, str) else "",
)
def test_an_argument_of_another_type_is_refused_before_anything_starts(
    call: Callable[[], object], said: str
):
    with pytest.raises(UserError) as raised:
        call()
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: sweeps.run("bert_yelp", num_trials=3),
            "sweeps.run: no argument named 'num_trials'; write config=SweepConfig(num_trials=...)",
        ),
        (
            lambda: sweeps.run("bert_yelp", follower=[]),
            "sweeps.run: no argument named 'follower'; did you mean 'followers'?",
        ),
        (
            lambda: SweepConfig(num_trial=3),
            "SweepConfig: no argument named 'num_trial'; did you mean 'num_trials'?",
        ),
        (
            lambda: SweepConfig(tracker="mlflow", gpus=2),
            "SweepConfig has 2 problems\n"
            "  no argument named 'tracker'; did you mean 'trackers' or 'tracking_uri'?\n"
            "  no argument named 'gpus'",
        ),
        (
            lambda: Changes(trials=3),
            "Changes: no argument named 'trials'; did you mean 'num_trials'?",
        ),
    ],
)
def test_an_argument_that_does_not_exist_is_refused_with_the_one_that_is_meant(
    call: Callable[[], object], said: str
):
    with pytest.raises(UserError) as raised:
        call()
    assert str(raised.value) == said


def test_a_sweep_can_be_given_as_what_another_call_returned(finished: Path, tmp_path: Path):
    one = sweeps.load(SWEEP, finished)
    assert sweeps.load(one).id == SWEEP
    assert sweeps.resume(one, followers=[]).results() == one.results()
    assert read_record(one.folder).config.storage == str(finished)
    with pytest.raises(UserError, match="no trial has a result, so there is nothing to confirm"):
        sweeps.confirm(one)
    with pytest.raises(UserError, match="at least two different sweeps"):
        sweeps.compare(one, one)


def test_a_resume_with_nothing_to_run_says_that_it_takes_no_code_and_no_space(finished: Path):
    space = SearchSpace(
        build_trainer=print, metric="a", mode="max", tuned={"b": tune.uniform(0, 1)}
    )
    followers = [Recorder(), Recorder()]
    sweeps.resume(SWEEP, storage=finished, followers=followers[:1])
    sweeps.resume(SWEEP, storage=finished, take_new_code=True, space=space, followers=followers[1:])
    finished_line = (
        f"{SWEEP} is finished: every trial has ended; to run more, pass a --num-trials above 1"
    )
    assert [follower.notes for follower in followers] == [
        [finished_line],
        [
            finished_line,
            "take_new_code has no effect: nothing is left to run",
            "space has no effect: nothing is left to run",
        ],
    ]


def test_an_export_takes_what_the_command_line_takes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    of_verb = set(inspect.signature(export_command.export).parameters) - {"sweep", "storage"}
    assert set(inspect.signature(Sweep.export).parameters) - {"self"} == of_verb
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for options, said in (
        ({"private": True}, "private has no effect without push_to_hub"),
        ({"push_to_hub": "ada/best"}, "no Hugging Face token"),
        ({"register": "reviews"}, "is not in MLflow"),
        ({"test": True}, "has no reports yet"),
    ):
        with pytest.raises(UserError, match=said):
            sweeps.load(SWEEP, finished).export(tmp_path / "out", **options)


def test_the_command_line_says_so_too(finished: Path, command_line: CommandLine):
    said = command_line("resume", SWEEP, "--storage", str(finished), "--take-new-code")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"{SWEEP} is finished: every trial has ended; to run more, pass a --num-trials above 1",
        "--take-new-code has no effect: nothing is left to run",
    ]
