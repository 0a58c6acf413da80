"""What reads the log of a finished sweep, for `scale.py`: the verbs, and a resume."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from closed_form import begin, controlled, finished_log, request_of

from sweeps.driver.requests.finished import Changes
from sweeps.driver.requests.resume_request import make_resumption
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.history import History, fold
from sweeps.records.sweep_record import read_record


def timed_command(storage: Path, *words: str) -> dict[str, float]:
    """Run a verb; return its seconds of wall and CPU time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "sweeps", *words, "--storage", str(storage)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - start, "cpu_s": cpu_s}


def measure_log(storage: Path, trials: int, evaluations: int) -> dict[str, Any]:
    """Time what reads a finished sweep's log."""
    folder = begin(storage, request_of(storage, trials, evaluations), "curve-20261128-0000-aaaa")
    log, batch = EventLog(folder.events_file, ()), []
    for event in finished_log(trials, evaluations):
        batch.append(event)
        if len(batch) == 1000 or isinstance(event, ev.SweepEnded):
            log.append(*batch)
            batch = []
    log.close()
    found: dict[str, Any] = {
        "trials": trials,
        "reports": trials * evaluations,
        "log_mb": folder.events_file.stat().st_size / 1e6,
        "results": timed_command(storage, "results", folder.id),
        "results --json": timed_command(storage, "results", folder.id, "--json"),
        "report": timed_command(storage, "report", folder.id),
        "list --sweeps": timed_command(storage, "list", "--sweeps"),
        "resume, nothing to do": timed_command(storage, "resume", folder.id),
    }
    found["resume with more trials, s"] = resume_steps(folder, trials + 1, storage)
    return found


def resume_steps(folder: SweepFolder, trials: int, storage: Path) -> dict[str, float]:
    """Time what a resume does between its imports and its first new trial, apart from Ray."""
    steps: dict[str, float] = {}
    start = time.process_time()

    def took(what: str) -> None:
        nonlocal start
        steps[what] = time.process_time() - start
        start = time.process_time()

    request = make_resumption(folder, Changes(num_trials=trials), storage=str(storage))
    took("request")
    history = History(*read_record(folder).judged_by)
    log = EventLog(folder.events_file, [history.apply])
    fold(folder.events_file, history)
    took("history")
    control, study = controlled(request, folder, log, history)
    took("study copy and scheduler")
    log.append(ev.SweepStarted(sweep=folder.id, devices="CPU"))
    control.catch_up()
    took("catching up")
    assert control.next_trial() not in (None, "wait")
    took("first new trial")
    log.close()
    del study
    steps["all"] = sum(steps.values())
    return steps
