"""Shows how a sweep starts: `python scripts/bench/startup.py [--json FILE] [--svg FILE]`.

Runs a command (after `--`), by default a tiny sweep of two trials, in a new folder. Prints when
each of its processes started, its title over time, and the CPU time and memory it used; and when
the sweep's log began, its smoke run ended, and its first trial started training. Linux only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import psutil

from sweeps.records import events as ev
from sweeps.records.event_log import read_events

MARK = "SWEEPS_STARTUP"
LOOK_S = 0.1
TINY = [sys.executable, "-m", "sweeps", "run", "bert_yelp", "--tiny", "--num-trials", "2"]
SHORT = {
    "raylet/raylet": "Ray: raylet",  # first: its command line holds those of what it starts
    "process_server": "process server",
    "sweeps process server": "process server",
    "process_launcher": "launcher",
    "setup_worker": "Ray: setup_worker",
    "default_worker": "Ray: default_worker",
    "gcs_server": "Ray: GCS",
    "runtime_env/agent": "Ray: runtime env agent",
    "dashboard": "Ray: dashboard",
    "autoscaler": "Ray: autoscaler",
    "log_monitor": "Ray: log monitor",
    "sweeps.trackers.follow": "tracker",
    "-m sweeps": "sweep process",
}
"""Names of processes by a part of their command line; the first match counts."""
WIDTH, ROW = 1000, 18
"""Size in pixels of the time axis and of the row of a process."""


@dataclass
class Seen:
    """A process of the command; times in seconds after the command."""

    start: float
    end: float = 0.0
    titles: list[tuple[float, str]] = field(default_factory=list)
    cpu_s: float = 0.0
    memory: int = 0
    """Maximum resident bytes, including pages that it shares with others."""
    threads: int = 0
    """Maximum number of threads."""
    handles: int = 0
    """Maximum number of open files."""


def short(title: str) -> str:
    """Return a short form of a process title."""
    if title.startswith("ray::"):
        return title.split(" ")[0].split(".")[0]
    return next((name for part, name in SHORT.items() if part in title), title[:40])


def watch(
    command: list[str], folder: Path, limit_s: float = math.inf
) -> tuple[int, float, dict[int, Seen]]:
    """Run a command; return its exit code, its start (Unix time) and its processes by id.

    After `limit_s` seconds, all its processes are killed.
    """
    found: dict[int, Seen] = {}
    marked: dict[int, bool] = {}
    environment = {**os.environ, MARK: str(folder), "SPT_NOENV": "1"}
    begin = time.time()
    with (folder / "output.txt").open("w") as output:
        run = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while run.poll() is None:
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.pid not in marked:
                        marked[process.pid] = process.environ().get(MARK) == str(folder)
                    if marked[process.pid]:
                        look(process, found, begin)
                        if time.time() - begin > limit_s:
                            process.kill()
            time.sleep(LOOK_S)
    return run.returncode, begin, found


def look(process: psutil.Process, found: dict[int, Seen], begin: float) -> None:
    """Record the current state of a process."""
    now = time.time() - begin
    seen = found.setdefault(process.pid, Seen(start=max(0.0, process.create_time() - begin)))
    title = short(" ".join(process.cmdline()))
    if title and (not seen.titles or seen.titles[-1][1] != title):
        seen.titles.append((now if seen.titles else seen.start, title))
    times = process.cpu_times()
    seen.end, seen.cpu_s = now, times.user + times.system
    seen.memory = max(seen.memory, process.memory_info().rss)
    seen.threads = max(seen.threads, process.num_threads())
    seen.handles = max(seen.handles, process.num_fds())


def moments(folder: Path, begin: float) -> dict[str, float]:
    """Return the key moments of the sweep, in seconds after the start of the command."""
    found: dict[str, float] = {}
    for log in folder.glob("results/*/events.jsonl"):
        for event, _ in read_events(log):
            match event:
                case ev.SweepStarted():
                    found.setdefault("the log begins", event.time)
                case ev.SmokeMeasured():
                    found.setdefault("the smoke run has measured", event.time)
                case ev.SmokeEnded():
                    found.setdefault("the smoke run ends", event.time)
                case ev.Reported():
                    found.setdefault("first train()", event.time - event.report.train_s)
                case ev.SweepEnded():
                    found.setdefault("the log ends", event.time)
    return {what: at - begin for what, at in found.items()}


def draw(processes: list[Seen], marks: dict[str, float], wall_s: float) -> str:
    """Return an SVG: a bar for each process, with its titles, and a line for each moment."""
    scale = WIDTH / wall_s
    height = ROW * (len(processes) + len(marks) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 20}" height="{height}"'
        ' font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
    ]
    for row, seen in enumerate(processes):
        y = row * ROW
        x, width = seen.start * scale, (seen.end - seen.start) * scale
        label = " > ".join(dict.fromkeys(title for _, title in seen.titles))
        shade = min(1.0, seen.cpu_s / max(0.1, seen.end - seen.start))
        parts.append(
            f'<rect x="{x:.0f}" y="{y + 2}" width="{width:.0f}" height="{ROW - 4}"'
            f' fill="#4477aa" fill-opacity="{0.15 + 0.6 * shade:.2f}"/>'
            f'<text x="{min(x, WIDTH - 300) + 3:.0f}" y="{y + ROW - 5}">'
            f"{escape(label)} ({seen.cpu_s:.1f} s CPU)</text>"
        )
    for number, (what, at) in enumerate(marks.items()):
        x, y = at * scale, ROW * (len(processes) + number + 1)
        parts.append(
            f'<line x1="{x:.0f}" x2="{x:.0f}" y1="0" y2="{y}" stroke="#aa3377"/>'
            f'<text x="{min(x, WIDTH - 200) + 3:.0f}" y="{y}" fill="#aa3377">'
            f"{escape(what)}, {at:.1f} s</text>"
        )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Run the command and print the results."""
    parser = argparse.ArgumentParser(description="Shows how a sweep starts.")
    parser.add_argument("--json", type=Path, help="file to write the same data to, as JSON")
    parser.add_argument("--svg", type=Path, help="file to write an SVG timeline to")
    parser.add_argument("command", nargs="*", default=TINY, help="the command to run, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        code, begin, found = watch(given.command, folder)
        wall_s = time.time() - begin
        marks = moments(folder, begin)
        if code:
            print((folder / "output.txt").read_text())
    processes = sorted(found.values(), key=lambda seen: seen.start)
    print(f"{'start':>6} {'end':>6} {'CPU s':>6} {'MB':>6}  what it was")
    for seen in processes:
        titles = ", ".join(f"{title} {at:.1f}" for at, title in seen.titles)
        times = f"{seen.start:6.1f} {seen.end:6.1f} {seen.cpu_s:6.1f}"
        print(f"{times} {seen.memory / 1e6:6.0f}  {titles}")
    for what, at in marks.items():
        print(f"{at:6.1f}  {what}")
    print(f"{wall_s:6.1f}  the command ends; {sum(s.cpu_s for s in processes):.0f} s of CPU time")
    if given.json:
        report: dict[str, Any] = {"seconds": wall_s, "moments": marks}
        report["processes"] = [vars(seen) for seen in processes]
        given.json.write_text(json.dumps(report, indent=1))
    if given.svg:
        given.svg.write_text(draw(processes, marks, wall_s))
    sys.exit(code)


if __name__ == "__main__":
    main()
