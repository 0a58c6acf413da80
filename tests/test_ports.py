"""A port between its choice and the server that binds it."""

from __future__ import annotations

import socket
import sys

import pytest

from sweeps.ports import held_port

HOST = "127.0.0.1"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a port is released at once")
@pytest.mark.parametrize("at", [HOST, ""])
def test_a_held_port_is_for_the_server_alone(at: str):
    with held_port(HOST) as port:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((at, port))
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((at, port))
            server.listen()
            socket.create_connection((HOST, port), 5).close()


def test_a_port_that_is_used_is_not_held():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(OSError, match="in use"), held_port(HOST, port):
            pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a port is released at once")
def test_a_port_is_held_once_before_anything_listens_there():
    """Otherwise, of two `ui --port N`, one would take the other's server for its own."""
    with held_port(HOST) as port, pytest.raises(OSError, match="in use"), held_port(HOST, port):
        pass
    with held_port(HOST, port) as again:
        assert again == port
