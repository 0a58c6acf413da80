"""The port at which the ranks of a group meet; no Ray."""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray
from ray import cloudpickle
from torch.distributed import rendezvous

from sweeps.workers.rendezvous import torch_config


class Group:
    """A group of one worker in this process."""

    def __len__(self) -> int:
        return 1

    def execute_single(self, rank: int, do: Any) -> Any:
        return do()

    def execute(self, do: Any, **given: Any) -> None:
        if given:
            do(**given)

    def execute_single_async(self, rank: int, do: Any, **given: Any) -> None: ...


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start the process group of a group, and return its port; ports are held until the end."""
    held: list[Any] = []
    monkeypatch.setattr(atexit, "register", held.append)
    monkeypatch.setattr(ray, "get", list)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("MASTER_ADDR", "")
    monkeypatch.setenv("MASTER_PORT", "")
    config = cloudpickle.loads(cloudpickle.dumps(torch_config("gloo", timeout_s=30)))

    def port() -> int:
        found: list[int] = []

        class Noted(Group):
            def execute(self, do: Any, **given: Any) -> None:
                found.extend([given["port"]] if given else ())
                super().execute(do, **given)

        config.backend_cls().on_start(Noted(), config)
        return found[0]

    yield port
    held.clear()


def is_taken(port: int) -> bool:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("", port))
        except OSError:
            return True
    return False


def test_groups_that_start_in_the_same_instant_never_meet_at_the_same_port(start: Any):
    """A port that is held from its choice on can be chosen by nobody else."""
    with ThreadPoolExecutor(2) as two:
        ports = [*two.map(lambda _: start(), range(20))]
    assert len(set(ports)) == 20
    assert all(map(is_taken, ports))


def test_the_ranks_meet_at_the_port_that_is_held(start: Any, monkeypatch: pytest.MonkeyPatch):
    port = start()
    assert os.environ["MASTER_PORT"] == str(port)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    store, rank, workers = next(rendezvous("env://"))
    assert (rank, workers) == (0, 1)
    store.set("key", "value")
    assert store.get("key") == b"value"
