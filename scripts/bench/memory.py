"""Measures the memory of a sweep's processes: python scripts/bench/memory.py [--groups N]

Runs `bert_yelp --tiny`, samples the PSS of every process below the sweep process, and prints the
sample with the largest sum. PSS divides a shared page among its users; the second column is what
the processes share with nobody. Linux only.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil


def kind(process: psutil.Process) -> str:
    """Return the kind of a process, from its command line."""
    line = " ".join(process.cmdline())
    if line.startswith("ray::"):
        name = line.removeprefix("ray::").split()[0].split(".")[0].split(":")[-1]
        # Train runs functions in its worker under the title `ray::execute.<function>` (ray 2.60).
        is_worker = "RayTrainWorker" in line or name == "execute"
        return "the worker" if is_worker else f"ray {name}"
    for word in ("raylet", "gcs_server", "dashboard", "log_monitor", "monitor", "runtime_env"):
        if word in line:
            return f"ray {word}"
    if "sweeps.trackers.follow" in line:
        return "tracker"
    if "process_server" in line or "process server" in line:
        return "process server"
    return "sweep process" if "-m sweeps" in line else line[:40]


def pss_mb(process: psutil.Process) -> float:
    return memory_mb(process)[0]


def memory_mb(process: psutil.Process) -> tuple[float, float]:
    """Return a process's PSS, and the part of it that no other process shares, in MiB."""
    rows = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    kb = {name: int(rest.split()[0]) for name, rest in (row.split(":") for row in rows)}
    return kb["Pss"] / 1024, (kb["Private_Clean"] + kb["Private_Dirty"]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=1)
    groups = str(parser.parse_args().groups)
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "bert_yelp", "--tiny", "--num-trials", "6", "--max-concurrent", groups]
        sweep = subprocess.Popen(
            [sys.executable, "-m", "sweeps", *words, "--storage", folder],
            stdout=subprocess.DEVNULL,
            env={**os.environ},
        )
        root = psutil.Process(sweep.pid)
        largest: Counter[str] = Counter()
        alone: Counter[str] = Counter()
        processes: Counter[str] = Counter()
        while sweep.poll() is None:
            now: Counter[str] = Counter()
            own: Counter[str] = Counter()
            of: Counter[str] = Counter()
            for process in [root, *root.children(recursive=True)]:
                try:
                    name = kind(process)
                    pss, private = memory_mb(process)
                except (psutil.Error, OSError, KeyError):
                    continue
                now[name] += pss
                own[name] += private
                of[name] += 1
            if now.total() - now["the worker"] > largest.total() - largest["the worker"]:
                largest, alone, processes = now, own, of
            time.sleep(0.25)
    for name, mb in largest.most_common():
        print(f"{mb:8.0f} MB, {alone[name]:5.0f} shared with nobody  {processes[name]} x {name}")
    for sums, what in ((largest, "PSS"), (alone, "shared with nobody")):
        print(f"{sums.total() - sums['the worker']:8.0f} MB  {what}, all except the worker")


if __name__ == "__main__":
    main()
