"""One job in this process, on the shipped tiny model: the gate, isolation, resume."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import Trainer, TrainerCallback, TrainingArguments

from sweeps import SearchSpace
from sweeps.builders.text_classification import TextClassification
from sweeps.records import checkpoints, remote
from sweeps.records.checkpoints import is_whole, weights_sha256
from sweeps.records.events import CheckpointSaved, Phase
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import has_checkpoint
from sweeps.report import Report
from sweeps.space.arguments import Devices, trial_seed
from sweeps.space.loading import load_space
from sweeps.workers import worker_loop
from sweeps.workers.failures.raised_errors import storage_failed
from sweeps.workers.isolation import isolated
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.saving.host_copies import HostCopies, Unwritten
from sweeps.workers.signals import Signals
from sweeps.workers.training import train
from tests.s3_server import s3_server
from tests.workers import own_trainers

CPU = Devices(workers=1, gpu=False, bf16=False)
GO = Reply("continue", save_best=False, save_state=False)
A = {"learning_rate": 9e-5, "total_train_batch_size": 16, "warmup_steps": 0.0}
B = {"learning_rate": 5e-5, "total_train_batch_size": 32, "warmup_steps": 0.1}


def tiny_space() -> SearchSpace:
    """The shipped tiny model, judged by few rows: each trial evaluates eight times."""
    shipped = load_space("bert_yelp").space
    assert isinstance(shipped.build_trainer, TextClassification)
    return replace(shipped, build_trainer=replace(shipped.build_trainer.tiny(), eval_rows=32))


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    """The tiny space, which evaluates its 32 rows in four batches."""
    tiny = tiny_space()
    return replace(tiny, fixed={**tiny.fixed, "per_device_eval_batch_size": 8})


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What the worker loop does around each job."""
    baseline = isolated.take_baseline()
    yield
    isolated.restore(baseline)


def run_job(
    space: SearchSpace,
    params: dict,
    folder: Path | SweepFolder,
    answer: Callable[[int], Reply] = lambda _: GO,
    checkpoint: str | None = None,
    signals: Signals | None = None,
    reduced: frozenset[Phase] = frozenset(),
    fits: Callable[[], bool] = lambda: True,
    announced: Callable[[CheckpointSaved], None] = lambda _: None,
) -> tuple[list[Report], list[CheckpointSaved]]:
    reports: list[Report] = []
    saved: list[CheckpointSaved] = []
    signals = signals or Signals()

    def name_step(step: int) -> None:
        signals.save_at = step  # what the exchange and the watch of each rank do

    def announce(event: CheckpointSaved) -> None:
        announced(event)
        saved.append(event)

    train(
        space,
        Job(
            trial="t001",
            attempt=1,
            params=params,
            seed=trial_seed(space, params, 0),
            checkpoint=checkpoint,
            reduced=reduced,
        ),
        devices=CPU,
        folder=folder if isinstance(folder, SweepFolder) else SweepFolder(folder),
        link=Link(report=reports.append, answer=answer, announce=announce, name_step=name_step),
        signals=signals,
        fits=fits,
    )
    return reports, saved


def numbers(reports: list[Report]) -> list[dict]:
    """What must be equal: all metrics but clocks, and the training log."""
    return [
        {
            "step": report.step,
            "log_entries": report.log_entries,
            **{k: v for k, v in report.metrics.items() if "runtime" not in k and "per_s" not in k},
        }
        for report in reports
    ]


@dataclass
class Seen(Signals):
    """Remembers what the trainer was doing at each sign of life."""

    phases: list[Phase] = field(default_factory=list)

    def alive(self) -> None:
        super().alive()
        self.phases.append(self.phase)


def stop_at(last: int) -> Callable[[int], Reply]:
    return lambda number: Reply(
        "stop" if number == last else "continue", save_best=False, save_state=False
    )


def save_last(number: int) -> Reply:
    return Reply("continue", save_best=number == 8, save_state=False)


def save_fourth(number: int) -> Reply:
    return Reply("continue", save_best=number == 4, save_state=False)


def test_a_whole_trial_reports_at_even_progress_and_learns(space: SearchSpace, tmp_path: Path):
    reports, _ = run_job(space, B, tmp_path)
    assert [report.number for report in reports] == list(range(1, 9))
    assert [report.progress for report in reports] == [i / 8 for i in range(1, 9)]
    assert reports[-1].metrics["eval_accuracy"] > reports[0].metrics["eval_accuracy"] + 0.02
    assert all(report.log_entries for report in reports)
    assert reports[0].eval_rows == 32
    assert all(report.rows_per_s and report.memory_bytes for report in reports)
    assert all(report.gpu_memory_bytes is None for report in reports), "it trains on the CPU"
    for report in reports:
        assert report.right_rows is not None
        right = int(report.right_rows.split(":")[1], 16).bit_count()
        assert right / 32 == pytest.approx(report.metrics["eval_accuracy"])


