"""Each rank saves its part of a sharded trial's state, while training goes on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint
from peft import LoraConfig, get_peft_model
from ray import tune
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from scripts.field_trials import Group, Outcome, train_job
from scripts.sharded_trials import Llama, shard_on_cpus
from sweeps import SearchSpace
from sweeps.records.checkpoints import is_whole
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import fetch_checkpoint
from sweeps.space.arguments import Devices
from sweeps.workers.isolation.isolated import Isolated
from sweeps.workers.job import Reply
from sweeps.workers.saving import complete_snapshot, host_copies, trial_saves
from sweeps.workers.saving.sharded_states import RankThreads, part_files
from tests.s3_server import s3_server

pytestmark = pytest.mark.timeout(200)
RATE, STEPS, REPORTS = 1e-3, 6, 3
WAIT_S = 30


class OnSave(TrainerCallback):
    """May read the files that are saved."""

    def on_save(self, *_: Any, **__: Any) -> None: ...


class SavesItsModel(TrainerCallback):
    """Saves the model at the end, as the user's own code may."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_end(self, args: TrainingArguments, *_: Any, **__: Any) -> None:
        self.trainer.save_model(f"{args.output_dir}/own")


class Unsharded(torch.optim.AdamW):
    """Keeps a tensor for this rank's part of each weight, as 8-bit optimizers do."""

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        for weights, state in self.state.items():
            state["average"] = torch.zeros_like(weights.to_local())


@dataclass(frozen=True, kw_only=True)
class Kind(Llama):
    """A Llama, or a trainer that differs as `kind` says."""

    kind: str = ""

    def model(self, **config: Any) -> torch.nn.Module:
        model = super().model(tie_word_embeddings=self.kind == "tied weights", **config)
        if self.kind == "an adapter and a norm":
            model = get_peft_model(model, LoraConfig(r=2))
            model.base_model.model.model.norm.weight.requires_grad = True
        return model

    def __call__(self, args: TrainingArguments) -> Trainer:
        trainer = super().__call__(args)
        if self.kind == "rank 0 may read the files" and args.process_index == 0:
            trainer.add_callback(OnSave())
        elif self.kind == "an optimizer that does not shard its state":
            trainer.optimizer_cls_and_kwargs = (Unsharded, {"lr": RATE})
        elif self.kind == "its own code saves the model":
            trainer.add_callback(SavesItsModel(trainer))
        return trainer


