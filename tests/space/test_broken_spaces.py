"""A corpus of broken spaces: what a person wrote, and the whole text of what they are told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from transformers import TrainingArguments

from sweeps import CausalLM, SearchSpace, SweepConfig, TextClassification, when
from sweeps.builders.base import TINY
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.space.arguments import argument_fields
from sweeps.space.checks import check_space
from sweeps.space.loading import load_space

ADAMW = {"optim": "adamw_torch"}
SGD = {"optim": "sgd"}


def build(
    args: TrainingArguments,
    *,
    rank: int = 8,
    dropout: float = 0.0,
    name: str = "small",
    frozen: bool = False,
    layers: list[int] | None = None,
) -> None: ...


def needs_rank(args: TrainingArguments, rank: int) -> None: ...


def by_place(args: TrainingArguments, rank: int = 1, /) -> None: ...


def wants_data(args: TrainingArguments, *, data: Any) -> None: ...


def nothing() -> None: ...


class Choosy(TrainingArguments):
    """Refuses what its own rules forbid."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate > 0.5 and self.weight_decay > 0.5:
            raise ValueError("learning_rate and weight_decay are both above 0.5")


def choosy(args: Choosy) -> None: ...


@dataclasses.dataclass(frozen=True)
class NeedsMore:
    """A builder whose call asks for what nobody gives."""

    rank: int = 1

    def __call__(self, args: TrainingArguments, tokenizer: Any) -> None: ...


@dataclasses.dataclass(frozen=True)
class Task:
    """A builder whose metrics depend on a keyword."""

    task: str = "none"

    @property
    def metric_names(self) -> list[str]:
        return {"regression": ["mse"], "classes": ["accuracy"], "none": []}[self.task]

    def __call__(self, args: TrainingArguments) -> None: ...


LM = CausalLM(model="-", dataset="-")
CLASSIFIER = TextClassification(model="-", dataset="-")


@dataclasses.dataclass(frozen=True)
class Shrinks:
    """A builder whose tiny form has a rank of its own."""

    rank: int = 16

    def tiny(self) -> Any:
        return dataclasses.replace(self, rank=1)

    def __call__(self, args: TrainingArguments) -> None: ...


def wants_rank(params: Mapping[str, Any]) -> bool:
    return bool(params["rank"] > 4)


def never(params: Mapping[str, Any]) -> bool:
    return False


def too_large(params: Mapping[str, Any]) -> bool:
    return bool(params["learning_rate"] < 1e-4)


def raises(params: Mapping[str, Any]) -> bool:
    return bool(params["lerning_rate"] < 1)


def forgets_to_return(params: Mapping[str, Any]) -> bool:  # type: ignore[return]
    params["learning_rate"] < 1  # noqa: B015


def takes_two(params: Mapping[str, Any], more: int) -> bool:
    return True


LR = {"learning_rate": tune.loguniform(1e-5, 1e-3)}


def tuned(key: str, domain: Any, **more: Any) -> dict[str, Any]:
    return {"tuned": {**LR, key: domain}, **more}


def fixed(key: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"fixed": {key: value}, **more}


