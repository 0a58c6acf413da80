"""Kills processes of one sweep, in random order at random moments: part of `chaos.py`.

Runs as its own process. It knows process ids, a seed and where the sweep writes, and never talks to
the sweep. Each kill is a line in `kills.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "SWEEPS_CHAOS"
"""Environment variable with the storage folder, in every process of the sweep."""
TITLES = {
    "worker": ("ray::RayTrainWorker",),
    "trial actor": ("ray::ResourceTrainable",),
    "exchange": ("ray::Exchange",),
    "controller": ("ray::TrainController",),
    "tracker": ("-m sweeps.trackers.follow",),
    "process server": ("sweeps process server",),
    "sweep process": ("-m sweeps run", "-m sweeps resume"),
}
"""Names in the process table (ray 2.60)."""
MOMENTS = ("at the gate", "after a decision", "in a save", "in training", "in a start")
"""When a process is killed: while a report has no decision yet; just after it got one; while a
checkpoint has no end marker yet; up to 0.2 s after a decision; up to 6 s after the previous
kill."""
LOOK_S = 0.0005
PATIENCE_S = 20.0
"""Seconds to wait for a moment before another process is tried."""


def marked(storage: Path) -> list[psutil.Process]:
    """Return the live processes of the sweep."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(storage):
                found.append(process)
    return [process for process in found if _alive(process)]


def of_kind(kind: str, storage: Path) -> list[psutil.Process]:
    """Return the live processes of one kind."""
    found = []
    for process in marked(storage):
        with suppress(psutil.Error):
            if any(title in " ".join(process.cmdline()) for title in TITLES[kind]):
                found.append(process)
    return found


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Log:
    """Follows the event log as it grows, also after an interruption."""

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._path: Path | None = None
        self._offset = 0
        self.newest = ""
        """Name of the latest event."""
        self.trial: str | None = None
        """The trial of the latest event that names one."""
        self.lines = 0
        self.reports = 0

    def look(self) -> bool:
        """Read the new events; return whether there were any."""
        if self._path is None:
            self._path = next(self._storage.glob("chaos/*/events.jsonl"), None)
        if self._path is None or self._path.stat().st_size <= self._offset:
            return False
        with self._path.open("rb") as log:
            log.seek(self._offset)
            whole = log.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            self.newest = event["event"]
            self.trial = event.get("trial") or event.get("report", {}).get("trial") or self.trial
            self.lines += 1
            self.reports += self.newest == "Reported"
        return bool(whole)

    def unfinished_saves(self) -> dict[Path, int]:
        """Return the trial's checkpoint folders without an end marker, with their change times."""
        found: dict[Path, int] = {}
        if self._path is None or self.trial is None:
            return found
        with suppress(FileNotFoundError):
            for folder in (self._path.parent / "checkpoints" / self.trial).iterdir():
                if not (folder / "checkpoint.json").exists():
                    found[folder] = folder.stat().st_mtime_ns
        return found


def wait_until(log: Log, ready: Callable[[], bool], patience_s: float = float("inf")) -> bool:
    """Follow the log until `ready`; return False if patience runs out or the sweep ends."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        log.look()
        if log.newest == "SweepEnded":
            return False
        if ready():
            return True
        time.sleep(LOOK_S)
    return False


def wait_for_moment(moment: str, log: Log, rng: random.Random) -> bool:
    """Return True at the moment, or False if it does not come."""
    log.look()
    lines = log.lines
    if moment == "in a start":
        time.sleep(rng.uniform(0, 1))
        return True
    if moment == "at the gate":
        return wait_until(log, lambda: log.lines > lines and log.newest == "Reported", PATIENCE_S)
    if moment == "in a save":
        stale = log.unfinished_saves()
        return wait_until(
            log, lambda: bool(log.unfinished_saves().items() - stale.items()), PATIENCE_S
        )
    came = wait_until(log, lambda: log.lines > lines and log.newest == "Decided", PATIENCE_S)
    if came and moment == "in training":
        time.sleep(rng.uniform(0, 0.2))
    return came


def plan(kills: int, rng: random.Random) -> list[tuple[str, str]]:
    """Return kinds and moments: all kinds equally often, never two starts in a row."""
    kinds = list(TITLES)
    rng.shuffle(kinds)
    pairs = []
    for index, kind in enumerate(kinds):
        count = kills // len(kinds) + (index < kills % len(kinds))
        moments = list(MOMENTS)
        rng.shuffle(moments)
        pairs += [(kind, moments[i % len(moments)]) for i in range(count)]
    rng.shuffle(pairs)
    before = "in a start"  # nothing is being replaced yet
    for index, (kind, moment) in enumerate(pairs):
        if moment == before == "in a start":
            pairs[index] = (kind, "in training")
        before = pairs[index][1]
    return pairs


def kill_one(kind: str, moment: str, storage: Path, log: Log, rng: random.Random) -> int | None:
    """Kill one process of a kind at a moment; return its id, or None if the sweep ended."""
    if moment == "in a start":
        time.sleep(rng.uniform(0, 5))
    else:
        # Allow for some work between two kills, since a sweep without progress gives up.
        goal = log.reports + rng.randint(1, 3)
        if not wait_until(log, lambda: log.reports >= goal):
            return None
    while log.newest != "SweepEnded":
        victims = of_kind(kind, storage)
        if not victims:
            log.look()
            time.sleep(0.05)
            continue
        victim = rng.choice(victims)
        if wait_for_moment(moment, log, rng) and _alive(victim):
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)
                return victim.pid
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("storage", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    log = Log(args.storage)
    notes = args.storage / "kills.jsonl"
    done = len(notes.read_text().splitlines()) if notes.exists() else 0
    for number, (kind, moment) in list(enumerate(plan(args.kills, rng), start=1))[done:]:
        pid = kill_one(kind, moment, args.storage, log, rng)
        if pid is None:
            print("the sweep ended before all kills were done", flush=True)
            return 1
        note = {
            "number": number,
            "time": time.time(),
            "kind": kind,
            "moment": moment,
            "pid": pid,
            "trial": log.trial,
            "reports": log.reports,
        }
        with notes.open("a") as kills:
            kills.write(json.dumps(note) + "\n")
        print(
            f"kill {number} of {args.kills}: {kind} {moment}"
            f" (process {pid}; {log.trial}, {log.reports} reports)",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
