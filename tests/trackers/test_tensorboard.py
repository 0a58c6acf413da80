"""TensorBoard's event files, read back record by record."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.record_writer import masked_crc32c

from sweeps.records import events as ev
from sweeps.records.event_log import read_events
from tests.written_sweep import WrittenSweep, four_trials, wait_for

Points = list[tuple[int, float]]


def records(path: Path) -> Iterator[Event]:
    """Yield the records of an event file; each has its length and two checksums."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        header = data[at : at + 8]
        (length,) = struct.unpack("<Q", header)
        content = data[at + 12 : at + 12 + length]
        assert struct.unpack("<I", data[at + 8 : at + 12]) == (masked_crc32c(header),)
        assert struct.unpack("<I", data[at + 12 + length :][:4]) == (masked_crc32c(content),)
        yield Event.FromString(content)
        at += 16 + length


def events_of(sweep: WrittenSweep, run: str) -> list[Event]:
    """Return the records of a run's files, in TensorBoard's order."""
    files = sorted((sweep.folder.path / "tensorboard" / run).glob("*tfevents*"))
    found = [event for file in files for event in records(file)]
    assert all(next(records(file)).file_version == "brain.Event:2" for file in files)
    return [event for event in found if event.HasField("summary")]


def scalars(sweep: WrittenSweep, run: str, tag: str) -> Points:
    return [
        (event.step, pytest.approx(value.simple_value))
        for event in events_of(sweep, run)
        for value in event.summary.value
        if value.tag == tag
    ]


