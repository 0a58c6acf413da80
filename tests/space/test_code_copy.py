"""What a sweep takes along of the folder of its space: copies, and links to the rest."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from sweeps.durable import make_cache
from sweeps.errors import UserError
from sweeps.space.code_copy import CROWD, LIMIT_BYTES, SMALL_BYTES, Code, copy_code, find_code
from sweeps.space.loading import LoadedSpace, load_copy, load_space

SPACE = """
from ray import tune
from sweeps import SearchSpace

SEARCH_SPACE = SearchSpace(
    build_trainer=print, metric="eval_loss", mode="min",
    tuned={"learning_rate": tune.loguniform(1e-5, 1e-3)}, files=FILES,
)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "project"


def loaded(folder: Path, *patterns: str, **sizes: int) -> LoadedSpace:
    """A space in a folder with files of these sizes; `__` stands for `/`, `_` for `.`."""
    for name, size in sizes.items():
        file = folder / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            opened.truncate(size)
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(SPACE.replace("FILES", repr(list(patterns))))
    return load_space(str(folder / "mine.py"))


def names(found: Code, folder: Path) -> tuple[list[str], list[str]]:
    return (
        [str(file.relative_to(folder)) for file in found.copied],
        [str(file.relative_to(folder)) for file in found.linked],
    )


def test_small_texts_are_copied_and_the_rest_is_linked_by_whole_folders(project: Path):
    found = find_code(
        loaded(
            project,
            **{"scale_txt": 3, "prompts__a_json": 9, "prompts__big_bin": 5, "images__x__1_png": 7},
            **{"images__2_png": 7, "large_csv": SMALL_BYTES + 1, "_env": 4, "_git__config": 3},
        )
    )
    copied, linked = names(found, project)
    assert copied == ["mine.py", "prompts/a.json", "scale.txt"]
    assert linked == ["images", "large.csv", "prompts/big.bin"]


def test_the_copy_reads_like_the_folder(project: Path):
    space = loaded(project, scale_txt=0, images__1_png=7)
    (project / "scale.txt").write_text("0.5")
    copy_code(space, project.parent / "code")
    code = project.parent / "code"
    (project / "scale.txt").write_text("0.7")
    assert (code / "scale.txt").read_text() == "0.5"
    assert (code / "images" / "1.png").stat().st_size == 7
    again = load_copy(code, "mine.py", dotted=False)
    copy_code(again, project.parent / "again")
    assert (project.parent / "again" / "scale.txt").read_text() == "0.5"
    assert (project.parent / "again" / "images").readlink() == project / "images"


def test_patterns_name_more_files(project: Path):
    found = find_code(
        loaded(project, "*.bin", "images/1*", big_bin=SMALL_BYTES * 2, images__1_png=7)
    )
    assert names(found, project) == (["big.bin", "images/1.png", "mine.py"], [])
    with pytest.raises(UserError) as raised:
        find_code(loaded(project, "*.bin", "nothing*"))
    assert str(raised.value) == f"files[1] = 'nothing*' matches no file under {project}"
    with pytest.raises(
        UserError, match=r"the \.py files and the files that match `files` under .* total 12 MB"
    ):
        find_code(loaded(project, "huge*", huge_bin=12_000_000))


def test_texts_are_copied_the_smallest_first_as_long_as_all_fit(project: Path):
    many = {f"t{i:02}_csv": SMALL_BYTES - 100 + i for i in range(12)}
    copied, linked = names(find_code(loaded(project, **many)), project)
    assert linked == ["t10.csv", "t11.csv"]
    assert len(copied) == 11
    assert sum((project / name).stat().st_size for name in copied) <= LIMIT_BYTES


def test_sweeps_and_what_lies_beside_them_stay_at_home(project: Path):
    found = find_code(
        loaded(
            project,
            **{"out__a__sweep_json": 2, "out__a__code__b_py": 3, "out__prepared__x_json": 3},
            **{"out__helper_py": 0, "kept__x_json": 0},
        )
    )
    assert names(found, project) == (["kept/x.json", "mine.py", "out/helper.py"], [])


def test_what_commands_leave_beside_a_script_is_not_copied(project: Path):
    """A cache stays at home; an exported model may be what the script trains on."""
    make_cache(project / "results" / "cache")
    found = find_code(
        loaded(
            project,
            **{"results__cache__1_json": 2, "exported__a__provenance_json": 3},
            **{"exported__a__config_json": 3, "exported__a__files__helper_py": 0},
        )
    )
    assert names(found, project) == (["mine.py"], ["exported"])


def test_texts_that_may_hold_credentials_are_copied_only_where_files_names_them(project: Path):
    space = loaded(project, my_secrets_yaml=0, account_json=0, settings_json=0)
    (project / "account.json").write_text('{"private_key": "-----BEGIN"}')
    (project / "settings.json").write_text('{"hub": "hf_' + "a1B2" * 9 + '"}')
    copied, linked = names(find_code(space), project)
    assert copied == ["mine.py"]
    assert linked == ["account.json", "my.secrets.yaml", "settings.json"]
    named = loaded(project, "account.json")
    assert names(find_code(named), project)[0] == ["account.json", "mine.py"]


def test_a_folder_of_data_is_linked_whole_whatever_texts_it_holds(project: Path):
    many = {f"data__{i:03}_jpg": 1 for i in range(CROWD)}
    copied, linked = names(find_code(loaded(project, data__labels_csv=5, **many)), project)
    assert (copied, linked) == (["mine.py"], ["data"])


def test_the_text_of_a_space_that_has_no_file_stands_in_place_of_a_file_of_its_name(project: Path):
    """As an earlier `--save-space` leaves one, be it a link."""
    space = loaded(project)
    assert space.file is not None
    written = dataclasses.replace(space, text="SEARCH_SPACE = None\n")
    copy_code(written, project.parent / "code")
    assert (project.parent / "code" / "mine.py").read_text() == "SEARCH_SPACE = None\n"
    assert space.file.read_text() != "SEARCH_SPACE = None\n", "the user's own file stays"
