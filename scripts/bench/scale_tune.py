"""Runs a whole sweep, and the same trials in bare Tune, for `scale.py`.

A trial waits, and reports ten times. The sweep has its log, MLflow and the live table; bare Tune
has none of these. GPUs are hidden from both. Run as a script with the arguments of `bare`, this
file is bare Tune.
"""

from __future__ import annotations

import json
import os
import pty
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

LOOK_S = 0.5
SETTLED = 0.1
"""Fraction of the time from the first trial's start to the last one's end. By then, the process
that decides has imported all it needs, and its growth is due to trials."""
TAIL = 4000
"""Characters at the end of a failed command's output that are shown."""
TRIALS = "trials.json"
"""Where bare Tune writes its trials."""


@dataclass(frozen=True)
class Trial:
    """When a trial ran, in Unix time."""

    began: float
    ended: float


@dataclass(frozen=True)
class Watched:
    """A command that has ended."""

    began: float
    ended: float
    memory: list[tuple[float, float]]
    """Unix time, and megabytes (RSS) of its first process."""


def bare(trials: int, reports: int, at_once: int, pause: float, storage: str) -> None:
    """Run the trials in bare Tune, reusing actors as its guide recommends.

    They keep no checkpoint, and Tune must be told: otherwise it asks each trial for one at its end.
    That fails, and Tune starts a new actor for the next trial.
    """
    import ray
    from ray import tune

    class Waits(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.began = time.time()
            self.rate = config["learning_rate"]

        def step(self) -> dict[str, Any]:
            time.sleep(pause)
            value = self.rate * (self.iteration + 1)
            done = self.iteration + 1 == reports
            trial = {"began": self.began, "ended": time.time()}
            return {"eval_score": value, "done": done, "trial": trial}

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.setup(config)
            return True

    ray.init(address="local", num_cpus=at_once)
    found = tune.Tuner(
        Waits,
        param_space={"learning_rate": tune.uniform(0.0, 0.1)},
        tune_config=tune.TuneConfig(
            num_samples=trials, max_concurrent_trials=at_once, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            storage_path=storage,
            name="bare",
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    if found.errors:
        raise found.errors[0]
    ran = [result.metrics["trial"] for result in found]
    (Path(storage) / TRIALS).write_text(json.dumps(ran))
    ray.shutdown()


def measure_tune(storage: Path, trials: int, at_once: int, pause: float) -> dict[str, Any]:
    """Return the seconds of both, and the memory of the process that decides."""
    from curve_space import REPORTS

    here, ours, theirs = Path(__file__).parent, storage / "ours", storage / "bare"
    words = [sys.executable, "-m", "sweeps", "run", str(here / "curve_space.py"), f"pause={pause}"]
    words += ["--num-trials", str(trials), "--max-concurrent", str(at_once)]
    words += ["--scheduler", "fifo", "--searcher", "random", "--storage", str(ours)]
    plain = [sys.executable, __file__, *map(str, (trials, REPORTS, at_once, pause, theirs))]
    waiting_s = trials * REPORTS * pause / at_once
    return {
        "trials": trials,
        "reports": trials * REPORTS,
        "at_once": at_once,
        "pause_s": pause,
        "waiting alone, s": waiting_s,
        "waiting alone, s a trial": REPORTS * pause,
        "sweeps": summed_up(watched(words), trials_of_sweep(ours), at_once, waiting_s),
        "bare Tune": summed_up(watched(plain), trials_of_tune(theirs), at_once, waiting_s),
    }


def trials_of_sweep(storage: Path) -> list[Trial]:
    """Return the trials of the only sweep below a storage folder."""
    from sweeps.records.event_log import read_events
    from sweeps.records.events import AttemptEnded, JobStarted

    (log,) = storage.glob("*/events.jsonl")
    began: dict[str, float] = {}
    ran = []
    for event, _ in read_events(log):
        if isinstance(event, JobStarted):
            began[event.trial] = event.time
        elif isinstance(event, AttemptEnded) and event.outcome == "done":
            ran.append(Trial(began[event.trial], event.time))
    return ran


def trials_of_tune(storage: Path) -> list[Trial]:
    """Return the trials of bare Tune."""
    return [Trial(**trial) for trial in json.loads((storage / TRIALS).read_text())]


def summed_up(
    command: Watched, trials: list[Trial], at_once: int, waiting_s: float
) -> dict[str, float]:
    """Return where the seconds of a command went, and how its first process has grown."""
    first, last = min(trial.began for trial in trials), max(trial.ended for trial in trials)
    begins = sorted(trial.began for trial in trials)
    nexts = [after - before for before, after in zip(begins, begins[at_once:], strict=False)]

    def memory_at(moment: float) -> float:
        return next(mb for at, mb in reversed(command.memory) if at <= moment)

    settled = memory_at(first + SETTLED * (last - first))
    return {
        "trials that ended": len(trials),
        "whole command, s": command.ended - command.began,
        "before the first trial, s": first - command.began,
        "from the first trial to the last end, s": last - first,
        "the same beyond waiting alone, s": last - first - waiting_s,
        "after the last end, s": command.ended - last,
        "from a trial's start to the next one's in its place, median s": statistics.median(nexts),
        "memory once settled, MB": settled,
        "growth by the last end, MB": memory_at(last) - settled,
        "growth at most, MB": max(mb for _, mb in command.memory) - settled,
    }


def watched(command: list[str]) -> Watched:
    """Run a command on a new terminal, where live tables are drawn, and without a GPU."""
    ours, theirs = pty.openpty()
    began = time.time()
    memory: list[tuple[float, float]] = []
    output: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    ) as process:
        os.close(theirs)
        reading = threading.Thread(target=swallow, args=(ours, output), daemon=True)
        reading.start()
        while process.poll() is None:
            with suppress(psutil.Error):
                rss = psutil.Process(process.pid).memory_info().rss
                memory.append((time.time(), rss / 1e6))
            time.sleep(LOOK_S)
    ended = time.time()
    if process.returncode:
        reading.join()
        tail = "".join(output)[-TAIL:]
        raise RuntimeError(f"{command} failed: {process.returncode}\n{tail}")
    return Watched(began, ended, memory)


def swallow(terminal: int, output: list[str]) -> None:
    """Read what is drawn, until the other end is closed."""
    with suppress(OSError):
        while drawn := os.read(terminal, 65536):
            output.append(drawn.decode(errors="replace"))


if __name__ == "__main__":
    count, reports, at_once, pause, storage = sys.argv[1:]
    bare(int(count), int(reports), int(at_once), float(pause), storage)
