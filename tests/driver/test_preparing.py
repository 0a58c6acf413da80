"""What a sweep prepares before its first trial: each finite choice once, rows for all workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from ray import tune

from sweeps import CausalLM, SearchSpace, SweepConfig
from sweeps.builders.data.prepared_data import prepared_folder, prepared_in
from sweeps.driver.preparing import prepare_data, streamed_rows
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.sweep import run_request
from sweeps.errors import UserError
from sweeps.planning.layout import check_reach
from tests.watching import Recorder

CALLS: list[tuple[int, str]] = []


@dataclass(frozen=True, kw_only=True)
class Builder:
    data_fields: ClassVar[tuple[str, ...]] = ("max_tokens", "column")
    max_tokens: int = 8
    column: str = "text"
    head: str = "linear"

    def prepare(self) -> SimpleNamespace:
        CALLS.append((self.max_tokens, self.column))
        return SimpleNamespace(train=range(self.max_tokens), eval=range(4))

    def __call__(self, args: Any, *, data: Any) -> Any:
        raise NotImplementedError


def prepared(tmp_path: Path, builder: Any, workers: int = 2, **tuned: Any) -> list[str]:
    CALLS.clear()
    lines: list[str] = []
    space = SearchSpace(build_trainer=builder, metric="eval_loss", mode="min", tuned=tuned)
    prepare_data(space, tmp_path, workers=workers, where="space.py", note=lines.append)
    return lines


def test_each_combination_of_the_choices_that_are_read_is_prepared_once(tmp_path: Path) -> None:
    choices = {"max_tokens": tune.choice([8, 16]), "column": tune.choice(["text", "title"])}
    prepared(tmp_path, Builder(), head=tune.choice(["linear", "deep"]), **choices)
    assert CALLS == [(8, "text"), (8, "title"), (16, "text"), (16, "title")]


def test_without_a_tuned_setting_the_builders_own_is_prepared(tmp_path: Path) -> None:
    prepared(tmp_path, Builder(max_tokens=9), learning_rate=tune.loguniform(1e-5, 1e-4))
    assert CALLS == [(9, "text")]


def test_settings_without_end_are_left_to_their_first_use(tmp_path: Path) -> None:
    prepared(tmp_path, Builder(), max_tokens=tune.randint(8, 16))
    assert CALLS == []


def test_a_builder_that_prepares_nothing_is_left_alone(tmp_path: Path) -> None:
    assert prepared(tmp_path, lambda args: None, learning_rate=tune.uniform(0, 1)) == []


def test_rows_that_leave_none_for_some_worker_are_refused_with_the_choice(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepared(tmp_path, Builder(), 9, max_tokens=tune.choice([16, 1]))
    assert str(caught.value) == (
        "space.py: the data with max_tokens=16 has 4 eval rows for 9 workers, but each worker"
        " needs at least one; use more data or fewer workers"
    )
    with pytest.raises(UserError, match=r"the data with max_tokens=1 has 1 train row for 2 work"):
        prepared(tmp_path, Builder(), 2, max_tokens=tune.choice([16, 1]))


def test_a_second_sweep_starts_from_the_files_of_the_first(tmp_path: Path) -> None:
    builder = CausalLM(model="-/-", dataset="-/-").tiny()
    choices = {"block_tokens": tune.choice([16, 32])}
    lines = prepared(tmp_path, builder, **choices)
    assert [line.split(":")[0].split(" in ")[0] for line in lines] == [
        "preparing the data",
        "prepared the data",
    ] * 2
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert len(folders) == 2
    assert prepared(tmp_path, replace(builder, lora_rank=2), **choices) == []
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == folders


@dataclass(frozen=True, kw_only=True)
class Streamed(Builder):
    stream: bool = True


def stream_of(tmp_path: Path, builder: Any, workers: int, **fixed: Any) -> Any:
    space = SearchSpace(
        build_trainer=builder,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-4)},
        fixed=fixed,
    )
    found = prepare_data(space, tmp_path, workers=workers, where="space.py", note=print)
    return streamed_rows(space, found)


def test_rows_to_stream_are_given_back_and_those_of_other_builders_are_not(tmp_path: Path) -> None:
    tiny = CausalLM(model="-/-", dataset="-/-").tiny()
    rows = stream_of(tmp_path, replace(tiny, stream=True), 2)
    assert len(rows) == len(tiny.prepare().train)
    assert stream_of(tmp_path, tiny, 2) is None


def test_fewer_streamed_rows_than_an_optimizer_step_takes_are_refused(tmp_path: Path) -> None:
    tiny = CausalLM(model="-/-", dataset="-/-").tiny()
    builder = replace(tiny, stream=True, train_rows=20)
    rows = len(builder.prepare().train)
    most = rows // 2 * 2
    for enough in (most, 2):
        assert stream_of(tmp_path, builder, 2, total_train_batch_size=enough) is not None
    with pytest.raises(UserError) as caught:
        stream_of(tmp_path, builder, 2, gradient_accumulation_steps=rows)
    assert str(caught.value) == (
        f"space.py: stream=True: {most} of {rows} train rows are streamed to 2 workers, but an"
        f" optimizer step needs up to {16 * rows}; use more data, smaller batches, or stream=False"
    )


def test_rows_that_lie_in_no_file_cannot_be_streamed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"whose `train` is a datasets\.Dataset backed by files"):
        stream_of(tmp_path, Streamed(), 1)


@pytest.mark.parametrize(("nodes", "autoscaling"), [(2, False), (1, True)])
def test_rows_are_not_streamed_to_nodes_that_cannot_see_them(nodes: int, autoscaling: bool) -> None:
    check_reach(SweepConfig(storage="/mnt/shared"), nodes, autoscaling=autoscaling)
    check_reach(SweepConfig(storage="s3://bucket/path"), 1, autoscaling=False)
    with pytest.raises(UserError) as caught:
        check_reach(SweepConfig(storage="s3://bucket/path"), nodes, autoscaling=autoscaling)
    assert str(caught.value) == (
        "--storage s3://bucket/path: stream=True reads a file that all nodes must be able to see,"
        " but with object storage the file exists only on this node; use a folder that all nodes"
        " share, or stream=False"
    )


def test_changed_data_is_prepared_anew(tmp_path: Path) -> None:
    from datasets import Dataset

    def write(text: str) -> None:
        rows = Dataset.from_dict({"text": [text] * 40})
        rows.to_parquet(tmp_path / "train.parquet")

    tiny = CausalLM(model="-/-", dataset="-/-").tiny()
    builder = replace(tiny, dataset=str(tmp_path), block_tokens=4)
    first: list[Mapping[str, Any]] = []
    for text in ("the food was good", "the soup was cold"):
        write(text)
        assert prepared(tmp_path / "prepared", builder)
        with prepared_in(tmp_path / "prepared"):
            first.append(builder.prepare().train[0])
    assert first[0]["input_ids"].tolist() != first[1]["input_ids"].tolist()


def test_data_that_does_not_fit_ends_the_sweep_before_ray_starts_and_leaves_no_sweep(
    tmp_path: Path,
) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["good"] * 40}).to_parquet(tmp_path / "train.parquet")
    tiny = CausalLM(model="-/-", dataset="-/-").tiny()
    space = SearchSpace(
        build_trainer=replace(tiny, dataset=str(tmp_path)),
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-4)},
    )
    request = make_request(space, SweepConfig(storage=tmp_path / "results"))
    watching = Recorder()
    with pytest.raises(UserError, match="the 4 eval rows contain 8 tokens, fewer than one block"):
        run_request(request, [watching])
    assert watching.notes == ["preparing the data"]
    assert (watching.started, watching.answers) == ([], [])
    assert [path.name for path in (tmp_path / "results").iterdir() if path.is_dir()] == ["prepared"]


def test_nothing_is_kept_for_the_next_call_outside_of_a_sweep(tmp_path: Path) -> None:
    prepared(tmp_path, Builder())
    folder, _ = prepared_folder({"task": "outside"}, lambda _: {})
    assert folder.parent != tmp_path
