"""Runs trials that harm their process, each followed by a good one: `python scripts/hostile.py`.

One sweep on one worker group (`hostile_space.py`). Every good trial must finish with exactly the
numbers of the first one. Prints a table; exit code 0: all of them do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from chaos_report import TIMINGS, sweep_in
from hostile_space import DEEDS, GOOD

from sweeps.records.trial import Trial

SCRIPTS = Path(__file__).parent


def run(storage: Path) -> None:
    words = ["run", str(SCRIPTS / "hostile_space.py"), "--num-trials", str(2 * len(DEEDS) + 1)]
    words += ["--max-concurrent", "1", "--scheduler", "fifo", "--max-failures", "0", "--no-smoke"]
    words += ["--stall-timeout", "20s", "--storage", str(storage)]
    subprocess.run([sys.executable, "-m", "sweeps", *words], check=False)


def numbers(trial: Trial) -> list[Any]:
    """Return what must be equal: the metrics, except timings, and the training log."""
    return [
        (
            {k: v for k, v in report.metrics.items() if not k.endswith(TIMINGS)},
            report.log_entries,
        )
        for report in trial.reports
    ]


def end(trial: Trial) -> str:
    last = trial.attempts[-1] if trial.attempts else None
    return trial.status if last is None or last.message is None else f"failed: {last.outcome}"


def main() -> int:
    """Run the sweep, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", type=Path, help="folder of the sweep; default: a new one")
    args = parser.parse_args()
    storage = args.storage or Path(tempfile.mkdtemp(prefix="hostile"))
    run(storage)
    trials = list(sweep_in(storage).history.trials.values())
    first, pairs = trials[0], list(zip(trials[1::2], trials[2::2], strict=False))
    print("| deed | the trial | the good trial after it | its processes |")
    print("| --- | --- | --- | --- |")
    faults = len(DEEDS) - len(pairs)  # the sweep ended before these
    for bad, good in pairs:
        assert good.params["deed"] == GOOD, "a hostile trial runs before each good one"
        equal = good.status == "finished" and numbers(good) == numbers(first)
        faults += not equal
        same = bad.job is not None and good.job is not None and bad.job.group == good.job.group
        deed = str(bad.params["deed"]).replace("_", " ")
        print(
            f"| {deed} | {end(bad)} | {'equal' if equal else f'DIFFERS ({end(good)})'}"
            f" | {'the same' if same else 'fresh'} |"
        )
    print(f"{len(DEEDS)} deeds, {faults} good trials that differ or did not run")
    return 1 if faults or not numbers(first) else 0


if __name__ == "__main__":
    sys.exit(main())
