"""What lies above a space's folder is not copied: a worker says where it is."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from sweeps.errors import UserError
from sweeps.space.code_copy import copy_code
from sweeps.space.loading import load_space
from sweeps.workers.failures.left_behind import left_behind
from sweeps.workers.pickled_space import opened, pickled

TOP = "import sys\nfrom pathlib import Path\nABOVE = Path(__file__).resolve().parents[1]\n"
SPACE = """
from sweeps import SearchSpace
from ray import tune

def build(args):
    {body}

SEARCH_SPACE = SearchSpace(
    build_trainer=build, metric="eval_loss", mode="min", tuned={{"seed": tune.randint(0, 9)}}
)
"""
IMPORTS = "sys.path.insert(0, str(ABOVE)); import of_the_project.models"
COPY = "; the workers run a copy of the space's folder, which does not include "
MODULE = COPY + "{project}/of_the_project; move the space to {project}, or set PYTHONPATH={project}"


@pytest.mark.parametrize("name", ["experiments/mine.py", "experiments.mine"])
@pytest.mark.parametrize(
    ("top", "body", "said"),
    [
        (
            "",
            "(ABOVE / 'data' / 'rows.csv').read_text()",
            COPY + "anything above it; use the path {project}/data/rows.csv",
        ),
        (IMPORTS, "pass", MODULE),
        ("", IMPORTS, MODULE),
        ("", "import not_there", ""),
        ("", "import runs", ""),
        ("", "import beside.not_there", ""),
        ("", "(ABOVE / 'not_there.csv').read_text()", ""),
        ("", "Path('not_there.csv').read_text()", ""),
        ("", "1 / 0", ""),
    ],
)
def test_what_lies_above_the_space_is_said_with_what_to_write(
    name: str, top: str, body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = tmp_path / "project"
    for folder in ("experiments", "data", "of_the_project"):
        (project / folder).mkdir(parents=True)
    (project / "experiments" / "mine.py").write_text(TOP + top + SPACE.format(body=body))
    (project / "data" / "rows.csv").write_text("")
    (project / "of_the_project" / "models.py").write_text("")
    (project / "runs" / "first").mkdir(parents=True)
    (project / "experiments" / "beside").mkdir()
    (project / "experiments" / "beside" / "__init__.py").write_text("")
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", list(sys.path))
    loaded = load_space(name)
    data, code = pickled(loaded, loaded.space), tmp_path / "results" / "mine-1" / "code"
    copy_code(loaded, code)
    worker = [place for place in sys.path if not place.startswith(str(project))]
    monkeypatch.setattr(sys, "path", worker)
    for module in [
        m for m in sys.modules if m.startswith(("of_the_project", "experiments", "beside"))
    ]:
        del sys.modules[module]
    with pytest.raises((UserError, OSError, ImportError, ArithmeticError)) as raised:
        opened(data, code).build_trainer(None)
    assert left_behind(raised.value, code, data) == said.format(project=project)


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file", "/results/mine-1/rows.csv"),
        ModuleNotFoundError("No module named 'models'", name="models"),
    ],
)
def test_a_folder_that_cannot_be_looked_at_hides_no_error(
    error: OSError | ImportError, tmp_path: Path
):
    too_long = tmp_path / ("x" * 300)
    data = pickle.dumps((None, False, str(too_long / "project"), None, b""))
    assert left_behind(error, Path("/results/mine-1/code"), data) == ""


def test_a_path_that_the_user_wrote_is_not_taken_for_one_beside_the_code(tmp_path: Path):
    data = pickle.dumps((None, False, str(tmp_path / "a" / "b" / "c" / "d"), None, b""))
    (tmp_path / "a" / "data").mkdir(parents=True)
    (tmp_path / "a" / "data" / "t.csv").write_text("")
    error = FileNotFoundError(2, "No such file", "/data/t.csv")
    assert left_behind(error, Path("/results/mine-1/code"), data) == ""