def test_a_trial_with_several_evaluation_sets_reports_once_with_what_all_of_them_gave(
    space: SearchSpace, tmp_path: Path
):
    """HF evaluates one after the other, and says so after each."""

    def build(args):
        builder = space.build_trainer
        trainer = builder(args, data=builder.prepare())
        whole = trainer.eval_dataset
        trainer.eval_dataset = {"few": whole.select(range(16)), "few_more": whole.select(range(32))}
        return trainer

    asked: list[int] = []

    def ask(number: int) -> Reply:
        asked.append(number)
        return stop_at(2)(number)

    judged = replace(space, build_trainer=build, metric="eval_few_more_accuracy")
    reports, _ = run_job(judged, B, tmp_path, ask)
    assert [report.number for report in reports] == asked == [1, 2]
    for report in reports:
        assert {"eval_few_accuracy", "eval_few_more_accuracy"} <= report.metrics.keys()
        assert report.eval_rows == 32


def test_a_stopped_trial_leaves_at_its_gate_and_saves_only_what_it_was_told(
    space: SearchSpace, tmp_path: Path
):
    stop = Reply("stop", save_best=True, save_state=False)
    reports, saved = run_job(space, A, tmp_path, lambda n: stop if n == 2 else GO)
    assert [report.number for report in reports] == [1, 2]
    assert [(s.number, s.kind) for s in saved] == [(2, "best")]
    best = tmp_path / saved[0].path
    assert is_whole(best)
    assert saved[0].sha256 == weights_sha256(best)
    assert sorted(os.listdir(tmp_path / "checkpoints" / "t001")) == [best.name]
    names = set(os.listdir(best))
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert not any(name.startswith(("optimizer", "training_args")) for name in names)


def test_a_state_that_is_also_the_best_is_saved_and_digested_once_and_linked(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    digested = list[Path]()
    monkeypatch.setattr(
        checkpoints, "weights_sha256", lambda at: digested.append(at) or weights_sha256(at)
    )
    both = Reply("continue", save_best=True, save_state=True)
    _, saved = run_job(space, A, tmp_path, lambda n: both if n == 3 else GO)
    assert [(s.number, s.kind) for s in saved] == [(3, "best"), (3, "state")]
    best, state = (tmp_path / s.path / "model.safetensors" for s in saved)
    assert best.samefile(state)
    assert digested == [best.parent]
    assert {s.sha256 for s in saved} == {weights_sha256(state.parent)}
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(os.listdir(state.parent))


@pytest.fixture(scope="module")
def unbroken(
    space: SearchSpace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Report], str]:
    """The reports of a whole trial of B, evaluated each 4 steps, and its weights' SHA-256."""
    reports, saved = run_job(space, B, tmp_path_factory.mktemp("unbroken"), save_last)
    return reports, saved[0].sha256


def test_a_resumed_trial_goes_on_bit_for_bit_as_if_unbroken(
    space: SearchSpace, tmp_path: Path, unbroken: tuple[list[Report], str]
):
    reports, sha256 = unbroken
    state = Reply("continue", save_best=False, save_state=True)
    _, saved = run_job(space, B, tmp_path, lambda n: state if n == 3 else stop_at(4)(n))
    resumed, rest = run_job(space, B, tmp_path, save_last, checkpoint=saved[0].path)
    assert [report.number for report in resumed] == [4, 5, 6, 7, 8]
    assert numbers(resumed) == numbers(reports[3:])
    assert rest[0].sha256 == sha256


def test_with_object_storage_a_trial_goes_on_bit_for_bit_on_a_node_that_has_nothing_of_it(
    space: SearchSpace,
    tmp_path: Path,
    unbroken: tuple[list[Report], str],
    monkeypatch: pytest.MonkeyPatch,
):
    reports, sha256 = unbroken
    state = Reply("continue", save_best=True, save_state=True)
    with s3_server(monkeypatch) as uri:
        one, other = (SweepFolder(tmp_path / node / "curves", uri) for node in ("one", "other"))
        _, saved = run_job(space, B, one, lambda n: state if n == 3 else stop_at(4)(n))
        assert [event.kind for event in saved] == ["best", "state"]
        resumed, rest = run_job(space, B, other, save_last, checkpoint=saved[1].path)
        assert numbers(resumed) == numbers(reports[3:])
        assert rest[0].sha256 == sha256
        assert all(has_checkpoint(one, event.path) for event in [*saved, *rest])
    assert list(tmp_path.rglob("*.safetensors")) == [], "nobody would delete them there"


