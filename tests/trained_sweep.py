"""A sweep of one trial that was trained in this process, with its record, code and log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from sweeps.answer import model_process
from sweeps.answer.results import Results, read_results
from sweeps.driver.requests.make_sweep_record import make_record
from sweeps.planning.request import Request
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import write_record
from sweeps.space.code_copy import copy_code
from sweeps.workers.job import Reply
from tests.workers.test_training import run_job


def trained_sweep(
    request: Request, folder: SweepFolder, params: Mapping[str, Any], best: int = 2
) -> Results:
    """Train t001 with these params and save its report number `best`."""
    copy_code(request.loaded, folder.code)
    write_record(folder, make_record(request, folder.id))
    reports, saved = run_job(
        request.space,
        dict(params),
        folder,
        lambda number: Reply("continue", save_best=number == best, save_state=False),
    )
    log = EventLog(folder.events_file, ())
    log.append(ev.SweepStarted(sweep=folder.id, devices="CPU"))
    log.append(ev.TrialSuggested(trial="t001", params=params, origin="searcher", seed=0))
    for event in (*(ev.Reported(report=report) for report in reports), *saved):
        log.append(event)
    log.close()
    return read_results(folder)


def examined_here(patch: pytest.MonkeyPatch) -> None:
    """Let an export's model process be this one."""

    own = subprocess.run

    def run(words: list[str], **options: Any) -> Any:
        if model_process.__name__ not in words:
            return own(words, **options)
        patch.setattr(sys, "argv", words[3:])
        return model_process.main()

    patch.setattr(subprocess, "run", run)
