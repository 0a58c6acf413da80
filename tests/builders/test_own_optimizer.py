"""Params that do not reach the optimizer or the schedule are refused: all trials would be alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import StepLR
from transformers import (
    Trainer,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
    get_scheduler,
)

from sweeps.builders.own_optimizer import ignored_arguments
from sweeps.errors import UserError
from tests.workers.own_trainers import PARAMS, Net, builder, rows, space_of
from tests.workers.test_training import run_job, stop_at

VALUES: Mapping[str, Any] = {
    "learning_rate": 0.05,
    "weight_decay": 0.3,
    "warmup_steps": 0.25,
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 1.5},
}
OF_ADAM = {"adam_beta1", "adam_beta2", "adam_epsilon"}


def trainer_of(folder: Path, optimizer: Any = None, schedule: Any = None, **values: Any) -> Trainer:
    """A trainer with what is made from its arguments, and from the optimizer."""
    args = TrainingArguments(str(folder), use_cpu=True, **VALUES | values)
    model = Net()
    made = None if optimizer is None else optimizer(args, model.parameters())
    then = None if schedule is None else schedule(args, made)
    return Trainer(
        model, args, train_dataset=rows(8), eval_dataset=rows(8), optimizers=(made, then)
    )


def from_arguments(args: TrainingArguments, weights: Any) -> AdamW:
    return AdamW(weights, lr=args.learning_rate, weight_decay=args.weight_decay)


OPTIMIZERS: dict[str, tuple[Any, set[str]]] = {
    "none": (None, set()),
    "its own numbers": (
        lambda args, weights: AdamW(weights, lr=1e-3),
        {"learning_rate", "weight_decay"},
    ),
    "from arguments": (from_arguments, set()),
    "smaller in lower layers": (
        lambda args, weights: AdamW(
            [{"params": list(weights), "lr": args.learning_rate / 4}],
            lr=args.learning_rate,
            weight_decay=args.weight_decay,
        ),
        set(),
    ),
    "multiples of the argument": (
        lambda args, weights: AdamW(
            [
                {"params": list(weights), "lr": args.learning_rate * 10},
                {"params": [Parameter(torch.zeros(1))], "lr": args.learning_rate / 10},
            ],
            weight_decay=args.weight_decay,
        ),
        set(),
    ),
    "its own numbers, without decay in one group": (
        lambda args, weights: AdamW(
            [
                {"params": list(weights), "weight_decay": 0.01},
                {"params": [Parameter(torch.zeros(1))], "weight_decay": 0.0},
            ],
            lr=args.learning_rate,
        ),
        {"weight_decay"},
    ),
    "another class": (
        lambda args, weights: SGD(weights, lr=args.learning_rate, weight_decay=args.weight_decay),
        {"optim", "optim_args"} | OF_ADAM,
    ),
    "as HF makes it": (
        lambda args, weights: Trainer.get_optimizer_cls_and_kwargs(args)[0](
            weights, lr=args.learning_rate, weight_decay=args.weight_decay
        ),
        set(),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_ignores_the_values_that_it_does_not_have(name: str, tmp_path: Path):
    make, ignored = OPTIMIZERS[name]
    assert ignored_arguments(trainer_of(tmp_path, make)).keys() == ignored


def test_the_class_of_an_optimizer_and_its_values_may_be_passed_too(tmp_path: Path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, **VALUES)
    trainer = Trainer(Net(), args, optimizer_cls_and_kwargs=(SGD, {"lr": 1e-3}))
    assert ignored_arguments(trainer).keys() == {"learning_rate", "optim", "optim_args"} | OF_ADAM


def of_hf(args: TrainingArguments, optimizer: Any, **changes: Any) -> Any:
    given = {
        "name": args.lr_scheduler_type,
        "num_warmup_steps": args.get_warmup_steps(40),
        "scheduler_specific_kwargs": args.lr_scheduler_kwargs,
    }
    return get_scheduler(optimizer=optimizer, num_training_steps=40, **given | changes)


SCHEDULES: dict[str, tuple[Any, set[str]]] = {
    "from arguments": (of_hf, set()),
    "its own warmup": (lambda *of: of_hf(*of, num_warmup_steps=2), {"warmup_steps"}),
    "a function of HF": (
        lambda args, made: get_cosine_schedule_with_warmup(made, 10, 40),
        {"lr_scheduler_kwargs"},
    ),
    "another type": (
        lambda *of: of_hf(*of, name="linear", scheduler_specific_kwargs={}),
        {"lr_scheduler_type", "lr_scheduler_kwargs"},
    ),
    "a constant": (
        lambda *of: of_hf(*of, name="constant", scheduler_specific_kwargs={}),
        {"lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"},
    ),
    "unknown": (lambda args, made: StepLR(made, 10), set()),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_of_hf_ignores_the_values_that_it_does_not_have(name: str, tmp_path: Path):
    make, ignored = SCHEDULES[name]
    trainer = trainer_of(tmp_path, from_arguments, make)
    assert ignored_arguments(trainer).keys() == ignored


def test_a_trial_is_refused_before_it_trains(tmp_path: Path):
    def build(args: TrainingArguments) -> Trainer:
        model = Net()
        return Trainer(
            model,
            args,
            train_dataset=rows(64),
            eval_dataset=rows(16),
            optimizers=(AdamW(model.parameters(), lr=1e-3), None),
        )

    with pytest.raises(UserError) as refused:
        run_job(space_of(build), PARAMS, tmp_path)
    assert refused.value.problems == [
        "learning_rate has no effect: the trainer's own optimizer (AdamW) has lr = 0.001, not 0.05;"
        " create it from args.learning_rate, or remove learning_rate from the space"
    ]


class Fixed(Trainer):
    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = AdamW(self.model.parameters(), lr=1e-3)
        return self.optimizer


class Follows(Trainer):
    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = SGD(self.model.parameters(), lr=self.args.learning_rate)
        return self.optimizer


class Scheduled(Trainer):
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = get_scheduler("constant", optimizer or self.optimizer)
        return self.lr_scheduler


def test_a_trainer_that_creates_its_optimizer_itself_is_asked_for_the_same(tmp_path: Path):
    with pytest.raises(UserError, match=r"learning_rate has no effect: .* lr = 0\.001, not 0\.05"):
        run_job(space_of(builder(Fixed)), PARAMS, tmp_path / "fixed")
    reports, _ = run_job(space_of(builder(Follows)), PARAMS, tmp_path / "own", stop_at(1))
    assert len(reports) == 1
    space = space_of(builder(Scheduled), fixed={"num_train_epochs": 2, "warmup_steps": 4})
    with pytest.raises(UserError, match="warmup_steps has no effect: the trainer's own schedule"):
        run_job(space, PARAMS, tmp_path / "scheduled")
