"""A trainer whose loss HF scales wrongly is set right at the first step; others train as before."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from transformers import Trainer, TrainingArguments

from sweeps.errors import UserError
from sweeps.workers import loss_scale
from sweeps.workers.evaluation.reported_numbers import of_rank_0
from sweeps.workers.loss_scale import watch_loss


class Mean(torch.nn.Module):
    """Its loss is a mean over its rows, whatever `**kwargs` say."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        return {"loss": (self.dropout(self.layer(x))[:, 0] - labels).square().mean()}


class Counted(Mean):
    """Divides by the number of items that it is given, and has a state that each pass moves."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(2)

    def forward(
        self, x: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Any = None, **_: Any
    ) -> dict[str, torch.Tensor]:
        squares = (self.dropout(self.layer(self.norm(x)))[:, 0] - labels).square()
        return {"loss": squares.sum() / (num_items_in_batch or len(x))}


class Caches(Counted):
    """Registers a buffer in its first pass, and another one in each pass, as rotary caches do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("longest", torch.zeros(0))

    def forward(
        self, x: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Any = None, **_: Any
    ) -> dict[str, torch.Tensor]:
        if not hasattr(self, "cache"):
            self.register_buffer("cache", torch.ones(2))
        self.register_buffer("longest", torch.ones(len(x)))
        return super().forward(x * self.cache, labels, num_items_in_batch)


class Teacher(Counted):
    """Learns from a mean of its earlier weights, which each pass updates."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = torch.nn.Linear(2, 1).requires_grad_(False)

    def forward(
        self, x: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Any = None, **_: Any
    ) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            for mean, one in zip(self.teacher.parameters(), self.layer.parameters(), strict=True):
                mean.lerp_(one, 0.1)
        return super().forward(x, labels + self.teacher(x)[:, 0], num_items_in_batch)


class Plain(Mean):
    """No `**kwargs`: HF hands in no number."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return super().forward(x, labels)


class OwnLoss(Trainer):
    """The way of most scripts: the mean is taken in the trainer."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        return model(**inputs)["loss"]


def trainer(
    tmp_path: Path,
    model: Any,
    steps: int,
    kind: Any = Trainer,
    *,
    rows_at_once: int = 4,
    **more: Any,
) -> Any:
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=rows_at_once,
        gradient_accumulation_steps=steps,
        max_steps=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=3,
    )
    rows = [{"x": torch.tensor([i, 1.0]), "labels": torch.tensor(float(i % 3))} for i in range(32)]
    return kind(model=model, args=args, train_dataset=rows, **more)


class OwnScale(OwnLoss):
    """Says that it divides, and does not."""

    loss_is_scaled_for_ga = True


def trained(tmp_path: Path, steps: int, kind: Any, *, cured: bool = False) -> list[float]:
    """The losses of two optimizer steps of 16 rows each, without dropout."""
    torch.manual_seed(1)
    model = Mean()
    model.dropout = torch.nn.Identity()
    if cured:
        model.accepts_loss_kwargs = False  # type: ignore[assignment]
    made = trainer(tmp_path, model, steps, kind, rows_at_once=16 // steps)
    made.args.logging_steps = 1
    watch_loss(made, "build")
    made.train()
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


@pytest.mark.parametrize("steps", [2, 4])
def test_a_mean_loss_with_accumulation_trains_as_the_same_batch_without(
    steps: int, tmp_path: Path
) -> None:
    alone = trained(tmp_path, 1, Trainer)
    cured = trained(tmp_path, steps, Trainer, cured=True)
    for kind in (Trainer, OwnLoss, OwnScale):
        losses = trained(tmp_path, steps, kind)
        assert losses == pytest.approx(alone, rel=1e-5), kind
        assert losses == cured, f"{kind}: as with the cure in the model"


class Uneven(Mean):
    """Its first loss is 0 on rank 1, which can tell nothing then."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        first = torch.distributed.get_rank() == 1 and not hasattr(self, "seen")
        self.seen = True
        loss = super().forward(x, labels)["loss"]
        return {"loss": loss * 0 if first else loss}


def _rank(group: dict[str, str], folder: Path, said: Any) -> None:
    os.environ |= group
    AcceleratorState._reset_state(reset_partial_state=True)  # its process was no rank
    for model in (Counted(), Mean(), Uneven()):
        made = trainer(folder, model, 2)
        watch_loss(made, "build")
        made.train()
        said.send((type(model), made.model_accepts_loss_kwargs, made.state.global_step))
    said.send(of_rank_0({"eval_f1": 0.5} if made.args.process_index == 0 else {}))


