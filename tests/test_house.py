"""The house rules: who imports whom, what stands where, and that docs, flags and spaces agree."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import timedelta
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle
from typer.main import get_command

from sweeps import SearchSpace, SweepConfig
from sweeps.answer.confirmation import FEWEST_SEEDS
from sweeps.cli.main import app
from sweeps.config import storage_folder
from sweeps.driver.requests.confirmation_request import SEEDS
from sweeps.driver.requests.confirmation_request import TOP as TOP_PARAMS
from sweeps.driver.requests.new_request import make_request
from sweeps.records.sweep_record import write_record
from sweeps.schedulers.make_scheduler import SCHEDULERS
from sweeps.searchers.make_searcher import SEARCHERS, make_searcher
from sweeps.space import domains
from sweeps.space.arguments import Devices, argument_fields, training_arguments, trial_seed
from sweeps.space.builder import Builder, ScriptBuilder
from sweeps.space.checks import check_space
from sweeps.space.conditions import active_branches, branches, describe_tunable
from sweeps.space.constraints import broken_constraint
from sweeps.space.loading import load_space
from sweeps.space.search_space import fixed_values
from sweeps.space.sharding import shards
from sweeps.space.shipped import SHIPPED
from sweeps.trackers.known import TRACKERS
from tests.written_sweep import four_trials

ROOT = Path(__file__).parents[1]
ORDER = (
    (
        *(
            "amounts",
            "errors",
            "naming",
            "durations",
            "declared_types",
            "secrets",
            "texts",
            "report",
            "config",
        ),
        *("durable", "ports", "hash_seed", "environment", "ending_signals"),
    ),
    ("space",),
    ("builders",),
    ("records",),
    ("workers",),
    ("schedulers", "searchers"),
    ("planning",),
    ("answer",),
    ("trackers",),
    ("driver",),
    ("cli",),
    ("api",),
)
"""The rooms from the ground up; those in one line do not import each other."""
TOP = ("sweeps", "sweeps.__main__")
"""The doors: they stand above all parts, and no part may go out through them."""
SPACES = sorted(file.stem for file in SHIPPED.glob("*.py") if not file.name.startswith("_"))
MODULES_OF_RAY = ("ray.train", "ray.data", "ray._raylet")
"""Fenced modules that `from ray import ...` may bring."""
LITERAL = re.compile(r"(?:importlib\.)?import_module\('([\w.]+)'\)")
HEAVY = ("torch", "transformers", "ray", "mlflow", "optuna", "datasets", "evaluate")


# Who imports whom.


def modules() -> dict[str, Path]:
    found = {}
    for file in sorted((ROOT / "sweeps").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def imports() -> list[tuple[str, str, int]]:
    """Every import in `sweeps/`, wherever it stands: (module, what it imports, line).

    A call of `import_module` with a literal name counts, too.
    """
    known = modules()
    found = []
    for name, file in known.items():
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found += [(name, alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                start = ".".join(above) if node.level else ""
                source = ".".join(filter(None, (start, node.module)))
                for alias in node.names:
                    whole = f"{source}.{alias.name}"
                    inside = whole in known or whole in MODULES_OF_RAY
                    found.append((name, whole if inside else source, node.lineno))
            elif isinstance(node, ast.Call) and (called := LITERAL.fullmatch(ast.unparse(node))):
                found.append((name, called[1], node.lineno))
    return found


def rank(module: str) -> int:
    room = module.split(".")[1] if module not in TOP else None
    return next((i for i, rooms in enumerate(ORDER) if room in rooms), len(ORDER))


def test_every_module_belongs_to_a_part_with_a_place_in_the_order():
    rooms = {room for rooms in ORDER for room in rooms}
    assert [m for m in modules() if m not in TOP and m.split(".")[1] not in rooms] == []


def test_imports_run_one_way_from_the_errors_to_the_api():
    arrows = [(m, i, line) for m, i, line in imports() if i.split(".")[0] == "sweeps"]
    assert len(arrows) > 100
    back = [f"{m}:{line} imports {i}" for m, i, line in arrows if rank(i) > rank(m)]
    assert back == []


def test_no_modules_import_each_other_in_a_circle_not_even_for_their_types():
    graph: dict[str, set[str]] = {}
    for module, imported, _ in imports():
        graph.setdefault(module, set()).add(imported)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_rooms_at_one_height_do_not_import_each_other():
    crossing = [
        f"{m}:{line} imports {i}"
        for m, i, line in imports()
        if i.split(".")[0] == "sweeps" and rank(i) == rank(m) > 0
        if {m, i}.isdisjoint(TOP) and m.split(".")[1] != i.split(".")[1]
    ]
    assert crossing == []


def test_no_file_name_stands_twice_but_for_the_protocols_of_the_doors():
    names = [f.name for f in modules().values() if f.name not in ("__init__.py", "base.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("mlflow", ("sweeps.trackers.mlflow",)),
        ("tensorboardX", ("sweeps.trackers.tensorboard",)),
        ("optuna", ("sweeps.searchers",)),
        ("ray.train", ("sweeps.workers",)),
        ("ray.data", ("sweeps.workers",)),
        (
            "ray._private",
            (
                *("sweeps.driver.cluster", "sweeps.driver.local_ray"),
                "sweeps.workers.processes.forked_worker",
            ),
        ),
        ("ray._common", ("sweeps.driver.local_ray",)),
        ("ray._raylet", ("sweeps.driver.local_ray", "sweeps.workers.processes.process_server")),
        ("ray.train.v2", ("sweeps.workers.train_run",)),
        ("ray.tune.execution", ("sweeps.driver.tune_driver",)),
        ("ray.autoscaler", ("sweeps.driver.cluster",)),
        ("ray.experimental", ("sweeps.driver.cluster",)),
        ("ray.widgets", ("sweeps.cli.notebook",)),
        ("rich", ("sweeps.cli",)),
        ("typer", ("sweeps.cli",)),
    ],
)
def test_a_fenced_library_is_imported_at_home_alone(library: str, homes: tuple[str, ...]):
    users = {m for m, i, _ in imports() if f"{i}.".startswith(f"{library}.")}
    assert users
    assert [m for m in sorted(users) if not f"{m}.".startswith(tuple(f"{h}." for h in homes))] == []


NOT_INSTALLED = {"sweeps", "search_spaces", "_typeshed"}
"""Ours, and the type checker's own."""


