"""What HF saves is copied at once and written later, to the same bits."""

from __future__ import annotations

import fcntl
import functools
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from sweeps.records.checkpoints import weight_files, weights_sha256
from sweeps.workers import host_memory
from sweeps.workers.failures.raised_errors import storage_failed
from sweeps.workers.host_memory import alone_on_host, free_memory
from sweeps.workers.saving import host_copies
from sweeps.workers.saving.host_copies import HostCopies, Unwritten
from sweeps.workers.saving.library_saves import instead_of_writing
from tests.workers.own_trainers import Net, rows


def gpt2() -> PreTrainedModel:
    """A model whose output weights are those of its input."""
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=8, n_embd=8, n_layer=1, n_head=1))


class Odd(Net):
    """With buffers of no dimension, of no element, and of one byte each."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("none", torch.empty(0, 2))
        self.register_buffer("flags", torch.tensor([True, False, True]))


class Apart(Net):
    """With weights beside each other in the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.other = map(torch.nn.Parameter, torch.zeros(2).split(1))


def adapted() -> peft.PeftModel:
    return peft.get_peft_model(gpt2(), peft.LoraConfig(r=2, target_modules=["c_attn"]))


@pytest.fixture
def trainer_of(tmp_path: Path) -> Callable[..., Trainer]:
    def make(model: torch.nn.Module, kind: type[Trainer] = Trainer) -> Trainer:
        arguments = TrainingArguments(output_dir=str(tmp_path / "out"), use_cpu=True)
        return kind(model=model, args=arguments)

    return make


