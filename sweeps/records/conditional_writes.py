"""Writes to object storage that happen only if nobody else has written there meanwhile.

Used by the sweep process for its lease, only on `s3://`: pyarrow (25.0), which does everything
else, cannot write conditionally, but boto3 can, on S3. It must not know what it writes.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from sweeps.errors import SweepError, UserError
from sweeps.records.remote import open_storage

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""Environment variables by which pyarrow and boto3 find a server other than Amazon's."""


class NotAsSeen(SweepError):
    """Another process has written or deleted the object."""


class _Conflict(SweepError):
    """S3 asks for a retry, because something else happened to the object at the same time."""


def has_conditional_writes(storage: str) -> bool:
    """Tell whether objects below this URI can be written conditionally.

    Raises:
        UserError: The storage cannot be opened.
    """
    fs, _ = open_storage(storage)
    return bool(fs.type_name == "s3")


class ConditionalWrites:
    """The objects of one sweep on S3.

    Args:
        storage: The URI, `s3://BUCKET/PATH`, with pyarrow's options.
        sweep: The sweep's id.

    Raises:
        UserError: The storage cannot be opened.
    """

    def __init__(self, storage: str, sweep: str) -> None:
        _, root = open_storage(storage)
        self._uri = f"{storage}/{sweep}"
        self._bucket, _, self._path = f"{root}/{sweep}".partition("/")
        self._client = _open_client(storage)

    def version(self, name: str) -> str | None:
        """Return the ETag that identifies an object's content; None if there is no such object."""
        from botocore.exceptions import ClientError

        try:
            found = self._ask("head_object", name)
        except ClientError as error:
            if _status(error) == 404:
                return None
            raise SweepError(f"{self._uri}: {error}") from error
        return str(found["ETag"])

    @retry(
        retry=retry_if_exception_type(_Conflict),
        stop=stop_after_attempt(5),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    def write(self, name: str, content: bytes, *, seen: str | None) -> str:
        """Write an object if its version is still the one that was seen; return the new version.

        Args:
            name: The object's name.
            content: Its new content.
            seen: What `version` returned; None: only if there is no such object.

        Raises:
            NotAsSeen: The version has changed.
            UserError: The server does not support conditional writes.
        """
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if seen is None else {"IfMatch": seen}
        try:
            written = self._ask("put_object", name, Body=content, **condition)
        except ClientError as error:
            match _status(error):
                case 404 | 412:
                    raise NotAsSeen(f"{self._uri}/{name}: {error}") from error
                case 409:
                    raise _Conflict(f"{self._uri}/{name}: {error}") from error
                case 501:
                    raise UserError(
                        f"{self._uri}: the server does not support conditional writes"
                        " (If-None-Match), which keep two processes from running the same sweep;"
                        " use a different store"
                    ) from error
            raise SweepError(f"{self._uri}: {error}") from error
        return str(written["ETag"])

    def _ask(self, method: str, name: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return getattr(self._client, method)(
                Bucket=self._bucket, Key=f"{self._path}/{name}", **arguments
            )
        except BotoCoreError as error:
            raise SweepError(f"{self._uri}: {error}") from error


def _open_client(storage: str) -> Any:
    """Return boto3's client for the server that pyarrow finds by this URI."""
    import boto3
    from botocore.config import Config

    fs, _ = open_storage(storage)
    options = {key: values[-1] for key, values in parse_qs(urlsplit(storage).query).items()}
    endpoint = options.get("endpoint_override")
    if endpoint is not None and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    # On servers other than Amazon's, pyarrow puts the bucket into the path.
    in_path = endpoint is not None or any(os.environ.get(name) for name in ENDPOINTS)
    in_path &= options.get("force_virtual_addressing", "false").lower() != "true"
    return boto3.session.Session().client(
        "s3",
        region_name=fs.region,
        endpoint_url=endpoint,
        verify=options.get("tls_ca_file_path"),
        config=Config(s3={"addressing_style": "path" if in_path else "virtual"}),
    )


def _status(error: Any) -> int:
    """Return the HTTP status of what boto3 raised."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
