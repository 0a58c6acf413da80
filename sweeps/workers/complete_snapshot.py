"""Completes what HF has saved: writes it, flushes it, marks it, uploads it, and announces it.

Runs in a worker, in the thread of `snapshots`. It must not know why something was saved.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch.distributed as dist

from sweeps.records.checkpoints import finish_checkpoint, link_best
from sweeps.records.events import CheckpointSaved
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import upload_checkpoint, upload_own_file
from sweeps.workers.host_copies import HostCopies
from sweeps.workers.sharded_states import part_files
from sweeps.workers.snapshots import Snapshot
from sweeps.workers.watch import Signals


def complete_snapshot(
    trial: str,
    folder: SweepFolder,
    announce: Callable[[CheckpointSaved], None],
    signals: Signals,
    copies: HostCopies,
    snapshot: Snapshot,
) -> None:
    """Complete a snapshot, with its best model linked from its state; every rank does its part.

    Args:
        trial: Trial id.
        folder: The sweep's folder.
        announce: Called with rank 0's event for each complete checkpoint.
        signals: Receives a sign of life for each.
        copies: What the snapshot's unwritten files are written from.
        snapshot: The snapshot.
    """
    number, step = snapshot.number, snapshot.step
    copies.write(snapshot.unwritten)
    if snapshot.in_parts:
        _finish_parts(folder, snapshot.paths["state"], copies)
        if dist.get_rank() != 0:
            return
        assert "best" not in snapshot.paths, "parts are no model"
    if snapshot.paths.keys() == {"best", "state"}:
        link_best(snapshot.paths["state"], snapshot.paths["best"])
    sha256 = None
    for kind, path in snapshot.paths.items():
        sha256 = finish_checkpoint(path, trial=trial, number=number, step=step, sha256=sha256)
        upload_checkpoint(folder, path, part_files(path) - part_files(path, 0))
        announce(
            CheckpointSaved(
                trial=trial,
                number=number,
                kind=kind,
                path=str(path.relative_to(folder.path)),
                sha256=sha256,
            )
        )
        signals.alive()  # the job may be waiting only for this


def _finish_parts(folder: SweepFolder, state: Path, copies: HostCopies) -> None:
    """Wait until all ranks have written their parts of a state.

    Ranks other than 0 upload theirs, which rank 0 may not see.
    """
    assert copies.threads is not None
    if (rank := dist.get_rank()) != 0:
        own = part_files(state, rank)
        for file in own:
            upload_own_file(folder, file)
        for place in (*{file.parent for file in own}, state):
            with suppress(OSError):  # there are other files in it
                place.rmdir()
    copies.threads.wait()
