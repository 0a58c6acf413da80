"""What ASHA saves: python scripts/bench/asha.py MODEL DATASET [FLAG ...]

Runs the same 16 params twice: all to their end, and with ASHA, which may stop trials after 1/16
and 1/4 of their steps. Prints the device time of both, and how far ASHA's best value is behind,
with its standard error over the evaluation rows. Since ASHA depends on the order of the params, it
then replays ASHA on the recorded evaluations in 1,000 random orders, one trial at a time. MODEL and
DATASET are folders or Hub names, such as those of `scripts/movie_reviews.py`; flags and assignments
that it does not define are passed to `sweeps run`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.config import SweepConfig
from sweeps.records.event_log import read_events
from sweeps.records.events import Reported
from sweeps.report import Report
from sweeps.schedulers.asha import ASHA
from sweeps.space.loading import load_space

WAYS = {"fifo": "all to their end", "asha": "ASHA"}
SWEEPS = [sys.executable, "-m", "sweeps"]
SPACE = Path(__file__).with_name("asha_space.py")
FIRST_RUNG = 1 / 16
ORDERS = 1000


def search(
    scheduler: str, asked: argparse.Namespace, flags: list[str]
) -> tuple[dict[str, Any], list[Report]]:
    """Run a sweep; return its results, and the reports in its log."""
    with tempfile.TemporaryDirectory(prefix="sweeps-asha-") as storage:
        where = ["--storage", storage]
        data = [f"model={asked.model}", f"dataset={asked.dataset}"]
        words = ["--num-trials", str(asked.trials), "--scheduler", scheduler]
        words += ["--searcher", "random", *where]  # proposes the same params in both sweeps
        if scheduler == "asha":
            words += ["--first-rung", str(FIRST_RUNG)]
        subprocess.run([*SWEEPS, "run", str(SPACE), *data, *flags, *words], check=True)
        shown = [*SWEEPS, "results", SPACE.stem, "--json", *where]
        out = subprocess.run(shown, check=True, stdout=subprocess.PIPE).stdout
        (log,) = Path(storage).glob("*/events.jsonl")
        reports = [event.report for event, _ in read_events(log) if isinstance(event, Reported)]
        return json.loads(out), reports


def replay(reports: Sequence[Report]) -> tuple[list[float], list[float]]:
    """Run ASHA on complete trials in random orders.

    Returns:
        For each order, the share of the training that it needs, and how far the best value of the
        trials that it completes is behind that of all trials.
    """
    space, config = load_space(str(SPACE)).space, SweepConfig(first_rung=FIRST_RUNG)
    curves: dict[str, list[Report]] = {}
    for report in reports:
        curves.setdefault(report.trial, []).append(report)
    bests = {
        trial: max(report.metrics[space.metric] for report in curve)
        for trial, curve in curves.items()
    }
    order = list(curves)
    draw = random.Random(0)
    shares, behind = [], []
    for _ in range(ORDERS):
        draw.shuffle(order)
        scheduler = ASHA(space, config)
        ends = {}
        for trial in order:
            stops = (each for each in curves[trial] if scheduler.on_report(each) == "stop")
            ends[trial] = next(stops, curves[trial][-1]).progress
        shares.append(statistics.mean(ends.values()))
        best = max(bests[trial] for trial, progress in ends.items() if progress == 1)
        behind.append(max(bests.values()) - best)
    return shares, behind


def main() -> None:
    """Run both sweeps, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="What ASHA saves.")
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--json", type=Path)
    asked, flags = parser.parse_known_args()
    searched = {way: search(way, asked, flags) for way in WAYS}
    found = {way: results for way, (results, _) in searched.items()}
    answers = {way: results["answer"] for way, results in found.items()}
    print("| | device time | in `train()` | best | standard error |\n" + "| --- " * 5 + "|")
    for way, name in WAYS.items():
        best = answers[way]["winner"]
        trained = sum(trial["train_s"] for trial in found[way]["trials"])
        seconds = f"{answers[way]['device_s']:.0f} s | {trained:.0f} s"
        print(f"| {name} | {seconds} | {best['value']:.4f} | {best['error']:.4f} |")
    share = answers["asha"]["device_s"] / answers["fifo"]["device_s"]
    behind = answers["fifo"]["winner"]["value"] - answers["asha"]["winner"]["value"]
    within = behind <= answers["fifo"]["winner"]["error"]
    like = "within" if within else "more than"
    print(
        f"ASHA: {share:.2f} of the device time; best {behind:.4f} behind, {like} one standard error"
    )
    shares, gaps = replay(searched["fifo"][1])
    fair = sum(gap <= answers["fifo"]["winner"]["error"] for gap in gaps) / ORDERS
    print(
        f"in {ORDERS} orders of these trials, ASHA needs {statistics.mean(shares):.2f} of the"
        f" training on average (a third or less in {sum(s <= 1 / 3 for s in shares) / ORDERS:.0%});"
        f" its best value is {statistics.mean(gaps):.4f} behind on average, and within one standard"
        f" error in {fair:.0%}"
    )
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