@pytest.mark.parametrize(
    ("step", "number"), [(10, 2), (12, 3)], ids=["between evaluations", "at an evaluation"]
)
def test_a_trial_that_saves_and_leaves_on_demand_goes_on_bit_for_bit_as_if_unbroken(
    space: SearchSpace,
    tmp_path: Path,
    unbroken: tuple[list[Report], str],
    step: int,
    number: int,
):
    reports, sha256 = unbroken
    signals = Signals(save_at=step)
    demanded, saved = run_job(space, B, tmp_path, signals=signals)
    assert numbers(demanded) == numbers(reports[:number])
    assert signals.left_by == "preempted"
    assert [(s.number, s.kind, Path(s.path).name) for s in saved] == [
        (number, "state", f"checkpoint-{step}")
    ]
    state = tmp_path / saved[0].path
    assert is_whole(state)
    assert saved[0].sha256 == weights_sha256(state)
    resumed, rest = run_job(space, B, tmp_path, save_last, checkpoint=saved[0].path)
    assert [report.number for report in resumed] == list(range(number + 1, 9))
    assert numbers(resumed) == numbers(reports[number:])
    assert rest[0].sha256 == sha256


class Writes:
    """Holds up what is being saved from one report on, until the trial has reached another."""

    def __init__(self, answer: Callable[[int], Reply], until: int) -> None:
        self._answer, self._until = answer, until
        self._reached = threading.Event()

    def ask(self, number: int) -> Reply:
        if number == self._until:
            self._reached.set()
        return self._answer(number)

    def announced(self, event: CheckpointSaved) -> None:
        assert self._reached.wait(30), f"the trial waits for {event.path}"


def test_a_trial_goes_on_bit_for_bit_while_its_best_model_becomes_whole(
    space: SearchSpace, tmp_path: Path, unbroken: tuple[list[Report], str]
):
    reports, _ = unbroken
    better = (2, 3, 4)
    writes = Writes(lambda n: Reply("continue", save_best=n in better, save_state=False), until=5)
    some, saved = run_job(space, B, tmp_path, writes.ask, announced=writes.announced)
    assert numbers(some) == numbers(reports)
    assert [s.number for s in saved] == [2, 4], "the third waited, and the fourth was better"
    there = {path.name: weights_sha256(path) for path in (tmp_path / "checkpoints/t001").iterdir()}
    assert there == {Path(s.path).name: s.sha256 for s in saved}
    assert len(set(there.values())) == 2
    assert all(is_whole(tmp_path / s.path) for s in saved)


