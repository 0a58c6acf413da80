"""What all ways of `peers.py` train: the same model, rows, params and evaluations.

Imported by the command that compares, by each of the ways, and by their workers. Each trial also
records when its `Trainer.train()` began, took its first step, and ended.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeps import TextClassification
from sweeps.builders.base import Prepared

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

EVALUATIONS = 8
"""Number of evaluations of a trial."""
SMOKE = "-smoke/"
"""Part of the output folder of a sweep's smoke run, which is not a trial."""


@dataclass(frozen=True, kw_only=True)
class Marked(TextClassification):
    """The shipped builder, with trainers that record their times."""

    marks: str
    """File that the times are written to."""

    def __call__(self, args: TrainingArguments, *, data: Prepared) -> Trainer:
        """Return the trainer."""
        trainer = super().__call__(args, data=data)
        if SMOKE not in f"{args.output_dir}/":
            trainer.add_callback(notes_to(self.marks))
        return trainer


def notes_to(file: str) -> Any:
    """Return a callback that appends the times of a trial to a file."""
    from transformers import TrainerCallback

    class Notes(TrainerCallback):
        def __init__(self) -> None:
            self.stepped = False

        def note(self, what: str, args: Any, state: Any) -> None:
            if state.is_world_process_zero:
                line = {"what": what, "time": time.time(), "steps": state.global_step}
                line |= {"learning_rate": args.learning_rate, "device": device_of(args)}
                with Path(file).open("a") as out:  # one short write, so lines do not mix
                    out.write(json.dumps(line | {"process": os.getpid()}) + "\n")

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.stepped = False
            self.note("begin", args, state)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not self.stepped:
                self.stepped = True
                self.note("step", args, state)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.note("end", args, state)

    return Notes()


def device_of(args: Any) -> str:
    """Return which device a process trains on: a GPU by its UUID, or `cpu`."""
    if args.device.type != "cuda":
        return "cpu"
    import torch

    return str(torch.cuda.get_device_properties(args.device).uuid)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The trials, and what each of them trains."""

    model: str
    dataset: str
    max_tokens: int
    train_rows: int | None
    eval_rows: int | None
    rates: tuple[float, ...]
    """The learning rate of each trial."""
    epochs: int
    rows_per_step: int
    """Rows per step, over all workers per trial."""
    seed: int
    gpu: bool
    workers: int
    """Number of processes of a trial."""
    at_once: int
    """Number of groups of devices that train in parallel: each is a CPU, or `workers` GPUs."""
    work: str
    """Folder for files."""

    @classmethod
    def read(cls, file: Path) -> Workload:
        """Return what `write` wrote."""
        values = json.loads(file.read_text())
        return cls(**{**values, "rates": tuple(values["rates"])})

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(asdict(self)))

    @property
    def cpus(self) -> int:
        """CPUs of a worker, as `sweeps` assigns them: a fraction of the node's CPUs, 1 to 8."""
        if not self.gpu:
            return 1
        return max(1, min(8, (os.cpu_count() or 1) // (self.workers * self.at_once)))

    @property
    def marks(self) -> Path:
        """The file of the trials' times."""
        return Path(self.work) / "marks.jsonl"

    @property
    def builder(self) -> Marked:
        """The builder of all trials."""
        return Marked(
            model=self.model,
            dataset=self.dataset,
            max_tokens=self.max_tokens,
            train_rows=self.train_rows,
            eval_rows=self.eval_rows,
            marks=str(self.marks),
        )

    def arguments(self, rate: float) -> TrainingArguments:
        """Return a trial's arguments, as `sweeps` would set them: precision, loaders."""
        from transformers import TrainingArguments

        loaders = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
        return TrainingArguments(
            output_dir=f"{self.work}/trial",
            learning_rate=rate,
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.rows_per_step // self.workers,
            eval_strategy="steps",
            eval_steps=1 / EVALUATIONS,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=self.seed,
            use_cpu=not self.gpu,
            bf16=self.gpu,
            **loaders if self.gpu else {},
        )
