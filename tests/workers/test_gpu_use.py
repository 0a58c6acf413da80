"""What a trial uses of its GPU, measured beside it; the GPU's answers are given here."""

from __future__ import annotations

import threading

import pynvml
import pytest
import torch

from sweeps.records.events import GpuMeasured
from sweeps.workers import gpu_use
from sweeps.workers.gpu_use import GpuUse
from sweeps.workers.job import SMOKE, Job
from sweeps.workers.signals import Signals


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    state = {"busy": 25, "free": 70, "total": 80, "reserved": 6, "peak": 8}
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "utilization", lambda: state["busy"])
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (state["free"], state["total"]))
    monkeypatch.setattr(cuda, "memory_reserved", lambda: state["reserved"])
    monkeypatch.setattr(cuda, "max_memory_reserved", lambda: state["peak"])
    monkeypatch.setattr(gpu_use, "SETTLES_S", 0.0)
    monkeypatch.setattr(gpu_use, "PAUSE_S", 0.001)
    return state


def job(trial: str = "t001") -> Job:
    return Job(trial=trial, attempt=1, params={}, seed=0, checkpoint=None)


def train(use: GpuUse, told: list[GpuMeasured], trial: str = "t001") -> None:
    """Take step after step until something was told."""
    signals = Signals(step=1)
    with use.of(job(trial), signals):
        while not told:
            signals.step += 1


def test_busy_share_and_memory_of_a_trial_are_told_once(gpu: dict[str, int]):
    told: list[GpuMeasured] = []
    use = GpuUse(told.append)
    train(use, told)
    with use.of(job("t002"), Signals(step=100)):
        assert not any(thread.name == "gpu use" for thread in threading.enumerate())
    (first,) = told
    assert (first.trial, first.busy, first.total) == ("t001", 0.25, 80)
    assert first.memory == 80 - 70 - 6 + 8, "what others and the context take, and torch's peak"


def test_the_smoke_run_is_not_measured(gpu: dict[str, int]):
    told: list[GpuMeasured] = []
    with GpuUse(told.append).of(job(SMOKE), Signals(step=100)):
        assert not any(thread.name == "gpu use" for thread in threading.enumerate())
    assert not told


def test_a_trial_that_ends_before_it_could_be_measured_leaves_it_to_the_next(gpu: dict[str, int]):
    told: list[GpuMeasured] = []
    use = GpuUse(told.append)
    with use.of(job(), Signals(step=0)):
        pass
    assert not told
    train(use, told, "t002")
    assert told[0].trial == "t002"


def test_where_nvml_does_not_tell_the_share_is_unknown(
    gpu: dict[str, int], monkeypatch: pytest.MonkeyPatch
):
    def refuses() -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(torch.cuda, "utilization", refuses)
    told: list[GpuMeasured] = []
    train(GpuUse(told.append), told)
    assert [each.busy for each in told] == [None]
