"""How a sweep's own work grows with its trials: `python scripts/bench/scale.py [PART ...]`.

Parts: `log` writes the log of a finished sweep by its real events, and times what reads it:
`results`, `report`, `list --sweeps` and `resume` of a finished sweep, each as a command, and what a
resume that adds a trial does apart from Ray. `decisions` plays closed-form trials through the sweep
process's own control, log on disk included, 16 at a time, and times a decision and a new trial
around trial 100 and around the last one. `proposals` times the params of a new trial after 100,
1,000 and 10,000 trials. `exchange` times what one report and one progress message cost the exchange
with 16, 100 and 1,000 groups, without Ray's own calls. Only `tune` starts Ray: it runs a whole
sweep of trials that only wait, and the same trials in bare Tune.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scale_driver import measure_decisions, measure_exchange, measure_proposals
from scale_readers import measure_log
from scale_tune import measure_tune

PARTS = ("log", "decisions", "proposals", "exchange", "tune")


def main() -> None:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", metavar="PART", help=f"unset: all of {PARTS}")
    parser.add_argument("--log-trials", type=int, default=10_000)
    parser.add_argument("--log-reports", type=int, default=8)
    parser.add_argument("--trials", type=int, default=1000, help="of decisions")
    parser.add_argument("--reports", type=int, default=10, help="a trial of decisions")
    parser.add_argument("--tune-trials", type=int, default=1000)
    cores = os.cpu_count() or 1
    at_once = "of tune: each needs a core and 0.6 GB; default %(default)s"
    parser.add_argument("--at-once", type=int, default=min(16, cores), help=at_once)
    parser.add_argument("--pause", type=float, default=0.5, help="of tune: seconds to each report")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    parts = given.part or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if given.at_once > cores:
        parser.error(
            f"--at-once {given.at_once}: a group of a sweep needs a core; here are {cores}"
        )
    if given.tune_trials <= given.at_once:
        parser.error("--tune-trials: give more than run at once")
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "cores": cores,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("ray", "optuna", "torch", "transformers")},
    }
    with tempfile.TemporaryDirectory(prefix="sweeps-scale-") as folder:
        storage = Path(folder)
        if "log" in parts:
            found["log"] = measure_log(storage, given.log_trials, given.log_reports)
        if "decisions" in parts:
            found["decisions"] = measure_decisions(storage, given.trials, given.reports)
        if "proposals" in parts:
            found["proposal_cpu_ms"] = measure_proposals(storage)
        if "exchange" in parts:
            found["exchange_cpu"] = {
                groups: asyncio.run(measure_exchange(storage, groups))
                for groups in (16, 100, 1_000)
            }
        if "tune" in parts:
            found["tune"] = measure_tune(storage, given.tune_trials, given.at_once, given.pause)
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
