"""`--searcher`: a name or `module:factory`, whose module travels with the sweep."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps import SweepConfig
from sweeps.driver.requests.finished import Changes
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.requests.rerun import make_rerun
from sweeps.driver.requests.resume_request import make_resumption
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.sweep_record import write_record
from sweeps.searchers.make_searcher import SEARCHERS, make_searcher
from sweeps.space.code_copy import copy_code
from tests.searchers.searching import Search

SPACE = """
from ray import tune
from transformers import TrainingArguments
from sweeps import SearchSpace

def build(args: TrainingArguments): ...

SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"learning_rate": tune.uniform(0.0, 1.0)},
)
"""
SEARCHER = """
from random import Random
from ray.tune.search import Searcher

class Draws(Searcher):
    def __init__(self, metric, mode, seed):
        super().__init__(metric=metric, mode=mode)
        self.generator = Random(seed)

    def suggest(self, trial_id):
        return {"learning_rate": self.generator.random() * HIGHEST}

    def on_trial_complete(self, trial_id, result=None, error=False): ...
"""


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with a space, and a searcher beside it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "space.py").write_text(SPACE)
    (mine / "drawing.py").write_text(f"HIGHEST = 1.0\n{SEARCHER}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield mine
    sys.modules.pop("drawing", None)


def started(searcher: str) -> tuple[Request, SweepFolder]:
    """A sweep that has one trial, and has ended."""
    config = SweepConfig(storage="out", searcher=searcher, seed=4)
    request = make_request("mine/space.py", config)
    folder = SweepFolder(config.storage_folder / "space-20261128-0907-k3f9")
    folder.path.mkdir(parents=True)
    write_record(folder, make_record(request, folder.id))
    copy_code(request.loaded, folder.code)
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepStarted(sweep=folder.id), suggested(1, proposed(request)))
    log.append(ev.TrialEnded(trial="t001", status="failed", failure="error"))
    log.append(ev.SweepEnded(status="finished"))
    log.close()
    return request, folder


def suggested(number: int, params: dict[str, float]) -> ev.TrialSuggested:
    return ev.TrialSuggested(trial=f"t{number:03}", params=params, origin="searcher", seed=0)


def proposed(request: Request, *before: dict[str, float]) -> dict[str, float]:
    found = make_searcher(request.space, request.config, root=request.loaded.root)
    history = History("eval_score", "max")
    for number, params in enumerate(before, 1):
        history.apply(suggested(number, params))
    params = found.propose(history)
    assert params is not None
    return params


def test_a_searcher_beside_the_space_travels_with_the_sweep(mine: Path, tmp_path: Path):
    request, folder = started("drawing:Draws")
    first = proposed(request)
    second = proposed(request, first)
    (mine / "drawing.py").write_text(f"HIGHEST = 0.001\n{SEARCHER}")
    assert proposed(request, first) != second, "the original has changed"
    storage = str(tmp_path / "out")
    again = make_resumption(folder, Changes(num_trials=40), storage=storage)
    assert again.config.searcher == "drawing:Draws"
    assert proposed(again, first) == second
    (mine / "drawing.py").unlink()
    assert proposed(make_rerun(folder, "t001", {"storage": storage}), first) == second


def test_a_searcher_that_is_gone_is_said_before_anything_starts(mine: Path, tmp_path: Path):
    _, folder = started("drawing:Draws")
    for root in (folder.code, mine):
        (root / "drawing.py").unlink()
    sys.modules.pop("drawing")
    with pytest.raises(UserError) as raised:
        make_resumption(folder, Changes(num_trials=40), storage=str(tmp_path / "out"))
    assert str(raised.value) == (
        "searcher = 'drawing:Draws': no module named 'drawing', neither in"
        f" {folder.code} nor in the environment"
    )


@pytest.mark.parametrize(
    ("searcher", "problem"),
    [
        (
            "optna",
            "no searcher named 'optna'; available: optuna, random or module:factory; did you mean"
            " 'optuna'?",
        ),
        ("drawing", "no searcher named 'drawing'; available: optuna, random or module:factory"),
        ("drawing:Draw", "drawing has no 'Draw'; did you mean 'Draws'?"),
        ("drawing:Random", "cannot be called with metric, mode, seed ("),
    ],
)
def test_a_searcher_that_cannot_serve_is_refused_with_the_request(searcher: str, problem: str):
    with pytest.raises(UserError) as raised:
        make_request("mine/space.py", SweepConfig(searcher=searcher))
    assert str(raised.value).startswith(f"searcher = {searcher!r}: {problem}")


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_name_is_a_searcher(name: str):
    assert Search(searcher=name).propose() is not None
