"""The files in `scripts/cluster/`: Ray takes them for what they are, and our own commands parse."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.dashboard.modules.job.cli import submit
from typer.main import get_command

from sweeps import SweepConfig
from sweeps.cli.main import app
from sweeps.driver.worker_variables import PASSED_ON
from sweeps.secrets import is_secret

FILES = Path(__file__).parents[1] / "scripts" / "cluster"
STUB = """#!{python}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


def swept(words: list[str]) -> tuple[str, SweepConfig]:
    """The space and the config that a `python -m sweeps run` asks for."""
    assert words[:4] == ["python", "-m", "sweeps", "run"]
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    values = dict(run.make_context("run", words[4:]).params)
    fields = {field.name for field in dataclasses.fields(SweepConfig)}
    config = SweepConfig(**{name: values.pop(name) for name in fields})
    space = values.pop("space")
    assert not any(values.values()), "neither KEY=VALUE nor a sweep to repeat"
    return space, config


def fits_a_growing_cluster(config: SweepConfig) -> None:
    """A cluster that starts with its head alone shows neither its size nor its GPUs."""
    assert config.max_concurrent is not None
    assert config.gpus_per_worker is not None
    assert config.storage_folder.is_relative_to("/mnt/shared")


def test_every_command_of_the_page_on_clusters_parses():
    text = (FILES.parents[1] / "docs" / "clusters.md").read_text()
    commands = [line for line in text.splitlines() if line.startswith("python -m sweeps run")]
    assert commands
    for command in commands:
        swept(shlex.split(command))


# The job.


def submitted(tmp_path: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a `ray` that only says what it was asked."""
    stub = tmp_path / "ray"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    return subprocess.run(
        [FILES / "submit.sh", *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **variables},
    )


def test_the_job_script_asks_ray_for_a_job_and_us_for_a_sweep(tmp_path: Path):
    ran = submitted(tmp_path, "--num-trials", "5", STORAGE="/mnt/shared/results")
    assert ran.returncode == 0, ran.stderr
    job, verb, *words = json.loads(ran.stdout)
    assert (job, verb) == ("job", "submit")
    asked = submit.make_context("submit", words).params
    assert (FILES.parents[1] / asked["working_dir"]).is_dir()
    space, config = swept(list(asked["entrypoint"]))
    assert (space, config.num_trials) == ("bert_yelp", 5)
    fits_a_growing_cluster(config)


def test_the_job_script_wants_a_storage_folder(tmp_path: Path):
    ran = submitted(tmp_path)
    assert ran.returncode != 0
    assert ran.stderr.endswith("STORAGE: a folder that all nodes share\n")


# Ray's cluster launcher.


def launcher() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((FILES / "aws.yaml").read_text())
    return config


def test_the_launcher_file_is_valid_by_ray_s_own_schema():
    prepared = prepare_config(launcher())
    validate_config(prepared)
    assert prepared["available_node_types"]["gpus"]["max_workers"] == prepared["max_workers"]
    assert f":{ray.__version__}-" in prepared["docker"]["image"]


def test_ray_s_schema_is_one_that_refuses():
    with pytest.raises(Exception, match="max_wokers"):
        validate_config(prepare_config({**launcher(), "max_wokers": 4}))


def test_every_node_that_is_launched_wants_the_token_and_none_shows_its_dashboard():
    config = launcher()
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
    head, node = (config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker"))
    assert "RAY_AUTH_MODE=token" in head
    assert "RAY_AUTH_MODE=token" in node
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=" in head


# KubeRay.

# KubeRay 1.6, ray-operator/apis/ray/v1: rayjob_types.go and raycluster_types.go.
JOB = {
    *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint"),
    *("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy"),
    *("metadata", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes"),
    *("submissionMode", "submitterConfig", "submitterPodTemplate", "suspend"),
    "ttlSecondsAfterFinished",
}
CLUSTER = {
    *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions"),
    *("headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend"),
    "workerGroupSpecs",
}
GROUP = {
    *("groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts"),
    *("rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template"),
}


def ray_job() -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((FILES / "rayjob.yaml").read_text())
    return manifest


def pods() -> dict[str, dict[str, Any]]:
    """The pod of the head and of each group of workers."""
    cluster = ray_job()["spec"]["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        **{group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]},
    }


def test_the_ray_job_has_the_fields_of_its_kind_alone():
    manifest = ray_job()
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert manifest["metadata"]["name"]
    spec, cluster = manifest["spec"], manifest["spec"]["rayClusterSpec"]
    assert set(spec) <= JOB
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= GROUP
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"] == {"mode": "token"}
    for start in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in start["rayStartParams"].values())


def test_the_ray_job_s_entrypoint_is_a_sweep_that_our_command_line_takes():
    spec = ray_job()["spec"]
    space, config = swept(shlex.split(spec["entrypoint"]))
    assert space == "bert_yelp"
    fits_a_growing_cluster(config)
    assert spec["backoffLimit"] == 0, "a retry would be a new sweep"


def test_every_pod_mounts_the_storage_and_a_group_fits_the_workers():
    _, config = swept(shlex.split(ray_job()["spec"]["entrypoint"]))
    for pod in pods().values():
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == {volume["name"] for volume in pod["volumes"]}
        assert "/mnt/shared" in mounts
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod["restartPolicy"] == "Never", "autoscaler v2 never reuses a pod"
    gpus = int(pods()["gpus"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert gpus == config.workers_per_trial * (config.gpus_per_worker or 0)


def test_secrets_stand_on_the_head_alone_and_what_workers_need_is_passed_on():
    for name, pod in pods().items():
        for variable in pod["containers"][0].get("env", []):
            if is_secret(variable["name"], "a value of some length"):
                assert name == "head"
                assert "value" not in variable
            else:
                assert variable["name"].startswith(PASSED_ON)