NO_FIELD = "no such TrainingArguments field or builder keyword"
CORPUS: dict[str, tuple[dict[str, Any], str]] = {
    # Names.
    "a misspelt argument": (
        tuned("wieght_decay", tune.uniform(0.0, 0.1)),
        f"tuned['wieght_decay']: {NO_FIELD}; did you mean 'weight_decay'?",
    ),
    "a misspelt builder keyword": (
        fixed("dropuot", 0.1),
        f"fixed['dropuot']: {NO_FIELD}; did you mean 'dropout'?",
    ),
    "a name that transformers dropped, with what takes its place": (
        tuned("warmup_ratio", tune.uniform(0.0, 0.1)),
        "tuned['warmup_ratio']: no longer an argument; use warmup_steps; a value below 1 is a"
        " fraction of all steps",
    ),
    "a dropped name whose place sweeps has taken": (
        fixed("evaluation_strategy", "steps"),
        "fixed['evaluation_strategy']: no longer an argument; set by sweeps from evals_per_trial",
    ),
    "a dropped flag that is a value now": (
        fixed("group_by_length", True),
        "fixed['group_by_length']: no longer an argument;"
        " use train_sampling_strategy = 'group_by_length'",
    ),
    "a dropped name of the batch": (
        fixed("per_gpu_train_batch_size", 8),
        "fixed['per_gpu_train_batch_size']: no longer an argument;"
        " use per_device_train_batch_size, or total_train_batch_size",
    ),
    "an argument that sweeps owns": (
        fixed("save_steps", 10),
        "fixed['save_steps']: sweeps decides after each evaluation what to save"
        " (--keep-checkpoints, --resume-every); remove it",
    ),
    "a dotted key of an argument that holds no dict": (
        fixed("learning_rate.max", 1),
        f"fixed['learning_rate.max']: {NO_FIELD}; did you mean 'learning_rate'?",
    ),
    "a dotted key into a value that is no dict": (
        {"fixed": {"lr_scheduler_kwargs": "{}", "lr_scheduler_kwargs.num_cycles": 2}},
        "fixed['lr_scheduler_kwargs'] = '{}': must be a dict, because"
        " 'lr_scheduler_kwargs.num_cycles' sets part of it",
    ),
    "a dotted key beside a domain of the whole": (
        tuned("optim_args", tune.choice(["a=1"]), fixed={"optim_args.momentum": 0.9}),
        "'optim_args' is tuned as a whole, and 'optim_args.momentum' is part of it; keep one",
    ),
    # Two names for one value.
    "an entry by its name and in the whole": (
        tuned(
            "lr_scheduler_kwargs.num_cycles",
            tune.uniform(0.3, 0.7),
            fixed={"lr_scheduler_kwargs": {"num_cycles": 0.5, "lr_end": 0.1}},
        ),
        "fixed['lr_scheduler_kwargs']['num_cycles'] and 'lr_scheduler_kwargs.num_cycles' set the"
        " same value; keep one",
    ),
    "an entry by its name and in the text of the whole": (
        {"fixed": {"optim_args": "b=2, a=3", "optim_args.a": 1}},
        "fixed['optim_args']['a'] and 'optim_args.a' set the same value; keep one",
    ),
    "an entry with and without the prefix that HF removes": (
        tuned(
            "fsdp_config.min_num_params",
            tune.choice([10, 20]),
            fixed={"fsdp_config.fsdp_min_num_params": 30, "fsdp": True},
        ),
        "'fsdp_config.fsdp_min_num_params' and 'fsdp_config.min_num_params' set the same value;"
        " keep one",
    ),
    "epochs beside steps": (
        tuned("num_train_epochs", tune.choice([1, 2]), fixed={"max_steps": 8}),
        "tuned['num_train_epochs'] has no effect, because max_steps = 8 overrides it; keep one",
    ),
    "epochs beside tuned steps": (
        {"tuned": {"num_train_epochs": tune.choice([1, 2]), "max_steps": tune.choice([5, 6])}},
        "tuned['num_train_epochs'] has no effect, because 'max_steps', which is tuned as well,"
        " overrides it; keep one",
    ),
    "an argument that follows from another": (
        tuned(
            "torch_compile", tune.choice([True, False]), fixed={"torch_compile_backend": "eager"}
        ),
        "tuned['torch_compile'] has no effect, because torch_compile_backend overrides it; keep"
        " one",
    ),
    # Types.
    "fractions for a number of steps": (
        tuned("max_steps", tune.uniform(10.0, 100.0)),
        "tuned['max_steps']: uniform(10.0, 100.0) yields fractions, but the value must be an"
        " integer; use randint(10, 101)",
    ),
    "fractions on a log scale for a number of rows": (
        tuned("per_device_train_batch_size", tune.loguniform(8, 64)),
        "tuned['per_device_train_batch_size']: loguniform(8, 64) yields fractions, but the value"
        " must be an integer; use lograndint(8, 65)",
    ),
    "fractions in quanta for a whole number": (
        tuned("gradient_accumulation_steps", tune.quniform(1.0, 8.0, 1.0)),
        "tuned['gradient_accumulation_steps']: quniform(1.0, 8.0, 1.0) yields fractions, but the"
        " value must be an integer; use qrandint(1, 8, 1)",
    ),
    "one fraction among whole numbers": (
        tuned("per_device_train_batch_size", tune.choice([8, 16.5])),
        "tuned['per_device_train_batch_size']: the choice 16.5 must be an integer",
    ),
    "a range for a switch": (
        tuned("bf16", tune.randint(0, 2)),
        "tuned['bf16']: randint(0, 2) yields integers, but the value must be True or False; use"
        " choice([...])",
    ),
    "a range for a name": (
        tuned("lr_scheduler_type", tune.uniform(0.0, 1.0)),
        "tuned['lr_scheduler_type']: uniform(0.0, 1.0) yields fractions, but the value must be one"
        " of 'linear', 'cosine', 'cosine_with_restarts', 'polynomial', 'constant',"
        " 'constant_with_warmup' and 6 more; use choice([...])",
    ),
    "a misspelt value": (
        tuned("lr_scheduler_type", tune.choice(["linear", "cosin"])),
        "tuned['lr_scheduler_type']: the choice 'cosin' must be one of 'linear', 'cosine',"
        " 'cosine_with_restarts', 'polynomial', 'constant', 'constant_with_warmup' and 6 more;"
        " did you mean 'cosine'?",
    ),
    "a misspelt value of a text with choices": (
        fixed("train_sampling_strategy", "group_by_lenght"),
        "fixed['train_sampling_strategy'] = 'group_by_lenght': must be one of 'random',"
        " 'sequential', 'group_by_length', 'batch_rebalance'; did you mean 'group_by_length'?",
    ),
    "a number in quotes": (
        fixed("learning_rate", "3e-5", tuned={"weight_decay": tune.uniform(0.0, 0.1)}),
        "fixed['learning_rate'] = '3e-5': must be a number; write 3e-05 without quotes",
    ),
    "a switch for a number": (
        fixed("weight_decay", True),
        "fixed['weight_decay'] = True: must be a number",
    ),
    "no value for a number": (
        tuned("weight_decay", tune.choice([None, 0.1])),
        "tuned['weight_decay']: the choice None must be a number",
    ),
    "a wrong type for a builder keyword": (
        tuned("rank", tune.uniform(4.0, 16.0)),
        "tuned['rank']: uniform(4.0, 16.0) yields fractions, but the value must be an integer; use"
        " randint(4, 17)",
    ),
    "a wrong choice for a builder keyword": (
        tuned("layers", tune.choice([None, "all"])),
        "tuned['layers']: the choice 'all' must be a list or None",
    ),
    "a wrong value for a builder keyword": (
        fixed("name", 3),
        "fixed['name'] = 3: must be a string",
    ),
    # Ranges of arguments.
    "a share that reaches one": (
        tuned("adam_beta2", tune.uniform(0.9, 1.0)),
        "tuned['adam_beta2']: uniform(0.9, 1.0) can yield 1.0, but the value must be below 1",
    ),
    "a negative weight decay": (
        tuned("weight_decay", tune.uniform(-0.1, 0.1)),
        "tuned['weight_decay']: uniform(-0.1, 0.1) can yield -0.1, but the value must be at least"
        " 0",
    ),
    "no rows a device": (
        tuned("per_device_train_batch_size", tune.randint(0, 9)),
        "tuned['per_device_train_batch_size']: randint(0, 9) can yield 0, but the value must be at"
        " least 1",
    ),
    "no epochs": (
        fixed("num_train_epochs", 0),
        "fixed['num_train_epochs'] = 0: must be greater than 0",
    ),
    "negative epochs": (
        tuned("num_train_epochs", tune.choice([1, -1])),
        "tuned['num_train_epochs']: the choice -1 must be greater than 0",
    ),
    "no steps": (
        fixed("max_steps", 0),
        "fixed['max_steps'] = 0: must be at least 1, or -1 to disable it",
    ),
    "an infinite value": (
        fixed("max_grad_norm", float("inf")),
        "fixed['max_grad_norm'] = inf: must be finite",
    ),
    "shares and steps in one range": (
        tuned("warmup_steps", tune.uniform(0.0, 100.0)),
        "tuned['warmup_steps']: uniform(0.0, 100.0) mixes fractions of all steps (below 1) with"
        " step counts (1 or more); use uniform(0.0, 0.1) or randint(0, 1000)",
    ),
    # Domains.
    "a value in tuned": (
        tuned("weight_decay", 0.1),
        "tuned['weight_decay'] = 0.1: not a Tune domain;"
        " a value shared by all trials belongs in fixed",
    ),
    "a domain in quotes": (
        tuned("weight_decay", "uniform(0, 0.1)"),
        "tuned['weight_decay'] = 'uniform(0, 0.1)': not a Tune domain; use tune.uniform(0, 0.1)",
    ),
    "several values in tuned": (
        tuned("weight_decay", [0.0, 0.1]),
        "tuned['weight_decay'] = [0.0, 0.1]: not a Tune domain; use choice([0.0, 0.1])",
    ),
    "bounds in tuned": (
        tuned("weight_decay", (0.0, 0.1)),
        "tuned['weight_decay'] = (0.0, 0.1): not a Tune domain; use choice([0.0, 0.1]), or"
        " uniform(0.0, 0.1) for any number in between",
    ),
    "a value beside a condition": (
        tuned("weight_decay", [when(SGD, tune.uniform(0.0, 0.1)), 0.5], fixed=SGD),
        "tuned['weight_decay']: 0.5: a list may contain only when(...) entries",
    ),
    "a grid of Ray's": (
        tuned("weight_decay", tune.grid_search([0.0, 0.1])),
        "tuned['weight_decay'] = {'grid_search': [0.0, 0.1]}: not a Tune domain; use choice([0.0,"
        " 0.1])",
    ),
    "an empty list in tuned": (
        tuned("weight_decay", []),
        "tuned['weight_decay']: the list is empty",
    ),
    "a domain in fixed": (
        fixed("weight_decay", tune.uniform(0.0, 0.1)),
        "fixed['weight_decay'] = uniform(0.0, 0.1): a domain belongs in tuned",
    ),
    "a conditional domain in fixed": (
        fixed("adam_beta1", when(ADAMW, tune.uniform(0.8, 0.9))),
        "fixed['adam_beta1'] = uniform(0.8, 0.9) when optim = 'adamw_torch': a domain belongs in"
        " tuned",
    ),
    "a reversed range": (
        tuned("weight_decay", tune.uniform(0.1, 0.0)),
        "tuned['weight_decay']: the range 0.1 to 0.0 is reversed; write uniform(0.0, 0.1)",
    ),
    "an empty range": (
        tuned("seed", tune.randint(5, 5)),
        "tuned['seed']: the range 5 to 5 is empty; randint excludes its upper bound; a single"
        " value belongs in fixed",
    ),
    "a range of fractions for randint": (
        tuned("seed", tune.randint(0.5, 8)),
        "tuned['seed']: randint(0.5, 8) may contain only integers; for fractions, use uniform",
    ),
    "a quantum larger than its range": (
        tuned("seed", tune.qrandint(8, 64, 100)),
        "tuned['seed']: the quantum 100 is larger than the range 8 to 64",
    ),
    "a range that is no multiple of its quantum": (
        tuned("seed", tune.qrandint(10, 64, 8)),
        "tuned['seed']: 10 is not a multiple of the quantum 8; use multiples as bounds, such as 8",
    ),
    "a negative quantum": (
        tuned("weight_decay", tune.quniform(0, 1, -1)),
        "tuned['weight_decay']: the quantum -1 must be greater than 0",
    ),
    "nothing to choose from": (
        tuned("optim", tune.choice([])),
        "tuned['optim']: a choice needs at least one value",
    ),
    "the same choice twice": (
        tuned("seed", tune.choice([1, 2, 1])),
        "tuned['seed']: 1 is listed twice; keep one",
    ),
    "choices that no log keeps": (
        tuned("optim", tune.choice([object()])),
        "tuned['optim']: the choices must be strings, finite numbers, booleans, None, or lists of"
        " these",
    ),
    "a domain that has no bounds": (
        tuned("weight_decay", tune.randn(0, 1)),
        "tuned['weight_decay']: sweeps cannot search this domain; use one of uniform, quniform,"
        " loguniform, qloguniform, randint, qrandint, lograndint, qlograndint, choice",
    ),
    # Conditions.
    "a condition on what nobody sets": (
        tuned("adam_beta1", when(ADAMW, tune.uniform(0.8, 0.9)), fixed={"optim_args": "a=1"}),
        "tuned['adam_beta1']: when optim = 'adamw_torch': 'optim' is neither tuned nor fixed;"
        " did you mean 'optim_args'?",
    ),
    "a condition on a value that is never given": (
        {
            "tuned": {
                "optim": tune.choice(["adamw_torch", "sgd"]),
                "adam_beta1": when({"optim": "adamw"}, tune.uniform(0.8, 0.9)),
            }
        },
        "tuned['adam_beta1']: when optim = 'adamw': 'optim' is never 'adamw'; its domain is"
        " choice(['adamw_torch', 'sgd'])",
    ),
    "a condition on a range": (
        {"tuned": {**LR, "weight_decay": when({"learning_rate": 1e-4}, tune.uniform(0.0, 0.1))}},
        "tuned['weight_decay']: when learning_rate = 0.0001: 'learning_rate' is a range of floats,"
        " so it never equals an exact value; make it a choice",
    ),
    "a condition that is no dict": (
        tuned("adam_beta1", when("optim", tune.uniform(0.8, 0.9))),  # type: ignore[arg-type]
        "tuned['adam_beta1']: when('optim', ...): the condition must be a dict with at least one"
        " key and its value, such as {'optim': 'sgd'}",
    ),
    "an empty condition": (
        tuned("adam_beta1", when({}, tune.uniform(0.8, 0.9))),
        "tuned['adam_beta1']: when({}, ...): the condition must be a dict with at least one key"
        " and its value, such as {'optim': 'sgd'}",
    ),
    "a value under a condition": (
        tuned("adam_beta1", when(ADAMW, 0.9), fixed=ADAMW),
        "tuned['adam_beta1'] = 0.9: not a Tune domain;"
        " a value shared by all trials belongs in fixed",
    ),
    "a value under one of several conditions": (
        tuned("weight_decay", [when(SGD, 0.1)], fixed=SGD),
        "tuned['weight_decay'] = 0.1: not a Tune domain;"
        " a value shared by all trials belongs in fixed",
    ),
    "a domain beside its conditions": (
        tuned("weight_decay", [when(SGD, tune.uniform(0.0, 0.1)), tune.uniform(0.0, 1.0)])
        | {"fixed": SGD},
        "tuned['weight_decay']: uniform(0.0, 1.0): a list may contain only when(...) entries",
    ),
    "conditions that may hold at once": (
        {
            "tuned": {
                "optim": tune.choice(["adamw_torch", "sgd"]),
                "frozen": tune.choice([True, False]),
                "weight_decay": [
                    when(SGD, tune.uniform(0.0, 0.1)),
                    when({"frozen": True}, tune.uniform(0.0, 1.0)),
                ],
            }
        },
        "tuned['weight_decay']: optim = 'sgd' and frozen = True can both be true; make the"
        " conditions mutually exclusive",
    ),
    "conditions in a circle": (
        {
            "tuned": {
                **LR,
                "rank": when({"frozen": True}, tune.choice([4, 8])),
                "frozen": when({"rank": 4}, tune.choice([True, False])),
            }
        },
        "the conditions of 'rank', 'frozen' depend on each other; remove one of them",
    ),
    "a condition on the key itself": (
        {"tuned": {**LR, "rank": when({"rank": 4}, tune.choice([4, 8]))}},
        "tuned['rank']: when rank = 4: 'rank' cannot depend on itself\n"
        "the conditions of 'rank' depend on each other; remove one of them",
    ),
    "a wrong type under a condition": (
        tuned("rank", when(SGD, tune.uniform(1.0, 4.0)), fixed=SGD),
        "tuned['rank']: uniform(1.0, 4.0) yields fractions, but the value must be an integer; use"
        " randint(1, 5)",
    ),
    # Constraints.
    "a constraint that nothing keeps": (
        {"constraints": [never]},
        "constraints: none of 1000 random sets of params satisfies all of them (violated: never"
        " 1000 times); relax one of them",
    ),
    "a constraint that raises": (
        {"constraints": [raises], "tuned": {"seed": tune.choice([3])}},
        "constraint raises raised KeyError: 'lerning_rate' when called with {'seed': 3}",
    ),
    "a constraint that returns nothing": (
        {"constraints": [forgets_to_return]},
        "constraint forgets_to_return returned None; it must return True or False",
    ),
    "a constraint that is no function": (
        {"constraints": ["learning_rate < 1"]},
        "constraints[0] = 'learning_rate < 1': must be a function",
    ),
    "a constraint that wants more": (
        {"constraints": [takes_two]},
        "constraint takes_two: must take exactly one argument, the params",
    ),
    "first params that break a constraint": (
        {"constraints": [too_large], "first_params": [{"learning_rate": 5e-4}]},
        "first_params[0]: violates the constraint too_large",
    ),
    # First params.
    "first params for a false condition": (
        {
            "tuned": {
                "optim": tune.choice(["adamw_torch", "sgd"]),
                "adam_beta1": when(ADAMW, tune.uniform(0.8, 0.9)),
            },
            "first_params": [{"optim": "sgd", "adam_beta1": 0.85}],
        },
        "first_params[0]: 'adam_beta1': its condition does not hold with these params; remove it",
    ),
    "first params without what their condition asks for": (
        {
            "tuned": {
                "optim": tune.choice(["adamw_torch", "sgd"]),
                "adam_beta1": when(ADAMW, tune.uniform(0.8, 0.9)),
            },
            "first_params": [{"optim": "adamw_torch"}],
        },
        "first_params[0]: no value for 'adam_beta1'",
    ),
    "the same first params twice": (
        {"first_params": [{"learning_rate": 1e-4}, {"learning_rate": 1e-4}]},
        "first_params[1]: duplicates first_params[0]; remove one",
    ),
    "first params that are no dict": (
        {"first_params": [3e-5]},
        "first_params[0] = 3e-05: must be a dict",
    ),
    # Builders.
    "a builder whose parameter nobody gives": (
        {"build_trainer": needs_rank},
        "build_trainer requires 'rank'; put it in tuned or fixed, or give it a default",
    ),
    "a builder without a default for a false condition": (
        {
            "build_trainer": needs_rank,
            "tuned": {
                "optim": tune.choice(["adamw_torch", "sgd"]),
                "rank": when(SGD, tune.choice([4, 8])),
            },
        },
        "build_trainer: 'rank' is tuned only under a condition, so it needs a default for trials"
        " where the condition is false",
    ),
    "a builder whose parameter has no name to give it by": (
        {"build_trainer": by_place},
        "build_trainer: its parameter 'rank' cannot be passed by name; remove the '/'",
    ),
    "a builder that wants data and prepares none": (
        {"build_trainer": wants_data},
        "build_trainer: the parameter 'data' receives the result of prepare(), but the builder"
        " does not define prepare()",
    ),
    "a builder that takes nothing": (
        {"build_trainer": nothing},
        "build_trainer: its first parameter must accept the TrainingArguments",
    ),
    "a dataclass builder whose call wants more": (
        {"build_trainer": NeedsMore()},
        "build_trainer: __call__ requires 'tokenizer'; make it a field of the builder",
    ),
    "a builder's class in the place of the builder": (
        {"build_trainer": CausalLM},
        "build_trainer: its first parameter must accept the TrainingArguments",
    ),
    "a builder that cannot be called": (
        {"build_trainer": 5},
        "build_trainer = 5: must be a function",
    ),
    # What the arguments' own class says.
    "values that the class refuses together": (
        {
            "build_trainer": choosy,
            "tuned": {"learning_rate": tune.choice([0.1, 0.9])},
            "fixed": {"weight_decay": 0.9},
            "first_params": [{"learning_rate": 0.1}],
        },
        "params {'learning_rate': 0.9}: Choosy rejects it: learning_rate and weight_decay are both"
        " above 0.5",
    ),
    # The whole.
    "a mode that is none": ({"mode": "maximise"}, "mode = 'maximise': must be 'max' or 'min'"),
    **{
        f"the metric {metric!r}": (
            {"metric": metric, "mode": "best"},
            f"metric = {metric!r}: must be the name of a metric, such as 'eval_loss'\n"
            "mode = 'best': must be 'max' or 'min'",
        )
        for metric in ("", " ")
    },
    **{
        f"the metric {metric!r}": ({"metric": metric}, f"metric = {metric!r}: must be a string")
        for metric in (None, 5, ["eval_loss"])
    },
    "a metric that the builder does not evaluate": (
        {"build_trainer": LM, "metric": "eval_perplexty", "first_params": [{"weight_decay": 0.1}]},
        "metric = 'eval_perplexty': CausalLM does not return this metric; did you mean"
        " 'eval_perplexity'?\n"
        "first_params[0]: no value for 'learning_rate'\n"
        "first_params[0]: 'weight_decay': not tuned",
    ),
    "a metric without eval_": (
        {"build_trainer": CLASSIFIER, "metric": "f1", "mode": "max"},
        "metric = 'f1': TextClassification does not return this metric; did you mean 'eval_f1'?",
    ),
    "a metric like none that the builder evaluates": (
        {"build_trainer": CLASSIFIER, "metric": "eval_bleu_4_of_all", "mode": "max"},
        "metric = 'eval_bleu_4_of_all': TextClassification does not return this metric; it returns"
        " eval_accuracy, eval_f1, eval_loss",
    ),
    "a metric that one choice of a keyword does not give": (
        {
            "build_trainer": Task(),
            "metric": "eval_mse",
            "tuned": {"task": tune.choice(["regression", "classes"]), **LR},
        },
        "metric = 'eval_mse': Task does not return this metric; it returns eval_accuracy",
    ),
    "fields of a builder of the wrong kind": (
        {
            "build_trainer": dataclasses.replace(
                CLASSIFIER, model=None, train_rows=True, stream="yes", revisions="main"
            ),
            "metric": "eval_accuracy",
            "mode": "max",
        },
        "TextClassification: model = None: must be a string\n"
        "TextClassification: train_rows = True: must be an integer or None\n"
        "TextClassification: stream = 'yes': must be True or False\n"
        "TextClassification: revisions = 'main': must be a dict",
    ),
    "parts of the wrong kind": (
        {"build_trainer": 3, "metric": None, "tuned": None, "fixed": [1], "constraints": "x"},
        "build_trainer = 3: must be a function\n"
        "metric = None: must be a string\n"
        "tuned = None: must be a dict\n"
        "fixed = [1]: must be a dict\n"
        "constraints = 'x': must be a list of functions",
    ),
    "too few evaluations": (
        {"evals_per_trial": 0},
        "evals_per_trial = 0: must be at least 1",
    ),
    "a batch beside one of its parts": (
        fixed("total_train_batch_size", 32)
        | {"tuned": {"per_device_train_batch_size": tune.choice([8, 16])}},
        "'per_device_train_batch_size' is computed from 'total_train_batch_size'; keep only one of"
        " them",
    ),
    "a batch of no rows": (
        fixed("total_train_batch_size", 0),
        "total_train_batch_size = 0: must be an integer of at least 1",
    ),
    "a batch that is text": (
        fixed("total_train_batch_size", "32"),
        "total_train_batch_size = '32': must be an integer of at least 1",
    ),
    "a batch range that the workers cannot share": (
        tuned("total_train_batch_size", tune.randint(8, 65)),
        "total_train_batch_size: randint(8, 65) can yield sizes that are not divisible by 2"
        " workers; use choice([...]) or qrandint with a multiple of 2",
    ),
    "a batch of fractions": (
        tuned("total_train_batch_size", tune.quniform(8, 64, 8)),
        "total_train_batch_size: quniform(8, 64, 8) can yield fractions; use choice([...]) or"
        " qrandint with a multiple of 2",
    ),
    "a batch under a condition that the workers cannot share": (
        tuned("total_train_batch_size", when(SGD, tune.choice([8, 9])), fixed=SGD),
        "total_train_batch_size = 9 is not divisible by 2 workers; nearest: 8 or 10",
    ),
}


