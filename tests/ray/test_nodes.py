"""Sweeps on a cluster of several nodes, asked for as a user does, in processes of their own.

All nodes stand on this machine; the cluster asks for a token, as Ray's own do by default.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.results import Results, read_results
from sweeps.driver.local_ray import NO_SPARES
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.records.folder import find_sweep
from tests.conftest import LOG_LINES, SPACES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
SPREAD = SPACES / "spread.py"
PASSED_ON = {"HF_SWEEPS_TEST": "passed on"}
PATH = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
"""Where the command `ray` is."""
BUSY_MACHINE = {"RAY_worker_niceness": "0", "RAY_worker_register_timeout_seconds": "300"}
"""Ray (2.60) gives its workers a low priority (15) and a minute to register; then it kills them and
starts others. Other tests may keep these cores busy for longer."""
COMMAND_S = 540
"""Less than a test has: a command that hangs shows what was logged."""
STEPS = 3000
"""Of a trial that is told in the middle of them to save: seconds from there to its end."""


@dataclass
class Nodes:
    """A head without CPUs and two nodes of one CPU each."""

    address: str
    dashboard: str
    newest: str | None
    """Id of the newest node; None: it is removed."""
    variables: dict[str, str]
    """What a process needs to find the cluster and to be let in."""
    process: subprocess.Popen[str]

    def command(self, folder: Path, *words: str, **variables: str) -> None:
        """Run a command in a folder, which must succeed."""
        done = subprocess.Popen(
            words,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **self.variables, **variables},
        )
        try:
            said, _ = done.communicate(timeout=COMMAND_S)
        except subprocess.TimeoutExpired:
            done.kill()
            said, _ = done.communicate()
        assert done.returncode == 0, "\n".join([said, *self._logged()])

    def _logged(self) -> Iterator[str]:
        """Yield what Ray's nodes and processes logged last; their folder is gone after the test."""
        for log in sorted(Path(self.variables["RAY_TMPDIR"]).glob("**/session_2*/logs/*.*")):
            lines = log.read_text(errors="replace").splitlines()
            if lines and ("raylet" in log.name or log.suffix == ".err"):
                yield "\n".join([f"--- {log}", *lines[-LOG_LINES:]])

    def remove(self) -> None:
        """Kill the newest node."""
        assert self._ask("remove") == "removed"
        self.newest = None

    def replace(self) -> None:
        """Have another node in place of the newest one."""
        if self.newest is not None:
            self.remove()
        self.newest = self._ask("add")

    def _ask(self, what: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    # Ray's own temporary folder, with the note of the cluster that runs here; its sockets need a
    # short path.
    with tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as scratch:
        variables = {
            "RAY_TMPDIR": scratch,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            **NO_SPARES,
            **BUSY_MACHINE,
        }
        cluster = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("several_nodes.py"), scratch, "0", "1", "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        try:
            address, dashboard, newest = cluster.stdout.readline().split()
            yield Nodes(address, dashboard, newest, variables, cluster)
        finally:
            cluster.communicate()  # its input ends, and so does it


@pytest.fixture
def nodes_to_lose(nodes: Nodes) -> Iterator[Nodes]:
    yield nodes
    nodes.replace()


def results(storage: Path) -> Results:
    return read_results(find_sweep(storage, "spread"))


def nodes_a_group(found: Results) -> set[Any]:
    """What each report says: on how many nodes its group stands."""
    return {r.metrics["eval_nodes"] for t in found.history.trials.values() for r in t.reports}


def test_a_submitted_job_may_bring_a_folder_and_variables_and_its_group_spreads_over_the_nodes(
    nodes: Nodes, tmp_path: Path
):
    job = tmp_path / "job"
    job.mkdir()
    for name in ("spread.py", "curves.py"):
        shutil.copy(SPACES / name, job)
    nodes.command(
        tmp_path,
        *("ray", "job", "submit", "--address", f"http://{nodes.dashboard}"),
        *("--working-dir", "job", "--runtime-env-json", json.dumps({"env_vars": PASSED_ON}), "--"),
        *(sys.executable, "-m", "sweeps", "run", "spread.py"),
        *("--workers-per-trial", "2", "--num-trials", "1", "--storage", str(tmp_path / "there")),
        *("--tracker", "tensorboard"),
        **PATH,
    )
    found = results(tmp_path / "there")
    assert [trial.status for trial in found.history.trials.values()] == ["finished"]
    assert nodes_a_group(found) == {2}


@contextmanager
def in_mid_trial(
    nodes: Nodes, folder: Path, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A sweep with a trial on each of two nodes, held in the middle, and the pipe that holds.

    Each trial fails where its node lacks the helper module or the variable.
    """
    hold = folder / "hold"
    os.mkfifo(hold)
    sweep = subprocess.Popen(
        [
            *(sys.executable, "-m", "sweeps", "run", str(SPREAD), "--scheduler", "fifo"),
            *("--address", "auto", "--num-trials", "2"),
            *("--no-smoke", "--tracker", "tensorboard"),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            **nodes.variables,
            **PASSED_ON,
            **variables,
            "HF_SWEEPS_HOLD": str(hold),
        },
    )
    assert sweep.stdout is not None
    try:
        said, half_way = [], set()
        while len(half_way) < 2:
            line = sweep.stdout.readline()
            assert line, "the sweep has ended"
            said.append(line)
            if " 50% " in line:
                half_way.add(line.split()[0])
        # The true address: Train's placement-group cleaner must be given it.
        assert f"connecting to Ray at {nodes.address}\n" in said
        yield sweep, hold
    finally:
        sweep.kill()
        sweep.wait()


def says(sweep: subprocess.Popen[str], words: str) -> None:
    """Wait until the sweep has printed something."""
    assert sweep.stdout is not None
    assert any(words in line for line in sweep.stdout), "the sweep has ended"


def let_go(sweep: subprocess.Popen[str], hold: Path) -> Results:
    """Let a sweep go on to its end."""
    writer = os.open(hold, os.O_RDWR)
    rest, _ = sweep.communicate()
    os.close(writer)
    assert sweep.returncode == 0, rest
    found = results(hold.parent / "results")
    assert found.status == "finished"
    assert {trial.status for trial in found.history.trials.values()} == {"finished"}
    return found


def outcomes(found: Results) -> list[list[str]]:
    return sorted([a.outcome for a in trial.attempts] for trial in found.history.trials.values())


def test_a_node_that_is_lost_in_mid_trial_costs_its_trial_nothing_but_another_attempt(
    nodes_to_lose: Nodes, forks: dict[str, str], tmp_path: Path
):
    with in_mid_trial(nodes_to_lose, tmp_path, **forks) as (sweep, hold):
        nodes_to_lose.remove()
        says(sweep, " attempt 1 preempted")
        found = let_go(sweep, hold)
    assert outcomes(found) == [["done"], ["preempted", "done"]]


def test_a_trial_on_a_node_that_will_go_saves_between_evaluations_and_goes_on_elsewhere(
    nodes_to_lose: Nodes, forks: dict[str, str], tmp_path: Path
):
    variables = {"HF_SWEEPS_STEPS": str(STEPS), **forks}
    with in_mid_trial(nodes_to_lose, tmp_path, **variables) as (sweep, hold):
        nodes_to_lose.command(
            tmp_path,
            *("ray", "drain-node", "--address", nodes_to_lose.address),
            *("--node-id", str(nodes_to_lose.newest), "--deadline-remaining-seconds", "300"),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"),
            **PATH,
        )
        says(sweep, "1 worker group on draining nodes")
        found = let_go(sweep, hold)
    assert outcomes(found) == [["done"], ["preempted", "done"]]
    [saved] = [
        event
        for event, _ in read_events(found.folder.events_file)
        if isinstance(event, ev.CheckpointSaved) and event.kind == "state"
    ]
    moved = found.history.trials[saved.trial]
    assert [attempt.outcome for attempt in moved.attempts] == ["preempted", "done"]
    step = int(saved.path.rpartition("-")[2])
    assert STEPS / 2 < step < STEPS
    assert moved.reports[-1].metrics["eval_steps_here"] == STEPS - step
