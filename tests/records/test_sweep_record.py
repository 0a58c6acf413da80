"""`sweep.json` says what was written into it, and one in another format is refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps.config import SweepConfig
from sweeps.errors import UserError
from sweeps.records.events import TrialSuggested
from sweeps.records.folder import SweepFolder
from sweeps.records.provenance import GitState
from sweeps.records.sweep_record import (
    NewCode,
    Rerun,
    Resumption,
    Source,
    read_record,
    write_record,
)
from sweeps.space.domain_data import DomainData
from sweeps.space.domains import describe, domain_data
from tests.written_record import a_record, put_record

GIT = GitState(commit="c0ffee", branch="main", dirty=True, url="https://host/repository")
WHOLE = a_record(
    tuned={
        "learning_rate": [
            DomainData(kind="float", lower=1e-5, upper=1e-3, log=True, condition={"optim": "sgd"}),
            DomainData(kind="choice", choices=[0.1, None, True, [1, 2], "x"]),
        ],
        "rank": [DomainData(kind="int", lower=4, upper=64, quantum=4)],
    },
    fixed={"a": [1, {"b": None}]},
    constraints=["small_enough"],
    first_params=[{"learning_rate": 1e-4, "rank": 8}],
    config=SweepConfig(time_budget=timedelta(hours=2), repeats=2, gpus_per_worker=0.5),
    source=Source(file=None, root="/r", dotted=True, base="/b", assignments=["rank=8"]),
    git=GIT,
    resumed=[Resumption(time="2026-11-23T07:41:00+0000", command="c", versions={"ray": "2.60.0"})],
    new_code=[NewCode(time="2026-11-23T07:41:00+0000", files=["space.py"], git=None)],
    rerun_of=Rerun(
        sweep="earlier-20261122-0741-k3f9",
        trials=[TrialSuggested(trial="t001", params={"rank": 8}, origin="searcher", seed=3)],
    ),
)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path)


@pytest.mark.parametrize("record", [WHOLE, a_record()], ids=["all fields", "defaults"])
def test_a_record_is_read_as_it_was_written(folder: SweepFolder, record: Any):
    write_record(folder, record)
    found = read_record(folder)
    # Of equal values JSON may give back another type: a tuple as a list, 1 for True.
    assert repr(found).replace("()", "[]") == repr(record).replace("()", "[]")
    assert [file.name for file in folder.path.iterdir()] == ["sweep.json"]


def test_a_kill_while_it_is_written_leaves_the_old_one(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    old = put_record(folder)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_record(folder, dataclasses.replace(old, user="eve"))
    assert read_record(folder).user == old.user


def test_secrets_are_not_written(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_TOKEN", "abracadabra-7")
    put_record(folder, command="run abracadabra-7", fixed={"text": ["abracadabra-7"]})
    assert "abracadabra-7" not in folder.record_file.read_text()
    assert read_record(folder).space.fixed == {"text": ["***"]}


def test_a_secret_breaks_no_uri_path_or_name_in_the_record(
    folder: SweepFolder, monkeypatch: pytest.MonkeyPatch
):
    word = "of-experiments-7"
    monkeypatch.setenv("SOME_TOKEN", word)
    place = f"/data/{word}"
    ours = {
        "space": word,
        "metric": f"eval_{word}",
        "sweep": f"{word}-20261123-0741-k3f9",
        "user": word,
        "tracking_uri": f"sqlite:///{place}/mlflow.db",
        "artifacts": place,
        "config": SweepConfig(storage=place, warm_start=word),
        "versions": {word: word},
    }
    source = Source(file=f"{word}.py", root=place, dotted=False, base=place, assignments=[word])
    put_record(folder, **ours, source=source, command=word, builder=word)
    expected = a_record(**{**ours, "source": dataclasses.replace(source, assignments=["***"])})
    expected = dataclasses.replace(
        expected, command="***", space=dataclasses.replace(expected.space, builder="***")
    )
    assert repr(read_record(folder)).replace("()", "[]") == repr(expected).replace("()", "[]")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"version": 99, "versions": {"sweeps": "7.1.0"}},
            "is in format 99, but this version of sweeps reads format 2. Use the version that"
            " wrote it: sweeps 7.1.0",
        ),
        (
            {"version": None, "versions": {}},
            "has no format version, but this version of sweeps reads format 2. Use the version"
            " that wrote it",
        ),
    ],
)
def test_another_format_is_refused_with_what_to_do(
    folder: SweepFolder, change: dict[str, Any], problem: str
):
    put_record(folder)
    written = json.loads(folder.record_file.read_text()) | change
    folder.record_file.write_text(json.dumps(written))
    with pytest.raises(UserError) as refused:
        read_record(folder)
    assert str(refused.value) == f"{folder.record_file} {problem}"


def test_a_damaged_record_is_refused_with_the_place(folder: SweepFolder):
    put_record(folder)
    written = json.loads(folder.record_file.read_text())
    del written["space"]["metric"]
    folder.record_file.write_text(json.dumps(written))
    with pytest.raises(UserError) as refused:
        read_record(folder)
    assert str(refused.value) == (
        f"{folder.record_file} is damaged: Object missing required field `metric` - at `$.space`;"
        " restore it from a backup"
    )
    text = json.dumps(written)
    folder.record_file.write_text(text[: len(text) // 2])
    with pytest.raises(UserError, match=r"sweep\.json is damaged: .*; restore it from a backup"):
        read_record(folder)


def test_a_range_of_integers_is_read_back_as_one(folder: SweepFolder):
    """Its text is compared at a resume, and a bound of 4.0 would be another one."""
    domain = DomainData(kind="int", lower=4, upper=64, quantum=4)
    put_record(folder, tuned={"rank": [domain]})
    assert read_record(folder).space.domains == {"rank": str(domain)}


DOMAINS = [
    tune.uniform(0.1, 0.7),
    tune.quniform(0, 1, 0.25),
    tune.loguniform(1e-5, 1e-3),
    tune.qloguniform(1e-4, 1e-1, 1e-4),
    tune.randint(1, 9),
    tune.qrandint(4, 64, 4),
    tune.lograndint(1, 512),
    tune.qlograndint(16, 512, 16),
    tune.choice(["sgd", None, 1, 1.5, [2, 3]]),
]


@pytest.mark.parametrize("domain", DOMAINS, ids=describe)
def test_the_data_of_a_domain_give_the_call_that_makes_it(domain: Any):
    kept = json.loads(json.dumps(dataclasses.asdict(domain_data(domain))))
    assert str(DomainData(**kept)) == describe(domain)


def test_a_condition_stands_behind_its_domain():
    data = DomainData(kind="int", lower=4, upper=9, condition={"optim": "sgd", "frozen": False})
    assert str(data) == "randint(4, 9) when optim = 'sgd' and frozen = False"


def test_a_reader_needs_neither_ray_nor_torch():
    code = (
        "import sys, sweeps.records.sweep_record\n"
        "print([n for n in ('ray', 'torch', 'numpy', 'mlflow') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
