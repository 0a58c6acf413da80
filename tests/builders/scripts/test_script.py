"""A script as a builder: its trials equal the plain script with the same values to the last bit."""

from __future__ import annotations

import gc
import shutil
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace
from sweeps.builders.scripts.script import Script
from sweeps.driver.requests.make_sweep_record import space_record
from sweeps.errors import UserError
from sweeps.records.events import Phase
from sweeps.space.arguments import argument_fields, argument_values, trial_seed
from sweeps.space.code_copy import copy_code
from sweeps.space.loading import LoadedSpace, load_copy
from sweeps.workers.isolation import isolated
from sweeps.workers.job import Reply
from sweeps.workers.pickled_space import import_libraries, opened, pickled
from tests.builders.scripts.scripted import (
    HEAD,
    NET,
    WITH_FLAGS,
    plain,
    plainly,
    project,
    reported,
    requested,
    space_of,
    tried,
    words_of,
    written,
)
from tests.workers.test_training import CPU, run_job


@pytest.mark.parametrize(
    ("script", "params", "flags"),
    [
        ("glue.py", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("qa.py", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("summarize.py", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("tutorial.py", {"learning_rate": 2e-5}, []),
        ("lora_click.py", {"learning_rate": 3e-3}, ["--lr", "0.003"]),
        ("trl.scripts.sft", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("trl.scripts.dpo", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("trl.scripts.reward", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
        ("trl.scripts.kto", {"learning_rate": 3e-3}, ["--learning_rate", "0.003"]),
    ],
)
def test_a_trial_equals_the_plain_script_with_its_values_to_the_last_bit(
    script: str, params: dict[str, Any], flags: list[str], tmp_path: Path
):
    words = words_of(script, tmp_path)
    expected = plain(script, [*words, *flags], tmp_path)
    space = space_of(script, *words, folder=tmp_path)
    reports, _ = run_job(space, params, tmp_path / "sweep")
    evaluations = [plainly(entry) for entry in expected if "eval_loss" in entry][:4]
    assert len(evaluations) == 4
    assert reported(reports) == evaluations
    assert evaluations[0]["eval_loss"] != evaluations[3]["eval_loss"], "it trains"


def test_a_resumed_trial_goes_on_as_if_nothing_had_been(tmp_path: Path):
    space = space_of("tutorial.py", folder=tmp_path)
    params = {"learning_rate": 3e-3}
    whole, _ = run_job(space, params, tmp_path / "whole")

    def stop(number: int) -> Reply:
        return Reply("pause" if number == 2 else "continue", save_best=False, save_state=False)

    first, saved = run_job(space, params, tmp_path / "cut", stop)
    rest, _ = run_job(space, params, tmp_path / "cut", checkpoint=saved[-1].path)
    assert [len(first), len(rest)] == [2, 2]
    assert reported([*first, *rest]) == reported(whole)


@pytest.mark.parametrize(
    "ending",
    [
        "try:\n    trainer.train()\nexcept Exception:\n    print('failed')",
        "try:\n    trainer.train()\nexcept:\n    print('failed')",
        "try:\n    trainer.train()\nfinally:\n    torch.distributed.destroy_process_group()",
        "import sys\nsys.exit(trainer.train())",
        "class Mine(Trainer):\n    def train(self, **more):\n        torch.rand(1)\n"
        "        return super().train(**more)\nmake(arguments(), Mine).train()",
    ],
)
def test_train_is_left_whatever_stands_around_it(ending: str, tmp_path: Path):
    body = "" if "Mine" in ending else "trainer = make(arguments())\n"
    space = written(tmp_path, body + ending)
    reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert [report.number for report in reports] == [1, 2, 3, 4]


ACTS = """
import contextlib, pathlib

def act(what):
    with pathlib.Path("acts.txt").open("a") as file:
        print(what, file=file)

class Saves:
    def __enter__(self):
        return self
    def __exit__(self, *error):
        act(f"class, {error}")

@contextlib.contextmanager
def saves():
    try:
        yield
    finally:
        act("generator")

def fit(trainer):
    try:
        with Saves(), saves():
            trainer.train()
    except:
        act("except")
    finally:
        act("finally")
        return

trainer = make(arguments())
try:
    fit(trainer)
except BaseException:
    act("BaseException")
else:
    act("else")
finally:
    trainer.save_model("models/final")
"""


def test_nothing_of_a_script_runs_after_it_has_called_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It would save an untrained model in place of the user's."""
    monkeypatch.chdir(tmp_path)
    space = written(tmp_path, ACTS)
    before = {*tmp_path.iterdir()}
    reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    gc.collect()
    assert [report.number for report in reports] == [1, 2, 3, 4]
    assert {*tmp_path.iterdir()} - before == {tmp_path / "sweep"}
    assert not (tmp_path / "acts.txt").exists()
    assert not (tmp_path / "models").exists()


def test_the_handlers_of_a_script_work_again_once_it_is_left(tmp_path: Path):
    text = """
def safely(work):
    try:
        work()
    except AttributeError:
        pass

class Mine(Trainer):
    def compute_loss(self, *given, **named):
        safely(lambda: self.missing)
        return super().compute_loss(*given, **named)

safely(make(arguments(), Mine).train)
"""
    reports, _ = run_job(written(tmp_path, text), {"learning_rate": 0.05}, tmp_path / "sweep")
    assert [report.number for report in reports] == [1, 2, 3, 4]


def test_nothing_of_a_script_runs_after_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="asks for input"):
        written(tmp_path, "try:\n    input()\nfinally:\n    make(arguments()).save_model('models')")
    assert not (tmp_path / "models").exists()


def test_what_follows_from_a_value_follows_from_that_of_the_trial(tmp_path: Path):
    text = """
from dataclasses import dataclass

@dataclass
class Mine(TrainingArguments):
    scale: float = 2.0
    doubled: float = 0.0

    def __post_init__(self):
        self.doubled = self.scale * self.learning_rate
        super().__post_init__()

args = Mine("out", max_steps=8, learning_rate=1e-3, lr_scheduler_kwargs={"a": 1},
            save_strategy="steps", load_best_model_at_end=True, eval_strategy="steps")
args.eval_strategy = "epoch"  # without effect: sweeps owns it
make(args).train()
"""
    space = written(tmp_path, text)
    assert space.builder.argument_values["learning_rate"] == 1e-3
    assert argument_fields(space.build_trainer)["scale"] is False
    values = argument_values(
        replace(space, fixed={"lr_scheduler_kwargs.b": 2}),
        {"learning_rate": 0.5, "scale": 3.0, "total_train_batch_size": 16},
        devices=CPU,
        output_dir=tmp_path / "trial",
        seed=5,
    )
    args = space.build_trainer(values).args
    assert (args.doubled, args.learning_rate, args.seed) == (1.5, 0.5, 5)
    assert (args.eval_strategy, args.load_best_model_at_end) == ("steps", False)
    assert args.per_device_train_batch_size == 16
    assert args.lr_scheduler_kwargs == {"a": 1, "b": 2}
    assert args.output_dir == str(tmp_path / "trial")


def test_what_the_script_sets_later_is_its_own_value(tmp_path: Path):
    text = """
args = arguments(seed=3, fp16=True)
args.seed = 4
args.fp16 = False
args.weight_decay = 0.1
make(args).train()
"""
    space = written(tmp_path, text)
    own = {"max_steps": 8, "seed": 4, "weight_decay": 0.1}
    assert space.builder.argument_values == own
    assert trial_seed(space, {}, default=0) == 4
    reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert len(reports) == 4


def test_a_line_that_changes_a_tuned_value_is_refused(tmp_path: Path):
    text = "args = arguments()\nargs.learning_rate = 1e-3  # HERE\nmake(args).train()"
    space = written(tmp_path, text)
    line = (HEAD + text).split("\n").index("args.learning_rate = 1e-3  # HERE") + 1
    with pytest.raises(UserError) as raised:
        run_job(space, {"learning_rate": 0.05}, tmp_path / "sweep")
    assert raised.value.problems == [
        f"line {line}: args.learning_rate = 1e-3  # HERE: this sets learning_rate to 0.001, but the"
        " sweep sets it to 0.05 in this trial; remove this line, or remove learning_rate from the"
        " space"
    ]


@pytest.mark.parametrize(
    "change",
    [
        "args = copy.deepcopy(args); args.learning_rate = 1e-3",
        "args = copy.copy(args); vars(args).update(learning_rate=1e-3)",
        "args.set_optimizer(learning_rate=1e-3)",
        "vars(args).update(learning_rate=1e-3)",
    ],
)
def test_a_tuned_value_is_that_of_the_trial_however_the_script_changes_it(
    change: str, tmp_path: Path
):
    space = written(tmp_path, f"import copy\nargs = arguments()\n{change}\nmake(args).train()")
    with pytest.raises(UserError, match=r"sets learning_rate to 0\.001, but the sweep sets it"):
        space.build_trainer({"output_dir": str(tmp_path / "trial"), "learning_rate": 0.05})


@pytest.mark.parametrize(
    "made",
    [
        "arguments(run_name='mine')\nargs.report_to = ['tensorboard']",
        "TrainingArguments('out', max_steps=8, report_to='tensorboard')\nargs.run_name = 'mine'",
    ],
    ids=["later", "at once"],
)
def test_a_trial_is_logged_to_the_trackers_of_the_script(made: str, tmp_path: Path):
    """In a run that is named after the trial, as with a function."""
    space = written(tmp_path, f"args = {made}\nmake(args).train()")
    output = tmp_path / "sweep" / "checkpoints" / "t001"
    values = argument_values(space, {"learning_rate": 0.05}, devices=CPU, output_dir=output, seed=5)
    trainer = space.build_trainer(values)
    assert (trainer.args.report_to, trainer.args.run_name) == (["tensorboard"], "sweep-t001")
    assert "TensorBoardCallback" in trainer.callback_handler.callback_list


def test_a_copy_of_the_arguments_and_what_sweeps_owns_pass(tmp_path: Path):
    text = """
import copy

class Mine(Trainer):
    def __init__(self, net, args, **more):
        super().__init__(net, copy.copy(args), **more)

args = arguments()
args.set_save("epoch")  # without effect: sweeps owns it
make(args, Mine).train()
"""
    space = written(tmp_path, text)
    values = {"output_dir": str(tmp_path / "trial"), "learning_rate": 0.05, "save_strategy": "no"}
    args = space.build_trainer(values).args
    assert (args.learning_rate, args.save_strategy) == (0.05, "no")


def test_a_package_runs_as_python_m_runs_it(tmp_path: Path):
    package = tmp_path / "own_package"
    package.mkdir()
    (tmp_path / "own_net.py").write_text(NET)
    (package / "__init__.py").write_text("")
    (package / "seeds.py").write_text("SEED = 17")
    body = "from .seeds import SEED\nmake(arguments(seed=SEED)).train()"
    (package / "__main__.py").write_text(HEAD + body)
    for name in ("own_package", "own_package.__main__"):
        builder = tried(name, folder=tmp_path / "dry_runs", place=tmp_path)
        assert builder.script_folder == tmp_path
        assert builder.argument_values["seed"] == 17


def test_fewer_rows_are_half_of_those_that_the_trials_own_flag_gives(tmp_path: Path):
    """The dry run had others."""
    text = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=8)
options = parser.parse_args()
make(arguments(per_device_train_batch_size=options.batch)).train()
"""
    space = replace(written(tmp_path, text), tuned={"batch": tune.choice([8, 32])})
    whole, _ = run_job(space, {"batch": 32}, tmp_path / "whole")
    assert whole[-1].epoch == 4
    phases = frozenset[Phase]({"training", "evaluation"})
    halved, _ = run_job(space, {"batch": 32}, tmp_path / "halved", reduced=phases)
    losses = [each.metrics["eval_loss"] for each in whole]
    assert [each.metrics["eval_loss"] for each in halved] == pytest.approx(losses)
    assert [each.epoch for each in halved] == [each.epoch for each in whole]
    builder = space.build_trainer.with_fewer_rows(phases)  # type: ignore[attr-defined]
    args = builder({"output_dir": str(tmp_path / "trial")}, batch=32).args
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (16, 2)
    assert args.per_device_eval_batch_size == 4


def test_a_second_trial_in_a_process_equals_one_in_a_fresh_process(tmp_path: Path):
    text = """
import own_net
own_net.calls = getattr(own_net, "calls", 0) + 1
assert own_net.calls == 1 and __name__ == "__main__"
make(arguments()).train()
"""
    space = written(tmp_path, text)
    main, argv = sys.modules["__main__"], list(sys.argv)
    process = isolated.Isolated()
    found = []
    for number in range(2):
        process.begin_job()
        reports, _ = run_job(space, {"learning_rate": 0.05}, tmp_path / f"sweep{number}")
        found.append(reported(reports))
        assert sys.modules["__main__"] is not main
        patched = process.end_job()
        assert patched.names == ()
    assert found[0] == found[1]
    assert (sys.modules["__main__"], sys.argv) == (main, argv)


def test_a_worker_runs_the_copy_of_the_script_and_of_what_is_beside_it(tmp_path: Path):
    space_file = project(tmp_path / "project")
    request = requested(str(space_file), tmp_path)
    assert request.space.builder.keywords == {"width", "rows"}
    code = tmp_path / "sweep" / "code"
    copy_code(request.loaded, code)
    shutil.rmtree(tmp_path / "project")
    space = opened(pickled(request.loaded, request.space), code)
    assert space.builder.script_file == code / "train.py"
    reports, _ = run_job(space, {"learning_rate": 0.05, "rows": 32}, tmp_path / "sweep")
    assert reports[-1].max_steps == 8
    assert reports[-1].epoch == 2.0  # 32 rows, 8 at a time
    assert sys.modules["own_net"].__file__ == str(code / "own_net.py")


def test_the_script_of_a_space_made_in_python_goes_along(tmp_path: Path):
    project(tmp_path / "project")
    tuned = {"learning_rate": tune.uniform(0.0, 1.0), "rows": tune.choice([32])}
    space = SearchSpace(
        build_trainer=Script("train.py"), metric="eval_loss", mode="min", tuned=tuned
    )
    request = requested(space, tmp_path)
    code = tmp_path / "sweep" / "code"
    copy_code(request.loaded, code)
    there = opened(pickled(request.loaded, request.space), code).builder
    assert there.script_file == code / "train.py"
    assert there.argument_values == {"max_steps": 8, "seed": 42}


def test_a_recorded_space_runs_the_recorded_script(tmp_path: Path):
    space_file = project(tmp_path / "project")
    first = requested(str(space_file), tmp_path)
    code = tmp_path / "sweep" / "code"
    copy_code(first.loaded, code)
    again = requested(load_copy(code, "search_spaces/widths.py", dotted=False), tmp_path)
    assert again.space.builder.script_file == code / "train.py"
    assert space_record(again) == space_record(first)
    assert not space_record(first).has_test_split
    (code / "train.py").write_text(HEAD + WITH_FLAGS + "# changed\n")
    changed = requested(load_copy(code, "search_spaces/widths.py", dotted=False), tmp_path)
    assert space_record(changed).builder != space_record(first).builder


def test_the_libraries_of_an_installed_script_are_imported_before_the_first_job(tmp_path: Path):
    builder = Script("trl.scripts.sft").located([])
    space = SearchSpace(build_trainer=builder, metric="eval_loss", mode="min", tuned={})
    # The environment may lie below the working folder, and is not copied.
    loaded = LoadedSpace(space=space, name="-", file=None, root=Path("/"), folder=None)
    import_libraries(pickled(loaded, space), tmp_path / "code")
    assert "trl.trainer.sft_trainer" in sys.modules, "it is imported in a function"


def test_the_model_of_the_script_that_ran_before_is_freed_first(tmp_path: Path):
    text = "model = Net()\ndef f(): return model\nprint('made')\nmake(arguments()).train()"
    builder = written(tmp_path, text).build_trainer
    values = {"output_dir": str(tmp_path / "trial")}
    builder(values)
    before = weakref.ref(vars(sys.modules["__main__"])["model"])
    gc.disable()
    try:
        builder(values)
    finally:
        gc.enable()
    assert before() is None
