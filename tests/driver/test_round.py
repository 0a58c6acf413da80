"""A round where Ray runs calls in another order than they were made, or dies."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.driver import cluster
from sweeps.driver import round as round_module
from sweeps.driver.round import Round
from sweeps.errors import RayIsGone
from sweeps.records.folder import SweepFolder
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import SMOKE, Definition, Job
from sweeps.workers.messages import Member


class LatestFirst:
    """A handle of an exchange: calls run when one is waited for, the latest first."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._calls: list[Coroutine[Any, Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*args: Any) -> Coroutine[Any, Any, Any]:
            self._calls.append(getattr(self._exchange, name)(*args))
            return self._calls[-1]

        return SimpleNamespace(remote=remote)

    def run(self, _: object = None) -> None:
        """Run the calls."""
        while self._calls:
            asyncio.run(self._calls.pop())


def test_no_trial_comes_before_the_smoke_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smoke, trial = (
        Job(trial=name, attempt=1, params={}, seed=0, checkpoint=None) for name in (SMOKE, "t001")
    )
    definition = Definition(
        space=b"",
        folder=SweepFolder(tmp_path),
        workers=1,
        gpu=False,
        measures_gpu=False,
        fresh_workers=False,
        started_in=tmp_path,
        stall_timeout_s=60,
        secrets={},
    )
    exchange = Exchange(definition, 1)
    handle = LatestFirst(exchange)
    monkeypatch.setattr(round_module.ray, "get", handle.run)
    part: Any = Round.__new__(Round)
    part._exchange, part._open = handle, set()
    part._control = SimpleNamespace(smoke_job=lambda: smoke, next_trial=lambda: (trial, {}))
    part._begin_smoke()
    part._hand_out()
    handle.run()

    async def taken() -> tuple[Job | None, tuple[str, int] | None]:
        await exchange.hello(1, 0, Member(node="here", gpu=None, memory_kills=0))
        job = await asyncio.wait_for(exchange.next_job(1, 0), timeout=30)
        return job, await exchange.ask_for_trial()

    assert asyncio.run(taken()) == (smoke, ("t001", 1))


RAYLET = cluster.Part("raylet", "127.0.0.1", 1)
GCS = cluster.Part("GCS", "127.0.0.1", 2, patience_s=cluster.CLUSTER_AWAY_S)


class Watched:
    """A round whose main thread waits for it, while each check of Ray takes a second.

    Args:
        silent: What each check finds; the round is over after the last one.
    """

    def __init__(self, silent: Sequence[cluster.Part | None], monkeypatch: pytest.MonkeyPatch):
        self.checks = 0
        self.round: Any = Round.__new__(Round)
        self.round._ray_needs, self.round._over = (RAYLET, GCS), self
        self.round.interrupted, self.round.lost = False, None
        self._silent = [*silent]
        monkeypatch.setattr(cluster, "silent", self._check)
        monkeypatch.setattr(
            round_module, "time", SimpleNamespace(monotonic=lambda: float(self.checks))
        )

    def wait(self, _: float) -> bool:
        return self.checks == len(self._silent)

    def _check(self, _: object) -> cluster.Part | None:
        self.checks += 1
        return self._silent[self.checks - 1]


def test_a_round_ends_a_few_seconds_after_a_part_of_ray_has_died(monkeypatch: pytest.MonkeyPatch):
    """A wait for Ray would never end, or Ray would end this process without a summary."""
    watched = Watched([None, *[RAYLET] * 60], monkeypatch)
    assert watched.round._wait() == RAYLET
    assert watched.checks == 2 + cluster.AWAY_S


def test_a_round_goes_on_if_ray_is_away_for_a_moment(monkeypatch: pytest.MonkeyPatch):
    """The GCS of a cluster may be started again, which takes longer."""
    watched = Watched([RAYLET, None, RAYLET, None, *[GCS] * 40, None], monkeypatch)
    assert watched.round._wait() is None


def test_a_clusters_gcs_that_stays_away_ends_the_round_before_ray_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
):
    watched = Watched([GCS] * 60, monkeypatch)
    assert watched.round._wait() == GCS
    assert watched.checks == 1 + cluster.CLUSTER_AWAY_S


def test_an_interrupted_round_ends_as_soon_as_ray_is_gone(monkeypatch: pytest.MonkeyPatch):
    watched = Watched([GCS] * 60, monkeypatch)
    watched.round.interrupted = True
    assert watched.round._wait() == GCS
    assert watched.checks == 1


def test_no_new_round_begins_if_the_exchange_died_with_ray(monkeypatch: pytest.MonkeyPatch):
    watched = Watched([RAYLET], monkeypatch)
    watched.wait = lambda _: True  # type: ignore[method-assign]
    watched.round.lost = RuntimeError("the actor died")
    assert watched.round._wait() == RAYLET


def test_once_ray_is_gone_nothing_more_is_logged(monkeypatch: pytest.MonkeyPatch):
    """The exchange may live on, but the main thread writes the log now."""
    taken: list[object] = []
    tune_ended = threading.Thread(target=lambda: None)
    tune_ended.start()
    part: Any = Round.__new__(Round)
    part.interrupted, part.fault, part._taking = False, None, threading.Lock()
    part._ending, part._groups = threading.Event(), SimpleNamespace(let_go=lambda: None)
    part._exchange = SimpleNamespace(events=SimpleNamespace(remote=lambda: None))
    part._begin_smoke, part._take = lambda: None, taken.append
    monkeypatch.setattr(round_module.ray, "get", lambda _: ["late"])
    part._leave_ray(RAYLET, tune_ended)
    threading.Thread(target=part._pump, daemon=True).start()
    assert isinstance(part.fault, RayIsGone)
    assert part.fault.exit_code == 1
    assert "Ray's raylet at 127.0.0.1:1 has died" in str(part.fault)
    time.sleep(0.2)
    assert not taken
