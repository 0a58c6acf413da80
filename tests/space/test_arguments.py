"""From fixed values and params to `TrainingArguments`, and the arithmetic of batches."""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from pathlib import Path
from typing import Any, Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray import cloudpickle, tune
from transformers import Seq2SeqTrainingArguments, TrainingArguments

from sweeps import SearchSpace, SweepConfig
from sweeps.errors import UserError
from sweeps.records.history import History
from sweeps.searchers.make_searcher import make_searcher
from sweeps.space import domains
from sweeps.space.adapted import Adapted
from sweeps.space.annotations import resolve_text
from sweeps.space.arguments import (
    Devices,
    argument_class,
    argument_fields,
    batch_problems,
    fewer_rows,
    half_precision_switched_off,
    may_take_fewer_rows,
    split_batch,
    training_arguments,
    trial_seed,
    trial_values,
)
from sweeps.space.checks import check_space, unknown
from sweeps.space.loading import load_space
from sweeps.space.search_space import OWNED

CPU = Devices(workers=1, gpu=False, bf16=False)


def build(args: TrainingArguments, *, height: float = 0.5) -> None: ...


def make(**changes: Any) -> SearchSpace:
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_score",
        "mode": "max",
        "tuned": {"learning_rate": tune.loguniform(1e-5, 1e-3)},
    }
    return SearchSpace(**whole | changes)


def arguments(
    params: dict[str, Any] | None = None, devices: Devices = CPU, **changes: Any
) -> TrainingArguments:
    space = make(**changes)
    seed = trial_seed(space, params or {}, 5)
    return training_arguments(
        space, params or {}, devices=devices, output_dir=Path("/sweep/t001"), seed=seed
    )


# Batches.


@settings(derandomize=True, deadline=None, max_examples=500)
@given(st.integers(1, 4096), st.integers(1, 16), st.none() | st.integers(1, 256))
def test_rows_workers_and_steps_make_up_the_total_and_no_device_takes_too_many_rows(
    total: int, workers: int, max_rows: int | None
):
    try:
        rows, steps = split_batch(total, workers, max_rows)
    except UserError:
        assert total % workers
        return
    assert rows * workers * steps == total
    assert rows >= 1
    assert max_rows is None or rows <= max_rows
    assert steps == 1 or max_rows is not None


@pytest.mark.parametrize(
    ("total", "workers", "max_rows", "split"),
    [
        (32, 1, None, (32, 1)),
        (32, 2, None, (16, 1)),
        (32, 2, 16, (16, 1)),
        (32, 2, 8, (8, 2)),
        (48, 2, 20, (12, 2)),
        (30, 2, 4, (3, 5)),
        (7, 1, 4, (1, 7)),
    ],
)
def test_a_batch_is_split_in_as_few_steps_as_possible(
    total: int, workers: int, max_rows: int | None, split: tuple[int, int]
):
    assert split_batch(total, workers, max_rows) == split


@pytest.mark.parametrize(
    ("total", "workers", "nearest"), [(33, 2, "32 or 34"), (1, 2, "2"), (16, 3, "15 or 18")]
)
def test_a_total_that_the_workers_cannot_share_is_answered_with_the_nearest_sizes(
    total: int, workers: int, nearest: str
):
    with pytest.raises(UserError) as raised:
        split_batch(total, workers, None)
    assert str(raised.value) == (
        f"total_train_batch_size = {total} is not divisible by {workers} workers;"
        f" nearest: {nearest}"
    )


def test_every_batch_size_that_cannot_be_shared_is_named_before_anything_starts():
    space = make(tuned={"total_train_batch_size": tune.choice([16, 17, 32, 33])})
    assert batch_problems(space, workers=1) == []
    assert batch_problems(space, workers=2) == [
        "total_train_batch_size = 17 is not divisible by 2 workers; nearest: 16 or 18",
        "total_train_batch_size = 33 is not divisible by 2 workers; nearest: 32 or 34",
    ]
    assert len(batch_problems(make(fixed={"total_train_batch_size": 9}), workers=2)) == 1
    assert batch_problems(make(), workers=2) == []


@pytest.mark.parametrize(
    "domain", [tune.randint(16, 64), tune.lograndint(16, 64)], ids=["randint", "lograndint"]
)
def test_a_range_of_batch_sizes_that_the_workers_cannot_share_is_named_too(domain: Any):
    assert batch_problems(make(tuned={"total_train_batch_size": domain}), workers=2)


