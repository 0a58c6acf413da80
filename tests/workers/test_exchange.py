"""The exchange, called in this process: jobs out, reports in, decisions out, and who is guilty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sweeps.records import events as ev
from sweeps.records.folder import SweepFolder
from sweeps.space.report import Report
from sweeps.workers.causes import guilty
from sweeps.workers.exchange import Exchange
from sweeps.workers.job import Answer, Definition, Job, JobError

GO = Answer(stop=False, save_best=False, save_state=False)
STOP = Answer(stop=True, save_best=True, save_state=False)
TURNS = 20
"""Times that the loop goes round before a call that has not returned is said to wait."""

Scenario = Callable[[Exchange], Awaitable[None]]


def definition(tmp_path: Any, **changes: Any) -> Definition:
    whole: dict[str, Any] = {
        "space": b"",
        "folder": SweepFolder(tmp_path),
        "workers": 2,
        "gpu": False,
        "seed": 0,
        "fresh_workers": False,
        "secrets": {},
    }
    return Definition(**whole | changes)


@pytest.fixture
def play(tmp_path: Any) -> Callable[..., None]:
    """Run a scenario with a new exchange; none may wait for ever."""

    def run(scenario: Scenario, **changes: Any) -> None:
        async def with_exchange() -> None:
            exchange = Exchange(definition(tmp_path, **changes), 2)
            await asyncio.wait_for(scenario(exchange), timeout=30)

        asyncio.run(with_exchange())

    return run


def report(trial: str, number: int, **changes: Any) -> Report:
    whole: dict[str, Any] = {
        "trial": trial,
        "number": number,
        "step": number,
        "max_steps": 8,
        "epoch": number / 8,
        "metrics": {"eval_score": 0.5},
        "train_s": float(number),
    }
    return Report(**whole | changes)


def error(rank: int, message: str = "ValueError: bad rows", **changes: Any) -> JobError:
    whole: dict[str, Any] = {
        "rank": rank,
        "message": message,
        "traceback": f"Traceback of rank {rank}",
        "out_of_memory": False,
        "fixable": False,
        "connection": False,
        "train_s": 1.0,
    }
    return JobError(**whole | changes)


async def waiting(call: Awaitable[Any]) -> asyncio.Future[Any]:
    """Start a call and make sure that it waits."""
    task = asyncio.ensure_future(call)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def submit(exchange: Exchange, *trials: str) -> None:
    for trial in trials:
        await exchange.submit(trial, {"height": trial})


async def happened(exchange: Exchange) -> list[ev.Event]:
    """What the sweep process is told next; something must have happened."""
    events = await exchange.events()
    assert events is not None
    return events


# Jobs.


def test_jobs_are_handed_out_in_the_order_in_which_they_came(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        for group, trial in ((1, "t001"), (2, "t002"), (3, "t003")):
            job = await exchange.next_job(group, 0)
            assert job is not None
            assert job == Job(trial=trial, attempt=1, params={"height": trial}, checkpoint=None)

    play(scenario)


def test_every_rank_of_a_group_gets_the_same_job_however_late_it_asks(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        first = await waiting(exchange.next_job(1, 0))
        second = await waiting(exchange.next_job(1, 0))
        await submit(exchange, "t001", "t002")
        job = await first
        assert await second is job
        assert await exchange.next_job(1, 0) is job
        assert job.trial == "t001"
        other = await exchange.next_job(2, 0)
        assert other is not None
        assert other.trial == "t002"
        started = [e for e in await happened(exchange) if isinstance(e, ev.JobStarted)]
        assert [(e.trial, e.group, e.devices) for e in started] == [("t001", 1, 2), ("t002", 2, 2)]

    play(scenario)


def test_a_waiting_job_is_not_handed_out_before_every_rank_has_left_the_last(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        await exchange.next_job(1, 0)
        await exchange.left(1, 0, 3.0)
        ahead = await waiting(exchange.next_job(1, 1))
        assert not ahead.done()
        await exchange.left(1, 1, 4.0)
        job = await ahead
        assert job is not None
        assert job.trial == "t002"
        ended = [e for e in await happened(exchange) if isinstance(e, ev.AttemptEnded)]
        assert [(e.trial, e.train_s) for e in ended] == [("t001", 4.0)]

    play(scenario)


def test_a_rank_may_ask_for_the_next_job_while_another_still_leaves_the_last(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.left(1, 0, 3.0)
        ahead = await waiting(exchange.next_job(1, 1))
        await exchange.left(1, 1, 4.0)
        await submit(exchange, "t002")
        job = await ahead
        assert job is not None
        assert job.trial == "t002"
        assert await exchange.next_job(1, 1) is job
        started, ended, next_started = await happened(exchange)
        assert isinstance(started, ev.JobStarted)
        assert isinstance(ended, ev.AttemptEnded)
        assert (ended.trial, ended.attempt, ended.outcome) == ("t001", 1, "done")
        assert ended.train_s == 4.0, "of the slowest rank"
        assert ended.device_s >= 0
        assert isinstance(next_started, ev.JobStarted)

    play(scenario)


def test_a_trial_that_is_submitted_again_is_not_queued_again(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t001")
        await exchange.next_job(1, 0)
        await waiting(exchange.next_job(2, 0))

    play(scenario)


def test_a_group_without_a_job_ends_when_the_sweep_finishes(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        idle = await waiting(exchange.next_job(1, 0))
        await exchange.finish()
        assert await idle is None
        assert await exchange.next_job(1, 0) is None, "for every rank"

    play(scenario)


def test_with_fresh_workers_a_group_ends_after_one_job(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        assert (await exchange.next_job(1, 0)).trial == "t001"  # type: ignore[union-attr]
        assert await exchange.next_job(1, 1) is None
        assert await exchange.next_job(1, 1) is None
        assert (await exchange.next_job(2, 0)).trial == "t002"  # type: ignore[union-attr]

    play(scenario, fresh_workers=True)


# Reports and decisions.


def test_the_trial_actor_gets_reports_in_order_and_the_workers_one_decision(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        asked = await waiting(exchange.next_report("t001"))
        await exchange.next_job(1, 0)
        await exchange.report(1, report("t001", 1))
        assert await asked == report("t001", 1)
        ranks = [await waiting(exchange.answer("t001", 1)) for _ in range(2)]
        await exchange.decide("t001", 1, GO)
        assert [await rank for rank in ranks] == [GO, GO]
        later = await waiting(exchange.next_report("t001"))
        await exchange.report(1, report("t001", 2))
        assert await later == report("t001", 2)
        await exchange.decide("t001", 2, STOP)
        assert await exchange.answer("t001", 2) == STOP
        assert await exchange.answer("t001", 1) == GO, "a rank that is late gets the same"

    play(scenario)


def test_a_report_that_is_not_decided_yet_is_given_again_to_whoever_asks(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.report(1, report("t001", 1))
        assert await exchange.next_report("t001") == report("t001", 1)
        assert await exchange.next_report("t001") == report("t001", 1), "a new trial actor"
        await exchange.decide("t001", 1, GO)
        await waiting(exchange.next_report("t001"))

    play(scenario)


def test_a_report_that_is_known_already_is_left_as_it_is(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.report(1, report("t001", 1))
        await exchange.report(1, report("t001", 1, metrics={"eval_score": 0.9}))
        assert await exchange.next_report("t001") == report("t001", 1)

    play(scenario)


def test_decisions_of_different_trials_do_not_meet(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        await exchange.next_job(1, 0)
        await exchange.next_job(2, 0)
        other = await waiting(exchange.answer("t002", 1))
        await exchange.decide("t001", 1, STOP)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not other.done()
        await exchange.decide("t002", 1, GO)
        assert await other == GO

    play(scenario)


def test_a_closed_trial_lets_its_actor_go(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        asked = await waiting(exchange.next_report("t001"))
        await exchange.close_trial("t001")
        assert await asked is None

    play(scenario)


# What the sweep process is told.


def test_events_are_told_once_and_in_order_until_all_are_told(play: Callable[..., None]):
    saved = [
        ev.CheckpointSaved(trial="t001", number=n, kind="best", path="p", sha256="0")
        for n in (1, 2, 3)
    ]

    async def scenario(exchange: Exchange) -> None:
        reader = await waiting(exchange.events())
        await exchange.saved(saved[0])
        assert await reader == saved[:1]
        await exchange.saved(saved[1])
        await exchange.saved(saved[2])
        await exchange.drain()
        assert await exchange.events() == saved[1:]
        assert await exchange.events() is None

    play(scenario)


def test_a_reader_that_waits_ends_when_the_exchange_is_drained(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        reader = await waiting(exchange.events())
        await exchange.drain()
        assert await reader is None

    play(scenario)


# Groups that are lost.


def test_a_lost_group_ends_its_attempt_with_the_guilty_rank_s_error(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.report(1, report("t001", 1, train_s=7.0))
        await exchange.failed(1, error(1, connection=True, train_s=0.0))
        await exchange.failed(1, error(0, train_s=7.5))
        assert await exchange.group_lost(1, {0: "RayTaskError: ...", 1: "RayTaskError: ..."})
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert (ended.trial, ended.outcome) == ("t001", "error")
        assert ended.message == "rank 0: ValueError: bad rows"
        assert ended.traceback == "Traceback of rank 0"
        assert ended.train_s == 7.5

    play(scenario)


def test_a_group_is_asked_whether_it_had_a_job_when_it_is_lost(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        assert await exchange.group_lost(1, {}) is False, "it never took one"
        await submit(exchange, "t001")
        await exchange.next_job(2, 0)
        for rank in (0, 1):
            await exchange.left(2, rank, 1.0)
        assert await exchange.group_lost(2, {0: "killed"}) is True, "it was idle, but it can start"
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert ended.outcome == "done"
        await exchange.drain()
        assert await exchange.events() is None, "a job that is done ends once"

    play(scenario)


def test_a_group_that_has_had_two_jobs_has_had_a_job(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        for turn in (0, 1):
            await exchange.next_job(1, turn)
            for rank in (0, 1):
                await exchange.left(1, rank, 1.0)
        assert await exchange.group_lost(1, {0: "killed"}) is True

    play(scenario)


def test_what_a_rank_says_of_a_job_that_has_ended_is_left_alone(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.group_lost(1, {0: "killed"})
        await exchange.failed(1, error(1))
        assert len(await happened(exchange)) == 2

    play(scenario)


def test_an_abort_ends_jobs_reports_and_workers_at_once(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        await exchange.next_job(1, 0)
        await exchange.next_job(2, 0)
        await exchange.report(1, report("t001", 1, train_s=5.0))
        workers = await waiting(exchange.until_aborted())
        actor = await waiting(exchange.next_report("t002"))
        await exchange.abort()
        await exchange.abort()
        assert await actor is None
        assert await exchange.next_report("t001") is None, "although it is not decided"
        await workers
        assert await exchange.next_job(3, 0) is None, "although t003 waits"
        ended = [e for e in await happened(exchange) if isinstance(e, ev.AttemptEnded)]
        assert [(e.trial, e.outcome, e.message, e.train_s) for e in ended] == [
            ("t001", "interrupted", None, 5.0),
            ("t002", "interrupted", None, 0.0),
        ]
        assert await exchange.group_lost(1, {0: "killed"}) is True
        await exchange.drain()
        assert await exchange.events() is None, "an attempt ends once"

    play(scenario)


# Who is guilty.

LOST = "RuntimeError: Connection closed by peer"


@pytest.mark.parametrize(
    ("errors", "died", "expected"),
    [
        # An exception of a rank's own comes first, whenever it was said.
        (
            [error(0, LOST, connection=True), error(1)],
            {0: "RayTaskError", 1: "RayTaskError"},
            ("error", "rank 1: ValueError: bad rows", "Traceback of rank 1", False),
        ),
        # Of several, the first one said.
        (
            [error(2), error(1, "KeyError: 'x'")],
            {},
            ("error", "rank 2: ValueError: bad rows", "Traceback of rank 2", False),
        ),
        (
            [error(1, "OutOfMemoryError: CUDA", out_of_memory=True), error(0)],
            {},
            ("out_of_memory", "rank 1: OutOfMemoryError: CUDA", "Traceback of rank 1", False),
        ),
        (
            [error(0, "UserError: no such column", fixable=True)],
            {},
            ("error", "rank 0: UserError: no such column", "Traceback of rank 0", True),
        ),
        # A rank that died without a word comes before those that lost it.
        (
            [error(0, LOST, connection=True)],
            {0: "RayTaskError: lost", 1: "WorkerCrashedError: SIGKILL"},
            ("error", "rank 1 died: WorkerCrashedError: SIGKILL", None, False),
        ),
        # A rank's own exception comes before a rank that died: the death may be its consequence.
        (
            [error(0)],
            {1: "WorkerCrashedError: SIGABRT"},
            ("error", "rank 0: ValueError: bad rows", "Traceback of rank 0", False),
        ),
        # Only lost peers: what Train says of them, or else what they said.
        (
            [error(0, LOST, connection=True)],
            {0: "RayTaskError: lost"},
            ("error", "rank 0 died: RayTaskError: lost", None, False),
        ),
        (
            [error(1, LOST, connection=True)],
            {},
            ("error", f"rank 1: {LOST}", "Traceback of rank 1", False),
        ),
        ([], {1: "killed"}, ("error", "rank 1 died: killed", None, False)),
        ([], {}, ("error", "the worker group was lost", None, False)),
    ],
)
def test_the_cause_of_a_lost_group_is_picked_from_what_its_ranks_say(
    errors: list[JobError], died: dict[int, str], expected: tuple[Any, ...]
):
    cause = guilty(errors, died)
    assert (cause.outcome, cause.message, cause.traceback, cause.fixable) == expected
