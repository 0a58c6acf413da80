"""What `plan` and `run` warn about, other than training arguments and the code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ray import tune
from transformers import TrainingArguments

from sweeps import SweepConfig, when
from sweeps.driver.requests.new_request import make_request
from sweeps.planning.warnings import find_warnings
from tests.planning.asked import SCRIPT, doubtful, reviews


def test_a_usual_space_has_nothing_doubtful():
    assert doubtful() == []


def test_a_key_that_is_never_tuned_is_doubtful():
    rate, fixed = {"learning_rate": tune.loguniform(1e-5, 1e-3)}, {"optim": "adamw_torch"}
    sgd, adamw = (when({"optim": of}, tune.uniform(0, 1)) for of in ("sgd", "adamw_torch"))
    assert doubtful(tuned={**rate, "weight_decay": sgd}, fixed=fixed) == [
        "weight_decay is never tuned: no trial meets its condition (optim = 'sgd')"
    ]
    assert doubtful(tuned={**rate, "weight_decay": [sgd, adamw]}, fixed=fixed) == []


def test_a_metric_without_eval_is_doubtful_where_the_builder_does_not_say_what_it_evaluates():
    assert doubtful(metric="score", mode="max") == [
        "metric 'score': HF's metric names begin with 'eval_'; did you mean 'eval_score'?"
    ]


def test_a_secret_that_is_not_hidden_is_doubtful(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("X_TOKEN", "finished")
    monkeypatch.setenv("A_PASSWORD", "pw")
    assert doubtful() == [
        "$A_PASSWORD, $X_TOKEN: not hidden in messages and output, because it is too short or too"
        " common to be recognised as a secret"
    ]


@pytest.mark.parametrize(
    ("metric", "mode", "right"),
    [
        ("eval_loss", "max", "min"),
        ("eval_perplexity", "max", "min"),
        ("eval_accuracy", "min", "max"),
        ("eval_f1", "min", "max"),
        ("eval_rouge2", "min", "max"),
        ("eval_ppl", "max", "min"),
        ("eval_wer_ortho", "max", "min"),
    ],
)
def test_a_mode_that_looks_wrong_is_doubtful(metric: str, mode: Any, right: str):
    assert doubtful(metric=metric, mode=mode) == [
        f"metric '{metric}' has mode '{mode}', but its usual mode is '{right}'"
    ]
    assert doubtful(metric=metric, mode=right) == []


def test_fewer_than_four_evaluations_under_asha_are_doubtful():
    assert doubtful(evals_per_trial=3) == [
        "evals_per_trial = 3: trials are compared only at evaluations; use 4 or more, or"
        " --scheduler fifo"
    ]
    assert doubtful(evals_per_trial=3, config={"scheduler": "fifo"}) == []
    assert doubtful(evals_per_trial=4) == []


def test_a_first_rung_inside_the_warmup_is_doubtful():
    tuned = {"warmup_steps": tune.uniform(0.0, 0.2)}
    assert doubtful(tuned=tuned) == [
        "warmup_steps up to 0.2: the first rung, at 12.5% of a trial, falls within the warmup;"
        " shorten the warmup, or raise --first-rung"
    ]
    assert doubtful(tuned=tuned, config={"first_rung": 0.25}) == []
    (fixed,) = doubtful(fixed={"warmup_steps": 0.3})
    assert fixed.startswith("warmup_steps up to 0.3: the first rung")
    assert doubtful(fixed={"warmup_steps": 500}) == [], "steps, not a share"


def test_a_finite_space_needs_as_many_params_as_are_repeated():
    tuned = {"learning_rate": tune.choice([1e-5, 1e-4, 1e-3])}
    config = {"repeats": 4, "scheduler": "fifo", "searcher": "random"}
    assert doubtful(config={**config, "num_trials": 12}, tuned=tuned) == []
    assert doubtful(config={**config, "num_trials": 16}, tuned=tuned) == [
        "--num-trials 16, 4 params x 4 seeds: the space has at most 3 different params sets;"
        " the sweep ends when all have been trained"
    ]


def test_repeats_are_doubtful_with_asha_and_where_optuna_has_too_few_params_to_learn_from():
    assert doubtful(config={"num_trials": 40, "repeats": 4}) == [
        "--repeats 4 with --scheduler asha: a trial stopped early contributes its best"
        " value so far, so the means mix trials of different lengths; --scheduler fifo runs every"
        " trial to completion",
        "10 params x 4 seeds: Optuna learns only after 10 params sets, so this sweep draws all"
        " params at random; raise --num-trials, or lower --repeats",
    ]
    assert doubtful(config={"num_trials": 44, "repeats": 4, "scheduler": "fifo"}) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"scheduler": "fifo", "first_rung": 0.25}, "--first-rung 0.25 has no effect with"),
        ({"scheduler": "median", "reduction_factor": 3}, "--reduction-factor 3 has no effect with"),
        ({"trackers": ["tensorboard"], "tracking_uri": "x.db"}, "--tracking-uri has no effect"),
        ({"trials_per_gpu": 2, "workers_per_trial": 2}, "--trials-per-gpu 2 has no effect with"),
        ({"trials_per_gpu": 2, "gpus_per_worker": 0.5}, "--trials-per-gpu 2 has no effect with"),
    ],
)
def test_an_option_that_the_sweep_does_not_use_is_doubtful(config: dict[str, Any], said: str):
    (line,) = doubtful(config=config)
    assert line.startswith(said)


def test_a_finite_space_with_fewer_params_than_trials_is_doubtful():
    tuned = {"seed": tune.randint(1, 4), "optim": tune.choice(["sgd", "adamw_torch"])}
    assert doubtful(tuned=tuned) == [
        "--num-trials 32: the space has at most 6 different params sets;"
        " the sweep ends when all have been trained"
    ]
    assert doubtful(tuned=tuned, config={"num_trials": 6}) == []


def test_a_working_tree_that_is_not_committed_is_doubtful(tmp_path: Path):
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    file = tmp_path / "mine.py"
    file.write_text(SCRIPT.replace('"test"', '"dev"').replace("EarlyStopping", "Printer"))
    git("init")
    git("add", ".")
    git("commit", "-m", "x")
    assert find_warnings(make_request(str(file), SweepConfig()), 1, gpu=False) == []
    file.write_text(file.read_text() + "\n")
    line = "the working tree has uncommitted changes, which the recorded commit does not contain"
    assert find_warnings(make_request(str(file), SweepConfig()), 1, gpu=False) == [line]


def test_a_folder_as_storage_of_several_nodes_is_doubtful():
    assert doubtful(nodes=2, config={"storage": "./results"}) == [
        "--storage ./results is a folder, so all 2 nodes of the cluster must be able to see it"
    ]


def test_a_hub_name_that_is_not_cached_is_doubtful_offline(monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert doubtful(fixed={"model": "org/name"}) == [
        "model = 'org/name': not in the local cache (/cache), and HF_HUB_OFFLINE prevents a"
        " download; unset it, or download the repository first"
    ]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert doubtful(fixed={"model": "org/name"}) == []


def test_a_batch_larger_than_the_data_and_too_few_rows_to_judge_by_are_doubtful(tmp_path: Path):
    space = {
        "build_trainer": reviews(tmp_path, 40, 100),
        "metric": "eval_accuracy",
        "mode": "max",
        "tuned": {"total_train_batch_size": tune.choice([16, 64])},
    }
    assert doubtful(config={"num_trials": 2}, **space) == [
        "total_train_batch_size up to 64 exceeds the 40 train rows: such a trial takes one step per"
        " epoch, on 40 rows",
        "100 evaluation rows: the standard error of eval_accuracy is up to 0.050, so smaller"
        " differences between trials may be noise; 2500 rows would lower it to 0.01",
    ]


class TwoSets:
    """A builder whose trainer has several evaluation sets, as a script may have."""

    eval_sets: ClassVar = {"dev": 100, "dev_large": 2500, "streamed": None}

    def count_rows(self) -> tuple[int, int]:
        return 40, 2600

    def __call__(self, args: TrainingArguments) -> None: ...


@pytest.mark.parametrize(
    ("metric", "rows"),
    [("eval_dev_accuracy", 100), ("eval_dev_large_accuracy", 0), ("eval_streamed_accuracy", 0)],
)
def test_the_rows_of_the_judged_set_count(metric: str, rows: int):
    found = doubtful(build_trainer=TwoSets(), metric=metric, mode="max")
    assert [int(line.split()[0]) for line in found if "evaluation rows" in line] == [rows] * (
        rows > 0
    )
