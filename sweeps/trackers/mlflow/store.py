"""The MLflow store: which one a sweep uses, and whether it can be used.

The sweep process checks it before anything starts, and the tracker's process finds it. This module
must not import MLflow, which takes seconds.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sweeps.errors import UserError
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import SweepRecord
from sweeps.secrets import redact

DISK_ERRORS = ("SQLITE_IOERR", "SQLITE_FULL")
"""How the names of SQLite's errors begin that a full disk causes."""
ANSWER_TIMEOUT_S = 5.0
"""Seconds without an answer after which a tracking server counts as down."""


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a `sqlite:///` URI; None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def is_server(uri: str) -> bool:
    """Tell whether the URI is an MLflow server's."""
    return uri.startswith(("http://", "https://"))


def places_of(folder: SweepFolder, record: SweepRecord) -> tuple[str, Path]:
    """Return the URI of a sweep's store, and the folder for artifacts if that is not a server.

    In a storage folder that was moved, this is the store there.
    """
    if folder.storage is not None:
        return record.tracking_uri, Path(record.artifacts)
    here = dataclasses.replace(record.config, storage=str(folder.path.parent))
    return here.mlflow_store, here.mlflow_artifacts


def check_tracking(uri: str) -> None:
    """Check within seconds, and without MLflow, that the store can be used.

    Raises:
        UserError: The store cannot be used; the message says which can.
    """
    scheme = urlsplit(uri).scheme
    if is_server(uri):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme in ("", "file"):
        raise UserError(
            f"tracking URI {uri!r} is a folder, and MLflow no longer writes to file stores. "
            "Migrate it once with\n  mlflow migrate-filestore --source "
            f"{uri.removeprefix('file://')} "
            "--target sqlite:///mlflow.db\nand then pass the database: "
            f"--tracking-uri sqlite:///{Path('mlflow.db').absolute()}"
        )
    else:
        raise UserError(
            f"tracking URI {redact(uri)!r}: sweeps cannot write to a {scheme!r} store. Pass an"
            " SQLite file (sqlite:////absolute/path/mlflow.db) or a server (http://host:port),"
            " which can use any store: mlflow server --backend-store-uri ..."
        )


def _check_sqlite(uri: str) -> None:
    path = sqlite_file(uri)
    if path is None or path.name == "":
        raise UserError(
            f"tracking URI {uri!r} does not name a file; use sqlite:////absolute/path.db"
        )
    if not path.is_absolute():
        raise UserError(
            f"tracking URI {uri!r} depends on the working folder; "
            f"use sqlite:///{path.absolute()} (four slashes)"
        )
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)) as store:
            tables = {name for (name,) in store.execute("select name from sqlite_master")}
    except sqlite3.Error as error:
        # For example, SQLite needs room for the index of a write-ahead log even to read.
        of_disk = getattr(error, "sqlite_errorname", "").startswith(DISK_ERRORS)
        full = "; if its disk is full, free some space" if of_disk else ""
        raise UserError(
            f"tracking URI {uri!r}: SQLite cannot read the file ({error}){full}"
        ) from None
    if "alembic_version" not in tables:
        raise UserError(
            f"tracking URI {uri!r}: the file is a database, but not MLflow's; pass the path of a"
            " new file, which MLflow then creates"
        )
    if not os.access(path, os.W_OK):
        raise UserError(
            f"tracking URI {uri!r}: the file is not writable; change its permissions, or use a"
            " different file"
        )


def _check_server(uri: str) -> None:
    parts = urlsplit(uri)
    shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")
    request = urllib.request.Request(f"{shown}/health", headers=_credentials(parts.netloc))
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as answer:
            problem = (
                None
                if answer.read(64).strip() == b"OK"
                else "does not answer like an MLflow server"
            )
    except urllib.error.HTTPError as error:
        problem = f"answers {error.code} {error.reason}"
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        problem = f"does not answer: {reason}"
    if problem is not None:
        raise UserError(
            f"tracking server {shown} {problem} (GET {shown}/health). Start it, or use another "
            "--tracking-uri; the default is an SQLite file in the storage folder"
        )


def _credentials(netloc: str) -> dict[str, str]:
    """Return the header that MLflow's own client would send."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}" if user else ""
    pair = netloc.rpartition("@")[0] or pair
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"} if pair else {}
