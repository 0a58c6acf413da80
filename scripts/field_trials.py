"""Worker groups for scripts: each process trains trials one after another, as a worker does.

It does not use Ray: the owner of the group sends the same trial to all ranks through pipes, and the
decision on each report is known in advance.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import os
import random
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import torch.distributed as dist
import transformers
from ray import tune

from sweeps import SearchSpace
from sweeps.builders.base import TINY, Prepared
from sweeps.builders.data.prepared_data import prepared_in
from sweeps.builders.text_classification import TextClassification
from sweeps.ports import held_port
from sweeps.records.events import CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space.arguments import Devices, argument_fields, trial_seed
from sweeps.space.checks import check_space
from sweeps.workers.isolation.isolated import Isolated
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.signals import Signals
from sweeps.workers.training import train

REPORTS = 2
"""Number of reports of a trial. The first is in the middle of an epoch, and between two log
entries."""
FIXED = {
    "per_device_train_batch_size": 16,
    "num_train_epochs": 3,
    "learning_rate": 5e-4,
    "logging_steps": 2,
    "seed": 17,
}
LIMIT_S = 400
"""Seconds after which a trial counts as hanging."""
CLOCKS = ("runtime", "per_second", "_mem_")
"""Parts of the names of metrics that differ between identical trials."""


class Drawn(torch.utils.data.Dataset[Any]):
    """Rows whose tokens are masked at random, using every generator of the process."""

    def __init__(self, rows: datasets.Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return masked(self.rows[index])


def masked(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with a fifth of its tokens masked."""
    drawn = (random.random(), float(np.random.rand()), float(torch.rand(())))
    keep = [drawn[i % 3] * (i + 1) % 1 > 0.2 for i in range(len(row["input_ids"]))]
    tokens = [token if kept else 1 for token, kept in zip(row["input_ids"], keep, strict=True)]
    return {**row, "input_ids": tokens}


def masks(collate: Any, rows: list[Any]) -> Any:
    """Return a batch of rows with masked tokens."""
    return collate([masked(row) for row in rows])


@dataclass(frozen=True, kw_only=True)
class Rows(TextClassification):
    """The shipped tiny classifier, or a small causal model with the chosen attention."""

    kind: str = "classifier"
    """`classifier` or `causal`."""
    attention: str | None = None
    """The attention of the causal model."""
    drawn: str | None = None
    """Where tokens are masked at random: `in the collator` or `in the rows`."""

    def __call__(self, args: Any, *, data: Prepared) -> Any:
        if self.kind == "causal":
            return self._causal(args, data)
        trainer = super().__call__(args, data=data)
        if self.drawn == "in the collator":
            trainer.data_collator = functools.partial(masks, trainer.data_collator)
        elif self.drawn == "in the rows":
            trainer.train_dataset = Drawn(data.train)
        return trainer

    def _causal(self, args: Any, data: Prepared) -> Any:
        config = transformers.LlamaConfig(
            vocab_size=len(data.tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=2,
            attn_implementation=self.attention,
        )
        return transformers.Trainer(
            transformers.AutoModelForCausalLM.from_config(config),
            args,
            data_collator=transformers.DataCollatorForLanguageModeling(data.tokenizer, mlm=False),
            train_dataset=data.train.remove_columns("labels"),
            eval_dataset=data.eval.remove_columns("labels"),
            processing_class=data.tokenizer,
        )


BUILDER = Rows(
    model=str(TINY / "model"),
    dataset=str(TINY / "dataset"),
    train_rows=96,
    eval_rows=32,
    max_tokens=64,
)


def space_of(values: Mapping[str, Any]) -> SearchSpace:
    """Return a space whose trials have these values.

    Raises:
        UserError: A space must not set them.
    """
    fixed = {**FIXED, **values}
    rate = fixed.pop("learning_rate")
    space = SearchSpace(
        build_trainer=BUILDER,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.uniform(rate / 2, rate)},
        fixed=fixed,
        evals_per_trial=REPORTS,
    )
    check_space(space, argument_fields(space.build_trainer), "fields")
    return space


@dataclass(frozen=True)
class Trial:
    """What a group does next."""

    name: str
    values: Mapping[str, Any]
    pauses: bool = False
    """Whether it saves its state at the first report and then leaves."""
    checkpoint: str | None = None
    """The state that it continues from."""


@dataclass
class Outcome:
    """What one rank of a trial returns."""

    numbers: list[dict[str, Any]] = field(default_factory=list)
    """Metrics and log entries of each report, without clocks."""
    weights: str | None = None
    """Digest of the weights at its end."""
    best: str | None = field(default=None, compare=False)
    """The folder of these weights, relative to the sweep's folder."""
    state: str | None = None
    """The saved state, relative to the sweep's folder."""
    error: str | None = None
    replaced: bool = False
    """Whether the trial needs new processes, as it does not match the patches of earlier trials."""


