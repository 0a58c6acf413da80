"""What a confirmation says: how the arms did on fresh seeds, and whether the winner is better.

Computed in any process, from the history alone. It must not know how the runs were made,
nor how the verdict is printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeps.answer.row_noise import over_seeds_and_rows
from sweeps.answer.seed_statistics import (
    LEVEL,
    Estimate,
    estimate,
    holm,
    paired_differences,
    paired_t,
    sign_flip,
)
from sweeps.answer.standing import mean_over_seeds
from sweeps.records.history import Confirmation, History
from sweeps.report import alike, difference, rounded

Verdict = Literal["better", "not told apart", "worse"]
FEWEST_SEEDS = 6
"""Fewer seeds give no verdict: the sign-flip test could not get below 0.05 in any case."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Params that were run again, once with each fresh seed."""

    params_set: str
    """The id of the params set in the search."""
    params: Mapping[str, Any]
    search_value: float | None
    """What the search judged them by; None if they had no value there."""
    runs: Sequence[str]
    """Ids of the runs, in the order of the seeds."""
    values: Sequence[float | None]
    """The best value of each run, in the same order; None: it failed, or has not ended."""
    confirmed: Estimate | None
    """Mean and interval over the values; None if there are no values."""
    optimism: float | None
    """How much better the search's value is than the confirmed mean: the part due to luck. None if
    one is missing, or if the search stopped a trial of these params early."""

    @property
    def failed(self) -> int:
        """Number of runs without a value: once the confirmation has ended, those that failed."""
        return sum(value is None for value in self.values)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against the baseline, seed by seed."""

    params_set: str
    """The arm."""
    named: bool
    """Whether this is the comparison that was named before the first run: the search's winner
    against the baseline."""
    difference: Estimate | None
    """The difference over the seeds for which both have a value; positive if the arm is better."""
    p_value: float
    """p-value of the paired t-test, two-sided; if all differences are equal, of the sign-flip test.
    For comparisons that were not named, it is adjusted by Holm's method."""
    p_sign_flip: float
    """p-value of the exact sign-flip test, two-sided, not adjusted."""
    with_rows: tuple[float, float] | None
    """95 % interval of the difference on fresh seeds and fresh rows; None if it is not known what
    each row adds to the metric, or if it adds the same difference with each seed."""
    varies: bool
    """Whether the runs of one of the two have different values. If not, seeds have no effect, or
    the metric does not show it on so few rows; the number of runs then proves nothing."""
    verdict: Verdict | None
    """None while runs are missing, with fewer than `FEWEST_SEEDS` pairs, or if nothing varies."""


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What a confirmation has found so far, or in the end."""

    ended: bool
    """Whether all runs have ended."""
    seeds: Sequence[int]
    baseline: str
    """The params set that the others are compared with."""
    arms: Sequence[Arm]
    """Best of the search first."""
    comparisons: Sequence[Comparison]
    """The named comparison comes first; it is missing if the search's winner is the baseline."""
    best: str | None
    """The arm with the best mean among those with the fewest failed runs; None before the end."""
    best_run: str | None
    """The run of `best` whose checkpoint is kept."""
    device_s: float
    """Device-seconds of all attempts, those of a running one up to the newest event."""

    @property
    def named(self) -> Comparison | None:
        """The comparison of the search's winner with the baseline, if they differ."""
        return next((one for one in self.comparisons if one.named), None)

    @property
    def passed_over(self) -> str | None:
        """Why `best` is not the arm that the verdict calls better, in words; None if it is."""
        named = self.named
        if named is None or named.verdict != "better" or self.best in (None, named.params_set):
            return None
        fewer = self.arm(self.best).failed < self.arm(named.params_set).failed
        why = "fewer of its runs failed" if fewer else "its mean is better"
        return f"export takes a run of {self.best}, not of {named.params_set}, because {why}"

    def arm(self, params_set: str) -> Arm:
        """Return an arm by its params set."""
        return next(arm for arm in self.arms if arm.params_set == params_set)


def find_confirmed(history: History) -> Confirmed | None:
    """Return what the confirmation of a sweep says; None if its winner was not confirmed."""
    confirmation, winner = history.confirmation, history.winner()
    if confirmation is None or winner is None:
        return None
    if history.set_of(winner).id != confirmation.asked.arms[0]:  # the search has continued since
        return None
    asked, runs = confirmation.asked, confirmation.runs
    all_begun = len(runs.trials) == len(asked.arms) * len(asked.seeds)
    # It has also ended if it failed because no run reported anything.
    ended = runs.ended is not None and all_begun and all(r.ended for r in runs.trials.values())
    arms = [_arm(name, history, confirmation) for name in asked.arms]
    best = _best(arms, history.mode == "max") if ended else None
    return Confirmed(
        ended=ended,
        seeds=tuple(asked.seeds),
        baseline=asked.baseline,
        arms=arms,
        comparisons=_comparisons(arms, asked.baseline, runs, ended),
        best=best.params_set if best else None,
        best_run=_kept_run(best, runs) if best else None,
        device_s=runs.device_s_by(runs.newest or 0.0),
    )


