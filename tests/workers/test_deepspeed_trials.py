"""What a worker does about DeepSpeed. DeepSpeed itself is not needed here."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from accelerate.state import AcceleratorState

from sweeps.workers.deepspeed_trials import config_problem, forget, own_files, resume_problem

GATHER = "stage3_gather_16bit_weights_on_model_save"


def state_of(folder: Path, workers: int, prefix: str = "") -> Path:
    """A state as DeepSpeed saves it with ZeRO-3."""
    state = folder / "checkpoint-8"
    place = state / "global_step8"
    place.mkdir(parents=True)
    (state / "latest").write_text("global_step8")
    for rank in range(workers):
        for kind in ("model", "optim"):
            (place / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_{kind}_states.pt").touch()
    return state


@pytest.mark.parametrize("prefix", ["", "bf16_"])
def test_a_state_is_resumed_only_by_as_many_workers_as_saved_it(tmp_path: Path, prefix: str):
    state = state_of(tmp_path, workers=2, prefix=prefix)
    assert resume_problem(state, 2) is None
    assert resume_problem(state, 4) == (
        "DeepSpeed cannot resume checkpoint-8 with 4 workers: 2 have saved it, and each loads its"
        " own part"
    )


def test_a_state_without_parts_may_be_resumed_by_any_number_of_workers(tmp_path: Path):
    """Without ZeRO, each worker has the whole optimizer."""
    assert resume_problem(state_of(tmp_path, workers=0), 3) is None


def test_the_files_of_a_rank_are_its_own(tmp_path: Path):
    state = state_of(tmp_path, workers=12)
    assert [file.name for file in own_files(state, 1)] == [
        "zero_pp_rank_1_mp_rank_00_model_states.pt",
        "zero_pp_rank_1_mp_rank_00_optim_states.pt",
    ]
    assert own_files(tmp_path, 1) == []


def test_a_config_that_contradicts_the_arguments_is_named_with_all_contradictions():
    lines = ["- ds train_batch_size=8 vs hf train_batch_size (calculated)=16", "- ds a=1 vs hf b=2"]
    config = SimpleNamespace(mismatches=lines, config={"zero_optimization": {"stage": 2}})
    assert config_problem(config) == (
        "the deepspeed config contradicts other arguments: ds train_batch_size=8 vs hf"
        " train_batch_size (calculated)=16; ds a=1 vs hf b=2; set such entries to 'auto',"
        " and set or tune the arguments instead"
    )


def test_a_config_of_a_trial_that_saves_no_model_is_refused():
    zero = {"stage": 3}
    config = SimpleNamespace(mismatches=[], config={"zero_optimization": zero})
    problem = config_problem(config)
    assert problem is not None
    assert GATHER in problem
    zero[GATHER] = True
    assert config_problem(config) is None


def test_what_deepspeed_keeps_of_a_trial_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    def instrumented(function: Callable[..., object]) -> Callable[..., object]:
        return lambda *args: function(*args)

    @instrumented
    @functools.cache
    def releases(model: object) -> object:
        return model

    class Model: ...

    offload, model = ModuleType("parameter_offload"), Model()
    offload.FWD_MODULE_STACK = [model]
    offload.PartitionedParameterCoordinator = type("Coordinator", (), {"releases": releases})
    releases(model)
    kept = weakref.ref(model)
    del model
    monkeypatch.setitem(sys.modules, "deepspeed.runtime.zero.parameter_offload", offload)
    monkeypatch.setitem(AcceleratorState._shared_state, "deepspeed_plugins", "a config")
    forget()
    gc.collect()
    assert kept() is None
    assert AcceleratorState._shared_state == {}


def test_without_deepspeed_nothing_is_forgotten():
    assert "deepspeed.runtime.zero.parameter_offload" not in sys.modules
    forget()
