"""A rank's streamed rows: they look as the mapped ones, and a trial finds its place in them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from transformers import Trainer, TrainingArguments

from sweeps import CausalLM, SearchSpace, TextClassification
from sweeps.errors import SweepError
from sweeps.space.loading import load_space
from sweeps.workers import training
from sweeps.workers.isolation import isolated
from sweeps.workers.job import Reply
from sweeps.workers.rows.streamed_rows import StreamedRows
from tests.workers.test_training import GO, numbers, run_job

SAVE = Reply("continue", save_best=False, save_state=True)
STOP = Reply("stop", save_best=False, save_state=False)


class Share:
    """Gives the rows of one rank as Ray Data does: in an order that follows from the seed."""

    def __init__(self, rows: Any, rank: int = 0, workers: int = 1):
        own = len(rows) // workers
        self.rows = rows.with_format("arrow")[rank * own : (rank + 1) * own]

    def iter_batches(
        self,
        *,
        batch_size: int,
        batch_format: str,
        local_shuffle_buffer_size: int,
        local_shuffle_seed: int,
    ) -> Iterator[pyarrow.Table]:
        assert batch_format == "pyarrow"
        order = np.random.RandomState(local_shuffle_seed).permutation(len(self.rows))
        for start in range(0, len(order), batch_size):
            yield self.rows.take(order[start : start + batch_size])


def streamed(rows: Any, seed: int = 0, workers: int = 1) -> StreamedRows:
    return StreamedRows(Share(rows, 0, workers), rows, workers=workers, seed=seed)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What the worker loop does around each job."""
    baseline = isolated.take_baseline()
    yield
    isolated.restore(baseline)


def test_a_streamed_text_is_the_mapped_one():
    rows = replace(TextClassification(model="-/-", dataset="-/-").tiny(), train_rows=50).prepare()
    key = lambda row: row["input_ids"]  # noqa: E731
    assert sorted(streamed(rows.train), key=key) == sorted(rows.train, key=key)


def test_a_streamed_block_is_a_tensor_as_the_mapped_one_is():
    blocks = CausalLM(model="-/-", dataset="-/-").tiny().prepare().train
    found = list(streamed(blocks))
    assert {row["input_ids"].dtype for row in found} == {torch.int64}
    assert sorted(row["input_ids"].tolist() for row in found) == sorted(
        row["input_ids"].tolist() for row in blocks
    )


def test_the_order_follows_from_seed_and_epoch():
    blocks = CausalLM(model="-/-", dataset="-/-").tiny().prepare().train

    def order(seed: int, epoch: int) -> list[list[int]]:
        rows = streamed(blocks, seed)
        rows.set_epoch(epoch)
        return [row["input_ids"].tolist() for row in rows]

    assert order(7, 0) == order(7, 0)
    assert order(7, 0) != order(7, 1)
    assert order(7, 0) != order(8, 0)


def test_a_rank_has_as_many_rows_as_its_peers():
    blocks = CausalLM(model="-/-", dataset="-/-").tiny().prepare().train.select(range(101))
    rows = streamed(blocks, workers=2)
    assert len(rows) == len(list(rows)) == 50


def test_a_trial_resumed_inside_an_epoch_goes_on_with_the_rows_that_it_has_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """77 rows, 8 a batch, 2 batches a step: 10 batches an epoch, saved after 6 of the second."""
    shipped = load_space("bert_yelp").space
    assert isinstance(shipped.build_trainer, TextClassification)
    builder = replace(shipped.build_trainer.tiny(), train_rows=77, eval_rows=16, stream=True)
    rows = builder.prepare().train
    monkeypatch.setattr(training, "own_share", lambda: Share(rows))
    space: SearchSpace = replace(
        shipped,
        build_trainer=builder,
        tuned={},
        fixed={"max_rows_per_device": 8, "num_train_epochs": 2, "logging_steps": 1},
        evals_per_trial=5,
    )
    params = {"learning_rate": 1e-3, "total_train_batch_size": 16}
    unbroken, _ = run_job(space, params, tmp_path / "unbroken")
    assert [(r.step, r.max_steps, r.epoch) for r in unbroken] == [
        (2, 10, 0.4),
        (4, 10, 0.8),
        (6, 10, 1.2),
        (8, 10, 1.6),
        (10, 10, 2.0),
    ]
    _, saved = run_job(
        space, params, tmp_path / "cut", lambda n: SAVE if n == 4 else STOP if n == 5 else GO
    )
    resumed, _ = run_job(space, params, tmp_path / "cut", checkpoint=saved[0].path)
    assert numbers(resumed) == numbers(unbroken[4:])


def test_a_trainer_on_other_rows_is_refused(tmp_path: Path):
    tiny = replace(CausalLM(model="-/-", dataset="-/-").tiny(), stream=True)

    class Other(CausalLM):
        def __call__(self, args: TrainingArguments, *, data: Any) -> Trainer:
            trainer = super().__call__(args, data=data)
            trainer.train_dataset = data.eval
            return trainer

    builder = Other(**{key: getattr(tiny, key) for key in ("model", "dataset", "block_tokens")})
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    with pytest.raises(SweepError, match="the trainer's train_dataset is a Dataset, not the"):
        training.build(builder, args, {}, Share(builder.prepare().train))  # type: ignore[arg-type]
