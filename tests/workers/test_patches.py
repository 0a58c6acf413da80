"""Trials that patch libraries: what is found, what is undone, and who may run after them.

The trials are those of a small network, run in this process as the worker loop runs them.
"""

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from ray import tune
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from sweeps import SearchSpace
from sweeps.records.folder import SweepFolder
from sweeps.report import Report
from sweeps.space import arguments
from sweeps.space.arguments import Devices
from sweeps.workers.isolation.isolated import Isolated, restore
from sweeps.workers.isolation.libraries import Libraries
from sweeps.workers.isolation.patches import NONE, Patched, Patches, PatchRule
from sweeps.workers.isolation.switches import Switches
from sweeps.workers.job import Job, Reply
from sweeps.workers.link import Link
from sweeps.workers.processes import process_server
from sweeps.workers.signals import Signals
from sweeps.workers.training import train

ROWS = [{"x": [float(i % 3), 1.0], "labels": float(i % 2)} for i in range(16)]


class Net(nn.Module):
    """Uses what the kinds of patches below change."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.GELU(), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.layers(x)[:, 0]
        return {"loss": functional.mse_loss(logits, labels), "logits": logits}


@pytest.fixture(scope="module")
def isolated() -> Iterator[Isolated]:
    """This process as a worker that has begun its first job."""
    before = list(sys.meta_path)
    worker = Isolated()
    worker.begin_job()
    worker.end_job()
    yield worker
    sys.meta_path[:] = before


@pytest.fixture
def libraries(isolated: Isolated) -> Libraries:
    return isolated._patches._libraries


@dataclass
class Run:
    reports: list[Report]
    patched: Patched
    signals: Signals = field(default_factory=Signals)

    @property
    def numbers(self) -> list[Any]:
        return [(each.metrics["eval_loss"], each.log_entries) for each in self.reports]


def run(
    isolated: Isolated, folder: Path, patch: Callable[[], object] = lambda: None, **fixed: Any
) -> Run:
    """Run one trial, whose builder makes a patch once it has the model."""

    def build(args: TrainingArguments) -> Trainer:
        net = Net()
        patch()
        return Trainer(net, args, train_dataset=ROWS, eval_dataset=ROWS)

    space = SearchSpace(
        build_trainer=build,
        metric="eval_loss",
        mode="min",
        tuned={"learning_rate": tune.loguniform(1e-3, 1e-1)},
        fixed={"max_steps": 2, "logging_steps": 1, **fixed},
        evals_per_trial=1,
    )
    done = Run([], Patched())
    isolated.begin_job()
    train(
        space,
        Job(trial="t001", attempt=1, params={"learning_rate": 0.05}, seed=1, checkpoint=None),
        devices=Devices(workers=1, gpu=False, bf16=False),
        folder=SweepFolder(folder),
        link=Link(
            report=done.reports.append,
            answer=lambda _: Reply("continue", save_best=False, save_state=False),
            announce=lambda _: None,
            name_step=lambda _: None,
        ),
        signals=done.signals,
        fits=lambda: isolated.fits(folder),
    )
    done.patched = isolated.end_job()
    return done


# The kinds. Each changes the numbers of a trial that runs after it.


def a_function() -> None:
    original = functional.linear
    functional.linear = lambda *args: original(*args) * 1.01


def a_wrapped_method() -> None:
    original = nn.Linear.forward

    @functools.wraps(original)
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return original(self, x) * 1.01

    nn.Linear.forward = forward


def an_inherited_method() -> None:
    nn.GELU.__call__ = lambda self, x: x


def a_class() -> None:
    class Unlike(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1.01

    nn.Sequential = Unlike
    Net.forward.__globals__["nn"].Sequential = Unlike


def the_code_of_a_function() -> None:
    def forward(self: nn.Module, input: torch.Tensor) -> torch.Tensor:
        return input * 0.5

    nn.Dropout.forward.__code__ = forward.__code__


def a_default() -> None:
    functional.mse_loss.__defaults__ = (None, None, "sum", None)


def a_global_hook() -> None:
    nn.modules.module.register_module_forward_hook(lambda module, args, out: _scaled(out))


def _scaled(out: Any) -> Any:
    return out * 1.01 if isinstance(out, torch.Tensor) else out


def a_default_callback() -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_log = False

    transformers.trainer.DEFAULT_CALLBACKS.append(Stops)


def a_method_of_hf() -> None:
    original = Trainer.create_optimizer

    def create_optimizer(self: Trainer, *args: Any) -> Any:
        self.args.learning_rate *= 2
        return original(self, *args)

    Trainer.create_optimizer = create_optimizer


KINDS = {
    a_function: "torch.nn.functional.linear",
    a_wrapped_method: "torch.nn.modules.linear.Linear.forward",
    an_inherited_method: "torch.nn.modules.activation.GELU.__call__",
    a_class: "torch.nn.Sequential",
    the_code_of_a_function: "torch.nn.modules.dropout.Dropout.forward",
    a_default: "torch.nn.functional.mse_loss",
    a_global_hook: "torch.nn.modules.module._global_forward_hooks",
    a_default_callback: "transformers.trainer.DEFAULT_CALLBACKS",
    a_method_of_hf: "transformers.trainer.Trainer.create_optimizer",
}


@pytest.fixture(scope="module")
def reference(isolated: Isolated, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    good = run(isolated, tmp_path_factory.mktemp("good"))
    assert good.patched == Patched(), "HF's own doings are no patches"
    return good.numbers


@pytest.mark.parametrize("optim", ["sgd", "adafactor", "rmsprop"])
def test_what_a_library_does_to_itself_at_its_first_use_is_no_patch(
    isolated: Isolated, tmp_path: Path, optim: str
):
    """torch wraps the `step` of an optimizer's class when it first makes one."""
    assert run(isolated, tmp_path, optim=optim).patched == Patched()


