"""One run of Ray Train, which is one worker group: its resources, its workers, and its end.

Runs in the sweep process, in the thread of the group. It must not know about jobs.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.controller import TrainController
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.state import list_actors

from sweeps.errors import UserError
from sweeps.workers.group_size import GroupSize
from sweeps.workers.rendezvous import torch_config
from sweeps.workers.rows.row_source import stream

if TYPE_CHECKING:
    from datasets import Dataset

COLLECTIVE_TIMEOUT_S = 1800
"""Time after which a rank stops waiting for a silent peer."""
LOOK_S = 2.0
"""Seconds between two checks for whether a group that is waiting for resources is still wanted."""
MESSAGE = 300
"""Maximum number of characters kept of Ray's message about a dead process."""


def wait_for_room(size: GroupSize, wanted: Callable[[], bool]) -> bool:
    """Wait until the cluster has the resources for a group; return False if it is no longer wanted.

    Ray Train waits for them as well, but its wait cannot be interrupted and its request cannot be
    withdrawn (ray 2.60). So the resources are requested here first, and then released for Train.
    """
    if not wanted():
        return False
    room = placement_group([_resources(size)] * size.workers)
    try:
        while wanted():
            if room.wait(LOOK_S):
                return True
        return False
    finally:
        remove_placement_group(room)


def lacking(size: GroupSize) -> str:
    """Return what a group needs and what the cluster has free, as text."""
    free = ray.available_resources()
    return "; ".join(
        f"{size.workers * each:g} {name} needed, {free.get(name, 0.0):g} free"
        for name, each in _resources(size).items()
    )


def _resources(size: GroupSize) -> dict[str, float]:
    """Return the resources of one worker."""
    gpus = {"GPU": size.gpus_per_worker} if size.gpus_per_worker else {}
    return {"CPU": float(size.cpus_per_worker), **gpus}


class _Trainer(TorchTrainer):
    """Ray Train's trainer, which puts nothing into the object store: see `Exchange.returned`.

    Train puts the train function there (2.60). Here it is sent with each call, since it is small.
    """

    fit = FunctionType(
        TorchTrainer.fit.__code__,
        {
            **TorchTrainer.fit.__globals__,
            "ObjectRefWrapper": lambda train_fn: SimpleNamespace(get=lambda: train_fn),
        },
    )


def run(
    size: GroupSize,
    exchange: ActorHandle,
    group: int,
    scratch: Path,
    variables: Mapping[str, str],
    rows: Dataset | None,
) -> Exception | None:
    """Run a group to its end; return the error that ended it, or None."""

    def loop(config: dict[str, Any]) -> None:
        # Nested, so that it is pickled by value: a failing import is then an ordinary error of the
        # train function, and the placement group is freed (ray 2.60).
        from sweeps.workers.worker_loop import work

        work(config["exchange"], config["group"])

    trainer = _Trainer(
        loop,
        train_loop_config={"exchange": exchange, "group": group},
        **({} if rows is None else stream(rows)),
        torch_config=torch_config(
            "nccl" if size.gpus_per_worker else "gloo", timeout_s=COLLECTIVE_TIMEOUT_S
        ),
        scaling_config=ScalingConfig(
            num_workers=size.workers,
            use_gpu=size.gpus_per_worker > 0,
            resources_per_worker=_resources(size),
        ),
        run_config=RunConfig(
            name=f"group{group}",
            storage_path=str(scratch),
            worker_runtime_env={"env_vars": dict(variables)},
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        return error
    return None


def kill_all() -> None:
    """Kill all groups of this process's Ray job; `run` then returns an error.

    Ray Train has no call for that from another thread (2.60). But a controller runs on the node of
    the process that started it, and its workers end with it.
    """
    here = ray.get_runtime_context()
    ours = {
        "class_name": TrainController.__name__,
        "job_id": here.get_job_id(),
        "node_id": here.get_node_id(),  # unlike a job's, no other Ray on this machine has it
        "state": "ALIVE",
    }
    # Without an address, Ray asks the one that was started last.
    found = list_actors(here.gcs_address, [(name, "=", value) for name, value in ours.items()])
    for controller in found:
        with suppress(ProcessLookupError):
            os.kill(controller.pid, signal.SIGKILL)


def found_no_room(error: Exception | None) -> bool:
    """Tell whether something else took the group's resources before Ray Train could."""
    return isinstance(error, ControllerError) and isinstance(
        error.controller_failure, WorkerGroupStartupTimeoutError
    )


def said_of_ranks(error: Exception) -> dict[int, str]:
    """Return Ray Train's message for each rank that failed, one line each."""
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    return {rank: _in_one_line(failure) for rank, failure in sorted(failures.items())}


def _in_one_line(failure: BaseException) -> str:
    """Return Ray Train's message for a rank or, if it died, Ray's message about its process."""
    cause = getattr(failure, "health_check_failure", None) or failure
    text = " ".join(str(cause).split())
    why = re.search(r"The actor (is dead|died) because.*", text)
    return f"{type(cause).__name__}: {(why.group() if why else text)[:MESSAGE]}"


def fixable(error: Exception) -> UserError | None:
    """Return the error that the user can fix and that kept a worker from starting, if any."""
    failures = error.worker_failures.values() if isinstance(error, WorkerGroupError) else ()
    return next((failure for failure in failures if isinstance(failure, UserError)), None)