@pytest.mark.timeout(180)
def test_two_workers_agree_and_take_the_metrics_of_rank_0(tmp_path: Path) -> None:
    """In forks: new processes would import everything anew."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fork = multiprocessing.get_context("fork")
    ranks = []
    for rank in ("0", "1"):
        heard, said = fork.Pipe(duplex=False)
        own = {**group, "RANK": rank, "LOCAL_RANK": rank}
        process = fork.Process(target=_rank, args=(own, tmp_path, said))
        process.start()
        said.close()
        ranks.append((process, heard))
    for process, heard in ranks:
        found = [heard.recv() for _ in range(4)]
        assert found == [(Counted, True, 2), (Mean, False, 2), (Uneven, False, 2), {"eval_f1": 0.5}]
        process.join()


class Draws(Trainer):
    """Draws its losses' weights as mixup does: not from the generators of torch."""

    def compute_loss(self, *args: Any, **given: Any) -> Any:
        return (random.random() + np.random.beta(0.4, 0.4)) * super().compute_loss(*args, **given)


def own_loss(made: Trainer) -> Trainer:
    """Replace the loss of this one trainer, as a builder may."""
    loss = made.compute_loss
    made.compute_loss = lambda *args, **given: 10 * loss(*args, **given)  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize(
    ("model", "kind", "changed", "steps"),
    [
        (Counted, Trainer, lambda made: made, 4),
        (Plain, Trainer, lambda made: made, 4),
        (Mean, Trainer, lambda made: made, 1),
        (Counted, Draws, lambda made: made, 2),
        (Counted, Trainer, own_loss, 2),
        (Caches, Trainer, lambda made: made, 2),
        (Teacher, Trainer, lambda made: made, 2),
    ],
    ids=["counted", "plain", "no accumulation", "draws", "own loss", "caches", "teacher"],
)
def test_a_right_loss_trains_to_the_same_bits_as_unwatched(
    tmp_path: Path, model: Any, kind: Any, changed: Callable[[Trainer], Trainer], steps: int
) -> None:
    weights = []
    for watched in (True, False):
        torch.manual_seed(1)
        made = changed(trainer(tmp_path, model(), steps, kind))
        if watched:
            watch_loss(made, "build")
        made.train()
        weights.append({name: value.clone() for name, value in made.model.state_dict().items()})
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())


class Passes(Mean):
    """Counts its passes, which no check can undo."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **more: Any) -> Any:
        self.passes += 1
        return super().forward(x, labels, **more)


@pytest.mark.parametrize(("steps", "passes"), [(2, 2), (4, 3 + 4)], ids=["the same", "other steps"])
def test_a_trial_that_resumes_has_the_result_of_the_check_in_its_state(
    tmp_path: Path, steps: int, passes: int
) -> None:
    first = trainer(tmp_path, Passes(), 2)
    watch_loss(first, "build")
    first.train()
    assert first.model.passes == 3 + 2 * 2
    loss_scale.save(first, tmp_path)
    resumed = trainer(tmp_path, Passes(), steps)
    resumed.args.max_steps = 1
    watch_loss(resumed, "build")
    loss_scale.restore(resumed, tmp_path)
    resumed.train()
    assert resumed.model.passes == passes
    assert not resumed.model_accepts_loss_kwargs


def test_a_mean_loss_that_draws_is_set_right_too(tmp_path: Path) -> None:
    made = trainer(tmp_path, Mean(), 2, Draws)
    watch_loss(made, "build")
    made.train()
    assert not made.model_accepts_loss_kwargs


def test_a_loss_function_that_uses_the_number_is_right(tmp_path: Path) -> None:
    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return (outputs[:, 0] - labels).square().sum() / (num_items_in_batch or len(labels))

    class Bare(torch.nn.Linear):
        def forward(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
            return super().forward(x)

    made = trainer(tmp_path, Bare(2, 1), 4, compute_loss_func=loss)
    made.label_names = ["labels"]
    watch_loss(made, "build")
    made.train()
    assert made.state.global_step == 2


@pytest.mark.parametrize("followed", [False, True])
def test_the_cure_for_a_loss_function_that_is_a_mean_is_one_of_the_function(
    tmp_path: Path, followed: bool
) -> None:
    """`accepts_loss_kwargs` changes nothing for it (transformers 5.17 to 5.23)."""

    class Scores(torch.nn.Linear):
        accepts_loss_kwargs = False

        def forward(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
            return super().forward(x)

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        each = (outputs.squeeze(-1) - labels).square()
        given = followed and num_items_in_batch is not None
        return each.sum() / num_items_in_batch if given else each.mean()

    made = trainer(tmp_path, Scores(2, 1), 2, compute_loss_func=loss)
    made.label_names = ["labels"]
    watch_loss(made, "build")
    if followed:
        made.train()
        return
    with pytest.raises(UserError) as told:
        made.train()
    assert "so the loss is 2 times too large" in str(told.value)
    assert "return loss.sum() / num_items_in_batch" in str(told.value)
    assert "accepts_loss_kwargs" not in str(told.value)
