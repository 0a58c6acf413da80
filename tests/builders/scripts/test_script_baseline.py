"""The first trial of a script is the script as it stands, if its own values are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace, when
from sweeps.builders.scripts.script import Script
from tests.builders.scripts.scripted import (
    COPIED,
    HEAD,
    MAIN,
    NET,
    PARSERS,
    project,
    requested,
    tried,
)

LR, NUMBER, SEED = tune.loguniform(1e-4, 1e-2), tune.randint(2, 9), tune.randint(40, 50)


@pytest.mark.parametrize(
    ("words", "tuned", "own"),
    [
        ([], {"lr": LR, "layers": tune.choice([4, 8])}, {"lr": 1e-3, "layers": 8}),
        (["--layers", "4", "--lr=2e-3"], {"layers": NUMBER}, {"layers": 4}),
        (
            [],
            {"learning_rate": LR, "layers": tune.randint(2, 9)},
            {"learning_rate": 1e-3, "layers": 8},
        ),
        (
            [],
            {"warmup_steps": tune.choice([0, 5]), "seed": tune.randint(40, 50)},
            {"warmup_steps": 0, "seed": 42},
        ),
        ([], {"total_train_batch_size": tune.choice([32, 64])}, {"total_train_batch_size": 64}),
        (
            [],
            {
                "lr_scheduler_type": tune.choice(["linear", "cosine"]),
                "lr": when({"lr_scheduler_type": "cosine"}, LR),
            },
            {"lr_scheduler_type": "linear"},
        ),
        ([], {"lr": tune.uniform(0.1, 0.2)}, "its own lr = 0.001 is outside uniform(0.1, 0.2)"),
        ([], {"optim": tune.choice(["sgd"])}, "is outside choice(['sgd'])"),
        ([], {"share": tune.choice([5, 25])}, "its own share is not known"),
        (
            [],
            {"gradient_checkpointing_kwargs.use_reentrant": tune.choice([True, False])},
            "use_reentrant is not known",
        ),
    ],
)
def test_the_baseline_is_the_script_as_it_stands_if_the_space_allows_it(
    words: list[str], tuned: dict[str, Any], own: dict[str, Any] | str, tmp_path: Path
):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + COPIED)
    space = SearchSpace(
        build_trainer=Script("train.py", *words), metric="eval_loss", mode="min", tuned=tuned
    )
    request = requested(space, tmp_path)
    if isinstance(own, str):
        assert list(request.space.first_params) == []
        assert request.lines[-1].startswith("there is no baseline trial of train.py")
        assert own in request.lines[-1]
        return
    assert request.space.first_params == [own]
    assert request.lines[-1].startswith("t001, the baseline, runs train.py with its own values: ")
    again = requested(space, tmp_path)  # with what the earlier dry run has found
    assert again.lines == request.lines


OWN_DEFAULTS = """
from dataclasses import dataclass, field
from pathlib import Path

@dataclass
class Mine(TrainingArguments):
    learning_rate: float = 3e-4
    per_device_train_batch_size: int = 4
    num_train_epochs: float = 7.0
    alpha: float = 0.5
    sizes: tuple = (4, 8)
    teacher: str | None = None
    files: list = field(default_factory=lambda: [Path("a")])

make(Mine("out", report_to="none")).train()
"""


@pytest.mark.parametrize(
    ("tuned", "own"),
    [
        ({"learning_rate": LR, "alpha": tune.uniform(0.1, 0.9)}, {"alpha": 0.5}),
        ({"learning_rate": LR, "total_train_batch_size": tune.choice([4, 8])}, None),
        ({"learning_rate": LR, "sizes": tune.choice([(2, 4), (4, 8)])}, {"sizes": [4, 8]}),
        ({"learning_rate": LR, "teacher": tune.choice([None, "large"])}, {"teacher": None}),
    ],
)
def test_the_baseline_has_the_defaults_of_the_scripts_own_argument_class(
    tuned: dict[str, Any], own: dict[str, Any] | None, tmp_path: Path
):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + OWN_DEFAULTS)
    space = SearchSpace(
        build_trainer=Script("train.py"), metric="eval_loss", mode="min", tuned=tuned
    )
    request = requested(space, tmp_path)
    expected = {"learning_rate": 3e-4, **(own or {"total_train_batch_size": 4})}
    assert request.space.first_params == [expected]
    assert request.space.builder.argument_values["num_train_epochs"] == 7.0, "rungs and plan use it"


def test_an_own_argument_whose_value_cannot_be_recorded_is_not_known(tmp_path: Path):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + OWN_DEFAULTS)
    space = SearchSpace(
        build_trainer=Script("train.py"),
        metric="eval_loss",
        mode="min",
        tuned={"files": tune.choice([["a"], ["b"]])},
    )
    assert requested(space, tmp_path).lines[-1].endswith("its own files is not known")


@pytest.mark.parametrize("parser", PARSERS)
def test_the_own_values_of_flags_are_known_whatever_parses_them(parser: str, tmp_path: Path):
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + MAIN + PARSERS[parser])
    words = ["train"] if "command" in parser else []
    flags = {"count": tune.randint(1, 9), "fast": tune.choice([True, False])}
    flags |= {"betas": tune.choice([[0.5, 0.75]]), "clip": tune.choice([True])}
    builder = tried("train.py", *words, folder=tmp_path / "runs", place=tmp_path, **flags)
    own = {"count": 64, "betas": [0.9, 0.999], "fast": False, "clip": True}
    assert builder.keyword_values == own
