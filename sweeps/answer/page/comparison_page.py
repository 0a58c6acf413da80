"""What the page of several sweeps shows: their best so far, their winners, and what differs.

Computed in any process, from the sweeps' folders. It must not know HTML.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.answer.answer import Answer
from sweeps.answer.digits import digits_to_tell_apart
from sweeps.answer.page.best_so_far import BestSoFar, find_best_so_far
from sweeps.answer.page.sentences import NOT_COUNTED, amount
from sweeps.answer.page.what_ran import find_what_ran
from sweeps.answer.results import Results
from sweeps.answer.standing import interval
from sweeps.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ComparedSweep:
    """One of several sweeps."""

    sweep: str
    answer: Answer
    interval: tuple[float, float] | None
    """95 % interval of the winner's mean."""
    verdict: str | None
    """The verdict of its confirmation; None without one."""
    best_so_far: BestSoFar


@dataclass(frozen=True, kw_only=True)
class ComparisonPage:
    """What the page of several sweeps shows."""

    metric: str
    sentences: Sequence[str]
    made: float
    """Unix time at which the sweeps were read."""
    sweeps: Sequence[ComparedSweep]
    digits: int
    """Significant digits that tell the winners' means apart."""
    params: Sequence[str]
    """The winners' arguments, in order."""
    differences: Sequence[tuple[str, Sequence[str | None]]]
    """What differs in the definitions and versions: its name, and the value in each sweep (None if
    it has none)."""


def comparison_page(found: Sequence[Results]) -> ComparisonPage:
    """Return what the page of several sweeps shows.

    Raises:
        UserError: The sweeps are judged by different metrics.
    """
    judged = {(one.history.metric, one.history.mode) for one in found}
    if len(judged) > 1:
        lines = [f"{one.folder.id}: {one.history.metric} ({one.history.mode})" for one in found]
        raise UserError("\n  ".join(["only sweeps with the same metric can be compared:", *lines]))
    sweeps = [_compared(one) for one in found]
    winners = [one.answer.winner for one in sweeps if one.answer.winner is not None]
    return ComparisonPage(
        metric=found[0].history.metric,
        sentences=_sentences(sweeps, found[0].history.mode == "max"),
        made=time.time(),
        sweeps=sweeps,
        digits=digits_to_tell_apart(winner.mean for winner in winners),
        params=list(dict.fromkeys(key for winner in winners for key in winner.params)),
        differences=_differences(found),
    )


def _compared(results: Results) -> ComparedSweep:
    answer = results.answer
    named = answer.confirmation.named if answer.confirmation is not None else None
    return ComparedSweep(
        sweep=results.folder.id,
        answer=answer,
        interval=interval(answer.winner, answer.metric) if answer.winner is not None else None,
        verdict=named.verdict if named is not None else None,
        best_so_far=find_best_so_far(results.events, results.history, answer.device_s),
    )


def _sentences(sweeps: Sequence[ComparedSweep], higher_is_better: bool) -> list[str]:
    """Return sentences on which sweep found the best, and what each of them cost."""
    ranked = [(one.answer.winner.mean, one) for one in sweeps if one.answer.winner is not None]
    ranked.sort(key=lambda pair: pair[0], reverse=higher_is_better)
    if not ranked:
        return ["No trial has won yet."]
    (value, best), others = ranked[0], ranked[1:]
    low, high = best.interval or (value, value)
    digits = digits_to_tell_apart(mean for mean, _ in ranked)
    within = ""
    if best.interval is not None:
        within = f" (95 % interval {low:.{digits}g} to {high:.{digits}g}, {NOT_COUNTED})"
    near = [f"{one.sweep} {mean:.{digits}g}" for mean, one in others if low <= mean <= high]
    behind = [f"{one.sweep} {mean:.{digits}g}" for mean, one in others if not low <= mean <= high]
    lines = [f"{best.sweep} found the best {best.answer.metric}: {value:.{digits}g}{within}."]
    if near:
        what = "Within that interval" if best.interval is not None else "With the same value"
        lines.append(f"{what}: {', '.join(near)}.")
    if behind:
        lines.append(f"Behind it: {', '.join(behind)}.")
    cost = [f"{one.sweep} took {amount(one.best_so_far.used_s)}" for one in sweeps]
    return [*lines, f"{', '.join(cost)}."]


def _differences(found: Sequence[Results]) -> list[tuple[str, Sequence[str | None]]]:
    facts = []
    for one in found:
        ran = find_what_ran(one)
        versions = {f"version of {name}": version for name, version in ran.versions.items()}
        around = {"devices": ran.devices or "not recorded", "commit": ran.commit or "none"}
        facts.append({**ran.definition, **around, **versions})
    names = dict.fromkeys(name for one in facts for name in one)
    rows = [(name, [one.get(name) for one in facts]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
