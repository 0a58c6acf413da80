"""What a fault in one of many groups does to the others: `python scripts/group_faults.py`.

Runs the same sweep without a fault, and once with each: SIGKILL of a rank, memory that runs out, a
rank that hangs. Each group gets three trials, and the fault comes while all groups train. Every
trial of the other groups must end with the metrics and the training log that it has without the
fault, to the bit; the trial with the fault is retried, and must end with the same metrics or, if
memory ran out, with the same number of reports. Uses the GPUs that it finds, or the CPUs. Prints a
table; exit code 0: everything is as expected.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from chaos_report import sweep_in
from group_faults_space import FAULTS
from hostile import numbers

from sweeps.answer.results import Results
from sweeps.records.event_log import read_events
from sweeps.records.events import AttemptEnded

SCRIPTS = Path(__file__).parent
STALL_S = 10
"""Seconds without a step after which a rank counts as hanging."""


def run(storage: Path, fault: str, workers: int, groups: int, share: int) -> Results:
    """Run the sweep with a fault (empty: none); `share` groups are on each GPU."""
    words = ["run", str(SCRIPTS / "group_faults_space.py"), f"fault={fault}"]
    words += [f"noted={storage / fault}.txt", "--num-trials", str(3 * groups), "--no-smoke"]
    words += ["--workers-per-trial", str(workers), "--max-concurrent", str(groups)]
    words += ["--scheduler", "fifo", "--trials-per-gpu", "1", "--resume-every", "0s"]
    if share > 1:
        words += ["--gpus-per-worker", str(1 / share)]
    words += ["--stall-timeout", f"{STALL_S}s", "--storage", str(storage / (fault or "none"))]
    subprocess.run([sys.executable, "-m", "sweeps", *words], check=True, stdout=sys.stderr)
    return sweep_in(storage / (fault or "none"))


def row(found: Results, reference: Results, noted: Path, fault: str) -> tuple[str, bool]:
    """Return the table cells of a fault, and whether everything that must be equal is equal."""
    ended = next(
        (event.message or "", event.time)
        for event, _ in read_events(found.folder.events_file)
        if isinstance(event, AttemptEnded) and event.outcome != "done"
    )
    own, *others = [
        (numbers(trial), numbers(found.history.trials[name]))
        for name, trial in reference.history.trials.items()
    ]
    same = [bool(one) and one == other for one, other in others]
    own_same = [metrics for metrics, _ in own[0]] == [metrics for metrics, _ in own[1]]
    if fault == "memory":  # retried with half the rows at a time, which rounds differently
        own_same = len(own[0]) == len(own[1])
    cells = (
        ended[0][:120],
        f"{ended[1] - float(noted.read_text()):.1f}",
        f"{sum(same)} of {len(same)} equal",
        ("finished" if fault == "memory" else "equal") if own_same else "DIFFERS",
    )
    return " | ".join(cells), all(same) and own_same


def main() -> int:
    """Run the sweeps, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="workers of a group")
    parser.add_argument("--share", type=int, default=1, help="groups on a GPU, of one worker each")
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS))
    args = parser.parse_args()
    devices = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    groups = devices * args.share // args.workers
    storage = Path(tempfile.mkdtemp(prefix="group-faults"))
    size = (args.workers, groups, args.share)
    reference = run(storage, "", *size)
    kind = "GPUs" if torch.cuda.is_available() else "CPUs"
    print(f"{groups} groups of {args.workers} workers on {kind}; stall timeout {STALL_S} s\n")
    print("| fault | message | seconds to the end of the attempt | other trials | its own trial |")
    print("| --- | --- | --- | --- | --- |")
    equal = True
    for fault in args.faults:
        cells, same = row(run(storage, fault, *size), reference, storage / f"{fault}.txt", fault)
        equal &= same
        print(f"| {fault} | {cells} |", flush=True)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
