"""What a terminal shows while a sweep runs, at its own width."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.live import Live

from sweeps.cli.display import Display
from sweeps.config import SweepConfig
from sweeps.driver.followers import Stage
from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from sweeps.schedulers.asha import ASHA
from tests.conftest import CommandLine
from tests.driver.test_followers import start
from tests.written_sweep import WrittenSweep

ROOT = Path(__file__).parents[2]
SHOW = """
import sys
from pathlib import Path
from sweeps.cli.display import Display
from sweeps.driver.followers import Stage
from sweeps.records.event_log import read_events
from sweeps.report import LogEntry, Steps
from tests.driver.test_followers import start
from tests.written_sweep import WrittenSweep

sweep = WrittenSweep(Path(sys.argv[1]), "bert_yelp-20261122-0741-k3f9")
sweep.begin("t001", 2.73e-5)
sweep.report("t001", 1, 0.5)
sweep.end("t001", "stopped_early")
sweep.begin("t002", 9.27e-5)
sweep.report("t002", 2, 0.75)
sweep.log.close()

display = Display()
display.live(Stage("starting Ray"))
display._live.refresh()
display.begin(start(sweep.folder.path))
for event, _ in read_events(sweep.folder.events_file):
    display.event(event)
entry = LogEntry(step=60, loss=0.41234, learning_rate=2.1e-05)
display.live(
    Steps(trial="t002", step=70, max_steps=80, evaluating=False, rows_per_s=310.4, newest=entry)
)
display._live.refresh()
display.close()
"""


def shown(folder: Path, columns: int) -> list[str]:
    """The lines that a terminal of so many columns gets, without colours and cursor movements."""
    terminal, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    size = ("COLUMNS", "LINES")  # set under pytest-xdist (3.8); they outrank the terminal's own
    others = {name: value for name, value in os.environ.items() if name not in size}
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW, str(folder)],
        stdin=child,
        stdout=child,
        stderr=child,
        cwd=ROOT,
        env=others | {"TERM": "xterm-256color"},
    )
    os.close(child)
    written = b""
    try:
        while part := os.read(terminal, 4096):
            written += part
    except OSError:  # Linux's way to say that nobody writes any more
        pass
    assert process.wait() == 0, written.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
    return re.split(r"[\r\n]+", text)


@pytest.mark.parametrize("columns", [80, 160])
def test_a_terminal_shows_where_each_trial_is_without_a_broken_word(columns: int, tmp_path: Path):
    lines = shown(tmp_path, columns)
    assert max(map(len, lines)) <= columns
    assert "⠋ starting Ray: 0s" in lines
    assert any(line.startswith("t001 stopped early (") for line in lines), (
        "what ended stays on the screen"
    )
    head = max(i for i, line in enumerate(lines) if line.startswith("trial "))
    frame = lines[head + 1 :]
    running, ended, steps, caption = (line.rstrip() for line in frame[:4])
    assert re.match(r"t002 +running +█+░* +88%  0.25 ", running)
    assert ended.startswith("t001   stopped early")
    assert steps == "t002 step 70 of 80 · loss 0.4123 · learning rate 2.1e-05 · 310 rows/s"
    assert caption.startswith("1 of 32 trials · ")
    rest = "total_train_batch_size=32" if columns == 160 else "…"
    assert running.endswith(f" learning_rate=9.27e-05 {rest}")
    assert ended.endswith(f" learning_rate=2.73e-05 {rest}")


def test_a_terminal_says_at_once_what_is_loading(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
):
    """The imports that follow take seconds; from a cold disk, 20."""
    monkeypatch.setattr(Console, "is_terminal", True)
    for verb in ("run", "plan"):
        assert command_line(verb, "bert_yelb").out == "loading bert_yelb\n"
    assert command_line("plan", "bert_yelb", "--json").out == ""


def test_nothing_is_printed_under_the_lock_that_drawing_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Drawing holds rich's lock, which printing takes."""
    printed: list[str] = []
    display = Display()

    def can_draw() -> bool:
        free = display._lock.acquire(blocking=False)
        if free:
            display._lock.release()
        return free

    def say(text: str) -> None:
        assert ThreadPoolExecutor(1).submit(can_draw).result(), text
        printed.append(text)

    def fail() -> None:
        raise ValueError("no forecast")

    monkeypatch.setattr("sweeps.cli.display.say", say)
    monkeypatch.setattr("sweeps.cli.display.WORTH_SAYING_S", 0.0)
    monkeypatch.setattr(Console, "is_terminal", True)
    display._live = Live()  # it is there, and not drawn
    monkeypatch.setattr("sweeps.cli.display.expect", lambda *_: fail())
    display.live(Stage("starting Ray"))
    display.begin(start(tmp_path))
    display.live(Stage("smoke run"))
    measured = {"steps": 8, "step_s": 1.0, "batches": 2, "batch_s": 0.5}
    display.event(ev.SmokeMeasured(metrics={"eval_loss": 1.0}, **measured))
    display.event(ev.SmokeEnded(attempt=1, outcome="done", device_s=1.0))
    assert {"starting Ray took 0s", "smoke run took 0s"} <= set(printed)
    assert any("no forecast" in line for line in printed)
    assert any(line.startswith("smoke run: 1 s per step") for line in printed)


