"""A space is found by name, module or file, and its code travels with it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from ray import cloudpickle

from sweeps.errors import UserError
from sweeps.space import no_training
from sweeps.space.code_copy import copy_code
from sweeps.space.loading import LoadedSpace, load_factory, load_space
from sweeps.space.shipped import SHIPPED, ListedSpace, list_spaces

SPACE = '''"""{doc}"""

from ray import tune
from sweeps import SearchSpace
{imports}

def build(args, *, height=0.5):
    return ("built by {doc}", {built})


SEARCH_SPACE = SearchSpace(
    build_trainer=build,
    metric="{doc}",
    mode="max",
    tuned={{"learning_rate": tune.loguniform(1e-5, 1e-3)}},
)
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def write(path: Path, doc: str = "mine", imports: str = "", built: str = "height") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SPACE.format(doc=doc, imports=imports, built=built))
    return path


def message(name: str) -> str:
    with pytest.raises(UserError) as raised:
        load_space(name)
    return str(raised.value)


def copied(loaded: LoadedSpace, target: Path) -> list[str]:
    copy_code(loaded, target)
    return sorted(str(f.relative_to(target)) for f in target.rglob("*") if f.is_file())


# Finding.


def test_a_name_is_looked_for_in_search_spaces(here: Path):
    file = write(here / "search_spaces" / "mine.py")
    loaded = load_space("mine")
    assert loaded.space.metric == "mine"
    assert (loaded.name, loaded.file, loaded.root) == ("mine", file, file.parent)
    assert loaded.where == "search_spaces/mine.py: SEARCH_SPACE"


def test_a_space_of_ones_own_comes_before_a_shipped_one_of_the_same_name(here: Path):
    assert load_space("bert_yelp").file == SHIPPED.resolve() / "bert_yelp.py"
    own = write(here / "search_spaces" / "bert_yelp.py", doc="my own")
    assert load_space("bert_yelp").file == own
    assert list_spaces()["bert_yelp"] == ListedSpace("my own", "shadows a shipped one")


def test_a_file_may_stand_anywhere(here: Path):
    write(here / "elsewhere" / "mine.py")
    loaded = load_space("elsewhere/mine.py")
    assert (loaded.name, loaded.space.metric) == ("mine", "mine")
    assert loaded.root == here / "elsewhere"


def test_a_file_imports_the_modules_beside_it(here: Path):
    (here / "helper.py").write_text("VALUE = 3\n")
    write(here / "mine.py", imports="from helper import VALUE", built="VALUE")
    assert load_space("mine.py").space.build_trainer(None) == ("built by mine", 3)


def test_a_dotted_module_is_looked_for_from_the_working_folder(here: Path):
    (here / "mypackage" / "inner").mkdir(parents=True)
    (here / "mypackage" / "__init__.py").write_text("")
    file = write(here / "mypackage" / "inner" / "mine.py")
    loaded = load_space("mypackage.inner.mine")
    assert (loaded.name, loaded.file, loaded.root) == ("mine", file, here)
    assert loaded.folder == here / "mypackage"


def test_two_files_of_one_name_do_not_get_into_each_others_way(here: Path):
    write(here / "a" / "mine.py", doc="first")
    write(here / "b" / "mine.py", doc="second")
    first, second = load_space("a/mine.py").space, load_space("b/mine.py").space
    assert (first.metric, second.metric) == ("first", "second")
    assert cloudpickle.loads(cloudpickle.dumps(first)).build_trainer(None)[0] == "built by first"


def test_an_unknown_name_is_answered_with_the_nearest_one_and_all_others(here: Path):
    write(here / "search_spaces" / "mine.py")
    known = ", ".join(sorted(list_spaces()))
    assert "mine" in known
    assert message("mime") == (
        f"no search space named 'mime'; available: {known}, any dotted module or .py"
        " file; did you mean 'mine'?"
    )
    assert message("zzzzzz").endswith(f"; available: {known}, any dotted module or .py file")


def test_a_missing_file_is_named():
    assert message("there/mine.py") == "no such file: there/mine.py"


def test_a_missing_module_is_named():
    assert message("nosuch.mine") == (
        f"no search space 'nosuch.mine': no module named 'nosuch', neither in {Path.cwd()} nor in"
        " the environment"
    )


def test_a_missing_import_of_a_space_is_the_space_s_own_fault(here: Path):
    (here / "mypackage").mkdir()
    write(here / "mypackage" / "mine.py", imports="import nosuch_library")
    assert message("mypackage.mine") == (
        "mypackage/mine.py: line 5: import nosuch_library: No module named 'nosuch_library'"
    )


@pytest.mark.parametrize("body", ["", "SEARCH_SPACE = {}", "raise_here.train()"])
def test_a_file_without_a_search_space_is_named(here: Path, body: str):
    (here / "mine.py").write_text(body)
    assert message("mine.py") == (
        f"{here / 'mine.py'}: defines no SEARCH_SPACE of type sweeps.SearchSpace; to tune a"
        " training script, add --metric and --tune"
    )


def test_listed_are_all_spaces_at_hand_with_their_first_line_and_none_is_run(here: Path):
    folder = here / "search_spaces"
    folder.mkdir()
    (folder / "mine.py").write_text('"""First line.\n\nMore."""\nraise SystemExit\n')
    (folder / "bare.py").write_text("raise SystemExit\n")
    (folder / "broken.py").write_text("SEARCH_SPACE = (")
    (folder / "_helper.py").write_text('"""A helper."""\n')
    listed = list_spaces()
    assert listed["mine"] == ListedSpace("First line.", "own")
    assert listed["bare"] == ListedSpace("", "own")
    assert listed["broken"].mark == "broken"
    assert "_helper" not in listed
    assert listed["bert_yelp"].mark == "shipped"


# Travelling.


def test_the_modules_of_a_space_travel_as_they_lie(here: Path):
    write(here / "project" / "mine.py")
    (here / "project" / "helper.py").write_text("")
    (here / "project" / "package").mkdir()
    (here / "project" / "package" / "__init__.py").write_text("VALUE = 1\n")
    (here / "project" / "data.csv").write_text("a,b\n")
    (here / "outside.py").write_text("")
    target = here / "results" / "sweep" / "code"
    assert copied(load_space("project/mine.py"), target) == [
        "data.csv",
        "helper.py",
        "mine.py",
        "package/__init__.py",
    ]
    assert (target / "package" / "__init__.py").read_text() == "VALUE = 1\n"


def test_hidden_folders_stay_at_home(here: Path):
    write(here / "mine.py")
    for name in (".venv/lib/big.py", "package/.cache/x.py", ".hidden.py"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("")
    assert copied(load_space("mine.py"), here / "code") == ["mine.py"]


def test_a_space_below_a_hidden_folder_still_travels(here: Path):
    write(here / ".work" / "mine.py")
    assert copied(load_space(".work/mine.py"), here / "code") == ["mine.py"]


def test_a_package_travels_whole_and_nothing_beside_it(here: Path):
    (here / "mypackage").mkdir()
    (here / "mypackage" / "__init__.py").write_text("")
    write(here / "mypackage" / "inner" / "mine.py")
    (here / "mypackage" / "inner" / "__init__.py").write_text("")
    (here / "other.py").write_text("")
    assert copied(load_space("mypackage.inner.mine"), here / "code") == [
        "mypackage/__init__.py",
        "mypackage/inner/__init__.py",
        "mypackage/inner/mine.py",
    ]


def test_a_space_made_in_python_takes_no_code_along(here: Path):
    write(here / "mine.py")
    space = load_space("mine.py").space
    inline = LoadedSpace(space=space, name="inline", file=None, root=here, folder=None)
    assert copied(inline, here / "code") == []
    assert inline.where == "the search space"


def test_more_than_ten_megabytes_of_code_do_not_travel(here: Path):
    file = write(here / "mine.py")
    limit = 10 * 2**20
    (here / "big.py").write_text("#" * (limit - file.stat().st_size))
    loaded = load_space("mine.py")
    copy_code(loaded, here.parent / f"{here.name}-code")
    (here / "one_more.py").write_text("#")
    with pytest.raises(UserError) as raised:
        copy_code(loaded, here.parent / f"{here.name}-refused")
    assert str(raised.value) == (
        f"the .py files under {here} total 10 MB, but at most 10 MB are copied for the workers;"
        " move the search space to a folder of its own"
    )


def test_the_code_of_earlier_sweeps_is_not_taken_along(here: Path):
    write(here / "mine.py")
    loaded = load_space("mine.py")
    for sweep in ("mine-20261122-0741-aaaa", "mine-20261122-0742-bbbb"):
        folder = here / "results" / sweep
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_text("{}")
        (folder / "events.jsonl").write_text("")
        assert copied(loaded, folder / "code") == ["mine.py"]


# Factories.


def refused(text: str, root: Path) -> str:
    with pytest.raises(UserError) as raised:
        load_factory(text, root, "searcher")
    return str(raised.value)


def test_a_factory_is_found_beside_the_space_and_in_the_environment(here: Path):
    (here / "helper.py").write_text("def make(): return 1")
    (here / "mypackage").mkdir()
    (here / "mypackage" / "inner.py").write_text("def make(): return 2")
    path = list(sys.path)
    assert load_factory("helper:make", here, "searcher")() == 1
    assert load_factory("mypackage.inner:make", here, "searcher")() == 2
    assert load_factory("collections:Counter", here, "searcher")() == {}
    assert sys.path == path


def test_the_copy_of_a_factory_is_used_where_the_original_was_imported_before(here: Path):
    for folder, number in (("mine", 1), ("code", 2)):
        (here / folder).mkdir()
        (here / folder / "helper.py").write_text(f"def make(): return {number}")
    assert load_factory("helper:make", here / "mine", "searcher")() == 1
    assert load_factory("helper:make", here / "code", "searcher")() == 2


def test_a_module_that_the_caller_has_imported_stays_the_caller_s(here: Path):
    (here / "mine_to_keep.py").write_text("state = []\ndef make(): return state")
    sys.path.insert(0, str(here))
    try:
        import mine_to_keep
    finally:
        sys.path.remove(str(here))
    try:
        assert load_factory("mine_to_keep:make", here, "searcher")() is not mine_to_keep.state
        assert sys.modules["mine_to_keep"] is mine_to_keep
    finally:
        del sys.modules["mine_to_keep"]


def test_a_factory_that_is_not_there_is_refused_with_the_reason(here: Path):
    (here / "helper.py").write_text("LIMIT = 3\ndef make(): ...")
    (here / "broken.py").write_text("import nowhere_to_be_found")
    (here / "typo.py").write_text("def make(:")
    for text in ("helper", "helper:", ":make", "hel-per:make", "helper:make:more", "a/b:make"):
        assert refused(text, here) == f"searcher = {text!r}: must have the form module:factory"
    assert refused("nowhere.at_all:make", here) == (
        f"searcher = 'nowhere.at_all:make': no module named 'nowhere', neither in {here} nor in the"
        " environment"
    )
    assert refused("helper:made", here) == (
        "searcher = 'helper:made': helper has no 'made'; did you mean 'make'?"
    )
    assert refused("helper:LIMIT", here) == "searcher = 'helper:LIMIT': LIMIT = 3 is not callable"
    assert refused("broken:make", here) == (
        "broken.py: line 1: import nowhere_to_be_found: No module named 'nowhere_to_be_found'"
    )
    assert refused("typo:make", here).startswith("typo.py: line 1: ")


# Python's own mistakes in a file.

CALL = """SearchSpace(
    build_trainer=build,
    metric="m",
    mode="max",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)},
)"""


@pytest.mark.parametrize(
    ("right", "wrong", "line", "told"),
    [
        (
            "metric=",
            "metrik=",
            6,
            "metrik='m': SearchSpace has no argument 'metrik'; did you mean 'metric'?",
        ),
        ('    metric="m",\n', "", 4, "SearchSpace(...) requires 'metric'"),
        (
            "    build_trainer=build,",
            "    build,",
            4,
            "SearchSpace(...) accepts only keyword arguments: build_trainer=, metric=, mode=,"
            " tuned=, fixed=, first_params=, constraints=, evals_per_trial=, files=",
        ),
        (
            "build_trainer=build,",
            "build_trainer=sweeps.CausalLM(\n        model='m', dataset='d', blok_tokens=8),",
            6,
            "blok_tokens=8: CausalLM has no argument 'blok_tokens'; did you mean 'block_tokens'?",
        ),
        (
            "SearchSpace(",
            "tune.choise([1])",
            4,
            "tune.choise([1]): module 'ray.tune' has no attribute 'choise'; did you mean 'choice'?",
        ),
        (
            "SearchSpace(",
            "SearchSpac(",
            4,
            "SearchSpac(: name 'SearchSpac' is not defined; did you mean 'SearchSpace'?",
        ),
        (
            "SearchSpace(",
            "from sweeps import TextClasification",
            4,
            "from sweeps import TextClasification: sweeps has no 'TextClasification';"
            " did you mean 'TextClassification' or 'TokenClassification'?",
        ),
    ],
)
@pytest.mark.parametrize("name", ["mine.py", "mypackage.mine"])
def test_a_mistake_of_python_s_own_is_one_line_with_the_word_and_the_nearest_right_one(
    here: Path, name: str, right: str, wrong: str, line: int, told: str
):
    call = CALL.replace(right, wrong)
    if not call.startswith("SearchSpace("):
        call = call.splitlines()[0]
        call += "\n)" if call.endswith("(") else ""
    head = "import sweeps\nfrom ray import tune\nfrom sweeps import SearchSpace, when"
    file = here / ("mine.py" if name == "mine.py" else "mypackage/mine.py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{head}\n{call.replace('build,', 'len,')}\n")
    assert message(name) == f"{file.relative_to(here)}: line {line}: {told}"


def test_an_error_that_a_library_raises_keeps_its_traceback(here: Path):
    write(here / "mine.py", imports="import json; json.loads('{')")
    with pytest.raises(ValueError, match="Expecting"):
        load_space("mine.py")


# What a file may not do while it is loaded.


@pytest.mark.parametrize(
    ("code", "line", "problem"),
    [
        (
            "CLI = argparse.ArgumentParser().parse_args()",
            3,
            "this reads the command line, which belongs to sweeps",
        ),
        ("CLI, _ = argparse.ArgumentParser().parse_known_args()", 3, "this reads the command line"),
        ("ROWS = int(sys.argv[1])", 3, "this reads the command line, which belongs to sweeps"),
        ("_, *WORDS = sys.argv[:]", 3, "this reads the command line, which belongs to sweeps"),
        (
            "import click; click.command()(lambda: 0)()",
            3,
            "this reads the command line, which belongs to sweeps",
        ),
        ("sys.exit(3)", 3, "ends the process (SystemExit(3)); raise an error that explains"),
        ("exit()", 3, "ends the process (SystemExit(None)); raise an error that explains"),
    ],
)
@pytest.mark.parametrize("name", ["mine.py", "mine", "mypackage.mine"])
def test_a_file_that_reads_the_command_line_or_ends_the_process_is_refused_with_its_line(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: str,
    line: int,
    problem: str,
):
    place = {"mine.py": "mine.py", "mine": "search_spaces/mine.py"}.get(name, "mypackage/mine.py")
    file = write(here / place)
    file.write_text(f"import argparse\nimport sys\n{code}\n{file.read_text()}")
    assert message(name).startswith(f"{place}: line {line}: {code}: {problem}")
    assert capsys.readouterr().err == "", "and no usage"


HUGGING_FACE = """
class Trainer:
    def train(self):
        return "trained"
