"""The matrix of `scripts/fields.py`: it has a value of every field, and a part of it is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.field_values import NOT_RUN, cases, free_fields

ROOT = Path(__file__).parents[1]


def test_every_field_that_a_space_may_set_has_a_value_in_the_matrix():
    lacking = set(free_fields()) - {case.field for case in cases()} - NOT_RUN.keys()
    assert lacking == set(), "scripts/field_values.py: give each a value, or say why it has none"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_trials_leave_nothing_to_the_next_and_resume_exactly(tmp_path: Path):
    found = tmp_path / "found.json"
    only = "lr_scheduler_type='cosine'|full_determinism|group_by_length'|drawn='in the rows' .*pers"
    command = [sys.executable, "-m", "scripts.fields", "--only", only, "--json", str(found)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    values = json.loads(found.read_text())["found"]
    assert len(values) == 5
    assert all(one["leaks"] is False and one["differs"] == [] for one in values)
