"""A search space in the terms of Optuna: params sets as trials, and draws of its samplers.

Runs in the sweep process, and in `report` for the importance of arguments. It must not know which
sampler draws.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeps.records.params_set import ParamsSet
from sweeps.records.sweep_record import WarmStartTrial
from sweeps.report import Mode
from sweeps.searchers.base import Params, untrainable
from sweeps.searchers.candidates import DRAWS
from sweeps.searchers.distributions import distribution, drawn_for, value_of
from sweeps.space.conditions import Branch, active_branches, branches, choose
from sweeps.space.search_space import SearchSpace, fixed_values

optuna.logging.set_verbosity(optuna.logging.WARNING)


def direction(mode: Mode) -> StudyDirection:
    """Return a study's direction."""
    return StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE


class _Observed(FrozenTrial):
    """A trial that is never changed, so a shallow copy is enough.

    A study deep-copies each trial that it receives. Full copies of a thousand trials would take
    longer than the rest of a proposal.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return copy.copy(self)


class OptunaSpace:
    """A search space in Optuna's terms. An inactive argument is not a parameter of a trial."""

    def __init__(self, space: SearchSpace) -> None:
        self._branches = branches(space.tuned)
        self._fixed = fixed_values(space)
        self._distributions = {
            branch.name: distribution(branch.domain) for branch in self._branches
        }

    def draws(
        self, sampler: BaseSampler, mode: Mode, trials: Sequence[FrozenTrial] = ()
    ) -> Iterator[Params]:
        """Yield draws of a sampler after these trials, at most `DRAWS` of them.

        As soon as the next draw is taken, the sampler observes the previous one as pruned.
        """
        study = optuna.create_study(direction=direction(mode), sampler=sampler)
        study.add_trials(trials)
        for _ in range(DRAWS):
            trial = study.ask()
            yield choose(self._branches, self._fixed, functools.partial(self._suggest, trial))
            study.tell(trial, state=TrialState.PRUNED)

    def _suggest(self, trial: optuna.Trial, branch: Branch) -> Any:
        """Return the value of one branch; called one by one, so that Optuna sees the conditions."""
        found = self._distributions[branch.name]
        match found:
            case CategoricalDistribution():
                drawn: Any = trial.suggest_categorical(branch.name, found.choices)
            case IntDistribution():
                drawn = trial.suggest_int(
                    branch.name, found.low, found.high, step=found.step, log=found.log
                )
            case FloatDistribution():
                drawn = trial.suggest_float(
                    branch.name, found.low, found.high, step=found.step, log=found.log
                )
        return value_of(branch.domain, drawn)

    def observed(self, params_set: ParamsSet) -> FrozenTrial:
        """Return the trial that Optuna observes for a params set, whether it has a mean or not."""
        value = params_set.mean
        if not params_set.ended:
            state, value = TrialState.RUNNING, None
        elif untrainable(params_set):
            state, value = TrialState.PRUNED, None
        elif value is None:
            state = TrialState.FAIL
        else:
            state = TrialState.COMPLETE
        return self._frozen(params_set.params, state, value)

    def observed_before(self, trial: WarmStartTrial) -> FrozenTrial:
        """Return the trial that Optuna observes for a trial of an earlier sweep."""
        return self._frozen(trial.params, TrialState.COMPLETE, trial.value)

    def _frozen(
        self, params: Mapping[str, Any], state: TrialState, value: float | None
    ) -> FrozenTrial:
        found = active_branches(self._branches, self._fixed, params)
        now = datetime.now()
        return _Observed(
            number=-1,  # the study assigns a number, and the id as well
            trial_id=-1,
            state=state,
            value=value,
            datetime_start=now,
            datetime_complete=now if state.is_finished() else None,
            params={
                branch.name: drawn_for(branch.domain, params[key]) for key, branch in found.items()
            },
            distributions={
                branch.name: self._distributions[branch.name] for branch in found.values()
            },
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
