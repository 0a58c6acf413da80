"""How much each argument mattered for being among the best: PED-ANOVA over a sweep's params sets.

Runs wherever a sweep is inspected. It must not know how the result is displayed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from sweeps.records.history import History
from sweeps.searchers.optuna_space import OptunaSpace, direction
from sweeps.space.search_space import SearchSpace

TOP = 0.1
"""The importance is for being in this top fraction of the params sets."""
NEEDED = 50
"""Number of params sets with a value that a meaningful result requires: the authors recommend five
in the top tenth (optuna 5.0, `PedAnovaImportanceEvaluator`)."""


def importances(space: SearchSpace, history: History) -> tuple[Mapping[str, float], int]:
    """Return how much each domain contributed to params sets being good, largest first.

    Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
    Subspaces". Names are those of `Branch.name`. Empty if there are fewer than two values, or all
    of them are equal. Also returns the number of params sets that ended with a value.
    """
    observed = map(OptunaSpace(space).observed, history.sets())
    trials = [trial for trial in observed if trial.state == TrialState.COMPLETE]
    if len({trial.value for trial in trials}) < 2:
        return {}, len(trials)
    study = optuna.create_study(direction=direction(history.mode))
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PED-ANOVA warns that it is experimental
        evaluator = PedAnovaImportanceEvaluator(target_quantile=TOP)
        return get_param_importances(study, evaluator=evaluator), len(trials)
