"""A training script in place of a space, on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeps import SweepConfig
from sweeps.cli.script_options import space_or_script
from sweeps.driver.requests.finished import Changes
from sweeps.driver.requests.make_sweep_record import make_record, space_record
from sweeps.driver.requests.new_request import make_request
from sweeps.driver.requests.resume_request import make_resumption
from sweeps.driver.requests.script_space import script_space
from sweeps.planning.request import Request
from sweeps.records.folder import SweepFolder
from sweeps.records.sweep_record import write_record
from sweeps.report import Mode
from sweeps.space.code_copy import copy_code
from sweeps.space.loading import load_copy
from sweeps.space.shipped import SHIPPED, names_space
from tests.builders.scripts.scripted import forked_dry_runs, project  # noqa: F401
from tests.conftest import CommandLine

ASKED = (
    *("train.py", "num_train_epochs=2", "--metric", "eval_loss"),
    *("--tune", "learning_rate=loguniform(1e-3, 1e-1)", "--tune", "rows=choice(32, 64)"),
)
WORDS = ("--", "--width", "2")
FILE = '''"""Tunes train.py."""

from ray import tune

from sweeps import Script, SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=Script(
        'train.py',
        '--width',
        '2',
    ),
    metric='eval_loss',
    mode='min',
    tuned={
        'learning_rate': tune.loguniform(0.001, 0.1),
        'rows': tune.choice([32, 64]),
    },
    fixed={'num_train_epochs': 2},
)
'''


def test_plan_of_a_script_shows_the_space_and_the_saved_one_is_the_same(
    command_line: CommandLine, tmp_path: Path
):
    folder = project(tmp_path / "project").parents[1]
    said = command_line("plan", *ASKED, *WORDS, folder=folder)
    assert (said.code, said.err) == (0, "")
    assert FILE in said.out
    assert "train.py: Trainer with TrainingArguments" in said.out
    assert "64 rows to train" not in said.out, "the dry run has the first of the choices"
    assert "set by the script in its dry run" in said.out
    assert "in the dry run, the tuned flags were rows=32; arguments" in " ".join(said.out.split())
    assert "there is no baseline trial of train.py as it stands: its own" in said.out
    saved = command_line("plan", *ASKED, "--save-space", "mine.py", *WORDS, folder=folder)
    assert (saved.code, (folder / "mine.py").read_text()) == (0, FILE)
    assert "wrote the equivalent search space to mine.py; its sweeps are named mine" in saved.out
    assert "SEARCH_SPACE" not in saved.out, "it stands in the file"
    again = command_line("plan", "mine.py", folder=folder)
    assert again.code == 0
    in_one_line = " ".join(again.out.split())
    assert "code: 4 files copied from the space's folder, " in in_one_line
    assert (
        " kB (.py files, small text files, and whatever the space lists in `files`; at most 10 MB"
        " in total)" in in_one_line
    )

    def planned(text: str) -> list[str]:
        notes, _, plan = text[text.index("train.py: Trainer") :].partition("\n\n")
        return [*notes.splitlines()[2:], *re.sub(r"code: .*", "", plan).splitlines()[1:]]

    tables = [planned(each.out) for each in (said, again)]
    assert tables[0] == tables[1]
    twice = command_line("plan", *ASKED, "--save-space", "mine.py", *WORDS, folder=folder)
    assert (twice.code, twice.err.strip()) == (
        2,
        "--save-space mine.py: the file already exists; choose another name",
    )


def asked(config: SweepConfig) -> Request:
    """The request for the script in the working folder, whose space is not saved."""
    loaded, _ = script_space(
        "train.py",
        ["--width", "2"],
        metric="eval_loss",
        mode=None,
        tune=["learning_rate=loguniform(1e-3, 1e-1)", "rows=choice(32, 64)"],
        assignments=[],
        save=None,
    )
    return make_request(loaded, config)


def test_a_resume_says_that_the_script_has_changed_and_takes_it_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project_folder = project(tmp_path / "project").parents[1]
    monkeypatch.chdir(project_folder)
    storage = str(tmp_path / "results")
    request = asked(SweepConfig(storage=storage))
    folder = SweepFolder(tmp_path / "results" / "train-1")
    folder.path.mkdir(parents=True)
    write_record(folder, make_record(request, folder.id))
    copy_code(request.loaded, folder.code)
    with (project_folder / "train.py").open("a") as file:
        file.write("# changed\n")
    kept = make_resumption(folder, Changes(), storage=storage)
    assert kept.lines[-1] == (
        "changed since the sweep began: train.py; the sweep continues with its own copy (to use"
        " the changed files, pass --take-new-code)"
    )
    taken = make_resumption(folder, Changes(), storage=storage, take_new_code=True)
    assert taken.lines[0] == "using the changed files: train.py"
    assert "builder was Script('train.py'" in taken.lines[-1], "its digest is another one"
    assert (folder.code / "train.py").read_text().endswith("# changed\n")
    assert taken.space.builder.script_file == folder.code / "train.py"
    assert (folder.code / "train_space.py").is_file()


def test_the_copy_of_the_code_holds_the_space_that_was_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = project(tmp_path / "project").parents[1]
    monkeypatch.chdir(folder)
    config = SweepConfig(storage=str(tmp_path / "results"))
    request = asked(config)
    copy_code(request.loaded, tmp_path / "code")
    recorded = load_copy(tmp_path / "code", "train_space.py", dotted=False)
    assert recorded.space.mode == "min"
    again = make_request(recorded, config)
    assert again.space.builder.script_file == tmp_path / "code" / "train.py"
    assert space_record(again).builder == space_record(request).builder
    assert space_record(again).tuned == space_record(request).tuned


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (
            ("train.py", "--tune", "learning_rate=uniform(0, 1)"),
            "--tune: tuning a training script also needs --metric",
        ),
        (
            ("train.py", "--metric", "eval_gap", "--tune", "rows=choice([8])"),
            "--metric eval_gap: this name does not tell whether higher or lower values are better;"
            " add --mode max or --mode min",
        ),
        (
            ("train.py", "--metric", "eval_loss", "--tune", "rows=32", "--width", "2"),
            "If --width is an argument of the script, put it at the end, after --\n",
        ),
        (
            ("train.py", "--metric", "eval_loss", "--tune", "rows=32"),
            "--tune rows=32: 32 is not a domain; to fix the value, write rows=32 without --tune",
        ),
        (
            ("train.py", "--metric", "eval_loss", "--tune", "rows=choice([8])", "rows=16"),
            "rows=choice([8]) and rows=16 both set 'rows'; keep one",
        ),
        (
            ("train.py", "--metric", "eval_loss", "--tune", "lerning_rate=uniform(0, 1)", "rows=8"),
            "the search space of train.py: tuned['lerning_rate']: neither a field of"
            " TrainingArguments nor a flag of train.py; did you mean 'learning_rate'",
        ),
    ],
)
def test_a_mistake_in_the_flags_of_a_script_is_named(
    words: tuple[str, ...], problem: str, command_line: CommandLine, tmp_path: Path
):
    said = command_line("run", *words, folder=project(tmp_path / "project").parents[1])
    assert said.code == 2
    assert problem in said.err


@pytest.mark.parametrize(
    ("metric", "mode", "texts"),
    [
        ("eval_loss", None, ["--metric=eval_loss"]),
        ("eval_gap", "min", ["--metric=eval_gap", "--mode=min"]),
        (None, "min", ["--mode=min"]),
        (None, None, []),
    ],
)
def test_a_space_is_judged_by_the_metric_of_the_flags(
    metric: str | None,
    mode: Mode | None,
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    for package in ("mine", "installed/theirs"):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("raise AssertionError('imported')")
        (tmp_path / package / "space.py").write_text("SEARCH_SPACE = ...")
    for folder in ("without/init", "my-own"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "space.py").write_text("SEARCH_SPACE = ...")
    shipped = ("bert_yelp", str(SHIPPED / "bert_yelp.py"))
    modules = ("mine.space", "theirs.space", "without.init.space", "my-own.space")
    for space in (*shipped, *modules):
        asked = space_or_script(space, ["a=1"], metric=metric, mode=mode, tune=None, save=None)
        assert asked == (space, ["a=1", *texts])


@pytest.mark.parametrize("text", ["__main__", "__main__.space", "sys.path", "no.such", ".", ""])
def test_other_words_name_no_space(text: str):
    assert not names_space(text)


def test_a_metric_of_the_command_line_is_checked_like_the_spaces_own(command_line: CommandLine):
    said = command_line("plan", "bert_yelp", "--tiny", "--metric", "eval_acuracy")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "the command line: metric = 'eval_acuracy': TextClassification does not return this metric;"
        " did you mean 'eval_accuracy'?\n"
    )
    said = command_line("plan", "bert_yelp", "--tune", "seed=randint(0, 9)")
    assert said.err == (
        "--tune: only for a training script; bert_yelp is a search space, whose domains are set as"
        " KEY=DOMAIN\n"
    )