def told(run: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as raised:
        run()
    assert raised.value.exit_code == 2
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize("what", CORPUS)
def test_a_broken_space_is_answered_with_its_problem_alone_before_anything_starts(what: str):
    changes, problem = CORPUS[what]
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_loss",
        "mode": "min",
        "tuned": LR,
    }
    space = SearchSpace(**whole | changes)
    assert told(lambda: make_request(space, SweepConfig(workers_per_trial=2))) == problem


@pytest.mark.parametrize("domain", [tune.choice([0.1, 0.9]), tune.uniform(0.1, 0.9)])
def test_what_the_class_refuses_of_a_domain_is_said_though_no_first_trial_has_it(domain: Any):
    space = SearchSpace(
        build_trainer=choosy,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": domain},
        fixed={"weight_decay": 0.9},
        first_params=[{"learning_rate": 0.1}],
    )
    assert told(lambda: make_request(space, SweepConfig(num_trials=1))) == (
        "tuned['learning_rate'] = 0.9: Choosy rejects it: learning_rate and weight_decay are both"
        " above 0.5"
    )


def test_a_tuned_argument_is_not_blamed_for_what_the_class_refuses_of_all_params():
    space = SearchSpace(
        build_trainer=choosy,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.choice([0.8, 0.9])},
        fixed={"weight_decay": 0.9},
        first_params=[{"learning_rate": 0.8}],
    )
    assert told(lambda: make_request(space, SweepConfig(num_trials=1))) == (
        "params {'learning_rate': 0.8}: Choosy rejects it: learning_rate and weight_decay are both"
        " above 0.5"
    )


