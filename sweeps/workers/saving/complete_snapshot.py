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
from sweeps.workers.saving.host_copies import HostCopies
from sweeps.workers.saving.sharded_states import own_errors, part_files
from sweeps.workers.saving.snapshots import Snapshot
from sweeps.workers.signals import Signals


def complete_snapshot(
    trial: str,
    folder: SweepFolder,
    announce: Callable[[CheckpointSaved], None],
    signals: Signals,
    copies: HostCopies,
    snapshot: Snapshot,
    failed: BaseException | None,
) -> None:
    """Complete a snapshot, with its best model linked from its state; every rank does its part.

    Args:
        trial: Trial id.
        folder: The sweep's folder.
        announce: Called with rank 0's event for each complete checkpoint.
        signals: Receives a sign of life for each.
        copies: What the snapshot's unwritten files are written from.
        snapshot: The snapshot.
        failed: Why an earlier snapshot of this rank has failed; then no rank completes this one.
    """
    number, step = snapshot.number, snapshot.step
    if not snapshot.in_parts:
        copies.write(snapshot.unwritten)
    else:
        _write_parts(folder, copies, snapshot, failed)
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


def _write_parts(
    folder: SweepFolder, copies: HostCopies, snapshot: Snapshot, failed: BaseException | None
) -> None:
    """Write this rank's part of a state; return once all ranks have written theirs.

    If one fails, all do. Ranks other than 0 upload their parts, which rank 0 may not see.
    """
    assert copies.threads is not None
    copies.threads.agree(failed)
    error: Exception | None = None
    try:
        with own_errors():
            copies.write(snapshot.unwritten)
        if (rank := dist.get_rank()) != 0:
            _upload_part(folder, snapshot.paths["state"], rank)
    except Exception as raised:
        error = raised
    copies.threads.agree(error)


def _upload_part(folder: SweepFolder, state: Path, rank: int) -> None:
    own = part_files(state, rank)
    for file in own:
        upload_own_file(folder, file)
    for place in (*{file.parent for file in own}, state):
        with suppress(OSError):  # there are other files in it
            place.rmdir()
