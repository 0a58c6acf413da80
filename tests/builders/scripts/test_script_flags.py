"""A flag of a script can be tuned, whatever parses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace
from sweeps.builders.scripts.script import Script
from sweeps.errors import UserError
from tests.builders.scripts.scripted import (
    COPIED,
    HEAD,
    MAIN,
    NET,
    PARSERS,
    WITH_FLAGS,
    plain,
    plainly,
    project,
    reported,
    requested,
    space_of,
    tried,
    words_of,
)
from tests.workers.test_training import run_job


@pytest.mark.parametrize(
    "text",
    [
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--rounds', type=int, default=2)\nparser.parse_args()",
        "import click\n\n@click.command()\n@click.option('--rounds', default=2)\n"
        "def main(rounds): ...\n\nmain()",
    ],
)
def test_a_range_of_fractions_for_an_integer_flag_is_refused_as_it_was_written(
    text: str, tmp_path: Path
):
    (tmp_path / "train.py").write_text(text)
    with pytest.raises(UserError, match="tuned") as raised:
        tried("train.py", folder=tmp_path, place=tmp_path, rounds=tune.uniform(1, 3))
    assert raised.value.problems == [
        "tuned['rounds']: uniform(1, 3) yields fractions, but the value must be an integer; use"
        " randint(1, 4)"
    ]


def test_a_flag_of_the_script_is_tuned_and_equals_the_plain_script(tmp_path: Path):
    words = words_of("lora_click.py", tmp_path)
    flags = ["--lora-r", "2", "--bias", "--lr", "0.003", "--seed", "11"]
    expected = plain("lora_click.py", [*words, *flags], tmp_path)
    space = space_of("lora_click.py", *words, folder=tmp_path, fixed={"bias": True, "seed": 11})
    params = {"lr": 0.003, "lora_r": 2}
    reports, _ = run_job(space, params, tmp_path / "sweep")
    assert reported(reports) == [plainly(each) for each in expected if "eval_loss" in each][:4]


@pytest.mark.parametrize("parser", PARSERS)
def test_flags_reach_the_script_whatever_parses_them(parser: str, tmp_path: Path):
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + MAIN + PARSERS[parser])
    words = ["train"] if "command" in parser else []
    builder = tried("train.py", *words, folder=tmp_path / "dry_runs", place=tmp_path)
    assert builder.keyword_names == {"count", "betas", "fast", "clip"}
    for flags in (
        {"count": 32, "betas": [0.5, 0.75], "fast": True, "clip": False},
        {"count": 16, "betas": [0.25, 0.5], "fast": False, "clip": True},
    ):
        trainer = builder({"output_dir": str(tmp_path / "trial")}, **flags)
        given = {**flags, "betas": tuple(flags["betas"])}
        assert trainer.model.config == tuple(given.values())


ARGPARSE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("data", nargs="?")
parser.add_argument("--cut", type=float, default=0.5)
parser.add_argument("--bias", action="store_true")
parser.add_argument("--real", type=bool, default=True)
parser.add_argument("--deep", action="count", default=0)
parser.add_argument("--size", action="store_const", const=9, default=1)
parser.add_argument("--kept", type=int, default=1)
parser.add_argument("--share", type=lambda word: int(word) / 100)
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = options
trainer.train()
"""


def given_flags(folder: Path, text: str, *words: str, **flags: Any) -> Any:
    """What the parser of a script returns in a trial; its dry run had no values."""
    (folder / "own_net.py").write_text(NET)
    (folder / "train.py").write_text(HEAD + text)
    builder = tried("train.py", *words, folder=folder / "dry_runs", place=folder)
    return builder({"output_dir": str(folder / "trial")}, **flags).model.config


def test_every_value_that_the_parser_does_not_return_is_refused_by_name(tmp_path: Path):
    words = ("rows.json", "--bias", "--cut", "0.3")
    told = given_flags(tmp_path, ARGPARSE, *words, cut=-5e-05, bias=True, share=25, deep=1)
    assert (told.cut, told.bias, told.share, told.deep) == (-5e-05, True, 0.25, 1)
    for name, value, got in (
        ("cut", None, 0.3),
        ("bias", False, True),
        ("real", False, True),
        ("deep", 3, 1),
        ("size", 5, 9),
    ):
        with pytest.raises(UserError, match=rf"{name} is {got}, but this trial sets it to {value}"):
            given_flags(tmp_path, ARGPARSE, *words, **{name: value})
    for text, line in (
        (ARGPARSE.replace('nargs="?"', "nargs=argparse.REMAINDER"), ["rows.json"]),
        (ARGPARSE.replace("parse_args()", "parse_args(['--kept', '1'])"), []),
    ):
        with pytest.raises(UserError, match="kept is 1, but this trial sets it to 2"):
            given_flags(tmp_path, text, *line, kept=2)


