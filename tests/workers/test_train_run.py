"""Starting a group with Ray Train, and finding out why it ended."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.train import ControllerError, RunConfig, ScalingConfig, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)

from sweeps.errors import UserError
from sweeps.workers.train_run import _Trainer, fixable, found_no_room, said_of_ranks

RAY_SAYS = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: RayTrainWorker\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
)


def test_a_group_whose_room_was_taken_by_another_asks_again_and_counts_as_no_failure():
    assert found_no_room(ControllerError(WorkerGroupStartupTimeoutError(num_workers=2)))
    assert not found_no_room(ControllerError(RuntimeError("a hook failed")))
    assert not found_no_room(WorkerGroupError("a rank died", worker_failures={}))
    assert not found_no_room(None)


def test_of_a_process_that_died_what_ray_says_of_it_is_told_in_one_line():
    dead = WorkerHealthCheckFailedError("A worker failed", failure=RuntimeError(RAY_SAYS))
    raised = ValueError("bad\nrows")
    lost = WorkerGroupError("two ranks failed", worker_failures={1: dead, 0: raised})
    assert said_of_ranks(lost) == {
        0: "ValueError: bad rows",
        1: "RuntimeError: The actor is dead because its worker process has died. Worker exit type:"
        " SYSTEM_ERROR",
    }
    assert said_of_ranks(ControllerError(RuntimeError("lost"))) == {}


def test_what_the_user_can_fix_is_found_among_the_ranks():
    refused = UserError("no such folder")
    lost = WorkerGroupError("", worker_failures={0: RuntimeError("lost"), 1: refused})
    assert fixable(lost) is refused
    assert fixable(WorkerGroupError("", worker_failures={0: RuntimeError("lost")})) is None
    assert fixable(ControllerError(RuntimeError("lost"))) is None


def test_the_train_function_goes_along_with_the_calls_and_not_into_the_object_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """What the sweep process has put there ends it when its node is gone."""
    given: dict[str, Any] = {}

    def run_controller(_: _Trainer, **options: Any) -> SimpleNamespace:
        given.update(options)
        return SimpleNamespace(error=None)

    def put(*_: Any) -> None:
        pytest.fail("something is put into the object store")

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(_Trainer, "_initialize_and_run_controller", run_controller)
    trainer = _Trainer(
        lambda config: (tmp_path / config["name"]).write_text("trained"),
        train_loop_config={"name": "group3"},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(name="group3", storage_path=str(tmp_path)),
    )
    trainer.fit()
    cloudpickle.loads(cloudpickle.dumps(given["train_fn_ref"])).get()()
    assert (tmp_path / "group3").read_text() == "trained"