def test_a_trial_goes_on_before_its_state_is_written_and_can_be_resumed_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The model and its optimizer are written as they were at the first report."""
    own = own_trainers.space_of(own_trainers.builder())
    unbroken, ended = run_job(own, own_trainers.PARAMS, tmp_path / "unbroken", save_fourth)
    gone_on = threading.Event()
    write = HostCopies.write

    def held(copies: HostCopies, unwritten: Unwritten) -> None:
        assert gone_on.wait(30), "the trial waits for its state"
        write(copies, unwritten)

    def ask(number: int) -> Reply:
        if number == 2:
            state = tmp_path / "checkpoints/t001/checkpoint-4"
            assert not {"model.safetensors", "optimizer.pt"} & set(os.listdir(state))
            gone_on.set()
        return Reply("continue", save_best=number == 1, save_state=number == 1)

    monkeypatch.setattr(HostCopies, "write", held)
    reports, saved = run_job(own, own_trainers.PARAMS, tmp_path, ask)
    assert numbers(reports) == numbers(unbroken)
    assert [(s.number, s.kind) for s in saved] == [(1, "best"), (1, "state")]
    best, state = (tmp_path / s.path / "model.safetensors" for s in saved)
    assert best.samefile(state)
    resumed, rest = run_job(
        own, own_trainers.PARAMS, tmp_path, save_fourth, checkpoint=saved[1].path
    )
    assert numbers(resumed) == numbers(unbroken[1:])
    assert rest[0].sha256 == ended[0].sha256


class SavesByName(Trainer):
    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, model, trial, *more, **given):
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, model, trial, *more, **given)
        if self.state.global_step == 6:
            self._save_checkpoint(model=model, trial=trial)


def test_a_trainer_may_save_a_state_by_itself_as_without_a_gate(tmp_path: Path):
    own = own_trainers.space_of(own_trainers.builder(SavesByName))
    reports, _ = run_job(own, own_trainers.PARAMS, tmp_path)
    assert len(reports) == 4


def test_a_trial_whose_model_the_store_refuses_ends_with_what_the_store_said(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "GIVE_UP_S", 0.0)
    refuses = SweepFolder(tmp_path / "curves", "file:///proc/nobody/writes/here")
    best = Reply("continue", save_best=True, save_state=False)
    with pytest.raises(remote.StorageFailed, match="here") as raised:
        run_job(space, B, refuses, lambda n: best if n == 1 else GO)
    assert storage_failed(raised.value)


def test_a_trial_that_pauses_saves_its_state_and_goes_on_bit_for_bit_as_if_unbroken(
    space: SearchSpace, tmp_path: Path, unbroken: tuple[list[Report], str]
):
    reports, sha256 = unbroken
    signals = Signals()
    pause = Reply("pause", save_best=True, save_state=True)
    first, saved = run_job(space, B, tmp_path, lambda n: pause if n == 3 else GO, signals=signals)
    assert numbers(first) == numbers(reports[:3])
    assert signals.left_by == "paused"
    assert [(s.number, s.kind) for s in saved] == [(3, "best"), (3, "state")]
    resumed, rest = run_job(space, B, tmp_path, save_last, checkpoint=saved[-1].path)
    assert numbers(resumed) == numbers(reports[3:])
    assert rest[0].sha256 == sha256


def test_a_trial_that_pauses_while_a_model_becomes_whole_leaves_once_all_is_whole(
    space: SearchSpace, tmp_path: Path, unbroken: tuple[list[Report], str]
):
    reports, sha256 = unbroken
    signals = Signals()
    pause = Reply("pause", save_best=False, save_state=True)
    best = Reply("continue", save_best=True, save_state=False)
    writes = Writes(lambda n: pause if n == 3 else best, until=3)
    _, saved = run_job(space, B, tmp_path, writes.ask, signals=signals, announced=writes.announced)
    assert signals.left_by == "paused"
    assert [(s.number, s.kind) for s in saved] == [(1, "best"), (2, "best"), (3, "state")]
    assert all(is_whole(tmp_path / s.path) for s in saved)
    resumed, rest = run_job(space, B, tmp_path, save_last, checkpoint=saved[-1].path)
    assert numbers(resumed) == numbers(reports[3:])
    assert rest[0].sha256 == sha256


def test_rank_0_names_the_step_after_the_one_it_is_at_and_all_save_there(
    space: SearchSpace, tmp_path: Path
):
    signals = Signals()

    def ask(number: int) -> Reply:
        signals.name_a_step |= number == 2  # at step 8
        return GO

    _, saved = run_job(space, B, tmp_path, ask, signals=signals)
    assert signals.save_at == 10, "it is asked at the end of step 9"
    assert [(s.number, Path(s.path).name) for s in saved] == [(2, "checkpoint-10")]


def test_a_trial_that_was_to_leave_at_its_last_step_is_through(space: SearchSpace, tmp_path: Path):
    signals = Signals(save_at=32)
    reports, saved = run_job(space, B, tmp_path, signals=signals)
    assert reports[-1].progress == 1
    assert (saved, signals.left_by) == ([], "done")


@pytest.mark.parametrize("save_best", [True, False])
def test_a_trial_that_stops_where_it_was_to_save_leaves_no_state(
    space: SearchSpace, tmp_path: Path, save_best: bool
):
    stop = Reply("stop", save_best=save_best, save_state=False)
    signals = Signals(save_at=8)
    reports, saved = run_job(space, B, tmp_path, lambda n: stop if n == 2 else GO, signals=signals)
    assert signals.left_by == "done"
    assert [report.number for report in reports] == [1, 2]
    assert [s.kind for s in saved] == ["best"] * save_best
    assert not list(tmp_path.rglob("checkpoint-*"))


def test_a_best_report_where_a_state_was_to_be_saved_is_saved_once_and_linked(
    space: SearchSpace, tmp_path: Path
):
    best = Reply("continue", save_best=True, save_state=False)
    _, saved = run_job(
        space,
        B,
        tmp_path,
        lambda n: best if n == 2 else GO,
        signals=Signals(save_at=8),
    )
    assert [(s.number, s.kind) for s in saved] == [(2, "best"), (2, "state")]
    linked, state = (tmp_path / s.path / "model.safetensors" for s in saved)
    assert linked.samefile(state)


def test_the_gate_tells_the_watch_of_each_step_and_of_what_the_trainer_does(
    space: SearchSpace, tmp_path: Path
):
    signals = Seen()

    def ask(number: int) -> Reply:
        signals.phases.append(signals.phase)
        return stop_at(2)(number)

    fixed = {**space.fixed, "max_rows_per_device": 16}
    run_job(replace(space, fixed=fixed), B, tmp_path, ask, signals=signals)
    begin: list[Phase] = ["training"]
    steps: list[Phase] = ["training"] * 2 * 4  # two substeps each, the last the step's own
    evaluation: list[Phase] = ["evaluation"] * 4  # 32 rows, 8 at a time
    decision: list[Phase] = ["training"]
    end: list[Phase] = ["training"]  # no checkpoint has to be waited for any more
    assert signals.phases == [*begin, *[*steps, *evaluation, *decision] * 2, *end]


@pytest.mark.slow
def test_thirty_trials_in_one_process_leave_its_memory_flat(space: SearchSpace, tmp_path: Path):
    """As a worker sees it: 0.3 MB more in the last twenty were seen, and 10 with all kept."""
    short = replace(space, fixed={**space.fixed, "max_steps": 2}, evals_per_trial=1)
    baseline, own = isolated.take_baseline(), list[int]()
    for _ in range(30):
        isolated.restore(baseline)
        run_job(short, A, tmp_path)
        own.append(worker_loop._own_memory())
    assert max(own[10:]) < own[9] + 3 * 2**20


# Fewer rows per device, since memory ran out.


@pytest.fixture
def sure(space: SearchSpace, tiny_model_without_dropout: Path) -> SearchSpace:
    """The space without dropout, whose draws depend on how a batch is split."""
    builder = space.build_trainer
    assert isinstance(builder, TextClassification)
    return replace(space, build_trainer=replace(builder, model=str(tiny_model_without_dropout)))


def rows_per_step(folder: Path) -> int:
    (state,) = folder.rglob("trainer_state.json")
    return int(json.loads(state.read_text())["train_batch_size"])


def test_a_job_with_fewer_rows_per_device_in_training_gives_the_same_losses(
    sure: SearchSpace, tmp_path: Path
):
    def save(number: int) -> Reply:
        return Reply("stop" if number == 4 else "continue", save_best=False, save_state=number == 3)

    usual, _ = run_job(sure, B, tmp_path / "usual", save)
    halved, _ = run_job(sure, B, tmp_path / "halved", save, reduced=frozenset[Phase]({"training"}))
    assert (rows_per_step(tmp_path / "usual"), rows_per_step(tmp_path / "halved")) == (32, 16)
    assert [r.step for r in halved] == [r.step for r in usual] == [4, 8, 12, 16]
    for one, other in zip(halved, usual, strict=True):
        assert_close(one, other)


def test_a_job_with_fewer_rows_per_device_in_evaluation_gives_the_same_metrics(
    space: SearchSpace, tmp_path: Path, unbroken: tuple[list[Report], str]
):
    reports, sha256 = unbroken
    signals = Seen()
    halved, saved = run_job(
        space,
        B,
        tmp_path,
        save_last,
        signals=signals,
        reduced=frozenset[Phase]({"evaluation"}),
    )
    assert signals.phases.count("evaluation") == 8 * 8, "batches of 4 rows, of 32, 8 times"
    for one, other in zip(halved, reports, strict=True):
        assert_close(one, other)
    assert saved[0].sha256 == sha256, "training is the same"


def assert_close(one: Report, other: Report) -> None:
    """Float tolerance for what is a mean of other sums; counts of rows are exact."""
    (a,), (b,) = numbers([one]), numbers([other])
    assert a.keys() == b.keys()
    for x, y in zip(a.pop("log_entries"), b.pop("log_entries"), strict=True):
        assert (x.step, x.learning_rate) == (y.step, y.learning_rate)
        assert x.loss == pytest.approx(y.loss, rel=1e-5)
    assert a == pytest.approx(b, rel=1e-5)


FRESH = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import B, numbers, run_job, save_last, tiny_space
from sweeps.workers.isolation import isolated
isolated.restore(isolated.take_baseline())
reports, saved = run_job(tiny_space(), B, Path(sys.argv[2]), save_last)
print(json.dumps([repr(numbers(reports)), saved[0].sha256]))
"""


