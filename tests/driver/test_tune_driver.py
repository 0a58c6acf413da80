"""Tune gets trials until the sweep has no more, and pickles nothing of the sweep."""

from __future__ import annotations

import errno
import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.search import Searcher

from sweeps.driver import tune_driver
from sweeps.driver.tune_driver import AsksFor, EndsWith, drive


def test_tune_gets_our_trials_until_there_are_no_more():
    left = [("t001", 1), ("t002", 3)]
    searcher = AsksFor(lambda: left.pop(0) if left else None)
    assert searcher.suggest("tune-1") == {"trial": "t001", "attempt": 1}
    searcher.on_trial_complete("tune-1", {"anything": 1})
    assert searcher.suggest("tune-2") == {"trial": "t002", "attempt": 3}
    assert searcher.suggest("tune-3") == Searcher.FINISHED
    searcher.on_trial_complete("tune-2", error=True)


def test_tune_ends_with_the_event_and_stops_no_trial_by_itself():
    ending = threading.Event()
    ends = EndsWith(ending)
    assert (ends("t001", {"done": True}), ends.stop_all()) == (False, False)
    ending.set()
    assert (ends("t001", {}), ends.stop_all()) == (False, True)


@pytest.mark.parametrize(
    "ours",
    [AsksFor(lambda: None), EndsWith(threading.Event())],
    ids=lambda ours: type(ours).__name__,
)
def test_nothing_of_the_sweep_gets_into_tunes_pickles(ours: Any):
    assert pickle.loads(pickle.dumps(ours)).__dict__ == {}


def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a failed write, pyarrow says no file."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left")

    monkeypatch.setattr(tune_driver.tune, "Tuner", full)
    exchange: Any = SimpleNamespace(returned=SimpleNamespace(remote=lambda actor: None))
    with pytest.raises(OSError, match="No space left on device") as raised:
        drive(
            exchange,
            next_trial=lambda: None,
            ending=threading.Event(),
            trials_at_once=1,
            scratch=tmp_path,
        )
    assert raised.value.filename == str(tmp_path)
