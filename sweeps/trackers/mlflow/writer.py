"""The MLflow writer: `python -m sweeps.trackers.mlflow.writer SWEEP_FOLDER`.

A process of its own beside the sweep process: it follows the event log, brings MLflow up to date,
and ends with the log. It must not touch the sweep: whatever MLflow does, training never waits.

It can be killed and started again at any time, also long after the sweep: it goes on where the
store was, and what is written twice counts once.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import sys
import time
from pathlib import Path

from sweeps.errors import SweepError
from sweeps.records.event_log import is_held
from sweeps.records.folder import SweepFolder
from sweeps.secrets import redact_output

POLL_S = 0.25
"""Seconds between two looks at the log."""
RETRY_S = (0.5, 5.0)
"""Shortest and longest wait after the store failed; each is twice the one before."""
COMPLAIN_S = 60.0
"""Seconds between two lines about a store that goes on failing."""
GIVE_UP_S = 600.0
"""How long a failing store is tried after the end of the sweep."""
LOCK_FILE = "mlflow.lock"
UNUSED = ("pandas", "pyarrow", "scipy")
"""MLflow imports these and does without them; so does the writer: 75 MB and 1 s less."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its own retries can double a run whose creation got no answer; ours look first.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

logger = logging.getLogger(__name__)


def follow(folder: SweepFolder) -> int:
    """Follow the log to its end; returns the exit code, 1 if the store was down to the last."""
    from sweeps.trackers.mlflow.runs import RETRIED
    from sweeps.trackers.mlflow.transfer import Transfer

    transfer = Transfer(folder)
    wait, deadline, next_complaint = RETRY_S[0], math.inf, 0.0
    while True:
        held = is_held(folder.events_file)  # asked first: last words are read after it
        try:
            if not transfer.advance():
                if transfer.history.ended is not None or not held:
                    transfer.close()
                    return 0
                time.sleep(POLL_S)
            wait, deadline, next_complaint = RETRY_S[0], math.inf, 0.0
        except (SweepError, *RETRIED) as error:
            now = time.monotonic()
            if held and transfer.history.ended is None:
                deadline = math.inf
            elif deadline == math.inf:
                deadline = now + GIVE_UP_S
            if now > deadline:
                logger.error("gave up %s s after the sweep: %s", GIVE_UP_S, error)
                return 1
            if now >= next_complaint:
                logger.warning("%s takes nothing; trying on: %s", transfer.uri, error)
                next_complaint = now + COMPLAIN_S
            time.sleep(wait)
            wait = min(2 * wait, RETRY_S[1])


def main() -> int:
    """Follow the sweep in the folder named on the command line."""
    redact_output()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what it says is raised
    os.environ.update(SETTINGS)
    sys.modules.update(dict.fromkeys(UNUSED))  # type: ignore[arg-type]
    os.nice(19)  # training comes first, and Ray runs workers at 15
    folder = SweepFolder(Path(sys.argv[1]).absolute())
    with (folder.logs / LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # an earlier writer of a resumed sweep may be at work
        return follow(folder)


if __name__ == "__main__":
    sys.exit(main())
