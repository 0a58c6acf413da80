"""The SQLite file behind an MLflow store: created whole, and found again in a moved folder.

Runs in the tracker's process; `ui` also calls `follow_move`. It must not know what is written into
the store.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import pickle
import sqlite3
import traceback
from contextlib import closing
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sweeps.config import ARTIFACTS
from sweeps.durable import put_in_place
from sweeps.errors import SweepError
from sweeps.trackers.mlflow.store import sqlite_file

PATHS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""The column of each of MLflow's tables with the path of its artifacts."""
NETWORK_DISKS = {"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "9p", "afs"}

logger = logging.getLogger(__name__)


def make_store(uri: str) -> None:
    """Create the SQLite file if it is missing, even if several processes try at once.

    A kill in the middle of MLflow's migrations leaves a file that never opens again (3.17.2), and
    two processes migrating one file break each other: so it is created under another name, under a
    lock, and renamed once it is complete. This takes 2 s of CPU time.

    Raises:
        SweepError: The process that creates the file was killed.
        MlflowException: MLflow cannot create it.
        ImportError: MLflow lacks a package.
    """
    path = sqlite_file(uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        for remains in path.parent.glob(f"{path.name}.init-*"):
            remains.unlink()
        aside = path.with_name(f"{path.name}.init-{os.getpid()}")
        # Before the fork, so that the child need not import it, too.
        import_module("mlflow.store.tracking.sqlalchemy_store")
        # In a child process: its connections, and the 20 MB that migrating takes, end with it.
        # It does not wait for further work, since it shares the lock: if this process is killed, it
        # must end by itself.
        here, there = multiprocessing.Pipe(duplex=False)
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=_migrate_and_answer, args=(aside, here, there))
        child.start()
        there.close()
        try:
            problem = here.recv()
        except EOFError:
            raise SweepError(
                f"the process creating MLflow's database was killed, so {path} does not exist yet"
            ) from None
        finally:
            child.join()
        if problem is not None:
            raise problem
        with closing(sqlite3.connect(aside)) as store:
            if not on_network_disk(path):  # WAL needs memory that all readers share
                store.execute("pragma journal_mode=wal")
                store.execute("pragma wal_checkpoint(truncate)")
        for suffix in ("-wal", "-shm"):
            aside.with_name(aside.name + suffix).unlink(missing_ok=True)
        put_in_place(aside, path)
    logger.info("created %s", path)


def follow_move(uri: str, storage: Path) -> None:
    """Let the store of a storage folder that was moved or copied find the artifacts beside it.

    MLflow records absolute paths, and has no command that changes them (3.17.2). An experiment
    whose artifacts are only at the recorded path keeps it.

    Raises:
        SweepError: The store is busy.
    """
    path = sqlite_file(uri)
    if path is None or path.parent.resolve() != storage.resolve():
        return
    try:
        with closing(sqlite3.connect(path, timeout=60)) as store, store:
            found = store.execute("select name, artifact_location from experiments").fetchall()
            for name, recorded in found:
                before = Path(url2pathname(urlsplit(recorded).path))
                here = path.parent / ARTIFACTS / before.name
                ours = recorded.startswith("file:") and before.parent.name == ARTIFACTS
                if not ours or before == here or (before.exists() and not here.exists()):
                    continue
                for table, column in PATHS.items():
                    store.execute(
                        f"update {table} set {column} = ? || substr({column}, ?)"
                        f" where substr({column} || '/', 1, ?) = ?",
                        (here.as_uri(), len(recorded) + 1, len(recorded) + 1, f"{recorded}/"),
                    )
                logger.info("the artifacts of %s are now in %s", name, here)
    except sqlite3.OperationalError as error:
        raise SweepError(f"{uri}: {error}") from error


def _migrate(path: Path) -> None:
    """Let MLflow create its tables in a new file."""
    from mlflow import MlflowClient

    os.chdir(path.parent)  # MLflow's own experiment "Default" keeps its artifacts under it
    MlflowClient(f"sqlite:///{path}").search_experiments(max_results=1)


def _migrate_and_answer(path: Path, parents_end: Connection, answer: Connection) -> None:
    """Let MLflow create its tables, and send what was raised, or None."""
    parents_end.close()  # so that sending fails, rather than waits, if the parent is gone
    try:
        _migrate(path)
    except Exception as error:
        error.add_note(traceback.format_exc())
        answer.send(_as_sent(error))
    else:
        answer.send(None)


def _as_sent(error: Exception) -> Exception:
    """Return an error that another process can receive: itself, or one with its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return SweepError(f"{type(error).__name__}: {error}")
    return error


def on_network_disk(path: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Tell whether the file's folder is on a network disk; False if mounts cannot be read."""
    if not mounts.exists():
        return False
    folders = {str(folder) for folder in path.absolute().parents}
    kinds = {
        fields[1]: fields[2]
        for fields in map(str.split, mounts.read_text().splitlines())
        if fields[1] in folders
    }
    nearest = max(kinds, key=len, default=None)
    return nearest is not None and kinds[nearest] in NETWORK_DISKS