def test_what_a_parser_makes_of_a_value_is_its_own_business(tmp_path: Path):
    text = """
import argparse, json, pathlib

class Twice(argparse.Action):
    def __call__(self, parser, options, value, option=None):
        setattr(options, self.dest, (value, value))

class Opened:
    def __init__(self, name):
        self.name = name

parser = argparse.ArgumentParser()
parser.add_argument("--mods", nargs="+")
parser.add_argument("--pair", action=Twice)
parser.add_argument("--table", type=json.loads)
parser.add_argument("--file", type=Opened)
parser.add_argument("--path", type=pathlib.Path)
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = options
trainer.train()
"""
    flags = {"mods": "q", "pair": "a", "table": '{"a": 1}', "file": "f", "path": "p"}
    told = given_flags(tmp_path, text, **flags)
    assert (told.mods, told.pair, told.table) == (["q"], ("a", "a"), {"a": 1})
    assert (told.file.name, told.path) == ("f", Path("p"))


OFF: dict[str, str] = {
    "argparse": """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--no_bias", dest="bias", action="store_false")
parser.add_argument("--plain", dest="fast", action="store_false")
parser.add_argument("--fast", dest="fast", action="store_true")
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = (options.bias, options.fast)
trainer.train()
""",
    "click": """
import click

@click.command()
@click.option("--no_bias", "bias", is_flag=True, flag_value=False, default=True)
@click.option("--fast/--plain", default=False)
def main(bias, fast):
    trainer = make(arguments())
    trainer.model.config = (bias, fast)
    trainer.train()

main()
""",
}


@pytest.mark.parametrize("parser", OFF)
def test_a_flag_may_have_an_option_that_turns_it_off(parser: str, tmp_path: Path):
    assert given_flags(tmp_path, OFF[parser], bias=False, fast=True) == (False, True)
    assert given_flags(tmp_path, OFF[parser], "--fast", bias=True, fast=False) == (True, False)
    with pytest.raises(UserError, match="bias is False, but this trial sets it to True"):
        given_flags(tmp_path, OFF[parser], "--no_bias", bias=True)


LISTS = """
import argparse
from dataclasses import dataclass, field
from transformers import HfArgumentParser

@dataclass
class Choices:
    frozen: list[str] = field(default_factory=list)

parser = HfArgumentParser(Choices)
parser.add_argument("--skipped", nargs="*", default=["head"])
parser.add_argument("--layers", nargs="+", default=["0"])
options = parser.parse_args()
trainer = make(arguments())
trainer.model.config = options
trainer.train()
"""


def test_an_empty_list_is_a_value_if_the_command_line_can_give_it(tmp_path: Path):
    for frozen in ([], ["head"]):
        told = given_flags(tmp_path, LISTS, frozen=frozen, skipped=[])
        assert (told.frozen, told.skipped) == (frozen, [])
    for words, name in ((("--frozen", "head"), "frozen"), ((), "layers")):
        with pytest.raises(UserError, match=r"to \[\]: a command line cannot set it"):
            given_flags(tmp_path, LISTS, *words, **{name: []})


def test_a_flag_of_click_that_cannot_be_switched_off_is_refused(tmp_path: Path):
    text = """
import click

@click.command()
@click.argument("data")
@click.option("--bias", is_flag=True)
@click.option("--cut", type=float)
@click.option("--width", type=int, callback=lambda context, option, width: 2 * (width or 1))
def main(**options):
    trainer = make(arguments())
    trainer.model.config = options
    trainer.train()

main()
"""
    words = ("rows.json", "--bias")
    told = given_flags(tmp_path, text, *words, bias=True, cut=-5e-05, width=3)
    assert told == {"data": "rows.json", "bias": True, "cut": -5e-05, "width": 6}
    with pytest.raises(UserError, match="bias is True, but this trial sets it to False"):
        given_flags(tmp_path, text, *words, bias=False)


