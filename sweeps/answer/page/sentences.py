"""The answer of a sweep in three sentences: who won, what may be as good, and what it cost.

Pure functions. They must not decide who won: `answer/answer.py` does and, with fresh seeds,
`answer/confirmation.py`.
"""

from __future__ import annotations

from sweeps.amounts import counted
from sweeps.answer.answer import Answer
from sweeps.answer.confirmation import Arm, Confirmed
from sweeps.answer.digits import number, percent, span
from sweeps.answer.gain import gain_in_words
from sweeps.answer.page.best_so_far import BestSoFar
from sweeps.answer.standing import Standing, interval
from sweeps.answer.wording import (
    difference_in_words,
    digits_of_answer,
    digits_of_arms,
    interval_in_words,
    unknown_in_words,
)
from sweeps.naming import some

NAMED = 4
"""Maximum number of params sets that are named as being like the winner's."""
NOT_COUNTED = "not adjusted for picking the best of many"
"""What a winner's interval leaves out: the winner was picked on these very rows and seeds."""


def three_sentences(answer: Answer, cost: BestSoFar) -> tuple[str, str, str]:
    """Return the answer in three sentences."""
    spent = _cost(answer, cost)
    if answer.winner is None:
        return "No trial has won yet.", "There is nothing to compare.", spent
    confirmed = answer.confirmation
    if confirmed is not None and confirmed.ended:
        return _confirmed(confirmed, answer.metric), _optimism(confirmed, answer.metric), spent
    return _winner(answer, answer.winner), _like_it(answer), spent


def amount(device_s: float) -> str:
    """Return device time as people say it: `1.9 device-hours`."""
    units = ("hour", 3600), ("minute", 60), ("second", 1)
    unit, seconds = next((unit for unit in units if device_s >= unit[1]), units[-1])
    count = f"{device_s / seconds:.3g}"
    return f"{count} device-{unit}{'s' * (count != '1')}"


def _winner(answer: Answer, winner: Standing) -> str:
    found, total = interval(winner, answer.metric), sum(answer.trials.values())
    digits, within = digits_of_answer(answer), ""
    if found is not None:
        chosen = f", {NOT_COUNTED}" if total > 1 else ""
        within = f" (95 % interval {span(*found)}{chosen})"
    if winner.repeats > 1:
        mean = f"{answer.metric} {number(winner.mean, digits)}{within}"
        of_seeds = f"the mean over {winner.seeds} of {winner.repeats} seeds"
        said = f"The best params are those of {winner.params_set}: {mean}, {of_seeds}"
    else:
        best = f"The best of {total} trials" if total > 1 else "The only trial"
        value = f"{answer.metric} {number(winner.value, digits)}{within}"
        at = f"reached at {percent(winner.progress)} of its training"
        said = f"{best} is {winner.trial} with {value}, {at}"
    if answer.baseline is not None:
        gain = gain_in_words(winner.params_set, answer.baseline, answer.compared, answer.gain)
        said += f"; {gain}"
    unknown = unknown_in_words(answer)
    if unknown is not None and answer.why_not_tested is None:  # else the next sentence has it
        said += f"; {unknown}"
    return f"{said}."


def _like_it(answer: Answer) -> str:
    noise = answer.row_noise
    if answer.not_told_apart is None and answer.why_not_tested is None:
        return "There is nothing to compare it with."
    if answer.why_not_tested is not None:
        unknown = unknown_in_words(answer) or ""
        return (
            f"{unknown[0].upper()}{unknown[1:]}; this ranking may be luck, and `confirm` runs the"
            " best params again with fresh seeds."
        )
    alone = ""
    if noise is not None:
        alone = (
            f"; the best leads the mean of {noise.trials} finished trials by {number(noise.lead)},"
            f" and of as many equally good trials, the best would lead by about"
            f" {number(noise.by_noise)}, by chance in the evaluation rows"
        )
    if not answer.not_told_apart:
        unfinished = answer.trials["stopped_early"] + answer.trials["not_ended"]
        far = ", compared as far as they trained" if unfinished else ""
        return f"At 5 %, a test tells the best from all other params{far}{alone}."
    named = some(answer.not_told_apart, NAMED, " and ")
    return f"This sweep cannot tell the best from {named}{alone}."


def _confirmed(confirmed: Confirmed, metric: str) -> str:
    named, winner = confirmed.named, confirmed.arms[0]
    digits = digits_of_arms(confirmed)
    seeds = f"on {len(confirmed.seeds)} fresh seeds"
    if named is None:
        mean = _mean(winner, digits, metric)
        return f"The winner {winner.params_set} is the baseline itself: {mean}."
    base = confirmed.arm(confirmed.baseline)
    verdict = {
        "better": "is better than",
        "worse": "is worse than",
        "not told apart": "cannot be told apart from",
        None: "has no verdict against",
    }[named.verdict]
    said = (
        f"{winner.params_set} {verdict} the baseline {base.params_set}: {seeds}"
        f" {_mean(winner, digits, metric)} against {_mean(base, digits)}"
    )
    found = named.difference
    if found is not None and found.n > 1:
        said += f", {difference_in_words(found, len(confirmed.seeds))}"
    if named.with_rows is not None:
        said += f"; {span(*named.with_rows)} with the noise of the evaluation rows"
    if confirmed.passed_over is not None:
        said += f"; {confirmed.passed_over}"
    return f"{said}."


def _mean(arm: Arm, digits: int, metric: str = "") -> str:
    found = arm.confirmed
    if found is None:
        return "no value (every run failed)"
    notes = [interval_in_words(found, digits, "95 % interval ")]
    if arm.failed:
        notes.append(f"{arm.failed} of {len(arm.values)} runs failed")
    within = "; ".join(filter(None, notes))
    return f"{metric} {number(found.mean, digits)}{f' ({within})' if within else ''}".strip()


def _optimism(confirmed: Confirmed, metric: str) -> str:
    winner = confirmed.arms[0]
    others = [
        f"{one.params_set} ({one.verdict or 'no verdict'})"
        for one in confirmed.comparisons
        if not one.named
    ]
    further = (
        f"; further params against the baseline: {some(others, len(others), ' and ')}"
        if others
        else ""
    )
    if winner.optimism is None or winner.search_value is None:
        return f"The search's own value for the winner is not comparable{further}."
    seen = f"The search saw {metric} {number(winner.search_value)} for the winner"
    if winner.optimism == 0:
        return f"{seen}, as did the fresh seeds{further}."
    luck = "more" if winner.optimism > 0 else "less"
    return (
        f"{seen}, {number(abs(winner.optimism))} {luck} favourable than the fresh seeds{further}."
    )


def _cost(answer: Answer, cost: BestSoFar) -> str:
    ends = answer.trials
    parts = [
        f"{ends[end]} {end.replace('_', ' ')}"
        for end in ("finished", "stopped_early", "failed", "not_ended")
        if ends[end]
    ]
    total = sum(ends.values())
    said = f"The sweep took {amount(cost.used_s)} for {counted(total, 'trial')}"
    said += f" ({some(parts, last=' and ')})" if parts else ""
    if answer.confirmation is not None:
        said += f", and {amount(answer.confirmation.device_s)} to confirm"
    if cost.saved_s > 0:
        said += f"; stopping {cost.stopped} of them early saved about {amount(cost.saved_s)}"
    return f"{said}."
