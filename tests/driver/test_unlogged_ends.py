"""What an interrupted attempt cost, also where the clock was set back meanwhile."""

from __future__ import annotations

import pytest

from sweeps.driver.unlogged_ends import end_of_attempt
from sweeps.records import events as ev
from sweeps.records.history import History
from sweeps.report import Report

REPORT = Report(
    trial="t001",
    number=1,
    step=1,
    max_steps=8,
    epoch=0.125,
    metrics={"eval_score": 0.5},
    train_s=30.0,
)


def history(
    *, job: float, report: float | None = None, lost: float, resumed: float | None = None
) -> History:
    """A trial on two devices whose process was lost after its newest event, by these clocks."""
    told = History("eval_score", "max")
    told.apply(ev.SweepStarted(sweep="s", time=job))
    told.apply(ev.TrialSuggested(trial="t001", params={}, origin="searcher", time=job, seed=0))
    told.apply(
        ev.JobStarted(trial="t001", attempt=1, group=1, devices=2, time=job),
    )
    if report is not None:
        told.apply(ev.Reported(report=REPORT, time=report))
    told.apply(ev.TrialSuggested(trial="t002", params={}, origin="searcher", time=lost, seed=0))
    if resumed is not None:
        told.apply(ev.SweepStarted(sweep="s", time=resumed))
    return told


@pytest.mark.parametrize(
    ("clocks", "device_s"),
    [
        ({"job": 1000.0, "report": 1050.0, "lost": 1100.0, "resumed": 5000.0}, 200.0),
        ({"job": 1000.0, "report": 1050.0, "lost": 1100.0}, 200.0),
        # Set back before the resume: what came after it is still the later process's.
        ({"job": 9000.0, "report": 9050.0, "lost": 9100.0, "resumed": 2000.0}, 200.0),
        # Set back by two hours while it ran: what the reports measured is left.
        ({"job": 9000.0, "report": 9050.0, "lost": 1900.0, "resumed": 2000.0}, 60.0),
        ({"job": 9000.0, "lost": 1900.0, "resumed": 2000.0}, 0.0),
    ],
)
def test_an_interrupted_attempt_counts_up_to_its_process_s_newest_event_and_never_below_zero(
    clocks: dict[str, float], device_s: float
):
    told = history(**clocks)
    end = end_of_attempt(told.trials["t001"], told)
    assert end is not None
    assert end.device_s == device_s


def test_a_process_that_is_lost_before_it_has_logged_anything_adds_no_device_time():
    told = history(job=1000.0, lost=1100.0, resumed=5000.0)
    told.apply(ev.SweepStarted(sweep="s", time=9000.0))
    end = end_of_attempt(told.trials["t001"], told)
    assert end is not None
    assert end.device_s == 200.0


def test_no_duration_of_a_history_is_below_zero_after_the_clock_was_set_back():
    told = history(job=9000.0, lost=1900.0)
    assert told.trials["t001"].device_s_by(2000.0) == 0.0
    assert told.used_s == 0.0
    told.apply(ev.SweepStarted(sweep="s", time=2000.0))
    told.apply(ev.TrialSuggested(trial="t003", params={}, origin="searcher", time=2000.0, seed=0))
    told.apply(ev.JobStarted(trial="t003", attempt=1, group=1, devices=2, time=2000.0))
    told.apply(ev.TrialSuggested(trial="t004", params={}, origin="searcher", time=2500.0, seed=0))
    assert (told.spent_s, told.used_s) == (0.0, 500.0)
