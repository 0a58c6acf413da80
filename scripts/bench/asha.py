"""What ASHA saves: python scripts/bench/asha.py MODEL DATASET [FLAG ...]

Runs the same 16 params twice: all to their end, and with ASHA, which may stop trials after 1/16
and 1/4 of their steps. Prints the device time of both, and how far ASHA's best value is behind,
with its standard error over the evaluation rows. MODEL and DATASET are folders or Hub names, such
as those of `scripts/movie_reviews.py`; flags and assignments that it does not define are passed to
`sweeps run`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WAYS = {"fifo": "all to their end", "asha": "ASHA"}
SWEEPS = [sys.executable, "-m", "sweeps"]
SPACE = Path(__file__).with_name("asha_space.py")
FIRST_RUNG = 1 / 16


def search(scheduler: str, asked: argparse.Namespace, flags: list[str]) -> dict[str, Any]:
    """Run a sweep; return its results."""
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
        found: dict[str, Any] = json.loads(out)
        return found


def main() -> None:
    """Run both sweeps, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description="What ASHA saves.")
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--json", type=Path)
    asked, flags = parser.parse_known_args()
    found = {way: search(way, asked, flags) for way in WAYS}
    answers = {way: each["answer"] for way, each in found.items()}
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
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
