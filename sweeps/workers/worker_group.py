"""The warm worker groups: one `TorchTrainer` each, started, watched and replaced.

Runs in the sweep process, a thread a group. It must not know trials: the exchange tells which job
a lost group had.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer

from sweeps.errors import SweepError, UserError
from sweeps.workers.size import Size

COLLECTIVE_TIMEOUT_S = 1800
"""After this a rank that waits for a silent peer gives up."""
START_FAILURES = 3
"""A group that is lost so often in a row before it takes a job cannot start at all."""


class WorkerGroups:
    """Keeps `count` groups alive until they are told to finish.

    Args:
        count: Groups.
        size: Of each.
        exchange: Where they take their jobs.
        scratch: Folder for Ray Train's own files.
        variables: Environment variables of the workers, beyond the Ray job's own.
        on_fault: Called when no group can go on.
    """

    def __init__(
        self,
        count: int,
        size: Size,
        exchange: ActorHandle,
        scratch: Path,
        variables: Mapping[str, str],
        on_fault: Callable[[SweepError], None],
    ) -> None:
        self._size = size
        self._exchange = exchange
        self._scratch = scratch
        self._variables = variables
        self._on_fault = on_fault
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._keep, args=(slot,), name=f"group slot {slot}", daemon=True
            )
            for slot in range(count)
        ]
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start all groups; returns at once."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float) -> bool:
        """Wait for the groups to end after the exchange let them go; tell whether all have."""
        self._closing.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _keep(self, slot: int) -> None:
        failures = 0
        while not self._closing.is_set():
            group = next(self._numbers)
            error = self._fit(group)
            if self._closing.is_set():
                return
            if error is None:  # a group of --fresh-workers has done its job
                failures = 0
                continue
            died = _deaths(error)
            try:
                had_job = ray.get(self._exchange.group_lost.remote(group, died))
            except ray.exceptions.RayError as lost:
                self._on_fault(SweepError(f"the exchange is lost: {lost}"))
                return
            if not had_job and (fixable := _fixable(error)) is not None:
                self._on_fault(fixable)
                return
            failures = 0 if had_job else failures + 1
            if failures == START_FAILURES:
                self._on_fault(SweepError(f"no worker group can start: {error}"))
                return

    def _fit(self, group: int) -> Exception | None:
        """Run one group to its end; return what ended it, None for a good end."""

        def loop(config: dict[str, Any]) -> None:
            # Nested, so that it travels by value: a failing import is then an ordinary error of
            # the train function, and its placement group is freed (ray 2.60).
            from sweeps.workers.worker_loop import work

            work(config["exchange"], config["group"])

        size = self._size
        trainer = TorchTrainer(
            loop,
            train_loop_config={"exchange": self._exchange, "group": group},
            torch_config=TorchConfig(
                backend="nccl" if size.gpus_per_worker else "gloo",
                timeout_s=COLLECTIVE_TIMEOUT_S,
            ),
            scaling_config=ScalingConfig(
                num_workers=size.workers,
                use_gpu=size.gpus_per_worker > 0,
                resources_per_worker={
                    "CPU": size.cpus_per_worker,
                    **({"GPU": size.gpus_per_worker} if size.gpus_per_worker else {}),
                },
            ),
            run_config=RunConfig(
                name=f"group{group}",
                storage_path=str(self._scratch),
                worker_runtime_env={"env_vars": dict(self._variables)},
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            return error
        return None


def _deaths(error: Exception) -> dict[int, str]:
    """Return what Train says of each failed rank, in one line each."""
    if not isinstance(error, WorkerGroupError):
        return {}
    return {
        rank: f"{type(failure).__name__}: {failure}".split("\n")[0]
        for rank, failure in sorted(error.worker_failures.items())
    }


def _fixable(error: Exception) -> UserError | None:
    """Return what a worker refused to start with and the user can fix."""
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    return next((failure for failure in failures if isinstance(failure, UserError)), None)