def test_a_trial_gives_the_same_bits_after_any_other_trial_as_in_a_fresh_process(
    space: SearchSpace, tmp_path: Path
):
    fresh = subprocess.run(
        [sys.executable, "-c", FRESH, str(Path(__file__).parent), str(tmp_path / "fresh")],
        capture_output=True,
        text=True,
        check=True,
    )
    fresh_numbers, fresh_sha256 = json.loads(fresh.stdout.splitlines()[-1])
    baseline = isolated.take_baseline()
    stop = Reply("stop", save_best=False, save_state=False)
    other = replace(space, fixed={**space.fixed, "seed": 3})
    run_job(other, A, tmp_path / "other", lambda n: stop if n == 5 else GO)
    # What a builder of the user's own may leave behind.
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    torch.backends.fp32_precision = "tf32"
    torch.set_flush_denormal(True)
    sys.setrecursionlimit(500)
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    os.environ["LEFT_BEHIND"] = "1"
    os.chdir(tmp_path)
    isolated.restore(baseline)
    assert "LEFT_BEHIND" not in os.environ
    assert Path.cwd() != tmp_path
    reports, saved = run_job(space, B, tmp_path / "after", save_last)
    assert repr(numbers(reports)) == fresh_numbers
    assert saved[0].sha256 == fresh_sha256