def third_party() -> dict[str, set[str]]:
    """The files below `sweeps/` and `search_spaces/` that import each third-party package."""
    found: dict[str, set[str]] = {}
    for folder in (ROOT / "sweeps", ROOT / "search_spaces"):
        for file in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names = [node.module]
                for package in {name.partition(".")[0] for name in names}:
                    if package not in NOT_INSTALLED | sys.stdlib_module_names:
                        place = file.relative_to(folder).as_posix()
                        found.setdefault(package, set()).add(place)
    return found


def declared() -> dict[str, str]:
    """The comment beside each dependency in `pyproject.toml`, those of the tests left out."""
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for e in extras if e != "test" for r in extras[e])]
    lines = {line.split('"')[1]: line for line in text.splitlines() if line.startswith('    "')}
    return {
        re.split(r"[\[<>=~! ]", requirement)[0].lower(): lines[requirement].partition("#")[2]
        for requirement in wanted
    }


def test_the_declared_dependencies_are_those_imported():
    dists = packages_distributions()
    users: dict[str, set[str]] = {}
    for package, places in third_party().items():
        names = {name.lower() for name in dists.get(package, [package])}
        (name,) = names & set(declared()) or {f"{package}, not declared"}
        users.setdefault(name, set()).update(places)
    assert sorted(users) == sorted(declared())
    for name, comment in declared().items():
        named = re.findall(r"[a-z_]+/[a-z_/]*", comment)
        assert named, f"{name}: the comment beside it names no room"
        assert ".py" not in comment, f"{name}: files are moved more often than rooms"
        for place in named:
            assert any(user.startswith(place) for user in users[name]), f"{place}: no {name}"


def test_ray_train_is_not_reached_through_ray_outside_the_workers():
    reached = [
        f"{name}:{node.lineno}"
        for name, file in modules().items()
        if not name.startswith("sweeps.workers")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "ray.train"
    ]
    assert reached == []


def test_only_the_command_line_prints():
    printing = [
        f"{name}:{node.lineno}"
        for name, file in modules().items()
        if not name.startswith("sweeps.cli")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "console.print")
    ]
    assert printing == []


def test_only_one_module_asks_whether_a_builder_has_a_member():
    members = {name for name in {**vars(Builder), **vars(ScriptBuilder)} if name[0] != "_"}
    assert {"prepare", "stream", "pipeline", "data_fields"} <= members
    members |= {"build_trainer", "builder"}
    asking = [
        f"{name}:{node.lineno}"
        for name, file in modules().items()
        if name != "sweeps.space.adapted"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr")
        if members & set(re.findall(r"\w+", " ".join(map(ast.unparse, node.args[:2]))))
    ]
    assert asking == []


