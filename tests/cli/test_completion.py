"""What the shell offers when Tab is pressed, and how `--help` is laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.cli.options import GROUPS
from sweeps.config import SweepConfig
from tests.conftest import CommandLine
from tests.written_sweep import WrittenSweep


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sweeps run bert_y", ["bert_yelp", "bert_yelp_optimizers"]),
        ("sweeps plan sm", ["smollm2_fsdp", "smollm2_lora"]),
        ("sweeps results b", ["bert_yelp-20261123-0000-aaaa", "bert_yelp-20261122-0741-k3f9"]),
        ("sweeps run --from b", ["bert_yelp-20261123-0000-aaaa", "bert_yelp-20261122-0741-k3f9"]),
        ("sweeps export bert_yelp --trial t", ["t001", "t002"]),
        ("sweeps run --from bert_yelp --trial t", ["t001", "t002"]),
        ("sweeps export no_such_sweep --trial t", []),
    ],
)
def test_the_shell_is_offered_spaces_sweeps_and_trials(
    line: str,
    offered: list[str],
    command_line: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for sweep_id in ("bert_yelp-20261122-0741-k3f9", "bert_yelp-20261123-0000-aaaa"):
        sweep = WrittenSweep(tmp_path / "results", sweep_id)
        sweep.begin("t001")
        sweep.begin("t002", 9e-5)
        sweep.log.close()
    monkeypatch.setenv("_SWEEPS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    assert command_line().out.split() == offered


def test_every_flag_of_a_config_has_one_place_in_the_help(command_line: CommandLine):
    grouped = [field for fields in GROUPS.values() for field in fields]
    assert sorted(grouped) == sorted(SweepConfig.__dataclass_fields__)
    shown = command_line("run", "--help").out
    for group in GROUPS:
        assert f"─ {group} ─" in shown
    assert "[default: 30m]" in shown
