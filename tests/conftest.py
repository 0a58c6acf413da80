"""What all tests share: no network, a Hub cache of their own, one Ray cluster a session."""

import functools
import gc
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

# Before sweeps is imported: OpenMP reads its variable when torch is loaded.
_HOME = tempfile.TemporaryDirectory(prefix="sweeps-tests-")
os.environ |= {
    "HF_HOME": _HOME.name,
    "OMP_NUM_THREADS": "1",  # as Ray gives it to a worker of one CPU
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
os.environ.pop("RAY_ADDRESS", None)

from sweeps.answer.results import Results, read_results  # noqa: E402
from sweeps.config import SweepConfig  # noqa: E402
from sweeps.driver.followers import Follower  # noqa: E402
from sweeps.records.events import Event  # noqa: E402

_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 4 * 2**30:
    # Every event is flushed to disk before anything acts on it; no test cuts the power.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

pytest_plugins = ["tests.written_sweep"]
LOG_LINES, LOG_LINE = 6, 300
"""Lines of each log that a failed test shows, and characters of a line."""
STACK_LINES = 60
"""Lines that it shows of the stacks of a stalled worker."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs of a failed test's sweeps: its folder may be gone by then."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and folder is not None:
        found = [*folder.rglob("events.jsonl"), *folder.rglob("logs/*")]
        for path in sorted(path for path in found if path.is_file()):
            stacks = path.suffix == ".stacks"
            lines = path.read_text(errors="replace").splitlines()
            shown = lines[:STACK_LINES] if stacks else lines[-LOG_LINES:]
            text = "\n".join(line[:LOG_LINE] for line in shown)
            report.sections.append((str(path.relative_to(folder)), text))
    return report


@pytest.fixture(autouse=True)
def forgets_own_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds a module that an earlier one has imported from its own folder."""
    before = set(sys.modules)
    yield
    folders = str(tmp_path_factory.getbasetemp())
    own = []
    for name in set(sys.modules) - before:
        module = vars(sys.modules[name])  # `torch.classes` has every attribute
        places = [module.get("__file__"), *module.get("__path__", ())]
        if any(str(place).startswith(folders) for place in places):
            own.append(name)
    for name in own:
        del sys.modules[name]


SPACES = Path(__file__).parent / "spaces"
TINY = Path(__file__).parents[1] / "sweeps" / "builders" / "tiny"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray for all tests that need one."""
    from sweeps.driver.cluster import connected

    # Two workers and a CPU for Ray Data fit on two cores, too.
    os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": max(3, os.cpu_count() or 1)})
    with connected(None, SPACES, SweepConfig()):
        del os.environ["RAY_OVERRIDE_RESOURCES"]  # other Rays are as large as the machine
        yield


@pytest.fixture
def forks() -> Iterator[dict[str, str]]:
    """Variables with which one sweep on a joined cluster forks its worker processes, too.

    Otherwise each of a dozen imports its libraries, for half a minute of CPU time. Ray passes the
    settings of a submitted job to its driver in this variable, and reads the id of a worker's job
    on import, so a server serves one job (ray 2.60).
    """
    from sweeps.workers.processes.process_server import process_server

    with process_server({}) as python:
        settings = {"runtime_env": {"py_executable": python}}
        yield {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(settings)}


RunSweep = Callable[..., Results]
HOLD_RAY = {"tune", "pump", "group slot", "group watch", "interrupt"}
"""The threads of a sweep process that hold handles of Ray's actors."""


@pytest.fixture
def run_sweep(ray_cluster: None, tmp_path: Path) -> RunSweep:
    """Run a whole sweep on the session's cluster and return its results.

    `on_event` is called with each event, once it is in the log and before anyone acts on it.
    """
    return functools.partial(run_whole_sweep, tmp_path / "results")


def run_whole_sweep(
    storage: Path,
    space: Any,
    assignments: Sequence[str] = (),
    *,
    on_event: Callable[[Event], None] = lambda _: None,
    followers: Sequence[Follower] = (),
    **config: Any,
) -> Results:
    """Run a sweep, by default on one worker group, without a smoke run or trackers."""
    from sweeps.config import SweepConfig
    from sweeps.driver.requests.new_request import make_request
    from sweeps.driver.sweep import run_request
    from sweeps.records.event_log import EventLog

    def log_that_calls(
        path: Path, observers: list[Callable[[Event], None]], again: str
    ) -> EventLog:
        observers.append(on_event)
        return EventLog(path, observers, again)

    plain = {"storage": str(storage), "max_concurrent": 1, "smoke": False, "trackers": ()}
    plain |= {"stall_timeout": timedelta(seconds=150)}  # less than a test has: it writes stacks
    config = plain | config
    request = make_request(space, SweepConfig(**config), assignments=assignments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.driver.sweep.EventLog", log_that_calls)
        folder = run_request(request, followers).folder
    # What they hold of Ray, freed in the middle of `ray.shutdown()`, ends the process.
    assert HOLD_RAY.isdisjoint(thread.name for thread in threading.enumerate())
    return read_results(folder)


UNDISTURBED: dict[str, Any] = {"num_trials": 6, "resume_every": timedelta(0), "seed": 5}
"""The config of `undisturbed_sweep`."""


@pytest.fixture(scope="session")
def undisturbed_sweep(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A sweep over closed-form curves that nothing disturbs."""
    storage = tmp_path_factory.mktemp("undisturbed")
    return run_whole_sweep(storage, str(SPACES / "curves.py"), **UNDISTURBED)


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., Said]


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Run `sweeps ...` in this process: `command_line("results", "bert_yelp", folder=FOLDER)`.

    What needs Ray runs on the session's cluster, where there is one.
    """
    from sweeps.cli.main import main
    from sweeps.driver.caller import as_found

    def run(*words: str, folder: Path = tmp_path) -> Said:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["sweeps", *words])
        capsys.readouterr()
        with as_found(), pytest.raises(SystemExit) as ended:
            main()
        gc.enable()  # verbs leave it as their process ends
        gc.unfreeze()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def tiny_model_without_dropout(tmp_path: Path) -> Path:
    """The shipped tiny model, deterministic in training mode."""
    folder = tmp_path / "tiny-model"
    shutil.copytree(TINY / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
