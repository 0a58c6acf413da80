"""Each job imports the user's own code anew: no trial sees what another left in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space.arguments import Devices
from sweeps.space.code_copy import copy_code
from sweeps.workers.isolation import own_modules
from sweeps.workers.isolation.isolated import Isolated
from sweeps.workers.isolation.patches import Patched
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.pickled_space import import_libraries, opened, pickled
from sweeps.workers.signals import Signals
from sweeps.workers.training import train

SPACE = """
from __future__ import annotations

import torch
from ray import tune
from transformers import Trainer, TrainingArguments

from sweeps import SearchSpace
{top}


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.rand(1))

    def forward(self, x, labels):
        return {{"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}}


ROWS = [{{"x": [1.0], "labels": [float(i % 2)]}} for i in range(16)]


def build(args: {arguments}):
    {body}
    return Trainer({net}, args, train_dataset=ROWS, eval_dataset=ROWS[:8])


SEARCH_SPACE = SearchSpace(
    build_trainer={builder},
    metric="eval_loss",
    mode="min",
    tuned={{"learning_rate": tune.loguniform(1e-3, 1e-1)}},
    fixed={{"max_steps": 2, "logging_steps": 1, "seed": 1}},
    evals_per_trial=2,
)
"""
OWN = ("sweeps_space_mine", "of_mine", "things", "package")
CACHE = "from functools import lru_cache\n\n\n@lru_cache\ndef net(kind):\n    return kind()\n"
METRIC = """
import datasets
import evaluate


class Halves(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int32")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions):
        return {"share": 0.5}
"""
OWN_ARGUMENTS = """
from dataclasses import dataclass


@dataclass
class Mine(TrainingArguments):
    alpha: float = 0.5
"""
OWN_BUILDER = """
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Builder:
    lock: object = field(default_factory=threading.Lock)
    scale: float = 1.0

    def __post_init__(self):
        self.guard = threading.Lock()

    def __call__(self, args):
        assert self.scale == 2.0
        with self.lock, self.guard:
            return build(args)
"""
CONFIG = """
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel


class MyConfig(PretrainedConfig):
    model_type = "sweeps-test-config"


class MyModel(PreTrainedModel):
    config_class = MyConfig


AutoConfig.register("sweeps-test-config", MyConfig)
AutoModel.register(MyConfig, MyModel)
"""
PATCH = """
_log = Trainer.log


def log(self, logs, *rest):
    if "loss" in logs:
        logs["loss"] += 1.0
    _log(self, logs, *rest)


Trainer.log = log
torch.backends.cudnn.benchmark = True
"""
CASES: dict[str, dict[str, str]] = {
    "nothing": {},
    "a cache": {"top": CACHE, "net": "net(Net)"},
    "a global": {"top": "NETS = []", "body": "NETS.append(Net())", "net": "NETS[0]"},
    "a file beside": {
        "top": "from pathlib import Path",
        "body": "args.max_steps = int((Path(__file__).parent / 'steps.txt').read_text())",
    },
    "a lock": {"top": "import threading\nLOCK = threading.Lock()", "body": "LOCK.acquire()"},
    "a lock in a lambda": {
        "top": "import threading\nLOCK = threading.Lock()",
        "builder": "lambda args: build(args) if LOCK.acquire(blocking=False) else None",
    },
    "a console": {"top": "import io\nOUT = open('/dev/null', 'w')", "body": "OUT.write('')"},
    "a generator": {"top": "COUNT = iter(range(9))", "body": "args.max_steps = 2 + next(COUNT)"},
    "a metric": {
        "top": "from pathlib import Path\nimport evaluate\n"
        "M = evaluate.load(str(Path(__file__).parent / 'halves'))",
        "body": "assert M.compute(predictions=[1]) == {'share': 0.5}",
    },
    "own arguments": {"top": OWN_ARGUMENTS, "arguments": "Mine", "body": "assert args.alpha"},
    "a builder with a lock": {"top": OWN_BUILDER, "builder": "Builder(scale=2.0)"},
    "a registered model": {"top": CONFIG, "body": "AutoConfig.for_model('sweeps-test-config')"},
    "a cache in a helper": {"top": "import of_mine", "net": "of_mine.net(Net)"},
    "a cache in a folder": {"top": "import things.of_mine as its", "net": "its.net(Net)"},
    "a switch": {"top": "import warnings\nwarnings.simplefilter('ignore')"},
}
IN_A_PACKAGE = {
    "a relative import": {"top": "from .of_mine import net", "net": "net(Net)"},
    "a cache in a sub-package": {"top": "from .inner import of_mine", "net": "of_mine.net(Net)"},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder; what is imported in it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in OWN]:
        del sys.modules[name]


def write(folder: Path, **parts: str) -> Path:
    whole = {"top": "", "body": "pass", "net": "Net()", "builder": "build"}
    for each in (folder, folder / "inner", folder / "things", folder / "halves"):
        each.mkdir(exist_ok=True, parents=True)
        (each / "of_mine.py").write_text(CACHE)
    (folder / "halves" / "halves.py").write_text(METRIC)
    (folder / "steps.txt").write_text("2")
    file = folder / "mine.py"
    file.write_text(SPACE.format(**{**whole, "arguments": "TrainingArguments", **parts}))
    return file


def sent(name: str, folder: Path, *assignments: str) -> tuple[bytes, Path]:
    """What the sweep process sends to the workers, and its copy of the code."""
    request = make_request(name, SweepConfig(), assignments=assignments)
    code = folder / "code"
    copy_code(request.loaded, code)
    data = pickled(request.loaded, request.space)
    forget()  # a worker is another process
    return data, code


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    """This process as a worker."""
    before = list(sys.meta_path)
    forget()
    worker = Isolated()
    worker.begin_job()
    worker.end_job()
    yield worker
    sys.meta_path[:] = before


def jobs(
    isolated: Isolated, data: bytes, code: Path, folder: Path, count: int = 2
) -> list[tuple[Any, Patched]]:
    """Run jobs as the worker loop does; return the numbers of each, and what it has patched."""
    import_libraries(data, code)
    found = []
    for _ in range(count):
        isolated.begin_job()
        reports: list[Report] = []
        train(
            opened(data, code),
            Job(trial="t001", attempt=1, params={"learning_rate": 0.05}, seed=1, checkpoint=None),
            devices=Devices(workers=1, gpu=False, bf16=False),
            folder=SweepFolder(folder),
            link=Link(
                report=reports.append,
                answer=lambda _: Reply("continue", save_best=True, save_state=False),
                announce=lambda _: None,
                name_step=lambda _: None,
            ),
            signals=Signals(),
            fits=lambda: isolated.fits(code),
        )
        numbers = [(each.step, each.metrics["eval_loss"], each.log_entries) for each in reports]
        found.append((numbers, isolated.end_job()))
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_trial_begins_alike_whatever_the_code_keeps(
    case: str, here: Path, isolated: Isolated
):
    write(here / "project", **CASES[case])
    assignments = ("scale=2.0",) if "builder with" in case else ()
    data, code = sent("project/mine.py", here, *assignments)
    first, second = jobs(isolated, data, code, here / "sweep")
    assert len(first[0]) == 2
    assert second == first
    assert not {name.split(".")[0] for name in sys.modules}.intersection(OWN)


@pytest.mark.parametrize("case", IN_A_PACKAGE)
def test_a_package_is_imported_under_its_name_anew(case: str, here: Path, isolated: Isolated):
    write(here / "package", **IN_A_PACKAGE[case])
    (here / "package" / "__init__.py").write_text("")
    data, code = sent("package.mine", here)
    first, second = jobs(isolated, data, code, here / "sweep")
    assert len(first[0]) == 2
    assert second == first


def test_own_files_outside_the_copy_are_told_as_each_trial_imports_them(
    here: Path, isolated: Isolated
):
    """They are not copied, such as those of an editable install: an edit is trained with."""
    outside = here / "elsewhere" / "of_mine.py"
    top = f"import sys\nsys.path.insert(0, {str(outside.parent)!r})\nimport of_mine, things.of_mine"
    write(here / "project", top=top)
    for beside in (here / "project" / "of_mine.py", here / "project" / "inner" / "of_mine.py"):
        beside.unlink()
    outside.parent.mkdir()
    seen = []
    for text in ("KIND = 1", "KIND = 1", "KIND = 22"):
        outside.write_text(text)
        if not seen:
            data, code = sent("project/mine.py", here)
        jobs(isolated, data, code, here / "sweep", count=1)
        seen.append(isolated.own_files)
    assert [[*files] for files in seen] == [[str(outside)]] * 3
    first, second, third = (files[str(outside)] for files in seen)
    assert first == second != third


def test_workers_get_the_values_of_the_sweep_not_those_that_the_file_would_make_there(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    top = """
import os
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    SMALL = "small"


@dataclass
class Builder:
    scale: float
    name: str
    kind: Kind = Kind.SMALL

    def __call__(self, args): ...
"""
    monkeypatch.setenv("SCALE", "3.0")
    made = "Builder(float(os.environ.get('SCALE', 0)), name='a')"
    write(here / "project", top=top, builder=made)
    data, code = sent("project/mine.py", here, "name=b", "num_train_epochs=7")
    monkeypatch.delenv("SCALE")
    space = opened(data, code)
    assert (space.builder.values["scale"], space.builder.values["name"]) == (3.0, "b")
    assert space.fixed["num_train_epochs"] == 7
    assert space.builder.values["kind"] is sys.modules["sweeps_space_mine"].Kind.SMALL
    assert Path(sys.modules["sweeps_space_mine"].__file__ or "").parent == code


def test_libraries_are_imported_before_the_first_job_and_own_modules_are_not(here: Path):
    library = here / "site-packages" / "library_of_mine.py"
    library.parent.mkdir()
    library.write_text("")
    sys.path.insert(0, str(library.parent))
    (here / "project").mkdir()
    (here / "project" / "broken.py").write_text("def f(:")
    tried = "try:\n    import {}\nexcept SyntaxError:\n    pass\n"
    top = f"{tried.format('broken')}{tried.format('of_mine')}from typing import TYPE_CHECKING"
    write(here / "project", top=f"{top}\nif TYPE_CHECKING:\n    import of_nobody")
    (here / "project" / "of_mine.py").write_text("import library_of_mine")
    data, code = sent("project/mine.py", here)
    sys.modules.pop("library_of_mine")
    import_libraries(data, code)
    assert "library_of_mine" in sys.modules
    assert "of_mine" not in sys.modules
    del sys.modules["library_of_mine"]


def test_a_library_that_the_code_may_not_want_is_left_to_the_job(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    """It may patch others, which every trial would then begin with."""
    (here / "library_of_mine.py").write_text("")
    monkeypatch.syspath_prepend(str(here))
    write(here / "project", top="if False:\n    import library_of_mine")
    data, code = sent("project/mine.py", here)
    import_libraries(data, code)
    assert "library_of_mine" not in sys.modules


def test_python_code_around_compiled_code_stays(here: Path, monkeypatch: pytest.MonkeyPatch):
    """C code is loaded once in a process; its package would lose it."""
    package, compiled = ModuleType("around"), ModuleType("around._c")
    package.__file__, compiled.__file__ = str(here / "around.py"), str(here / "_c.abi3.so")
    alone = ModuleType("alone")
    alone.__file__ = str(here / "alone.py")
    before = frozenset(sys.modules)
    for module in (package, compiled, alone):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert own_modules.forget(before) == {"alone"}
    assert "around" in sys.modules


def test_what_a_file_patches_at_its_import_is_patched_once_in_each_job(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    write(here / "project", top=PATCH)
    before = transformers.Trainer.log
    data, code = sent("project/mine.py", here)
    transformers.Trainer.log = before  # the worker is another process
    first, second = jobs(Isolated(), data, code, here / "sweep")
    assert all(1.0 < entry.loss < 2.0 for _, _, entries in first[0] for entry in entries)
    assert second == first
    assert first[1].names == ("transformers.trainer.Trainer.log",)
    assert transformers.Trainer.log is before
