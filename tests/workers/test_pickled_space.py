"""A space with its code, as bytes for the workers."""

import pickle

import pytest
import torch
from ray import cloudpickle, tune
from torch.backends import cudnn

from sweeps import SearchSpace
from sweeps.workers.pickled_space import pickled


def dotted(args):
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True


def by_name(args):
    cudnn.benchmark = True


@pytest.mark.parametrize("build", [dotted, by_name])
def test_a_builder_may_use_the_modules_of_torch_that_have_a_type_of_their_own(build):
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["_"]))
    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1)},
    )
    try:
        copy = pickle.loads(pickled(space))
    finally:
        cloudpickle.unregister_pickle_by_value(__import__(__name__, fromlist=["_"]))
    assert copy.build_trainer is not build
    assert copy.build_trainer.__globals__.get("cudnn", cudnn) is torch.backends.cudnn
