"""What `scripts/bench/scale_tune.py` makes of the times and the memory that it saw."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"


def test_seconds_beyond_waiting_and_growth(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import scale_tune

    times = [(1030, 1050), (1032, 1052), (1053, 1073), (1052, 1080), (1081, 1130)]
    memory = [(1000.0, 100.0), (1035.0, 400.0), (1100.0, 420.0), (1140.0, 470.0)]
    found = scale_tune.summed_up(
        scale_tune.Watched(1000.0, 1145.0, memory),
        [scale_tune.Trial(*trial) for trial in times],
        at_once=2,
        waiting_s=90.0,
    )
    assert list(found.values()) == [5, 145, 30, 100, 10, 15, 22, 400, 20, 70]
