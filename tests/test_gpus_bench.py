"""What `scripts/bench/gpus.py` makes of the times that trials noted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    import gpus

    yield gpus
    for name in sys.modules.keys() - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == BENCH:
            del sys.modules[name]


def marks(file: Path, *trials: tuple[float, float, float]) -> Path:
    """Notes of trials that began, took their first step, and ended at these seconds after 1000."""
    with file.open("w") as out:
        for rate, trial in enumerate(trials):
            for what, at in zip(("begin", "step", "end"), trial, strict=True):
                note = {"what": what, "time": 1000 + at, "steps": 4, "learning_rate": rate}
                out.write(json.dumps({**note, "device": "cpu"}) + "\n")
    return file


def test_seconds_and_shares_of_two_groups(gpus: ModuleType, tmp_path: Path):
    times = [(30, 31, 40), (34, 36, 42), (41, 41.5, 50), (44, 44.5, 50)]
    file = marks(tmp_path / "marks.jsonl", *times)
    trained = gpus.read_marks(file, 1000)
    assert gpus.in_numbers(trained, 2, took=60) == {
        "first_train_s": 30,
        "first_step_s": 31,
        "last_group_step_s": 36,
        "gap_s": 1.5,
        "largest_gap_s": 2,
        "busy": (10 + 8 + 9 + 6) / 120,
        "training_s": 20,
    }
    assert gpus.in_numbers(trained, 3, took=60)["last_group_step_s"] is None
    assert gpus.in_numbers([], 2, took=60) == {}


def test_a_run_that_failed_has_empty_cells_and_no_place_in_the_picture(gpus: ModuleType):
    whole = {"way": "guide", "workers": 1, "groups": 8, "last_group_step_s": 50.0, "busy": 0.5}
    failed = {"way": "hps_ray", "workers": 1, "groups": 8}
    lines = gpus.table([whole, failed]).splitlines()
    assert lines[0] == "| way | Ray's guide | HPS on Ray |"
    assert "| first step of the last group, s | 50 |  |" in lines
    picture = ElementTree.fromstring(gpus.draw([whole, failed]))
    dots = [each for each in picture.iter() if each.tag.endswith("circle")]
    assert len(dots) == 2, "one in each panel"