def test_what_datasets_does_to_its_readers_of_files_is_no_patch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    reader = importlib.import_module("datasets.packaged_modules.json.json")
    monkeypatch.setattr(reader, "Path", Path)  # as in a process that has read no JSON yet
    monkeypatch.setattr(reader, "_patched_for_streaming", None, raising=False)
    before = list(sys.meta_path)
    libraries = Libraries()
    sys.meta_path[:] = before
    (tmp_path / "train.json").write_text('{"x": 1}')
    datasets.load_dataset("json", data_files=str(tmp_path / "train.json"), cache_dir=str(tmp_path))
    assert reader.Path is not Path
    assert libraries.changes() == []


def test_what_compiling_does_to_torch_is_no_patch(isolated: Isolated, tmp_path: Path):
    compiled = {"torch_compile": True, "torch_compile_backend": "eager"}
    assert run(isolated, tmp_path, **compiled).patched == Patched()


@pytest.mark.parametrize("bf16", [False, True])
def test_later_jobs_reuse_what_the_first_one_has_compiled(
    isolated: Isolated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
):
    monkeypatch.setattr(arguments, "HALF_PRECISION", ())  # as on a GPU
    compiled = {"torch_compile": True, "torch_compile_backend": "eager", "bf16": bf16}
    runs, graphs = [], []
    for _ in range(3):
        runs.append(run(isolated, tmp_path, **compiled))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == graphs[2] > 0
    assert runs[0].numbers == runs[1].numbers == runs[2].numbers
    plain = run(isolated, tmp_path, torch_compile=False)
    assert (plain.numbers == runs[0].numbers) is not bf16
    torch.compiler.reset()


