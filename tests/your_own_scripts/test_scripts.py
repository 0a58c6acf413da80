"""Real training scripts, rebuilt small, each with one function around it.

The scripts follow those of `examples/pytorch` of transformers 5 and of TRL 1. Each has a smoke run,
a trial, another one, and the first one resumed, in this process as in a worker: the code is
imported from the sweep's copy, and the process is put back after each job.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.loading_back import from_pretrained
from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.records.events import CheckpointSaved, SmokeMeasured
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space.arguments import Devices
from sweeps.space.code_copy import copy_code
from sweeps.workers.isolation.isolated import Isolated
from sweeps.workers.job import SMOKE, Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.pickled_space import import_libraries, opened, pickled
from sweeps.workers.signals import Signals
from sweeps.workers.smoke_run import smoke
from sweeps.workers.training import train
from tests.workers.test_training import numbers

SCRIPTS = Path(__file__).parent / "scripts"
NAMES = sorted(file.stem for file in SCRIPTS.glob("*.py") if "SEARCH_SPACE" in file.read_text())
AGAIN: dict[str, dict[str, Any]] = {
    "glue": {"pad_to_max_length": True},
    "choice": {"pad": True},
    "sft": {"lora_r": None},
    "summarization": {"label_smoothing_factor": 0.0},
}
"""What the second trial has otherwise, where that is another way through the script."""


@pytest.fixture(scope="module")
def worker() -> Isolated:
    """This process as a worker."""
    isolated = Isolated()
    isolated.begin_job()
    isolated.end_job()
    return isolated


@pytest.mark.parametrize("name", NAMES)
def test_a_script_runs_with_one_function_around_it(
    name: str, worker: Isolated, tmp_path: Path
) -> None:
    request = make_request(str(SCRIPTS / f"{name}.py"), SweepConfig())
    code = tmp_path / "code"
    copy_code(request.loaded, code)
    data = pickled(request.loaded, request.space)
    import_libraries(data, code)
    folder = SweepFolder(tmp_path / name)
    devices = Devices(workers=1, gpu=False, bf16=False)
    first = request.space.first_params[0]

    def job(trial: str, params: dict[str, Any], checkpoint: str | None = None) -> Job:
        return Job(trial=trial, attempt=1, params=params, seed=1, checkpoint=checkpoint)

    def run(wanted: Job) -> tuple[list[Report], dict[str, Path]]:
        reports: list[Report] = []
        saved: list[CheckpointSaved] = []
        worker.begin_job()
        train(
            opened(data, code),
            wanted,
            devices=devices,
            folder=folder,
            link=Link(
                report=reports.append,
                answer=lambda n: Reply("continue", save_best=n == 2, save_state=n == 1),
                announce=saved.append,
                name_step=lambda _: None,
            ),
            signals=Signals(),
            fits=lambda: worker.fits(code),
        )
        assert worker.end_job().names == (), "nothing that the next trial would find"
        return reports, {each.kind: folder.path / each.path for each in saved}

    measured: list[SmokeMeasured] = []
    worker.begin_job()
    smoke(
        opened(data, code),
        job(SMOKE, first),
        devices=devices,
        folder=folder,
        link=Link(
            report=pytest.fail,
            answer=pytest.fail,
            announce=measured.append,
            name_step=lambda _: None,
        ),
        signals=Signals(),
    )
    assert worker.end_job().names == ()
    assert request.space.metric in measured[0].metrics

    whole, saved = run(job("t001", first))
    assert [(report.number, report.progress) for report in whole] == [(1, 0.5), (2, 1.0)]
    assert all(math.isfinite(report.metrics[request.space.metric]) for report in whole)
    assert from_pretrained(saved["best"]), "the export loads"
    run(job("t002", {**first, **AGAIN.get(name, {})}))
    resumed, _ = run(job("t001", first, str(saved["state"].relative_to(folder.path))))
    assert without_counts(resumed) == without_counts(whole[1:])


def test_the_page_has_each_script_with_its_metric() -> None:
    """Its table: script, judged by, what else it needs."""
    page = (Path(__file__).parents[2] / "docs" / "your_own_script.md").read_text()
    table = page.partition("## What known scripts need")[2].partition("\n## ")[0]
    judged = re.findall(r"^\| .+? \| `(.+?)` \| .+ \|$", table, re.MULTILINE)
    texts = [(SCRIPTS / f"{name}.py").read_text() for name in NAMES]
    assert sorted(judged) == sorted(re.findall(r' metric="(.+)",', "\n".join(texts)))


def without_counts(reports: list[Report]) -> list[dict[str, Any]]:
    """The numbers of reports but `num_tokens`: TRL (1.16) counts from where a trial goes on."""
    return [
        {key: value for key, value in each.items() if key != "eval_num_tokens"}
        for each in numbers(reports)
    ]
