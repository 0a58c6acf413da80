"""A space that was made in Python, with its code, as bytes for the workers."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from ray import cloudpickle, tune
from torch.backends import cudnn

from sweeps import SearchSpace
from sweeps.errors import UserError
from sweeps.space.loading import LoadedSpace
from sweeps.workers.pickled_space import opened, pickled

LOCK = threading.Lock()


@functools.lru_cache
def rows() -> list[int]:
    return []


def dotted(args):
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True


def by_name(args):
    cudnn.benchmark = True


def locked(args):
    with LOCK:
        pass


def through_another(args):
    locked(args)


def cached(args):
    return rows()


class Object:
    def __call__(self, args):
        return locked(args)


@dataclass
class Fields:
    lock: Any

    def __call__(self, args): ...


@pytest.fixture(autouse=True)
def by_value() -> Iterator[ModuleType]:
    """This module as the one in which a notebook's cells are."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)


def sent(build: Callable[..., Any], **fixed: Any) -> bytes:
    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1)},
        fixed=fixed,
        constraints=[lambda _: LOCK.locked()],
    )
    loaded = LoadedSpace(space=space, name="inline", file=None, root=Path.cwd(), folder=None)
    return pickled(loaded, space)


@pytest.mark.parametrize("build", [dotted, by_name])
def test_a_builder_may_use_the_modules_of_torch_that_have_a_type_of_their_own(build: Any):
    copy = opened(sent(build), Path())
    assert copy.build_trainer is not build
    assert copy.build_trainer.__globals__.get("cudnn", cudnn) is torch.backends.cudnn


@pytest.mark.parametrize(
    "build", [locked, through_another, functools.partial(locked), Object(), lambda _: LOCK]
)
def test_a_global_that_cannot_travel_is_named(build: Any):
    with pytest.raises(UserError) as raised:
        sent(build)
    assert str(raised.value) == (
        f"the search space: LOCK = {LOCK!r:.60}: this global cannot be sent to the workers: cannot"
        " pickle '_thread.lock' object; create it inside the function, or move the space to a file"
        " of its own"
    )


def test_a_cache_that_the_workers_would_not_find_is_named():
    with pytest.raises(
        UserError, match=r"rows = .*: this global cannot be sent .*: a functools cache"
    ):
        sent(cached)


def test_a_value_that_cannot_travel_is_named():
    with pytest.raises(UserError, match=r"lock = .*: cannot be sent to the workers: cannot pickle"):
        sent(Fields(LOCK))
    with pytest.raises(
        UserError, match=r"fixed\['it'\] = .*: cannot be sent to the workers: cannot"
    ):
        sent(dotted, it=LOCK)
