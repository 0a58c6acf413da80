"""Values that need a package which is not installed are refused before anything starts."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import pytest
import ray
from ray import tune
from transformers import TrainingArguments

from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.planning.warnings import find_warnings
from sweeps.space.search_space import SearchSpace

WITHOUT = {
    "use_liger_kernel": False,
    "optim": "sgd",
    "attn_implementation": "sdpa",
    "deepspeed": None,
}


@dataclass(frozen=True)
class Builder:
    attn_implementation: str = "sdpa"

    def __call__(self, args: TrainingArguments) -> Any: ...


def space_of(tuned: dict[str, Any] | None = None, **fixed: Any) -> SearchSpace:
    return SearchSpace(
        build_trainer=Builder(),
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-3), **(tuned or {})},
        fixed=fixed,
    )


def problems(tuned: dict[str, Any] | None = None, **fixed: Any) -> list[str]:
    try:
        make_request(space_of(tuned, **fixed), SweepConfig())
    except UserError as error:
        return list(error.problems)
    return []


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the packages is installed, and no Ray runs yet."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize(
    ("key", "value", "package"),
    [
        ("use_liger_kernel", True, "liger-kernel"),
        ("optim", "adamw_bnb_8bit", "bitsandbytes"),
        ("optim", "paged_adamw_32bit", "bitsandbytes"),
        ("optim", "paged_lion_8bit", "bitsandbytes"),
        ("optim", "adamw_torch_8bit", "torchao"),
        ("optim", "galore_adamw_8bit", "galore-torch"),
        ("optim", "stable_adamw", "torch-optimi"),
        ("attn_implementation", "flash_attention_2", "flash-attn"),
        ("deepspeed", "zero.json", "deepspeed"),
    ],
)
def test_a_value_that_needs_a_package_is_refused(key: str, value: Any, package: str) -> None:
    (fixed,) = problems(**{key: value})
    assert fixed.startswith(f"fixed[{key!r}]: {value!r} requires {package}")
    assert fixed.endswith(f"which is not installed here; run pip install {package}")
    (tuned,) = problems({key: tune.choice([value, WITHOUT[key]])})
    assert tuned.startswith(f"tuned[{key!r}]: {value!r} requires {package}")


@pytest.mark.usefixtures("nothing")
def test_deepspeed_is_required_for_an_entry_of_its_config_and_to_join_a_cluster() -> None:
    """HF imports it with the arguments, which the sweep process checks."""
    space = space_of(**{"deepspeed.zero_optimization": {"stage": 2}})
    with pytest.raises(UserError) as caught:
        make_request(space, SweepConfig(address="10.0.0.5:6379"))
    (problem,) = caught.value.problems
    assert problem.startswith("fixed['deepspeed.zero_optimization']: {'stage': 2} requires")
    assert problem.endswith("deepspeed, which is not installed here; run pip install deepspeed")


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"])
def test_a_value_that_needs_none_is_taken(optim: str) -> None:
    assert problems(**{**WITHOUT, "optim": optim}) == []


@pytest.mark.usefixtures("nothing")
def test_what_the_nodes_of_a_cluster_may_have_is_only_warned_about() -> None:
    space = space_of(attn_implementation="flash_attention_2")
    request = make_request(space, SweepConfig(address="10.0.0.5:6379"))
    assert (
        "fixed['attn_implementation']: 'flash_attention_2' requires flash-attn or kernels, which is"
        " not installed here; run pip install flash-attn on each node that lacks it"
    ) in find_warnings(request, 2, gpu=True)


def test_what_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "kernels" or None)
    assert problems(attn_implementation="flash_attention_2") == []
