"""An S3 server on the loopback address, and this process's environment for it."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from sweeps.records import remote

BUCKET = "bucket"


@contextmanager
def s3_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URI of a bucket on a new server."""
    remote.open_storage.cache_clear()  # it keeps the endpoint of its beginning
    # S3 compares and writes in one step; moto (5.2) does one after the other.
    one_step, put = threading.Lock(), S3Response.put_object

    def put_object(self: S3Response) -> object:
        with one_step:
            return put(self)

    monkeypatch.setattr(S3Response, "put_object", put_object)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-access-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    # All servers of a process share their buckets.
    for method, path in (("POST", "moto-api/reset"), ("PUT", BUCKET)):
        request = urllib.request.Request(f"http://{host}:{port}/{path}", method=method)
        urllib.request.urlopen(request).close()
    try:
        yield f"s3://{BUCKET}/sweeps"
    finally:
        server.stop()
