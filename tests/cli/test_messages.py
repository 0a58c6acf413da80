"""What a person sees of their own mistake: the whole message, exit code 2, and no Ray."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from sweeps import SearchSpace, SweepConfig
from sweeps.amounts import duration
from sweeps.builders.base import TINY
from sweeps.cli.options import CHANGES
from sweeps.driver.requests.new_request import make_request
from sweeps.durations import parse_duration
from sweeps.errors import SweepError, UserError
from sweeps.space.shipped import SHIPPED
from tests.conftest import CommandLine, Said

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweeps(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    """Run `sweeps ...` in an empty folder; it must not start Ray nor leave anything."""
    from sweeps.driver import cluster

    @contextmanager
    def no_ray(*_: object) -> Iterator[None]:
        raise AssertionError("it starts Ray")
        yield

    monkeypatch.setattr(cluster, "connected", no_ray)
    here = tmp_path / "here"
    here.mkdir()

    def run(*words: str) -> Said:
        before = sorted(here.rglob("*"))
        said = command_line(*words, folder=here)
        assert "starting Ray" not in said.out
        assert [f for f in here.rglob("*/events.jsonl") if f not in before] == []
        assert "Traceback" not in said.err
        return said

    return run


def test_a_mistake_ends_the_process_with_code_2_and_one_message(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", "run", "bert_yelp", "--first-rung", "2"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        # Ray's first act is to make its folder there.
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(tmp_path / "ray")},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "the configuration: first_rung = 2.0: must be between 0 and 1\n"
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_a_verb_as_ctrl_c_does(tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "try:\n"
        "    print('here', flush=True)\n"
        "    time.sleep(100)\n"
        "finally:\n"
        "    print('left in order', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "sweeps", "plan", "mine.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.terminate()
        assert process.communicate() == ("left in order\n", "")
    assert process.returncode == 130


def test_the_version_is_told_and_durations_are_shown_as_flags_take_them(sweeps: CommandLine):
    said = sweeps("--version")
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(r"sweeps \d+\.\d+\.\d+\n", said.out)
    assert "[default: 30m]" in " ".join(sweeps("plan", "--help").out.split())
    assert sweeps("resume", "--help").out.count("Default:") == len(CHANGES), "one for each flag"


def test_an_unknown_space_is_answered_with_those_at_hand(sweeps: CommandLine):
    shipped = ", ".join(sorted(f.stem for f in SHIPPED.glob("*.py") if f.name[0] != "_"))
    said = sweeps("run", "bert_yelb")
    assert said == Said(
        2,
        "",
        f"no search space named 'bert_yelb'; available: {shipped}, any dotted module or"
        " .py file; did you mean 'bert_yelp'?\n",
    )


def test_wrong_keys_are_all_answered_with_the_nearest_ones(sweeps: CommandLine):
    said = sweeps("run", "bert_yelp", "--tiny", "lerning_rate=1e-4", "eval_steps=5", "seed=3")
    assert said == Said(
        2,
        "",
        "the command line has 2 problems\n"
        "  lerning_rate: no such TrainingArguments field or builder keyword;"
        " did you mean 'learning_rate' or 'logging_strategy'?\n"
        "  eval_steps: set by sweeps from evals_per_trial; remove it\n",
    )


def test_the_problems_of_a_space_are_all_said_with_its_file(sweeps: CommandLine, tmp_path: Path):
    (tmp_path / "here" / "mine.py").write_text(
        "from ray import tune\n"
        "from sweeps import SearchSpace\n"
        "def build(args): ...\n"
        "SEARCH_SPACE = SearchSpace(build_trainer=build, metric='eval_loss', mode='min',\n"
        "    tuned={'learning_rat': tune.uniform(0, 1), 'weight_decay': 0.1})\n"
    )
    said = sweeps("run", "mine.py")
    assert said == Said(
        2,
        "",
        "mine.py: SEARCH_SPACE has 2 problems\n"
        "  tuned['learning_rat']: no such TrainingArguments field or builder keyword;"
        " did you mean 'learning_rate'?\n"
        "  tuned['weight_decay'] = 0.1: not a Tune domain;"
        " a value shared by all trials belongs in fixed\n",
    )


@pytest.mark.parametrize("words", [("run", "mine.py"), ("confirm", "mine"), ("resume", "mine")])
def test_what_is_refused_has_not_waited_for_torch(
    sweeps: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str]
):
    monkeypatch.setitem(sys.modules, "sweeps.cli.running", None)  # it imports the driver with torch
    (tmp_path / "here" / "mine.py").write_text("import os\nSEARCH_SPACE = os.getcwdd()\n")
    said = sweeps(*words)
    assert (said.code, said.out) == (2, "")
    assert "getcwdd" in said.err or "no sweep named 'mine'" in said.err


def test_flags_out_of_range_are_all_said_before_anything_is_imported(sweeps: CommandLine):
    said = sweeps("run", "bert_yelp", "--first-rung", "2", "--num-trials", "0")
    assert said == Said(
        2,
        "",
        "the configuration has 2 problems\n"
        "  num_trials = 0: must be at least 1\n"
        "  first_rung = 2.0: must be between 0 and 1\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "bert_yelp", "--num-trails", "3"), "No such option: --num-trails"),
        (("plan",), "Missing argument 'SPACE'"),
        (
            ("run", "bert_yelp", "--time-budget", "soon"),
            "Invalid value for '--time-budget': 'soon' is not a duration such as 90s, 30m, 1h30m or"
            " 2d",
        ),
        (("sweep", "bert_yelp"), "No such command 'sweep'"),
        (
            ("results", "bert_yelp", "--json", "--top", "3"),
            "--top has no effect with --json, which prints all trials; omit one",
        ),
    ],
    ids=["an unknown flag", "no space", "no duration", "an unknown verb", "flags that exclude"],
)
def test_a_command_line_that_does_not_parse_is_answered_with_what_is_wrong(
    sweeps: CommandLine, words: tuple[str, ...], message: str
):
    said = sweeps(*words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err


def test_an_address_without_a_port_is_refused(sweeps: CommandLine):
    said = sweeps("run", "bert_yelp", "--tiny", "--address", "1.2.3.4")
    message = "--address 1.2.3.4: expected HOST:PORT, such as 10.0.0.5:6379, or auto\n"
    assert said == Said(2, "", message)


def test_an_address_that_does_not_answer_is_said_and_leaves_no_sweep_behind(
    sweeps: CommandLine, tmp_path: Path
):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        said = sweeps("run", "bert_yelp", "--tiny", "--address", address)
    assert said == Said(
        2,
        "",
        f"--address {address}: cannot reach a Ray cluster there ([Errno 111] Connection refused);"
        " `ray start --head` prints the address when it starts a cluster\n",
    )
    assert list((tmp_path / "here" / "results").glob("bert_yelp-*")) == []


@pytest.mark.parametrize("words", [("results",), ("export", "--out", "there"), ("ui",)])
def test_an_unknown_sweep_is_answered_with_the_latest_ones(
    sweeps: CommandLine, tmp_path: Path, words: tuple[str, ...]
):
    verb, *flags = words
    said = sweeps(verb, "bert_yelp", *flags)
    assert said == Said(
        2,
        "",
        f"no sweep named 'bert_yelp' in {tmp_path / 'here' / 'results'}: there are no sweeps yet\n",
    )


# plan.


def test_a_plan_in_json_says_what_a_run_would_do_and_starts_no_ray(
    sweeps: CommandLine, tmp_path: Path
):
    said = sweeps("plan", "bert_yelp_optimizers", "--tiny", "--num-trials", "16", "--json")
    assert (said.code, said.err) == (0, "")
    plan = json.loads(said.out)
    assert plan["space"] == "bert_yelp_optimizers"
    assert plan["constraints"] == ["fits_in_memory"]
    assert plan["tuned"]["optim_args.momentum"] == "uniform(0.8, 0.99) when optim = 'sgd'"
    assert len(plan["samples"]) == 5
    assert plan["rungs"][0]["trials"] == 16
    assert 0 < plan["work"]["share"] < 1
    assert [each["rows"] for each in plan["data"]] == [512, 256] * 3
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["results"]


def test_a_plan_refuses_what_only_the_rows_tell(sweeps: CommandLine, tmp_path: Path):
    for split, labels in (("train", "ab" * 20), ("validation", "abc")):
        lines = "".join(f"good,{label}\n" for label in labels)
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{lines}")
    words = [f"model={TINY / 'model'}", f"dataset={tmp_path}", "--num-trials", "2"]
    assert sweeps("plan", "bert_yelp", *words) == Said(
        2,
        "",
        "label_column='label': the eval rows contain labels that occur in none of the 40 train"
        " rows: 'c'; use more train rows, or drop these eval rows\n",
    )


def test_a_plan_shows_samples_layout_rungs_work_and_disk(sweeps: CommandLine):
    said = sweeps("plan", "bert_yelp", "--tiny", "--num-trials", "3")
    assert (said.code, said.err) == (0, "")
    for line in (
        "learning_rate           loguniform(1e-05, 0.0001)",
        "t001    learning_rate=3e-05 total_train_batch_size=32 warmup_steps=0.1",
        "progress  epochs  evaluation  trials that reach it",
        "12.5%       0.25           1                   3.0",
        "train   512                0 (0.0%)",
        "5 stars    102    48",
        "left to the smoke run of `run`",
        "trials are compared at 12.5%, 50.0%, and the weaker ones may stop there; expected work: ",
        "best checkpoints (weights only, 57 kB each)",
        "states to resume from (weights and optimizer, 171 kB each)",
    ):
        assert line in said.out


def test_a_plan_of_a_broken_space_is_refused_like_a_run(sweeps: CommandLine):
    said = sweeps("plan", "bert_yelp", "--tiny", "warmup_ratio=0.1", "adam_beta2=uniform(0.9, 1)")
    assert said == Said(
        2,
        "",
        "the command line: warmup_ratio: no longer an argument; use warmup_steps; a value below 1"
        " is a fraction of all steps\n",
    )


def test_a_plan_whose_storage_cannot_be_created_says_so(sweeps: CommandLine, tmp_path: Path):
    (tmp_path / "file").touch()
    said = sweeps("plan", "bert_yelp", "--tiny", "--storage", str(tmp_path / "file"))
    assert said == Said(
        2,
        "",
        f"cannot create {tmp_path}/file/prepared (Not a directory); choose another folder with"
        " --storage\n",
    )


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_an_unknown_tracker_is_refused_with_the_known_ones(sweeps: CommandLine, verb: str):
    said = sweeps(verb, "bert_yelp", "--tiny", "--tracker", "wandb")
    assert said == Said(2, "", "no tracker named 'wandb'; available: mlflow, tensorboard\n")


# The same checks, called directly.


def refused(space: str | SearchSpace, *assignments: str, **config: Any) -> str:
    with pytest.raises(UserError) as raised:
        make_request(space, SweepConfig(**config), assignments=assignments)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_data_without_the_columns_is_refused(tmp_path: Path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("review,stars\nfine,1\nbad,0\n")
    text = refused("bert_yelp", f"model={TINY / 'model'}", f"dataset={tmp_path}")
    assert text == (
        "TextClassification has 2 problems\n"
        "  text_column='text': no such column in train and validation (found: review, stars)\n"
        "  label_column='label': no such column in train and validation (found: review, stars)"
    )


def test_a_batch_that_the_workers_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    text = refused("bert_yelp", tiny=True, workers_per_trial=3)
    assert text == (
        f"{SHIPPED / 'bert_yelp.py'}: SEARCH_SPACE has 3 problems\n"
        "  total_train_batch_size = 16 is not divisible by 3 workers; nearest: 15 or 18\n"
        "  total_train_batch_size = 32 is not divisible by 3 workers; nearest: 30 or 33\n"
        "  total_train_batch_size = 64 is not divisible by 3 workers; nearest: 63 or 66"
    )


def test_a_tuned_seed_cannot_be_repeated_with_other_seeds():
    with pytest.raises(UserError) as raised:
        make_request("bert_yelp", SweepConfig(repeats=4), assignments=["seed=randint(0, 9)"])
    assert str(raised.value).endswith(
        "bert_yelp.py: SEARCH_SPACE: tuned['seed'] does not work with repeats = 4, because each"
        " repeat increments the seed. Move it to fixed, as the first seed, or omit --repeats"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "pass a SPACE to run, or --from SWEEP to repeat a sweep"),
        (
            ["bert_yelp", "--trial", "t003"],
            "--trial t003 requires --from SWEEP, the sweep of that trial",
        ),
        (
            ["bert_yelp", "seed=3", "--from", "bert_yelp", "--tiny", "--num-trials", "3"],
            "--from repeats a sweep as it was recorded; omit bert_yelp, seed=3, --tiny,"
            " --num-trials (allowed: --trial, --storage, --tracker, --tracking-uri, --address,"
            " --max-concurrent)",
        ),
        (
            ["--from", "mine", "--storage", "there"],
            "no sweep named 'mine' in {here}/there: there are no sweeps yet",
        ),
    ],
)
def test_a_sweep_has_a_space_or_repeats_a_recorded_one(
    sweeps: CommandLine, tmp_path: Path, words: list[str], message: str
):
    said = sweeps("run", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err == message.format(here=tmp_path / "here") + "\n"


def test_tiny_needs_a_builder_that_can_be_tiny():
    def build(args: Any) -> None: ...

    space = SearchSpace(
        build_trainer=build, metric="m", mode="max", tuned={"seed": tune.randint(0, 9)}
    )
    assert refused(space, tiny=True) == (
        "the search space: --tiny requires tiny(), which build does not define"
    )


def test_what_the_command_line_makes_of_a_space_is_checked_again():
    assert refused("bert_yelp", "per_device_train_batch_size=8", tiny=True) == (
        "the command line: 'per_device_train_batch_size' is computed from"
        " 'total_train_batch_size'; keep only one of them"
    )
    assert refused("bert_yelp", "weight_decay=uniform(1, 0)", tiny=True) == (
        "the command line: weight_decay: uniform(1, 0): the range 1 to 0 is reversed;"
        " write uniform(0, 1)"
    )


@pytest.mark.parametrize(
    ("problems", "where", "text"),
    [
        ("wrong", None, "wrong"),
        (["a", "b"], None, "a\nb"),
        ("wrong", "mine.py", "mine.py: wrong"),
        (["a", "b"], "mine.py", "mine.py has 2 problems\n  a\n  b"),
    ],
)
def test_problems_stand_behind_their_place_also_after_pickling(
    problems: str | list[str], where: str | None, text: str
):
    error = UserError(problems, where)
    assert str(error) == text
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.problems, copy.where) == (text, error.problems, where)
    assert (SweepError("x").exit_code, error.exit_code) == (1, 2)


# Durations.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0s", 0), ("1.5s", 1.5), ("90s", 90), ("30m", 1800), ("2h", 7200)),
        *(("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), ("1d2h3m4s", 93784)),
    ],
)
def test_a_duration_is_a_sum_of_numbers_with_units(text: str, seconds: float):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["5", "0", "1.5"])
def test_a_number_without_a_unit_is_no_duration(text: str):
    with pytest.raises(ValueError, match="no unit") as raised:
        parse_duration(text)
    said = f"{text!r} has no unit; write {text}s, {text}m, {text}h or {text}d"
    assert str(raised.value) == said


@pytest.mark.parametrize("text", ["", "soon", "5 minutes", "-5s", "1h 30m", "10ms", "h", "1e3"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match="duration") as raised:
        parse_duration(text)
    assert str(raised.value) == f"{text!r} is not a duration such as 90s, 30m, 1h30m or 2d"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m 0s"),
        (200, "3m 20s"),
        (7500, "2h 5m"),
        (273600, "3d 4h"),
    ],
)
def test_seconds_are_shown_as_people_say_them(seconds: float, text: str):
    assert duration(seconds) == text
