"""A builder that does the work of `sweeps`, or changes a trial's values, is refused by its line."""

from __future__ import annotations

import argparse
import copy
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from transformers import (
    HfArgumentParser,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig

from sweeps.errors import SweepError, UserError
from sweeps.records.folder import SweepFolder
from sweeps.space.arguments import Devices, training_arguments, tuned_fields
from sweeps.workers.builder_call import call_builder
from tests.workers.own_trainers import PARAMS, Net, rows, space_of
from tests.workers.test_smoke_run import run_smoke
from tests.workers.test_training import run_job, stop_at

HERE = Path(__file__).name


def make(args: TrainingArguments, kind: type[Trainer] = Trainer, **given: Any) -> Trainer:
    return kind(Net(), args, **{"train_dataset": rows(64), "eval_dataset": rows(16), **given})


def trains(args: TrainingArguments) -> Trainer:
    trainer = make(args)
    trainer.train()  # HERE
    return trainer


def trains_by_a_method_of_its_own(args: TrainingArguments) -> Trainer:
    class Mine(Trainer):
        def train(self, *args: Any, **options: Any) -> Any:
            return super().train(*args, **options)  # HERE

    trainer = make(args, Mine)
    trainer.train()
    return trainer


def own_arguments(args: TrainingArguments) -> Trainer:
    own = TrainingArguments("out", num_train_epochs=2, report_to="none", use_cpu=True)  # HERE
    return make(own, eval_dataset=rows(16))


def own_arguments_of_a_subclass(args: TrainingArguments) -> Trainer:
    return make(Seq2SeqTrainingArguments("out", use_cpu=True), Seq2SeqTrainer)  # HERE


def own_arguments_in_the_same_folder(args: TrainingArguments) -> Trainer:
    own = TrainingArguments(args.output_dir, learning_rate=2e-5, use_cpu=True)  # HERE
    return make(own)


def copies_of_arguments(args: TrainingArguments) -> Trainer:
    return make(replace(args, learning_rate=2e-5))  # HERE


def arguments_of_a_subclass(args: TrainingArguments) -> Trainer:
    own = Seq2SeqTrainingArguments(**{**args.to_dict(), "num_train_epochs": 1})  # HERE
    return make(own, Seq2SeqTrainer)


def arguments_with_a_seed_of_their_own(args: TrainingArguments) -> Trainer:
    return make(replace(args, seed=3, eval_strategy="epoch"))  # HERE


def changes_a_copy(args: TrainingArguments) -> Trainer:
    own = copy.deepcopy(args)
    own.learning_rate = 1e-3  # HERE
    return make(own)


def overrides_by_a_method(args: TrainingArguments) -> Trainer:
    args.set_training(learning_rate=1e-3, num_epochs=2)  # HERE
    return make(args)


def overrides_what_is_fixed(args: TrainingArguments) -> Trainer:
    args.num_train_epochs = 1  # HERE
    return make(args)


def overrides(args: TrainingArguments) -> Trainer:
    args.learning_rate = 1e-3  # HERE
    return make(args)


def moves(args: TrainingArguments) -> Trainer:
    args.output_dir = "out"  # HERE
    return make(args)


def parses(args: TrainingArguments) -> Trainer:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()  # HERE
    return make(args, eval_dataset=rows(options.rows))


def parses_some(args: TrainingArguments) -> Trainer:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=16)
    options, _ = parser.parse_known_args()  # HERE
    return make(args, eval_dataset=rows(options.rows))


@dataclass
class Options:
    rows: int = 16


def parses_as_hf_does(args: TrainingArguments) -> Trainer:
    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()  # HERE
    return make(args, eval_dataset=rows(options.rows))


def exits(args: TrainingArguments) -> Trainer:
    sys.exit("no GPU")  # HERE


def has_nothing_to_judge_by(args: TrainingArguments) -> Trainer:
    return Trainer(Net(), args, train_dataset=rows(64))  # HERE


