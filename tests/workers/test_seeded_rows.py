"""What is drawn while train rows are loaded: by seed, epoch and rows alone."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, WeightedRandomSampler
from transformers import Trainer

from sweeps.space.loading import load_space
from sweeps.workers.isolation import isolated
from sweeps.workers.job import Reply
from sweeps.workers.rows.seeded_rows import Draws, SeededRows, seed_rows
from tests.workers.test_training import GO, numbers, run_job

AT = {
    2: Reply("pause", save_best=False, save_state=True),
    4: Reply("continue", save_best=True, save_state=False),
}
"""Of four reports, the second is in the middle of the second of three epochs."""


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What the worker loop does around each job."""
    baseline = isolated.take_baseline()
    yield
    isolated.restore(baseline)


def drawn() -> tuple[float, ...]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_batch_draws_by_seed_rank_epoch_and_rows_and_leaves_the_generators_as_they_were():
    def batch(seed: int = 1, rank: int = 0, epoch: int = 0, rows: Any = (3, 1)) -> Any:
        draws = Draws(seed, rank)
        draws.epoch.fill_(epoch)
        drawing = SeededRows([0, 1, 2, 3], lambda batch: (batch, drawn()), draws)
        return drawing.__getitems__(rows)

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    one = batch()
    assert one[0] == [3, 1]
    assert batch() == one
    others = [batch(seed=2), batch(rank=1), batch(epoch=1), batch(rows=(1, 3))]
    assert len({each[1] for each in (one, *others)}) == 5
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before


class Iterated(IterableDataset[Any]):
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Weighted(Trainer):
    def _get_train_sampler(self, *_: Any) -> WeightedRandomSampler:
        return WeightedRandomSampler([1.0] * 48, 48)


def seeded(loader: DataLoader[Any]) -> Any:
    """A trainer that reads train and eval rows from this loader, as HF keeps it."""
    trainer = SimpleNamespace(
        args=SimpleNamespace(seed=1, data_seed=None, process_index=0),
        get_train_dataloader=lambda: loader,
        get_eval_dataloader=lambda: loader,
        add_callback=lambda _: None,
    )
    seed_rows(trainer)  # type: ignore[arg-type]
    return trainer


def drawn_beside(rows: list[Any]) -> Any:
    return rows, drawn()


def test_every_evaluation_of_an_epoch_draws_the_same_where_processes_live_on():
    def evaluations(count: int) -> list[Any]:
        rows = Iterated(range(6))
        trainer = seeded(
            DataLoader(rows, 2, num_workers=1, persistent_workers=True, collate_fn=drawn_beside)
        )
        return [list(trainer.get_eval_dataloader()) for _ in range(count)]

    first, second = evaluations(2)
    assert len({batch[1] for batch in first}) == 3
    assert [second] == evaluations(1), "as after a resume between the two"


class Shuffled(Sampler[int]):
    """In an order of NumPy's."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator.permutation(6).tolist())


def test_a_sampler_with_a_generator_that_is_not_of_pytorch_is_left_alone():
    trainer = seeded(DataLoader(list(range(6)), 6, sampler=Shuffled(), collate_fn=list))
    assert list(trainer.get_train_dataloader()) == [list(Shuffled())]


def masks(collate: Any, rows: list[Any]) -> Any:
    """A fifth of all tokens masked at random."""
    batch = collate(rows)
    keep = torch.rand(batch["input_ids"].shape) > 0.2
    batch["input_ids"] = torch.where(keep, batch["input_ids"], 1)
    return batch


@pytest.mark.parametrize("how", ["masks", "iterated", "by length", "unseedable", "weighted"])
def test_a_trial_whose_rows_are_drawn_at_random_resumes_bit_for_bit(how: str, tmp_path: Path):
    shipped = load_space("bert_yelp").space
    builder = replace(shipped.build_trainer.tiny(), train_rows=48, eval_rows=16)  # type: ignore[attr-defined]

    def build(args: Any) -> Trainer:
        trainer: Trainer = builder(args, data=builder.prepare())
        if how in ("masks", "iterated"):
            trainer.data_collator = functools.partial(masks, trainer.data_collator)
        if how == "iterated":
            trainer.train_dataset = Iterated(trainer.train_dataset)
        if how == "weighted":
            trainer.__class__ = Weighted
        return trainer

    fixed = {"per_device_train_batch_size": 8, "num_train_epochs": 3, "logging_steps": 4}
    if how == "by length":
        fixed["train_sampling_strategy"] = "group_by_length"
    if how == "unseedable":
        fixed["accelerator_config"] = {"use_seedable_sampler": False}
    space = replace(shipped, build_trainer=build, tuned={}, fixed=fixed, evals_per_trial=4)
    params = {"learning_rate": 1e-3}
    whole, best = run_job(space, params, tmp_path, lambda n: AT[4] if n == 4 else GO)
    _, saved = run_job(space, params, tmp_path, lambda n: AT.get(n, GO))
    resumed, rest = run_job(
        space, params, tmp_path, lambda n: AT[4] if n == 4 else GO, checkpoint=saved[0].path
    )
    assert (whole[1].step, whole[1].max_steps, whole[1].epoch) == (9, 18, 1.5)
    assert numbers(resumed) == numbers(whole[2:])
    assert rest[0].sha256 == best[0].sha256
