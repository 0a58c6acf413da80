"""Which job a group may take: order, fresh processes, making way, the smoke run."""

from __future__ import annotations

from sweeps.workers.job import SMOKE, Job
from sweeps.workers.job_queue import JobQueue

FRESH, USED = 0, 3
"""Turns of a group whose processes had no job, or some."""


def job(trial: str, attempt: int = 1) -> Job:
    return Job(trial=trial, attempt=attempt, params={}, seed=0, checkpoint=None)


def queue_of(*trials: str, fresh: tuple[str, ...] = ()) -> JobQueue:
    """A queue of trials, of which some need fresh processes."""
    queue = JobQueue()
    for trial in fresh:
        queue.keep_for_fresh(trial)
    for trial in trials:
        queue.enter(job(trial), ahead=False)
    return queue


def taken(queue: JobQueue, turn: int = FRESH) -> str | None:
    """The trial that a group takes."""
    following = queue.next_for(turn)
    if following is None:
        return None
    queue.take(following)
    return following.trial


def test_jobs_are_taken_in_order_after_those_that_are_tried_again():
    queue = queue_of("t001", "t002")
    queue.enter(job("t000", attempt=2), ahead=True)
    assert [taken(queue, USED) for _ in range(4)] == ["t000", "t001", "t002", None]
    assert not queue


def test_a_job_waits_until_it_is_taken():
    queue = queue_of("t001")
    assert queue.next_for(FRESH) == queue.next_for(USED) == job("t001")
    assert queue


# Fresh processes.


def test_a_trial_that_needs_fresh_processes_is_skipped_by_all_others():
    queue = queue_of("t001", "t002", fresh=("t001",))
    assert taken(queue, USED) == "t002"
    assert taken(queue, USED) is None
    assert taken(queue, FRESH) == "t001"


def test_a_trial_that_has_had_fresh_processes_may_run_in_any_again():
    queue = queue_of("t001", fresh=("t001",))
    assert taken(queue, FRESH) == "t001"
    queue.enter(job("t001", attempt=2), ahead=True)
    assert taken(queue, USED) == "t001"


# Making way.


def test_one_group_makes_way_if_only_trials_for_fresh_processes_wait():
    queue = queue_of("t001", "t002", fresh=("t001", "t002"))
    assert queue.needs_room(USED)
    assert queue.needs_room(USED), "to ask changes nothing"
    queue.make_way(USED)
    assert not queue.needs_room(USED)


def test_no_group_makes_way_for_nothing_or_while_it_may_take_a_job():
    assert not queue_of().needs_room(USED)
    assert not queue_of("t001", fresh=("t002",)).needs_room(USED)
    assert not queue_of("t001", "t002", fresh=("t001",)).needs_room(USED)
    assert not queue_of("t001", fresh=("t001",)).needs_room(FRESH)


def test_a_group_that_ends_for_another_reason_makes_way_only_if_way_must_be_made():
    queue = queue_of("t001")
    queue.make_way(USED)
    taken(queue)
    queue.keep_for_fresh("t002")
    queue.enter(job("t002"), ahead=True)
    assert queue.needs_room(USED)


def test_another_group_makes_way_if_the_replacement_could_not_start():
    queue = queue_of("t001", fresh=("t001",))
    queue.make_way(USED)
    queue.has_no_room()
    assert queue.needs_room(USED)


def test_another_group_makes_way_for_the_next_trial_once_the_first_has_its_processes():
    queue = queue_of("t001", "t002", fresh=("t001", "t002"))
    queue.make_way(USED)
    assert taken(queue, FRESH) == "t001"
    assert queue.needs_room(USED)


# The smoke run.


def test_trials_wait_for_the_smoke_run():
    queue = queue_of(SMOKE, "t001")
    assert taken(queue) == SMOKE
    assert taken(queue) is None
    queue.smoke_over()
    assert taken(queue) == "t001"


def test_a_smoke_run_that_is_tried_again_comes_before_the_trials_that_wait():
    queue = queue_of(SMOKE, "t001")
    taken(queue)
    queue.enter(job(SMOKE, attempt=2), ahead=True)
    assert taken(queue, USED) == SMOKE


def test_no_group_makes_way_for_a_trial_that_waits_for_the_smoke_run():
    queue = queue_of(SMOKE, "t001")
    taken(queue)
    assert not queue.needs_room(USED)
