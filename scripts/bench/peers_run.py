"""One run of a way of `peers.py`: starts it, watches it, and reads what its trials recorded."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from memory import pss_mb
from ways import launched
from workload import Workload

LOOK_S = 5.0
"""Seconds between two measurements of the memory, which take 0.3 s of CPU time each."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trial of a way; seconds after the command."""

    device: str
    begin: float
    """`Trainer.train()` begins."""
    step: float
    """Its first step is done."""
    end: float
    """`Trainer.train()` ends."""
    steps: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """A way's command from its start to its end."""

    total_s: float
    memory_mb: float
    """Peak memory of all its processes together (PSS)."""
    trained: tuple[Trained, ...]
    groups: int
    """Number of groups of devices that could train in parallel."""

    @property
    def first_train_s(self) -> float:
        """Seconds until the first `Trainer.train()`."""
        return min(each.begin for each in self.trained)

    @property
    def first_step_s(self) -> float:
        """Seconds until the first step of a trial is done."""
        return min(each.step for each in self.trained)

    @property
    def gap_s(self) -> float | None:
        """Median seconds from the end of a trial to the start of the next one in its place."""
        pairs = (itertools.pairwise(lane) for lane in self.lanes())
        gaps = [after.begin - before.end for each in pairs for before, after in each]
        return statistics.median(gaps) if gaps else None

    @property
    def training_s(self) -> float:
        """Seconds from the start of the first trial to the end of the last one."""
        return max(each.end for each in self.trained) - self.first_train_s

    @property
    def busy(self) -> float:
        """Fraction of the devices' time during the command that is spent inside a `train()`."""
        seconds = 0.0
        for device in {each.device for each in self.trained}:
            own = [(each.begin, each.end) for each in self.trained if each.device == device]
            if device == "cpu":
                seconds += sum(end - begin for begin, end in own)
            else:
                seconds += covered(own)
        return seconds / (self.total_s * self.groups)

    def lanes(self) -> list[list[Trained]]:
        """Return the trials by the place that they used, device by device."""
        lanes: list[list[Trained]] = []
        for one in sorted(self.trained, key=lambda each: each.begin):
            free = [
                lane
                for lane in lanes
                if lane[-1].device == one.device and lane[-1].end <= one.begin
            ]
            if free:
                max(free, key=lambda lane: lane[-1].end).append(one)
            else:
                lanes.append([one])
        return sorted(lanes, key=lambda lane: lane[0].device)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of the spans lies."""
    seconds, until = 0.0, 0.0
    for begin, end in sorted(spans):
        seconds += max(0.0, end - max(begin, until))
        until = max(until, end)
    return seconds


def run(way: str, load: Workload) -> Run:
    """Run a way.

    Raises:
        RuntimeError: The way failed, or did not train what it should.
    """
    load.marks.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}
    command = [sys.executable, str(Path(__file__).parent / "ways.py"), way]
    command.append(f"{load.work}/workload.json")
    if way == "hps_optuna":
        command = launched(way, load)
    if load.gpu:  # no way may take more GPUs than another, if the machine has more
        gpus = range(load.workers * (1 if way == "hps_optuna" else load.at_once))
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    output = Path(load.work) / f"{way}.txt"
    begin = time.time()
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=load.work, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        memory: list[float] = [0.0]
        watching = threading.Thread(target=watch_memory, args=(process, memory), daemon=True)
        watching.start()
        code = process.wait()
    total_s = time.time() - begin
    if code:
        raise RuntimeError(f"{way} failed ({code}):\n{output.read_text()[-3000:]}")
    trained = read_marks(load.marks, begin)
    if len(trained) != len(load.rates) or len({each.steps for each in trained}) != 1:
        raise RuntimeError(f"{way} did not train {len(load.rates)} equal trials: {trained}")
    return Run(total_s=total_s, memory_mb=max(memory), trained=tuple(trained), groups=load.at_once)


def watch_memory(process: subprocess.Popen[bytes], found: list[float]) -> None:
    """Record the memory of a command's processes until it ends."""
    while process.poll() is None:
        with suppress(psutil.Error):
            root = psutil.Process(process.pid)
            now = 0.0
            for each in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error, OSError, KeyError):
                    now += pss_mb(each)
            found.append(now)
        time.sleep(LOOK_S)


def read_marks(file: Path, start: float) -> list[Trained]:
    """Return the trials that were recorded from start to end."""
    by_trial: dict[float, dict[str, Any]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        note = json.loads(line)
        by_trial.setdefault(note["learning_rate"], {})[note["what"]] = note
    return [
        Trained(
            device=marks["begin"]["device"],
            begin=marks["begin"]["time"] - start,
            step=marks["step"]["time"] - start,
            end=marks["end"]["time"] - start,
            steps=marks["end"]["steps"],
        )
        for marks in by_trial.values()
        if marks.keys() == {"begin", "step", "end"}
    ]
