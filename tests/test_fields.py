"""The matrix of `scripts/fields.py`: it has a value of every field, and a part of it is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import fields
from scripts.field_values import NOT_RUN, cases, free_fields


def test_every_field_that_a_space_may_set_has_a_value_in_the_matrix():
    lacking = set(free_fields()) - {case.field for case in cases()} - NOT_RUN.keys()
    assert lacking == set(), "scripts/field_values.py: give each a value, or say why it has none"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_trials_leave_nothing_to_the_next_and_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = tmp_path / "found.json"
    only = "lr_scheduler_type='cosine'|full_determinism|group_by_length'|drawn='in the rows' .*pers"
    monkeypatch.setattr("sys.argv", ["fields", "--only", only, "--json", str(found)])
    with pytest.raises(SystemExit) as ended:
        fields.main()
    assert ended.value.code == 0
    values = json.loads(found.read_text())["found"]
    assert len(values) == 5
    assert all(one["leaks"] is False and one["differs"] == [] for one in values)
