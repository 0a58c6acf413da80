"""A sweep leaves the process of its caller as it found it."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.execution import class_cache

from sweeps.driver.caller import as_found
from sweeps.driver.quiet import quiet
from sweeps.environment import environment
from tests.processes import AGENTS, left_behind, marking

ROOT = Path(__file__).parents[2]


def process_state() -> dict[str, Any]:
    """What a guest may change in a process, and must put back."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        "environment": dict(os.environ),
        "sys.path": list(sys.path),
        "working folder": os.getcwd(),
        "streams": (sys.stdout, sys.stderr),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook),
        "signals": {n: signal.getsignal(n) for n in signal.valid_signals()},
        "faulthandler": faulthandler.is_enabled(),
        "open files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "record factory": logging.getLogRecordFactory(),
        "logging off": logging.root.manager.disable,
        "loggers": {
            each.name: (
                *(each.level, list(each.handlers), list(each.filters)),
                *(each.propagate, each.disabled),
            )
            for each in loggers
            if isinstance(each, logging.Logger)
        },
        "pickled by value": cloudpickle.list_registry_pickle_by_value(),
        "Tune's variables": set(class_cache.ENV_VARS_TO_PROPAGATE),
    }


def changes(before: dict[str, Any]) -> list[str]:
    """What is different now; loggers that were made meanwhile do not count."""
    now = process_state()
    now["loggers"] = {name: now["loggers"][name] for name in before["loggers"]}
    return [
        f"{part}: {before[part]} became {now[part]}" for part in before if before[part] != now[part]
    ]


def disturb(folder: Path) -> None:
    os.environ["RAY_SOMETHING"] = "1"
    os.environ["HOME"] = "/nowhere"
    os.environ.pop("PATH")
    sys.path.insert(0, "/nowhere")
    os.chdir(folder)
    sys.stdout = sys.stderr
    sys.excepthook = threading.excepthook = print  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    warnings.simplefilter("error")
    logging.setLogRecordFactory(lambda *_, **__: None)  # type: ignore[arg-type,return-value]
    logging.disable(logging.ERROR)
    for name in (None, "ray", "sweeps"):
        logger = logging.getLogger(name)
        logger.setLevel(logger.level + 1)
        logger.handlers = [logging.NullHandler()]
        logger.propagate, logger.disabled = not logger.propagate, True
        logger.addFilter(print)
    cloudpickle.register_pickle_by_value(json)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_what_happens_to_the_process_is_undone(tmp_path: Path, error: type[BaseException] | None):
    before = process_state()
    with pytest.raises(error) if error else nullcontext(), as_found():
        disturb(tmp_path)
        untouched = {"faulthandler", "Tune's variables"}
        assert len(changes(before)) == len(before.keys() - untouched)
        if error is not None:
            raise error
    assert changes(before) == []


def test_the_environment_is_put_back_variable_by_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SET_BEFORE", "a")
    monkeypatch.setenv("UNSET_MEANWHILE", "b")
    monkeypatch.delenv("NEW", raising=False)
    with environment({"SET_BEFORE": "1", "NEW": "2", "UNSET_MEANWHILE": None}):
        assert (os.environ["SET_BEFORE"], os.environ["NEW"]) == ("1", "2")
        assert "UNSET_MEANWHILE" not in os.environ
        os.environ["SOMEBODY_ELSES"] = "3"
    assert (os.environ["SET_BEFORE"], os.environ["UNSET_MEANWHILE"]) == ("a", "b")
    assert "NEW" not in os.environ
    assert os.environ.pop("SOMEBODY_ELSES") == "3"


def test_while_ray_is_quiet_the_callers_log_keeps_its_tracebacks_and_the_file_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("HF_TOKEN", "abracadabra-7")
    before = process_state()
    with quiet(tmp_path / "sweep.log"):
        for name in ("theirs", "ray.tune"):
            try:
                raise ValueError("abracadabra-7")
            except ValueError:
                logging.getLogger(name).exception("caught %s", "abracadabra-7")
    assert changes(before) == []
    (theirs,) = caplog.records
    assert theirs.exc_info is not None
    assert theirs.args == ("abracadabra-7",)
    logged = (tmp_path / "sweep.log").read_text()
    assert "ray.tune: caught ***" in logged
    assert logged.endswith("ValueError: ***\n")


def test_what_one_thread_prints_is_not_silenced(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    loud = threading.Thread(target=print, args=("a follower's line",))
    with quiet(tmp_path / "sweep.log", loud):
        loud.start()
        loud.join()
        print("Tune's line")
    assert capsys.readouterr().out == "a follower's line\n"
    assert (tmp_path / "sweep.log").read_text() == "Tune's line\n"


SWEEPS = """
import io, json, logging, sys
from dataclasses import replace
from pathlib import Path

import sweeps
from sweeps.driver.followers import Stage
import sweeps.errors
from tests.driver.test_caller import changes, process_state

class Prints(sweeps.Follower):
    def note(self, text):
        print("note:", text)
    def live(self, state):
        if isinstance(state, Stage):
            print("stage:", state.name)
    def end(self, answer):
        print("end:", answer.status)

stream = io.StringIO()
logging.getLogger().addHandler(logging.StreamHandler(stream))
config = sweeps.SweepConfig(storage=sys.argv[2], num_trials=1, smoke=False, max_failed_trials=1,
                            max_failures=0, max_concurrent=1)
found = {}
sweeps.SearchSpace  # Ray is imported: what that does cannot be undone
before = process_state()
sweep = sweeps.run(sys.argv[1], config, followers=[Prints()])
found["ends well"] = changes(before)
print(sweep.best["trial"])
config = replace(config, trackers=())
try:
    sweeps.run(sys.argv[1], config, ["shape=raises"])
except sweeps.errors.SweepError as error:
    print("raised:", error)
found["fails"] = changes(before)
try:
    sweeps.run("no_such_space", config)
except sweeps.errors.UserError:
    pass
found["never begins"] = changes(before)
try:
    raise ValueError("the user's own")
except ValueError:
    logging.getLogger("theirs").exception("caught")
found["log"] = stream.getvalue().splitlines()[-1]
Path(sys.argv[2], "found.json").write_text(json.dumps(found))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_from_python_leaves_its_process_as_it_was(tmp_path: Path):
    """One that ends well, one that fails and one that never begins; each starts a Ray instance."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEPS, str(ROOT / "tests/spaces/curves.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=marking(tmp_path),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == {
        **{"ends well": [], "fails": [], "never begins": []},
        "log": "ValueError: the user's own",
    }
    printed = done.stdout.splitlines()
    assert printed[:3] == ["stage: starting Ray", *printed[1:3]]
    assert "end: finished" in printed
    assert printed[printed.index("end: finished") + 1] == "t001"
    assert any("t001 failed (error)" in line for line in printed), "the default prints"
    bug = "rank 0: ValueError: the curve of height 0.5 raises"
    assert any(line.startswith("raised: ") and line.endswith(bug) for line in printed)
    assert left_behind(tmp_path, AGENTS) == []
