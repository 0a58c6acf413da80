"""Runs a sweep, or the confirmation of one, while a display or the caller's followers watch.

Runs in the sweep process. It imports the driver and with it torch, so verbs and the API import it
only after their checks. It must not know what a follower does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from sweeps.cli.console import print_error, stdout_may_fail
from sweeps.cli.display import Display
from sweeps.cli.notebook import Cell, in_notebook, print_in_cell
from sweeps.cli.output import Output
from sweeps.config import command
from sweeps.driver.followers import Follower
from sweeps.driver.sweep import Outcome, confirm_request, resume_request, run_request
from sweeps.planning.request import Request
from sweeps.records.events import ConfirmationStarted
from sweeps.records.folder import SweepFolder


def run_and_show(
    request: Request,
    resumed: SweepFolder | None = None,
    followers: Sequence[Follower] | None = None,
    asked: ConfirmationStarted | None = None,
) -> Outcome:
    """Run a sweep, or the confirmation of one, to its end while followers watch.

    Args:
        request: The sweep to run.
        resumed: The folder of a sweep to resume or confirm; None starts a new one.
        followers: Objects that watch the sweep; None: a `Display`.
        asked: What a confirmation compares; None: this is not a confirmation.

    Raises:
        KeyboardInterrupt: It was interrupted, and has ended cleanly.
    """
    with _where_it_is_shown() as stdout:
        display = Display(stdout if isinstance(stdout, Cell) else None)
        if followers is None:
            followers = [display]
        try:
            if resumed is None:
                outcome = run_request(request, followers)
            elif asked is None:
                outcome = resume_request(request, resumed, followers)
            else:
                outcome = confirm_request(request, asked, resumed, followers)
        finally:
            if not stdout.waiting:
                display.close()
            else:
                results = command("results", request.loaded.name, storage=request.config.storage)
                print_error(f"nothing is reading stdout; to see the missed output, run: {results}")
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome


def _where_it_is_shown() -> AbstractContextManager[Cell | Output]:
    return (
        print_in_cell() if in_notebook() else stdout_may_fail("the sweep continues without output")
    )