def test_the_live_table_tells_neighbours_apart(tmp_path: Path):
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    for trial, value in (("t001", 0.912346), ("t002", 0.912348)):
        sweep.begin(trial)
        sweep.report(trial, 1, value)
        sweep.end(trial, "finished")
    sweep.log.close()
    display = Display()
    display.begin(start(sweep.folder.path))
    for event, _ in read_events(sweep.folder.events_file):
        display.event(event)
    out = io.StringIO()
    Console(file=out, width=160).print(display._view())
    assert re.findall(r" (0\.087\d+)", out.getvalue())[:2] == ["0.087652", "0.087654"]


@pytest.mark.parametrize(
    ("groups", "batches", "said"),
    [
        (1, 0, "10s, about"),
        (2, 0, "10s if it runs alone, about"),
        (2, 5, "20s if it runs alone, 50% of it for evaluations, about"),
    ],
)
def test_what_the_smoke_run_expects_holds_for_a_trial_alone(
    groups: int, batches: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    printed: list[str] = []
    monkeypatch.setattr("sweeps.cli.display.say", printed.append)
    display, begun = Display(), start(tmp_path)
    display.begin(
        dataclasses.replace(begun, layout=dataclasses.replace(begun.layout, groups=groups))
    )
    evaluations = begun.space.evals_per_trial
    measured = {"steps": 10, "step_s": 1.0, "batches": batches, "batch_s": 2 / evaluations}
    display.event(ev.SweepStarted(sweep="s"))
    display.event(ev.SmokeMeasured(metrics={"eval_loss": 1.0}, **measured))
    display.event(ev.SmokeEnded(attempt=1, outcome="done", device_s=1.0))
    assert f"a complete trial takes about {said}" in printed[-1]


def test_a_trial_with_fewer_steps_than_evaluations_is_forecast_with_the_evaluations_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said = []
    for evaluations in (8, 2):
        printed: list[str] = []
        monkeypatch.setattr("sweeps.cli.display.say", printed.append)
        display, begun = Display(), start(tmp_path)
        space = dataclasses.replace(begun.space, evals_per_trial=evaluations)
        config = SweepConfig(num_trials=20, time_budget=timedelta(hours=2))
        display.begin(
            dataclasses.replace(
                begun, space=space, config=config, new_scheduler=partial(ASHA, space, config)
            )
        )
        assert printed[0].endswith(" 1 worker each, within 2h")
        measured = {"steps": 2, "step_s": 60.0, "batches": 1, "batch_s": 1.0}
        display.event(ev.SweepStarted(sweep="s"))
        display.event(ev.SmokeMeasured(metrics={"eval_loss": 1.0}, **measured))
        display.event(ev.SmokeEnded(attempt=1, outcome="done", device_s=1.0))
        said.append(printed[-1])
    assert said[0] == said[1]


def test_the_live_table_says_why_a_trial_failed(tmp_path: Path):
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.end("t001", "failed", "error", message="ValueError: bad rows")
    sweep.log.close()
    display = Display()
    display.begin(start(sweep.folder.path))
    for event, _ in read_events(sweep.folder.events_file):
        display.event(event)
    out = io.StringIO()
    Console(file=out, width=80).print(display._view())
    assert re.search(r"^t001 +error .* ValueError: bad rows$", out.getvalue(), re.MULTILINE)


def test_time_in_which_nothing_ran_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)  # 10 s later
    sweep.now += 7200
    sweep.put(ev.SweepStarted, sweep=sweep.folder.id)
    sweep.job("t001", attempt=2)
    display = Display()
    display.begin(start(sweep.folder.path))
    for event, _ in read_events(sweep.folder.events_file):
        display.event(event)
    clock = SimpleNamespace(time=lambda: sweep.now + 20)
    monkeypatch.setattr("sweeps.cli.display.time", clock)
    assert display._caption().endswith(" · 30s so far")


def test_trials_that_a_killed_process_left_are_not_shown_as_running(tmp_path: Path):
    """Their time would go on since then: a resume after a night began with `8h so far`."""
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    past = [event for event, _ in read_events(sweep.folder.events_file)]
    display = Display()
    display.begin(dataclasses.replace(start(sweep.folder.path), past=past))

    def view() -> str:
        out = io.StringIO()
        Console(file=out, width=160).print(display._view())
        return out.getvalue()

    assert view().strip() == ""
    display.event(ev.SweepStarted(sweep=sweep.folder.id))
    assert "t001" in view()


def test_a_file_says_each_stage_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    printed: list[str] = []
    monkeypatch.setattr("sweeps.cli.display.say", printed.append)
    monkeypatch.setattr("sweeps.cli.display.WORTH_SAYING_S", 0.0)
    display = Display()
    display.live(Stage("starting Ray"))
    display.live(Stage("starting the workers"))
    display.begin(start(tmp_path))
    assert [line for line in printed if "starting" in line] == [
        "starting Ray",
        "starting the workers",
    ]