IN_PARTS = {
    "tied weights": True,
    "an adapter and a norm": False,
    "rank 0 may read the files": False,
    "its own code saves the model": True,
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trial that saves its state at its first report."""

    name: str
    kind: str = ""
    pauses: bool = False
    """Whether it then leaves its group."""
    notes: Path
    checkpoint: str | None = None
    best_at: tuple[int, ...] = (REPORTS,)
    """The reports at which it saves its best weights."""
    fault: str = ""
    storage: str | None = None
    """Object storage; each rank then has a folder of its own, as on different hosts."""
    environment: dict[str, str] = field(default_factory=dict)
    """What the storage needs."""

    @property
    def state(self) -> Path:
        return Path("checkpoints", self.name, f"checkpoint-{STEPS // REPORTS}")


def work(run: Run, isolated: Isolated, devices: Devices, folder: SweepFolder) -> Outcome:
    """Train in a process of a group."""
    shard_on_cpus()
    rank = torch.distributed.get_rank()
    logging.getLogger("sweeps").setLevel(logging.INFO)
    if run.storage:
        os.environ |= run.environment
        folder = SweepFolder(folder.path / f"host{rank}" / "sweep", run.storage)
        if rank == 0:
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.record_file.touch()  # the sweep process is on this host
    space = SearchSpace(
        build_trainer=Kind(size="tiny", notes=str(run.notes), kind=run.kind),
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(RATE / 2, RATE)},
        fixed={"max_steps": STEPS, "total_train_batch_size": 4, "logging_steps": 1, "fsdp": True},
        evals_per_trial=REPORTS,
    )
    written = folder.path / run.state
    late, go = run.fault == "rank 1 writes late", run.notes / "go"
    writer = torch.distributed.checkpoint.FileSystemWriter
    write = writer.write_data

    def write_data(*given: Any) -> Any:
        if run.fault == "rank 1 cannot write":
            no_space()
        until(go.exists)
        return write(*given)

    if rank == 1 and (late or run.fault == "rank 1 cannot write"):
        writer.write_data = write_data
    if run.fault == "rank 1 cannot upload":
        if rank == 1:
            complete_snapshot.upload_own_file = no_space
        agree = RankThreads.agree

        def noted(threads: RankThreads, error: BaseException | None) -> None:
            try:
                agree(threads, error)
            except Exception as raised:
                (run.notes / f"agreed{rank}").write_text(repr(raised))
                raise

        RankThreads.agree = noted
    if run.fault == "all is saved on rank 0":
        trial_saves.saves_parts = lambda *_: False
    if rank == 1 and run.fault == "rank 1 has no memory to spare":
        host_copies.HostCopies.__init__.__defaults__ = (lambda: 0,)

    def ask(number: int) -> Reply:
        if late and number == 2 and rank == 0:
            assert written.is_dir()
            assert not is_whole(written)
            go.touch()
        decision = "pause" if run.pauses and number == 1 else "continue"
        return Reply(decision, save_best=number in run.best_at, save_state=number == 1)

    return train_job(
        lambda: space,
        ask,
        isolated,
        devices,
        folder,
        trial=run.name,
        rate=RATE,
        checkpoint=run.checkpoint,
    )


def no_space(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def logs(folder: Path) -> list[str]:
    return [file.read_text() for file in folder.glob("group-*.log")]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sweep's folder."""
    return tmp_path / "fields"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Outcome]]:
    """Run a trial in a new group of two processes, or of another number."""
    groups = []

    def run_in_group(name: str, workers: int = 2, **given: Any) -> Outcome:
        notes = tmp_path / f"notes-{name}-{workers}"
        notes.mkdir(exist_ok=True)
        groups.append(Group(workers, gpu=False, folder=tmp_path, train=work))
        return groups[-1].run(Run(name=name, notes=notes, **given))

    yield run_in_group
    for group in groups:
        group.end()


