"""Warm start: which trials of an earlier sweep fit a space, and what the searcher does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from transformers import TrainingArguments

from sweeps import SearchSpace, SweepConfig, when
from sweeps.driver.requests.finished import Changes
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.requests.resume_request import make_resumption
from sweeps.errors import UserError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History
from sweeps.records.sweep_record import write_record
from sweeps.report import Report
from sweeps.searchers.optuna_searcher import OptunaSearcher
from sweeps.space.domain_data import DomainData
from tests.written_record import put_record

EARLIER = "mine-20261123-0400-abcd"


def build(args: TrainingArguments) -> None: ...


def make(**changes: Any) -> SearchSpace:
    whole: dict[str, Any] = {
        "build_trainer": build,
        "metric": "eval_score",
        "mode": "max",
        "tuned": {"learning_rate": tune.loguniform(1e-5, 1e-3)},
    }
    return SearchSpace(**whole | changes)


def write(
    storage: Path,
    *trials: tuple[dict[str, Any], float | None],
    ended: bool = True,
    of: dict[str, str] | None = None,
    failure: ev.FailureKind = "error",
    **record: Any,
) -> None:
    """Write a sweep with a log; a trial without a value has failed, `of` says which are repeats."""
    folder = SweepFolder(storage / EARLIER)
    folder.path.mkdir(parents=True)
    put_record(folder, "mine", **{"fixed": {"seed": 17}} | record)
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepStarted(sweep=EARLIER))
    for number, (params, value) in enumerate(trials, 1):
        trial = f"t{number:03}"
        first = (of or {}).get(trial)
        log.append(
            ev.TrialSuggested(trial=trial, params=params, origin="searcher", of=first, seed=0)
        )
        if value is None:
            log.append(ev.TrialEnded(trial=trial, status="failed", failure=failure))
            continue
        report = Report(
            trial=trial,
            number=1,
            step=1,
            max_steps=1,
            epoch=1.0,
            metrics={"eval_score": value},
            train_s=1.0,
        )
        log.append(ev.Reported(report=report))
        log.append(ev.TrialEnded(trial=trial, status="finished"))
    if ended:
        log.append(ev.SweepEnded(status="finished"))
    log.close()


def warm_start(storage: Path, name: str = "mine", **changes: Any) -> tuple[list[Any], list[str]]:
    request = make_request(make(**changes), SweepConfig(storage=str(storage), warm_start=name))
    return [(dict(t.params), t.value) for t in request.warm_start_trials], request.lines


def test_trials_of_an_earlier_sweep_are_observed_and_what_does_not_fit_is_named(tmp_path: Path):
    write(
        tmp_path,
        ({"learning_rate": 1e-4}, 0.5),
        ({"learning_rate": 1e-2}, 0.9),
        ({"learning_rate": 2e-4, "weight_decay": 0.1}, 0.7),
        ({"learning_rate": 3e-4}, None),
    )
    trials, lines = warm_start(tmp_path)
    assert trials == [({"learning_rate": 1e-4}, 0.5)]
    assert lines == [
        f"warm start: the searcher observes 1 of 4 trials of {EARLIER}",
        "  1 left out: 'learning_rate' is outside loguniform(1e-05, 0.001)",
        "  1 left out: 'weight_decay' is no longer tuned or fixed",
        "  1 left out: no value",
    ]


def test_params_that_were_repeated_are_observed_once_with_their_mean(tmp_path: Path):
    same = {"learning_rate": 1e-4}
    other = {"learning_rate": 2e-4}
    write(
        tmp_path,
        *((same, 0.5), (same, 0.7), (other, None), (other, None)),
        config=SweepConfig(repeats=2),
        of={"t002": "t001", "t004": "t003"},
    )
    trials, lines = warm_start(tmp_path)
    assert trials == [(same, 0.6)]
    assert lines == [
        f"warm start: the searcher observes 1 of 2 params sets of {EARLIER}",
        "  1 left out: no value",
    ]


def test_params_that_diverged_with_one_seed_are_not_observed_as_good(tmp_path: Path):
    """In their own sweep, the searcher has learnt that they cannot be trained."""
    stable, unstable = {"learning_rate": 1e-4}, {"learning_rate": 9e-4}
    write(
        tmp_path,
        *((stable, 0.5), (stable, 0.7), (unstable, 0.9), (unstable, None)),
        config=SweepConfig(repeats=2),
        of={"t002": "t001", "t004": "t003"},
        failure="diverged",
    )
    trials, lines = warm_start(tmp_path)
    assert trials == [(stable, 0.6)]
    assert lines[1:] == ["  1 left out: diverged or ran out of memory"]


def test_what_was_fixed_there_counts_for_what_is_tuned_here_and_the_other_way_round(tmp_path: Path):
    write(
        tmp_path,
        ({"learning_rate": 1e-4, "weight_decay": 0.1}, 0.5),
        ({"learning_rate": 1e-4, "weight_decay": 0.2}, 0.6),
        tuned={"weight_decay": [DomainData(kind="float", lower=0.0, upper=0.3)]},
    )
    tuned = {"learning_rate": tune.loguniform(1e-5, 1e-3), "seed": tune.randint(0, 20)}
    trials, lines = warm_start(tmp_path, tuned=tuned, fixed={"weight_decay": 0.2})
    assert trials == [({"learning_rate": 1e-4, "seed": 17}, 0.6)]
    assert lines[1:] == ["  1 left out: 'weight_decay' is now fixed to 0.2"]


def test_what_has_another_value_in_each_sweep_is_said_if_it_changes_what_trials_score(
    tmp_path: Path,
):
    """Values after one epoch are observed beside those after three, HF's default."""
    fixed = {"num_train_epochs": 1, "weight_decay": 0.1, "max_grad_norm": 1.0, "seed": 17}
    harmless = {"logging_steps": 5, "dataloader_num_workers": 2, "bf16": True}
    write(tmp_path, ({"learning_rate": 1e-4}, 0.5), fixed=fixed | harmless)
    now = {"weight_decay": 0.1, "warmup_steps": 5, "dataloader_num_workers": 0}
    trials, lines = warm_start(tmp_path, fixed=now)
    assert len(trials) == 1
    assert lines[1:] == [
        "  their values may not be comparable: num_train_epochs was 1, is now 3.0;"
        " warmup_steps was 0, is now 5",
    ]


