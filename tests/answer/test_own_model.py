"""Models whose class is the user's own: built with the recorded code, loaded strictly, handed over.

Each is trained in this process, by a space in a file.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sweeps.answer.export import export_checkpoint
from sweeps.answer.model_process import examine
from sweeps.answer.results import Results
from sweeps.config import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.errors import SweepError
from sweeps.records import events as ev
from sweeps.records.event_log import EventLog
from sweeps.records.folder import SweepFolder
from tests.trained_sweep import examined_here, trained_sweep

SPACE = """
import torch
from ray import tune
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments

from sweeps import SearchSpace
{top}

ROWS = [{{"x": [1.0], "labels": [float(i % 2)]}} for i in range(16)]


def build(args: TrainingArguments, *, width: int = 1):
{body}
    return Trainer({net}, args, train_dataset=ROWS, eval_dataset=ROWS[:8])


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="eval_loss",
    mode="min",
    tuned={{"learning_rate": tune.loguniform(1e-3, 1e-1), "width": tune.choice([1, 2])}},
    fixed={{"max_steps": 2}},
    evals_per_trial=2,
)
"""
MODULE = """
import torch


class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.w = torch.nn.Parameter(torch.rand(width))

    def forward(self, x, labels=None):
        return {"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}
"""
PRETRAINED = """
import torch
from transformers import PretrainedConfig, PreTrainedModel


class MyConfig(PretrainedConfig):
    model_type = "my-net"
    width: int = 1


class MyNet(PreTrainedModel):
    config_class = MyConfig

    def __init__(self, config):
        super().__init__(config)
        self.w = torch.nn.Parameter(torch.rand(config.width))
        self.post_init()

    def forward(self, x, labels=None):
        return {"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}
"""
NAMESAKE = """
from transformers import BertConfig, BertModel as TheirModel


class BertModel(TheirModel):
    def __init__(self, config):
        super().__init__(config)
        self.w = torch.nn.Parameter(torch.rand(2))

    def forward(self, x, labels=None):
        return {"loss": (self.w * x - labels).square().mean(), "logits": self.w * x}


SMALL = {"vocab_size": 8, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1,
         "intermediate_size": 4}
"""
ADAPTED = MODULE.replace(
    "torch.rand(width))", "torch.rand(width))\n        self.inner = torch.nn.Linear(1, 1)"
)
ADAPTED = ADAPTED.replace("self.w * x", "self.inner(x)")
LORA = "get_peft_model(Net(width), LoraConfig(target_modules=['inner'], r=1))"
INSIDE = "".join(f"    {line}\n" for line in MODULE.splitlines())
AT = 'import sys; sys.path.insert(0, "code"); '
FILL = "import safetensors.torch; model.load_state_dict(safetensors.torch.load_file({!r}))"
FILL = FILL.format("model.safetensors").replace("'", '"')
CASES: dict[str, tuple[dict[str, str], str]] = {
    "a PreTrainedModel": (
        {"top": PRETRAINED, "net": "MyNet(MyConfig(width=width))"},
        f'{AT}from mine import MyNet; model = MyNet.from_pretrained(".")',
    ),
    "in a helper": (
        {"helper": PRETRAINED, "top": "import nets", "net": "nets.MyNet(nets.MyConfig(width=2))"},
        f'{AT}from nets import MyNet; model = MyNet.from_pretrained(".")',
    ),
    "under a name of transformers": (
        {"top": NAMESAKE, "net": "BertModel(BertConfig(**SMALL))"},
        f'{AT}from mine import BertModel; model = BertModel.from_pretrained(".")',
    ),
    "a module": (
        {"top": MODULE, "net": "Net(width)"},
        f"{AT}from mine import Net; model = Net(...); {FILL}",
    ),
    "a module without arguments": (
        {"helper": MODULE.replace("(self, width)", "(self)").replace("rand(width)", "rand(3)"),
         "top": "from nets import Net", "net": "Net()"},
        f"{AT}from nets import Net; model = Net(); {FILL}",
    ),
    "a module in a function": ({"body": INSIDE, "net": "Net(width)"}, f"model = ...; {FILL}"),
    "an adapter of a module": (
        {"top": f"from peft import LoraConfig, get_peft_model\n{ADAPTED}", "net": LORA},
        f"import peft; {AT}from mine import Net; model = Net(...);"
        ' model = peft.PeftModel.from_pretrained(model, ".")',
    ),
}  # fmt: skip

Made = Callable[..., Results]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """A sweep with one trial, whose second report is saved."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def forget() -> None:
        for name in {"sweeps_space_mine", "mine", "nets"} & set(sys.modules):
            del sys.modules[name]

    def made(body: str = "    pass", helper: str = "", top: str = "", net: str = "") -> Results:
        project = tmp_path / "project"
        project.mkdir()
        (project / "nets.py").write_text(helper)
        (project / "mine.py").write_text(SPACE.format(top=top, body=body, net=net))
        request = make_request(str(project / "mine.py"), SweepConfig(), base=tmp_path)
        folder = SweepFolder(tmp_path / "results" / "mine-20261128-0741-k3f9")
        results = trained_sweep(request, folder, {"learning_rate": 0.05, "width": 2})
        forget()  # whoever exports is another process
        return results

    yield made
    forget()


def best(results: Results) -> Path:
    return results.folder.path / results.history.trials["t001"].checkpoints["best"].path


@pytest.mark.parametrize("case", CASES)
def test_a_model_of_ones_own_is_built_with_the_recorded_code(case: str, make: Made) -> None:
    parts, load = CASES[case]
    results = make(**parts)
    told = examine(results.folder, "t001", best(results), rows="held-out")
    assert told.load == load
    reported = results.history.trials["t001"].reports[-1].metrics["eval_loss"]
    assert told.metrics is not None
    assert told.metrics["eval_loss"] == pytest.approx(reported, rel=1e-6)
    assert examine(results.folder, "t001", best(results), rows=None).load == load


def test_the_model_of_a_run_of_a_confirmation_is_built_with_its_params(make: Made) -> None:
    parts, load = CASES["a module"]
    results = make(**parts)
    params = results.history.trials["t001"].params
    run = ev.TrialSuggested(trial="c001", params=params, origin="first_params", seed=7)
    log = EventLog(results.folder.events_file, ())
    log.append(ev.ConfirmationStarted(arms=["t001"], baseline="t001", seeds=[7]))
    log.append(ev.OfConfirmation(inner=run))
    log.close()
    assert examine(results.folder, "c001", best(results), rows=None).load == load


@pytest.mark.parametrize("rows", ["held-out", None])
@pytest.mark.parametrize("case", ["a PreTrainedModel", "a module"])
def test_weights_that_do_not_fit_the_recorded_code_are_refused(
    case: str, rows: Any, make: Made
) -> None:
    results = make(**CASES[case][0])
    code = results.folder.code / "mine.py"
    code.write_text(code.read_text().replace("self.w ", "self.v ").replace("self.w)", "self.v)"))
    with pytest.raises((SweepError, RuntimeError), match=r"(?s)[Mm]issing.*[Uu]nexpected"):
        examine(results.folder, "t001", best(results), rows=rows)


@pytest.mark.slow
def test_the_export_has_the_code_and_says_how_to_load_it(make: Made, tmp_path: Path) -> None:
    results = make(**CASES["in a helper"][0])
    out = tmp_path / "out"
    told = export_checkpoint(results, out)
    assert told["evaluated_again"]["value"] == pytest.approx(told["value"], rel=1e-6)
    assert sorted(path.name for path in (out / "code").iterdir()) == ["mine.py", "nets.py"]
    names: dict[str, Any] = {}
    with chdir(out):
        exec(told["load"], names)
    saved = load_file(best(results) / "model.safetensors")
    assert torch.equal(names["model"].state_dict()["w"], saved["w"])


def test_a_space_made_in_python_has_no_code_and_its_model_is_handed_over_as_it_is(
    make: Made, tmp_path: Path
) -> None:
    results = make(**CASES["a module"][0])
    source = dataclasses.replace(results.record.source, file=None)
    record = dataclasses.replace(results.record, source=source)
    out = tmp_path / "out"
    told = export_checkpoint(dataclasses.replace(results, record=record), out)
    assert told["load"] is None
    why = "the search space was defined in Python, so the code of its trainer was not recorded"
    assert told["evaluated_again"] == {"value": None, "why_not": why}
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "curves.png", "model.safetensors", "provenance.json")
    ]


def test_code_that_cannot_be_run_here_is_said_with_the_place_of_the_files(
    make: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make(**CASES["a module"][0])
    code = results.folder.code / "mine.py"
    code.write_text(code.read_text().replace("    pass", "    open('/no/such/rows')"))

    examined_here(monkeypatch)
    with pytest.raises(SweepError) as raised:
        export_checkpoint(results, tmp_path / "out")
    assert str(raised.value) == (
        "cannot load the model with the recorded code: FileNotFoundError: [Errno 2] No such file"
        " or directory: '/no/such/rows'\n"
        f"  checkpoint: {best(results)}"
    )
    assert not (tmp_path / "out").exists()
