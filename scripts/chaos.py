"""Compares a sweep whose processes are killed with one that runs undisturbed.

`python scripts/chaos.py --kills 30` runs `chaos_space.py` twice with the same seed, one trial at a
time: once undisturbed, and once with `chaos_killer.py` running next to it. After each kill of the
sweep process it runs `python -m sweeps resume`. Then `chaos_report.py` prints the tables. Exit code
0: no problem was found.

`--within SECONDS` kills sweeps that have not ended by then, and exits with code 3; `--continue
FOLDER` resumes them, with the remaining kills.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from chaos_killer import MARK, TITLES, marked, of_kind

SCRIPTS = Path(__file__).parent
SILENCE_S = 240.0
"""A sweep that writes nothing for this long counts as hanging."""
GONE_S = 60.0
"""Seconds for the other processes to end after the sweep process was killed."""
END_S = 90.0
"""Seconds for everything to end after the sweep."""
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Processes that outlive a Ray instance by a minute if its driver was killed; they hold no
resources (ray 2.60)."""
TOKEN = secrets.token_hex(32)
"""Admits the sweep's processes to a Ray instance that they join."""
KILLER_END_S = 10.0
"""Seconds for the killer to see that the sweep is over."""
UNFINISHED = 3
"""Exit code if `--within` has stopped the run."""
NOTHING_SEEN: dict[str, Any] = {
    "commands": [],
    "unbroken_exit_code": -1,
    "unbroken_s": 0.0,
    "exit_code": -1,
    "disturbed_s": 0.0,
    "outlived": 0,
    "left": 0,
    "joined": None,
    "foreign_ended": 0,
}
"""Initial content of `chaos.json`. A negative exit code means that the sweep must still run or
continue."""


def environment(storage: Path) -> dict[str, str]:
    """Return the environment of the sweep's processes, with a mark that others can read."""
    variables = {**os.environ, MARK: str(storage), "SPT_NOENV": "1"}
    variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    variables.pop("RAY_ADDRESS", None)
    return variables


def run_words(args: argparse.Namespace) -> list[str]:
    words = ["run", str(SCRIPTS / "chaos_space.py"), "--num-trials", str(args.trials)]
    words += ["--max-concurrent", "1", "--resume-every", "0s", "--max-failures", "1000"]
    return [*words, "--reduction-factor", "2", "--seed", str(args.seed)]


def start(storage: Path, part: str, words: list[str]) -> subprocess.Popen[bytes]:
    with (storage / f"{part}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps", *words, "--storage", str(storage / part)],
            env=environment(storage if part == "chaos" else storage / part),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def wait(sweep: subprocess.Popen[bytes], storage: Path, part: str, until: float) -> int:
    """Return the exit code of a sweep process, which is killed if it hangs, and at `until`."""
    while True:
        try:
            return sweep.wait(1)
        except subprocess.TimeoutExpired:
            newest = (storage / f"{part}.log").stat().st_mtime
            silent = time.time() - newest > SILENCE_S
            if silent:
                print(f"nothing has happened for {SILENCE_S:g} s", flush=True)
            if silent or time.monotonic() > until:
                sweep.kill()
                code = sweep.wait()
                return 1 if silent else code


def undisturbed(args: argparse.Namespace, storage: Path, until: float) -> tuple[int, float]:
    """Run the undisturbed sweep; return its exit code and its seconds."""
    shutil.rmtree(storage / "unbroken", ignore_errors=True)  # left by a run that `--within` stopped
    began = time.monotonic()
    code = wait(start(storage, "unbroken", run_words(args)), storage, "unbroken", until)
    return code, time.monotonic() - began


def wait_until_gone(
    storage: Path, joined: bool, patience_s: float, but_for: tuple[str, ...] = ()
) -> int:
    """Wait until the sweep's processes have ended; return how many have not."""
    deadline = time.monotonic() + patience_s
    while left := leftovers(storage, joined, but_for):
        if time.monotonic() > deadline:
            print("still there: " + "; ".join(title for _, title in left), flush=True)
            break
        time.sleep(0.2)
    return len(left)


