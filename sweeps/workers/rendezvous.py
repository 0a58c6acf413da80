"""Where the ranks of a group meet: a port that rank 0 holds from the moment it is chosen.

Created in the sweep process; run by a group's controller and its rank 0. It must not know about
jobs.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend


def torch_config(backend: str, timeout_s: int) -> TorchConfig:
    """Return Ray Train's configuration of a process group, with a port that nothing else can take.

    Train lets rank 0 find a free port, release it, and bind it again later (ray 2.60). Two groups
    that start at the same moment can find the same port, so that a rank of one group waits in the
    other. Here rank 0 keeps the store that PyTorch has bound to the port, and PyTorch's `env://`
    uses that store, since it is in the same process (`multi_tenant`).

    Everything is nested, so that it is pickled by value: see `train_run.run`.
    """

    def hold_port() -> tuple[str, int]:
        import atexit

        import ray
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False, multi_tenant=True)
        atexit.register(lambda: store)  # keeps it until the process ends
        return ray.util.get_node_ip_address(), store.port

    on_start: Any = _TorchBackend.on_start
    held = {**on_start.__globals__, "get_address_and_port": hold_port}
    backend_cls = type(
        "Backend", (_TorchBackend,), {"on_start": FunctionType(on_start.__code__, held)}
    )
    config_cls = type("Config", (TorchConfig,), {"backend_cls": backend_cls})
    config: TorchConfig = config_cls(backend=backend, timeout_s=timeout_s)
    return config
