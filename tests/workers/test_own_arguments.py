"""A class of arguments that only the space's file knows is saved and resumed like any other."""

from __future__ import annotations

import copyreg
import functools
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle, tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace
from sweeps.space.annotations import resolve_text
from sweeps.space.loading import load_space
from sweeps.workers.job import Reply
from tests.workers.own_trainers import PARAMS, builder, space_of
from tests.workers.test_training import GO, numbers, run_job

FILE = """
from __future__ import annotations

from dataclasses import dataclass

from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace
from tests.workers.own_trainers import builder


@dataclass
class MyArguments(TrainingArguments):
    alpha: float = 0.5


def build(args: MyArguments | None = None) -> Trainer:
    assert 0.1 < args.alpha < 0.2
    return builder()(args)


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={"alpha": tune.uniform(0.1, 0.2), "learning_rate": tune.loguniform(1e-3, 1e-1)},
    fixed={"num_train_epochs": 2},
    evals_per_trial=4,
)
"""


@pytest.fixture
def travelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSpace:
    """A space as a worker gets it from a notebook: by value."""
    file = tmp_path / "of_a_file.py"
    file.write_text(FILE)
    made = load_space(str(file)).space
    resolve_text(made.build_trainer)
    module = sys.modules["sweeps_space_of_a_file"]
    cloudpickle.register_pickle_by_value(module)
    pickled = cloudpickle.dumps(made)
    cloudpickle.unregister_pickle_by_value(module)
    monkeypatch.delitem(sys.modules, "sweeps_space_of_a_file")
    space: SearchSpace = cloudpickle.loads(pickled)
    return space


def local_class() -> SearchSpace:
    @dataclass
    class Mine(TrainingArguments):
        alpha: float = 0.5

    def build(args: Any) -> Trainer:
        return builder()(args)

    build.__annotations__["args"] = Mine
    return replace(space_of(build), tuned={"alpha": tune.uniform(0.1, 0.2)})


@pytest.mark.parametrize("where", ["in a notebook", "in a function"])
def test_a_trial_is_saved_and_goes_on_exactly(where: str, tmp_path: Path, travelled: SearchSpace):
    space = travelled if where == "in a notebook" else local_class()
    params = {**PARAMS, "alpha": 0.15}
    state = Reply("continue", save_best=False, save_state=True)
    known = set(copyreg.dispatch_table)
    whole, saved = run_job(space, params, tmp_path / "x", lambda n: state if n == 2 else GO)
    resumed, _ = run_job(space, params, tmp_path / "x", checkpoint=saved[0].path)
    assert numbers(resumed) == numbers(whole[2:])
    assert set(copyreg.dispatch_table) == known, "nothing of a trial stays"


def test_a_script_that_reads_train_rows_only_to_train_has_them(tmp_path: Path):
    def build(args: TrainingArguments, *, scale: float) -> Trainer:
        made = builder()(args)
        made.train_dataset = made.train_dataset if args.do_train else None
        return made

    reports, _ = run_job(space_of(functools.partial(build, scale=1.0)), PARAMS, tmp_path)
    assert len(reports) == 4
