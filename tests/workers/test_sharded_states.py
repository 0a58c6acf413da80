"""Each rank writes its own part of a state; a model is saved whole. HF shards only on GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from accelerate import FullyShardedDataParallelPlugin, PartialState
from accelerate.utils import load_fsdp_model, save_fsdp_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import StateDictType, fully_shard

from sweeps.records import checkpoints
from sweeps.records.checkpoints import finish_checkpoint, weight_files
from sweeps.workers.sharded_states import gathered, own_parts, save_in_parts


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    PartialState(cpu=True)  # without it, accelerate does not log
    yield
    PartialState._reset_state()
    dist.destroy_process_group()


@pytest.fixture
def trainer() -> Any:
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="FULL_STATE_DICT")
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        process_index=0,
        num_processes=1,
        is_fsdp2=True,
        is_main_process=True,
        wait_for_everyone=lambda: None,
    )
    return SimpleNamespace(is_fsdp_enabled=True, accelerator=accelerator)


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return fully_shard(torch.nn.Linear(4, 4), mesh=init_device_mesh("cpu", (1,)))


def test_a_state_is_saved_and_loaded_in_parts_also_after_a_model_was_saved_whole(
    trainer: Any, group: None, tmp_path: Path
):
    """As accelerate does for HF, with the settings that the trainer then has."""
    plugin = trainer.accelerator.state.fsdp_plugin
    save_in_parts(trainer)
    with gathered(trainer):
        assert plugin.state_dict_type == StateDictType.FULL_STATE_DICT
    saved, loaded = model(), model()
    save_fsdp_model(plugin, trainer.accelerator, saved, tmp_path / "state")
    with torch.no_grad():
        loaded.weight.zero_()
    load_fsdp_model(plugin, trainer.accelerator, loaded, tmp_path / "state")
    assert torch.equal(saved.weight.full_tensor(), loaded.weight.full_tensor())
    assert [file.name for file in own_parts(tmp_path / "state", 0)] == ["__0_0.distcp"]
    assert own_parts(tmp_path / "state", 1) == []


def test_the_parts_of_a_state_are_flushed_and_digested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flushed = list[Path]()
    monkeypatch.setattr(checkpoints, "flush", flushed.append)
    digests = set[str]()
    for number in range(2):
        state = tmp_path / f"checkpoint-{number}"
        for folder in ("pytorch_model_fsdp_0", "optimizer_0"):
            (state / folder).mkdir(parents=True)
            for rank in range(2):
                (state / folder / f"__{rank}_0.distcp").write_bytes(bytes([number]))
        digests.add(finish_checkpoint(state, trial="t001", number=1, step=1))
        parts = set(state.glob("*/*"))
        assert len(parts) == 4
        assert parts <= set(flushed)
        assert [file.parent.name for file in weight_files(state)] == ["pytorch_model_fsdp_0"] * 2
    assert len(digests) == 2


def test_other_trainers_are_left_alone():
    trainer: Any = SimpleNamespace(is_fsdp_enabled=False)
    save_in_parts(trainer)
    with gathered(trainer):
        pass