def leftovers(storage: Path, joined: bool, but_for: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return ids and titles of live processes.

    On a joined Ray instance, only those of the sweep.
    """
    processes = marked(storage)
    if joined:
        processes = [process for kind in TITLES for process in of_kind(kind, storage)]
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found.append((process.pid, " ".join(process.cmdline()).strip()))
    return [entry for entry in found if not entry[1].startswith(but_for)]


@contextmanager
def ray_instance(cpus: int, variables: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen]]:
    """Yield the address of a Ray instance and the process that runs it."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPTS / "chaos_ray.py"), folder, str(cpus)],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.stdin.close()
            process.wait()


def lives_on(process: subprocess.Popen) -> dict[str, Any]:
    """Return what is still alive on a Ray instance after at most `END_S`."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + END_S
    while True:
        process.stdin.write("what lives?\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        if not any(answer.values()) or time.monotonic() > deadline:
            return answer
        time.sleep(1)


def disturbed(
    args: argparse.Namespace, storage: Path, address: str | None, until: float
) -> tuple[int, int]:
    """Run or continue the sweep whose processes are killed.

    Returns its exit code, negative if `until` came first, and how many processes outlived a kill of
    the sweep process.
    """
    killer = subprocess.Popen(
        [
            *(sys.executable, str(SCRIPTS / "chaos_killer.py"), str(storage)),
            *("--kills", str(args.kills), "--seed", str(args.seed)),
        ]
    )
    place = ["--address", address] if address else []
    outlived = 0
    try:
        while True:
            # Killed before it had a folder: nothing to resume yet.
            log = next((storage / "chaos").glob("*/events.jsonl"), None)
            words = ["resume", log.parent.name] if log else run_words(args)
            code = wait(start(storage, "chaos", [*words, *place]), storage, "chaos", until)
            if code >= 0:
                killer.wait(KILLER_END_S)
                break
            outlived += wait_until_gone(storage, address is not None, GONE_S, AGENTS)
            if time.monotonic() > until:
                break
    except subprocess.TimeoutExpired:
        pass
    finally:
        killer.kill()
        killer.wait()
    return code, outlived


def carry_out(args: argparse.Namespace, storage: Path, facts: dict[str, Any]) -> None:
    """Run or continue both sweeps, and add what was seen to the facts."""
    until = time.monotonic() + args.within
    with ExitStack() as stack:
        calm = None
        if facts["unbroken_exit_code"] < 0:
            pool = stack.enter_context(ThreadPoolExecutor())
            calm = pool.submit(undisturbed, args, storage, until)
            if not args.at_once:
                calm.result()
        address, joined = None, None
        foreign: list[psutil.Process] = []
        if args.foreign_ray:
            _, other = stack.enter_context(ray_instance(1, dict(os.environ)))
            foreign = [psutil.Process(other.pid), *psutil.Process(other.pid).children(True)]
        if args.join:
            address, joined = stack.enter_context(ray_instance(2, environment(storage)))
        began = time.monotonic()
        facts["exit_code"], outlived = disturbed(args, storage, address, until)
        facts["disturbed_s"] += time.monotonic() - began
        facts["outlived"] += outlived
        facts["foreign_ended"] += sum(not process.is_running() for process in foreign)
        if facts["exit_code"] >= 0:
            facts["left"] = wait_until_gone(storage, args.join, END_S)
            facts["joined"] = lives_on(joined) if joined else None
        if calm is not None:
            facts["unbroken_exit_code"], facts["unbroken_s"] = calm.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, help="Default: three per kill.")
    parser.add_argument(
        "--storage", type=Path, help="A new folder for both sweeps; default: a temporary one."
    )
    parser.add_argument("--at-once", action="store_true", help="Run both sweeps at the same time.")
    parser.add_argument(
        "--foreign-ray", action="store_true", help="Run next to another Ray instance."
    )
    parser.add_argument(
        "--join", action="store_true", help="Join a Ray instance that outlives the sweep."
    )
    parser.add_argument(
        "--within", type=float, default=float("inf"), help="Stop after this many seconds."
    )
    parser.add_argument(
        "--continue", dest="folder", type=Path, help="Continue the stopped run in this folder."
    )
    args = parser.parse_args()
    if args.folder is not None:
        storage = args.folder.resolve()
        facts = json.loads((storage / "chaos.json").read_text())
        vars(args).update(facts["arguments"])
    else:
        storage = (args.storage or Path(tempfile.mkdtemp(prefix="sweeps-chaos-"))).resolve()
        storage.mkdir(parents=True, exist_ok=True)
        if any(storage.iterdir()):
            parser.error(f"{storage} is not empty")
        args.trials = args.trials or 3 * args.kills
        kept = ("kills", "seed", "trials", "at_once", "foreign_ray", "join")
        facts = NOTHING_SEEN | {"arguments": {name: getattr(args, name) for name in kept}}
    facts["commands"] = [*facts["commands"], " ".join(["scripts/chaos.py", *sys.argv[1:]])]
    # Written now, so that --continue works even if this process is killed.
    write(facts, storage)
    print(f"{args.kills} kills, {args.trials} trials, seed {args.seed}; in {storage}", flush=True)
    carry_out(args, storage, facts)
    write(facts, storage)
    if facts["exit_code"] < 0 or facts["unbroken_exit_code"] < 0:
        print(f"stopped; to continue: python scripts/chaos.py --continue {storage}")
        return UNFINISHED
    for part, name in (("unbroken", "unbroken_exit_code"), ("chaos", "exit_code")):
        if facts[name] != 0:
            print((storage / f"{part}.log").read_text()[-2000:])
    report = [sys.executable, str(SCRIPTS / "chaos_report.py"), str(storage)]
    return subprocess.run([*report, "--kills", str(args.kills)]).returncode


def write(facts: dict[str, Any], storage: Path) -> None:
    (storage / "chaos.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