def test_a_job_compiles_however_many_variants_of_its_code_earlier_jobs_have_compiled() -> None:
    """PyTorch runs a function uncompiled once it has compiled eight variants of it."""
    graphs = list[Any]()

    def keep(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    def scaled(x: torch.Tensor, kind: str) -> torch.Tensor:
        return x * len(kind)

    torch.compiler.reset()
    for job in range(12):
        for _ in range(2):
            torch.compile(scaled, backend=keep)(torch.ones(1), "x" * job)
        restore(Switches([]))
    assert len(graphs) == 12
    torch.compile(scaled, backend=keep)(torch.ones(1), "x" * job)
    assert len(graphs) == 12, "a later job reuses what an earlier one has compiled"
    torch.compiler.reset()


@pytest.mark.parametrize("patch", KINDS, ids=lambda patch: patch.__name__)
def test_what_a_trial_patches_is_named_and_undone_to_the_bit(
    isolated: Isolated, reference: list[Any], tmp_path: Path, patch: Callable[[], None]
):
    patched = run(isolated, tmp_path / "patched", patch).patched
    assert any(name.startswith(KINDS[patch]) for name in patched.names), patched.names
    assert patched.made, "the same change by another trial is known again"
    isolated._patches._expected = NONE  # the next trial is of another kind
    good = run(isolated, tmp_path / "good")
    assert good.numbers == reference
    assert good.patched == Patched()


def test_a_hook_is_taken_out_whole(libraries: Libraries):
    """An OrderedDict of hooks breaks if a key goes past its own methods."""
    hooks = nn.modules.module._global_forward_hooks
    a_global_hook()
    (change,) = libraries.changes()
    change.undo()
    assert list(hooks.items()) == []


def test_a_patch_that_is_left_does_change_numbers(
    isolated: Isolated, reference: list[Any], tmp_path: Path
):
    """So that the test above means something."""
    a_function()
    try:
        assert run(isolated, tmp_path).numbers != reference
    finally:
        isolated._patches._expected = NONE


def test_a_trial_that_makes_the_changes_of_the_last_one_trains_and_any_other_leaves_at_once(
    isolated: Isolated, tmp_path: Path
):
    first, same = (run(isolated, tmp_path / name, a_function) for name in ("first", "same"))
    assert first.patched == same.patched
    assert first.numbers == same.numbers != []
    other = run(isolated, tmp_path / "other", a_default)
    assert (other.reports, other.signals.left_by) == ([], "misplaced")
    run(isolated, tmp_path / "third", a_default)
    none = run(isolated, tmp_path / "none")
    assert (none.reports, none.signals.left_by) == ([], "misplaced")


def test_after_a_change_that_came_once_the_trainer_was_built_no_trial_of_the_process_trains(
    libraries: Libraries,
):
    """It may be done once in a process, so the next trial might train without it."""
    patches = Patches(libraries)
    assert patches.fit()
    a_function()
    assert patches.undo([]).names == ("torch.nn.functional.linear",)
    assert not patches.fit(), "whether it will come cannot be known before it trains"
    a_function()
    assert patches.undo([]).made is None


def test_what_cannot_be_put_back_is_named_with_the_patches(libraries: Libraries):
    patches = Patches(libraries)
    assert patches.undo(["os.nice"]) == Patched(("os.nice",), None)


def test_a_module_that_is_imported_and_patched_by_one_trial_is_seen_as_it_was_made(
    libraries: Libraries,
):
    name = "transformers.models.bert_generation.configuration_bert_generation"
    assert name not in sys.modules, "name one that no test imports"
    module = importlib.import_module(name)
    assert libraries.changes() == []
    module.BertGenerationConfig.to_dict = lambda self: {}
    (change,) = libraries.changes()
    assert change.name == f"{name}.BertGenerationConfig.to_dict"
    change.undo()


def test_a_library_that_runs_late_is_seen_with_all_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "bitsandbytes").mkdir()
    (tmp_path / "bitsandbytes" / "__init__.py").write_text("from bitsandbytes import optim\n")
    (tmp_path / "bitsandbytes" / "optim.py").write_text("def step():\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", [process_server._Late, PathFinder])
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.import_module("bitsandbytes")
    assert "bitsandbytes.optim" not in sys.modules
    libraries = Libraries()
    monkeypatch.setattr(sys.modules["bitsandbytes.optim"], "step", print_nothing)
    (change,) = libraries.changes()
    assert change.name == "bitsandbytes.optim.step"
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        del sys.modules[name]


def test_a_new_name_is_no_change_unless_it_hides_what_was_there(libraries: Libraries):
    ALL_ATTENTION_FUNCTIONS.register("mine", print_nothing)
    nn.Module.my_own_helper = print_nothing
    functional.my_own_function = print_nothing
    assert libraries.changes() == []
    ALL_ATTENTION_FUNCTIONS["sdpa"] = print_nothing
    functional.max = print_nothing
    names = [change.name for change in libraries.changes()]
    for change in libraries.changes():
        change.undo()
    assert len(names) == 2
    assert "sdpa" in "".join(names)
    assert "torch.nn.functional.max" in names
    del nn.Module.my_own_helper, functional.my_own_function
    del type(ALL_ATTENTION_FUNCTIONS)._global_mapping["mine"]


def print_nothing(*_: Any) -> None:
    pass


