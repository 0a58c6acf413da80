"""A cluster that grows: nodes of Ray's fake cloud, which starts them on this machine."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from sweeps.answer.results import read_results
from sweeps.driver.local_ray import NO_SPARES
from sweeps.ports import held_port
from sweeps.records.folder import find_sweep
from tests.conftest import SPACES

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
HEAD, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
"""Id and type of the fake cloud's head, which it takes for granted."""


def configuration(address: str) -> dict[str, Any]:
    """Of a cluster to which one node of two CPUs may be added."""
    mappings = ("auth", "docker", "file_mounts")
    lists = (
        "cluster_synced_files",
        "initialization_commands",
        "setup_commands",
        "head_setup_commands",
        "worker_setup_commands",
        "head_start_ray_commands",
        "worker_start_ray_commands",
    )
    return {
        "cluster_name": "growing",
        "max_workers": 1,
        "provider": {
            "type": "external",
            "module": "fake_cloud.FakeCloud",
            "gcs_address": address,
            "head_node_id": HEAD,
            "launch_multiple": True,
        },
        "available_node_types": {
            HEAD_TYPE: {"resources": {}, "node_config": {}, "max_workers": 0},
            "two_cpus": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 1},
        },
        "head_node_type": HEAD_TYPE,
        "upscaling_speed": 1,
        "idle_timeout_minutes": 10,
        **{key: {} for key in mappings},
        **{key: [] for key in lists},
    }


@dataclass(frozen=True)
class Growing:
    """A head without CPUs, to which a node may be added."""

    address: str
    variables: dict[str, str]
    """What a sweep needs to be let in, and to fork its workers."""

    def sweep(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a sweep of two workers a trial."""
        return subprocess.run(
            [
                *(sys.executable, "-m", "sweeps", "run", str(SPACES / "curves.py")),
                *("--address", self.address, "--workers-per-trial", "2", "--num-trials", "1"),
                *("--max-concurrent", "1", "--no-smoke", "--tracker", "tensorboard"),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, **self.variables},
        )


@pytest.fixture(params=["v1", "v2"])
def growing(request: pytest.FixtureRequest, forks: dict[str, str]) -> Iterator[Growing]:
    """By each of Ray's autoscalers: v1 where `ray start` is given a file, v2 by `ray up`."""
    with tempfile.TemporaryDirectory(prefix="grows-", ignore_cleanup_errors=True) as scratch:
        with held_port("") as port:
            pass
        address = f"{ray.util.get_node_ip_address()}:{port}"
        config = Path(scratch) / "cluster.json"
        config.write_text(json.dumps(configuration(address)))
        variables = {
            "RAY_TMPDIR": scratch,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            **NO_SPARES,
        }
        of_the_head = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            # Where the autoscaler finds the module that the configuration names.
            "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}",
            "TMPDIR": scratch,
        }
        if request.param == "v2":
            of_the_head |= {
                "RAY_enable_autoscaler_v2": "1",
                "RAY_CLOUD_INSTANCE_ID": HEAD,
                "RAY_NODE_TYPE_NAME": HEAD_TYPE,
            }
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                *("--num-cpus=0", f"--port={port}", "--dashboard-port=0"),
                f"--autoscaling-config={config}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **variables, **of_the_head},
        )
        assert head.stdout is not None
        try:
            for line in head.stdout:
                if "--block" in line:  # the last that it says once it is up
                    break
            yield Growing(address, {**variables, **forks})
        finally:
            # All at once: the fake cloud leaves its nodes behind, and Ray takes half a minute.
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    if process.environ().get("RAY_TMPDIR") == scratch:
                        process.kill()
            head.communicate()


def test_a_cluster_that_grows_does_so_for_the_group_that_waits(growing: Growing, tmp_path: Path):
    """One that is not seen to grow is refused: it has no CPUs."""
    ran = growing.sweep(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    trial = read_results(find_sweep(tmp_path / "results", "curves")).history.trials["t001"]
    assert trial.status == "finished"
