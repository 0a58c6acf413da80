"""The tracker that writes TensorBoard's event files.

They are below `tensorboard/` in the sweep's folder (`tensorboard --logdir` takes it): one folder
for each trial, with its scalars and its params for the HPARAMS tab; the sweep's own values and its
answer are in the folder above. Runs in the tracker's process, which alone imports
tensorboardX. It must not know events: it gets updates and the answer.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweeps.answer.answer import Answer
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.trackers.base import SWEEP, RunStatus, RunUpdate, Tracker
from sweeps.trackers.note import note
from sweeps.trackers.state import TrackerState

FOLDER = "tensorboard"
"""Below the sweep's folder."""
ENDS: dict[RunStatus, str] = {
    "finished": "STATUS_SUCCESS",
    "failed": "STATUS_FAILURE",
    "interrupted": "STATUS_UNKNOWN",
}
"""The HPARAMS tab's word for how a trial ended."""


class TensorBoardTracker(Tracker):
    """See `Tracker`. Event files only grow, so each new tracker rewrites all of them."""

    unused = ("torch",)
    """It would take 300 MB and 3 s."""

    def __init__(self, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> None:
        self._tuned: Mapping[str, str] = record.space.domains
        self._root = folder.path / FOLDER
        self._open: dict[str, _EventFile] = {}
        self._opened = 0
        self._state = state
        shutil.rmtree(self._root, ignore_errors=True)
        state.offset = 0

    @classmethod
    def has_lost(cls, folder: SweepFolder, record: SweepRecord, state: TrackerState) -> bool:
        """Tell whether the number of event files has changed."""
        written = len(list((folder.path / FOLDER).rglob("events.out.*")))
        return written != state.own.get("files")

    def write(self, updates: Sequence[RunUpdate]) -> None:
        """Append what is new; close the file of a trial that has ended or paused."""
        for update in updates:
            if not (update.points or update.params or update.status):
                continue  # only tags, which TensorBoard does not have
            file = self._file(update.key)
            tuned = {name: update.params[name] for name in self._tuned if name in update.params}
            if tuned:
                file.add(_session_start(tuned, update.new.started), update.new.started)
            for point in update.points:
                file.add(_scalar(point.name, point.value), point.time, point.step)
            if update.key != SWEEP and update.status in ENDS and update.ended is not None:
                file.add(_session_end(ENDS[update.status], update.ended), update.ended)
                self._open.pop(update.key).close()
            elif update.tags.get("sweep.status") == "paused":
                self._open.pop(update.key).close()
            else:
                file.flush()

    def close(self, answer: Answer) -> None:
        """Write the answer as a text, and close all files."""
        self._file(SWEEP).add(_text("answer", note(answer, self._tuned)), time.time())
        while self._open:
            self._open.popitem()[1].close()
        self._state.own["files"] = self._opened

    def _file(self, key: str) -> _EventFile:
        """Return a run's open event file; TensorBoard reads several files in name order."""
        if key not in self._open:
            self._opened += 1
            name = f"events.out.tfevents.{int(time.time())}.sweeps.{self._opened:06}"
            self._open[key] = _EventFile(self._root / key / name)
        return self._open[key]


class _EventFile:
    """A file of TensorBoard's `Event` records."""

    def __init__(self, path: Path) -> None:
        from tensorboardX import RecordWriter

        path.parent.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter(str(path))
        self._put(wall_time=time.time(), file_version="brain.Event:2")

    def add(self, summary: Any, at: float, step: int = 0) -> None:
        """Append a summary with its Unix time in seconds."""
        self._put(wall_time=at, step=step, summary=summary)

    def _put(self, **fields: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(**fields).SerializeToString())

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.flush()
        self._records.close()


def _scalar(name: str, value: float) -> Any:
    """Return a summary with the unchanged name: tensorboardX itself would merge similar names."""
    from tensorboardX.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value)])


def _text(tag: str, markdown: str) -> Any:
    from tensorboardX.summary import text

    return text(tag, markdown)


def _session_start(params: Mapping[str, Any], started: float) -> Any:
    """Return the params of a trial; TensorBoard builds the table from all trials' params."""
    from tensorboardX.proto.plugin_hparams_pb2 import SessionStartInfo

    info = SessionStartInfo(start_time_secs=started)
    for name, value in params.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[name].number_value = value
        else:
            info.hparams[name].string_value = str(value)
    return _hparams("session_start_info", info)


def _session_end(status: str, ended: float) -> Any:
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import SessionEndInfo

    info = SessionEndInfo(status=Status.Value(status), end_time_secs=ended)
    return _hparams("session_end_info", info)


def _hparams(kind: str, info: Any) -> Any:
    """Return a summary for the HPARAMS plugin, whose data is in the metadata (version 0)."""
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

    content = HParamsPluginData(version=0, **{kind: info}).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    metadata = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag=f"_hparams_/{kind}", metadata=metadata)])