def test_a_space_that_tiny_leaves_no_params_is_answered():
    space = SearchSpace(
        build_trainer=Shrinks(rank=16),
        metric="eval_loss",
        mode="min",
        tuned={**LR, "rank": tune.choice([8, 16])},
        constraints=[wants_rank],
    )
    make_request(space, SweepConfig())
    assert told(lambda: make_request(space, SweepConfig(tiny=True))) == (
        "the searcher proposes no params; check that some params satisfy all constraints"
    )


def raises_at_seven(params: Mapping[str, Any]) -> bool:
    if params["seed"] == 7:
        raise RuntimeError("seven")
    return True


@pytest.mark.parametrize(
    "changes",
    [
        {"tuned": {"seed": tune.randint(0, 10**9)}, "first_params": [{"seed": 7}]},
        {"tuned": {"seed": tune.choice([7])}},
    ],
    ids=["for first params", "for drawn ones"],
)
def test_a_constraint_that_raises_is_a_problem_of_the_space_itself(changes: dict[str, Any]):
    whole = {"build_trainer": build, "metric": "eval_loss", "mode": "min", **changes}
    space = SearchSpace(**whole, constraints=[raises_at_seven])
    assert told(lambda: check_space(space, argument_fields(build), "mine.py")) == (
        "constraint raises_at_seven raised RuntimeError: seven when called with {'seed': 7}"
    )