def test_data_loader_processes_change_no_number(
    space: SearchSpace, tmp_path: Path, unbroken: tuple[list[Report], str]
):
    alone, _ = unbroken
    loaders = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    helped_space = replace(space, fixed={**space.fixed, **loaders})
    helped, _ = run_job(helped_space, B, tmp_path, stop_at(6))
    assert numbers(helped) == numbers(alone[:6])


class HoldsTrainer(TrainerCallback):
    """As users write them: in a cycle with the trainer. Notes its data-loader processes."""

    def __init__(self, trainer: Trainer, seen: set[BaseProcess]) -> None:
        self.trainer = trainer
        self.seen = seen

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seen |= set(multiprocessing.active_children())

    on_prediction_step = on_step_end


accelerators: list[Accelerator] = []
"""A user's builder may keep them."""


def with_data_loader_processes(space: SearchSpace, seen: set[BaseProcess]) -> SearchSpace:
    def build(args: TrainingArguments) -> Trainer:
        assert multiprocessing.active_children() == [], "of the trainer before this one"
        trainer: Trainer = space.build_trainer(args, data=space.build_trainer.prepare())
        trainer.add_callback(HoldsTrainer(trainer, seen))
        accelerators.append(trainer.accelerator)
        return trainer

    loaders = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    return replace(space, build_trainer=build, fixed={**space.fixed, **loaders})


def test_data_loader_processes_end_by_themselves_before_their_trial_has(
    space: SearchSpace, tmp_path: Path
):
    stop = Reply("stop", save_best=False, save_state=False)
    seen: set[BaseProcess] = set()
    run_job(with_data_loader_processes(space, seen), B, tmp_path, lambda n: stop if n == 2 else GO)
    assert [process.exitcode for process in seen] == [0] * 4, "for training and for evaluation"


def test_a_report_callback_of_ray_train_is_taken_off_with_a_line(
    space: SearchSpace, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    from ray.train.huggingface.transformers import RayTrainReportCallback

    def build(args):
        trainer = space.build_trainer(args, data=space.build_trainer.prepare())
        trainer.add_callback(RayTrainReportCallback())
        return trainer

    state = Reply("continue", save_best=False, save_state=True)
    stop = Reply("stop", save_best=False, save_state=False)
    with caplog.at_level("INFO", "sweeps"):
        # Left on, it would report the saved state to Ray Train, which is not there.
        own = replace(space, build_trainer=build)
        _, saved = run_job(own, A, tmp_path, lambda n: state if n == 1 else stop)
    assert [event.kind for event in saved] == ["state"]
    said = [record.message for record in caplog.records if record.name == "sweeps"]
    assert said == [
        "removed the builder's RayTrainReportCallback: `sweeps` does the reporting itself"
    ]


def test_a_trial_that_builds_no_trainer_says_what_it_got(space: SearchSpace, tmp_path: Path):
    def build(args):
        return "no trainer"

    wrong = replace(space, build_trainer=build)
    with pytest.raises(Exception, match=r"^build_trainer \(build\) returned str, not a transf"):
        run_job(wrong, A, tmp_path)
