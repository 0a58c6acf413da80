"""A third tracker, of this file alone: what one must write to add another tool."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.answer import Answer
from sweeps.config import SweepConfig
from sweeps.errors import SweepError, UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.trackers import follow
from sweeps.trackers.base import RunUpdate, Tracker
from sweeps.trackers.known import TRACKERS, check_trackers
from sweeps.trackers.state import TrackerState, is_up_to_date, load_state
from tests.written_sweep import WrittenSweep


class Lines(Tracker):
    """Keeps the newest value of each metric in one JSON file."""

    failures = 0
    """So many writes fail before one succeeds."""
    error: Exception = SweepError("out of order")

    def __init__(self, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> None:
        self._file = folder.path / "lines.json"
        self._state = state
        self.runs: dict[str, Any] = state.own.setdefault("runs", {})

    @classmethod
    def check(cls, config: SweepConfig) -> None:
        if config.storage == "full":
            raise UserError("no room for lines")

    def write(self, updates: Sequence[RunUpdate]) -> None:
        if Lines.failures:
            Lines.failures -= 1
            raise Lines.error
        for update in updates:
            run = self.runs.setdefault(update.key or update.new.name, {"values": {}})
            run["values"] |= {point.name: point.value for point in update.points}
            run["status"] = update.status or run.get("status")
            run["files"] = [*run.get("files", []), *update.files]

    def close(self, answer: Answer) -> None:
        assert answer.winner is not None
        self._file.write_text(json.dumps({"best": answer.winner.trial, "runs": self.runs}))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WrittenSweep:
    monkeypatch.setitem(TRACKERS, "lines", Lines)
    return WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")


def test_a_class_and_a_name_are_a_tracker(
    sweep: WrittenSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    feed = sweep.feed("lines")
    assert feed.advance()
    assert not feed.advance()
    sweep.report("t001", 2, 0.7)
    sweep.end("t001", "finished")
    sweep.begin("t002")
    sweep.report("t002", 1, 0.6)
    sweep.end("t002", "failed", "error", traceback="Traceback\nValueError: x")
    sweep.end_sweep()
    monkeypatch.setattr(Lines, "failures", 2)
    monkeypatch.setattr(follow, "RETRY_S", (0.0, 0.0))
    assert sweep.write("lines") is None
    assert sweep.log_of("lines") == "lines failed; retrying: out of order\n", "one line"
    found = json.loads((sweep.folder.path / "lines.json").read_text())
    assert found["best"] == "t001"
    runs = found["runs"]
    assert list(runs) == [sweep.folder.id, "t001", "t002"]
    assert runs["t001"]["values"]["eval_accuracy"] == 0.7
    assert [runs[key]["status"] for key in runs] == ["finished", "finished", "failed"]
    assert runs["t002"]["files"] == ["traceback-attempt1.txt"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (UserError("no room for lines"), "no room for lines"),
        (
            ModuleNotFoundError("No module named 'pen'"),
            "a package is missing: No module named 'pen'",
        ),
    ],
)
def test_a_tool_that_cannot_be_used_is_not_tried_again_and_gets_all_once_it_can(
    sweep: WrittenSweep, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    monkeypatch.setattr(Lines, "failures", 1)
    monkeypatch.setattr(Lines, "error", error)
    assert sweep.write("lines") == (  # though the sweep still runs
        f"lines is missing part of the sweep: {why} (see {sweep.folder.logs / 'lines.log'}). The"
        " sweep itself is not affected. Once that is fixed, run:"
        f" python -m sweeps.trackers.follow lines {sweep.folder.path}"
    )
    assert load_state(sweep.folder, "lines").trouble == why
    assert not is_up_to_date(sweep.folder, "lines")
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write("lines") is None
    assert load_state(sweep.folder, "lines").trouble is None
    assert is_up_to_date(sweep.folder, "lines")


def test_trackers_are_checked_before_anything_starts(sweep: WrittenSweep) -> None:
    def check(**config: Any) -> None:
        check_trackers(SweepConfig(**config))

    check(trackers=["tensorboard", "lines"])
    with pytest.raises(UserError, match="no room for lines"):
        check(trackers=["tensorboard", "lines"], storage="full")
    with pytest.raises(UserError) as refused:
        check(trackers=["wandb"])
    assert str(refused.value) == ("no tracker named 'wandb'; available: mlflow, tensorboard, lines")