def test_every_module_has_a_docstring():
    files = [*modules().values(), *(ROOT / "search_spaces").rglob("*.py")]
    files += (ROOT / "scripts").rglob("*.py")
    assert [str(f) for f in files if not ast.get_docstring(ast.parse(f.read_text()))] == []


# Shipped spaces.


def test_spaces_are_shipped():
    assert "bert_yelp" in SPACES


@pytest.mark.parametrize("name", SPACES)
def test_a_shipped_space_loads_and_has_no_problem(name: str):
    loaded = load_space(name)
    check_space(loaded.space, argument_fields(loaded.space.build_trainer), loaded.where)
    assert ast.get_docstring(ast.parse((SHIPPED / f"{name}.py").read_text()))


@pytest.mark.parametrize("name", SPACES)
def test_a_shipped_space_is_ready_to_run_on_its_tiny_builder(name: str):
    workers = 2 if shards(load_space(name).space) else 1
    make_request(name, SweepConfig(tiny=True, workers_per_trial=workers))


@pytest.mark.parametrize("name", SPACES)
def test_a_shipped_space_is_the_same_after_pickling(name: str):
    space = load_space(name).space
    copy = cloudpickle.loads(cloudpickle.dumps(space))
    assert described(copy) == described(space)


@pytest.mark.parametrize("searcher", ["random", "optuna"])
@pytest.mark.parametrize("name", SPACES)
def test_a_shipped_space_proposes_params_that_build_its_arguments(
    name: str, searcher: Any, tmp_path: Path
):
    from sweeps.records.events import TrialSuggested
    from sweeps.records.history import History

    loaded = load_space(name)
    space = loaded.space
    history = History(space.metric, space.mode)
    proposing = make_searcher(space, SweepConfig(searcher=searcher), root=loaded.root)
    cpu = Devices(workers=1, gpu=False, bf16=False)
    for number in range(1, 6):
        params = proposing.propose(history)
        assert params is not None
        found = active_branches(branches(space.tuned), fixed_values(space), params)
        assert set(found) == set(params)
        for key, branch in found.items():
            assert domains.contains(branch.domain, params[key])
        assert broken_constraint(space, params) is None
        seed = trial_seed(space, params, 0)
        training_arguments(space, params, devices=cpu, output_dir=tmp_path, seed=seed)
        history.apply(
            TrialSuggested(trial=f"t{number:03}", params=params, origin="searcher", seed=0)
        )


def described(space: SearchSpace) -> dict[str, Any]:
    tuned = {key: describe_tunable(declared) for key, declared in space.tuned.items()}
    return {field.name: getattr(space, field.name) for field in fields(space)} | {
        "tuned": tuned,
        "constraints": [constraint.__name__ for constraint in space.constraints],
    }


# Flags.

GIVEN = {
    "num_trials": ("10", 10),
    "repeats": ("5", 5),
    "time_budget": ("1h30m", timedelta(minutes=90)),
    "workers_per_trial": ("2", 2),
    "gpus_per_worker": ("1", 1.0),
    "trials_per_gpu": ("2", 2),
    "cpus_per_worker": ("3", 3),
    "max_concurrent": ("4", 4),
    "searcher": ("random", "random"),
    "scheduler": ("fifo", "fifo"),
    "first_rung": ("0.25", 0.25),
    "reduction_factor": ("2.5", 2.5),
    "resume_every": ("0s", timedelta(0)),
    "max_failures": ("0", 0),
    "max_failed_trials": ("7", 7),
    "stall_timeout": ("10m", timedelta(minutes=10)),
    "start_timeout": ("2h", timedelta(hours=2)),
    "keep_checkpoints": ("1", 1),
    "warm_start": ("bert_yelp", "bert_yelp"),
    "seed": ("7", 7),
    "storage": ("elsewhere", "elsewhere"),
    "trackers": ("tensorboard", ("tensorboard",)),
    "tracking_uri": ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    "address": ("10.0.0.1:6379", "10.0.0.1:6379"),
    "tiny": (None, True),
    "fresh_workers": (None, True),
    "smoke": (None, False),
}
"""A text for every flag, none of them the default, and what its field must be then."""


NOT_CONFIG = (
    *("space", "assignments", "as_json", "confirm", "from_", "trial"),
    *("metric", "mode", "tune", "save_space"),
)
"""What `run` and `plan` take beside the fields of `SweepConfig`."""


def flag(field: str) -> str:
    """The flag that changes a field's default; one that may be repeated is in the singular."""
    default = getattr(SweepConfig(), field)
    name = field.removesuffix("s") if isinstance(default, tuple) else field
    return f"--{'no-' * (default is True)}{name.replace('_', '-')}"


