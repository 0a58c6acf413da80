"""What is deleted of a trial's folder: checkpoints, and nothing that the user's code wrote."""

from __future__ import annotations

from pathlib import Path

from sweeps.driver.keeping import Keeper
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History


def test_what_the_users_code_wrote_stays_when_a_trials_checkpoints_go(tmp_path: Path):
    folder = SweepFolder(tmp_path)
    history = History("eval_loss", "min")
    log = EventLog(folder.events_file, [history.apply])
    keeper = Keeper(folder, log, history, keep=1)
    for trial in ("t001", "t002"):
        log.append(ev.TrialSuggested(trial=trial, params={}, origin="searcher", seed=1))
        for name in ("best-4", "checkpoint-8"):
            (folder.checkpoints / trial / name).mkdir(parents=True)
    (folder.checkpoints / "t001" / "runs").mkdir()
    (folder.checkpoints / "t001" / "best-words.txt").write_text("")
    for trial in history.trials.values():
        keeper.tidy(trial)
    log.close()
    assert sorted(path.name for path in folder.checkpoints.rglob("*")) == [
        "best-words.txt",
        "runs",
        "t001",
    ]
