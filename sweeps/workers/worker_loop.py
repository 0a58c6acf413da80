"""The life of a worker: take a job, train it, report, take the next.

Runs in every process of a worker group, from its start to its end. It must not know how jobs are
chosen.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import psutil
import ray
import ray.train
import torch
import transformers
from ray.actor import ActorHandle

from sweeps.errors import SweepError
from sweeps.records.folder import SweepFolder
from sweeps.records.log_reading import job_line, worker_log
from sweeps.secrets import redact_output
from sweeps.space.arguments import Devices
from sweeps.space.no_command_line import without_command_line
from sweeps.space.search_space import SearchSpace
from sweeps.workers.failures.raised_errors import describe, readable
from sweeps.workers.gpu_use import GpuUse
from sweeps.workers.host_memory import memory_kills
from sweeps.workers.isolation.isolated import Isolated
from sweeps.workers.job import SMOKE, Definition, Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.messages import Departure, Member
from sweeps.workers.pickled_space import import_libraries, opened
from sweeps.workers.ranks import of_all_ranks
from sweeps.workers.shared_storage import own_code, own_folder
from sweeps.workers.signals import Signals
from sweeps.workers.smoke_run import smoke
from sweeps.workers.training import train
from sweeps.workers.watch import Watch

logger = logging.getLogger("sweeps")


def work(exchange: ActorHandle, group: int) -> None:
    """Take jobs until there are no more.

    Raises:
        SweepError: A job failed, which was reported to the exchange; this ends the group.
    """
    rank = ray.train.get_context().get_world_rank()
    here = Member(
        node=ray.get_runtime_context().get_node_id(),
        gpu=next((str(gpu) for gpu in ray.get_gpu_ids()), None),
        memory_kills=memory_kills(),
    )
    definition: Definition = ray.get(exchange.hello.remote(group, rank, here))
    definition = replace(definition, folder=own_folder(definition.folder))
    log = worker_log(definition.folder, group, rank)
    _write_to(log)
    _set_up_output()
    os.environ.update(definition.secrets)
    code = own_code(definition.folder)
    watch = Watch(exchange, group, rank, definition.folder.logs, definition.stall_timeout_s)
    watch.start()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        # Ray sets this to the CPUs of a worker (2.60), after a forked worker has imported torch.
        torch.set_num_threads(int(threads.split(",")[0]))
    if definition.workers == 1 and not definition.gpu:
        # With this variable, accelerate wraps even the model of a single CPU worker in DDP (1.15),
        # which then looks for unused parameters at each step, and warns about that.
        os.environ.pop("LOCAL_RANK", None)
    devices = _devices(definition)
    _stand_in(definition.started_in, definition.folder)
    isolated = Isolated()
    import_libraries(definition.space, code)
    worker = _Worker(
        exchange=exchange,
        group=group,
        rank=rank,
        definition=definition,
        code=code,
        devices=devices,
        isolated=isolated,
    )
    use = GpuUse(lambda measured: ray.get(exchange.tell.remote(group, measured)))
    turn = 0
    while (job := ray.get(exchange.next_job.remote(group, turn))) is not None:
        _write_to(log)  # an earlier job may have redirected the output
        logger.info(job_line(job.trial, job.attempt, job.seed, job.params, _memory_left()))
        with watch.over(job) as signals, _measured(use, definition, job, signals):
            train_s = worker.run(job, signals)
        patched = isolated.end_job()
        departure = Departure(
            rank=rank,
            train_s=train_s,
            memory=_own_memory(),
            memory_kills=memory_kills(),
            reason=signals.left_by,
            patched=patched,
            own_files=isolated.own_files,
        )
        ray.get(exchange.left.remote(group, departure))
        turn += 1


@dataclass(frozen=True, kw_only=True)
class _Worker:
    """This process, which trains one job of its group after another."""

    exchange: ActorHandle
    group: int
    rank: int
    definition: Definition
    code: Path
    """The sweep's copy of the space's folder."""
    devices: Devices
    isolated: Isolated

    def run(self, job: Job, signals: Signals) -> float:
        """Train one job; report its error to the exchange before its peers notice.

        Returns:
            Seconds inside `Trainer.train()`.
        """
        try:
            self.isolated.begin_job()
            space = self._imported(job)
            by_all = all(of_all_ranks(space is not None))  # all train, or all leave
            if space is None or not by_all:
                signals.left_by = "misplaced"
                return 0.0
            alike: dict[str, Any] = {
                "devices": self.devices,
                "folder": self.definition.folder,
                "link": self._link(job, signals),
                "signals": signals,
            }
            if job.trial == SMOKE:
                smoke(space, job, **alike)
                return 0.0
            return train(space, job, fits=self._fits, **alike)
        except (Exception, SystemExit) as error:
            text = readable(traceback.format_exc())
            logger.error(text)
            described = describe(
                error,
                text,
                rank=self.rank,
                phase=signals.phase,
                definition=self.definition,
                code=self.code,
            )
            ray.get(self.exchange.failed.remote(self.group, described))
            # Ray would log its cause, unredacted.
            raise SweepError(described.message) from None

    def _link(self, job: Job, signals: Signals) -> Link:
        exchange, group = self.exchange, self.group

        def answer(number: int) -> Reply:
            with signals.wait():
                decided: Reply = ray.get(exchange.answer.remote(job.trial, number))
            return decided

        return Link(
            report=lambda report: ray.get(exchange.report.remote(group, report)),
            answer=answer,
            announce=lambda event: ray.get(exchange.tell.remote(group, event)),
            name_step=lambda step: ray.get(exchange.save_at.remote(group, step)),
        )

    def _fits(self) -> bool:
        return all(of_all_ranks(self.isolated.fits(self.code)))

    def _imported(self, job: Job) -> SearchSpace | None:
        """Return the space; None if only a new process can import its code."""
        try:
            with without_command_line():
                return opened(self.definition.space, self.code)
        except Exception:
            if self.isolated.is_fresh:
                raise
            # A library may refuse to register the same thing a second time in one process.
            logger.warning(
                "the code cannot be imported again in this process; %s moves to new processes",
                job.trial,
                exc_info=True,
            )
            return None


def _measured(
    use: GpuUse, definition: Definition, job: Job, signals: Signals
) -> AbstractContextManager[None]:
    return use.of(job, signals) if definition.measures_gpu else nullcontext()


def _stand_in(started_in: Path, folder: SweepFolder) -> None:
    """Change to the folder that the sweep was started in or, on a node without it, `written`."""
    here = started_in if started_in.is_dir() else folder.written
    here.mkdir(parents=True, exist_ok=True)
    os.chdir(here)


def _devices(definition: Definition) -> Devices:
    """Return the devices of a job; all ranks agree on bfloat16."""
    bf16 = definition.gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    bf16 = all(of_all_ranks(bf16))
    cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    return Devices(workers=definition.workers, gpu=definition.gpu, bf16=bf16, cpus=int(cpus))


def _own_memory() -> int:
    """Return how many bytes of host memory only this process uses, without mapped files."""
    memory = psutil.Process().memory_info()  # the exact `uss` takes 0.1 s on a machine with a GPU
    return int(memory.rss - memory.shared)


def _memory_left() -> str:
    """Return a text about the memory that earlier jobs have left in use on this GPU."""
    if not torch.cuda.is_available():
        return "no GPU"
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    return f"CUDA memory {allocated / 2**20:.0f} MiB allocated, {reserved / 2**20:.0f} MiB reserved"


def _write_to(log: Path) -> None:
    """Redirect the output of this process, including that of C libraries, to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _set_up_output() -> None:
    """Hide secrets in the output, and set what libraries write to it."""
    redact_output()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logger.setLevel(logging.INFO)
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("ray.train").setLevel(logging.WARNING)
