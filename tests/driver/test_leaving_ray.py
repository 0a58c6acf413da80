"""In which order a sweep process ends: what was found is told before Ray is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sweeps import SweepConfig
from sweeps.driver import cluster, sweep
from sweeps.driver.requests.new_request import make_request
from sweeps.planning.layout import Node
from tests.conftest import SPACES
from tests.watching import Recorder


class Interrupted:
    """A round that a second Ctrl-C ends."""

    def __init__(self, *_: Any) -> None: ...

    def run(self) -> None:
        raise KeyboardInterrupt


def test_the_summary_is_printed_before_ray_is_left_also_after_a_second_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ray's client may end the process while it is left (2.60)."""
    told_before = []
    watching = Recorder()

    @contextmanager
    def connected(*_: Any) -> Iterator[dict[str, str]]:
        try:
            yield {}
        finally:
            told_before.append(len(watching.answers))

    for name, fake in (
        ("connected", connected),
        ("parts", list),
        ("nodes", lambda: [Node(cpus=2.0, gpus=0.0)]),
        ("autoscales", lambda: False),
    ):
        monkeypatch.setattr(cluster, name, fake)
    monkeypatch.setattr(sweep, "Round", Interrupted)
    config = SweepConfig(storage=tmp_path, num_trials=2, smoke=False, trackers=())
    request = make_request(str(SPACES / "curves.py"), config)
    with pytest.raises(KeyboardInterrupt):
        sweep.run_request(request, [watching])
    assert told_before == [1]
    assert watching.answers[0].status == "interrupted"