CHOICES = {
    "pooling": tune.choice(["mean", "clz", "avg"]),
    "freeze": tune.choice([True, False]),
    "layernorm": tune.choice([True, False]),
    "share": tune.uniform(0.1, 1.5),
    "width": tune.choice([2, 4]),
}


def test_every_choice_of_a_flag_is_tried_by_the_dry_run(tmp_path: Path):
    """Argparse rejects a value, or makes another one of it."""
    text = """
import argparse

def share(word):
    if not 0 < float(word) < 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return float(word)

parser = argparse.ArgumentParser()
parser.add_argument("--pooling", choices=["mean", "max"], default="mean")
parser.add_argument("--freeze", action="store_true")
parser.add_argument("--layernorm", type=bool, default=True)
parser.add_argument("--share", type=share, default=0.5)
parser.add_argument("--width", type=int, default=2)
parser.parse_args()
make(arguments()).train()
"""
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    with pytest.raises(UserError) as found:
        tried("train.py", "--freeze", folder=tmp_path / "runs", place=tmp_path, **CHOICES)
    assert sorted(found.value.problems) == [
        "tuned['freeze']: freeze is True, but this trial sets it to False: a command line cannot"
        " set it",
        "tuned['layernorm']: layernorm is True, but this trial sets it to False:"
        " --layernorm=False does not set it",
        "tuned['pooling']: the script rejects pooling = 'avg': argument --pooling: invalid choice:"
        " 'avg' (choose from 'mean', 'max')",
        "tuned['pooling']: the script rejects pooling = 'clz': argument --pooling: invalid choice:"
        " 'clz' (choose from 'mean', 'max')",
        "tuned['share']: the script rejects share = 1.5: argument --share: must be between 0 and 1",
    ]


def test_every_choice_of_a_flag_of_click_is_tried_by_the_dry_run(tmp_path: Path):
    text = """
import click

@click.command()
@click.option("--pooling", type=click.Choice(["mean", "max"]), default="mean")
@click.option("--freeze", is_flag=True)
@click.option("--share", type=click.FloatRange(0, 1), default=0.5)
def main(**options):
    make(arguments()).train()

main()
"""
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    flags = {name: CHOICES[name] for name in ("pooling", "freeze", "share")}
    with pytest.raises(UserError) as found:
        tried("train.py", folder=tmp_path / "runs", place=tmp_path, **flags)
    assert [each.partition(":")[0] for each in sorted(found.value.problems)] == [
        "tuned['pooling']", "tuned['pooling']", "tuned['share']",
    ]  # fmt: skip


def test_a_tuned_flag_that_click_would_ask_for_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Click takes `input` when it is imported, which is after the dry run has replaced it."""
    text = """
import click

@click.command()
@click.option("--width", type=int, prompt=True)
def main(width):
    make(arguments()).train()

main()
"""
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda shown: input(shown))
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    flags = {"width": tune.choice([2, 3])}
    builder = tried("train.py", folder=tmp_path / "runs", place=tmp_path, **flags)
    assert (builder.tried_values, builder.keyword_values) == ({"width": 2}, {})


def test_a_second_parser_gets_the_flag_that_the_first_has_read(tmp_path: Path):
    text = """
import argparse
first, second = argparse.ArgumentParser(), argparse.ArgumentParser()
for parser in (first, second):
    parser.add_argument("--width", type=int, required=True)
first.parse_args(), second.parse_args()
make(arguments()).train()
"""
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "train.py").write_text(HEAD + text)
    assert tried("train.py", folder=tmp_path, place=tmp_path, width=3).keyword_names == {"width"}


def test_a_config_file_in_place_of_a_command_line_keeps_its_place(tmp_path: Path):
    words = words_of("glue.py", tmp_path)[:-8]
    config = tmp_path / "config.json"
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    values = {key.removeprefix("--"): value for key, value in pairs.items()}
    config.write_text(json.dumps({**values, "max_steps": 8, "learning_rate": 1e-5}))
    space = space_of("glue.py", str(config), folder=tmp_path)
    assert "max_seq_length" in space.builder.keywords
    params = {"learning_rate": 3e-3, "max_seq_length": 8}
    reports, _ = run_job(space, params, tmp_path / "sweep")
    assert len(reports) == 4


def test_a_parameter_that_is_no_field_of_the_arguments_is_refused_with_the_reason(tmp_path: Path):
    space_file = project(tmp_path / "project")
    own = """