def test_a_trial_continues_exactly_from_the_parts_of_its_state(
    run: Callable[..., Outcome], folder: Path
):
    whole = run("whole")
    assert whole.error is None
    assert whole.state is not None
    assert whole.best is not None
    state = folder / whole.state
    parts = sorted(str(file.relative_to(state)) for file in state.rglob("*.distcp"))
    assert parts == [
        f"{part}/__{rank}_0.distcp"
        for part in ("optimizer_0", "pytorch_model_fsdp_0")
        for rank in (0, 1)
    ]
    assert not list(state.glob("*.safetensors"))
    assert not (state / "pytorch_model_fsdp.bin").exists()
    again = run("whole", checkpoint=whole.state)
    assert again.numbers == whole.numbers[1:]
    assert again.weights == whole.weights
    alone = run("whole", workers=1, checkpoint=whole.state)
    losses = [one.numbers[-1]["metrics"]["eval_loss"] for one in (whole, alone)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("kind", IN_PARTS)
def test_trials_of_other_kinds_continue_exactly(
    run: Callable[..., Outcome], folder: Path, tmp_path: Path, kind: str
):
    whole = run("other", kind=kind)
    assert whole.error is None
    assert whole.state is not None
    assert bool(part_files(folder / whole.state)) is IN_PARTS[kind]
    again = run("other", kind=kind, checkpoint=whole.state)
    assert again.numbers == whole.numbers[1:]
    assert again.weights == whole.weights
    assert not any("training is waiting" in log for log in logs(tmp_path))
    own = folder / "checkpoints/other/own/model.safetensors"
    assert own.exists() is (kind == "its own code saves the model")


def test_an_optimizer_that_does_not_shard_its_state_is_refused(run: Callable[..., Outcome]):
    failed = run("unsharded", kind="an optimizer that does not shard its state")
    assert failed.error is not None
    assert failed.error.startswith("UserError: the state of optim=adamw_torch")
    assert "each worker has its own 'average', and HF saves only that of the first" in failed.error


def test_a_trial_that_pauses_has_written_all_parts_when_it_leaves(
    run: Callable[..., Outcome], folder: Path
):
    whole, paused = run("whole"), run("paused", pauses=True)
    assert paused.state is not None
    assert len(part_files(folder / paused.state)) == 4
    again = run("paused", checkpoint=paused.state)
    assert [*paused.numbers, *again.numbers] == whole.numbers
    assert again.weights == whole.weights


def test_a_complete_state_of_an_earlier_version_is_resumed(
    run: Callable[..., Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = run("whole")
    complete = run("complete", fault="all is saved on rank 0")
    assert complete.state is not None
    assert (folder / complete.state / "pytorch_model_fsdp.bin").is_file()
    again = run("complete", checkpoint=complete.state)
    assert again.numbers == whole.numbers[1:]
    assert again.weights == whole.weights


def test_the_best_weights_are_complete(run: Callable[..., Outcome], folder: Path):
    trained = run("best", best_at=(1, REPORTS))
    assert trained.best is not None
    assert trained.state is not None
    first, last = sorted((folder / "checkpoints/best").glob("best-*"))
    assert {file.name for file in first.iterdir()} == {file.name for file in last.iterdir()}
    _, info = AutoModelForCausalLM.from_pretrained(last, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    saved = {name: torch.zeros(one.shape) for name, one in _weights(first).items()}
    torch.distributed.checkpoint.load(
        {"model": saved}, checkpoint_id=folder / trained.state / "pytorch_model_fsdp_0"
    )
    assert all(torch.equal(one, saved[name]) for name, one in _weights(first).items())


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_training_goes_on_while_a_rank_writes_its_part(run: Callable[..., Outcome], folder: Path):
    trained = run("late", fault="rank 1 writes late")
    assert trained.error is None
    assert trained.state is not None
    assert is_whole(folder / trained.state)


def test_all_ranks_write_at_once_if_one_has_no_memory_for_a_copy(
    run: Callable[..., Outcome], tmp_path: Path
):
    whole, short = run("whole"), run("short", fault="rank 1 has no memory to spare")
    assert short.error is None
    assert short.numbers == whole.numbers
    waits = ["training is waiting until checkpoint-2 is written" in log for log in logs(tmp_path)]
    assert sum(waits) == 1
    again = run("short", checkpoint=short.state)
    assert again.numbers == whole.numbers[1:]
    assert again.weights == whole.weights


def test_a_state_is_incomplete_if_a_rank_cannot_write_its_part(
    run: Callable[..., Outcome], folder: Path
):
    failed = run("full", fault="rank 1 cannot write")
    assert failed.error in (
        "OSError: [Errno 28] No space left on device",
        "OtherRankFailed: rank 1 failed: [Errno 28] No space left on device",
    )
    assert failed.state is None
    state = folder / "checkpoints/full/checkpoint-2"
    assert state.is_dir()
    assert not is_whole(state)


def test_all_ranks_fail_if_one_cannot_upload_its_part(
    run: Callable[..., Outcome], folder: Path, tmp_path: Path
):
    failed = run("lost", fault="rank 1 cannot upload")
    assert failed.error is not None
    assert not is_whole(folder / "checkpoints/lost/checkpoint-2")
    notes = [tmp_path / f"notes-lost-2/agreed{rank}" for rank in (0, 1)]
    until(lambda: all(note.exists() and note.read_text() for note in notes))
    own = "OSError(28, 'No space left on device')"
    other = "OtherRankFailed('rank 1 failed: [Errno 28] No space left on device')"
    assert [note.read_text() for note in notes] == [other, own]


def test_each_rank_uploads_its_part_from_its_own_host(
    run: Callable[..., Outcome], folder: Path, monkeypatch: pytest.MonkeyPatch
):
    with s3_server(monkeypatch) as uri:
        stored = {"storage": uri, "environment": dict(os.environ)}
        trained = run("stored", **stored)
        assert trained.error is None
        assert trained.state is not None
        local = [folder / f"host{rank}/sweep" / trained.state for rank in (0, 1)]
        assert [{file.name for file in state.rglob("*.distcp")} for state in local] == [
            {"__0_0.distcp"},
            set(),
        ]
        fetched = fetch_checkpoint(SweepFolder(folder / "elsewhere/sweep", uri), trained.state)
        again = run("stored", **stored, checkpoint=trained.state)
    assert len(list(fetched.rglob("*.distcp"))) == 4
    assert again.numbers == trained.numbers[1:]
    assert again.weights == trained.weights
