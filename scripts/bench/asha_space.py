"""The search space of `asha.py`: `bert_yelp` with 16 evaluations, so ASHA can stop early."""

import dataclasses

from ray import tune

from sweeps.space.loading import load_space

_SPACE = load_space("bert_yelp").space
_WARMUP = 0.05  # fraction of all steps; ends before the first rung, at 1/16
SEARCH_SPACE = dataclasses.replace(
    _SPACE,
    tuned={**_SPACE.tuned, "warmup_steps": tune.uniform(0.0, _WARMUP)},
    first_params=[{**params, "warmup_steps": _WARMUP} for params in _SPACE.first_params],
    evals_per_trial=16,
)
