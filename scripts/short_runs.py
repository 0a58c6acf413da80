"""Runs a short sweep many times, each on a terminal: `python scripts/short_runs.py 200`.

Each run must exit with code 0, print its summary, and leave no process behind. Prints the screen of
each that does not, then a table of how they ended. Exit code 0: all ended cleanly.

`--within SECONDS` starts no run after that; `--at-once N` runs N of them side by side.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
from chaos_killer import MARK, marked

SPACE = Path(__file__).parents[1] / "tests" / "spaces" / "curves.py"
ROWS, COLUMNS = 24, 80
LIMIT_S = 120.0
"""A run that takes longer than this counts as hanging, and is killed."""
LOOK_S = 1.0
END_S = 30.0
"""Seconds for Ray's processes to end after the run."""
SUMMARY = b"best: t001 with eval_score"


def on_a_terminal(words: list[str], folder: Path) -> tuple[int, bytes]:
    """Run a command on a new terminal; return its exit code and all that it wrote."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    variables = {**os.environ, MARK: str(folder), "SPT_NOENV": "1", "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES"):
        variables.pop(name, None)
    process = subprocess.Popen(
        words,
        stdin=there,
        stdout=there,
        stderr=there,
        cwd=folder,
        env=variables,
        start_new_session=True,
    )
    os.close(there)
    written, until = bytearray(), time.monotonic() + LIMIT_S
    with suppress(OSError):  # no process has the terminal open any more
        while select.select([here], [], [], LOOK_S)[0] or process.poll() is None:
            if time.monotonic() > until:
                process.kill()
                break
            if select.select([here], [], [], 0)[0]:
                written += os.read(here, 65536)
    os.close(here)
    return process.wait(), bytes(written)


def problems(number: int) -> tuple[list[str], float]:
    """Run a sweep; return what is wrong with its end, and the seconds that it took."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="short-run-") as name:
        folder = Path(name)
        words = ["run", str(SPACE), "--num-trials", "1", "--max-concurrent", "1", "--no-smoke"]
        words += ["--tracker", "tensorboard"]
        code, written = on_a_terminal([sys.executable, "-m", "sweeps", *words], folder)
        took_s = time.monotonic() - start
        left = psutil.wait_procs(marked(folder), timeout=END_S)[1]
        found = [f"exit code {code}"] if code != 0 else []
        if SUMMARY not in written:
            found.append("no summary")
        if left:
            found.append("a process is left")
        if found:
            what = "; ".join([*found, *map(str, left)])
            print(f"run {number}: {what}\n{written.decode(errors='replace')}", flush=True)
        return found, took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=int)
    parser.add_argument("--within", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--at-once", type=int, default=1, metavar="N")
    flags = parser.parse_args()
    until = time.monotonic() + flags.within

    def run(number: int) -> tuple[list[str], float] | None:
        return problems(number) if time.monotonic() < until else None

    with ThreadPoolExecutor(flags.at_once) as pool:
        ended = [one for one in pool.map(run, range(1, flags.runs + 1)) if one is not None]
    ways = Counter(problem for found, _ in ended for problem in found or ["in good order"])
    print("| ended | runs |\n| --- | --- |")
    for way, runs in sorted(ways.items(), key=lambda one: one[0] != "in good order"):
        print(f"| {way} | {runs} |")
    print(f"| all | {len(ended)} of {flags.runs} |")
    seconds = [took_s for _, took_s in ended]
    if seconds:
        print(f"\n{statistics.median(seconds):.0f} s a run (median), {max(seconds):.0f} s at most")
    sys.exit(any(found for found, _ in ended))


if __name__ == "__main__":
    main()