def test_what_was_done_before_the_first_job_stays():
    isolated = Isolated()
    before, recursion = functional.linear, sys.getrecursionlimit()
    functional.linear = print_nothing
    sys.setrecursionlimit(recursion + 7)
    try:
        isolated.begin_job()
        assert isolated.end_job() == Patched()
        assert functional.linear is print_nothing
        assert sys.getrecursionlimit() == recursion + 7
    finally:
        functional.linear = before
        sys.setrecursionlimit(recursion)


P, Q = frozenset({"a = b"}), frozenset({"a = c"})


@pytest.mark.parametrize(
    ("made", "goes_on"),
    [
        ([NONE, NONE, NONE], [True, True, True]),
        ([P, P, P], [False, True, True]),
        ([NONE, P, P], [True, False, False]),
        ([P, NONE, P, P], [False, True, False, False]),
        ([P, P, Q, P], [False, True, False, False]),
        ([None, None], [False, False]),
        ([P, None, P], [False, False, False]),
    ],
    ids=["none", "all alike", "some", "not the second", "another", "lasting", "lasting once"],
)
def test_a_group_goes_on_where_nothing_is_patched_or_every_trial_patches_the_same(
    made: list[Any], goes_on: list[bool]
):
    rule = PatchRule()
    assert [rule.goes_on(each) for each in made] == goes_on


def test_after_a_trial_that_did_not_fit_no_patched_group_goes_on():
    rule = PatchRule()
    assert [rule.goes_on(P), rule.goes_on(P)] == [False, True]
    rule.differ()
    assert rule.goes_on(P) is False
    assert rule.goes_on(NONE) is True


def test_a_thread_that_a_trial_leaves_behind_is_named(isolated: Isolated, tmp_path: Path):
    stop = threading.Event()

    def draw() -> None:
        while not stop.wait(0.001):
            torch.rand(1)

    def prefetch() -> None:
        threading.Thread(target=draw, name="prefetch", daemon=True).start()

    try:
        patched = run(isolated, tmp_path, prefetch).patched
        assert patched == Patched(("the thread prefetch",), None)
    finally:
        stop.set()


def test_a_thread_that_ends_soon_after_its_trial_is_no_change(isolated: Isolated, tmp_path: Path):
    over = threading.Event()
    thread = threading.Thread(target=lambda: over.wait(30))
    isolated.begin_job()
    thread.start()
    threading.Timer(0.2, over.set).start()
    assert isolated.end_job() == Patched()
    assert not thread.is_alive()


def test_idle_threads_that_a_library_keeps_are_no_change(isolated: Isolated, tmp_path: Path):
    with ThreadPoolExecutor(1) as pool:
        assert run(isolated, tmp_path, lambda: pool.submit(int).result()).patched == Patched()


@pytest.mark.timeout(120)
def test_the_processes_and_threads_of_data_loaders_are_no_change(
    isolated: Isolated, tmp_path: Path
):
    fixed = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    assert run(isolated, tmp_path, **fixed).patched == Patched()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a library that no process has imported yet."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "settings_library.py"
    sys.modules.pop("settings_library", None)


def import_library() -> None:
    importlib.import_module("settings_library")


def test_a_setting_that_a_library_makes_at_its_first_import_is_named(library: Path, tmp_path: Path):
    """No later trial of the process would make it again."""
    library.write_text("import torch\ntorch.set_float32_matmul_precision('medium')\n")
    before, isolated = list(sys.meta_path), Isolated()
    try:
        name = "torch.set_float32_matmul_precision (by import settings_library)"
        patched = run(isolated, tmp_path, import_library).patched
        assert patched.names[0] == name
        assert patched.made is None
        assert torch.get_float32_matmul_precision() == "highest"
        assert run(isolated, tmp_path, import_library).patched == Patched(), "it was not made"
    finally:
        sys.meta_path[:] = before


def test_a_trial_that_sets_what_a_library_does_not_is_no_change(library: Path, tmp_path: Path):
    library.write_text("import os\nos.environ['SETTINGS_LIBRARY'] = '1'\n")
    before, isolated = list(sys.meta_path), Isolated()

    def import_and_set() -> None:
        import_library()
        torch.set_float32_matmul_precision("medium")

    try:
        assert run(isolated, tmp_path, import_and_set, tf32=True).patched == Patched()
    finally:
        sys.meta_path[:] = before
