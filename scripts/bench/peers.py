"""`sweeps` and its peers: `python scripts/bench/peers.py [--mode bert-base] [--json FILE]`.

Runs the same trials in turn as a sweep, as Ray's guide does (a `TorchTrainer` for each), with
`Trainer.hyperparameter_search` on Ray and on Optuna, and in a plain loop, which is the floor.
Prints a table of medians, with the spread if there are several rounds. `--svg` draws what each
device did. Mode `tiny` needs two CPU cores, `bert-base` GPUs: one, or `--workers 2`, or `--at-once
4`; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bert_base import EVAL_ROWS, TOKENS, make_inputs
from peers_picture import draw
from peers_run import Run, run
from ways import WAYS
from workload import Workload

from sweeps.builders.text_classification import TextClassification
from sweeps.space.loading import load_space

NAMES = {
    "ours": "sweeps",
    "ours_one_at_a_time": "sweeps, one trial a GPU",
    "guide": "Ray's guide",
    "hps_ray": "HPS on Ray",
    "hps_optuna": "HPS on Optuna, one process",
    "loop": "plain loop",
}


COLUMNS: dict[str, tuple[Callable[[Run], float | None], str]] = {
    "whole command": (lambda run: run.total_s, "{:.1f} s"),
    "first `train()`": (lambda run: run.first_train_s, "{:.1f} s"),
    "first step": (lambda run: run.first_step_s, "{:.1f} s"),
    "all trials": (lambda run: run.training_s, "{:.1f} s"),
    "gap": (lambda run: run.gap_s, "{:.2f} s"),
    "in `train()`": (lambda run: 100 * run.busy, "{:.0f} %"),
    "memory": (lambda run: run.memory_mb / 1000, "{:.1f} GB"),
}
"""How each column is computed from a run, and formatted."""


def workload(asked: argparse.Namespace, work: Path, inputs: tuple[Path, Path] | None) -> Workload:
    """Return what is trained: on the model and rows of `inputs`, or on the tiny ones."""
    common: dict[str, Any] = {
        "workers": asked.workers,
        "at_once": asked.at_once,
        "work": str(work),
        "seed": 17,
        "rates": tuple(round(1e-5 * 10 ** (i / asked.trials), 8) for i in range(asked.trials)),
        "rows_per_step": 32,
    }
    if inputs is not None:
        load = Workload(
            model=str(inputs[0]),
            dataset=str(inputs[1]),
            max_tokens=TOKENS,
            train_rows=asked.rows,
            eval_rows=asked.eval_rows,
            epochs=asked.epochs or 3,
            gpu=True,
            **common,
        )
    else:
        builder = load_space("bert_yelp").space.build_trainer
        assert isinstance(builder, TextClassification)
        tiny = builder.tiny()
        load = Workload(
            model=tiny.model,
            dataset=tiny.dataset,
            max_tokens=tiny.max_tokens,
            train_rows=None,
            eval_rows=None,
            epochs=asked.epochs or 2,
            gpu=False,
            **common,
        )
    load.write(work / "workload.json")
    return load


def cell(runs: Sequence[Run], column: str) -> str:
    """Return a cell: the median of the rounds, and the spread if there are several."""
    take, form = COLUMNS[column]
    values = [value for each in runs if (value := take(each)) is not None]
    if not values:
        return ""
    text = form.format(statistics.median(values))
    if len(values) == 1:
        return text
    number = form.partition(" ")[0]
    return f"{text} ({number.format(min(values))} to {number.format(max(values))})"


def table(found: dict[str, list[Run]]) -> str:
    """Return the table in Markdown; a way that was not run has empty cells."""
    lines = [
        f"| | {' | '.join(COLUMNS)} | whole command / that of sweeps |",
        "| --- |" + " --- |" * (len(COLUMNS) + 1),
    ]
    ours = [each.total_s for each in found.get("ours") or found.get("ours_one_at_a_time") or ()]
    for way, name in NAMES.items():
        runs = found.get(way, [])
        cells = [cell(runs, column) for column in COLUMNS]
        ratio = ""
        if runs and ours:
            median = statistics.median(each.total_s for each in runs)
            ratio = f"{median / statistics.median(ours):.2f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    names = ("ray", "torch", "transformers", "optuna", "mlflow", "mlflow-skinny")
    versions = {}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    gpus = ""
    with suppress(FileNotFoundError):
        gpus = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "gpus": gpus.split("\n")[:-1],
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **versions,
    }


def main() -> None:
    """Run the ways in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("tiny", "bert-base"), default="tiny")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="unset: all that the mode has")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="times that all ways are run in turn")
    parser.add_argument("--workers", type=int, default=1, help="processes of a trial")
    parser.add_argument("--at-once", type=int, help="CPUs, or groups of GPUs; tiny: 2, else 1")
    parser.add_argument("--rows", type=int, default=2048, help="train rows of bert-base")
    parser.add_argument("--epochs", type=int, help="unset: tiny 2, bert-base 3")
    parser.add_argument("--eval-rows", type=int, default=EVAL_ROWS, help="those of bert-base")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--svg", type=Path, help="file to write an SVG timeline of the last round to"
    )
    asked = parser.parse_args()
    asked.at_once = asked.at_once or (2 if asked.mode == "tiny" else 1)
    left_out = {"hps_ray"} if asked.workers > 1 else set()  # one process per trial only
    if asked.mode == "tiny" or asked.workers > 1:
        left_out.add("ours_one_at_a_time")  # as ours
    ways = asked.ways or [way for way in WAYS if way not in left_out]
    found: dict[str, list[Run]] = {}
    with tempfile.TemporaryDirectory(prefix="sweeps-peers-") as temporary:
        folder = Path(temporary)
        inputs = make_inputs(folder, asked.rows) if asked.mode == "bert-base" else None
        for number, way in itertools.product(range(asked.rounds), ways):
            work = folder / f"{way}-{number}"
            work.mkdir()
            try:
                one = run(way, workload(asked, work, inputs))
                check_same_work([*itertools.chain(*found.values()), one])
                found.setdefault(way, []).append(one)
                print(f"{way}: {one.total_s:.1f} s", flush=True)
            except RuntimeError as error:
                print(error, flush=True)
            write(found, asked)
            shutil.rmtree(work, ignore_errors=True)
    print(json.dumps(machine()))
    print(table(found))


def check_same_work(runs: Sequence[Run]) -> None:
    """Check that each trial of each way had the same number of steps.

    Raises:
        RuntimeError: The numbers differ.
    """
    steps = {each.steps for one in runs for each in one.trained}
    if len(steps) > 1:
        raise RuntimeError(f"the ways did not train the same: {sorted(steps)} steps per trial")


def write(found: dict[str, list[Run]], asked: argparse.Namespace) -> None:
    """Write what is known so far, so that an interrupted call leaves it behind."""
    if asked.json:
        of = {"mode": asked.mode, "trials": asked.trials, "workers": asked.workers}
        runs = {way: [asdict(each) for each in runs] for way, runs in found.items()}
        report = {**machine(), **of, "at_once": asked.at_once, "table": table(found), "runs": runs}
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    done = {NAMES[way]: runs[-1] for way, runs in found.items() if runs}
    if asked.svg and done:
        asked.svg.write_text(
            draw(
                {
                    name: (one.total_s, [[(t.begin, t.end) for t in lane] for lane in one.lanes()])
                    for name, one in done.items()
                }
            )
        )


if __name__ == "__main__":
    main()
