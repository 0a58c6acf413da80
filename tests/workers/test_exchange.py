"""The exchange, called in this process: jobs, reports, decisions, trials, and who is guilty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeps.records import events as ev
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.workers import group_job
from sweeps.workers.exchange import Exchange
from sweeps.workers.failures.causes import LostGroup, guilty, killed_for_memory
from sweeps.workers.group_job import GroupJob
from sweeps.workers.isolation.patches import Patched
from sweeps.workers.job import SMOKE, Definition, Job, Order, Reply
from sweeps.workers.messages import Departure, JobError, Member, Note, SmokeStarted, TrialWanted

GO = Reply("continue", save_best=False, save_state=False)
STOP = Reply("stop", save_best=True, save_state=False)
TURNS = 20
"""Times that the loop goes round before a call that has not returned is said to wait."""

Scenario = Callable[[Exchange], Awaitable[None]]


def definition(tmp_path: Any, **changes: Any) -> Definition:
    whole: dict[str, Any] = {
        "space": b"",
        "folder": SweepFolder(tmp_path),
        "workers": 2,
        "gpu": False,
        "measures_gpu": False,
        "fresh_workers": False,
        "started_in": Path.cwd(),
        "stall_timeout_s": 1800.0,
        "secrets": {},
    }
    return Definition(**whole | changes)


@pytest.fixture
def play(tmp_path: Any) -> Callable[..., None]:
    """Run a scenario with a new exchange and three groups of two ranks; none may wait for ever."""

    def run(scenario: Scenario, **changes: Any) -> None:
        async def with_exchange() -> None:
            exchange = Exchange(definition(tmp_path, **changes), 2)
            for group in (1, 2, 3):
                for rank in (0, 1):
                    await exchange.hello(group, rank, member(f"node{group}-{rank}"))
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
        "out_of_memory": None,
        "storage": False,
        "phase": "training",
        "fixable": False,
        "connection": False,
    }
    return JobError(**whole | changes)


async def waiting(call: Awaitable[Any]) -> asyncio.Future[Any]:
    """Start a call, or take a started one, and make sure that it waits."""
    task = asyncio.ensure_future(call)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert not task.done()
    return task


def member(node: str, memory_kills: int = 0, gpu: str | None = None) -> Member:
    return Member(node=node, gpu=gpu, memory_kills=memory_kills)


def departure(rank: int, **changes: Any) -> Departure:
    whole: dict[str, Any] = {
        "rank": rank,
        "train_s": 1.0,
        "memory": 100,
        "memory_kills": 0,
        "reason": "done",
        "patched": Patched(),
        "own_files": {},
    }
    return Departure(**whole | changes)


def job_of(trial: str, **changes: Any) -> Job:
    whole: dict[str, Any] = {
        "trial": trial,
        "attempt": 1,
        "params": {"height": trial},
        "seed": 0,
        "checkpoint": None,
    }
    return Job(**whole | changes)


async def submit(exchange: Exchange, *trials: str) -> None:
    for trial in trials:
        await exchange.submit(job_of(trial), {})


async def leave(
    exchange: Exchange, group: int, memory: tuple[int, int] = (100, 100), **changes: Any
) -> None:
    """Let both ranks leave their job in good order."""
    for rank in (0, 1):
        await exchange.left(group, departure(rank, memory=memory[rank], **changes))


async def takes(exchange: Exchange, group: int, turn: int) -> str | None:
    """The trial that a group is given."""
    job = await exchange.next_job(group, turn)
    return job.trial if job else None


async def happened(exchange: Exchange) -> list[Any]:
    """What the sweep process reads next; something must have happened."""
    events = await exchange.events()
    assert events is not None
    return events


async def reports(exchange: Exchange) -> list[Report]:
    """The reports among what the sweep process reads next."""
    return [e.report for e in await happened(exchange) if isinstance(e, ev.Reported)]


# Jobs.


def test_jobs_are_handed_out_in_the_order_in_which_they_came(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        for group, trial in ((1, "t001"), (2, "t002"), (3, "t003")):
            job = await exchange.next_job(group, 0)
            assert job == job_of(trial)

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
        await exchange.left(1, departure(0, train_s=3.0))
        ahead = await waiting(exchange.next_job(1, 1))
        assert not ahead.done()
        await exchange.left(1, departure(1, train_s=4.0))
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
        await exchange.left(1, departure(0, train_s=3.0))
        ahead = await waiting(exchange.next_job(1, 1))
        await exchange.left(1, departure(1, train_s=4.0))
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


def test_a_job_that_is_tried_again_comes_before_all_that_wait(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        await exchange.next_job(1, 0)
        await exchange.group_lost(1, LostGroup(died={0: "killed"}))
        again = job_of("t001", attempt=2, checkpoint="checkpoints/t001/checkpoint-4")
        await exchange.submit(again, {})
        assert await exchange.next_job(2, 0) == again
        assert await takes(exchange, 3, 0) == "t002"

    play(scenario)


@pytest.mark.parametrize(
    "raised", [error(0), error(0, out_of_memory="device"), error(0, out_of_memory="host"), None]
)
def test_a_failed_trial_runs_again_in_processes_that_no_trial_has_used(
    play: Callable[..., None], raised: JobError | None
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        assert await takes(exchange, 1, 0) == "t001"
        assert await takes(exchange, 2, 0) == "t002"
        await leave(exchange, 1)
        idle = await waiting(exchange.next_job(1, 1))
        if raised is None:
            await exchange.stalled(2, 0, "no step", in_library=False)
        else:
            await exchange.failed(2, raised)
        await exchange.group_lost(2, LostGroup(died={0: "RayTaskError: ..."}))
        await exchange.submit(job_of("t002", attempt=2), {})
        assert await idle is None, "its processes ran t001"
        assert await exchange.next_job(1, 1) is None, "for the other rank, too"
        assert await exchange.wants_group(1)
        assert await takes(exchange, 3, 0) == "t002"
        await leave(exchange, 3)
        await submit(exchange, "t003")
        assert await takes(exchange, 3, 1) == "t003", "other trials run in used processes"

    play(scenario)


async def fail_beside_used_groups(exchange: Exchange) -> None:
    """Let t003 fail in group 3, while 1 and 2 have run a trial each and are idle."""
    await submit(exchange, "t001", "t002", "t003")
    for group in (1, 2, 3):
        await exchange.next_job(group, 0)
    await leave(exchange, 1)
    await leave(exchange, 2)
    await exchange.failed(3, error(0))
    await exchange.group_lost(3, LostGroup(died={0: "RayTaskError: ..."}))
    await exchange.submit(job_of("t003", attempt=2), {})


def test_one_idle_group_ends_for_a_failed_trial_and_the_others_stay_warm(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await fail_beside_used_groups(exchange)
        assert await exchange.next_job(1, 1) is None
        idle = await waiting(exchange.next_job(2, 1))
        await submit(exchange, "t004")
        assert (await idle).trial == "t004", "it does not wait behind t003"
        await leave(exchange, 2)
        await exchange.group_lost(1, LostGroup())
        idle = await waiting(exchange.next_job(2, 2))
        await exchange.group_lost(4, LostGroup(died={0: "no room"}))
        assert await idle is None, "the replacement could not start, so another group makes way"
        await exchange.hello(5, 0, member("node5"))
        await exchange.hello(5, 1, member("node5"))
        assert await takes(exchange, 5, 0) == "t003"

    play(scenario)


def test_a_group_with_a_rank_that_still_trains_does_not_end_for_a_failed_trial(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        for group in (1, 2, 3):
            await exchange.next_job(group, 0)
        await exchange.left(1, departure(0))
        ahead = await waiting(exchange.next_job(1, 1))  # rank 0, while rank 1 still trains
        await exchange.failed(3, error(0))
        await exchange.group_lost(3, LostGroup(died={0: "RayTaskError: ..."}))
        await exchange.submit(job_of("t003", attempt=2), {})
        await waiting(ahead)
        await leave(exchange, 2)
        assert await exchange.next_job(2, 1) is None, "group 2 is idle"
        await exchange.left(1, departure(1))
        await submit(exchange, "t004")
        assert (await ahead).trial == "t004"

    play(scenario)


def test_a_trial_that_lost_its_node_runs_again_in_any_group(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        assert await takes(exchange, 1, 0) == "t001"
        assert await takes(exchange, 2, 0) == "t002"
        await leave(exchange, 1)
        await exchange.group_lost(2, LostGroup(died={0: "gone"}, node_gone=True))
        await exchange.submit(job_of("t002", attempt=2), {})
        assert await takes(exchange, 1, 1) == "t002"

    play(scenario)


def test_a_job_that_is_tried_again_carries_what_was_answered_before(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.decide("t001", 1, GO)
        await exchange.group_lost(1, LostGroup(died={0: "killed"}))
        late = await waiting(exchange.answer("t001", 2))
        await exchange.submit(job_of("t001", attempt=2), {2: STOP})
        assert await exchange.answer("t001", 1) == GO, "of this exchange"
        assert await exchange.answer("t001", 2) == STOP, "of the submission"
        assert await late == STOP

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
        assert await takes(exchange, 1, 0) == "t001"
        assert await exchange.next_job(1, 1) is None
        assert await exchange.next_job(1, 1) is None
        assert await takes(exchange, 2, 0) == "t002"

    play(scenario, fresh_workers=True)


def test_a_group_that_is_lost_while_it_waits_takes_no_job(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        idle = await waiting(exchange.next_job(1, 0))
        await exchange.group_lost(1, LostGroup(died={0: "killed"}))
        await submit(exchange, "t001")
        assert await idle is None
        assert await takes(exchange, 2, 0) == "t001"

    play(scenario)


def test_a_group_is_present_once_all_its_ranks_are_and_until_it_is_lost(
    play: Callable[..., None], tmp_path: Any
):
    async def scenario(exchange: Exchange) -> None:
        for group in (1, 2, 3):
            await exchange.group_lost(group, LostGroup())
        assert await exchange.hello(4, 1, member("a")) == definition(tmp_path)
        assert await exchange.present() == set()
        await exchange.hello(4, 0, member("b"))
        await exchange.hello(5, 0, member("a"))
        await exchange.hello(5, 1, member("a"))
        assert await exchange.present() == {4, 5}
        assert await exchange.members(4) == {1: member("a"), 0: member("b")}
        await exchange.group_lost(4, LostGroup())
        assert await exchange.present() == {5}
        assert await exchange.members(4) == {}

    play(scenario)


def test_trials_wait_for_what_the_smoke_run_finds_and_other_groups_do_too(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, SMOKE, "t001")
        assert await takes(exchange, 1, 0) == SMOKE
        second = await waiting(exchange.next_job(2, 0))
        await leave(exchange, 1)
        first = await waiting(exchange.next_job(1, 1))
        started, ended = await happened(exchange)
        assert started == SmokeStarted()
        assert (type(ended), ended.outcome) == (ev.SmokeEnded, "done")
        await exchange.smoke_over()
        await submit(exchange, "t002")
        trials = [job.trial for job in await asyncio.gather(first, second)]
        assert sorted(trials) == ["t001", "t002"]

    play(scenario)


def test_a_smoke_run_that_is_tried_again_comes_before_the_trials_that_wait(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, SMOKE, "t001")
        assert await takes(exchange, 1, 0) == SMOKE
        await exchange.failed(1, error(1))
        assert await exchange.group_lost(1, LostGroup())
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.SmokeEnded)
        assert (ended.outcome, ended.message) == ("error", "rank 1: ValueError: bad rows")
        assert ended.traceback == "Traceback of rank 1"
        await waiting(exchange.next_job(2, 0))
        await exchange.submit(job_of(SMOKE, attempt=2), {})
        assert await takes(exchange, 3, 0) == SMOKE

    play(scenario)


# Host memory.


def test_a_group_that_grows_past_twice_its_baseline_gets_no_further_job(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003", "t004")
        memories = [(100, 300), (180, 300), (100, 601)]  # the baseline is the first, a rank each
        for turn, memory in enumerate(memories):
            assert await takes(exchange, 1, turn) == f"t00{turn + 1}"
            await leave(exchange, 1, memory)
        assert await exchange.next_job(1, 3) is None
        assert await exchange.next_job(1, 3) is None, "for every rank"
        assert await takes(exchange, 2, 0) == "t004"
        ended = [e for e in await happened(exchange) if isinstance(e, ev.AttemptEnded)]
        assert [e.outcome for e in ended] == ["done"] * 3

    play(scenario)


def test_the_memory_of_the_smoke_run_is_no_baseline(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, SMOKE, "t001", "t002")
        for turn, memory in ((0, 100), (1, 300), (2, 500)):
            assert await takes(exchange, 1, turn) is not None
            await leave(exchange, 1, (memory, memory))
            await exchange.smoke_over()
        await submit(exchange, "t003")
        assert await takes(exchange, 1, 3) == "t003"

    play(scenario)


def test_a_group_that_stays_within_twice_its_baseline_goes_on(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        for turn, memory in enumerate([100, 150, 200, 90, 200]):
            await submit(exchange, f"t00{turn}")
            assert await takes(exchange, 1, turn) == f"t00{turn}"
            await leave(exchange, 1, (memory, 100))
        await submit(exchange, "t005")
        assert await takes(exchange, 1, 5) == "t005"

    play(scenario)


# Patched libraries.

LINEAR = Patched(("torch.nn.functional.linear",), frozenset({"torch.nn.functional.linear = mine"}))
GELU = Patched(("torch.nn.GELU.forward",), frozenset({"torch.nn.GELU.forward = mine"}))


async def jobs_after(exchange: Exchange, *patched: Patched) -> list[bool]:
    """Let group after group run a trial that patches; tell whether each group gets another job."""
    await submit(exchange, *(f"t00{number}" for number in range(2 * len(patched))))
    told = []
    for group, each in enumerate(patched, start=1):
        assert await takes(exchange, group, 0) is not None
        await leave(exchange, group, patched=each)
        told.append(await takes(exchange, group, 1) is not None)
    return told


async def notes(exchange: Exchange) -> list[str]:
    return [each.text for each in await happened(exchange) if isinstance(each, Note)]


def test_a_group_whose_trial_patched_a_library_gets_no_further_job_and_the_user_is_told_once(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        assert await jobs_after(exchange, Patched(), LINEAR, LINEAR) == [True, False, False]
        assert await notes(exchange) == [], "there may be no job for another group"
        assert await exchange.wants_group(2)
        assert await notes(exchange) == [
            "group 2 restarts its processes: t002 changed torch.nn.functional.linear, which would"
            " affect the results of later trials"
        ]

    play(scenario)


def test_the_user_is_told_which_files_outside_the_copy_changed_between_trials(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        for turn, digest in enumerate(("a", "b", "b")):
            await takes(exchange, 1, turn)
            await leave(exchange, 1, own_files={"/mine/layers.py": digest, "/mine/loss.py": "c"})
        assert await notes(exchange) == [
            "/mine/layers.py changed while the sweep was running: t002 imported the new version,"
            " earlier trials the old one; only files in the space's folder are copied"
        ]

    play(scenario)


def test_where_every_trial_patches_alike_only_the_first_group_is_replaced(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        assert await jobs_after(exchange, LINEAR, LINEAR, GELU) == [False, True, False]

    play(scenario)


def test_a_trial_that_does_not_fit_its_group_is_tried_again_in_another(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        assert await jobs_after(exchange, LINEAR, LINEAR) == [False, True]
        await happened(exchange)
        await leave(exchange, 2, reason="misplaced")
        (ended,) = [e for e in await happened(exchange) if isinstance(e, ev.AttemptEnded)]
        assert ended.outcome == "preempted"
        assert await takes(exchange, 2, 2) is None
        assert await takes(exchange, 3, 0) is not None
        await leave(exchange, 3, patched=LINEAR)
        assert await takes(exchange, 3, 1) is None, "not every trial patches alike"

    play(scenario)


def test_what_ranks_patch_is_compared_rank_by_rank(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        for group in (1, 2):
            await takes(exchange, group, 0)
            await exchange.left(group, departure(group - 1, patched=LINEAR))
            await exchange.left(group, departure(2 - group))
        assert [await takes(exchange, group, 1) for group in (1, 2)] == [None, None]

    play(scenario)


# Reports and decisions.


def test_reports_reach_the_sweep_process_in_order_and_every_rank_gets_one_decision(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await happened(exchange)
        reader = await waiting(exchange.events())
        await exchange.report(1, report("t001", 1))
        assert [e.report for e in await reader] == [report("t001", 1)]
        ranks = [await waiting(exchange.answer("t001", 1)) for _ in range(2)]
        await exchange.decide("t001", 1, GO)
        assert [await rank for rank in ranks] == [GO, GO]
        await exchange.report(1, report("t001", 2))
        await leave(exchange, 1)
        said, ended = await happened(exchange)
        assert said.report == report("t001", 2)
        assert isinstance(ended, ev.AttemptEnded), "what happened later comes later"
        await exchange.decide("t001", 2, STOP)
        assert await exchange.answer("t001", 2) == STOP
        assert await exchange.answer("t001", 1) == GO, "a rank that is late gets the same"

    play(scenario)


def test_a_report_and_its_decision_wake_no_call_of_other_trials(
    play: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    woken: list[str] = []

    async def scenario(exchange: Exchange):
        await submit(exchange, "t001", "t002")
        await takes(exchange, 1, 0)
        await takes(exchange, 2, 0)
        orders = [await waiting(exchange.next_order(2, rank, frozenset())) for rank in (0, 1)]
        closed = await waiting(exchange.trial_closed("t002", 1))
        other = await waiting(exchange.answer("t002", 1))
        await happened(exchange)
        monkeypatch.setattr(
            asyncio.Condition, "notify_all", lambda _: woken.append("every call that waits")
        )
        answer = await waiting(exchange.answer("t001", 1))
        await exchange.report(1, report("t001", 1))
        assert [each.trial for each in await reports(exchange)] == ["t001"]
        await exchange.decide("t001", 1, GO)
        assert await answer == GO
        for call in (*orders, closed, other):
            assert not call.done()
            call.cancel()

    play(scenario)
    assert not woken


def test_a_report_that_is_made_again_is_not_passed_on_again_decided_or_not(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.report(1, report("t001", 1))
        assert await reports(exchange) == [report("t001", 1)]
        await exchange.group_lost(1, LostGroup(died={0: "killed"}))
        await exchange.submit(job_of("t001", attempt=2), {})
        await exchange.next_job(2, 0)
        await exchange.report(2, report("t001", 1, metrics={"eval_score": 0.9}))
        assert await reports(exchange) == []
        await exchange.decide("t001", 1, GO)
        assert await exchange.answer("t001", 1) == GO

    play(scenario)


def test_a_report_whose_answer_came_with_the_job_is_not_passed_on(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        resumed = job_of("t001", attempt=2, checkpoint="checkpoints/t001/checkpoint-1")
        await exchange.submit(resumed, {2: GO, 3: GO})
        await exchange.next_job(1, 0)
        for number in (2, 3):
            await exchange.report(1, report("t001", number))
            assert await exchange.answer("t001", number) == GO
        await exchange.report(1, report("t001", 4))
        assert await reports(exchange) == [report("t001", 4)]

    play(scenario)


def test_a_report_that_comes_after_the_end_of_its_attempt_is_not_passed_on(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.group_lost(1, LostGroup(died={0: "killed"}))
        await exchange.report(1, report("t001", 1))
        assert await reports(exchange) == []

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


# Tune.


def test_a_trial_that_pauses_frees_its_group_and_goes_on_as_another_attempt_in_any(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        await exchange.next_job(1, 0)
        actor = await waiting(exchange.trial_closed("t001", 1))
        await leave(exchange, 1, reason="paused")
        *_, ended = await happened(exchange)
        assert (ended.trial, ended.outcome, ended.message) == ("t001", "paused", None)
        await exchange.close_trial("t001", 1)
        await actor
        assert await takes(exchange, 1, 1) == "t002"
        await exchange.submit(job_of("t001", attempt=2), {2: GO})
        await waiting(exchange.trial_closed("t001", 2))
        assert await takes(exchange, 2, 0) == "t001"
        assert await exchange.answer("t001", 2) == GO

    play(scenario)


def test_tune_is_handed_one_trial_for_each_request_and_the_request_keeps_its_place(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await leave(exchange, 1)
        asked = await waiting(exchange.ask_for_trial())
        *_, ended, wanted = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert wanted == TrialWanted()
        await exchange.hand_out(job_of("t002"), {1: GO})
        assert await asked == ("t002", 1)
        await waiting(exchange.trial_closed("t002", 1))
        assert await takes(exchange, 2, 0) == "t002"
        assert await exchange.answer("t002", 1) == GO
        asked = await waiting(exchange.ask_for_trial())
        await exchange.no_more_trials()
        assert await asked is None

    play(scenario)


def test_a_trial_actor_goes_when_its_trial_is_closed_and_waits_on_if_that_was_an_earlier_attempt(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        first = await waiting(exchange.trial_closed("t001", 1))
        await exchange.close_trial("t001", 2)  # the second try of the same actor
        await exchange.close_trial("t001", 1)  # Ray may run calls in another order
        await first
        await exchange.trial_closed("t001", 2)
        await waiting(exchange.trial_closed("t001", 3))

    play(scenario)


# What the sweep process reads.


def test_events_are_told_once_and_in_order_until_all_are_told(play: Callable[..., None]):
    saved = [
        ev.CheckpointSaved(trial="t001", number=n, kind="best", path="p", sha256="0")
        for n in (1, 2, 3)
    ]

    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await happened(exchange)
        reader = await waiting(exchange.events())
        await exchange.tell(1, saved[0])
        assert await reader == saved[:1]
        await exchange.tell(1, saved[1])
        await exchange.tell(1, saved[2])
        await exchange.end_events()
        assert await exchange.events() == saved[1:]
        assert await exchange.events() is None

    play(scenario)


def test_a_checkpoint_that_is_whole_after_its_attempt_has_ended_is_not_told(
    play: Callable[..., None],
):
    """A rank can announce it while its group is being ended: its folder is already gone."""
    saved = ev.CheckpointSaved(trial="t001", number=1, kind="best", path="p", sha256="0")

    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.failed(1, error(1))
        await exchange.group_lost(1, LostGroup())
        await exchange.tell(1, saved)
        assert saved not in await happened(exchange)

    play(scenario)


def test_a_replaced_group_of_which_there_is_nothing_to_say_does_not_end_the_events(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange):
        events = await waiting(exchange.events())
        await submit(exchange, "t001")
        assert await exchange.wants_group(1)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not events.done()
        events.cancel()

    play(scenario)


# Groups that are lost.


def test_a_lost_group_ends_its_attempt_with_the_guilty_rank_s_error(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.report(1, report("t001", 1, train_s=7.0))
        await exchange.failed(1, error(1, connection=True))
        await exchange.failed(1, error(0))
        assert await exchange.group_lost(
            1, LostGroup(died={0: "RayTaskError: ...", 1: "RayTaskError: ..."})
        )
        _, _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert (ended.trial, ended.outcome) == ("t001", "error")
        assert ended.message == "rank 0: ValueError: bad rows"
        assert ended.traceback == "Traceback of rank 0"
        assert ended.train_s == 7.0

    play(scenario)


def test_a_group_is_asked_whether_it_had_a_job_when_it_is_lost(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        assert await exchange.group_lost(1, LostGroup()) is False, "it never took one"
        await submit(exchange, "t001")
        await exchange.next_job(2, 0)
        await leave(exchange, 2)
        assert await exchange.group_lost(2, LostGroup(died={0: "killed"})) is True, (
            "it was idle, but it can start"
        )
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert ended.outcome == "done"
        await exchange.end_events()
        assert await exchange.events() is None, "a job that is done ends once"

    play(scenario)


def test_a_group_that_has_had_two_jobs_has_had_a_job(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        for turn in (0, 1):
            await exchange.next_job(1, turn)
            await leave(exchange, 1)
        assert await exchange.group_lost(1, LostGroup(died={0: "killed"})) is True

    play(scenario)


def test_what_a_rank_says_of_a_job_that_has_ended_is_left_alone(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.group_lost(1, LostGroup(died={0: "killed"}))
        await exchange.failed(1, error(1))
        assert len(await happened(exchange)) == 2

    play(scenario)


def test_an_abort_ends_jobs_reports_and_workers_at_once(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002", "t003")
        await exchange.next_job(1, 0)
        await exchange.next_job(2, 0)
        await exchange.report(1, report("t001", 1, train_s=5.0))
        ranks = [(group, rank) for group in (1, 2, 3) for rank in (0, 1)]
        workers = [await waiting(exchange.next_order(*rank, frozenset())) for rank in ranks]
        actor = await waiting(exchange.trial_closed("t002", 1))
        tune = await waiting(exchange.ask_for_trial())
        await exchange.abort()
        await exchange.abort()
        await actor
        assert await tune is None
        await exchange.report(2, report("t002", 1))
        assert [await worker for worker in workers] == [Order("end")] * len(ranks)
        assert await exchange.next_job(3, 0) is None, "although t003 waits"
        events = await happened(exchange)
        said = [e.report for e in events if isinstance(e, ev.Reported)]
        assert said == [report("t001", 1, train_s=5.0)], "none after the abort"
        ended = [e for e in events if isinstance(e, ev.AttemptEnded)]
        assert [(e.trial, e.outcome, e.message, e.train_s) for e in ended] == [
            ("t001", "interrupted", None, 5.0),
            ("t002", "interrupted", None, 0.0),
        ]
        assert await exchange.group_lost(1, LostGroup(died={0: "killed"})) is True
        await exchange.end_events()
        assert await exchange.events() is None, "an attempt ends once"

    play(scenario)


# A trial that stalls.


def test_every_rank_of_a_stalled_group_is_told_to_write_down_where_it_stands(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        await exchange.next_job(1, 0)
        await exchange.next_job(2, 0)
        ranks = [await waiting(exchange.next_order(1, rank, frozenset())) for rank in (0, 1)]
        healthy = await waiting(exchange.next_order(2, 0, frozenset()))
        await exchange.stalled(1, 1, "rank 1: no step for 1800 s", False)
        dump = Order("dump", "t001")
        assert [await rank for rank in ranks] == [dump, dump]
        assert not healthy.done()
        # Train ends the group with its first rank: no rank may leave before all have written.
        first = await waiting(exchange.carried_out(1, 0, dump))
        await exchange.carried_out(1, 1, dump)
        await first

    play(scenario)


def test_a_stalled_attempt_ends_as_stalled_whatever_its_ranks_say_after(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.stalled(1, 1, "rank 1: no step for 1800 s", False)
        await exchange.stalled(1, 0, "rank 0: no step for 1805 s", False)
        await exchange.failed(1, error(0))
        await exchange.left(1, departure(0, train_s=2.0))
        loss = LostGroup(
            died={0: "SystemExit", 1: "killed"}, node_gone=True, for_memory=frozenset({1})
        )
        assert await exchange.group_lost(1, loss)
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert (ended.outcome, ended.message) == ("stalled", "rank 1: no step for 1800 s")
        assert (ended.traceback, ended.train_s) == (None, 2.0)

    play(scenario)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # Rank 0 speaks first and waits for rank 1, which hangs.
        ([(0, True), (1, False)], "rank 1: no step"),
        ([(1, False), (0, True)], "rank 1: no step"),
        ([(0, True), (1, True)], "rank 0: no step; rank 1: no step"),
        # The whole process of rank 1 hangs.
        ([(0, True), (0, True)], "rank 0: no step; rank 1: not responding"),
        ([(0, True)], None),
    ],
)
def test_of_a_stalled_group_the_rank_is_named_that_the_others_wait_for(
    play: Callable[..., None], words: list[tuple[int, bool]], message: str | None
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        for rank, in_library in words:
            await exchange.stalled(1, rank, f"rank {rank}: no step", in_library)
        assert exchange._running[1].stalled == message

    play(scenario)


def test_a_stall_that_is_over_says_nothing_about_the_next_one(monkeypatch: pytest.MonkeyPatch):
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(group_job, "time", clock)
    job = Job(trial="t001", attempt=1, params={}, seed=0, checkpoint=None)
    running = GroupJob(job, devices=2)
    running.judge_stall(0, "rank 0: no step", True, 2)
    clock.monotonic = lambda: 4000.0
    running.judge_stall(1, "rank 1: no step", True, 2)
    assert running.stalled is None
    clock.monotonic = lambda: 4005.0
    running.judge_stall(1, "rank 1: no step", True, 2)
    assert running.stalled == "rank 1: no step; rank 0: not responding"


def test_a_group_that_ends_its_job_after_all_gets_no_other_once_it_is_to_end_as_stalled(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        await exchange.next_job(1, 0)
        await exchange.stalled(1, 1, "rank 1: no step for 1800 s", False)
        await leave(exchange, 1)
        assert await exchange.next_job(1, 1) is None
        assert await takes(exchange, 2, 0) == "t002"

    play(scenario)


def test_a_word_of_a_stall_after_the_job_concerns_nobody(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001", "t002")
        await exchange.next_job(1, 0)
        await leave(exchange, 1)
        await exchange.stalled(1, 1, "rank 1: no step for 1800 s", False)
        assert await takes(exchange, 1, 1) == "t002"
        await waiting(exchange.next_order(1, 1, frozenset()))

    play(scenario)


# A node that is draining.


def test_a_draining_group_saves_at_a_step_that_rank_0_names_and_every_rank_knows(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        ranks = [await waiting(exchange.next_order(1, rank, frozenset())) for rank in (0, 1)]
        await exchange.drain_nodes(["node1-1", "elsewhere"])
        name, save = Order("name a step", "t001"), Order("save", "t001", 7)
        assert await ranks[0] == name
        assert not ranks[1].done(), "only rank 0 names a step"
        ranks[0] = await waiting(exchange.next_order(1, 0, frozenset({name})))
        named = await waiting(exchange.save_at(1, 7))
        assert [await rank for rank in ranks] == [save, save]
        told = await waiting(exchange.carried_out(1, 0, save))
        assert not named.done(), "rank 1 might be past the step"
        await exchange.carried_out(1, 1, save)
        await told
        await named
        await waiting(exchange.next_order(1, 0, frozenset({name, save})))
        await waiting(exchange.next_order(1, 1, frozenset({save})))

    play(scenario)


def test_an_attempt_whose_ranks_saved_and_left_for_their_draining_node_is_preempted(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.drain_nodes(["node1-0"])
        await leave(exchange, 1, reason="preempted")
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert (ended.outcome, ended.message) == (
            "preempted",
            "a node of its worker group is draining",
        )

    play(scenario)


def test_a_group_on_a_draining_node_gets_no_further_job_and_others_do(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        idle = await waiting(exchange.next_job(3, 0))
        await submit(exchange, "t001")
        assert (await idle) == job_of("t001")
        await submit(exchange, "t002", "t003", "t004")
        await exchange.next_job(1, 0)
        await exchange.next_job(2, 0)
        await exchange.drain_nodes(["node1-0", "node3-1"])
        other = await waiting(exchange.next_order(2, 0, frozenset()))
        for group in (1, 2, 3):
            await leave(exchange, group)
        assert [await takes(exchange, group, 1) for group in (1, 2, 3)] == [None, "t004", None]
        assert not other.done()

    play(scenario)


def test_an_idle_group_on_a_draining_node_ends(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        idle = await waiting(exchange.next_job(1, 0))
        await exchange.drain_nodes(["node1-0"])
        assert await idle is None

    play(scenario)


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([], "preempted"),
        ([error(0, "RuntimeError: Connection closed by peer", connection=True)], "preempted"),
        ([error(0, "RuntimeError: NCCL", connection=True), error(1)], "error"),
        ([error(1, "OutOfMemoryError: CUDA", out_of_memory="device")], "out_of_memory"),
    ],
)
def test_a_draining_group_that_is_lost_was_preempted_unless_a_rank_failed_by_itself(
    play: Callable[..., None], errors: list[JobError], outcome: str
):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await exchange.drain_nodes(["node1-0"])
        for raised in errors:
            await exchange.failed(1, raised)
        # Train may be told of the dead process before anyone sees that its node is gone.
        await exchange.group_lost(1, LostGroup(died={0: "ActorDiedError"}))
        _, ended = await happened(exchange)
        assert isinstance(ended, ev.AttemptEnded)
        assert ended.outcome == outcome

    play(scenario)


# Who is guilty.

LOST = "RuntimeError: Connection closed by peer"


OOM = "OutOfMemoryError: CUDA"
KILLED = "WorkerCrashedError: SIGKILL"
FOR_MEMORY = f"rank 1 was killed because host memory ran out: {KILLED}"
BAD_ROWS = ("rank 0: ValueError: bad rows", "Traceback of rank 0", False, None)
GONE = ("preempted", "a node of its worker group was lost", None, False, None)


@pytest.mark.parametrize(
    ("errors", "loss", "expected"),
    [
        # An exception of a rank's own comes first, whenever it was said.
        (
            [error(0, LOST, connection=True), error(1)],
            LostGroup(died={0: "RayTaskError", 1: "RayTaskError"}),
            ("error", "rank 1: ValueError: bad rows", "Traceback of rank 1", False, None),
        ),
        # Of several, the first one said.
        (
            [error(2), error(1, "KeyError: 'x'")],
            LostGroup(),
            ("error", "rank 2: ValueError: bad rows", "Traceback of rank 2", False, None),
        ),
        (
            [error(1, OOM, out_of_memory="device"), error(0)],
            LostGroup(),
            ("out_of_memory", f"rank 1: {OOM}", "Traceback of rank 1", False, "training"),
        ),
        (
            [error(0, OOM, out_of_memory="device", phase="evaluation")],
            LostGroup(died={1: KILLED}, for_memory=frozenset({1})),
            ("out_of_memory", f"rank 0: {OOM}", "Traceback of rank 0", False, "evaluation"),
        ),
        (
            [error(0, "UserError: no such column", fixable=True)],
            LostGroup(),
            ("error", "rank 0: UserError: no such column", "Traceback of rank 0", True, None),
        ),
        # A rank that died without a word comes before those that lost it.
        (
            [error(0, LOST, connection=True)],
            LostGroup(died={0: "RayTaskError: lost", 1: KILLED}),
            ("error", f"rank 1 died: {KILLED}", None, False, None),
        ),
        # A rank's own exception comes before a rank that died: the death may be its consequence.
        (
            [error(0)],
            LostGroup(died={1: "WorkerCrashedError: SIGABRT"}),
            ("error", *BAD_ROWS),
        ),
        # Only lost peers: what Train says of them, or else what they said.
        (
            [error(0, LOST, connection=True)],
            LostGroup(died={0: "RayTaskError: lost"}),
            ("error", "rank 0 died: RayTaskError: lost", None, False, None),
        ),
        (
            [error(1, LOST, connection=True)],
            LostGroup(),
            ("error", f"rank 1: {LOST}", "Traceback of rank 1", False, None),
        ),
        ([], LostGroup(died={1: "killed"}), ("error", "rank 1 died: killed", None, False, None)),
        (
            [],
            LostGroup(),
            ("error", "the worker group was lost, and no rank reported why", None, False, None),
        ),
        # A node that went explains dead ranks and lost peers, but no exception of a rank's own.
        ([], LostGroup(node_gone=True), GONE),
        (
            [error(0, LOST, connection=True)],
            LostGroup(
                died={0: "RayTaskError: lost", 1: KILLED}, node_gone=True, for_memory=frozenset({1})
            ),
            GONE,
        ),
        ([error(0)], LostGroup(died={1: KILLED}, node_gone=True), ("error", *BAD_ROWS)),
        # Host memory that ran out explains a dead rank; nobody saw in which phase.
        (
            [error(0, LOST, connection=True)],
            LostGroup(died={0: "RayTaskError: lost", 1: KILLED}, for_memory=frozenset({1})),
            ("out_of_memory", FOR_MEMORY, None, False, "training"),
        ),
        # A rank that died otherwise comes after it.
        (
            [],
            LostGroup(
                died={0: "WorkerCrashedError: SIGABRT", 1: KILLED}, for_memory=frozenset({1})
            ),
            ("out_of_memory", FOR_MEMORY, None, False, "training"),
        ),
        (
            [error(0)],
            LostGroup(died={1: KILLED}, for_memory=frozenset({1})),
            ("error", *BAD_ROWS),
        ),
    ],
)
def test_the_cause_of_a_lost_group_is_picked_from_what_its_ranks_say(
    errors: list[JobError], loss: LostGroup, expected: tuple[Any, ...]
):
    cause = guilty(errors, loss)
    found = (cause.outcome, cause.message, cause.traceback, cause.fixable, cause.phase)
    assert found == expected


GONE_AT_ONCE = "ActorDiedError: ... Worker unexpectedly exits with a connection error code 2. ..."
WITH_A_CODE = "ActorDiedError: ... Worker exits unexpectedly. Worker exits with an exit code 1. ..."
BY_RAY = "OutOfMemoryError: Task was killed due to the node running low on memory."


@pytest.mark.parametrize(
    ("died", "members", "kills", "expected"),
    [
        # A kill was counted on its node since its job began; rank 0's node has counted none.
        (
            {0: GONE_AT_ONCE, 1: GONE_AT_ONCE},
            {0: member("a", 2), 1: member("b", 2)},
            {"a": 2, "b": 3},
            {1},
        ),
        ({0: WITH_A_CODE}, {0: member("a", 2)}, {"a": 3}, set()),
        ({0: "RayTaskError(SweepError): ..."}, {0: member("a", 2)}, {"a": 3}, set()),
        ({0: BY_RAY}, {0: member("a", 2)}, {"a": 2}, {0}),
        ({0: BY_RAY}, {}, {}, {0}),
        # A node that does not answer, a worker that died in its start.
        ({0: GONE_AT_ONCE}, {0: member("a", 0)}, {}, set()),
        ({0: GONE_AT_ONCE}, {}, {"a": 3}, set()),
    ],
)
def test_a_death_is_laid_to_memory_where_its_node_has_counted_a_kill_since_its_job_began(
    died: dict[int, str], members: dict[int, Member], kills: dict[str, int], expected: set[int]
):
    assert killed_for_memory(died, members, kills) == expected


def test_kills_of_earlier_jobs_are_not_laid_to_the_next(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await submit(exchange, "t001")
        await exchange.next_job(1, 0)
        await leave(exchange, 1, memory_kills=5)
        assert await exchange.members(1) == {
            rank: member(f"node1-{rank}", memory_kills=5) for rank in (0, 1)
        }

    play(scenario)


def test_another_group_is_wanted_once_a_job_waits_and_not_at_the_end(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        wanted = await waiting(exchange.wants_group(0))
        await submit(exchange, "t001")
        assert await wanted is True
        await exchange.hello(1, 0, member("node"))
        await exchange.next_job(1, 0)
        wanted = await waiting(exchange.wants_group(0))
        await exchange.finish()
        assert await wanted is False

    play(scenario)


OUT_OF_MEMORY = JobError(
    rank=0,
    message="OutOfMemoryError: CUDA",
    traceback="Traceback",
    out_of_memory="device",
    storage=False,
    phase="training",
    fixable=False,
    connection=False,
)


async def on_one_gpu(exchange: Exchange, *groups: int) -> None:
    """Let groups of one worker train on one GPU, the first from its start."""
    for number in groups:
        await exchange.hello(number, 0, member("node", gpu="0"))
        await submit(exchange, f"t{number:03}")
        assert await exchange.next_job(number, 0)


async def lose(exchange: Exchange, group: int, raised: JobError = OUT_OF_MEMORY) -> ev.AttemptEnded:
    await exchange.failed(group, raised)
    await exchange.group_lost(group, LostGroup())
    (end,) = (each for each in await happened(exchange) if isinstance(each, ev.AttemptEnded))
    return end


def test_memory_that_runs_out_on_a_shared_gpu_is_not_the_trials_fault_and_ends_the_group(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await on_one_gpu(exchange, 11, 12)
        end = await lose(exchange, 12)
        assert (end.outcome, end.phase) == ("crowded", None)
        await submit(exchange, "t012")
        assert await exchange.wants_group(12) is False
        # The other one was shared until now: it runs again, on a GPU that it then has alone.
        end = await lose(exchange, 11)
        assert end.outcome == "crowded"
        assert await exchange.wants_group(11) is True
        await on_one_gpu(exchange, 13)
        end = await lose(exchange, 13)
        assert (end.outcome, end.phase) == ("out_of_memory", "training")
        assert await exchange.wants_group(13) is True

    play(scenario, workers=1, gpu=True)


def test_host_memory_that_runs_out_is_no_matter_of_a_shared_gpu(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await on_one_gpu(exchange, 11, 12)
        await exchange.group_lost(12, LostGroup(died={0: KILLED}, for_memory=frozenset({0})))
        (end,) = (e for e in await happened(exchange) if isinstance(e, ev.AttemptEnded))
        assert end.outcome == "out_of_memory"

    play(scenario, workers=1, gpu=True)


def test_a_trial_that_ran_out_of_host_memory_itself_keeps_its_place_on_a_shared_gpu(
    play: Callable[..., None],
):
    async def scenario(exchange: Exchange) -> None:
        await on_one_gpu(exchange, 11, 12)
        end = await lose(exchange, 12, replace(OUT_OF_MEMORY, out_of_memory="host"))
        assert (end.outcome, end.phase) == ("out_of_memory", "training")
        await submit(exchange, "t012")
        assert await exchange.wants_group(12) is True

    play(scenario, workers=1, gpu=True)


def test_groups_on_different_gpus_are_not_in_each_others_way(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        for number, gpu in ((11, "0"), (12, "1")):
            await exchange.hello(number, 0, member("node", gpu=gpu))
            await submit(exchange, f"t{number:03}")
            await exchange.next_job(number, 0)
        assert (await lose(exchange, 11)).outcome == "out_of_memory"

    play(scenario, workers=1, gpu=True)


def test_a_shared_gpu_counts_in_parts(play: Callable[..., None]):
    async def scenario(exchange: Exchange) -> None:
        await on_one_gpu(exchange, 11, 12, 13, 14)
        started = [each for each in await happened(exchange) if isinstance(each, ev.JobStarted)]
        assert [each.devices for each in started] == [2, 1, 2 / 3, 0.5]  # play's groups have two

    play(scenario, workers=1, gpu=True)