@pytest.mark.parametrize("total", [0, -8, 16.5, 16.0, "many"])
def test_a_batch_size_must_be_a_whole_number_of_at_least_one(total: Any):
    assert batch_problems(make(fixed={"total_train_batch_size": total}), workers=1)


def test_the_most_rows_of_a_device_must_be_at_least_one():
    fixed = {"total_train_batch_size": 16, "max_rows_per_device": 0}
    (problem,) = batch_problems(make(fixed=fixed), workers=1)
    assert "max_rows_per_device" in problem


@pytest.mark.parametrize(
    ("domain", "workers"),
    [(tune.qlograndint(3, 64, 8), 2), (tune.randint(0, 9), 1), (tune.qrandint(0, 8, 2), 2)],
    ids=["an odd end", "zero", "zero of two"],
)
def test_a_range_of_batch_sizes_that_holds_a_wrong_one_is_refused(domain: Any, workers: int):
    space = make(tuned={"total_train_batch_size": domain})
    assert domains.problem_with(domain) or batch_problems(space, workers)


# Fewer rows per device, since memory ran out.


@pytest.mark.parametrize(
    ("rows", "steps", "fewer"),
    [
        (16, 1, (8, 2)),
        (16, 3, (8, 6)),
        (2, 4, (1, 8)),
        (9, 2, (3, 6)),  # odd: the most that divides it, not above a half
        (15, 1, (5, 3)),
        (25, 1, (5, 5)),
        (7, 2, (1, 14)),  # prime
    ],
)
def test_training_takes_half_the_rows_in_more_steps_or_as_near_as_divides(
    rows: int, steps: int, fewer: tuple[int, int]
):
    values = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
    assert fewer_rows(values, "training") == {
        "per_device_train_batch_size": fewer[0],
        "gradient_accumulation_steps": fewer[1],
    }


