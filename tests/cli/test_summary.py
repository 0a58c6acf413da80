"""The answer as people read it: who won, against what, and what cannot be told apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sweeps.answer.answer import Answer
from sweeps.answer.gain import Baseline, Compared
from sweeps.answer.results import read_results
from sweeps.answer.standing import Standing
from sweeps.cli.console import console
from sweeps.cli.display import Display
from sweeps.cli.results_command import results
from sweeps.cli.summary import answer_lines, print_summary
from sweeps.config import SweepConfig
from sweeps.driver.followers import SweepStart
from sweeps.planning.layout import GroupSize, Layout
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.schedulers.fifo import FIFO
from sweeps.space.search_space import SearchSpace
from tests.answer.test_confirmation import confirmed
from tests.written_confirmation import confirmation_events, trial_events
from tests.written_sweep import WrittenSweep, four_trials

WINNER = Standing(
    trial="t002",
    params_set="t002",
    params={"learning_rate": 9e-5},
    value=0.9,
    step=40,
    max_steps=80,
    epoch=1.0,
    progress=0.5,
    mean=0.9,
    seeds=1,
    repeats=1,
    checkpoint=None,
    error=0.03,
    why_no_error=None,
    df=None,
    center=0.9,
)
ANSWER = Answer(
    metric="eval_accuracy",
    mode="max",
    status="finished",
    reason=None,
    winner=WINNER,
    baseline=Baseline(params_set="t001", mean=0.54, status="finished", progress=1.0),
    compared=Compared(winner=0.9, baseline=0.54),
    gain=0.36,
    majority=None,
    tied=(),
    not_told_apart=("t004", "t003"),
    why_not_tested=None,
    row_noise=None,
    trials={},
    failures={},
    device_s=90.0,
    confirmation=None,
)


def lines(**changes: object) -> list[str]:
    return answer_lines(dataclasses.replace(ANSWER, **changes))  # type: ignore[arg-type]


def test_the_winner_its_gain_and_its_equals_are_said():
    assert lines() == [
        "best: t002 with eval_accuracy 0.9 (standard error 0.03) at step 40, 50% of the trial",
        "      learning_rate=9e-05",
        "      0.36 better than the first params (t001: 0.54)",
        "      this sweep cannot tell it from t004, t003",
    ]


def test_what_a_model_without_any_skill_would_score_is_said_beside_the_best():
    said = "      always answering with the most frequent class would score 0.52"
    assert lines(majority=0.52)[2] == said


def test_a_tie_is_said_with_what_decides_it():
    assert (
        lines(tied=("t004",))[3]
        == "      t002 and t004 tie; t002 is listed first because its number is the lowest"
    )
    assert lines(tied=("t004", "t007"))[3] == (
        "      t002, t004 and t007 tie; t002 is listed first because its number is the lowest"
    )


def test_repeated_params_are_said_by_their_mean():
    own = {"params_set": "t003", "mean": 0.8, "seeds": 2, "repeats": 3, "error": 0.1}
    assert lines(winner=dataclasses.replace(WINNER, **own), not_told_apart=()) == [
        "best: the params of t003 with eval_accuracy 0.8 (standard error 0.1), the mean over 2 of 3"
        " seeds",
        "      their best trial: t002 with 0.9 at step 40, 50% of the trial",
        "      learning_rate=9e-05",
        "      0.36 better than the first params (t001: 0.54)",
    ]


def test_a_winner_that_gains_nothing_is_said_to():
    first = dataclasses.replace(WINNER, params_set="t001")
    assert lines(winner=first, gain=0.0)[2] == "      these are the first params (t001)"
    assert lines(gain=0.0)[2] == "      no better than the first params (t001: 0.54)"


def test_what_is_not_known_is_left_out():
    unknown = dataclasses.replace(WINNER, error=None)
    assert lines(winner=unknown, not_told_apart=None, baseline=None, gain=None) == [
        "best: t002 with eval_accuracy 0.9 at step 40, 50% of the trial",
        "      learning_rate=9e-05",
    ]
    assert lines(winner=None) == []


def test_a_confirmation_says_each_arm_the_verdict_and_how_sure_it_is():
    winner = [0.90, 0.91, 0.92, 0.93, 0.92, 0.91]
    arms = {
        "t002": winner,
        "t003": [*winner[:5], None],
        "t001": [value - gap for value, gap in zip(winner, (2e-2, 3e-2) * 3, strict=True)],
    }
    found = confirmed([0.9, 0.95, 0.94], arms)
    assert lines(confirmation=found)[4:] == [
        "on 6 fresh seeds each (eval_accuracy, 95 % interval of the mean; 0s of device time):",
        "      t002: 0.915 (0.904 to 0.926), sd 0.01049; the search saw 0.95, optimism 0.035",
        "      t003: 0.916 (0.9018 to 0.9302), sd 0.0114; the search saw 0.94, optimism 0.024;"
        " 1 run failed",
        "      t001 (baseline): 0.89 (0.8785 to 0.9015), sd 0.01095; the search saw 0.9, optimism"
        " 0.01",
        "verdict: better: t002 against the baseline t001, mean difference 0.025 (0.01925 to"
        " 0.03075, positive is better); paired t-test p 0.0001, exact sign-flip test p 0.031",
        "1 further comparison, p-values of the verdicts adjusted by Holm's method:",
        "      none, because 5 seeds are too few (at least 6 are needed): t003 against the"
        " baseline t001, mean difference 0.024 over 5 of 6 seeds (0.0172 to 0.0308, positive is"
        " better); paired t-test p 0.00061, exact sign-flip test p 0.062",
    ]
    named, *further = found.comparisons
    rows_too = dataclasses.replace(named, with_rows=(0.012, 0.038))
    found = dataclasses.replace(found, comparisons=[rows_too, *further])
    verdict = lines(confirmation=found)[8]
    assert verdict.endswith(
        "sign-flip test p 0.031; 0.012 to 0.038 with the noise of the evaluation rows"
    )
    open_still = dataclasses.replace(found, ended=False)
    assert lines(confirmation=open_still)[4:] == [
        "the confirmation has not finished, so there is no verdict yet"
    ]
    same = confirmed([0.9, 0.8], {"t001": [0.5] * 6, "t002": [0.4] * 6})
    said = lines(confirmation=same)
    assert "verdict: none, because the search's winner is the baseline itself" in said
    near = confirmed([0.8, 0.9], {"t002": [0.91236] * 6, "t001": [0.91238] * 6})
    said = lines(confirmation=near)
    assert said[5].startswith("      t002: 0.91236 (every run"), "digits tell it from t001"
    assert said[7].startswith("verdict: none, because every seed gave the same value")


def test_the_runs_of_a_confirmation_are_shown_as_they_start_and_end(tmp_path: Path):
    space = SearchSpace(build_trainer=print, metric="eval_score", mode="max", tuned={})
    search = [*trial_events("t001", 0.5), *trial_events("t002", 0.9)]
    happened = confirmation_events({"t002": [0.8, 0.7], "t001": [0.6, 0.5]})
    display = Display()
    with console.capture() as captured:
        display.begin(
            SweepStart(
                folder=SweepFolder(tmp_path),
                space=space,
                config=SweepConfig(num_trials=4, repeats=2, scheduler="fifo"),
                new_scheduler=lambda: FIFO(space, SweepConfig()),
                layout=Layout(1, GroupSize(workers=1, cpus_per_worker=1, gpus_per_worker=0.0)),
                past=search,
                confirms=True,
            )
        )
        for event in happened:
            display.event(event)
    shown = captured.get().splitlines()
    assert shown[1] == "4 trials: 2 params x 2 seeds, 1 at once, 1 worker each"
    assert "c001 100% eval_score 0.8" in shown
    assert sum(" finished" in line for line in shown) == 4
    assert not any("t00" in line for line in shown)


def test_of_many_equals_some_are_named():
    close = tuple(f"t{number:03}" for number in range(10, 20))
    assert lines(tied=close)[3] == (
        "      t002, t010, t011, t012, t013, t014 and 5 more tie; t002 is listed first because its"
        " number is the lowest"
    )
    assert lines(not_told_apart=close)[-1] == (
        "      this sweep cannot tell it from t010, t011, t012, t013, t014, t015 and 4 more"
    )


@pytest.mark.parametrize("trackers", [("mlflow", "tensorboard"), ("tensorboard",)])
def test_the_summary_ends_with_the_commands_that_work(tmp_path: Path, trackers: tuple[str, ...]):
    (tmp_path / "weights").mkdir()
    folder = four_trials(tmp_path, tmp_path / "weights").folder
    config = SweepConfig(storage=str(tmp_path), trackers=trackers)
    found = read_results(folder)
    with console.capture() as captured:
        print_summary(folder, found.history, found.answer, config)
    printed = captured.get()
    assert "t003 failed (error): ValueError: bad rows" in printed
    assert (
        f"{folder.id}: 1 finished, 1 stopped early, 2 failed, 0 not ended;"
        " 2m 0s of device time\nbest: t002 with eval_accuracy 0.9 at step 40"
    ) in printed
    verbs = [line.split()[3] for line in printed.splitlines() if "-m sweeps" in line]
    assert verbs == ["results", *(["ui"] if "mlflow" in trackers else []), "export"]


@pytest.mark.parametrize(("reports", "verbs"), [(0, ["resume"]), (1, ["resume", "results", "ui"])])
def test_the_first_command_after_an_interruption_is_resume(
    reports: int, verbs: list[str], tmp_path: Path
):
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    for number in range(1, reports + 1):
        sweep.report("t001", number, 0.5)
    sweep.log.close()
    found = read_results(sweep.folder)
    assert found.answer.status == "interrupted"
    with console.capture() as captured:
        print_summary(sweep.folder, found.history, found.answer, SweepConfig())
    printed = captured.get().splitlines()
    assert [line.split()[3] for line in printed if "-m sweeps" in line][:3] == verbs
    assert "interrupted: 0 of 32 trials have ended" in printed


def test_results_say_how_many_trials_have_ended_until_the_sweep_has(tmp_path: Path):
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")

    def said() -> str:
        with console.capture() as captured:
            results(sweep.folder.id, as_json=False, top=10, storage=str(tmp_path))
        return captured.get()

    for trial in ("t001", "t002"):
        sweep.begin(trial)
        sweep.report(trial, 1, 0.5)
    sweep.log.append(ev.TrialEnded(trial="t001", status="finished"))
    assert "running: 1 of 4 trials have ended" in said().splitlines()
    sweep.log.append(ev.SweepEnded(status="finished"))
    sweep.log.close()
    assert "have ended" not in said()


def test_results_say_the_verdict_of_a_confirmation(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    folder = four_trials(tmp_path, tmp_path / "weights").folder
    log = EventLog(folder.events_file, ())
    arms = {"t002": [0.90, 0.91, 0.92] * 2, "t001": [0.50, 0.52, 0.51] * 2}
    log.append(*confirmation_events(arms, metric="eval_accuracy"))
    log.close()
    with console.capture() as captured:
        results(folder.id, as_json=False, top=10, storage=str(tmp_path))
    assert "verdict: better: t002 against the baseline t001" in captured.get()


def test_a_used_up_time_budget_is_said_by_the_summary_and_by_results(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    folder = four_trials(tmp_path, tmp_path / "weights").folder
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepEnded(status="finished", reason="the time budget of 8s is used up"))
    log.close()
    found = read_results(folder)
    for say in (
        lambda: print_summary(folder, found.history, found.answer, SweepConfig()),
        lambda: results(folder.id, as_json=False, top=10, storage=str(tmp_path)),
    ):
        with console.capture() as captured:
            say()
        assert "the sweep ended early: the time budget of 8s is used up" in captured.get()


def test_results_say_what_a_model_without_any_skill_would_score(tmp_path: Path):
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.6, majority=0.52)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    with console.capture() as captured:
        results(sweep.folder.id, as_json=False, top=10, storage=str(tmp_path))
    said = "always answering with the most frequent class would score 0.52"
    assert captured.get().splitlines()[-1] == said


def test_results_say_why_trials_and_the_sweep_failed_and_where_the_traceback_is(tmp_path: Path):
    (tmp_path / "weights").mkdir()
    sweep = four_trials(tmp_path, tmp_path / "weights")
    traceback = sweep.folder.traceback("t003", 1)
    traceback.write_text("Traceback: bad rows")
    log = EventLog(sweep.folder.events_file, ())
    log.append(ev.SweepEnded(status="failed", reason="the exchange actor died"))
    log.close()
    rows = {row["trial"]: row for row in read_results(sweep.folder).in_json()["trials"]}
    assert [rows["t003"][key] for key in ("reason", "phase", "traceback")] == [
        *("ValueError: bad rows", None, str(traceback))
    ]
    assert [rows["t001"][key] for key in ("reason", "phase", "traceback")] == [None] * 3
    with console.capture() as captured:
        results(sweep.folder.id, as_json=False, top=10, storage=str(tmp_path))
    assert captured.get().splitlines()[-4:] == [
        "the sweep failed: the exchange actor died",
        "t003 failed (error): ValueError: bad rows",
        f"  {traceback}",
        "t004 failed (diverged): eval_loss is inf",
    ]
