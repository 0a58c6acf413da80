"""One job in this process, on the shipped tiny model: the gate, isolation, resume."""

import gc
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sweeps import SearchSpace
from sweeps.builders.text_classification import TextClassification
from sweeps.records.checkpoints import is_whole, weights_sha256
from sweeps.records.events import CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.space.arguments import Devices
from sweeps.space.loading import load_space
from sweeps.space.report import Report
from sweeps.workers import isolation
from sweeps.workers.job import Answer, Job
from sweeps.workers.training import train

CPU = Devices(workers=1, gpu=False, bf16=False)
GO = Answer(stop=False, save_best=False, save_state=False)
A = {"learning_rate": 9e-5, "total_train_batch_size": 16, "warmup_steps": 0.0}
B = {"learning_rate": 5e-5, "total_train_batch_size": 32, "warmup_steps": 0.1}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    shipped = load_space("bert_yelp").space
    assert isinstance(shipped.build_trainer, TextClassification)
    return replace(shipped, build_trainer=shipped.build_trainer.tiny())


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    """What the worker loop does around each job."""
    baseline = isolation.take_baseline()
    yield
    isolation.restore(baseline)


def run_job(
    space: SearchSpace,
    params: dict,
    folder: Path,
    answer: Callable[[int], Answer] = lambda _: GO,
    checkpoint: Path | None = None,
    trial: str = "t001",
) -> tuple[list[Report], list[CheckpointSaved]]:
    reports: list[Report] = []
    saved: list[CheckpointSaved] = []
    train(
        space,
        Job(trial=trial, attempt=1, params=params, checkpoint=checkpoint),
        devices=CPU,
        folder=SweepFolder(folder),
        seed=0,
        send=reports.append,
        ask=answer,
        announce=saved.append,
    )
    return reports, saved


def numbers(reports: list[Report]) -> list[dict]:
    """What must be equal: all metrics but clocks, and the training log."""
    return [
        {
            "step": report.step,
            "samples": report.samples,
            **{k: v for k, v in report.metrics.items() if "runtime" not in k and "per_s" not in k},
        }
        for report in reports
    ]


def save_last(number: int) -> Answer:
    return Answer(stop=False, save_best=number == 8, save_state=False)


def test_a_whole_trial_reports_at_even_progress_and_learns(space: SearchSpace, tmp_path: Path):
    reports, _ = run_job(space, A, tmp_path)
    assert [report.number for report in reports] == list(range(1, 9))
    assert [report.progress for report in reports] == [i / 8 for i in range(1, 9)]
    assert reports[-1].metrics["eval_accuracy"] > reports[0].metrics["eval_accuracy"] + 0.02
    assert all(report.samples for report in reports)
    assert reports[0].eval_rows == 256


def test_a_stopped_trial_leaves_at_its_gate_and_saves_only_what_it_was_told(
    space: SearchSpace, tmp_path: Path
):
    stop = Answer(stop=True, save_best=True, save_state=False)
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


def test_a_state_that_is_also_the_best_is_saved_once_and_linked(space: SearchSpace, tmp_path: Path):
    both = Answer(stop=False, save_best=True, save_state=True)
    _, saved = run_job(space, A, tmp_path, lambda n: both if n == 3 else GO)
    assert [(s.number, s.kind) for s in saved] == [(3, "best"), (3, "state")]
    best, state = (tmp_path / s.path / "model.safetensors" for s in saved)
    assert best.samefile(state)
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(os.listdir(state.parent))


def test_a_resumed_trial_goes_on_bit_for_bit_as_if_unbroken(space: SearchSpace, tmp_path: Path):
    unbroken, whole = run_job(space, B, tmp_path / "unbroken", save_last)
    state = Answer(stop=False, save_best=False, save_state=True)
    _, saved = run_job(space, B, tmp_path / "broken", lambda n: state if n == 3 else GO)
    resumed, rest = run_job(
        space, B, tmp_path / "resumed", save_last, checkpoint=tmp_path / "broken" / saved[0].path
    )
    assert [report.number for report in resumed] == [4, 5, 6, 7, 8]
    assert numbers(resumed) == numbers(unbroken[3:])
    assert rest[0].sha256 == whole[0].sha256


FRESH = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import B, numbers, run_job, save_last
from dataclasses import replace
from sweeps.space.loading import load_space
from sweeps.workers import isolation
space = load_space("bert_yelp").space
space = replace(space, build_trainer=space.build_trainer.tiny())
isolation.restore(isolation.take_baseline())
reports, saved = run_job(space, B, Path(sys.argv[2]), save_last)
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
    baseline = isolation.take_baseline()
    stop = Answer(stop=True, save_best=False, save_state=False)
    other = replace(space, fixed={**space.fixed, "seed": 3})
    run_job(other, A, tmp_path / "other", lambda n: stop if n == 5 else GO)
    # What a builder of the user's own may leave behind.
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64)
    os.environ["LEFT_BEHIND"] = "1"
    os.chdir(tmp_path)
    isolation.restore(baseline)
    assert "LEFT_BEHIND" not in os.environ
    assert Path.cwd() != tmp_path
    reports, saved = run_job(space, B, tmp_path / "after", save_last)
    assert repr(numbers(reports)) == fresh_numbers
    assert saved[0].sha256 == fresh_sha256


def test_data_loader_workers_change_no_number_and_end_with_their_trial(
    space: SearchSpace, tmp_path: Path
):
    stop = Answer(stop=True, save_best=False, save_state=False)
    alone, _ = run_job(space, B, tmp_path / "alone", lambda n: stop if n == 2 else GO)
    loaders = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    helped_space = replace(space, fixed={**space.fixed, **loaders})
    helped, _ = run_job(helped_space, B, tmp_path / "helped", lambda n: stop if n == 2 else GO)
    assert numbers(helped) == numbers(alone)
    gc.collect()
    assert multiprocessing.active_children() == []


def test_a_report_callback_of_ray_train_is_taken_off_with_a_line(
    space: SearchSpace, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    from ray.train.huggingface.transformers import RayTrainReportCallback

    def build(args):
        trainer = space.build_trainer(args, data=space.build_trainer.prepare())
        trainer.add_callback(RayTrainReportCallback())
        return trainer

    state = Answer(stop=False, save_best=False, save_state=True)
    stop = Answer(stop=True, save_best=False, save_state=False)
    with caplog.at_level("INFO", "sweeps"):
        # Left on, it would report the saved state to Ray Train, which is not there.
        own = replace(space, build_trainer=build)
        _, saved = run_job(own, A, tmp_path, lambda n: state if n == 1 else stop)
    assert [event.kind for event in saved] == ["state"]
    said = [record.message for record in caplog.records if record.name == "sweeps"]
    assert said == [
        "the builder's RayTrainReportCallback is taken off: sweeps reports in its place"
    ]


def test_a_trial_that_builds_no_trainer_says_what_it_got(space: SearchSpace, tmp_path: Path):
    def build(args):
        return "no trainer"

    wrong = replace(space, build_trainer=build)
    with pytest.raises(Exception, match=r"^build_trainer \(build\) returned str, not a transf"):
        run_job(wrong, A, tmp_path)
