"""Words that everything that shows the answer shares: an interval, or why there is none.

Pure functions, used by the verbs, the page and the trackers. They must not judge.
"""

from __future__ import annotations

from sweeps.answer.answer import Answer
from sweeps.answer.confirmation import FEWEST_SEEDS, Comparison, Confirmed
from sweeps.answer.digits import USUAL, digits_to_tell_apart, number, span
from sweeps.answer.seed_statistics import Estimate


def unknown_in_words(answer: Answer) -> str | None:
    """Return what is not known of the winner, and why; None if nothing is missing."""
    if answer.why_not_tested is not None:
        return f"it is unknown which other params are as good: {answer.why_not_tested}"
    if answer.winner is not None and answer.winner.why_no_error is not None:
        return f"its standard error is unknown: {answer.winner.why_no_error}"
    return None


def digits_of_answer(answer: Answer) -> int:
    """Return the significant digits that tell the winner from the first params."""
    shown = [answer.winner.mean] if answer.winner is not None else []
    shown += [answer.baseline.mean] if answer.baseline is not None else []
    return digits_to_tell_apart(shown)


def digits_of_arms(confirmed: Confirmed) -> int:
    """Return the significant digits that tell the means of all arms apart, and from their ends."""
    means = [arm.confirmed for arm in confirmed.arms if arm.confirmed is not None]
    digits = digits_to_tell_apart(found.mean for found in means)
    return max(
        (digits_to_tell_apart((each.low, each.mean, each.high), digits) for each in means),
        default=digits,
    )


def why_no_verdict(named: Comparison | None) -> str | None:
    """Return why a comparison in a confirmation that has ended has no verdict; None if it has one.

    Args:
        named: None: the search's winner is the baseline, so that there is nothing to compare.
    """
    if named is None:
        return "the search's winner is the baseline itself"
    if named.verdict is not None:
        return None
    found = named.difference
    if found is None or found.n < 2:
        return "the two have fewer than two seeds in common"
    if found.n < FEWEST_SEEDS:
        return f"{found.n} seeds are too few (at least {FEWEST_SEEDS} are needed)"
    return "every seed gave the same value, so the noise between seeds is unknown"


def interval_in_words(found: Estimate, digits: int = USUAL, name: str = "") -> str:
    """Return the interval of a mean over runs, or why it has none; empty for a single run.

    Args:
        found: The mean.
        digits: Significant digits of the mean.
        name: What stands before the interval.
    """
    if found.low is not None and found.high is not None:
        return f"{name}{span(found.low, found.high, digits)}"
    return "every run has this value, so no interval" if found.n > 1 else ""


def difference_in_words(found: Estimate, seeds: int) -> str:
    """Return the mean difference of two arms, with its interval, as far as there is one.

    Args:
        found: The difference over the seeds for which both arms have a value.
        seeds: The seeds with which each arm ran.
    """
    few = f" over {found.n} of {seeds} seeds" if found.n < seeds else ""
    within = "the same for each seed, so no interval; " if found.n > 1 else ""
    if found.low is not None and found.high is not None:
        within = f"{span(found.low, found.high)}, "
    return f"mean difference {number(found.mean)}{few} ({within}positive is better)"
