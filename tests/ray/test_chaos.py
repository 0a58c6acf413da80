"""The short form of `scripts/chaos.py`; the long one stands in `docs/reliability.md`."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import run_whole_sweep

SCRIPTS = Path(__file__).parents[2] / "scripts"
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
ARGUMENTS = {
    **{"kills": 7, "seed": 1, "trials": 16},
    **{"at_once": False, "foreign_ray": False, "join": False},
}


def test_a_sweep_whose_processes_are_killed_at_random_ends_as_if_none_had_been(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Continues where the undisturbed sweep ended, which so needs no process of its own."""
    monkeypatch.syspath_prepend(SCRIPTS)
    from chaos import NOTHING_SEEN

    run_whole_sweep(
        tmp_path / "unbroken",
        str(SCRIPTS / "chaos_space.py"),
        num_trials=ARGUMENTS["trials"],
        seed=ARGUMENTS["seed"],
        resume_every=timedelta(0),
        reduction_factor=2,
    )
    facts = {**NOTHING_SEEN, "arguments": ARGUMENTS, "unbroken_exit_code": 0}
    (tmp_path / "chaos.json").write_text(json.dumps(facts))
    ran = subprocess.run(
        [sys.executable, str(SCRIPTS / "chaos.py"), "--continue", str(tmp_path)],
        cwd=SCRIPTS.parent,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((tmp_path / "report.json").read_text())
    assert {kind: sum(m.values()) for kind, m in found["kills_by_kind"].items()} == {
        "worker": 1,
        "trial actor": 1,
        "exchange": 1,
        "controller": 1,
        "tracker": 1,
        "process server": 1,
        "sweep process": 1,
    }
