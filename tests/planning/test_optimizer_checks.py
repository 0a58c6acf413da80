"""What HF would reject as training begins, or ignore, is said before anything starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace, SweepConfig
from sweeps.planning.samples import argument_problems, optimizer_warnings
from sweeps.space.conditions import when
from tests.searchers.searching import build

FRACTION = tune.uniform(0.2, 0.7)
CYCLES = "lr_scheduler_kwargs.num_cycles"
CHOICE = "lr_scheduler_type"


def space_of(tuned: dict[str, Any], fixed: dict[str, Any], **more: Any) -> SearchSpace:
    whole = {"build_trainer": build, "metric": "eval_loss", "mode": "min", **more}
    return SearchSpace(tuned=tuned, fixed=fixed, **whole)


def said(space: SearchSpace, tmp_path: Path) -> tuple[list[str], list[str]]:
    config = SweepConfig(num_trials=8, storage=str(tmp_path))
    problems = argument_problems(space, config, Path())
    return problems, [] if problems else list(optimizer_warnings(space, config, Path()))


REJECTED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "an entry of another schedule": (
        {CYCLES: FRACTION},
        {CHOICE: "linear"},
        "lr_scheduler_type=linear: .* unexpected keyword argument 'num_cycles'",
    ),
    "a misspelt entry": (
        {"lr_scheduler_kwargs.num_cycle": FRACTION},
        {CHOICE: "cosine"},
        "lr_scheduler_type=cosine: .* unexpected keyword argument 'num_cycle'",
    ),
    "a choice without its entry": (
        {CHOICE: tune.choice(["linear", "cosine_with_min_lr"])},
        {},
        "lr_scheduler_type=cosine_with_min_lr: One of min_lr or min_lr_rate should be set",
    ),
    "another": (
        {CHOICE: tune.choice(["linear", "warmup_stable_decay"])},
        {},
        "lr_scheduler_type=warmup_stable_decay: .*'num_decay_steps'",
    ),
    "a value of the optimizer": (
        {"optim_args.momentum": tune.uniform(-0.5, 0.5)},
        {"optim": "sgd"},
        "optim=sgd: Invalid momentum value: -0",
    ),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_hf_rejects_as_training_begins_is_a_problem(name: str, tmp_path: Path):
    tuned, fixed, text = REJECTED[name]
    rate = {"learning_rate": tune.loguniform(1e-5, 1e-3)}
    problems, _ = said(space_of({**rate, **tuned}, fixed), tmp_path)
    assert len(problems) == 1
    assert re.search(text, problems[0])


IGNORED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "optim_args.momentum": ({}, {"optim": "adamw_torch"}, "optim=adamw_torch"),
    "optim_args.momentun": ({}, {"optim": "sgd"}, "optim=sgd"),
    "adam_beta1": ({}, {"optim": "sgd"}, "optim=sgd"),
    "adam_epsilon": ({}, {"optim": "adafactor"}, "optim=adafactor"),
    "adam_beta2": (
        {"optim": tune.choice(["sgd", "adafactor"])},
        {},
        "optim=adafactor or optim=sgd",
    ),
    "warmup_steps": ({}, {CHOICE: "constant"}, "lr_scheduler_type=constant"),
    CYCLES: ({}, {CHOICE: "constant"}, "lr_scheduler_type=constant"),
}


@pytest.mark.parametrize("key", IGNORED)
def test_a_tuned_key_that_hf_ignores_is_a_warning(key: str, tmp_path: Path):
    tuned, fixed, with_ = IGNORED[key]
    problems, warnings = said(space_of({key: FRACTION, **tuned}, fixed), tmp_path)
    assert (problems, warnings) == ([], [f"tuned[{key!r}] has no effect with {with_}"])


SOUND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "entries under conditions": (
        {
            "optim": tune.choice(["adamw_torch", "sgd"]),
            "optim_args.momentum": when({"optim": "sgd"}, FRACTION),
            "adam_beta1": FRACTION,
            CHOICE: tune.choice(["linear", "cosine", "cosine_with_min_lr"]),
            CYCLES: when({CHOICE: "cosine"}, FRACTION),
            "lr_scheduler_kwargs.min_lr_rate": when({CHOICE: "cosine_with_min_lr"}, FRACTION),
        },
        {},
    ),
    "a short warmup": ({"warmup_steps": tune.uniform(0.001, 0.002)}, {}),
    "an optimizer of another package": (
        {"optim_args.alpha": FRACTION, "adam_beta1": FRACTION},
        {"optim": "ademamix"},
    ),
    "one choice without a warmup": (
        {CHOICE: tune.choice(["constant", "linear"]), "warmup_steps": FRACTION},
        {},
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_space_has_neither(name: str, tmp_path: Path):
    assert said(space_of(*SOUND[name]), tmp_path) == ([], [])


def test_a_constraint_may_exclude_what_hf_rejects(tmp_path: Path):
    tuned = {CHOICE: tune.choice(["linear", "cosine_with_min_lr"]), "seed": tune.randint(0, 9)}

    def without_minimum(values: dict[str, Any]) -> bool:
        return values[CHOICE] == "linear"

    assert said(space_of(tuned, {}, constraints=[without_minimum]), tmp_path) == ([], [])


IMPORT = "from transformers import Trainer\n"
OWN = "class Mine(Trainer):\n    def create_scheduler(self, *_): ...\n"


@pytest.mark.parametrize(
    "text",
    [
        OWN,
        "from own_trainer import Mine\n",
        "def make(model, args):\n    return Trainer(model, args, optimizers=(None, None))\n",
    ],
)
def test_nothing_is_said_of_a_trainer_with_an_optimizer_or_a_schedule_of_its_own(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = (
        "from transformers import Trainer\nclass Mine(Trainer):\n    def create_{}(self, *_): ...\n"
    )
    (tmp_path / "own_trainer.py").write_text(own.format("scheduler"))
    (tmp_path / "own_builder.py").write_text(
        f"from transformers import Trainer\n{text}def build(args): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_trainer", "own_builder"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    made = __import__("own_builder").build
    space = space_of({CYCLES: FRACTION}, {CHOICE: "linear"}, build_trainer=made)
    assert said(space, tmp_path) == ([], [])
