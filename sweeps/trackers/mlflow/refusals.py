"""What an error of MLflow's client means: the store is unavailable, or it rejects something.

Used by the tracker's process. It must not know what was being written.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from sweeps.trackers.mlflow.store import is_server

STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
"""What MLflow's client raises; the errors of `requests` are OSErrors."""
BUSY = {
    "TEMPORARILY_UNAVAILABLE",  # also a locked file or a full disk
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
}
BUSY_STATUS = {408, 429}
LOCKED_OUT = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
REFUSED_FILES = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
    *(errno.EEXIST, errno.ENAMETOOLONG),
}


def is_absent(error: Exception, uri: str) -> bool:
    """Tell whether the same call may succeed later: the store is unreachable or busy.

    Args:
        error: One of `STORE_ERRORS`, or a missing package.
        uri: The store.
    """
    if isinstance(error, MlflowException):
        if error.error_code != "INTERNAL_ERROR":
            return error.error_code in BUSY
        # Raised in this process, or answered by MLflow itself: the request is at fault. Otherwise
        # there was no answer, or one from a proxy, whose status is only in the text (mlflow
        # 3.17.2).
        status = re.search(r"failed with error code (\d+)", str(error))
        answered = not is_server(uri) or (
            isinstance(error, RestException) and "error_code" in error.json
        )
        return not answered and (status is None or _may_pass(int(status[1])))
    if isinstance(error, SQLAlchemyError):
        return isinstance(error, OperationalError)
    if not isinstance(error, OSError):
        return False
    response = getattr(error, "response", None)  # set by `requests`, for an artifact store
    return error.errno not in REFUSED_FILES if response is None else _may_pass(response.status_code)


def is_refusal(error: Exception, uri: str) -> bool:
    """Tell whether MLflow rejects only this request, and is otherwise available and writable."""
    locked_out = isinstance(error, MlflowException) and error.error_code in LOCKED_OUT
    return not locked_out and not is_absent(error, uri)


def _may_pass(status: int) -> bool:
    return status >= 500 or status in BUSY_STATUS


@contextmanager
def store_of_files() -> Iterator[None]:
    """Raise an artifact store's error as one of the client's; the store may be a plug-in.

    Raises:
        OSError: An unknown error; the store may be unavailable.
    """
    try:
        yield
    except (*STORE_ERRORS, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
