"""A builder whose loss HF scales wrongly is named at the first step; others train as before."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from sweeps.errors import UserError
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


class Plain(Mean):
    """No `**kwargs`: HF hands in no number."""

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return super().forward(x, labels)


class OwnLoss(Trainer):
    """The way of most scripts: the mean is taken in the trainer."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # type: ignore[no-untyped-def]
        return model(**inputs)["loss"]


def trainer(tmp_path: Path, model: Any, steps: int, kind: Any = Trainer, **more: Any) -> Any:
    args = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
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


def test_a_mean_loss_behind_kwargs_is_named_with_its_factor_and_the_cure(tmp_path: Path) -> None:
    made = trainer(tmp_path, Mean(), 4)
    watch_loss(made, "build")
    with pytest.raises(UserError) as caught:
        made.train()
    assert str(caught.value) == (
        "build_trainer (build): HF makes the loss of Mean 4 times too large on 1 worker with"
        " gradient_accumulation_steps=4: it takes forward(**kwargs) for a model that divides by"
        " num_items_in_batch, and this one does not; set model.accepts_loss_kwargs = False before"
        " the Trainer is created"
    )


def test_a_mean_taken_in_the_trainer_is_named_too(tmp_path: Path) -> None:
    made = trainer(tmp_path, Mean(), 2, OwnLoss)
    watch_loss(made, "build")
    with pytest.raises(UserError, match="2 times too large on 1 worker with"):
        made.train()


RANK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_loss_scale import Counted, Mean, trainer
from sweeps.errors import UserError
from sweeps.workers.loss_scale import watch_loss
from sweeps.workers.reported_numbers import of_rank_0

for model in (Counted(), Mean()):
    made = trainer(Path(sys.argv[2]), model, 2)
    watch_loss(made, "build")
    try:
        made.train()
    except UserError as error:
        print(str(error).split(":")[1])
    else:
        print(type(model).__name__, made.state.global_step)
print("F1", *of_rank_0({"eval_f1": 0.5} if made.args.process_index == 0 else {}).values())
"""


def test_two_workers_count_in_the_factor_and_take_the_metrics_of_rank_0(tmp_path: Path) -> None:
    """One test, since two processes take long to start."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(Path(__file__).parent), str(tmp_path)],
            env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for rank in ranks:
        said = [line for line in rank.communicate()[0].splitlines() if not line.startswith("{")]
        assert said == [
            "Counted 2",
            " HF makes the loss of Mean 4 times too large on 2 workers with"
            " gradient_accumulation_steps=2",
            "F1 0.5",
        ]


def test_the_same_model_with_the_cure_trains(tmp_path: Path) -> None:
    model = Mean()
    model.accepts_loss_kwargs = False  # type: ignore[assignment]
    made = trainer(tmp_path, model, 4)
    watch_loss(made, "build")
    made.train()
    assert made.state.global_step == 2


@pytest.mark.parametrize(("kind", "steps"), [(Counted, 4), (Plain, 4), (Mean, 1)])
def test_a_right_loss_trains_to_the_same_bits_as_unwatched(
    tmp_path: Path, kind: Any, steps: int
) -> None:
    weights = []
    for watched in (True, False):
        torch.manual_seed(1)
        made = trainer(tmp_path, kind(), steps)
        if watched:
            watch_loss(made, "build")
        made.train()
        weights.append({name: value.clone() for name, value in made.model.state_dict().items()})
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
    assert "compute_loss" not in vars(made)


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
    assert "makes the loss of compute_loss_func 2 times too large" in str(told.value)
    assert "return loss.sum() / num_items_in_batch" in str(told.value)
    assert "accepts_loss_kwargs" not in str(told.value)
