"""What is secret in this process, and how to keep it out of what a sweep writes and prints.

Used in every process of `sweeps`. It must not know what a text is for or import anything heavy.

These are secrets:

- the values of environment variables with a name like that of a secret (`SECRET_NAME`: a token,
  password, secret or key anywhere in the name, unless it ends in `_FILE`, `_PATH` or the like)
- user and password inside a URI
- anything that looks like a Hugging Face token or an AWS key id

User names, regions, profiles and endpoints are not secrets.

Anything that looks like a secret is hidden everywhere. The values of variables are hidden only in
text from people and libraries: output, messages, tracebacks, and the dataclass fields marked
`FREE_TEXT`. They are never hidden in ids, paths, statuses and keys, since a changed key or path
would no longer be found. A value that is short or an ordinary word is not hidden at all:
`unsearched` names its variable.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from sweeps.errors import UserError

SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_KEY|SECRET_KEY|PRIVATE_KEY"
    r"|ACCOUNT_KEY|CONNECTION_STRING)(?:_|$)(?!(?:.*_)?(?:FILE|PATH|DIR|URL|URI|NAME)$)",
    re.IGNORECASE,
)
"""Names of secret environment variables: `HF_TOKEN`, `AWS_SECRET_ACCESS_KEY`,
`MLFLOW_TRACKING_PASSWORD`."""
SHORTEST = 8
"""Minimum length of a value that is hidden, in characters: shorter ones occur in ordinary text."""
WORD = re.compile(r"[A-Za-z][a-z]{,14}|[A-Z]{,15}")
"""What looks like an ordinary word: letters of one case. A longer one may be an app password."""
NEEDED_WITH = ("AWS_", "MLFLOW_TRACKING_USERNAME")
"""Prefixes of variables that are not secrets, but go to the workers together with secrets."""
HIDDEN = "***"
IN_A_URI = re.compile(r"(?<=://)[^/?#\s'\"]+(?=@)")
SHAPES = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
"""A Hugging Face token, which may come from a file, and an AWS key id."""
PLACES = {
    "http": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
}
"""By URI scheme: the variables for user and password, and that of a token, which is unset."""

FREE_TEXT = {"free_text": True}
"""Marks a dataclass field that holds text from people or libraries."""

T = TypeVar("T")

_seen: dict[str, str] = {}
"""Every spelling of every secret that this process has ever had, with the name of its variable. A
value remains secret after its variable is unset."""


def is_secret(name: str, value: str) -> bool:
    """Tell whether an environment variable must not appear in any log."""
    return bool(SECRET_NAME.search(name) or IN_A_URI.search(value))


def for_workers(others: tuple[str, ...]) -> dict[str, str]:
    """Return the environment variables that workers need, but that Ray must not log.

    Ray logs the variables of a runtime environment.

    Args:
        others: Prefixes of variables that workers get in any case. Those of them with a secret,
            such as credentials in a URI, are returned as well.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name)
        or name.startswith(NEEDED_WITH)
        or (name.startswith(others) and is_secret(name, value))
    }


def take_credentials(uri: str) -> str:
    """Return the URI without user and password, which are moved to this process's environment.

    Those of an `http(s)` URI go to MLflow's variables, those of an `s3` URI to AWS's, where the
    libraries and the workers find them.

    Raises:
        UserError: The user or the password is missing.
    """
    parts = urlsplit(uri)
    scheme = "http" if parts.scheme == "https" else parts.scheme
    if scheme not in PLACES:
        return uri
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        if scheme == "s3" and ":" in host:
            raise UserError(
                "this s3:// URI has a : but no @ before its first /; write"
                " s3://KEY:SECRET@BUCKET/PATH, with each / in the secret as %2F"
            )
        return uri
    user, _, password = map(unquote, credentials.partition(":"))
    clean = urlunsplit(parts._replace(netloc=host))
    if not user or not password:
        both = "KEY:SECRET@BUCKET" if scheme == "s3" else "USER:PASSWORD@HOST"
        raise UserError(f"{redact(uri)}: the credentials are incomplete; write {both}")
    os.environ.update(zip(PLACES[scheme], (user, password), strict=False))
    os.environ.pop(PLACES[scheme][2], None)
    return clean


