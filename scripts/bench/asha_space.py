"""The search space of `asha.py`: `bert_yelp` with 16 evaluations, so ASHA can stop early."""

import dataclasses

from sweeps.space.loading import load_space

SEARCH_SPACE = dataclasses.replace(load_space("bert_yelp").space, evals_per_trial=16)
