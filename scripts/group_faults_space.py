"""The search space of `scripts/group_faults.py`: trials of about five seconds, one with a fault.

The trial whose `number` is 0 does what `fault` says, once, in the middle of its training, on its
last rank. All others train as if nothing had happened.
"""

import os
import signal
import threading
import time
from pathlib import Path

import torch
from ray import tune
from transformers import Trainer, TrainerCallback, TrainingArguments

from sweeps import SearchSpace

STEPS, STEP_S, FEATURES = 60, 0.08, 8


class Regression(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, FEATURES), torch.nn.Dropout(0.1), torch.nn.Linear(FEATURES, 1)
        )

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.training:
            time.sleep(STEP_S)
        predicted = self.layers(x).squeeze(-1)
        return {"loss": (predicted - labels).square().mean(), "predicted": predicted}


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def memory() -> None:
    """Allocate all memory of the GPU; without a GPU, raise the same error as PyTorch."""
    if not torch.cuda.is_available():
        raise torch.OutOfMemoryError("CUDA out of memory")
    taken = []
    while True:
        taken.append(torch.empty(2**30, dtype=torch.uint8, device="cuda"))


def hang() -> None:
    threading.Event().wait()


FAULTS = {"kill": kill, "memory": memory, "hang": hang}


class Fault(TrainerCallback):
    """Triggers the fault halfway through, and records when."""

    def __init__(self, fault: str, noted: Path) -> None:
        self.fault, self.noted = fault, noted

    def on_step_end(self, args, state, control, **_) -> None:
        last = args.process_index == args.world_size - 1
        if last and state.global_step == STEPS // 2 and not self.noted.exists():
            self.noted.write_text(str(time.time()))
            FAULTS[self.fault]()


def build(args: TrainingArguments, *, number: int, fault: str = "", noted: str = "") -> Trainer:
    source = torch.Generator().manual_seed(number)
    count = STEPS * 4 * args.world_size  # regardless of the rows at a time
    features = torch.randn(count + 32, FEATURES, generator=source)
    rows = [{"x": x, "labels": x.sum()} for x in features]
    happens = [Fault(fault, Path(noted))] if fault and number == 0 else []
    return Trainer(
        model=Regression(),
        args=args,
        train_dataset=rows[:count],
        eval_dataset=rows[-32:],
        callbacks=happens,
    )


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={"number": tune.choice(list(range(64)))},
    fixed={"num_train_epochs": 1, "per_device_train_batch_size": 4, "learning_rate": 1e-2},
    first_params=[{"number": number} for number in range(64)],
    evals_per_trial=6,
)
