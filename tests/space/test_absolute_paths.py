"""Relative paths in a space: which ones become absolute, and who sees them in which form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace, when
from sweeps.builders.text_classification import TextClassification
from sweeps.space.absolute_paths import with_absolute_paths
from sweeps.space.conditions import active_branches, branches, describe_tunable
from sweeps.space.constraints import broken_constraint, constraint_name
from sweeps.space.search_space import fixed_values

LR = {"learning_rate": tune.loguniform(1e-5, 1e-3)}


def build(args: Any, *, height: float = 0.5, data: Any = None) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Builder:
    model: str = "none"
    layers: int = 1

    def __call__(self, args: Any, *, data: Any) -> None: ...


def make(**changes: Any) -> SearchSpace:
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_score",
        "mode": "max",
        "tuned": LR,
    }
    return SearchSpace(**whole | changes)


def test_the_file_of_a_deepspeed_config_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Workers on other nodes run in other folders."""
    monkeypatch.chdir(tmp_path)
    Path("zero.json").write_text("{}")
    space = with_absolute_paths(make(fixed={"deepspeed": "zero.json"}), Path.cwd())
    assert space.fixed == {"deepspeed": str(tmp_path / "zero.json")}


def test_builder_values_that_name_something_on_disk_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "mini")

    def builder(of: Builder) -> Any:
        return with_absolute_paths(make(build_trainer=of), Path.cwd()).build_trainer

    assert builder(Builder(model="mini")) == Builder(model=here)
    assert builder(Builder(model="org/name")) == Builder(model="org/name")
    assert builder(Builder(model="")) == Builder(model="")
    fixed = {"height": "mini/", "optim": "./mini", "weight_decay": 0.1}
    space = with_absolute_paths(make(fixed=fixed), Path.cwd())
    assert space.fixed == fixed | {"height": here}, "only the builder's own"


def test_a_bare_word_of_a_function_is_no_path_unless_it_lists_the_keyword(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is called in this folder only, so a relative path means the same there."""
    for name in ("train", "text"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)

    def by_name(args: Any, *, split: str = "train", text_column: str = "text") -> None: ...

    tuned = {"split": tune.choice(["train", "./train"])}
    space = make(build_trainer=by_name, tuned=tuned, fixed={"text_column": "text"})
    settled = with_absolute_paths(space, tmp_path)
    assert settled.fixed == {"text_column": "text"}
    assert settled.tuned["split"].categories == ["train", str(tmp_path / "train")]
    by_name.path_fields = ("split",)  # type: ignore[attr-defined]
    settled = with_absolute_paths(space, tmp_path)
    assert settled.tuned["split"].categories == [str(tmp_path / "train")] * 2


def test_a_column_that_is_called_like_a_folder_here_stays_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "text").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    builder = TextClassification(model="org/name", dataset="data", text_column="text")
    settled = with_absolute_paths(make(build_trainer=builder), Path.cwd()).build_trainer
    assert (settled.text_column, settled.dataset) == ("text", str(tmp_path / "data"))


TWO_MODELS = {
    "model": tune.choice(["small", "large", "org/name"]),
    "learning_rate": [
        when({"model": "small"}, tune.loguniform(1e-4, 1e-3)),
        when({"model": "large"}, when({"weight_decay": 0.1}, tune.loguniform(1e-6, 1e-5))),
    ],
}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("small", "large", "data"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_condition_on_a_relative_path_holds_for_the_absolute_one(models: Path):
    builder = TextClassification(model="small", dataset="data")
    written = make(build_trainer=builder, tuned=TWO_MODELS, fixed={"weight_decay": 0.1})
    space = with_absolute_paths(written, models)
    assert describe_tunable(space.tuned["learning_rate"]) == (
        f"loguniform(0.0001, 0.001) when model = '{models}/small';"
        f" loguniform(1e-06, 1e-05) when model = '{models}/large' and weight_decay = 0.1"
    )
    for choice in space.tuned["model"].categories[:2]:
        found = active_branches(branches(space.tuned), fixed_values(space), {"model": choice})
        assert set(found) == {"model", "learning_rate"}


def test_a_condition_on_the_builders_own_path_holds(models: Path):
    builder = TextClassification(model="large", dataset="data")
    tuned = {"learning_rate": when({"model": "large"}, tune.loguniform(1e-4, 1e-3))}
    space = with_absolute_paths(make(build_trainer=builder, tuned=tuned), models)
    assert "learning_rate" in active_branches(branches(space.tuned), fixed_values(space), {})


def test_a_constraint_sees_paths_as_they_were_written(models: Path):
    seen = []

    def not_large(values: Mapping[str, Any]) -> bool:
        seen.append(dict(values))
        return bool(values["model"] != "large")

    builder = TextClassification(model="small", dataset="data", revisions={})
    written = make(
        build_trainer=builder,
        tuned={**LR, "model": tune.choice(["small", "large", "org/name"])},
        constraints=[not_large, lambda values: values["dataset"] == "data"],
    )
    space = with_absolute_paths(written, models)
    small, large, named = (
        broken_constraint(space, {"model": choice, "learning_rate": 1e-4})
        for choice in space.tuned["model"].categories
    )
    assert (small, large, named) == (None, "not_large", None)
    assert [values["model"] for values in seen] == ["small", "large", "org/name"]
    assert seen[0]["dataset"] == "data"
    assert [constraint_name(space, i) for i in range(2)] == ["not_large", "constraints[1]"]
