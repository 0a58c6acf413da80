"""What a confirmation runs, and that it goes on where its log ends; closed-form trials, no Ray."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ray import tune

from sweeps.answer.answer import find_answer
from sweeps.answer.results import read_results
from sweeps.driver.control import Control
from sweeps.driver.requests.confirmation_request import make_confirmation, new_confirmation
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.suggestions import ConfirmationRuns
from sweeps.errors import UserError
from sweeps.planning.request import Request
from sweeps.records import events as ev
from sweeps.records.event_log import ConfirmationLog, EventLog
from sweeps.records.history import History
from sweeps.records.sweep_record import write_record
from sweeps.schedulers.fifo import FIFO
from sweeps.space.search_space import SearchSpace
from tests.driver.test_control import (
    CONFIG,
    EVALUATIONS,
    SPACE,
    Cut,
    CutLog,
    Sweep,
    decisions,
    kept,
)
from tests.written_confirmation import trial_events

TWICE = dataclasses.replace(CONFIG, num_trials=4, repeats=2, keep_checkpoints=2)
"""Two arms with two seeds each."""

GIVEN: list[tuple[float, ev.Origin]] = [
    (0.5, "first_params"),
    (0.3, "searcher"),
    (0.58, "searcher"),
    (0.4, "searcher"),
]
"""Heights of the search."""


class Confirming(Sweep):
    """The confirmation of a sweep that has ended in this folder."""

    def run(self, cut_at: int | None = None, look: Callable[[], None] = lambda: None) -> None:
        history = self.history
        log = CutLog(self.folder.events_file, (history.apply,), cut_at=cut_at, look=look)
        try:
            if history.confirmation is None:
                log.append(asked(history))
            assert history.confirmation is not None
            part = ConfirmationLog(log)
            part.append(ev.SweepStarted(sweep="curves"))
            confirmation = self.confirmation(part, history)
            confirmation.catch_up()
            while (submission := confirmation.next_trial()) is not None:
                while submission is not None:
                    assert submission != "wait", "nothing runs"
                    submission = self.train(confirmation, *submission)
            part.append(ev.SweepEnded(status="finished"))
        finally:
            log.close()

    def confirmation(self, log: ConfirmationLog, history: History) -> Control:
        assert history.confirmation is not None
        runs = ConfirmationRuns(asked(history), history)
        return Control(
            *(SPACE, self.config, self.folder, log, history.confirmation.runs),
            *(FIFO(SPACE, self.config), runs, "curves.py", print),
        )

    @property
    def history(self) -> History:
        return Sweep(self.folder.path).history

    @property
    def events(self) -> list[ev.Event]:
        return [e.inner for e in super().events if isinstance(e, ev.OfConfirmation)]


def asked(history: History) -> ev.ConfirmationStarted:
    if history.confirmation is not None:
        return history.confirmation.asked
    return new_confirmation(history, top=1, seeds=2)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A search of four trials that has ended; its first params are not its best."""
    sweep = Sweep(
        tmp_path_factory.mktemp("confirmation") / "searched",
        dataclasses.replace(CONFIG, num_trials=4),
    )
    sweep.given = [
        ev.TrialSuggested(
            trial="t", params={"height": height, "weight_decay": 0.01}, origin=origin, seed=3
        )
        for height, origin in GIVEN
    ]
    sweep.run()
    log = EventLog(sweep.folder.events_file, ())
    log.append(ev.SweepEnded(status="finished"))
    log.close()
    winner = sweep.history.winner()
    assert winner is not None
    assert winner.id != "t001"
    return sweep


@pytest.fixture
def confirming(searched: Sweep, tmp_path: Path) -> Confirming:
    folder = tmp_path / "confirming"
    shutil.copytree(searched.folder.path, folder)
    return Confirming(folder, TWICE)


