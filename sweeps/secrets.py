"""What is secret in this process, and how it is kept out of all that a sweep writes and prints.

Used in every process of ours. It must not know what a text is for, nor import anything heavy.

Secret are: the values of environment variables that are named like a secret (`SECRET_NAME`: a
token, password, secret or key, anywhere in the name, unless the name ends in `_FILE`,
`_PATH` or the like), of 8 characters or more; user and password inside a URI, wherever it stands;
and what looks like a Hugging Face token or an AWS key id, wherever it comes from. User names,
regions, profiles and endpoints are not.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from sweeps.errors import UserError

SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY"
    r"|ACCOUNT_KEY|CONNECTION_STRING)(?:_|$)(?!(?:.*_)?(?:FILE|PATH|DIR|URL|URI|NAME)$)",
    re.IGNORECASE,
)
"""Of an environment variable: `HF_TOKEN`, `AWS_SECRET_ACCESS_KEY`, `MLFLOW_TRACKING_PASSWORD`."""
SHORTEST = 8
"""Characters of the shortest value that is hidden: a shorter one would occur in other words."""
NEEDED_WITH = ("AWS_", "MLFLOW_TRACKING_USERNAME")
"""Beginnings of variables that are no secrets, but go to workers with those that are."""
HIDDEN = "***"
IN_A_URI = re.compile(r"(?<=://)[^/?#\s'\"]+(?=@)")
SHAPES = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
"""A Hugging Face token, which may come from a file, and an AWS key id."""
PLACES = {
    "http": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
}
"""By scheme: the variables for user and password of a URI, and the one that would outdo them."""

_seen: dict[str, str] = {}
"""Every spelling of every secret that this process ever had: it stays one when a variable goes."""


def is_secret(name: str, value: str) -> bool:
    """Tell whether an environment variable must not appear in any log."""
    return bool(SECRET_NAME.search(name) or IN_A_URI.search(value))


def for_workers(others: tuple[str, ...]) -> dict[str, str]:
    """Return the environment variables that workers need and Ray's runtime environment logs.

    Args:
        others: Beginnings of variables that workers get anyway: those with credentials in a URI.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name)
        or name.startswith(NEEDED_WITH)
        or (name.startswith(others) and is_secret(name, value))
    }


def take_credentials(uri: str) -> str:
    """Return the URI without user and password, which go to this process's environment.

    Of an `http(s)` URI to MLflow's variables, of an `s3` one to AWS's, where both libraries and
    the workers find them.

    Raises:
        UserError: They are not whole.
    """
    parts = urlsplit(uri)
    scheme = "http" if parts.scheme == "https" else parts.scheme
    if scheme not in PLACES:
        return uri
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        if scheme == "s3" and ":" in host:
            raise UserError("s3://KEY:SECRET@BUCKET: write a / in the secret as %2F")
        return uri
    user, _, password = map(unquote, credentials.partition(":"))
    clean = urlunsplit(parts._replace(netloc=host))
    if not user or not password:
        raise UserError(f"{redact(uri)}: a URI with credentials needs both, USER:PASSWORD@HOST")
    os.environ.update(zip(PLACES[scheme], (user, password), strict=False))
    os.environ.pop(PLACES[scheme][2], None)
    return clean


def redact(text: str) -> str:
    """Return the text with `***` for every secret in it."""
    return _hide(text, _longest_first())


def redacted(value: Any) -> Any:
    """Return a JSON value with every text in it redacted; keys stay."""
    spellings = _longest_first()  # once for all texts: it reads the whole environment

    def inside(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: inside(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [inside(inner) for inner in value]
        return _hide(value, spellings) if isinstance(value, str) else value

    return inside(value)


def _hide(text: str, spellings: Sequence[str]) -> str:
    text = SHAPES.sub(HIDDEN, IN_A_URI.sub(HIDDEN, text))
    for spelling in spellings:
        text = text.replace(spelling, HIDDEN)
    return text


def _longest_first() -> list[str]:
    return sorted(_spellings(), key=len, reverse=True)


def named(text: str) -> str | None:
    """Say what of a text is secret, None where nothing is."""
    if IN_A_URI.search(text):
        return "credentials inside a URI"
    for spelling, name in _spellings().items():
        if spelling in text:
            return f"the value of ${name}"
    return "an access token" if SHAPES.search(text) else None


def redact_output() -> None:
    """From here on, hide secrets in what this process logs, and prints in Python."""
    _spellings()  # takes note of those that the environment has now
    redact_logs()
    redact_stream(sys.stdout)
    redact_stream(sys.stderr)


def redact_stream(stream: TextIO) -> None:
    """Hide secrets in what is written to a stream, by whoever holds it."""
    write = stream.write
    stream.write = lambda text: write(redact(text))  # type: ignore[method-assign]


def redact_logs() -> None:
    """Hide secrets in every log record, and in its traceback, from now on."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # its values do not fit its text: `logging` complains of that
        if record.exc_info:
            text = "\n".join([text, *traceback.format_exception(*record.exc_info)]).rstrip()
            record.exc_info = None
        record.msg, record.args = redact(text), ()
        return record

    redacted_record.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted_record)


def _spellings() -> Mapping[str, str]:
    """Return the names of the variables by each way in which their secrets can be written."""
    for name, value in os.environ.items():
        for secret in _secrets_of(name, value):
            if secret not in _seen:
                _seen.update(
                    dict.fromkeys(
                        (
                            secret,
                            quote(secret, safe=""),
                            json.dumps(secret)[1:-1],
                            repr(secret)[1:-1],
                        ),
                        name,
                    )
                )
    return dict(_seen)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """Yield what is to be hidden of a variable's value."""
    secret = [value.strip()] if SECRET_NAME.search(name) else []
    for credentials in IN_A_URI.findall(value):
        user, colon, password = credentials.partition(":")
        secret.append(unquote(password if colon else user))
    yield from (text for text in secret if len(text) >= SHORTEST)
