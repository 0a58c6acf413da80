"""A rank that only lost another one does not count as the cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from ray.exceptions import ActorDiedError, OwnerDiedError, RayTaskError
from torch.distributed import DistNetworkError, DistStoreError, TCPStore

from sweeps.workers.failures.lost_peers import lost_peer


@pytest.fixture
def lost_store() -> TCPStore:
    """The store of a process group whose rank 0 is gone."""
    host = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store = TCPStore("127.0.0.1", host.port, is_master=False, timeout=timedelta(seconds=5))
    del host
    return store


@pytest.mark.parametrize("use", [lambda store: store.get("a"), lambda store: store.set("a", "b")])
def test_a_store_that_went_with_its_rank_is_a_lost_peer(
    use: Callable[[TCPStore], object], lost_store: TCPStore
) -> None:
    with pytest.raises(DistNetworkError):
        lost_store.get("the first call of all")  # a later one has another message
    with pytest.raises(DistNetworkError) as raised:
        use(lost_store)
    assert lost_peer(raised.value)


def test_a_key_that_another_rank_never_set_is_a_lost_peer() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set_timeout(timedelta(milliseconds=20))  # to connect may take longer
    with pytest.raises(DistStoreError) as raised:
        store.get("never set")
    assert lost_peer(raised.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[pair.cc:534] Connection closed by peer [10.0.0.1]:3333"), True),
        (RuntimeError("[pair.cc:553] Read error [10.0.0.1]:3333: No route to host"), True),
        (RuntimeError("[1] is setting up: Failed to recv. Connection was likely closed."), True),
        (ActorDiedError(), True),
        (OwnerDiedError("00", None, ""), True),
        (RayTaskError("map", "Traceback", ValueError("bad rows")).as_instanceof_cause(), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_only_what_follows_from_another_rank_is_a_lost_peer(
    error: Exception, expected: bool
) -> None:
    assert lost_peer(error) is expected