# Files whose domains Ray refuses, and command lines.

FILE = """
from ray import tune
from sweeps import SearchSpace
def build(args): ...
SEARCH_SPACE = SearchSpace(build_trainer=build, metric="eval_loss", mode="min", tuned={
    "learning_rate": DOMAIN,
    "weight_decay": tune.uniform(0.0, 0.1),
})
"""
REFUSED = {
    "tune.loguniform(0, 0.001)": ("a log range must start above 0; write loguniform(1e-06, 0.001)"),
    "tune.loguniform(-5, -3)": "a log range must start above 0",
    "tune.quniform(0, 1, 0.3)": (
        "1 is not a multiple of the quantum 0.3; use multiples as bounds, such as 0.9"
    ),
    "tune.uniform(0, 1e309)": "the range 0 to inf must be finite",
    "tune.quniform(0, 1, 5)": "the quantum 5 is larger than the range 0 to 1",
    "tune.quniform(0, 1, 0)": "the quantum 0 must be greater than 0",
    "tune.loguniform('1e-5', '1e-3')": "'1e-5' is not a number; write loguniform(1e-05, 0.001)",
}


@pytest.mark.parametrize("domain", REFUSED)
def test_a_file_whose_domain_ray_refuses_is_answered_with_its_line_and_the_fix(
    domain: str, tmp_path: Path
):
    file = tmp_path / "mine.py"
    file.write_text(FILE.replace("DOMAIN", domain))
    assert told(lambda: load_space(str(file))) == f"line 6: {domain}: {REFUSED[domain]}"