def verbs() -> dict[str, Any]:
    return get_command(app).commands  # type: ignore[attr-defined]


def parse(verb: str, *arguments: str) -> dict[str, Any]:
    """The values that the command line gives a verb, which does not run."""
    return dict(verbs()[verb].make_context(verb, list(arguments)).params)


def config(verb: str, *arguments: str) -> SweepConfig:
    values = parse(verb, *arguments)
    return SweepConfig(**{k: v for k, v in values.items() if k not in NOT_CONFIG})


def test_the_help_of_confirm_states_the_defaults():
    """They are typed there: the module that has them would slow down `--help`."""
    shown = {option.name: option.help for option in verbs()["confirm"].params}
    assert f"[default: {TOP_PARAMS}]" in shown["top"]
    assert f"at least {FEWEST_SEEDS}. [default: {SEEDS}]" in shown["seeds"]


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_flags_and_config_fields_are_the_same(verb: str):
    options = {p.name: p for p in verbs()[verb].params if p.name not in NOT_CONFIG}
    assert list(options) == [field.name for field in fields(SweepConfig)]
    for name, option in options.items():
        expected = [flag(name)] if flag(name) != f"--no-{name}" else [f"--{name}", flag(name)]
        assert [*option.opts, *option.secondary_opts] == expected


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_flag_that_is_not_given_leaves_its_field_at_the_default(verb: str):
    assert config(verb, "bert_yelp") == SweepConfig()


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_every_flag_sets_its_field(verb: str):
    assert list(GIVEN) == [field.name for field in fields(SweepConfig)]
    words = [w for name, (text, _) in GIVEN.items() for w in (flag(name), text) if w is not None]
    expected = SweepConfig(**{name: value for name, (_, value) in GIVEN.items()})
    assert config(verb, "bert_yelp", *words) == expected
    for field in fields(SweepConfig):
        assert getattr(expected, field.name) != field.default, field.name


@pytest.mark.parametrize("verb", sorted(get_command(app).commands))  # type: ignore[attr-defined]
def test_a_verb_and_each_of_its_flags_have_a_help_text(verb: str):
    command = verbs()[verb]
    assert command.help
    assert [parameter.name for parameter in command.params if not parameter.help] == []


@pytest.mark.parametrize(
    ("flag", "known"),
    [("scheduler", SCHEDULERS), ("searcher", SEARCHERS), ("trackers", TRACKERS)],
)
def test_the_help_names_every_scheduler_searcher_and_tracker(flag: str, known: Mapping[str, Any]):
    (option,) = (p for p in verbs()["run"].params if p.name == flag)
    assert [name for name in known if f"`{name}`" not in option.help] == []


@pytest.mark.parametrize("verb", ["results", "logs", "export", "delete", "ui"])
def test_the_verbs_that_look_at_a_sweep_find_it_where_run_put_it_by_default(verb: str):
    words = ["--out", "there"] if verb == "export" else []
    values = parse(verb, "bert_yelp", *words)
    assert storage_folder(values["storage"]) == SweepConfig().storage_folder


def test_keys_and_flags_may_stand_in_any_order():
    values = parse("run", "bert_yelp", "a=1", "--tiny", "b='x y'", "--seed", "3", "c=choice([1])")
    assert values["assignments"] == ["a=1", "b='x y'", "c=choice([1])"]
    assert (values["tiny"], values["seed"]) == (True, 3)


