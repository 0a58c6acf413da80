"""Checks that the workers can see the sweep's folder, and refuses a path that nodes do not share.

Runs in every worker of a group at its start, before its first job. It must not write: a folder
created on the wrong node would hide the mistake. With object storage, every node has its own
folder, which the sweep process deletes at the end.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import ray

from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.object_storage import fetch_code
from sweeps.workers.on_nodes import on_nodes
from sweeps.workers.ranks import of_all_ranks

LOG_BYTES = 2**20
"""Bytes kept from the end of each log on another node."""


def own_folder(folder: SweepFolder) -> SweepFolder:
    """Return the sweep's folder as this worker uses it.

    This is the folder of the sweep process or, on another node with object storage, a folder inside
    the node's temporary folder.

    Raises:
        UserError: See `check_shared`.
    """
    if folder.storage is None:
        check_shared(folder)
    elif not folder.record_file.is_file():
        return dataclasses.replace(folder, path=_elsewhere(folder.id) / folder.id)
    return folder


def own_code(folder: SweepFolder) -> Path:
    """Return the sweep's copy of the user's code as this worker sees it.

    On another node with object storage, each worker fetches a copy.

    Args:
        folder: The result of `own_folder`.
    """
    if folder.storage is None or folder.record_file.is_file():
        return folder.code
    own = dataclasses.replace(folder, path=folder.path.parent / str(os.getpid()) / folder.id)
    fetch_code(own)
    return own.code


def _elsewhere(sweep: str) -> Path:
    return Path(tempfile.gettempdir()) / f"sweeps-{sweep}"


def leave_nodes(folder: SweepFolder) -> None:
    """For a sweep on object storage, fetch the logs of workers on other nodes and delete the rest.

    No trial may be running.
    """
    sweep = folder.id

    def leave() -> dict[str, bytes]:
        there = _elsewhere(sweep)
        logs = [file for file in (there / sweep / folder.logs.name).glob("*") if file.is_file()]
        ends = {file.name: file.read_bytes()[-LOG_BYTES:] for file in logs}
        shutil.rmtree(there, ignore_errors=True)
        return ends

    if folder.storage is None:
        return
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1:
        return
    for logs in on_nodes(leave, nodes).values():
        for name, end in logs.items():
            with suppress(OSError):  # a full disk matters less than why the sweep ended
                (folder.logs / name).write_bytes(end)


def check_shared(folder: SweepFolder) -> None:
    """Check for the file that the sweep process wrote into the folder before it started workers.

    All ranks of a group learn the result, so that none takes a job.

    Raises:
        UserError: A rank cannot see it; names each such node.
    """
    here = [] if folder.record_file.is_file() else [ray.util.get_node_ip_address()]
    nodes = sorted({node for blind in of_all_ranks(here) for node in blind})
    if nodes:
        raise UserError(
            f"--storage {folder.path.parent}: node{'s' * (len(nodes) > 1)} {', '.join(nodes)}"
            f" cannot see this sweep's folder {folder.id} there; use a folder that all nodes share,"
            " or s3://BUCKET/PATH"
        )