def test_all_domains_of_a_file_that_ray_would_refuse_are_named_at_once(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        FILE.replace("DOMAIN", "tune.loguniform(0, 1)").replace(
            "uniform(0.0, 0.1)", "quniform(0, 1, 3)"
        )
    )
    assert told(lambda: load_space(str(file))) == (
        "line 6: tune.loguniform(0, 1): a log range must start above 0;"
        " write loguniform(0.001, 1)\n"
        "line 7: tune.quniform(0, 1, 3): the quantum 3 is larger than the range 0 to 1"
    )


def test_a_domain_of_computed_bounds_that_ray_refuses_is_named_by_its_line(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(FILE.replace("DOMAIN", "tune.loguniform(len(''), 1)"))
    assert told(lambda: load_space(str(file))) == (
        "line 6: Ray rejects the domain: LogUniform requires a lower bound greater than 0.Got: 0."
        " Did you pass a variable that has been log-transformed? If so, pass the non-transformed"
        " value instead."
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("x = (", "line 1: '(' was never closed: x = ("),
        (
            "from tranformers import Trainer",
            "line 1: from tranformers import Trainer: No module named 'tranformers'",
        ),
        (
            "from transformers import Trainr",
            "line 1: from transformers import Trainr: transformers has no 'Trainr';"
            " did you mean 'Trainer' or 'trainer'?",
        ),
        (
            "import importlib\nimportlib.import_module('tranformers')",
            "line 2: importlib.import_module('tranformers'): No module named 'tranformers'",
        ),
    ],
)
def test_what_python_cannot_read_or_find_is_named_by_its_line(
    line: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py", "helper.py"):
        (tmp_path / name).write_text(line)
    (tmp_path / "uses.py").write_text("import helper")
    assert told(lambda: load_space("mine.py")) == problem
    with pytest.raises(UserError) as raised:
        load_space("uses.py")
    assert str(raised.value) == f"helper.py: {problem}"


@pytest.mark.parametrize("name", ["./search_spaces/mine", "search_spaces/mine", ".", "../mine"])
def test_a_path_that_is_no_file_is_not_taken_for_a_module(name: str):
    assert told(lambda: load_space(name)) == (
        f"no search space {name!r}; pass its name or the path of its .py file"
    )


def test_an_error_of_the_file_s_own_stays_as_it_is(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(FILE.replace("DOMAIN", "tune.loguniform(0, 1)").replace("def ", "1 / 0\ndef "))
    with pytest.raises(ZeroDivisionError):
        load_space(str(file))


# Flags, command lines and data folders.

FLAGS: dict[str, tuple[dict[str, Any], str]] = {
    "no trials": ({"num_trials": 0}, "num_trials = 0: must be at least 1"),
    "no workers": ({"workers_per_trial": 0}, "workers_per_trial = 0: must be at least 1"),
    "a rung behind the end": ({"first_rung": 1.5}, "first_rung = 1.5: must be between 0 and 1"),
    "nobody stopped": (
        {"reduction_factor": 1.0},
        "reduction_factor = 1.0: must be a finite number above 1",
    ),
    "several ranks on one GPU": (
        {"gpus_per_worker": 0.5, "workers_per_trial": 2},
        "gpus_per_worker = 0.5: must be a whole number, or below 1 with workers_per_trial = 1 (NCCL"
        " allows one rank per GPU)",
    ),
    "more than a GPU, and a share": (
        {"gpus_per_worker": 1.5},
        "gpus_per_worker = 1.5: must be a whole number, or below 1 with workers_per_trial = 1 (NCCL"
        " allows one rank per GPU)",
    ),
}


@pytest.mark.parametrize("what", FLAGS)
def test_a_broken_flag_is_answered_with_its_problem_alone(what: str):
    flags, problem = FLAGS[what]
    assert told(lambda: SweepConfig(**flags)) == problem


LINES: dict[str, tuple[str, str]] = {
    "no value": ("learning_rate", "'learning_rate': must have the form KEY=VALUE"),
    "a misspelt key": (
        "lerning_rate=1",
        f"lerning_rate: {NO_FIELD}; did you mean 'learning_rate' or 'logging_strategy'?",
    ),
    "a dropped key": (
        "warmup_ratio=0.1",
        "warmup_ratio: no longer an argument; use warmup_steps; a value below 1 is a fraction of"
        " all steps",
    ),
    "a reversed range": (
        "learning_rate=loguniform(1e-3, 1e-5)",
        "learning_rate: loguniform(1e-3, 1e-5): the range 0.001 to 1e-05 is reversed;"
        " write loguniform(1e-05, 0.001)",
    ),
    "a log range from 0": (
        "learning_rate=loguniform(0, 1e-3)",
        "learning_rate: loguniform(0, 1e-3): a log range must start above 0;"
        " write loguniform(1e-06, 0.001)",
    ),
    "an unknown domain": (
        "learning_rate=normal(0, 1)",
        "learning_rate: normal is not a domain; use one of uniform, quniform, loguniform,"
        " qloguniform, randint, qrandint, lograndint, qlograndint, choice",
    ),
    "a word for a number": (
        "learning_rate=small",
        "fixed['learning_rate'] = 'small': must be a number",
    ),
    "a fraction for a number of tokens": (
        "max_tokens=12.5",
        "fixed['max_tokens'] = 12.5: must be an integer",
    ),
    "a wrong type of domain": (
        "max_tokens=uniform(16, 64)",
        "tuned['max_tokens']: uniform(16, 64) yields fractions, but the value must be an integer;"
        " use randint(16, 65)",
    ),
}


@pytest.mark.parametrize("what", LINES)
def test_a_broken_key_value_is_answered_with_its_problem_alone(what: str):
    text, problem = LINES[what]
    run = lambda: make_request("bert_yelp", SweepConfig(tiny=True), assignments=[text])  # noqa: E731
    assert told(run) == problem


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


GOOD = "text,label\nfine,1\nbad,0\n"
FOLDERS: dict[str, tuple[dict[str, str], str]] = {
    "nothing in it": (
        {},
        "dataset={path!r}: no train split; expected train.parquet, train.csv, train.tsv,"
        " train.jsonl, train.json (each optionally with .gz), such files in train/ or data/, or a"
        " save_to_disk folder (found: nothing)",
    ),
    "a test split alone": (
        {"test_csv": GOOD},
        "dataset={path!r}: no train split; expected train.parquet, train.csv, train.tsv,"
        " train.jsonl, train.json (each optionally with .gz), such files in train/ or data/, or a"
        " save_to_disk folder (found: test.csv)",
    ),
    "other columns": (
        {"train_csv": "review,stars\nfine,1\n", "validation_csv": "review,stars\nbad,0\n"},
        "text_column='text': no such column in train and validation (found: review, stars)\n"
        "label_column='label': no such column in train and validation (found: review, stars)",
    ),
    "two kinds of file": (
        {"train_csv": GOOD, "train_jsonl": '{"text": "a", "label": 1}\n'},
        "dataset={path!r}: train exists as csv and jsonl; keep only one of them",
    ),
    "too few rows to hold some out": (
        {"train_csv": GOOD},
        "eval_rows=10000: without a validation split, eval rows are held out from the train split,"
        " which has 2 rows; choose fewer than that, and at least 1, or add a validation split",
    ),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_broken_data_folder_is_answered_with_its_problem_alone(what: str, tmp_path: Path):
    files, problem = FOLDERS[what]
    place = str(folder(tmp_path, **files))
    assignments = [f"dataset={place}", f"model={TINY / 'model'}", "max_tokens=16"]
    run = lambda: make_request("bert_yelp", SweepConfig(), assignments=assignments)  # noqa: E731
    assert told(run) == problem.replace("{path!r}", repr(place))


def test_a_model_folder_that_is_not_there_is_answered_with_its_problem_alone():
    assignments = [f"dataset={TINY / 'dataset'}", "model=./nowhere"]
    run = lambda: make_request("bert_yelp", SweepConfig(), assignments=assignments)  # noqa: E731
    assert told(run) == "model='./nowhere': no such folder"


def test_the_corpus_is_large():
    assert sum(map(len, (CORPUS, REFUSED, FLAGS, LINES, FOLDERS))) >= 60
