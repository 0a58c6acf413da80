"""Which part of a Ray cluster no longer answers."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from sweeps.driver.cluster import Part, silent


def test_the_first_part_that_takes_no_connection_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = Part("GCS", "127.0.0.1", server.getsockname()[1])
        assert silent([there]) is None
        with socket.socket() as unused:  # bound, but it takes no connections
            unused.bind(("127.0.0.1", 0))
            gone = Part("raylet", "127.0.0.1", unused.getsockname()[1])
            assert silent([there, gone]) == gone


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_process_without_a_free_file_takes_no_part_for_dead(
    number: int, monkeypatch: pytest.MonkeyPatch
):
    def connect(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_connection", connect)
    assert silent([Part("GCS", "127.0.0.1", 1)]) is None