"""


@pytest.mark.parametrize("imported", [True, False])
@pytest.mark.parametrize("name", ["mine.py", "helper.py"])
def test_a_script_that_trains_as_it_is_imported_is_refused_with_its_line(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, imported: bool
):
    monkeypatch.setattr(no_training, "_HOME", "hugging_face")
    monkeypatch.syspath_prepend(str(here / "library"))
    (here / "library").mkdir()
    (here / "library" / "hugging_face.py").write_text(HUGGING_FACE)
    monkeypatch.delitem(sys.modules, "hugging_face", raising=False)
    if imported:
        importlib.import_module("hugging_face")
    finders = list(sys.meta_path)
    trains = "if {}:\n    build().train()\n"
    helper = "from hugging_face import Trainer\n\ndef build(args=None):\n    return Trainer()\n\n"
    scripts = {
        "helper.py": helper,
        "mine.py": write(here / "mine.py", imports="from helper import build as make").read_text(),
    }
    scripts[name] += trains.format("True").replace(
        "build", "make" if name == "mine.py" else "build"
    )
    for file, text in scripts.items():
        (here / file).write_text(text)
    line = len(scripts[name].splitlines())
    said = message("mine.py")
    assert said.startswith(f"{name}: line {line}: ")
    assert "train(): starts training on import; move it under `if __name__ ==" in said
    assert sys.meta_path == finders
    assert sys.modules["hugging_face"].Trainer().train() == "trained"
    (here / name).write_text(scripts[name].replace("if True", "if __name__ == '__main__'"))
    sys.modules.pop("helper", None)
    assert load_space("mine.py").space is not None


def test_a_patch_of_train_that_the_file_makes_stays_and_the_method_it_found_trains(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(no_training, "_HOME", "hugging_face")
    (here / "hugging_face.py").write_text(HUGGING_FACE)
    monkeypatch.delitem(sys.modules, "hugging_face", raising=False)
    file = write(here / "mine.py", imports="from hugging_face import Trainer")
    file.write_text(
        file.read_text()
        + "\nown = Trainer.train\nTrainer.train = lambda self: f'patched: {own(self)}'\n"
    )
    load_space("mine.py")
    assert sys.modules["hugging_face"].Trainer().train() == "patched: trained"


def test_a_file_that_can_do_without_the_command_line_is_loaded(here: Path):
    (here / "mine.py").write_text(
        "import argparse\nimport sys\n"
        "OPTIONS = argparse.ArgumentParser().parse_args([])\n"
        "PROGRAM = sys.argv[0]\n"
        "PATH = sys.argv[1] if len(sys.argv) > 1 else 'data'\n"
        "DEBUG = '--debug' in sys.argv\n" + write(here / "mine.py").read_text()
    )
    assert load_space("mine.py").space is not None


def test_a_helper_that_reads_the_command_line_is_named_itself(here: Path):
    (here / "helper.py").write_text("import argparse\n\nargparse.ArgumentParser().parse_args()\n")
    write(here / "mine.py", imports="import helper")
    assert message("mine.py").startswith(
        "helper.py: line 3: argparse.ArgumentParser().parse_args()"
    )


def test_what_reads_no_command_line_may_stay(here: Path):
    file = write(here / "mine.py")
    script = "if __name__ == '__main__':\n    argparse.ArgumentParser().parse_args()\n"
    own = "argparse.ArgumentParser().parse_args([])\n"
    file.write_text(f"import argparse\n{own}{file.read_text()}{script}")
    before = list(sys.argv)
    assert load_space("mine.py").space.metric == "mine"
    assert sys.argv == before


def test_a_relative_import_in_a_file_is_refused_with_what_to_write(here: Path):
    write(here / "helper.py")
    write(here / "mine.py", imports="from . import helper")
    assert message("mine.py") == (
        "mine.py: line 5: from . import helper: a space loaded from a file is not part of a"
        " package; import the neighbouring module by its plain name, or pass the space as a dotted"
        " module"
    )
    write(here / "mypackage" / "__init__.py")
    write(here / "mypackage" / "helper.py")
    write(here / "mypackage" / "mine.py", imports="from . import helper")
    assert load_space("mypackage.mine").space.metric == "mine"
