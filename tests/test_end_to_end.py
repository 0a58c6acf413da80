"""`python -m sweeps` as a user types it, from a folder of the user's own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.records.folder import find_sweep
from tests.conftest import CommandLine
from tests.processes import left_behind, marked, marking

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HELPER = """
from sweeps import TextClassification

def tiny() -> TextClassification:
    return TextClassification(model="unused", dataset="unused").tiny()
"""
SPACE = """
'''A user's own space, with a helper module beside it.'''
import my_helper
from ray import tune
from sweeps import SearchSpace

def build(args, *, fail: bool = False):
    import my_helper
    if fail:
        raise RuntimeError("this builder always fails")
    builder = my_helper.tiny()
    return builder(args, data=builder.prepare())

SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_accuracy",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
    fixed={"num_train_epochs": 1},
    evals_per_trial=4,
)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_helper.py").write_text(HELPER)
    (tmp_path / "mine" / "space.py").write_text(SPACE)
    (tmp_path / "mine" / "pictures [1]").mkdir()
    with (tmp_path / "mine" / "pictures [1]" / "large.bin").open("wb") as file:
        file.truncate(2**30)  # no bytes on disk; Ray would refuse to pack it
    return tmp_path


def sweeps(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeps", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=marking(folder) | variables,
    )


def test_a_sweep_on_two_workers_hands_over_a_model_that_classifies(
    folder: Path, command_line: CommandLine
):
    temporary = folder / "temporary"
    temporary.mkdir()
    ran = sweeps(
        *(folder, "run", "bert_yelp", "--tiny", "--num-trials", "2", "--workers-per-trial", "2"),
        TMPDIR=str(temporary),
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert "best: t00" in ran.stdout
    assert "(standard error 0." in ran.stdout
    assert left_behind(folder) == []
    # PyTorch's cache of compiled code stays.
    assert [p for p in temporary.iterdir() if not p.name.startswith("torchinductor")] == []
    results = json.loads(command_line("results", "bert_yelp", "--json", folder=folder).out)
    assert (results["status"], len(results["trials"])) == ("finished", 2)
    assert f"  python -m sweeps export {results['sweep']} --out" in ran.stdout

    exported = command_line("export", "bert_yelp", "--out", "model", folder=folder)
    assert (exported.code, exported.err) == (0, "")
    provenance = json.loads((folder / "model" / "provenance.json").read_text())
    assert provenance["value"] == results["best"]["value"]
    assert provenance["evaluated_again"]["value"] == pytest.approx(provenance["value"], abs=0.005)
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder / "model"), device=-1)
    assert set(classify("the food was great")[0]) == {"label", "score"}
    again = command_line("export", "bert_yelp", "--out", "model", folder=folder)
    assert (again.code, again.err) == (
        2,
        "model exists and is not an empty folder; --force (in Python, force=True) replaces it\n",
    )

    from mlflow import MlflowClient

    record = json.loads((folder / "results" / results["sweep"] / "sweep.json").read_text())
    client = MlflowClient(record["tracking_uri"])
    experiment = client.get_experiment_by_name("bert_yelp")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    assert {run.info.run_name for run in runs} == {
        results["sweep"],
        *(trial["trial"] for trial in results["trials"]),
    }


def test_a_sigterm_to_every_process_ends_the_sweep_cleanly_and_prints_what_was_found(
    folder: Path, command_line: CommandLine
):
    """As a batch system ends a job; Ctrl-C ends a sweep in the same way."""
    sweep = subprocess.Popen(
        [sys.executable, "-m", "sweeps", "run", "mine/space.py", "--num-trials", "500"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=marking(folder),
    )
    assert sweep.stdout is not None
    for line in sweep.stdout:
        if " finished (about " in line:
            for process in marked(folder):  # the newest first, so the sweep process is the last
                process.terminate()
            break
    rest, errors = sweep.communicate()
    assert (sweep.returncode, errors) == (130, "")
    assert "stopping: a resume continues each running trial from its last saved state" in rest
    assert "best: t00" in rest
    commands = [line for line in rest.splitlines() if line.startswith("  python -m sweeps ")]
    assert commands[0].startswith("  python -m sweeps resume space-")
    results = json.loads(command_line("results", "space", "--json", folder=folder).out)
    assert results["status"] == "interrupted"
    assert "running" not in {trial["status"] for trial in results["trials"]}
    state = json.loads((folder / "results" / results["sweep"] / "sweep.json").read_text())
    from mlflow import MlflowClient

    client = MlflowClient(state["tracking_uri"])
    experiment = client.get_experiment_by_name("space")
    statuses = {run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert statuses <= {"FINISHED", "KILLED"}
    assert "KILLED" in statuses
    assert left_behind(folder) == []


def test_a_space_with_a_helper_module_whose_builder_fails_ends_before_the_first_trial(
    ray_cluster: None, folder: Path, command_line: CommandLine
):
    ran = command_line(
        *("run", "mine/space.py", "fail=True", "--num-trials", "2", "--max-concurrent", "1"),
        *("--tracker", "tensorboard"),
        folder=folder,
    )
    assert ran.code == 1
    said = "rank 0: RuntimeError: this builder always fails"
    assert f"the smoke run failed: {said}\nTraceback (most recent call last):" in ran.out
    assert 'raise RuntimeError("this builder always fails")' in ran.out
    assert ran.out.rstrip().endswith("no trial has reported anything")
    assert ran.err == f"the smoke run failed before the first trial: {said}\n"
    log = [event for event, _ in read_events(find_sweep(folder / "results", "space").events_file)]
    assert [e for e in log if isinstance(e, ev.Reported | ev.JobStarted)] == []
    last = log[-1]
    assert isinstance(last, ev.SweepEnded)
    assert last.status == "failed"


def test_trials_that_all_fail_end_a_sweep_with_code_1_and_the_traceback(
    ray_cluster: None, folder: Path, command_line: CommandLine
):
    ran = command_line(
        *("run", "mine/space.py", "fail=True", "--no-smoke", "--num-trials", "1"),
        *("--max-concurrent", "1", "--max-failures", "0", "--tracker", "tensorboard"),
        folder=folder,
    )
    assert ran.code == 1
    assert "t001 failed (error): rank 0: RuntimeError: this builder always fails" in ran.out
    assert 'raise RuntimeError("this builder always fails")' in ran.out
    assert ran.out.rstrip().endswith("no trial has reported anything")
