"""`sweeps logs`: the output of a sweep's processes, or of a trial's workers.

Reads the sweep's folder; works while the sweep runs, and needs no cluster.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from sweeps.cli import completion
from sweeps.cli.console import console
from sweeps.cli.options import DEFAULT_STORAGE, Storage, SweepName
from sweeps.errors import UserError

if TYPE_CHECKING:
    from sweeps.records.folder import SweepFolder
    from sweeps.records.history import History

POLL_S = 0.5
"""Seconds between two checks of the files."""
SMOKE = "smoke"
"""Names the smoke run instead of a trial."""


def logs(
    sweep: SweepName,
    trial: Annotated[
        str | None,
        typer.Argument(
            metavar="[TRIAL]",
            help="A trial, a run of the confirmation, or `smoke`. Default: the whole sweep.",
            autocompletion=completion.trials,
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Keep printing new lines until the trial, or the sweep, has ended."
        ),
    ] = False,
    storage: Storage = DEFAULT_STORAGE,
) -> None:
    """Print the workers' logs of a trial, or all logs of the sweep, even while it runs."""
    from sweeps.records.log_reading import Logs
    from sweeps.records.object_storage import open_sweep

    folder = open_sweep(storage, sweep)
    course = _Course(folder)
    if trial is not None and trial != SMOKE:
        trial = course.newest().find_run(trial, folder.id)[1].id
    if not any(folder.logs.glob("*.log")):
        raise UserError(
            f"{folder.id} has no logs in {folder.logs}; they are on the machine where it ran"
        )
    read, heading = Logs(folder, trial), None
    while True:
        goes_on = follow and course.goes_on(trial)  # checked first, so that no line is missed
        for file, line in read.new_lines():
            if file != heading:
                _print(f"==> {file} <==" if heading is None else f"\n==> {file} <==")
                heading = file
            _print(line)
        if not goes_on or getattr(console.file, "ended", False):
            break
        time.sleep(POLL_S)
    if heading is None:
        _print(f"the logs have no lines of {trial or folder.id}")


def _print(line: str) -> None:
    console.file.write(f"{line}\n")


class _Course:
    """How far a sweep is; each call reads what is new.

    Args:
        folder: The sweep's folder.
    """

    def __init__(self, folder: SweepFolder) -> None:
        from sweeps.records.history import History
        from sweeps.records.sweep_record import read_record

        self._log, self._read_to = folder.events_file, 0
        self._history = History(*read_record(folder).judged_by)

    def newest(self) -> History:
        """Return the history of the log as it is now."""
        from sweeps.records.event_log import read_events

        for event, end in read_events(self._log, self._read_to):
            self._history.apply(event)
            self._read_to = end
        return self._history

    def goes_on(self, trial: str | None) -> bool:
        """Tell whether the trial, or the sweep, may still write."""
        from sweeps.records.event_log import is_held

        if not is_held(self._log):
            return False
        if trial is None:
            return True
        history = self.newest()
        if trial == SMOKE:
            return history.smoke is None
        return not {**history.trials, **history.confirming}[trial].ended