def test_a_trial_must_have_a_value_for_every_active_argument(tmp_path: Path):
    write(tmp_path, ({"optim": "sgd"}, 0.5), ({"optim": "adamw_torch"}, 0.6))
    tuned = {
        "optim": tune.choice(["adamw_torch", "sgd"]),
        "adam_beta1": when({"optim": "adamw_torch"}, tune.uniform(0.8, 0.9)),
    }
    trials, lines = warm_start(tmp_path, tuned=tuned)
    assert trials == [({"optim": "sgd"}, 0.5)]
    assert lines[1:] == ["  1 left out: 'adam_beta1' has no value in that sweep"]


@pytest.mark.parametrize(
    ("written", "changes", "problem"),
    [
        (
            {"ended": False},
            {},
            f"--warm-start mine: {EARLIER} has not ended, so its results may still change;"
            " wait for it, or resume it if it was interrupted",
        ),
        (
            {},
            {"mode": "min"},
            "--warm-start mine: its metric is 'eval_score' (max),"
            " but this space's metric is 'eval_score' (min)",
        ),
    ],
)
def test_a_sweep_that_cannot_be_observed_is_refused(
    tmp_path: Path, written: dict[str, Any], changes: dict[str, Any], problem: str
):
    write(tmp_path, ({"learning_rate": 1e-4}, 0.5), **written)
    with pytest.raises(UserError) as raised:
        warm_start(tmp_path, **changes)
    assert str(raised.value) == problem


def test_random_search_is_not_said_to_observe_trials(tmp_path: Path):
    write(tmp_path, ({"learning_rate": 1e-4}, 0.5))
    config = SweepConfig(storage=str(tmp_path), warm_start="mine", searcher="random")
    request = make_request(make(), config)
    assert request.warm_start_trials == []
    assert request.lines == [
        "--warm-start mine: no effect, because random search does not learn from trials"
    ]


def test_the_searcher_learns_from_what_it_observes(tmp_path: Path):
    """Of 30 trials those near 2e-4 were good: the next ones are drawn there."""
    rates = [10 ** (-5 + 2 * i / 30) for i in range(30)]
    write(tmp_path, *(({"learning_rate": r}, float(1.5e-4 < r < 3e-4)) for r in rates))

    def drawn(warm_start: str | None) -> list[float]:
        request = make_request(
            make(), SweepConfig(storage=str(tmp_path), warm_start=warm_start, seed=1)
        )
        searcher = OptunaSearcher(request.space, request.config.seed, request.warm_start_trials)
        history, found = History("eval_score", "max"), []
        for number in range(8):
            params = searcher.propose(history)
            assert params is not None
            found.append(params["learning_rate"])
            suggested = ev.TrialSuggested(
                trial=f"t{number + 1:03}", params=params, origin="searcher", seed=0
            )
            history.apply(suggested)
        return found

    def near(found: list[float]) -> int:
        return sum(1e-4 < rate < 4e-4 for rate in found)

    assert near(drawn("mine")) >= 2 * near(drawn(None))
    assert drawn("mine") == drawn("mine")


def test_a_resume_observes_the_same_trials_whatever_became_of_the_earlier_sweep(tmp_path: Path):
    write(tmp_path, ({"learning_rate": 1e-4}, 0.5))
    config = SweepConfig(storage=str(tmp_path), warm_start="mine")
    request = make_request(make(), config, name="mine")
    folder = SweepFolder(tmp_path / "mine-20261124-0741-k3f9")
    folder.path.mkdir()
    write_record(folder, make_record(request, folder.id))
    shutil.rmtree(tmp_path / EARLIER)
    EventLog(folder.events_file, ()).close()
    again = make_resumption(folder, Changes(), storage=str(tmp_path), space=make())
    assert again.warm_start_trials == request.warm_start_trials != []
