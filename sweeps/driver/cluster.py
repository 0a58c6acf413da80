"""Ray as a sweep needs it: started here or joined, with an explicit address.

Runs in the sweep process. Only this module knows how Ray is started; ray 2.60.
"""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray._private import services

from sweeps.config import SweepConfig
from sweeps.driver import local_ray
from sweeps.driver.asked_address import asked_address
from sweeps.driver.worker_variables import worker_variables
from sweeps.environment import environment
from sweeps.errors import SweepError, UserError
from sweeps.planning.layout import Node
from sweeps.planning.local_gpus import count_gpus
from sweeps.ports import held_port
from sweeps.workers.processes.process_server import process_server
from sweeps.workers.watch import DUMP_S, FROZEN_S

CONNECT_TIMEOUT_S = 5.0
AWAY_S = 3.0
"""Seconds without an answer after which a part of Ray that nobody starts again counts as dead."""
CLUSTER_AWAY_S = 45.0
"""The same for the GCS of a cluster, which may be started again. If it is away for a minute, Ray's
client ends this process without a word (2.60)."""
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `interrupts.py` has its own
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's own state is scratch
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a lost group is noticed after at most this time
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process fewer per group
    # For a group for which there was just room; see `train_run.wait_for_room`.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Train would write each printed line twice, and dill's output to a captured stdout.
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # Tune's banner
    # Inside `ray job submit`, the sweep's code is the working folder, whatever the job has set.
    # Without this, Ray rejects a second one (ray 2.60).
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
}
"""Environment of the sweep process while it runs a sweep; Train and Tune read it there."""


def wanted_address(address: str | None) -> str | None:
    """Return the address of the cluster to join; None for a new local instance.

    `auto` becomes the actual address, because Train's placement-group cleaner needs one.

    Raises:
        UserError: The cluster does not answer.
    """
    address = asked_address(address)
    if address is None or ray.is_initialized():
        return address
    if address == "auto":
        address = _running_here()
    if "://" in address:
        raise UserError(
            f"--address {address}: Ray Client is not supported; run the command"
            " inside the cluster, or submit it with `ray job submit`"
        )
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        raise UserError(f"--address {address}: expected HOST:PORT, such as 10.0.0.5:6379, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--address {address}: cannot reach a Ray cluster there ({error}); `ray start --head`"
            " prints the address when it starts a cluster"
        ) from None
    return address


def is_started_here(address: str | None) -> bool:
    """Tell whether `connected` starts a Ray instance on this machine."""
    return address is None and not ray.is_initialized()


def _running_here() -> str:
    """Return the address of the one cluster that has a node on this machine."""
    try:
        found: str = services.canonicalize_bootstrap_address_or_die("auto")
    except ConnectionError as error:
        raise UserError(f"--address auto: {error}") from None
    return found


@contextmanager
def connected(address: str | None, code: Path, config: SweepConfig) -> Iterator[dict[str, str]]:
    """Start a local Ray instance or join a cluster, and leave it on exit.

    If this process is already connected to Ray, that connection is used and kept. Yields the
    environment variables that workers still need in that case; none otherwise.

    Args:
        address: The address of the cluster to join; None: start a local one.
        code: The sweep's code, every process's working folder.
        config: The config, for the stall timeout and whether a local Ray instance needs GPUs.
    """
    with ExitStack() as stack:
        stack.enter_context(environment({**SETTINGS, **_patience(config)}))
        if ray.is_initialized():
            # Ray accepts a working folder only when a process connects (ray 2.60).
            yield {**worker_variables(), "PYTHONPATH": f"{code}{os.pathsep}${{PYTHONPATH}}"}
            return
        stack.enter_context(_set_apart())
        if address is None:
            _start(code, config, stack)
        else:
            _init({"address": address}, _environment(code, address, None))
        needed = parts()
        try:
            yield {}
        finally:
            if silent(needed) is None:  # otherwise the call would hang
                _leave()


def _patience(config: SweepConfig) -> dict[str, str]:
    """Return how long Ray Train waits for a worker that does not respond (by default 600 s).

    A worker's watch can say more, and comes first; but in a stopped process, it cannot run either.
    """
    limit_s = config.stall_timeout.total_seconds() + FROZEN_S + DUMP_S
    return {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(limit_s)}