def test_the_best_params_and_the_baseline_run_to_their_end_with_the_same_fresh_seeds(
    searched: Sweep, confirming: Confirming
):
    confirming.run()
    winner = searched.history.winner()
    assert winner is not None
    history = confirming.history
    assert history.confirmation is not None
    assert history.confirmation.asked.arms == [winner.id, "t001"]
    runs = history.confirmation.runs
    assert list(runs.trials) == ["c001", "c002", "c003", "c004"]
    params = [dict(run.params) for run in runs.trials.values()]
    assert params == [winner.params, searched.history.trials["t001"].params] * 2
    seeds = [run.seed for run in runs.trials.values()]
    assert seeds == [0, 0, 1, 1]
    assert not set(seeds) & {trial.seed for trial in searched.history.trials.values()}
    assert {run.status for run in runs.trials.values()} == {"finished"}
    assert {len(run.reports) for run in runs.trials.values()} == {EVALUATIONS}
    # Each arm keeps one model.
    both = {name: names for name, names in kept(confirming).items() if name.startswith("c")}
    assert [len(names) for names in both.values()] == [1, 1]
    confirmed = find_answer(history, "finished").confirmation
    assert confirmed is not None
    assert confirmed.best == winner.id
    assert confirmed.best_run in both


def test_the_search_knows_nothing_of_its_confirmation(searched: Sweep, confirming: Confirming):
    before, answer = searched.history, find_answer(searched.history, "finished")
    confirming.run()
    after = confirming.history
    assert dataclasses.replace(find_answer(after, "finished"), confirmation=None) == answer
    assert (after.used_s, after.newest) == (before.used_s, before.newest)
    assert [*after.trials] == [*before.trials]
    assert (len(after.course), len(after.decided)) == (len(before.course), len(before.decided))
    search = {name: names for name, names in kept(confirming).items() if name.startswith("t")}
    assert search == kept(searched)
    # It goes on as if there had been none.
    more = dataclasses.replace(CONFIG, num_trials=5)
    resumed = Sweep(confirming.folder.path, more)
    resumed.run()
    copy = confirming.folder.path.with_name("undisturbed")
    shutil.copytree(searched.folder.path, copy)
    undisturbed = Sweep(copy, more)
    undisturbed.run()
    assert decisions(resumed) == decisions(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_confirmation_cut_off_after_any_event_goes_on_to_the_same_end(
    searched: Sweep, tmp_path: Path
):
    place = tmp_path / "whole"
    shutil.copytree(searched.folder.path, place)
    whole = Confirming(place, TWICE)
    copies: list[Path] = []

    def copy() -> None:
        copies.append(place.with_name(f"whole-{len(copies)}"))
        shutil.copytree(place, copies[-1])

    whole.run(look=copy)
    assert len(copies) > 60
    for number, folder in enumerate(copies):
        again = Confirming(folder, TWICE)
        again.run()
        assert decisions(again) == decisions(whole), f"cut before event {number}"
        assert kept(again) == kept(whole), f"cut before event {number}"
        shutil.rmtree(folder)


def test_a_confirmation_killed_again_and_again_gets_to_the_same_end(
    searched: Sweep, confirming: Confirming, tmp_path: Path
):
    shutil.copytree(searched.folder.path, tmp_path / "never killed")
    whole = Confirming(tmp_path / "never killed", TWICE)
    whole.run()
    for cut_at in (1, 2, 5, 9, 3, 14, 7, 11):
        with pytest.raises(Cut):
            confirming.run(cut_at)
    confirming.run()
    assert decisions(confirming) == decisions(whole)
    assert kept(confirming) == kept(whole)


def made(
    sweep: Sweep, top: int | None = None, seeds: int | None = None, space: SearchSpace = SPACE
) -> tuple[Request, ev.ConfirmationStarted]:
    """The confirmation of a sweep without a file, and what it compares."""
    request = make_request(space, CONFIG)
    write_record(sweep.folder, make_record(request, sweep.folder.id))
    found = read_results(sweep.folder)
    return make_confirmation(
        found, top=top, seeds=seeds, storage=CONFIG.storage, where={}, space=space
    )


def test_the_cost_is_said_before_the_first_run(searched: Sweep, confirming: Confirming):
    request, compared = made(searched)
    assert (compared.arms, len(compared.seeds)) == (["t003", "t001"], 6)
    assert request.config.num_trials == 12
    assert request.lines[-2:] == [
        "confirming t003 against t001 with 6 fresh seeds each: 12 complete trials to run",
        "judging by the search's trials, that will take about 54s of device time",
    ]
    with pytest.raises(Cut):
        confirming.run(50)
    ended = sum(run.ended for run in confirming.history.confirming.values())
    assert ended == 1
    assert (
        f"2 fresh seeds each: {4 - ended} complete trials to run" in made(confirming)[0].lines[-2]
    )


def test_too_few_seeds_for_a_verdict_are_said_before_the_first_run(searched: Sweep):
    said = (
        "2 seeds give no verdict, only means and intervals: at least 6 are needed, and once runs"
        " have begun, their number cannot change"
    )
    lines = [made(searched, seeds=seeds)[0].lines for seeds in (2, 6)]
    assert [said in each for each in lines] == [True, False]


def test_more_params_than_have_a_value_are_not_taken_in_silence(searched: Sweep):
    asked_for = [made(searched, top=top) for top in (4, 99)]
    assert [len(compared.arms) for _, compared in asked_for] == [4, 4]
    said = (
        "top = 99: only 4 params of the search can be confirmed, because the others failed or have"
        " no value; all 4 are confirmed"
    )
    assert [said in request.lines for request, _ in asked_for] == [False, True]


def test_what_is_compared_cannot_change_once_a_run_has_begun(
    searched: Sweep, confirming: Confirming
):
    assert len(made(searched, top=4)[1].arms) == 4
    with pytest.raises(Cut):
        confirming.run(20)
    for again in (made(confirming), made(confirming, top=1, seeds=2)):
        assert again[1] == asked(confirming.history)
    for other in ({"top": 3}, {"seeds": 6}):
        with pytest.raises(UserError, match="must not change after the first run"):
            made(confirming, **other)


def test_what_cannot_be_confirmed_is_refused(tmp_path: Path, searched: Sweep):
    interrupted = Sweep(tmp_path / "interrupted")
    with pytest.raises(Cut):
        interrupted.run(40)
    with pytest.raises(UserError, match="was interrupted, so its winner may still change") as told:
        made(interrupted)
    folder = interrupted.folder
    again = f"python -m sweeps resume {folder.id} --storage {folder.path.parent}"
    assert str(told.value).endswith(again)
    for numbers, message in (
        ({"seeds": 21}, "must be between 2 and 20"),
        ({"top": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            made(searched, **numbers)
    with pytest.raises(UserError, match="no trial has a result"):
        new_confirmation(History("eval_score", "max"), top=2, seeds=6)


def test_a_sweep_that_tuned_its_seed_is_refused_with_the_way_out(searched: Sweep):
    tuned = {**SPACE.tuned, "seed": tune.randint(0, 9)}
    space = dataclasses.replace(SPACE, tuned=tuned, first_params=[])
    with pytest.raises(UserError) as told:
        made(searched, space=space)
    assert str(told.value) == (
        f"{searched.folder.id} tuned the seed, so its params cannot be run again with fresh seeds;"
        " to confirm, run a new sweep without 'seed' in tuned"
    )


def test_a_baseline_that_wins_needs_others_to_compare_it_with():
    history = History("eval_score", "max")
    for event in (*trial_events("t001", 0.6), *trial_events("t002", 0.5)):
        history.apply(event)
    with pytest.raises(UserError, match="itself, so there is nothing to compare; raise top"):
        new_confirmation(history, top=1, seeds=6)


def test_params_that_cannot_be_trained_are_no_baseline():
    history = History("eval_score", "max")
    values = {"t001": 0.3, "t002": 0.5, "t003": 0.6}
    for trial, value in values.items():
        *running, ended = trial_events(trial, value)
        if trial == "t001":
            ended = dataclasses.replace(ended, status="failed", failure="diverged")
        for event in (*running, ended):
            history.apply(event)
    asked = new_confirmation(history, top=2, seeds=6)
    assert (asked.arms, asked.baseline) == (["t003", "t002"], "t002")
