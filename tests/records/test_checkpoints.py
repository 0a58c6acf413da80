"""The files of a state and of a best checkpoint, their end marker and their digest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from sweeps.records import checkpoints
from sweeps.records.checkpoints import (
    MARKER,
    best_name,
    finish_checkpoint,
    is_whole,
    link_best,
    state_name,
    weights_sha256,
)

MODEL = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"tokens",
    "tokenizer_config.json": b"{}",
}
RESUME = {
    "optimizer.pt": b"moments",
    "scheduler.pt": b"schedule",
    "scaler.pt": b"scale",
    "rng_state_0.pth": b"rng",
    "rng_state_1.pth": b"rng",
    "trainer_state.json": b"{}",
    "training_args.bin": b"pickle",
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder as HF writes it for a whole state."""
    folder = tmp_path / state_name(8)
    folder.mkdir()
    for name, content in {**MODEL, **RESUME}.items():
        (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_a_state_has_the_name_that_hf_gives_it():
    assert state_name(8) == "checkpoint-8"
    assert best_name(8) == "best-8"


def test_the_files_of_a_checkpoint_follow_the_umask(state: Path):
    """As safetensors leaves them, others could not read a model in a shared folder."""
    (state / "model.safetensors").chmod(0o600)
    like = state.parent / "new"
    like.touch()
    finish_checkpoint(state, trial="t001", number=4, step=8)
    assert {file.stat().st_mode for file in state.iterdir()} == {like.stat().st_mode}


def test_the_best_is_the_model_alone_and_shares_its_files_with_the_state(state: Path):
    finish_checkpoint(state, trial="t001", number=4, step=8)
    best = state.with_name(best_name(8))
    link_best(state, best)
    assert names(best) == set(MODEL)
    assert all((best / name).samefile(state / name) for name in MODEL)


def test_the_best_has_nothing_of_what_deepspeed_adds_to_a_state(state: Path):
    (state / "global_step8").mkdir()
    (state / "global_step8" / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"moments")
    for name in ("latest", "zero_to_fp32.py", "zero_to_torch.py"):
        (state / name).write_text("global_step8")
    best = state.with_name(best_name(8))
    link_best(state, best)
    assert names(best) == set(MODEL)
    assert weights_sha256(best) == weights_sha256(state)


def test_the_best_has_the_subfolders_of_the_model(state: Path):
    """As transformers saves chat templates, peft adapters and sentence-transformers modules."""
    inner = {
        "additional_chat_templates/tool_use.jinja": b"template",
        "2_Dense/model.safetensors": b"more",
    }
    for name, content in {**inner, "optimizer_0/__0_0.distcp": b"moments"}.items():
        (state / name).parent.mkdir()
        (state / name).write_bytes(content)
    best = state.with_name(best_name(8))
    link_best(state, best)
    assert {file: (best / file).read_bytes() for file in inner} == inner
    assert not (best / "optimizer_0").exists()
    whole = weights_sha256(best)
    assert whole == weights_sha256(state)
    (best / "2_Dense" / "model.safetensors").write_bytes(b"damaged")
    assert weights_sha256(best) != whole


def test_what_an_earlier_attempt_left_of_a_best_is_replaced(state: Path):
    best = state.with_name(best_name(8))
    best.mkdir()
    (best / "half-written.safetensors").write_bytes(b"")
    link_best(state, best)
    assert names(best) == set(MODEL)


def test_the_best_outlives_its_state(state: Path):
    best = state.with_name(best_name(8))
    link_best(state, best)
    for file in state.iterdir():
        file.unlink()
    assert (best / "model.safetensors").read_bytes() == b"weights"


def test_a_checkpoint_is_whole_once_its_marker_says_what_it_is(state: Path):
    assert not is_whole(state)
    sha256 = finish_checkpoint(state, trial="t001", number=4, step=8)
    assert is_whole(state)
    assert json.loads((state / MARKER).read_text()) == {
        "trial": "t001",
        "number": 4,
        "step": 8,
        "sha256": sha256,
    }
    assert names(state) == {*MODEL, *RESUME, MARKER}


def test_a_best_checkpoint_holds_no_pickle(state: Path):
    best = state.rename(state.with_name(best_name(8)))
    finish_checkpoint(best, trial="t001", number=4, step=8)
    assert "training_args.bin" not in names(best)


def test_files_in_subfolders_such_as_those_of_several_adapters_are_flushed(
    state: Path, monkeypatch: pytest.MonkeyPatch
):
    flushed = list[Path]()
    monkeypatch.setattr(checkpoints, "flush", flushed.append)
    adapter = state / "second" / "adapter_model.safetensors"
    adapter.parent.mkdir()
    adapter.write_bytes(b"weights")
    finish_checkpoint(state, trial="t001", number=4, step=8)
    assert {adapter, adapter.parent, state / "model.safetensors"} <= set(flushed)


def test_the_sum_is_over_the_weights_in_the_order_of_their_names(state: Path):
    alone = weights_sha256(state)
    assert alone == hashlib.sha256(b"weights").hexdigest()
    (state / "adapter.bin").write_bytes(b"more ")
    assert weights_sha256(state) == hashlib.sha256(b"more weights").hexdigest()


def test_the_sum_is_the_same_for_a_state_and_its_best_and_says_if_a_byte_changed(state: Path):
    sha256 = finish_checkpoint(state, trial="t001", number=4, step=8)
    best = state.with_name(best_name(8))
    link_best(state, best)
    assert finish_checkpoint(best, trial="t001", number=4, step=8) == sha256
    (state / "optimizer.pt").write_bytes(b"other moments")
    assert weights_sha256(state) == sha256
    (best / "model.safetensors").write_bytes(b"weighty")
    assert weights_sha256(best) != sha256
