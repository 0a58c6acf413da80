"""Whether a repeated sweep was reproduced exactly, in the words that a person reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.answer.comparison import compare
from sweeps.answer.results import Results, read_results
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import NewCode, Rerun, Resumption
from sweeps.report import Report
from tests.written_record import put_record

VERSIONS = {"python": "3.11.9", "torch": "2.13.0"}


def sweep(
    folder: Path,
    trials: Mapping[str, Sequence[float]],
    devices: str | None = "CPU",
    **record: Any,
) -> Results:
    """A sweep whose trials have reported these values."""
    made = SweepFolder(folder)
    made.path.mkdir()
    put_record(made, "mine", **{"versions": VERSIONS, **record})
    log = EventLog(made.events_file, ())
    log.append(ev.SweepStarted(sweep=made.id, devices=devices))
    for trial, values in trials.items():
        log.append(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=0))
        for number, value in enumerate(values, 1):
            where = {"step": number, "max_steps": 8, "epoch": number / 8, "train_s": 1.0}
            metrics = {"eval_score": value}
            log.append(
                ev.Reported(report=Report(trial=trial, number=number, metrics=metrics, **where))
            )
    log.close()
    return read_results(made)


def of(recorded: Results, *trials: str) -> dict[str, Any]:
    suggested = [ev.TrialSuggested(trial=t, params={}, origin="searcher", seed=0) for t in trials]
    return {"rerun_of": Rerun(sweep=recorded.folder.id, trials=suggested)}


def test_what_both_have_is_compared_report_by_report(tmp_path: Path):
    recorded = sweep(
        tmp_path / "old",
        {"t001": (0.1, 0.2), "t002": (0.3, 0.91), "t003": (0.5, math.nan), "t004": ()},
    )
    again = sweep(
        tmp_path / "new",
        {"t001": (0.1, 0.2, 0.3), "t002": (0.3, 0.9), "t003": (0.5, math.nan), "t004": (0.1,)},
        **of(recorded, "t001", "t002", "t003", "t004"),
    )
    assert compare(recorded, again) == [
        "t001: 2 of 2 recorded reports compared, all equal",
        "t002: report 2 of eval_score was 0.91, is now 0.9",
        "t003: 2 of 2 recorded reports compared, all equal",
        "t004: no recorded value",
        "eval_score was not reproduced exactly: 2 of 3 trials with a recorded value match those of"
        " old",
    ]


def test_a_trial_that_did_not_get_to_its_recorded_best_has_not_come_out_equal(tmp_path: Path):
    recorded = sweep(tmp_path / "old", {"t001": (0.5, 0.6, 0.9), "t002": (0.5, 0.9, 0.6)})
    again = sweep(
        tmp_path / "new", {"t001": (0.5,), "t002": (0.5, 0.9)}, **of(recorded, "t001", "t002")
    )
    assert compare(recorded, again) == [
        "t001: did not reach report 3, its recorded best",
        "t002: 2 of 3 recorded reports compared, all equal",
        "eval_score was not reproduced exactly: 1 of 2 trials with a recorded value match those of"
        " old",
    ]


def test_a_difference_in_the_last_bit_is_one(tmp_path: Path):
    recorded = sweep(tmp_path / "old", {"t001": (0.3,)})
    again = sweep(tmp_path / "new", {"t001": (0.1 + 0.2,)}, **of(recorded, "t001"))
    assert compare(recorded, again)[0] == (
        "t001: report 1 of eval_score was 0.3, is now 0.30000000000000004"
    )


def test_one_trial_is_compared_with_the_only_one_of_its_repetition(tmp_path: Path):
    recorded = sweep(tmp_path / "old", {"t001": (0.1,), "t002": (0.7,)})
    again = sweep(tmp_path / "new", {"t001": (0.7, 0.8)}, **of(recorded, "t002"))
    assert compare(recorded, again) == [
        "t002: 1 of 1 recorded reports compared, all equal",
        "eval_score was reproduced exactly: 1 of 1 trials with a recorded value match those of old",
    ]


def test_what_both_ran_on_is_named_first_where_it_differs(tmp_path: Path):
    recorded = sweep(tmp_path / "old", {"t001": (0.1,)}, devices="A100")
    newer = VERSIONS | {"torch": "2.14.0"}
    resumed = [Resumption(time="2026-11-23T07:41:00+0000", command="resume", versions=newer)]
    again = sweep(
        tmp_path / "new", {"t001": (0.1,)}, "H100", **of(recorded, "t001"), resumed=resumed
    )
    assert compare(recorded, again)[:2] == [
        "torch was 2.13.0, is now 2.14.0",
        "the recorded sweep trained on A100, this one on H100",
    ]


def test_new_code_on_the_way_of_the_recorded_sweep_is_named(tmp_path: Path):
    taken = NewCode(time="2026-11-23T07:41:00+0000", files=["helper.py"], git=None)
    recorded = sweep(tmp_path / "old", {"t001": (0.1,)}, new_code=[taken])
    again = sweep(tmp_path / "new", {"t001": (0.1,)}, **of(recorded, "t001"))
    assert compare(recorded, again)[0] == (
        "the recorded sweep switched to new code partway; this one uses it from the start"
    )


def test_trials_without_a_recorded_value_cannot_be_compared(tmp_path: Path):
    recorded = sweep(tmp_path / "old", {"t001": ()})
    again = sweep(tmp_path / "new", {"t001": (0.1,)}, **of(recorded, "t001"))
    assert compare(recorded, again)[-1].startswith("eval_score cannot be compared: no repeated ")
