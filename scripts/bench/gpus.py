"""How a sweep's cost grows with GPUs and worker groups: python scripts/bench/gpus.py [--json FILE]

Takes the GPUs of this machine, 1 to 8, and runs the trials of `workload.py` (BERT-base size, bf16)
with 1, 2, 4 and 8 workers each, as many at a time as fit, three for each group of GPUs: as a sweep,
as a sweep with four trials on each GPU, by Ray's guide, and by HF's search with Ray, in turn.
Prints a table; `--svg FILE` draws start time and busy fraction. Without a GPU it runs tiny trials
on the CPUs, which only tests the script and says nothing about speed. Linux only.

`Trainer.train()` is measured from HF's `on_train_begin` to `on_train_end` on rank 0 in all cases,
and its fraction is relative to the whole command. HF's search runs a trial on several GPUs in one
process (`DataParallel`), the only way that it supports.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import peers
import torch
from bert_base import EVAL_ROWS, TOKENS, make_inputs
from peers_run import Trained, read_marks
from startup import Seen, watch
from ways import BENCH, sweep
from workload import Workload

from sweeps.builders.text_classification import TextClassification
from sweeps.records.event_log import read_events
from sweeps.records.events import CheckpointSaved, Decided, Reported
from sweeps.space.loading import load_space

SHARED, TRIALS_PER_GPU = "ours_shared", 4
WAYS = ("ours_one_at_a_time", SHARED, "guide", "hps_ray")
NAMES = {**peers.NAMES, SHARED: "sweeps, four trials a GPU"}
WORKERS = (1, 2, 4, 8)
ROWS, EPOCHS, BATCH, SEED = 2048, 3, 32, 17
TINY_ROWS = 64
WORKER = ("ray::RayTrainWorker", "ray::_RayTrainWorker", "ray::ImplicitFunc", "ray::execute")
"""Prefixes of the titles of processes that train (ray 2.60)."""
COLORS = ("#4477aa", "#66ccee", "#ee6677", "#ccbb44")
WIDTH, HEIGHT, EDGE = 420, 240, 50
"""Size in pixels of a panel of the picture."""


def lanes(trained: Sequence[Trained], groups: int) -> list[list[Trained]]:
    """Assign each trial the group of devices that had most recently become free when it began.

    A trial of Ray's guide may take one GPU of one trial before it, and one of another.
    """
    found: list[list[Trained]] = []
    for one in sorted(trained, key=lambda each: each.begin):
        free = [lane for lane in found if lane[-1].end <= one.begin]
        if free:
            max(free, key=lambda lane: lane[-1].end).append(one)
        elif len(found) < groups:
            found.append([one])
    return found


def in_numbers(trained: Sequence[Trained], groups: int, took: float) -> dict[str, float | None]:
    """Return the seconds and shares of a run that took so many seconds."""
    found = lanes(trained, groups)
    if not found:
        return {}
    gaps = [
        after.begin - before.end for lane in found for before, after in itertools.pairwise(lane)
    ]
    first, last = min(one.begin for one in trained), max(one.end for one in trained)
    return {
        "first_train_s": first,
        "first_step_s": min(one.step for one in trained),
        "last_group_step_s": max(lane[0].step for lane in found) if len(found) == groups else None,
        "gap_s": statistics.median(gaps) if gaps else None,
        "largest_gap_s": max(gaps, default=None),
        "busy": sum(one.end - one.begin for one in trained) / (groups * took),
        "training_s": last - first,
    }


def of_processes(processes: Sequence[Seen]) -> dict[str, float]:
    """Return what the driver, Ray and its helpers, and the workers used on the host."""
    driver, *others = sorted(processes, key=lambda seen: seen.start)
    kinds: dict[str, list[Seen]] = {"driver": [driver], "raylet": [], "helpers": [], "worker": []}
    for seen in others:
        last = seen.titles[-1][1] if seen.titles else ""
        kind = "raylet" if last == "Ray: raylet" else "helpers"
        kinds["worker" if any(t.startswith(WORKER) for _, t in seen.titles) else kind].append(seen)
    found: dict[str, float] = {}
    for kind, members in kinds.items():
        found[f"{kind}_mb"] = sum(seen.memory for seen in members) / 1e6
        found[f"{kind}_cpu_s"] = sum(seen.cpu_s for seen in members)
    for kind in ("driver", "raylet", "worker"):
        found[f"{kind}_handles"] = max([seen.handles for seen in kinds[kind]], default=0)
        found[f"{kind}_threads"] = max([seen.threads for seen in kinds[kind]], default=0)
    return found


def in_log(storage: Path) -> dict[str, float]:
    """Return how long the log says that decisions and saves took, and the number of saves."""
    reported: dict[tuple[str, int], float] = {}
    decided: dict[tuple[str, int], float] = {}
    decisions, saves = [], []
    for log in storage.glob("*/events.jsonl"):
        for event, _ in read_events(log):
            match event:
                case Reported():
                    reported[event.report.trial, event.report.number] = event.time
                case Decided():
                    decided[event.trial, event.number] = event.time
                    decisions.append(event.time - reported[event.trial, event.number])
                case CheckpointSaved(kind="best") if (event.trial, event.number) in decided:
                    saves.append(event.time - decided[event.trial, event.number])
    found = {"saves": float(len(saves))}
    if decisions:
        found["decision_ms"] = 1000 * statistics.median(decisions)
    if saves:
        found["save_s"] = statistics.median(saves)
    return found


def measure(way: str, load: Workload, limit_s: float) -> dict[str, Any]:
    """Run one way, and return the measurements."""
    work = Path(load.work)
    load.write(work / "workload.json")
    command = [sys.executable, str(BENCH / "ways.py"), way, str(work / "workload.json")]
    if way == SHARED:
        command = [sys.executable, __file__, "--share", str(work / "workload.json")]
    code, begin, processes = watch(command, work, limit_s)
    took = time.time() - begin
    trained = read_marks(load.marks, begin)
    numbers = in_numbers(trained, load.at_once, took)
    if code:  # only what the trials recorded so far holds for a command that did not end
        tail = (work / "output.txt").read_text()[-1500:]
        print(f"{way}: exit code {code} after {took:.0f} s\n{tail}", file=sys.stderr)
        numbers |= {"busy": None, "training_s": None}
    training = numbers.get("training_s")
    rows = len(trained) * (load.train_rows or TINY_ROWS) * load.epochs
    return {
        "way": way,
        "workers": load.workers,
        "groups": load.at_once,
        "trials": len(load.rates),
        "trained": len(trained),
        "exit_code": code,
        **numbers,
        "rows_per_s": rows / training if training else None,
        "command_s": took,
        **in_log(work / "results"),
        **of_processes([*processes.values()]),
    }


def workloads(asked: argparse.Namespace, gpus: int, inputs: Path) -> Iterator[tuple[str, Workload]]:
    """Yield each way with its workload, the ways in turn for each number of workers."""
    devices = gpus or len(os.sched_getaffinity(0))
    if gpus:
        model, data = make_inputs(inputs, asked.rows)
        tokens, rows, eval_rows = TOKENS, asked.rows, EVAL_ROWS
    else:
        builder = load_space("bert_yelp").space.build_trainer
        assert isinstance(builder, TextClassification)
        tiny = builder.tiny()
        model, data, tokens, rows, eval_rows = tiny.model, tiny.dataset, 32, TINY_ROWS, TINY_ROWS
    for workers in asked.workers:
        for way in asked.ways:
            shared = way == SHARED
            if workers > devices or (shared and (workers > 1 or not gpus)):
                continue
            groups = devices // workers * (TRIALS_PER_GPU if shared else 1)
            work = inputs / f"{way}-{workers}"
            work.mkdir()
            trials = range(asked.trials_per_group * groups)
            yield (
                way,
                Workload(
                    model=str(model),
                    dataset=str(data),
                    max_tokens=tokens,
                    train_rows=rows,
                    eval_rows=eval_rows,
                    rates=tuple(1e-5 * 1.02**number for number in trials),
                    epochs=asked.epochs,
                    rows_per_step=BATCH,
                    seed=SEED,
                    gpu=bool(gpus),
                    workers=workers,
                    at_once=groups,
                    work=str(work),
                ),
            )


COLUMNS = {
    "way": "way",
    "workers": "workers a trial",
    "groups": "groups",
    "trained": "trials trained",
    "first_train_s": "first train(), s",
    "first_step_s": "first step, s",
    "last_group_step_s": "first step of the last group, s",
    "gap_s": "gap, median, s",
    "busy": "share inside train()",
    "rows_per_s": "rows/s",
    "command_s": "command until its end or the limit, s",
    "driver_mb": "driver, resident MB",
    "driver_cpu_s": "driver, CPU s",
    "raylet_mb": "raylet, resident MB",
    "raylet_cpu_s": "raylet, CPU s",
    "helpers_mb": "Ray's helpers, resident MB, shared pages in each",
    "helpers_cpu_s": "Ray's helpers, CPU s",
    "decision_ms": "a decision, median, ms",
    "saves": "best weights saved",
    "save_s": "such a save, from the decision, median, s",
    "driver_handles": "driver's open files",
    "worker_threads": "a worker's threads",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the measurements in Markdown, one column a run; empty: not measured."""

    def shown(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return NAMES[value]
        return f"{value:.3g}" if isinstance(value, float) and value < 1000 else f"{value:.0f}"

    lines = []
    for key, name in COLUMNS.items():
        lines.append(f"| {' | '.join([name, *(shown(row.get(key)) for row in rows)])} |")
    return "\n".join([lines[0], "| --- " * (len(rows) + 1) + "|", *lines[1:]])


def draw(rows: Sequence[dict[str, Any]]) -> str:
    """Return an SVG: start time and busy fraction by number of groups, with a line for each way."""
    shown = [row for row in rows if row.get("last_group_step_s") is not None]
    groups = sorted({row["groups"] for row in shown})
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (WIDTH + EDGE)}"'
        f' height="{HEIGHT + 3 * EDGE}" font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
    ]
    panels = (
        ("last_group_step_s", "first step of the last group, s after the command"),
        ("busy", "share of device time inside train()"),
    )
    for panel, (key, title) in enumerate(panels):
        left, bottom = EDGE + panel * (WIDTH + EDGE), HEIGHT + EDGE
        filled = [row for row in shown if row.get(key) is not None]
        top = max((row[key] for row in filled), default=1.0) if key != "busy" else 1.0
        parts.append(f'<text x="{left}" y="{EDGE - 20}">{title}</text>')
        parts.append(f'<text x="{left - 5}" y="{EDGE}" text-anchor="end">{top:.3g}</text>')
        parts.append(f'<text x="{left - 5}" y="{bottom}" text-anchor="end">0</text>')
        at = {
            count: left + 20 + (WIDTH - 60) * number / max(1, len(groups) - 1)
            for number, count in enumerate(groups)
        }
        for count, x in at.items():
            parts.append(f'<text x="{x:.0f}" y="{bottom + 18}">{count}</text>')
        for way, color in zip(WAYS, COLORS, strict=True):
            points = sorted((r["groups"], r[key]) for r in filled if r["way"] == way)
            path = " ".join(f"{at[g]:.0f},{bottom - HEIGHT * v / top:.0f}" for g, v in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}"/>')
            parts += [
                f'<circle cx="{at[g]:.0f}" cy="{bottom - HEIGHT * v / top:.0f}" r="3"'
                f' fill="{color}"/>'
                for g, v in points
            ]
        parts.append(
            f'<path d="M{left} {EDGE} V{bottom} H{left + WIDTH - 20}" fill="none" stroke="black"/>'
            f'<text x="{left}" y="{bottom + 36}">groups</text>'
        )
    for number, (way, color) in enumerate(zip(WAYS, COLORS, strict=True)):
        x, y = EDGE + number * 200, HEIGHT + 2 * EDGE + 30
        parts.append(f'<text x="{x}" y="{y}" fill="{color}">{NAMES[way]}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> int:
    """Run all sweeps, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description="Shows how a sweep's cost grows with GPUs.")
    parser.add_argument("--json", type=Path, help="file for the measurements")
    parser.add_argument("--svg", type=Path, help="file for the picture")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS, help="workers a trial")
    parser.add_argument("--trials-per-group", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS, help="train rows; on GPUs")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--within", type=float, default=float("inf"), help="seconds for all runs")
    parser.add_argument("--share", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.share is not None:
        sweep(Workload.read(asked.share), "--gpus-per-worker", str(1 / TRIALS_PER_GPU))
    until = time.monotonic() + asked.within
    rows: list[dict[str, Any]] = []
    gpus = torch.cuda.device_count()
    print(f"{gpus} GPUs, {len(os.sched_getaffinity(0))} CPU cores", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as inputs:
        for way, load in workloads(asked, gpus, Path(inputs)):
            if (left := until - time.monotonic()) < 1:
                print(f"no time is left for {way} with {load.workers} workers", flush=True)
                continue
            rows.append(measure(way, load, left))
            seconds = f"{rows[-1]['command_s']:.0f} s"
            print(f"{way}, {load.workers} workers, {load.at_once} groups: {seconds}", flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(rows, indent=1))
    if asked.svg:
        asked.svg.write_text(draw(rows))
    print(table(rows))
    return 0 if all(row["trained"] == row["trials"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