def redact(text: str) -> str:
    """Return the text with every secret replaced by `***`."""
    return _hide(text, _longest_first())


def without_secrets(value: T) -> T:
    """Return a dataclass or container with its secrets hidden; the same object if it has none.

    Values of variables are hidden in `FREE_TEXT` fields, and anything that looks like a secret
    everywhere. The keys of mappings stay as they are.
    """
    spellings = functools.cache(_longest_first)  # called once: it reads the whole environment

    def inside(value: Any, free: bool) -> Any:
        if isinstance(value, str):
            text = _hide(value, spellings() if free and value else ())
            return value if text == value else text
        if isinstance(value, Mapping):
            return kept(value, {key: inside(inner, free) for key, inner in value.items()})
        if isinstance(value, list | tuple):
            parts = [inside(inner, free) for inner in value]
            if all(new is old for new, old in zip(parts, value, strict=True)):
                return value
            return tuple(parts) if isinstance(value, tuple) else parts
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return value
        fields = {field.name: "free_text" in field.metadata for field in dataclasses.fields(value)}
        old = {name: getattr(value, name) for name in fields}
        new = {name: inside(old[name], free or text) for name, text in fields.items()}
        return value if kept(old, new) is old else dataclasses.replace(value, **new)

    def kept(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return old if all(new[key] is inner for key, inner in old.items()) else new

    found: T = inside(value, False)
    return found


def _hide(text: str, spellings: Sequence[str]) -> str:
    text = SHAPES.sub(HIDDEN, IN_A_URI.sub(HIDDEN, text))
    for spelling in spellings:
        text = text.replace(spelling, HIDDEN)
    return text


def _longest_first() -> list[str]:
    return sorted(_spellings(), key=len, reverse=True)


def unsearched() -> list[str]:
    """Return the variables whose secret is not hidden: it is short or an ordinary word."""
    return sorted(
        name
        for name, value in os.environ.items()
        if any(secret and not _is_searched_for(secret) for secret in _secrets_of(name, value))
    )


def named(text: str) -> str | None:
    """Describe the secret that a text contains; None if it contains none."""
    if IN_A_URI.search(text):
        return "credentials inside a URI"
    for spelling, name in _spellings().items():
        if spelling in text:
            return f"the value of ${name}"
    return "an access token" if SHAPES.search(text) else None


def redact_output() -> None:
    """From now on, hide secrets in what this process logs or prints from Python."""
    _spellings()  # remembers the secrets that the environment has now
    _redact_logs()
    redact_stream(sys.stdout)
    redact_stream(sys.stderr)


def redact_stream(stream: TextIO) -> None:
    """Hide secrets in everything that is written to a stream."""
    write = stream.write
    stream.write = lambda text: write(redact(text))  # type: ignore[method-assign]


def _redact_logs() -> None:
    """From now on, hide secrets in every log record and its traceback."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            return record  # its arguments do not fit its message, which `logging` reports
        if record.exc_info:
            text = "\n".join([text, *traceback.format_exception(*record.exc_info)]).rstrip()
            record.exc_info = None
        record.msg, record.args = redact(text), ()
        return record

    redacted_record.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted_record)


def _spellings() -> Mapping[str, str]:
    """Return each possible spelling of a secret, with the name of its variable."""
    for name, value in os.environ.items():
        for secret in filter(_is_searched_for, _secrets_of(name, value)):
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
    """Yield the secret parts of a variable's value."""
    if SECRET_NAME.search(name):
        yield value.strip()
    for credentials in IN_A_URI.findall(value):
        user, colon, password = credentials.partition(":")
        yield unquote(password if colon else user)


def _is_searched_for(secret: str) -> bool:
    return len(secret) >= SHORTEST and not WORD.fullmatch(secret)
