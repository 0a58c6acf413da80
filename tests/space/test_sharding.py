"""Sharded trials: what is refused before a GPU starts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import transformers
from ray import tune

from sweeps.builders.causal_lm import CausalLM
from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import UserError
from sweeps.planning.training_warnings import training_warnings
from sweeps.space.loading import load_space
from sweeps.space.search_space import SearchSpace, fixed_values
from sweeps.space.sharding import (
    KEYS,
    config_problem,
    sharding_problems,
    shards,
    uses_deepspeed,
    without_deepspeed,
)

LAYERS = "fsdp_config.transformer_layer_cls_to_wrap"
GATHER = "with ZeRO-3, a model that can be exported is only saved if zero_optimization has"
WHOLE = {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}


@pytest.fixture(autouse=True)
def deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as installed, and HF accepts any config."""
    monkeypatch.setattr("sweeps.driver.requests.new_request.package_problems", lambda *_, **__: [])
    monkeypatch.setattr("sweeps.driver.requests.new_request.argument_problems", lambda *_: [])


def space(tuned: dict[str, Any] | None = None, **fixed: Any) -> SearchSpace:
    return SearchSpace(
        build_trainer=CausalLM(model="unused", dataset="unused").tiny(),
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-3), **(tuned or {})},
        fixed={"num_train_epochs": 1, **fixed},
    )


def problems(space: SearchSpace, workers: int = 2) -> list[str]:
    try:
        make_request(space, SweepConfig(workers_per_trial=workers))
    except UserError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize(
    "fixed",
    [
        {"fsdp": True},
        {"fsdp": True, "fsdp_config": {"activation_checkpointing": True, "fsdp_version": 2}},
        {"fsdp": True, "fsdp_config": {"state_dict_type": "FULL_STATE_DICT"}},
        {"fsdp": True, LAYERS: ["LlamaDecoderLayer"]},
        {"fsdp": "full_shard auto_wrap"},
    ],
)
def test_what_hf_takes_is_taken(fixed: dict[str, Any]) -> None:
    whole = space(**fixed)
    assert problems(whole) == []
    assert shards(whole)
    (warning,) = training_warnings(whole, workers=2, gpu=False)
    assert warning.startswith("fsdp has no effect: trials run on CPUs")
    assert list(training_warnings(whole, workers=2, gpu=True)) == []