class Group:
    """Processes that together train one trial at a time.

    Args:
        workers: The number of processes.
        gpu: Whether each has a GPU.
        folder: The folder of checkpoints.
        train: Trains, in each process, what `run` receives; None: trains a `Trial`.
    """

    def __init__(self, workers: int, gpu: bool, folder: Path, train: Any = None) -> None:
        # A library may use a GPU on import (bitsandbytes), which does not survive a fork.
        context = multiprocessing.get_context("spawn" if gpu else "forkserver")
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
        with held_port("127.0.0.1") as port:
            pass  # rank 0 binds it
        self._pipes, self._processes = [], []
        for rank in range(workers):
            here, there = context.Pipe()
            given = (there, rank, workers, gpu, port, folder, train or _train)
            process = context.Process(target=serve, args=given)
            process.start()
            there.close()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, trial: Any) -> Outcome:
        """Return the outcome of rank 0, or of the first rank that raised."""
        for pipe in self._pipes:
            pipe.send(trial)
        waiting, outcomes = list(self._pipes), dict[Any, Outcome]()
        while waiting:
            ready = wait(waiting, timeout=LIMIT_S)
            if not ready:
                return Outcome(error=f"still running after {LIMIT_S} s")
            for pipe in ready:
                assert isinstance(pipe, Connection)
                waiting.remove(pipe)
                try:
                    outcomes[pipe] = pipe.recv()
                except (EOFError, ConnectionResetError):
                    outcomes[pipe] = Outcome(error="the process died")
                if outcomes[pipe].error:
                    return outcomes[pipe]
        return outcomes[self._pipes[0]]

    def end(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()


def serve(
    pipe: Connection, rank: int, workers: int, gpu: bool, port: int, folder: Path, train: Any
) -> None:
    """Train what arrives through the pipe, as `workers/worker_loop.py` trains jobs."""
    logs = (folder / f"group-{os.getpid()}.log").open("w")
    os.dup2(logs.fileno(), 1)
    os.dup2(logs.fileno(), 2)
    logging.basicConfig()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as in a Ray worker
    device = f"cuda:{rank}" if gpu else "cpu"
    os.environ |= {  # as Ray Train sets them
        "LOCAL_RANK": str(rank),
        "RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(workers),
        "WORLD_SIZE": str(workers),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_TORCH_DEVICE": device,
    }
    if gpu:
        torch.cuda.set_device(rank)
    backend, limit = "nccl" if gpu else "gloo", timedelta(seconds=LIMIT_S)
    dist.init_process_group(backend, rank=rank, world_size=workers, timeout=limit)
    isolated = Isolated()
    devices = Devices(workers=workers, gpu=gpu, bf16=gpu)
    while True:
        try:
            trial = pipe.recv()
        except EOFError:
            return
        pipe.send(train(trial, isolated, devices, SweepFolder(folder / "fields")))


def train_job(
    make_space: Callable[[], SearchSpace],
    ask: Callable[[int], Reply],
    isolated: Isolated,
    devices: Devices,
    folder: SweepFolder,
    *,
    trial: str,
    rate: float,
    checkpoint: str | None,
) -> Outcome:
    """Train a trial in a process of a group, as a worker does.

    Args:
        make_space: Returns its space, which tunes only `learning_rate`.
        ask: Returns the decision on each report.
        isolated: The process.
        devices: The devices of the group.
        folder: The sweep's folder.
        trial: Trial id.
        rate: Its learning rate.
        checkpoint: The state that it continues from.
    """
    reports, saved, signals = list[Report](), list[CheckpointSaved](), Signals()
    params = {"learning_rate": rate}
    try:
        isolated.begin_job()
        space = make_space()
        seed = trial_seed(space, params, 0)
        train(
            space,
            Job(trial=trial, attempt=1, params=params, seed=seed, checkpoint=checkpoint),
            devices=devices,
            folder=folder,
            link=Link(
                report=reports.append, answer=ask, announce=saved.append, name_step=lambda _: None
            ),
            signals=signals,
            fits=lambda: isolated.fits(folder.code),
        )
    except Exception as error:
        traceback.print_exc()
        return Outcome(error=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
    finally:
        isolated.end_job()
    best = next((event for event in saved if event.kind == "best"), None)
    return Outcome(
        numbers=[_numbers(report) for report in reports],
        weights=best.sha256 if best else None,
        best=best.path if best else None,
        state=next((event.path for event in saved if event.kind == "state"), None),
        replaced=signals.left_by == "misplaced",
    )


def _train(trial: Trial, isolated: Isolated, devices: Devices, folder: SweepFolder) -> Outcome:
    pause = Reply("pause", save_best=False, save_state=True)
    last = Reply("continue", save_best=True, save_state=False)
    others = Reply("continue", save_best=False, save_state=False)
    answers = {1: pause if trial.pauses else others, REPORTS: last}
    return train_job(
        lambda: space_of(trial.values),
        answers.__getitem__,
        isolated,
        devices,
        folder,
        trial=trial.name,
        rate={**FIXED, **trial.values}["learning_rate"],
        checkpoint=trial.checkpoint,
    )


def _numbers(report: Report) -> dict[str, Any]:
    metrics = {k: v for k, v in report.metrics.items() if not any(part in k for part in CLOCKS)}
    entries = [(entry.step, entry.loss, entry.learning_rate) for entry in report.log_entries]
    return {"step": report.step, "metrics": metrics, "log": entries}


def prepare(folder: Path) -> None:
    """Prepare the rows of all trials."""
    with prepared_in(SweepFolder(folder / "fields").prepared):
        BUILDER.prepare()


def scratch() -> Path:
    """Return a new folder for checkpoints, in memory where there is room for them."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fields-", dir=memory if memory.is_dir() else None))
