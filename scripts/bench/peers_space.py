"""The search space with which `peers.py` runs a sweep; the command line sets the rest."""

from ray import tune
from workload import EVALUATIONS, Marked

from sweeps import SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=Marked(model="", dataset="", marks=""),
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.choice([1e-5, 1e-4])},
    fixed={"num_train_epochs": 1, "total_train_batch_size": 32},
    evals_per_trial=EVALUATIONS,
)
