"""A round, where Ray runs its calls to the exchange in another order than it made them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.driver import round as round_module
from sweeps.driver.round import Round
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