def test_help_and_the_verbs_that_only_read_import_nothing_heavy(tmp_path: Path, weights: Path):
    written = four_trials(tmp_path, weights)
    write_record(
        written.folder, replace(written.record, config=SweepConfig(num_trials=4, trackers=()))
    )
    (written.folder.logs / "group0-rank0.log").touch()
    sweep = written.folder.id
    there = ("--storage", str(tmp_path))
    calls = [
        *(["list"], ["--help"], *([verb, "--help"] for verb in verbs())),
        *(["results", sweep, *there], ["logs", sweep, "t001", *there]),
        *(["list", "--sweeps", *there], ["resume", sweep, *there]),
        ["delete", sweep, "--yes", *there],
    ]
    script = f"""
import json, sys
from sweeps.cli.main import main
loaded = {{}}
for call in {calls!r}:
    sys.argv = ["sweeps", *call]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (call, end.code)
    loaded[" ".join(call)] = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(loaded), file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^bert_yelp +shipped +Predict the 1 to 5 stars", done.stdout, re.M)
    assert json.loads(done.stderr) == {" ".join(call): [] for call in calls}


def test_a_sweep_is_loaded_from_python_without_torch() -> None:
    script = "import sys, sweeps; sweeps.load; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, cwd=ROOT) == "False\n"


def test_a_resume_changes_what_its_flags_say(monkeypatch: pytest.MonkeyPatch):
    from sweeps.cli.options import CHANGES
    from sweeps.driver.requests.finished import Changes

    assert set(CHANGES) == {field.name for field in fields(Changes)}
    assert set(CHANGES) <= {field.name for field in fields(SweepConfig)}
    values = parse("resume", "bert_yelp")
    assert not any(values[name] for name in CHANGES), "as recorded"
    assert parse("resume", "bert_yelp", "--tracker", "mlflow")["trackers"] == ["mlflow"]


# README and docs.

PAGES = (
    *("README.md", "docs/running.md", "docs/confirm.md", "docs/report.md", "docs/export.md"),
    *("docs/clusters.md", "docs/mlflow.md", "docs/spaces.md", "docs/your_own_script.md"),
    "scripts/quickstart.sh",
)


def shown_commands(page: str) -> Iterator[list[str]]:
    """The arguments of each `python -m sweeps ...` in a script, or a block or table of a page."""
    text = (ROOT / page).read_text().replace("\\\n", " ").replace(".venv/bin/", "")
    fenced = page.endswith(".sh")
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced and line.strip() == "```bash"
            continue
        shown = [line] if fenced else re.findall(r"`(python -m sweeps .*?)`", line)
        for command in shown:
            if command.strip().startswith("python -m sweeps"):
                yield shlex.split(command, comments=True)[3:]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_parses(page: str):
    commands = list(shown_commands(page))
    assert commands, f"{page} shows no `python -m sweeps` command"
    for verb, *arguments in commands:
        if "--help" in arguments or verb == "--help":
            continue
        values = parse(verb, *arguments)
        if verb in ("run", "plan"):
            config(verb, *arguments)
            if "--" in arguments:  # what follows is a script's
                values = parse(verb, *arguments[: arguments.index("--")])
            assert [text for text in values["assignments"] or [] if "=" not in text] == []


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_a_page_lists_what_every_room_may_import(page: str):
    text = (ROOT / page).read_text()
    listed = re.search(r"((?:`?\w+\.py`?[,\s]+)+)[| ]*shared", text)
    assert listed is not None
    assert sorted(re.findall(r"(\w+)\.py", listed[1])) == sorted(ORDER[0])


def test_the_readme_shows_every_verb():
    assert {verb for verb, *_ in shown_commands("README.md")} >= set(verbs())


def test_every_link_between_pages_leads_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    dead = []
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            if not other.exists() or (anchor and anchor not in anchors(other)):
                dead.append(f"{page.name}: {target}")
    assert dead == []


def test_every_file_that_a_page_names_is_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    missing = [
        f"{page.name}: {name}"
        for page in pages
        for name in re.findall(r"`([\w/]+/\w+\.(?:py|sh|yaml))`", page.read_text())
        if not any((ROOT / folder / name).exists() for folder in ("", "sweeps", "docs"))
    ]
    assert missing == []


def test_every_script_is_named_on_a_page_or_used_by_another_file():
    scripts = [file for file in (ROOT / "scripts").rglob("*.*") if file.suffix != ".pyc"]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    name = r"\w+\.(?:py|sh|yaml)\b"
    module = r"(?:(?<=scripts\.)|(?<=bench\.)|(?<=import )|(?<=from ))\w+"
    named = {
        (file, found)
        for file in (*pages, *(ROOT / "tests").glob("*.py"), *scripts)
        for found in re.findall(rf"{name}|{module}", file.read_text())
    }
    unused = [
        script.name
        for script in scripts
        if not any(found in (script.name, script.stem) for file, found in named if file != script)
    ]
    assert unused == []


def test_the_index_of_the_docs_lists_every_page():
    index = ROOT / "docs" / "index.md"
    listed = re.findall(r"^\| \[.*?\]\((\w+\.md)\)", index.read_text(), re.M)
    assert sorted(listed) == sorted(
        {page.name for page in index.parent.glob("*.md")} - {"index.md"}
    )


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_table_in_the_readme_is_made_of_the_committed_results():
    sys.path.insert(0, str(ROOT / "scripts"))
    from results_table import markdown

    shown = re.search(
        r"<!-- table: (\S+) -->\n(.*?)\n<!-- /table -->", (ROOT / "README.md").read_text(), re.S
    )
    assert shown is not None
    assert shown[2] == markdown(json.loads((ROOT / shown[1]).read_text()))