def sessions(sweep: WrittenSweep, run: str) -> list[Any]:
    """Return what the HPARAMS tab reads of a trial: its params, and how it ended."""
    return [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events_of(sweep, run)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> WrittenSweep:
    """A sweep of four trials written from its first event to its end."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "weights").mkdir()
    sweep = four_trials(folder, folder / "weights")
    assert sweep.write("tensorboard") is None, sweep.log_of("tensorboard")
    return sweep


def test_every_value_has_its_step_and_its_time(whole: WrittenSweep) -> None:
    accuracies = [(20, 0.51), (40, 0.52), (60, 0.53), (80, 0.54)]
    assert scalars(whole, "t001", "eval_accuracy") == accuracies
    assert scalars(whole, "t001", "loss") == [(step, 2 / step) for step in range(10, 90, 10)]
    assert scalars(whole, "t002", "best_eval_accuracy") == [(20, 0.7), (40, 0.9)]
    best = [0.51, 0.52, 0.53, 0.54, 0.7, 0.9]
    assert scalars(whole, "", "best_eval_accuracy") == list(enumerate(best, 1))
    reported = [
        event.time
        for event, _ in read_events(whole.folder.events_file)
        if isinstance(event, ev.Reported) and event.report.trial == "t001"
    ]
    times = [
        event.wall_time
        for event in events_of(whole, "t001")
        if event.summary.value[0].tag == "eval_accuracy"
    ]
    assert times == reported
    losses = [e.wall_time for e in events_of(whole, "t001") if e.summary.value[0].tag == "loss"]
    assert [later - sooner for sooner, later in pairwise(losses)] == [5.0] * 7


def test_a_trial_is_a_session_of_the_hparams_tab(whole: WrittenSweep) -> None:
    start, end = sessions(whole, "t002")
    params = start.session_start_info.hparams
    assert {name: params[name].number_value for name in params} == {
        "learning_rate": 9e-5,
        "total_train_batch_size": 32,
    }
    assert end.session_end_info.status == 1, "STATUS_SUCCESS"
    assert end.session_end_info.end_time_secs > start.session_start_info.start_time_secs
    _, failed = sessions(whole, "t003")
    assert failed.session_end_info.status == 2, "STATUS_FAILURE"


def test_the_answer_is_a_text_of_the_sweep(whole: WrittenSweep) -> None:
    [text] = [
        value.tensor.string_val[0].decode()
        for event in events_of(whole, "")
        for value in event.summary.value
        if value.tag == "answer/text_summary"
    ]
    assert text.startswith("**Best trial: t002** with `eval_accuracy` **0.9**")


def test_what_is_not_a_number_is_left_out_and_counted(whole: WrittenSweep) -> None:
    assert scalars(whole, "t004", "eval_loss") == []
    assert scalars(whole, "t004", "nonfinite") == [(20, 1.0)]


def test_metrics_with_similar_names_stay_apart(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "it's 100%-20261122-0741-k3f9", metric="eval_precision@5")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5, metrics={"eval_precision@5": 0.5, "eval_precision_5": 0.25})
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert sweep.write("tensorboard") is None
    assert scalars(sweep, "t001", "eval_precision@5") == [(20, 0.5)]
    assert scalars(sweep, "t001", "eval_precision_5") == [(20, 0.25)]
    assert scalars(sweep, "", "best_eval_precision@5") == [(1, 0.5)]


def test_a_paused_trial_holds_no_file_open_and_goes_on_in_another(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    feed = sweep.feed("tensorboard")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    feed.advance()
    sweep.pause("t001", 1)
    feed.advance()
    below = str(sweep.folder.path / "tensorboard" / "t001")
    assert [file for file in psutil.Process().open_files() if file.path.startswith(below)] == []
    sweep.put(ev.TrialResumed, trial="t001")
    sweep.job("t001", attempt=2)
    sweep.report("t001", 2, 0.6)
    sweep.end("t001", "finished", attempt=2)
    sweep.end_sweep()
    feed.advance()
    assert scalars(sweep, "t001", "eval_accuracy") == [(20, 0.5), (40, 0.6)]
    assert len(sessions(sweep, "t001")) == 2


def test_a_trial_that_has_ended_holds_no_file_open_when_its_rank_changes(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    feed = sweep.feed("tensorboard")
    for number in range(1, 9):
        trial = f"t{number:03}"
        sweep.begin(trial)
        sweep.report(trial, 1, 0.5 + number / 100)
        sweep.end(trial, "finished")
        feed.advance()
    below = sweep.folder.path / "tensorboard"
    is_open = [Path(file.path).parent.name for file in psutil.Process().open_files()]
    assert [name for name in is_open if name.startswith("t0")] == []
    assert len([*below.glob("t0*/*")]) == 8


def test_a_resumed_sweep_has_each_value_once(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.5)
    sweep.log.close()
    assert sweep.write("tensorboard") is None
    assert [s.session_end_info.status for s in sessions(sweep, "t001")[1:]] == [0]
    sweep.reopen()
    sweep.job("t001", attempt=2)
    sweep.report("t001", 2, 0.6)
    sweep.end("t001", "finished", attempt=2)
    sweep.end_sweep()
    assert sweep.write("tensorboard") is None
    assert scalars(sweep, "t001", "eval_accuracy") == [(20, 0.5), (40, 0.6)]
    assert [s.session_end_info.status for s in sessions(sweep, "t001")[1:]] == [1]


def test_a_killed_process_is_restarted_and_doubles_nothing(tmp_path: Path) -> None:
    sweep = WrittenSweep(tmp_path, "bert_yelp-20261122-0741-k3f9")
    tracker = sweep.start("tensorboard")
    sweep.begin("t001")
    sweep.report("t001", 1, 0.51)
    state = sweep.folder.trackers / "tensorboard.json"
    wait_for(lambda: state.exists() and scalars(sweep, "t001", "eval_accuracy"))
    first = tracker.process.pid
    os.kill(first, signal.SIGTERM)  # as batch systems do, to every process
    sweep.report("t001", 2, 0.52)
    wait_for(lambda: scalars(sweep, "t001", "eval_accuracy")[1:])
    assert tracker.process.pid == first
    assert str(tracker.finish(0.01)) == (
        "tensorboard has not received the end of the sweep yet. Its process keeps trying for up"
        f" to 10 minutes (see {sweep.folder.logs / 'tensorboard.log'}). If anything is still"
        " missing after that, run: python -m sweeps.trackers.follow tensorboard"
        f" {sweep.folder.path}"
    )
    os.kill(first, signal.SIGKILL)
    sweep.report("t001", 3, 0.53)
    sweep.end("t001", "finished")
    sweep.end_sweep()
    assert tracker.finish(60) is None, sweep.log_of("tensorboard")
    assert tracker.process.pid != first
    assert scalars(sweep, "t001", "eval_accuracy") == [(20, 0.51), (40, 0.52), (60, 0.53)]
    assert scalars(sweep, "", "best_eval_accuracy")[-1] == (3, 0.53)