class Mine(TrainingArguments):
    def __init__(self, *given, temperature=2.0, width=1, **named):
        super().__init__(*given, **named)
        self.temperature = temperature
"""
    text = own + WITH_FLAGS.replace("arguments()", "Mine('out', max_steps=8, report_to='none')")
    (tmp_path / "project" / "train.py").write_text(HEAD + text)
    with pytest.raises(UserError) as raised:
        requested(str(space_file), tmp_path, "temperature=3.0")
    assert raised.value.problems == [
        "temperature: a parameter of Mine.__init__, but only fields count; make it one: @dataclass"
        " class Mine(...), with temperature: <type> = <default> in place of __init__"
    ]
    requested(str(space_file), tmp_path, "width=3")  # it is a flag, too


def test_an_unknown_flag_is_named_with_the_nearest(tmp_path: Path):
    space_file = project(tmp_path / "project")
    with pytest.raises(UserError) as raised:
        requested(str(space_file), tmp_path, "widht=3")
    assert raised.value.problems == [
        "widht: neither a field of TrainingArguments nor a flag of train.py; did you mean 'width'?"
    ]


@pytest.mark.parametrize(
    ("tuned", "fixed", "assignments", "names"),
    [
        ({"lr": (1e-5, 1e-4), "learning_rate": (1e-5, 1e-4)}, {}, [], "'lr' and 'learning_rate'"),
        ({"learning_rate": (1e-5, 1e-4)}, {"lr": 1e-4}, [], "'lr' and 'learning_rate'"),
        ({"lr": (1e-5, 1e-4)}, {}, ["learning_rate=1e-3"], "'lr' and 'learning_rate'"),
        ({"batch": (4, 16)}, {"total_train_batch_size": 8}, [], "'batch' and 'total_train_batch"),
        # An argument happens to have the value of a flag.
        ({"layers": (4, 8), "gradient_accumulation_steps": (4, 8)}, {}, [], None),
        ({"batch": (4, 8), "gradient_accumulation_steps": (4, 8)}, {}, [], None),
        ({"gradient_accumulation_steps": (4, 8)}, {"batch": 8}, [], None),
        ({"lr": (1e-5, 1e-4), "max_steps": (4, 8)}, {"layers": 4}, [], None),
    ],
)
def test_a_flag_beside_the_argument_that_the_script_takes_from_it_is_refused(
    tuned: dict[str, Any],
    fixed: dict[str, Any],
    assignments: list[str],
    names: str | None,
    tmp_path: Path,
):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + COPIED)
    space = SearchSpace(
        build_trainer=Script("train.py"),
        metric="eval_loss",
        mode="min",
        tuned={key: tune.choice(list(choices)) for key, choices in tuned.items()},
        fixed=fixed,
    )
    if names is None:
        assert requested(space, tmp_path, *assignments).space.tuned.keys() == tuned.keys()
        return
    with pytest.raises(UserError) as raised:
        requested(space, tmp_path, *assignments)
    (problem,) = raised.value.problems
    assert problem.startswith(names)
    assert problem.endswith("; keep one")


RENAMED = {
    "argparse": """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--layers", "--num-layers", type=int, default=2)
parser.add_argument("--lr", dest="learning_rate", type=float, default=1e-3)
options = parser.parse_args()
make(arguments(learning_rate=options.learning_rate)).train()
""",
    "click": """
import click

@click.command()
@click.option("--num-layers", "layers", default=2)
@click.option("--lr", "learning_rate", default=1e-3)
def main(layers, learning_rate):
    make(arguments(learning_rate=learning_rate)).train()

main()
""",
}


@pytest.mark.parametrize("parser", RENAMED)
def test_another_spelling_of_a_flag_is_answered_with_its_name(parser: str, tmp_path: Path):
    project(tmp_path / "project")
    (tmp_path / "project" / "train.py").write_text(HEAD + RENAMED[parser])
    tuned = {"num-layers": tune.choice([1, 2]), "lr": tune.choice([1e-3, 1e-2])}
    space = SearchSpace(
        build_trainer=Script("train.py"), metric="eval_loss", mode="min", tuned=tuned
    )
    with pytest.raises(UserError) as raised:
        requested(space, tmp_path)
    assert raised.value.problems == [
        "tuned['num-layers']: train.py calls this flag 'layers'; use that name",
        "tuned['lr']: train.py calls this flag 'learning_rate'; use that name",
    ]
