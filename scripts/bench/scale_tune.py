"""Runs a whole sweep, and the same trials in bare Tune, for `scale.py`.

A trial waits, and reports ten times. The sweep has its log, MLflow and the live table; bare Tune
has none of these. Run as a script with the arguments of `bare`, this file is bare Tune.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

LOOK_S = 1.0
SETTLED = 0.1
"""Fraction of the run time after which a process has imported all it needs; from then on, its
growth is due to trials."""


def bare(trials: int, reports: int, at_once: int, pause: float, storage: str) -> None:
    """Run the trials in bare Tune, reusing actors as its guide recommends."""
    import ray
    from ray import tune

    class Waits(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.rate = config["learning_rate"]

        def step(self) -> dict[str, Any]:
            time.sleep(pause)
            value = self.rate * (self.iteration + 1)
            return {"eval_score": value, "done": self.iteration + 1 == reports}

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.setup(config)
            return True

    ray.init(address="local", num_cpus=at_once)
    tune.Tuner(
        Waits,
        param_space={"learning_rate": tune.uniform(0.0, 0.1)},
        tune_config=tune.TuneConfig(
            num_samples=trials, max_concurrent_trials=at_once, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=storage, name="bare"),
    ).fit()
    ray.shutdown()


def measure_tune(storage: Path, trials: int, at_once: int, pause: float) -> dict[str, Any]:
    """Return the seconds of both, and how the memory of the process that decides has grown."""
    from curve_space import REPORTS

    here = Path(__file__).parent
    words = [sys.executable, "-m", "sweeps", "run", str(here / "curve_space.py"), f"pause={pause}"]
    words += ["--num-trials", str(trials), "--max-concurrent", str(at_once)]
    words += ["--scheduler", "fifo", "--searcher", "random", "--storage", str(storage / "ours")]
    plain = [trials, REPORTS, at_once, pause, storage / "bare"]
    return {
        "trials": trials,
        "reports": trials * REPORTS,
        "at_once": at_once,
        "pause_s": pause,
        "sweeps": watched(words),
        "bare Tune": watched([sys.executable, __file__, *map(str, plain)]),
        "waiting alone, s": trials * REPORTS * pause / at_once,
    }


def watched(command: list[str]) -> dict[str, float]:
    """Run a command on a new terminal, where live tables are drawn.

    Returns:
        Its seconds, and the megabytes (RSS) by which its first process has grown.
    """
    ours, theirs = pty.openpty()
    start = time.monotonic()
    seen: list[tuple[float, float]] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, close_fds=True
    ) as process:
        os.close(theirs)
        reading = threading.Thread(target=swallow, args=(ours,), daemon=True)
        reading.start()
        while process.poll() is None:
            with suppress(psutil.Error):
                rss = psutil.Process(process.pid).memory_info().rss
                seen.append((time.monotonic() - start, rss / 1e6))
            time.sleep(LOOK_S)
    wall_s = time.monotonic() - start
    if process.returncode:
        raise RuntimeError(f"{command} failed: {process.returncode}")
    settled = next(mb for at, mb in seen if at >= SETTLED * wall_s)
    return {"wall_s": wall_s, "grown_mb": max(mb for _, mb in seen) - settled}


def swallow(terminal: int) -> None:
    """Read what is drawn, until the other end is closed."""
    with suppress(OSError):
        while os.read(terminal, 65536):
            pass


if __name__ == "__main__":
    count, reports, at_once, pause, storage = sys.argv[1:]
    bare(int(count), int(reports), int(at_once), float(pause), storage)
