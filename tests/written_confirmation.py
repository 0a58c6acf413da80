"""The events of a confirmation whose runs had these values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.records import events as ev
from sweeps.report import Report

FIRST_SEED = 100


def trial_events(
    trial: str, value: float | None, metric: str = "eval_score", **fields: Any
) -> list[ev.Event]:
    """The events of a trial with one report; None: it fails before that."""
    fields = {"params": {"height": 1.0}, "origin": "searcher", "seed": 0} | fields
    begun: list[ev.Event] = [
        ev.TrialSuggested(time=0, trial=trial, **fields),
        ev.JobStarted(time=0, trial=trial, attempt=1, group=1, devices=1),
    ]
    if value is None:
        return [*begun, ev.TrialEnded(time=0, trial=trial, status="failed", failure="error")]
    report = Report(
        trial=trial, number=1, step=8, max_steps=8, epoch=1.0, metrics={metric: value}, train_s=1.0
    )
    ended = ev.TrialEnded(time=0, trial=trial, status="finished")
    return [*begun, ev.Reported(time=0, report=report), ended]


def confirmation_events(
    arms: Mapping[str, Sequence[float | None]],
    *,
    baseline: str = "t001",
    metric: str = "eval_score",
    ended: bool = True,
) -> list[ev.Event]:
    """The events of a confirmation with a value for each seed of each arm."""
    (seeds,) = {len(values) for values in arms.values()}
    fresh = [FIRST_SEED + turn for turn in range(seeds)]
    inner: list[ev.Event] = [ev.SweepStarted(time=0, sweep="confirmed")]
    for turn, seed in enumerate(fresh):
        for place, values in enumerate(arms.values()):
            run, of = f"c{turn * len(arms) + place + 1:03}", f"c{place + 1:03}" if turn else None
            inner += trial_events(run, values[turn], metric, seed=seed, of=of)
    if ended:
        inner.append(ev.SweepEnded(time=0, status="finished"))
    asked = ev.ConfirmationStarted(time=0, arms=[*arms], baseline=baseline, seeds=fresh)
    return [asked, *(ev.OfConfirmation(time=0, inner=event) for event in inner)]