@contextmanager
def _set_apart() -> Iterator[None]:
    """Exclude all existing objects, which are mostly those of libraries, from garbage collection.

    `_leave` then only has to search the sweep's own objects; searching all of them takes a second.
    Garbage among the excluded objects stays until this ends. Afterwards, objects that the caller
    had frozen are collected again, too.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _leave() -> None:
    """Shut Ray down in this process while no other thread can free an actor handle.

    A handle in a reference cycle is freed by whichever thread collects garbage. In the middle of
    `ray.shutdown()`, that ends the process ("core worker has already been shutdown", ray 2.60).
    """
    collects = gc.isenabled()
    gc.disable()
    gc.collect()
    try:
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def _start(code: Path, config: SweepConfig, around: ExitStack) -> None:
    """Start a local Ray instance.

    Args:
        code: The sweep's code.
        config: The config.
        around: Receives what must last as long as Ray runs.
    """
    around.enter_context(local_ray.token())
    folder = around.enter_context(local_ray.folder())
    forks = sys.platform == "linux"
    python = around.enter_context(process_server(worker_variables())) if forks else None
    with ExitStack() as starting:
        # Another server on it would answer in place of Ray's, or end Ray after 40 s (ray 2.60).
        port = starting.enter_context(held_port("127.0.0.1"))
        # Train's placement-group cleaner finds its cluster by this address; without it, a second
        # Ray on the machine makes the next group wait forever (ray 2.60).
        address = f"{ray.util.get_node_ip_address()}:{port}"
        starting.enter_context(
            environment({"RAY_GCS_SERVER_PORT": str(port), **local_ray.NO_SPARES})
        )
        if forks:
            starting.enter_context(local_ray.own_processes())
            starting.enter_context(local_ray.quick_workers())
        settings = {
            "address": "local",
            "num_gpus": count_gpus(config),  # Ray 2.60 also counts GPUs that CUDA does not use
            "include_dashboard": True,  # the placement-group cleaner needs it, too
            "dashboard_host": "127.0.0.1",
            "_temp_dir": folder,
        }
        _init(settings, _environment(code, address, python))


def _init(settings: dict[str, Any], runtime_env: dict[str, object]) -> None:
    """Connect this process to Ray.

    Raises:
        UserError: Ray cannot be reached.
        SweepError: Ray does not start in time.
    """
    with _sigterm_kept():
        try:
            ray.init(
                **settings,
                runtime_env=runtime_env,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except ConnectionError as error:
            place = settings["address"]
            what = "start Ray here" if place == "local" else f"connect to Ray at {place}"
            raise UserError(f"cannot {what}: {error}") from None
        except Exception as error:  # Ray 2.60 has no class for this
            if "timed out during startup" not in str(error):
                raise
            raise SweepError(
                "Ray did not start within 30 s, perhaps because this machine is busy; run the"
                " command again"
            ) from error


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep this process's handler of SIGTERM: `ray.init` replaces it (ray 2.60)."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if callable(before) and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def nodes() -> list[Node]:
    """Return the resources of the cluster's living nodes."""
    return [
        Node(cpus=node["Resources"].get("CPU", 0.0), gpus=node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def gpu_kinds() -> list[str]:
    """Return the kinds of the living nodes' GPUs, as Ray names them: `H100`."""
    prefix = "accelerator_type:"
    names = {name for node in ray.nodes() if node["Alive"] for name in node["Resources"]}
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def there(ids: frozenset[str]) -> bool:
    """Tell whether the nodes with these ids are alive.

    Ray takes up to half a minute to report a dead node, so this contacts its raylet.
    """
    for node in ray.nodes():
        if node["NodeID"] in ids:
            if not node["Alive"]:
                return False
            if silent([_raylet(node)]) is not None:
                return False
    return True


class Part(NamedTuple):
    """A process of Ray without which this process can do nothing on the cluster."""

    name: str
    host: str
    port: int
    patience_s: float = AWAY_S
    """Seconds without an answer after which it counts as dead."""


def parts() -> list[Part]:
    """Return the parts of Ray that this process needs: the GCS, and the raylet of its node."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = context.get_node_id()
    ours = ray._private.worker._global_node
    patience_s = AWAY_S if ours is not None and ours.is_head() else CLUSTER_AWAY_S
    return [
        Part("GCS", host, int(port), patience_s),
        *(_raylet(node) for node in ray.nodes() if node["NodeID"] == here),
    ]


def _raylet(node: Mapping[str, Any]) -> Part:
    return Part("raylet", node["NodeManagerAddress"], node["NodeManagerPort"])


def silent(needed: Sequence[Part]) -> Part | None:
    """Return the first of these parts that takes no connection; None: all do."""
    for part in needed:
        try:
            socket.create_connection((part.host, part.port), CONNECT_TIMEOUT_S).close()
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):  # no file is left to ask with
                return part
    return None


def draining() -> frozenset[str]:
    """Return the ids of the nodes whose removal the cluster has announced.

    Ray has no public API for this; Train's own watcher makes the same call (ray 2.60).
    """
    from ray._private.state import state

    return frozenset(state.get_draining_nodes())


def autoscales() -> bool:
    """Tell whether the cluster adds nodes automatically.

    Neither of Ray's autoscalers has a public API for this. Both name each node's type; if only
    people start nodes, that name is `node_` and the node's id (ray 2.60). KubeRay also names the
    types of a fixed cluster, so that counts as growing.
    """
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental.internal_kv import _internal_kv_get

    v1 = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or b"{}")
    v2 = get_cluster_status(ray.get_runtime_context().gcs_address)
    types = [
        *v1.get("autoscaler_report", {}).get("node_type_mapping", {}).items(),
        *((n.node_id, n.ray_node_type_name) for n in (*v2.active_nodes, *v2.idle_nodes)),
    ]
    return any(kind != f"node_{node}" for node, kind in types)


def _environment(code: Path, address: str, python: str | None) -> dict[str, object]:
    """Return the runtime environment of the sweep's processes: its code, HF's settings."""
    return {
        "working_dir": str(code),
        # Ray (2.60) would follow the links and pack their targets.
        "excludes": [f"/{_escaped(code, each)}" for each in code.rglob("*") if each.is_symlink()],
        "env_vars": {"RAY_ADDRESS": address, **worker_variables()},
        **({"py_executable": python} if python else {}),
    }


def _escaped(code: Path, link: Path) -> str:
    """Return a path below the code as a Ray pattern, in the syntax of `.gitignore`."""
    return re.sub(r"([\\*?\[\]!# ])", r"\\\1", link.relative_to(code).as_posix())
