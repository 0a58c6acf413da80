"""KEY=VALUE laid over a space: where a key moves, what first params lose, what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace
from sweeps.errors import UserError
from sweeps.report import Mode
from sweeps.space import domains
from sweeps.space.arguments import argument_fields
from sweeps.space.overrides import override

FIELDS = {"learning_rate": False, "weight_decay": False, "warmup_steps": False} | {
    "lr_scheduler_kwargs": True,
    "eval_steps": False,
}


def build(args: Any, *, model: str = "none") -> None: ...


SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_score",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3), "warmup_steps": tune.uniform(0.0, 0.1)},
    fixed={"weight_decay": 0.01},
    first_params=[
        {"learning_rate": 1e-4, "warmup_steps": 0.1},
        {"learning_rate": 1e-4, "warmup_steps": 0.0},
    ],
)


def described(space: SearchSpace) -> dict[str, str]:
    return {key: domains.describe(domain) for key, domain in space.tuned.items()}


def message(*assignments: str) -> str:
    with pytest.raises(UserError) as raised:
        override(SPACE, assignments, FIELDS)
    return str(raised.value)


def test_no_assignments_change_nothing():
    space, lines = override(SPACE, [], FIELDS)
    assert described(space) == described(SPACE)
    assert (space.fixed, list(space.first_params)) == (SPACE.fixed, list(SPACE.first_params))
    assert lines == []


def test_a_plain_value_moves_its_key_to_fixed_and_out_of_the_first_params():
    space, lines = override(SPACE, ["warmup_steps=0.05"], FIELDS)
    assert described(space) == {"learning_rate": "loguniform(1e-05, 0.001)"}
    assert space.fixed == {"weight_decay": 0.01, "warmup_steps": 0.05}
    assert space.first_params == [{"learning_rate": 1e-4}]
    assert lines == [
        "first_params[0] no longer has 'warmup_steps': it is now fixed",
        "first_params[1] no longer has 'warmup_steps': it is now fixed",
        "first_params[1] is dropped: it duplicates an earlier entry",
    ]


def test_a_domain_moves_its_key_to_tuned_and_drops_first_params_that_do_not_know_it():
    space, lines = override(SPACE, ["weight_decay=uniform(0, 0.1)"], FIELDS)
    assert described(space) == described(SPACE) | {"weight_decay": "uniform(0, 0.1)"}
    assert space.fixed == {}
    assert space.first_params == []
    assert lines == [
        "first_params[0] is dropped: it has no allowed value for 'weight_decay'",
        "first_params[1] is dropped: it has no allowed value for 'weight_decay'",
    ]


def test_a_narrower_domain_drops_only_the_first_params_outside_it():
    space, lines = override(SPACE, ["warmup_steps=uniform(0.05, 0.1)"], FIELDS)
    assert described(space)["warmup_steps"] == "uniform(0.05, 0.1)"
    assert space.first_params == [{"learning_rate": 1e-4, "warmup_steps": 0.1}]
    assert lines == ["first_params[1] is dropped: it has no allowed value for 'warmup_steps'"]


def test_first_params_are_dropped_when_nothing_is_tuned_any_more():
    space, lines = override(SPACE, ["warmup_steps=0", "learning_rate=1e-4"], FIELDS)
    assert space.tuned == {}
    assert space.first_params == []
    assert lines[-1] == "first_params[1] is dropped: none of its params is tuned now"


def test_first_params_with_a_domain_that_cannot_be_searched_are_left_to_the_checks():
    tuned = {**SPACE.tuned, "warmup_steps": tune.sample_from(lambda _: 0.1)}
    space, lines = override(
        dataclasses.replace(SPACE, tuned=tuned), ["learning_rate=loguniform(1e-5, 1e-4)"], FIELDS
    )
    assert (space.first_params, lines) == (SPACE.first_params, [])


def test_the_lines_about_lost_keys_come_in_the_order_of_the_entry():
    keys = [f"lr_scheduler_kwargs.{letter}" for letter in "gcaebfd"]
    space = dataclasses.replace(
        SPACE,
        tuned={**SPACE.tuned, **dict.fromkeys(keys, tune.uniform(0, 1))},
        first_params=[{**SPACE.first_params[0], **dict.fromkeys(keys, 0.5)}],
    )
    _, lines = override(space, [f"{key}=0" for key in sorted(keys)], FIELDS)
    assert lines == [f"first_params[0] no longer has {key!r}: it is now fixed" for key in keys]


def test_builder_keywords_dotted_keys_and_batch_sizes_are_reached_by_their_bare_names():
    space, _ = override(
        SPACE,
        [
            "model=/models/mini lm",
            "lr_scheduler_kwargs.num_cycles=2",
            "total_train_batch_size=choice([16, 32])",
            "max_rows_per_device=8",
        ],
        FIELDS,
    )
    assert described(space)["total_train_batch_size"] == "choice([16, 32])"
    assert space.fixed == {
        "weight_decay": 0.01,
        "model": "/models/mini lm",
        "lr_scheduler_kwargs.num_cycles": 2,
        "max_rows_per_device": 8,
    }


def test_a_value_may_hold_equals_signs_and_the_last_of_two_counts():
    space, _ = override(SPACE, ["model=a=b", "weight_decay=1", "weight_decay=2"], FIELDS)
    assert space.fixed == {"weight_decay": 2, "model": "a=b"}


def test_a_number_is_text_where_only_text_is_accepted():
    def build(args: Any, *, config: str | None = None, size: str | int = 0) -> None: ...

    own = dataclasses.replace(SPACE, build_trainer=build)
    space, _ = override(own, ["config=2_023.0", "size=2023", "run_name=7"], argument_fields(build))
    assert {key: space.fixed[key] for key in ("config", "size", "run_name")} == {
        "config": "2_023.0",
        "size": 2023,
        "run_name": "7",
    }
    space, _ = override(own, ["config=None"], argument_fields(build))
    assert space.fixed["config"] is None


def test_a_list_that_lost_its_quotes_is_refused_where_it_may_be_meant():
    def build(args: Any, *, freeze: Any = (), names: list[str] = [], sep: str = "") -> None: ...  # noqa: B006

    own = dataclasses.replace(SPACE, build_trainer=build)
    with pytest.raises(UserError) as raised:
        override(own, ["freeze=[embeddings, head.0]", "names=[a]"], argument_fields(build))
    assert raised.value.problems == [
        "freeze: the entries of the list have no quotes, which a shell may have removed; write"
        """ freeze="['embeddings', 'head.0']" for a list, or freeze="'[embeddings, head.0]'" for"""
        " text",
        "names: the entries of the list have no quotes, which a shell may have removed; write"
        """ names="['a']" for a list""",
    ]
    given = ["sep=[SEP]", "freeze='[SEP]'", "names=['a', 'b']"]
    space, _ = override(own, given, argument_fields(build))
    assert [space.fixed[key] for key in ("sep", "freeze", "names")] == [
        "[SEP]",
        "[SEP]",
        ["a", "b"],
    ]
    for text in ("[INST] {} [/INST]", "[inst]"):
        own = dataclasses.replace(own, tuned={"freeze": tune.choice(["[inst]", "{}"])})
        space, _ = override(own, [f"freeze={text}"], argument_fields(build))
        assert space.fixed["freeze"] == text


def test_metric_and_mode_of_the_flags_are_the_spaces_though_its_builder_has_such_a_keyword():
    def build(args: Any, *, metric: str) -> None: ...

    own = dataclasses.replace(SPACE, build_trainer=build)
    space, _ = override(own, ["--metric=eval_loss", "--mode=min", "metric=f1"], FIELDS)
    assert (space.metric, space.mode) == ("eval_loss", "min")
    assert space.fixed == {**SPACE.fixed, "metric": "f1"}


@pytest.mark.parametrize(
    ("own", "flags", "judged"),
    [
        (("eval_gap", "min"), ["--metric=eval_gap"], ("eval_gap", "min")),
        (("eval_loss", "max"), ["--metric=eval_loss"], ("eval_loss", "max")),
        (("eval_gap", "min"), ["--metric=eval_gap", "--mode=max"], ("eval_gap", "max")),
        (("eval_gap", "max"), ["--metric=eval_ppl"], ("eval_ppl", "min")),
        (("eval_loss", "min"), ["--metric=eval_f1"], ("eval_f1", "max")),
        (("eval_loss", "min"), ["--mode=max"], ("eval_loss", "max")),
    ],
)
def test_a_metric_without_a_mode_keeps_the_spaces_own_or_gets_its_usual_one(
    own: tuple[str, Mode], flags: list[str], judged: tuple[str, Mode]
):
    space = dataclasses.replace(SPACE, metric=own[0], mode=own[1])
    changed, _ = override(space, flags, FIELDS)
    assert (changed.metric, changed.mode) == judged


def test_a_metric_whose_name_tells_no_mode_needs_one():
    assert message("--metric=eval_gap", "learning_rate") == (
        "the command line has 2 problems\n"
        "  'learning_rate': must have the form KEY=VALUE\n"
        "  --metric eval_gap: this name does not tell whether higher or lower values are better;"
        " add --mode max or --mode min"
    )


def test_the_space_that_was_overridden_is_left_as_it_was():
    before = (dict(SPACE.tuned), dict(SPACE.fixed), list(SPACE.first_params))
    override(SPACE, ["warmup_steps=0.05", "weight_decay=uniform(0, 1)"], FIELDS)
    assert (dict(SPACE.tuned), dict(SPACE.fixed), list(SPACE.first_params)) == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "lerning_rate=1",
            "lerning_rate: no such TrainingArguments field or builder keyword;"
            " did you mean 'learning_rate'?",
        ),
        (
            "modell=x",
            "modell: no such TrainingArguments field or builder keyword; did you mean 'model'?",
        ),
        ("num_trials=8", "num_trials: set by the flag --num-trials"),
        ("metric=eval_f1", "metric: set by the flag --metric"),
        ("zzz=1", "zzz: no such TrainingArguments field or builder keyword"),
        ("=1", "'=1': must have the form KEY=VALUE"),
        ("learning_rate", "'learning_rate': must have the form KEY=VALUE"),
        ("eval_steps=5", "eval_steps: set by sweeps from evals_per_trial; remove it"),
        (
            "learning_rate=normal(0, 1)",
            "learning_rate: normal is not a domain; use one of uniform, quniform, loguniform,"
            " qloguniform, randint, qrandint, lograndint, qlograndint, choice",
        ),
        (
            "learning_rate=__import__('os').getcwd()",
            "learning_rate: __import__('os').getcwd is not a domain; use one of uniform, quniform,"
            " loguniform, qloguniform, randint, qrandint, lograndint, qlograndint, choice",
        ),
    ],
)
def test_what_is_wrong_with_an_assignment_is_said_in_one_line(text: str, problem: str):
    assert message(text) == f"the command line: {problem}"


def test_all_wrong_assignments_stand_in_one_message():
    assert message("lerning_rate=1", "weight_decay=0.1", "eval_steps=5") == (
        "the command line has 2 problems\n"
        "  lerning_rate: no such TrainingArguments field or builder keyword;"
        " did you mean 'learning_rate'?\n"
        "  eval_steps: set by sweeps from evals_per_trial; remove it"
    )


def test_a_dotted_key_needs_an_argument_that_holds_a_dict():
    assert message("learning_rate.x=1").startswith("the command line: learning_rate.x: ")


def test_an_entry_takes_the_place_of_that_in_the_whole():
    whole = dataclasses.replace(
        SPACE, fixed={"lr_scheduler_kwargs": {"num_cycles": 1, "lr_end": 0.1}}
    )
    space, _ = override(whole, ["lr_scheduler_kwargs.num_cycles=uniform(0.3, 0.7)"], FIELDS)
    assert described(space)["lr_scheduler_kwargs.num_cycles"] == "uniform(0.3, 0.7)"
    assert space.fixed == {"lr_scheduler_kwargs": {"lr_end": 0.1}}
