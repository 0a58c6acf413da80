"""The large numbers at the top of a sweep's page: the winner's values, and its gain.

Pure functions. They must not judge, nor show other digits than the sentences beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.answer.answer import Answer
from sweeps.answer.digits import number, percent, span
from sweeps.answer.standing import interval
from sweeps.answer.wording import digits_of_answer, digits_of_arms, interval_in_words


@dataclass(frozen=True)
class Tile:
    """A number, and what it is."""

    number: str
    what: str


def value_tiles(answer: Answer) -> list[Tile]:
    """Return the winner's confirmed value, its value in the search and its gain, if known."""
    winner, baseline, confirmed = answer.winner, answer.baseline, answer.confirmation
    if winner is None:
        return []
    tiles = []
    fresh = confirmed.arms[0].confirmed if confirmed is not None and confirmed.ended else None
    if confirmed is not None and fresh is not None:
        digits = digits_of_arms(confirmed)
        within = interval_in_words(fresh, digits, ", ") if fresh.low is not None else ""
        tiles.append(Tile(number(fresh.mean, digits), f"{answer.metric}, confirmed{within}"))
    found = interval(winner, answer.metric)
    within = f", {span(*found)}" if found is not None else ""
    mean = number(winner.mean, digits_of_answer(answer))
    tiles.append(Tile(mean, f"{answer.metric}, best of the search{within}"))
    if (
        answer.gain is not None
        and baseline is not None
        and baseline.params_set != winner.params_set
    ):
        sign = "-" if answer.gain < 0 else "+"
        at = f", at {percent(baseline.progress)}" if baseline.progress < 1 else ""
        gain = f"{sign}{number(abs(answer.gain))}"
        tiles.append(Tile(gain, f"gain over the first params{at}"))
    return tiles