@settings(derandomize=True, deadline=None)
@given(st.integers(2, 512), st.integers(1, 64))
def test_fewer_rows_in_training_keep_the_total_and_are_at_most_half(rows: int, steps: int):
    values = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps}
    fewer = fewer_rows(values, "training")
    left = fewer["per_device_train_batch_size"]
    assert left * fewer["gradient_accumulation_steps"] == rows * steps
    assert 1 <= left <= rows / 2
    assert not [n for n in range(left + 1, rows // 2 + 1) if rows % n == 0], "no more would do"


@pytest.mark.parametrize(("rows", "fewer"), [(8, 4), (7, 3), (3, 1), (2, 1)])
def test_evaluation_takes_half_the_rows_rounded_down(rows: int, fewer: int):
    values = {"per_device_eval_batch_size": rows, "per_device_train_batch_size": 32}
    assert fewer_rows(values, "evaluation") == {"per_device_eval_batch_size": fewer}


def test_one_row_cannot_become_fewer():
    assert fewer_rows({"per_device_train_batch_size": 1}, "training") == {}
    assert fewer_rows({"per_device_eval_batch_size": 1}, "evaluation") == {}


def test_rows_that_the_space_does_not_set_are_those_of_hf():
    default = TrainingArguments(use_cpu=True)
    assert fewer_rows({}, "training") == {
        "per_device_train_batch_size": default.per_device_train_batch_size // 2,
        "gradient_accumulation_steps": default.gradient_accumulation_steps * 2,
    }
    half = default.per_device_eval_batch_size // 2
    assert fewer_rows({}, "evaluation") == {"per_device_eval_batch_size": half}


@pytest.mark.parametrize(
    ("reduced", "rows"),
    [
        ((), (4, 4, 8)),
        (("training",), (2, 8, 8)),
        (("evaluation",), (4, 4, 4)),
        (("training", "evaluation"), (2, 8, 4)),
    ],
)
def test_a_reduced_phase_takes_fewer_rows_of_the_same_total_batch(
    reduced: tuple[str, ...], rows: tuple[int, int, int]
):
    args = training_arguments(
        make(fixed={"max_rows_per_device": 4}),
        {"total_train_batch_size": 32},
        devices=Devices(workers=2, gpu=False, bf16=False),
        output_dir=Path("/sweep/t001"),
        seed=5,
        reduced=frozenset(reduced),
    )
    assert rows == (
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        args.per_device_eval_batch_size,
    )


@pytest.mark.parametrize(
    ("params", "workers", "training", "evaluation"),
    [
        ({}, 1, True, True),  # HF's 8 rows
        ({"total_train_batch_size": 2}, 1, True, True),
        ({"total_train_batch_size": 2}, 2, False, True),
        ({"total_train_batch_size": 16, "max_rows_per_device": 1}, 2, False, True),
        ({"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1}, 1, False, False),
        ({"per_device_eval_batch_size": 2}, 1, True, True),
    ],
)
def test_a_trial_may_take_fewer_rows_while_a_device_has_more_than_one(
    params: dict[str, Any], workers: int, training: bool, evaluation: bool
):
    space = make(fixed={k: v for k, v in params.items() if k != "total_train_batch_size"})
    drawn = {k: v for k, v in params.items() if k == "total_train_batch_size"}
    assert may_take_fewer_rows(space, drawn, workers, "training") is training
    assert may_take_fewer_rows(space, drawn, workers, "evaluation") is evaluation


# The arguments of a trial.


def test_what_the_sweep_owns_is_set_by_the_sweep():
    args = arguments()
    assert args.output_dir == "/sweep/t001"
    assert (args.eval_strategy, args.save_strategy) == ("steps", "no")
    assert args.eval_steps == 2**31 - 1
    assert (args.metric_for_best_model, args.greater_is_better) == ("eval_score", True)
    assert args.report_to == []
    assert args.use_cpu is True
    assert args.disable_tqdm is True
    assert args.logging_nan_inf_filter is False
    assert args.load_best_model_at_end is False
    assert args.push_to_hub is False
    assert args.resume_from_checkpoint is None
    assert arguments(mode="min").greater_is_better is False


class Remembering(TrainingArguments):
    """Keeps what it is made with."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.given = given


def remembering(args: Remembering) -> None: ...


def test_every_argument_that_the_sweep_sets_unasked_is_one_that_a_space_may_not():
    args = arguments(build_trainer=remembering)
    assert isinstance(args, Remembering)
    defaults = {"seed", "run_name", "logging_steps", "bf16", "fp16", "tf32"}
    assert set(args.given) - defaults <= set(OWNED)


def test_params_and_fixed_values_reach_their_arguments_and_builder_keywords():
    space = make(fixed={"weight_decay": 0.01, "height": 0.3})
    params = {"learning_rate": 3e-4}
    assert trial_values(space, params) == (
        {"weight_decay": 0.01, "learning_rate": 3e-4},
        {"height": 0.3},
    )
    args = arguments(params, fixed={"weight_decay": 0.01, "height": 0.3})
    assert (args.learning_rate, args.weight_decay) == (3e-4, 0.01)


def test_the_total_batch_becomes_rows_and_steps():
    args = arguments(
        {"total_train_batch_size": 32},
        devices=Devices(workers=2, gpu=False, bf16=False),
        fixed={"max_rows_per_device": 4},
    )
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (4, 4)


def test_dotted_keys_are_put_into_the_dict_of_their_argument():
    args = arguments(
        {"lr_scheduler_kwargs.num_cycles": 2},
        fixed={"lr_scheduler_kwargs": {"min_lr": 0.1}, "lr_scheduler_type": "cosine"},
    )
    assert args.lr_scheduler_kwargs == {"min_lr": 0.1, "num_cycles": 2}
    assert arguments({"lr_scheduler_kwargs.num_cycles": 2}).lr_scheduler_kwargs == {"num_cycles": 2}


def test_the_seed_is_the_space_s_own_or_else_the_sweep_s():
    assert arguments().seed == 5
    assert arguments(fixed={"seed": 17}).seed == 17
    assert arguments({"seed": 3}).seed == 3
    again = training_arguments(
        make(fixed={"seed": 17}), {}, devices=CPU, output_dir=Path("/sweep/t002"), seed=18
    )
    assert again.seed == 18, "a repeat has the next one"


def test_the_loss_is_logged_four_times_an_evaluation_unless_the_space_says_otherwise():
    assert arguments(evals_per_trial=8).logging_steps == 1 / 32
    assert arguments(fixed={"logging_steps": 10}).logging_steps == 10


@pytest.mark.parametrize(
    ("gpu", "cpus", "loaders"), [(True, 1, 0), (True, 3, 2), (True, 8, 4), (False, 8, 0)]
)
def test_a_worker_with_a_gpu_loads_with_the_cpus_that_it_does_not_need_itself(
    gpu: bool, cpus: int, loaders: int
):
    devices = Devices(workers=1, gpu=gpu, bf16=False, cpus=cpus)
    args = arguments(devices=devices)
    assert (args.dataloader_num_workers, args.dataloader_persistent_workers) == (
        loaders,
        loaders > 0,
    )
    none = arguments(devices=devices, fixed={"dataloader_num_workers": 0})
    assert (none.dataloader_num_workers, none.dataloader_persistent_workers) == (0, False)


def test_half_precision_is_off_on_a_cpu_and_named():
    space = make(fixed={"bf16": True, "fp16": False}, tuned={"tf32": tune.choice([True, False])})
    assert half_precision_switched_off(space) == ["bf16", "tf32"]
    args = arguments({"tf32": True}, fixed={"bf16": True})
    assert (args.bf16, args.fp16, args.tf32) == (False, False, None)
    assert half_precision_switched_off(make()) == []


@pytest.mark.parametrize("key", ["bf16_full_eval", "fp16_full_eval"])
def test_half_precision_evaluation_that_is_said_to_be_off_is_off(key: str):
    assert half_precision_switched_off(make(fixed={key: True})) == [key]
    assert getattr(arguments(fixed={key: True}), key) is False


# The class of the arguments.


def seq2seq(args: Seq2SeqTrainingArguments) -> None: ...


def of_text(args: Any) -> None: ...


def bare(args) -> None: ...


@dataclasses.dataclass(frozen=True)
class Builder:
    layers: int = 1

    def __call__(self, args: Seq2SeqTrainingArguments, *, data: Any) -> None: ...


class Own(TrainingArguments):
    """WarmStartTrial to this module alone."""


def own(args: Any) -> None: ...


of_text.__annotations__["args"] = "transformers.Seq2SeqTrainingArguments"
own.__annotations__["args"] = "Own"


def in_place(args: Any) -> None: ...


in_place.__annotations__["args"] = Seq2SeqTrainingArguments


def annotated(annotation: Any) -> Any:
    def made(args: Any, *, layers: int = 1) -> None: ...

    made.__annotations__["args"] = annotation
    return made


@pytest.mark.parametrize(
    "annotation",
    [
        *(Optional[Own], Own | None, Union[None, Own], typing.Annotated[Own, "mine"]),  # noqa: UP007, UP045
        *("Own | None", "Optional[Own]", "typing.Optional['Own']", "None | 'Own'"),
        *(Optional["Own"], "sys.modules[__name__].Own | Own"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "wrap", [lambda builder: builder, lambda b: functools.partial(b, layers=2)]
)
def test_the_class_is_found_however_the_annotation_is_written(annotation: Any, wrap: Any):
    builder = wrap(annotated(annotation))
    assert argument_class(builder) is Own
    resolve_text(builder)
    assert argument_class(builder) is Own


def test_a_class_that_was_given_as_text_goes_along_with_a_builder_that_travels_by_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "of_text.py"
    file.write_text(OF_TEXT)
    made = load_space(str(file)).space
    resolve_text(made.build_trainer)
    module = sys.modules["sweeps_space_of_text"]
    cloudpickle.register_pickle_by_value(module)
    space = cloudpickle.dumps(made)
    cloudpickle.unregister_pickle_by_value(module)
    for name in [name for name in sys.modules if name.endswith("of_text")]:
        monkeypatch.delitem(sys.modules, name)
    there = cloudpickle.loads(space)
    args = training_arguments(there, {"alpha": 0.25}, devices=CPU, output_dir=tmp_path, seed=0)
    assert args.alpha == 0.25  # type: ignore[attr-defined]


OF_TEXT = """
from __future__ import annotations
from dataclasses import dataclass
from ray import tune
from transformers import TrainingArguments
from sweeps import SearchSpace

@dataclass
class MyArguments(TrainingArguments):
    alpha: float = 0.5

def build(args: MyArguments | None = None): ...

SEARCH_SPACE = SearchSpace(
    build_trainer=build, metric="eval_loss", mode="min", tuned={"alpha": tune.uniform(0, 1)}
)
"""


def test_a_field_of_another_class_names_that_class():
    assert unknown("predict_with_generate", (), Adapted(build)) == (
        "a field of Seq2SeqTrainingArguments only; annotate the first parameter of build_trainer"
        " with the class it takes, such as args: Seq2SeqTrainingArguments"
    )
    assert unknown("lerning_rate", ["learning_rate"], Adapted(build)).endswith(
        "did you mean 'learning_rate'?"
    )


@pytest.mark.parametrize(
    ("builder", "kind"),
    [
        (build, TrainingArguments),
        (bare, TrainingArguments),
        (seq2seq, Seq2SeqTrainingArguments),
        (of_text, Seq2SeqTrainingArguments),
        (in_place, Seq2SeqTrainingArguments),
        (own, Own),
        (Builder(), Seq2SeqTrainingArguments),
        (lambda args: None, TrainingArguments),
    ],
)
def test_the_class_is_the_one_that_the_builder_s_first_parameter_names(builder: Any, kind: type):
    assert argument_class(builder) is kind
    assert type(arguments(build_trainer=builder)) is kind


def test_fields_of_a_subclass_may_be_set():
    assert "generation_max_length" in argument_fields(seq2seq)
    assert "generation_max_length" not in argument_fields(build)
    args = arguments(build_trainer=seq2seq, fixed={"generation_max_length": 12})
    assert args.generation_max_length == 12  # type: ignore[attr-defined]


# Any space.

DOMAINS = {
    "learning_rate": [tune.loguniform(1e-6, 1e-2), tune.qloguniform(1e-5, 1e-1, 1e-5)],
    "weight_decay": [tune.uniform(0.0, 0.3), tune.choice([0.0, 0.01])],
    "warmup_steps": [tune.uniform(0.0, 0.1), tune.randint(0, 100), tune.qrandint(0, 100, 10)],
    "num_train_epochs": [tune.randint(1, 5), tune.quniform(0.5, 3.0, 0.5), tune.choice([1, 2.5])],
    "lr_scheduler_type": [tune.choice(["linear", "cosine", "constant"])],
    "lr_scheduler_kwargs.num_cycles": [tune.uniform(0.3, 0.7)],
    "max_grad_norm": [tune.quniform(0.0, 2.0, 0.5), tune.choice([0.0, 1.0])],
    "adam_beta2": [tune.uniform(0.9, 0.999)],
    "optim": [tune.choice(["adamw_torch", "adafactor", "sgd"])],
    "label_smoothing_factor": [tune.choice([0.0, 0.1])],
    "total_train_batch_size": [tune.choice([8, 16, 64]), tune.qlograndint(8, 64, 8)],
    "seed": [tune.lograndint(1, 1000)],
    "bf16": [tune.choice([True, False])],
    "height": [tune.uniform(0.0, 1.0)],
}


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    keys = draw(st.sets(st.sampled_from(list(DOMAINS)), min_size=1))
    tuned = {key: draw(st.sampled_from(DOMAINS[key])) for key in sorted(keys)}
    fixed: dict[str, Any] = {} if "weight_decay" in tuned else {"weight_decay": 0.01}
    if "total_train_batch_size" in tuned and draw(st.booleans()):
        fixed["max_rows_per_device"] = draw(st.integers(1, 16))
    return make(tuned=tuned, fixed=fixed)


@settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    spaces(), st.integers(0, 1000), st.sampled_from(("random", "optuna")), st.sampled_from((1, 2))
)
def test_every_proposal_of_a_space_without_problems_builds_its_arguments(
    space: SearchSpace, seed: int, searcher: Any, workers: int
):
    check_space(space, argument_fields(build), "here")
    config = SweepConfig(seed=seed, searcher=searcher)
    found = make_searcher(space, config, root=Path())
    params = found.propose(History(space.metric, space.mode))
    assert params is not None
    devices = Devices(workers=workers, gpu=False, bf16=False)
    seed = trial_seed(space, params, config.seed)
    args = training_arguments(space, params, devices=devices, output_dir=Path("/out"), seed=seed)
    for key, value in params.items():
        if key in ("learning_rate", "weight_decay", "warmup_steps", "num_train_epochs", "seed"):
            assert getattr(args, key) == value
    if "total_train_batch_size" in params:
        total = args.per_device_train_batch_size * args.gradient_accumulation_steps * workers
        assert total == params["total_train_batch_size"]