BUILDERS = {
    trains: "remove this call; sweeps trains the trainer that build_trainer returns",
    trains_by_a_method_of_its_own: "sweeps trains the trainer that build_trainer returns",
    own_arguments: "these arguments replace the ones passed to build_trainer (own_arguments), so no"
    " tuned or fixed value takes effect; remove them, and pass args=args to the Trainer",
    own_arguments_of_a_subclass: "these arguments replace the ones",
    own_arguments_in_the_same_folder: "these arguments replace the ones passed to build_trainer"
    " (own_arguments_in_the_same_folder), but learning_rate is 2e-05 instead of 0.05,"
    " logging_steps is 500 instead of 2, num_train_epochs is 3.0 instead of 2; pass args=args",
    copies_of_arguments: "but learning_rate is 2e-05 instead of 0.05; pass args=args to the"
    " Trainer, or create them with dataclasses.replace(args, ...) and leave these unchanged",
    arguments_of_a_subclass: "but num_train_epochs is 1 instead of 2; pass args=args",
    arguments_with_a_seed_of_their_own: "seed is 3 instead of 0",
    changes_a_copy: "this sets learning_rate to 0.001, but it is tuned (0.05 in this trial)",
    overrides_by_a_method: "this sets learning_rate to 0.001, but it is tuned (0.05 in this trial)",
    overrides_what_is_fixed: "this sets num_train_epochs to 1, but it is fixed (2 in this trial);"
    " remove this line, or remove it from fixed",
    overrides: "this sets learning_rate to 0.001, but it is tuned (0.05 in this trial);"
    " remove this line, or tune a keyword of build_trainer",
    moves: "this sets output_dir to 'out', but sweeps sets it ('",
    parses: "this reads the command line, which belongs to sweeps",
    parses_some: "this reads the command line, which belongs to sweeps",
    parses_as_hf_does: "this reads the command line, which belongs to sweeps",
    exits: "ends the process (SystemExit('no GPU')); raise an error",
    has_nothing_to_judge_by: "this Trainer has no eval_dataset, but trials are judged by"
    " evaluations; add one",
}


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_the_smoke_run_names_the_line_and_what_to_write(
    build: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["worker", "--node-ip-address=127.0.0.1"])
    source = Path(__file__).read_text().split(f"def {build.__name__}(")[0]
    body = Path(__file__).read_text().removeprefix(source)
    line = source.count("\n") + body[: body.index("# HERE")].count("\n") + 1
    code = Path(__file__).read_text().splitlines()[line - 1].strip()
    folder = SweepFolder(tmp_path / "results" / "curves")
    with pytest.raises(UserError, match=re.escape(BUILDERS[build])) as told:
        run_smoke(space_of(build), folder, PARAMS)
    assert str(told.value).startswith(f"{Path(__file__)}: line {line}: {code}: ")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("build", [exits, parses], ids=lambda build: build.__name__)
def test_a_trial_without_a_smoke_run_is_refused_alike(build: Any, tmp_path: Path):
    with pytest.raises(UserError, match=re.escape(BUILDERS[build])):
        run_job(space_of(build), PARAMS, tmp_path)


def test_the_parts_of_a_tuned_total_batch_are_kept_too(tmp_path: Path):
    def halves(args: TrainingArguments) -> Trainer:
        args.per_device_train_batch_size //= 2
        return make(args)

    space = space_of(halves, tuned={"total_train_batch_size": tune.choice([8, 16])})
    with pytest.raises(
        UserError, match="this sets per_device_train_batch_size to 4, but it is tuned"
    ):
        run_job(space, {"total_train_batch_size": 8}, tmp_path)