def train(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for weights in model.parameters():
            weights += 1


@pytest.mark.parametrize("make", [gpt2, adapted, Odd, Apart])
def test_weights_are_written_as_they_were_however_they_change_meanwhile(
    make: Callable[[], torch.nn.Module], trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer, copies = trainer_of(make()), HostCopies()
    trainer.save_model(str(tmp_path / "by_hf"))
    unwritten = copies.save_model(trainer, tmp_path / "best")
    train(trainer.model)
    assert weight_files(tmp_path / "best") == []
    copies.write(unwritten)
    written = {file.name: file.read_bytes() for file in (tmp_path / "best").iterdir()}
    assert written == {file.name: file.read_bytes() for file in (tmp_path / "by_hf").iterdir()}
    trainer.save_model(str(tmp_path / "later"))
    assert weights_sha256(tmp_path / "later") != weights_sha256(tmp_path / "best")


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer whose optimizer has a state."""

    def make(kind: type[Trainer] = Trainer, **given: Any) -> Trainer:
        arguments = TrainingArguments(
            output_dir=str(tmp_path / "out"), use_cpu=True, max_steps=2, save_strategy="no"
        )
        trainer = kind(model=Net(), args=arguments, train_dataset=rows(64), **given)
        trainer.train()
        return trainer

    return make


def save_state(trainer: Trainer, copies: HostCopies) -> tuple[Path, Unwritten]:
    folder = Path(trainer.args.output_dir, "checkpoint-2")
    return folder, copies.save_state(
        trainer, folder, trainer._save_checkpoint, trainer.model, trial=None
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_state_is_written_as_it_was_however_training_goes_on(
    trained: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer, copies = trained(), HostCopies()
    trainer._save_checkpoint(trainer.model, None)
    (folder := tmp_path / "out/checkpoint-2").rename(tmp_path / "by_hf")
    _, unwritten = save_state(trainer, copies)
    train(trainer.model)
    for state in trainer.optimizer.state.values():
        state["exp_avg"] += 1
    trainer.lr_scheduler.step()
    trainer.optimizer.param_groups[0]["lr"] = 7.0
    missing = contents(tmp_path / "by_hf").keys() - contents(folder).keys()
    assert {"model.safetensors", "optimizer.pt"} <= missing
    copies.write(unwritten)
    assert contents(folder) == contents(tmp_path / "by_hf")


class ActsOnSave(TrainerCallback):
    def on_save(self, *_: object, **__: object) -> None: ...


class SavesItsOptimizer(Trainer):
    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        assert torch.load(f"{output_dir}/optimizer.pt")


def test_a_state_that_code_of_the_users_may_read_is_written_at_once(
    trained: Callable[..., Trainer],
) -> None:
    for trainer in (trained(SavesItsOptimizer), trained(callbacks=[ActsOnSave()])):
        folder, unwritten = save_state(trainer, HostCopies())
        assert unwritten.files == []
        assert {"model.safetensors", "optimizer.pt"} <= contents(folder).keys()


def test_what_has_an_unknown_kind_of_object_in_it_is_written_at_once(
    trained: Callable[..., Trainer],
) -> None:
    trainer = trained()
    trainer.optimizer.param_groups[0]["own"] = {1, 2}
    folder, unwritten = save_state(trainer, HostCopies())
    assert "optimizer.pt" in contents(folder)
    assert "model.safetensors" not in contents(folder)
    assert unwritten.files != []


def test_memory_is_taken_only_once(trainer_of: Callable[..., Trainer], tmp_path: Path) -> None:
    trainer, copies = trainer_of(gpt2()), HostCopies()

    def places(unwritten: Unwritten) -> set[int]:
        return {buffer.data_ptr() for buffer in unwritten.buffers}

    first = copies.save_model(trainer, tmp_path / "first")
    second = copies.save_model(trainer, tmp_path / "second")
    taken = [places(first), places(second)]
    assert taken[0].isdisjoint(taken[1])
    copies.write(first)
    third = copies.save_model(trainer, tmp_path / "third")
    assert places(third) == taken[0]
    copies.drop(second)
    assert places(copies.save_model(trainer, tmp_path / "fourth")) == taken[1]
    assert weight_files(tmp_path / "second") == []


def test_a_save_that_does_not_fit_into_memory_is_written_at_once(
    trainer_of: Callable[..., Trainer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sweeps"):
        unwritten = HostCopies(room=lambda: 1000).save_model(trainer_of(gpt2()), tmp_path / "best")
    assert (unwritten.files, unwritten.buffers) == ([], [])
    assert [file.name for file in weight_files(tmp_path / "best")] == ["model.safetensors"]
    assert "training is waiting until model.safetensors is written" in caplog.text


def test_a_save_whose_copy_cannot_be_allocated_is_written_at_once(
    trainer_of: Callable[..., Trainer],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As pinned memory may be short although the host has memory."""
    trainer, copies, zeros = trainer_of(gpt2()), HostCopies(), torch.zeros
    allocated: list[torch.Tensor] = []

    def limited(*size: Any, **given: Any) -> torch.Tensor:
        if len(allocated) == 3:
            raise RuntimeError("CUDA error: out of memory\nof the host")
        allocated.append(zeros(*size, **given))
        return allocated[-1]

    with monkeypatch.context() as patch, caplog.at_level("INFO", "sweeps"):
        patch.setattr(torch, "zeros", limited)
        unwritten = copies.save_model(trainer, tmp_path / "best")
    assert (unwritten.files, unwritten.buffers) == ([], [])
    assert len(weight_files(tmp_path / "best")) == 1
    assert "cannot be allocated (CUDA error: out of memory)" in caplog.text
    later = copies.save_model(trainer, tmp_path / "later")
    places = {buffer.data_ptr() for buffer in later.buffers}
    assert {buffer.data_ptr() for buffer in allocated} <= places
    copies.write(later)
    assert weights_sha256(tmp_path / "later") == weights_sha256(tmp_path / "best")


def test_buffers_are_used_again_although_the_host_has_become_short_of_memory(
    trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    room = iter([2**30, -1])
    trainer, copies = trainer_of(gpt2()), HostCopies(lambda: next(room, -1))
    copies.write(copies.save_model(trainer, tmp_path / "first"))
    assert copies.save_model(trainer, tmp_path / "second").files != []
    assert copies.save_model(trainer, tmp_path / "third").files == [], "there are no more buffers"


def test_pinned_memory_of_an_earlier_trial_makes_room(
    trainer_of: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = [2**30]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch._C, "_host_emptyCache", cached.clear, raising=False)
    copies = HostCopies(lambda: 2**30 - sum(cached))
    assert copies.save_model(trainer_of(gpt2()), tmp_path / "best").files != []


def is_taken() -> bool:
    """Tell whether a worker looks for memory now."""
    folder = os.open(tempfile.gettempdir(), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def test_of_two_workers_that_save_at_once_one_looks_for_memory_when_the_other_has_taken_it(
    trainer_of: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = dict[str, bool]()

    def seen(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **given: Any) -> Any:
            taken[name] = is_taken()
            return do(*args, **given)

        return done

    copies = HostCopies(seen("looks", free_memory))
    monkeypatch.setattr(torch, "zeros", seen("allocates", torch.zeros))
    monkeypatch.setattr(host_copies, "_copy", seen("copies", host_copies._copy))
    copies.write(copies.save_model(trainer_of(gpt2()), tmp_path / "best"))
    assert taken == {"looks": True, "allocates": True, "copies": False}


def test_a_save_does_not_wait_for_a_worker_that_hangs(
    trainer_of: Callable[..., Trainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(host_memory, "WAIT_S", 0.0)
    with caplog.at_level("INFO", "sweeps"), alone_on_host():
        unwritten = HostCopies().save_model(trainer_of(gpt2()), tmp_path / "best")
    assert (unwritten.files, unwritten.buffers) == ([], [])
    assert len(weight_files(tmp_path / "best")) == 1
    assert "training is waiting until model.safetensors is written" in caplog.text


def test_a_process_that_was_forked_meanwhile_keeps_no_other_worker_from_memory() -> None:
    """Such as a data-loader process that the user's own thread starts."""
    here, there = os.pipe()
    with alone_on_host():
        child = os.fork()
        if not child:
            os.close(there)
            os.read(here, 1)  # until the test has ended
            os._exit(0)
    try:
        assert not is_taken()
    finally:
        os.close(there)
        os.waitpid(child, 0)


def test_content_that_contains_itself_is_written_as_it_is() -> None:
    content: dict[str, Any] = {"step": torch.tensor(1), "betas": [(0.9, 0.99)] * 2}
    assert host_copies._tensors(content) is not None
    content["itself"] = [content]
    assert host_copies._tensors(content) is None


def test_what_was_imported_during_a_save_writes_files_afterwards(tmp_path: Path) -> None:
    with instead_of_writing(lambda *_: None, lambda *_: None, tmp_path):
        imported = torch.save
    imported({"step": 1}, tmp_path / "later.pt")
    assert torch.load(tmp_path / "later.pt") == {"step": 1}


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.other = self.w


def test_weights_in_the_same_memory_are_refused_as_by_hf(
    trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="Some tensors share memory"):
        HostCopies().save_model(trainer_of(Tied()), tmp_path / "best")


def test_a_disk_that_is_full_when_the_files_are_written_counts_as_one(
    trained: Callable[..., Trainer],
) -> None:
    _, unwritten = save_state(trained(), HostCopies())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    failed = list[BaseException]()
    for write in unwritten.files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            with pytest.raises((SafetensorError, RuntimeError)) as raised:
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        failed.append(raised.value)
    assert len(failed) >= 2
    assert all(map(storage_failed, failed))


class ReadsWhatItSaved(Trainer):
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        assert safetensors.torch.load_file(f"{output_dir}/model.safetensors")


class ReadsBelow(Trainer):
    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        assert safetensors.torch.load_file(f"{output_dir}/model.safetensors")


def reading(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def read_after(folder: str, *args: Any, **given: Any) -> None:
        save(folder, *args, **given)
        assert safetensors.torch.load_file(f"{folder}/model.safetensors")

    return read_after


class ReadsItsModel(GPT2LMHeadModel):
    def save_pretrained(self, save_directory: str, **given: Any) -> None:
        reading(super().save_pretrained)(save_directory, **given)


def reads(trainer: Trainer, method: str) -> Trainer:
    """Replace a method of this one trainer, or of its model."""
    owner = trainer if hasattr(trainer, method) else trainer.model
    setattr(owner, method, reading(getattr(owner, method)))
    return trainer


@pytest.mark.parametrize(
    "make",
    [
        lambda of: of(gpt2(), ReadsWhatItSaved),
        lambda of: of(gpt2(), ReadsBelow),
        lambda of: of(torch.compile(ReadsItsModel(gpt2().config), backend="eager")),
        lambda of: reads(of(gpt2()), "save_model"),
        lambda of: reads(of(gpt2()), "_save"),
        lambda of: reads(of(gpt2()), "save_pretrained"),
    ],
    ids=["save_model", "_save", "compiled", "own save_model", "own _save", "own save_pretrained"],
)
def test_code_of_the_users_finds_the_file_that_it_has_saved(
    make: Callable[..., Trainer], trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    assert HostCopies().save_model(make(trainer_of), tmp_path / "best").files == []
    assert len(weight_files(tmp_path / "best")) == 1


class Fails(Net):
    def state_dict(self, *_: object, **__: object) -> dict[str, torch.Tensor]:
        raise RuntimeError("of the model")


def test_the_libraries_write_again_after_a_save_however_it_ends(
    trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="of the model"):
        HostCopies().save_model(trainer_of(Fails()), tmp_path / "best")
    gpt2().save_pretrained(tmp_path / "model")
    assert weight_files(tmp_path / "model") != []


class ImportsLate(Net):
    def state_dict(self, *args: object, **given: object) -> dict[str, torch.Tensor]:
        late = ModuleType("peft.late")
        sys.modules["peft.late"] = late
        exec("from safetensors.torch import save_file as save", vars(late))
        return super().state_dict(*args, **given)


def test_a_library_that_is_imported_during_a_save_writes_afterwards(
    trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    HostCopies().save_model(trainer_of(ImportsLate()), tmp_path / "best")
    assert sys.modules.pop("peft.late").save is safetensors.torch.save_file
    assert safetensors.torch.save_file.__module__ == "safetensors.torch"


class SavesInAThread(Net):
    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place

    def state_dict(self, *args: object, **given: object) -> dict[str, torch.Tensor]:
        thread = threading.Thread(target=gpt2().save_pretrained, args=[self.place])
        thread.start()
        thread.join()
        return super().state_dict(*args, **given)


def test_what_another_thread_saves_meanwhile_is_written_at_once(
    trainer_of: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = trainer_of(SavesInAThread(tmp_path / "own"))
    assert len(HostCopies().save_model(trainer, tmp_path / "best").files) == 1
    assert weight_files(tmp_path / "own") != []


@pytest.mark.parametrize(
    ("line", "root", "limit", "used", "cache", "unlimited"),
    [
        ("0::", "", "memory.max", "memory.current", "inactive_file", "max"),
        (
            *("4:memory:", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
            *("total_inactive_file", str(2**63)),
        ),
    ],
    ids=["v2", "v1"],
)
@pytest.mark.parametrize(
    ("own", "limited"),
    [("/", ""), ("/pod7/of/the/host", ""), ("/slurm/job7/task0", "slurm/job7")],
    ids=["container", "container by its name on the host", "job of Slurm"],
)
def test_free_memory_is_that_of_the_container_or_the_job(
    tmp_path: Path,
    line: str,
    root: str,
    limit: str,
    used: str,
    cache: str,
    unlimited: str,
    own: str,
    limited: str,
) -> None:
    process, cgroups = tmp_path / "proc", tmp_path / "cgroups"
    (process / "self").mkdir(parents=True)
    of_machine = free_memory(cgroups, process)
    assert of_machine > 0
    (process / "self/cgroup").write_text(f"3:cpuset:/\n{line}{own}\n")
    (folder := cgroups / root / limited).mkdir(parents=True)
    (folder / limit).write_text(f"{unlimited}\n")
    assert free_memory(cgroups, process) == pytest.approx(of_machine, rel=0.1)
    (folder / limit).write_text("1000\n")
    (folder / used).write_text("700\n")
    (folder / "memory.stat").write_text(f"anon 300\n{cache} 400\n")
    assert free_memory(cgroups, process) == 600
