"""The short form of `scripts/chaos.py`; the long one stands in `docs/reliability.md`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_sweep_whose_processes_are_killed_at_random_ends_as_if_none_had_been(tmp_path: Path):
    storage = tmp_path / "chaos"
    ran = subprocess.run(
        [
            *(sys.executable, str(ROOT / "scripts" / "chaos.py"), "--kills", "6", "--seed", "1"),
            *("--trials", "14", "--at-once", "--storage", str(storage)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((storage / "report.json").read_text())
    assert {kind: sum(m.values()) for kind, m in found["kills_by_kind"].items()} == {
        "worker": 1,
        "trial actor": 1,
        "exchange": 1,
        "controller": 1,
        "tracker": 1,
        "sweep process": 1,
    }