@pytest.mark.parametrize(
    "fixed",
    [
        {"deepspeed": {"zero_optimization": {"stage": 2}}},
        {"deepspeed": {"zero_optimization": WHOLE}},
        {"deepspeed": {"zero_optimization": {"stage": 3}}, "deepspeed.zero_optimization": WHOLE},
        {"deepspeed.zero_optimization": WHOLE, "deepspeed.gradient_clipping": 1.0},
        {"deepspeed": "a file that only HF knows"},
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_config_of_deepspeed_is_taken(fixed: dict[str, Any], workers: int) -> None:
    assert sharding_problems(space(**fixed), workers) == []


def test_the_config_of_deepspeed_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "zero.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    (problem,) = problems(space(deepspeed=str(file)))
    assert problem.startswith(f"deepspeed: {GATHER}")
    file.write_text(json.dumps({"zero_optimization": WHOLE}))
    assert problems(space(deepspeed=str(file))) == []


def test_values_for_deepspeed_are_told_from_others() -> None:
    values = {"deepspeed": {}, "deepspeed.bf16": {"enabled": True}, "learning_rate": 1e-4}
    assert without_deepspeed(values) == {"learning_rate": 1e-4}
    assert uses_deepspeed(space(deepspeed={"bf16": {"enabled": True}}))
    assert uses_deepspeed(space({"deepspeed.gradient_clipping": tune.uniform(0.5, 1.0)}))
    assert not uses_deepspeed(space(deepspeed=None))


@pytest.mark.parametrize(
    ("key", "unsaved", "saved"),
    [
        ("deepspeed", {"zero_optimization": {"stage": 3}}, {"zero_optimization": WHOLE}),
        ("deepspeed.zero_optimization", {"stage": 3}, WHOLE),
    ],
)
def test_every_config_that_may_be_drawn_saves_a_model(key: str, unsaved: Any, saved: Any) -> None:
    assert problems(space({key: tune.choice([None, saved])})) == []
    (problem,) = problems(space({key: tune.choice([saved, unsaved])}))
    assert problem.startswith(f"deepspeed: {GATHER}")


def test_an_entry_of_the_config_can_be_tuned() -> None:
    tuned = {"fsdp_config.reshard_after_forward": tune.choice([True, False])}
    assert problems(space(tuned, fsdp=True)) == []


@pytest.mark.parametrize(
    ("fixed", "workers", "expected"),
    [
        (
            {"fsdp": True},
            1,
            ["fsdp shards a model across a trial's workers, but each trial has only one"],
        ),
        ({"fsdp": True, "deepspeed": "zero.json"}, 2, ["fsdp and deepspeed both shard the model"]),
        (
            {"fsdp": True, "fsdp_config.reshard_after_foward": False},
            2,
            [
                "fsdp_config.reshard_after_foward: fsdp_config has no such entry;"
                " did you mean 'reshard_after_forward'"
            ],
        ),
        (
            {"fsdp": True, "fsdp_config": {"offload": True}},
            2,
            ["fsdp_config.offload: fsdp_config has no such entry"],
        ),
        (
            {"fsdp": True, "fsdp_config.state_dict_type": "SHARDED_STATE_DICT"},
            2,
            [
                "fsdp_config.state_dict_type: only FULL_STATE_DICT, HF's default, saves a model"
                " that can be exported; remove it"
            ],
        ),
        ({"fsdp_config": {"version": 2}}, 2, ["fsdp_config has no effect without fsdp=True"]),
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, 2, [f"deepspeed: {GATHER}"]),
        ({"deepspeed.zero_optimization": {"stage": 3}}, 1, [f"deepspeed: {GATHER}"]),
        (
            {"deepspeed.zero_optimization.stage": 2},
            2,
            ["deepspeed.zero_optimization.stage: set deepspeed.zero_optimization as a whole"],
        ),
    ],
)
def test_what_cannot_work_is_refused(
    fixed: dict[str, Any], workers: int, expected: list[str]
) -> None:
    found = problems(space(**fixed), workers)
    assert len(found) == len(expected), found
    for text, beginning in zip(found, expected, strict=True):
        assert text.startswith(beginning)


def test_a_script_may_set_what_has_no_effect() -> None:
    @dataclass(frozen=True)
    class Given:
        argument_values: ClassVar[dict[str, Any]] = {"fsdp_config": {"min_num_params": 0}}

        def __call__(self, args: transformers.TrainingArguments) -> Any: ...

    given = SearchSpace(
        build_trainer=Given(),
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    )
    assert fixed_values(given)["fsdp_config"] == {"min_num_params": 0}
    assert sharding_problems(given, 1) == []


def test_layers_that_the_model_does_not_have_and_states_without_a_model_are_named() -> None:
    config = transformers.LlamaConfig(
        hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=2, vocab_size=9
    )
    model = transformers.LlamaForCausalLM(config)
    name = "transformer_layer_cls_to_wrap"
    assert config_problem({name: ["LlamaDecoderLayer"]}, model) is None
    assert config_problem({}, model) is None
    assert config_problem({"state_dict_type": "full_state_dict"}, model) is None
    assert config_problem({"state_dict_type": "SHARDED_STATE_DICT"}, model) == (
        "fsdp_config.state_dict_type: only FULL_STATE_DICT, HF's default, saves a model that can be"
        " exported; remove it"
    )
    assert config_problem({name: "LlamaLayer"}, model) == (
        f"fsdp_config.{name} names LlamaLayer, but LlamaForCausalLM has no such layer; without it,"
        " HF wraps LlamaDecoderLayer"
    )


def test_every_entry_that_hf_reads_is_known() -> None:
    """A newer transformers may read more."""
    source = Path(transformers.training_args.__file__).read_text()
    read = re.findall(r'self\.fsdp_config(?:\[|\.get\(|\.setdefault\()"(\w+)"', source)
    assert len(read) > 10
    assert set(read) <= KEYS


def test_the_shipped_space_is_sharded_and_on_cpus_says_that_it_is_not() -> None:
    shipped = load_space("smollm2_fsdp").space
    assert shards(shipped)
    assert sharding_problems(shipped, 2) == []
    (problem,) = sharding_problems(shipped, 1)
    assert problem.startswith("fsdp shards a model across a trial's workers")
    (warning,) = training_warnings(shipped, workers=2, gpu=False)
    assert "each worker holds the whole model" in warning
