"""The check of a worker at its start: does its node see the sweep's folder?"""

from __future__ import annotations

import itertools
import queue
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import ray

from sweeps.errors import SweepError, UserError
from sweeps.records.folder import SweepFolder
from sweeps.workers import shared_storage
from sweeps.workers.exchange import Exchange
from sweeps.workers.group_size import Size
from sweeps.workers.job import Definition, Job
from sweeps.workers.shared_storage import check_shared, leave_nodes, own_code, own_folder
from sweeps.workers.worker_group import Surroundings, WorkerGroups

SWEEP = "curves-20261123-0741-k3f9"


def refusal(storage: Path) -> str:
    return (
        f"--storage {storage}: node {ray.util.get_node_ip_address()} cannot see this sweep's folder"
        f" {SWEEP} there; use a folder that all nodes share, or s3://BUCKET/PATH"
    )


def test_a_folder_with_the_record_of_the_sweep_process_is_shared(tmp_path: Path):
    folder = SweepFolder(tmp_path / SWEEP)
    folder.path.mkdir()
    folder.record_file.write_text("{}")
    check_shared(folder)


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_it_is_refused_with_the_node_the_path_and_both_ways_on(
    tmp_path: Path, there: bool
):
    folder = SweepFolder(tmp_path / SWEEP)
    if there:
        folder.path.mkdir()  # of a worker that made it by mistake
    with pytest.raises(UserError) as raised:
        check_shared(folder)
    assert str(raised.value) == refusal(tmp_path)
    assert folder.path.exists() == there, "a check writes nothing"


def test_a_worker_on_another_node_fetches_a_copy_of_the_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "of the node"))
    fetched: list[SweepFolder] = []
    monkeypatch.setattr(shared_storage, "fetch_code", fetched.append)
    home = SweepFolder(tmp_path / SWEEP, "s3://bucket/sweeps")
    there = own_folder(home)
    code = own_code(there)
    (own,) = fetched
    assert (own.code, own.id, own.storage) == (code, home.id, home.storage)
    assert code != there.code, "a neighbour may be reading that"
    assert code.is_relative_to(tmp_path / "of the node")
    home.path.mkdir()
    home.record_file.write_text("{}")
    assert own_code(home) == home.code
    assert len(fetched) == 1


def test_with_object_storage_another_node_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "of the node"))
    folder = SweepFolder(tmp_path / SWEEP, "s3://bucket/sweeps")
    other = own_folder(folder)
    assert other.path.is_relative_to(tmp_path / "of the node")
    assert (other.id, other.storage) == (folder.id, folder.storage)
    folder.path.mkdir()
    folder.record_file.write_text("{}")
    assert own_folder(folder) == folder, "here, or where the folder is shared"


def test_the_logs_of_other_nodes_come_home_and_nothing_stays_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    node = tmp_path / "node"
    monkeypatch.setattr(tempfile, "tempdir", str(node))
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": n, "Alive": True} for n in "ab"])
    monkeypatch.setattr(shared_storage, "on_nodes", lambda do, nodes: {n: do() for n in nodes})
    home = SweepFolder(tmp_path / "home" / SWEEP, "s3://bucket")
    there = own_folder(home)
    for folder in (home, there):
        folder.logs.mkdir(parents=True)
    (there.logs / "group1-rank0.log").write_text("epoch 1")
    (there.path / "prepared").mkdir()
    leave_nodes(home)
    assert (home.logs / "group1-rank0.log").read_text() == "epoch 1"
    assert list(node.iterdir()) == []


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_group_that_does_not_see_the_folder_ends_the_sweep_before_it_takes_a_job(
    ray_cluster: None, tmp_path: Path
):
    # The sweep process would have written its record elsewhere: this path stands for a node's own.
    folder = SweepFolder(tmp_path / "of this node" / SWEEP)
    definition = Definition(
        space=b"",
        folder=folder,
        workers=2,
        gpu=False,
        measures_gpu=False,
        fresh_workers=False,
        started_in=Path.cwd(),
        stall_timeout_s=600,
        secrets={},
    )
    exchange = ray.remote(Exchange).options(num_cpus=0, max_concurrency=100).remote(definition, 2)
    job = Job(trial="t001", attempt=1, params={}, seed=0, checkpoint=None)
    ray.get(exchange.submit.remote(job, {}))
    faults: queue.Queue[SweepError] = queue.Queue()
    size = Size(workers=2, cpus_per_worker=1, gpus_per_worker=0)
    around = Surroundings(
        there=lambda _: True, draining=frozenset, note=print, fault=faults.put, variables={}
    )
    groups = WorkerGroups(
        exchange,
        tmp_path / "scratch",
        around,
        itertools.count(1),
        timedelta(minutes=5),
        None,
    )
    groups.start(1, size)
    fault = faults.get(timeout=100)
    assert isinstance(fault, UserError)
    assert str(fault) == refusal(folder.path.parent)
    assert not folder.path.exists()
    assert groups.close(10.0)
    ray.get(exchange.end_events.remote())
    assert ray.get(exchange.events.remote()) is None, "t001 has begun"
    ray.kill(exchange)
