"""The contract of a builder: what stands in for a member that it lacks, and that its own counts."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from sweeps import CausalLM, Script, TextClassification, TokenClassification
from sweeps.errors import UserError
from sweeps.space.adapted import Adapted
from sweeps.space.builder import Builder, Pipeline


def function(args: Any, first: int, *rest: int, second: int = 1, data: Any, **more: int) -> Any:
    return args, first, second


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A dataclass with no optional member."""

    model: str = "none"
    layers: int = 1

    def __call__(self, args: Any) -> Any:
        return args, self.layers


@dataclass(frozen=True, kw_only=True)
class Whole(Plain):
    """A dataclass with all of them."""

    data_fields: ClassVar = ("model", "no keyword of it")
    path_fields: ClassVar = ("model",)
    pipeline: ClassVar = Pipeline(task="fill-mask")
    metric_names: ClassVar = ("loss", "eval_f1", "test_loss")
    stream: bool = True
    revisions: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        raise UserError(f"{self.layers} layers")

    def pin(self) -> Whole:
        return dataclasses.replace(self, revisions={"none": "abc"})

    def prepare(self) -> str:
        return f"data of {self.model}"

    def tiny(self) -> Whole:
        return dataclasses.replace(self, model="tiny")

    def on_test(self) -> Whole:
        return dataclasses.replace(self, model="tested")

    def count_rows(self) -> tuple[int, None]:
        return 3, None

    def __call__(self, args: Any, *, data: Any = None) -> Any:
        return args, self.layers, data


@pytest.mark.parametrize("builder", [function, Plain(), Whole])
def test_a_builder_without_members_gets_ones_that_do_nothing(builder: Any):
    adapted = Adapted(builder)
    adapted.check()
    assert adapted.pin().own is builder
    assert (adapted.checks, adapted.prepares, adapted.stream, adapted.tiny()) == (
        *(False, False, False, None),
    )
    assert (adapted.count_rows(), adapted.revisions, adapted.pipeline) == ((None, None), {}, None)
    assert adapted.data_fields == adapted.path_fields == adapted.keywords
    assert adapted.metric_names is None
    assert (adapted.has_test_split, adapted.on_test()) == (False, None)


def test_a_builders_own_members_count():
    adapted = Adapted(Whole(layers=2))
    with pytest.raises(UserError, match="2 layers"):
        adapted.check()
    assert adapted.pin().revisions == {"none": "abc"}
    assert (adapted.checks, adapted.prepares, adapted.stream) == (True, True, True)
    tiny = adapted.tiny()
    assert tiny is not None
    assert (tiny.own, tiny.prepare()) == (Whole(layers=2, model="tiny"), "data of tiny")
    on_test = adapted.on_test()
    assert adapted.has_test_split
    assert on_test is not None
    assert on_test.own == Whole(layers=2, model="tested")
    assert adapted.count_rows() == (3, None)
    assert adapted.data_fields == adapted.path_fields == {"model"}
    assert adapted.pipeline == Pipeline(task="fill-mask")
    assert adapted.metric_names == ["eval_f1", "eval_loss", "eval_test_loss"]


def test_a_function_can_say_what_it_evaluates():
    def build(args: Any) -> None: ...

    build.metric_names = ["loss"]  # type: ignore[attr-defined]
    assert Adapted(build).metric_names == ["eval_loss"]


def test_a_subclass_with_a_call_of_its_own_says_itself_what_it_evaluates():
    class Smaller(Whole):
        def prepare(self) -> str:
            return "less data"

    class Another(Smaller):
        def __call__(self, args: Any, *, data: Any = None) -> Any: ...

    class Names(Another):
        metric_names = ("kappa",)

    assert Adapted(Smaller()).metric_names == Adapted(Whole()).metric_names
    assert Adapted(Another()).metric_names is None
    assert Adapted(Names()).metric_names == ["eval_kappa"]


def test_keywords_are_the_fields_of_a_dataclass_or_the_parameters_of_a_function():
    assert Adapted(Plain()).keywords == {"model", "layers"}
    assert Adapted(function).keywords == {"first", "second"}
    assert (Adapted(Plain()).name, Adapted(function).name, Adapted(Plain).name) == (
        *("Plain", "function", "Plain"),
    )


def test_a_field_that_nobody_can_set_is_no_keyword():
    @dataclass(frozen=True)
    class Derived(Plain):
        size: int = field(init=False, default=3)

    adapted = Adapted(Derived())
    assert adapted.keywords == {"model", "layers"}
    assert adapted.values == {"model": "none", "layers": 1, "size": 3}
    assert adapted.with_values(adapted.values).own == Derived()


def test_values_reach_the_fields_of_a_dataclass_and_nothing_else():
    changed = Adapted(Plain()).with_values({"layers": 3, "learning_rate": 0.1})
    assert changed.own == Plain(layers=3)
    assert Adapted(function).with_values({"first": 1}).own is function


def test_a_function_is_called_with_its_keywords_and_a_dataclass_has_them_already():
    assert Adapted(function)("args", {"first": 2}, data="data") == ("args", 2, 1)
    assert Adapted(Plain(layers=3))("args", {"layers": 3}) == ("args", 3)
    assert Adapted(Whole(layers=3))("args", {"layers": 3}, data="data") == ("args", 3, "data")


def test_streaming_needs_prepared_data():
    class Streams:
        stream = True

        def __call__(self, args: Any) -> None: ...

    assert Adapted(Streams()).stream is False


def test_every_member_of_the_contract_has_a_stand_in():
    assert {name for name in vars(Builder) if not name.startswith("_")} <= set(dir(Adapted))


@pytest.mark.parametrize("builder", [TextClassification, TokenClassification, CausalLM])
def test_shipped_builders_have_what_the_contract_names(builder: Any):
    members = {name for name in vars(Builder) if not name.startswith("_")}
    lacking = {*members} & {*dir(Script("-"))} - {"metric_names", "path_fields"}
    lacking -= set() if builder is CausalLM else {"count_rows"}  # blocks are no rows
    assert {name for name in members if not hasattr(builder(model="-", dataset="-"), name)} == (
        lacking
    )
    assert list(inspect.signature(builder.__call__).parameters) == ["self", "args", "data"]


def test_a_partial_has_the_name_and_module_of_what_it_calls():
    for builder in (function, Plain()):
        partly = Adapted(functools.partial(functools.partial(builder, first=1), second=2))
        assert (partly.name, partly.module) == (Adapted(builder).name, Adapted(builder).module)