def test_what_a_builder_may_do_with_arguments_and_other_trainers_is_let_be(tmp_path: Path):
    def build(args: TrainingArguments) -> Trainer:
        options = argparse.ArgumentParser().parse_args([])
        args.remove_unused_columns = not vars(options)
        own = TrainingArguments(tmp_path / "teacher", max_steps=1, report_to="none", use_cpu=True)
        make(own).train()
        args.warmup_steps = 2
        Path(args.output_dir, "labels.txt").write_text("0 1")
        args.learning_rate = float(args.learning_rate)
        return make(replace(args, weight_decay=0.1))

    train = Trainer.train
    reports, _ = run_job(space_of(build), PARAMS, tmp_path, stop_at(1))
    assert len(reports) == 1
    assert Trainer.train is train, "and the library is as it was"
    assert TrainingArguments.__post_init__.__qualname__ == "TrainingArguments.__post_init__"
    assert argparse.ArgumentParser.parse_known_args.__module__ == "argparse"
    assert TrainingArguments.__setattr__ is object.__setattr__


def test_values_that_are_changed_without_setting_a_field_are_found_too(tmp_path: Path):
    def build(args: TrainingArguments) -> Trainer:
        assert isinstance(args.lr_scheduler_kwargs, dict)
        args.lr_scheduler_kwargs.update(num_cycles=2, last_epoch=-1)
        return make(args)

    changes = {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs.num_cycles": 1}
    space = space_of(build, fixed={"num_train_epochs": 2, **changes})
    with pytest.raises(
        UserError,
        match=r"lr_scheduler_kwargs is \{'num_cycles': 2, .* instead of \{'num_cycles': 1",
    ):
        run_job(space, PARAMS, tmp_path)


SETTLED = {
    "optim": "adafactor",
    "optim_args": "scale_parameter=False",
    "lr_scheduler_type": "cosine",
    "lr_scheduler_kwargs": {"num_cycles": 1},
    "warmup_steps": 0.1,
    "accelerator_config": {"split_batches": False},
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "fsdp_config": {"min_num_params": 0},
    "debug": "underflow_overflow",
    "log_level": "info",
    "bf16": True,
    "data_seed": 3,
}
"""Values that HF converts, or that are no plain values."""


@pytest.mark.parametrize(
    "again",
    [
        lambda args: args,
        replace,
        copy.copy,
        copy.deepcopy,
        lambda args: TrainingArguments(**args.to_dict()),
        lambda args: Seq2SeqTrainingArguments(**args.to_dict()),
        lambda args: SFTConfig(**args.to_dict()),
        lambda args: TrainingArguments(**{**args.to_dict(), "report_to": "tensorboard"}),
    ],
    ids=["same", "replace", "copy", "deepcopy", "to_dict", "to_subclass", "to_sft", "report_to"],
)
def test_arguments_that_keep_the_values_of_the_trial_are_let_be(again: Any, tmp_path: Path):
    space = space_of(lambda args: None, fixed=SETTLED)
    args = training_arguments(
        space,
        PARAMS,
        devices=Devices(workers=1, gpu=False, bf16=False),
        output_dir=tmp_path / "sweep" / "checkpoints" / "t001",
        seed=7,
    )
    tuned, fixed = tuned_fields(space, PARAMS), tuned_fields(space, space.fixed)
    made = call_builder(lambda: make(again(args)), args, "build", tuned, fixed)
    assert (made.args.learning_rate, made.args.seed) == (0.05, 7)


def test_no_trainer_is_none(tmp_path: Path):
    with pytest.raises(SweepError, match=r"returned int, not a transformers\.Trainer"):
        run_job(space_of(lambda args: 3), PARAMS, tmp_path)


def test_a_patch_of_train_that_a_builder_makes_stays_and_the_method_it_found_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Trainer, "train", lambda _: "trained")
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)

    def patches() -> Trainer:
        own: Any = Trainer.train
        monkeypatch.setattr(Trainer, "train", lambda trainer: f"patched: {own(trainer)}")
        return make(args)

    trained: Any = call_builder(patches, args, "patches", (), ()).train()
    assert trained == "patched: trained"