def _arm(name: str, history: History, confirmation: Confirmation) -> Arm:
    runs = confirmation.runs
    place = list(confirmation.asked.arms).index(name)
    begun = list(runs.trials.values())[place :: len(confirmation.asked.arms)]
    values = [runs.value(run) if run.status == "finished" else None for run in begun]
    values += [None] * (len(confirmation.asked.seeds) - len(begun))
    searched = history.set_of(history.trials[name])
    search_value = searched.mean
    confirmed = mean_over_seeds([v for v in values if v is not None], history.metric)
    optimism = None
    complete = all(trial.status == "finished" for trial in searched.trials)
    if search_value is not None and confirmed is not None and complete:
        seen, found = search_value, confirmed.mean
        optimism = difference(*((seen, found) if history.mode == "max" else (found, seen)))
    return Arm(
        params_set=name,
        params=history.trials[name].params,
        search_value=search_value,
        runs=tuple(run.id for run in begun),
        values=tuple(values),
        confirmed=confirmed,
        optimism=optimism,
    )


def _comparisons(
    arms: Sequence[Arm], baseline: str, runs: History, ended: bool
) -> list[Comparison]:
    """Return each arm's comparison with the baseline, the search's winner first."""
    base = next(arm for arm in arms if arm.params_set == baseline)
    others = [arm for arm in arms if arm is not base]
    winner, higher_is_better = arms[0].params_set, runs.mode == "max"
    differences = [_differences(arm, base, higher_is_better) for arm in others]
    p_values = [paired_t(each) for each in differences]
    further = [i for i, arm in enumerate(others) if arm.params_set != winner]
    for i, adjusted in zip(further, holm([p_values[i] for i in further]), strict=True):
        p_values[i] = adjusted
    return [
        Comparison(
            params_set=arm.params_set,
            named=arm.params_set == winner,
            difference=(found := estimate(each)),
            p_value=p_value,
            p_sign_flip=sign_flip(each),
            with_rows=_with_rows(arm, base, runs),
            varies=(varies := _varies(arm) or _varies(base)),
            verdict=_verdict(found, p_value) if ended and varies else None,
        )
        for arm, each, p_value in zip(others, differences, p_values, strict=True)
    ]


def _differences(arm: Arm, base: Arm, higher_is_better: bool) -> list[float]:
    """Return how much better an arm is than the baseline, for each seed that both have."""
    return paired_differences(
        [
            (value, other) if higher_is_better else (other, value)
            for value, other in zip(arm.values, base.values, strict=True)
            if value is not None and other is not None
        ]
    )


def _with_rows(arm: Arm, base: Arm, runs: History) -> tuple[float, float] | None:
    """Return how much better an arm is than the baseline, also counting the choice of rows."""
    pairs = []
    for run, other, *values in zip(arm.runs, base.runs, arm.values, base.values, strict=False):
        one, another = runs.best(runs.trials[run]), runs.best(runs.trials[other])
        if None not in values and one is not None and another is not None:
            pairs.append((one, another) if runs.mode == "max" else (another, one))
    found = over_seeds_and_rows(pairs)
    return found.interval if found is not None else None


def _varies(arm: Arm) -> bool:
    """Tell whether the values of an arm differ by more than rounding does."""
    values = [value for value in arm.values if value is not None]
    return bool(values) and not alike(values)


def _verdict(difference: Estimate | None, p_value: float) -> Verdict | None:
    if difference is None or difference.n < FEWEST_SEEDS:
        return None
    if p_value > 1 - LEVEL:
        return "not told apart"
    return "better" if difference.mean > 0 else "worse"


def _best(arms: Sequence[Arm], higher_is_better: bool) -> Arm | None:
    """Return the arm with the best mean among those that lack the fewest seeds."""

    def key(arm: Arm) -> tuple[int, float]:
        assert arm.confirmed is not None, "only these compete"
        mean = rounded(arm.confirmed.mean)
        return arm.confirmed.n, mean if higher_is_better else -mean

    return max((arm for arm in arms if arm.confirmed is not None), key=key, default=None)


def _kept_run(arm: Arm, runs: History) -> str | None:
    return next((run for run in arm.runs if "best" in runs.trials[run].checkpoints), None)
