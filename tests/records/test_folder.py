"""A sweep's folder is found by its id, or by its space's name for the latest."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from sweeps.errors import UserError
from sweeps.records.folder import SWEEP_ID, SweepFolder, choose_sweep, find_sweep, new_sweep_id


def make(storage: Path, sweep: str, age: int) -> Path:
    """A sweep's folder, written `age` seconds after some moment."""
    folder = storage / sweep
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("")
    (folder / "sweep.json").write_text('{"space": "x"}')
    os.utime(folder / "sweep.json", (1_790_000_000 + age,) * 2)
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    make(tmp_path, "bert_yelp-20261122-0741-k3f9", 1)
    make(tmp_path, "bert_yelp-20261122-0741-a222", 2)  # the same minute: names say nothing
    make(tmp_path, "bert-20261123-0000-zzzz", 3)
    make(tmp_path, "my-own.space-20261121-0000-bbbb", 0)
    half_deleted = make(tmp_path, "bert_yelp-20261124-0000-dddd", 4)
    (half_deleted / "sweep.json").unlink()
    (tmp_path / "mlartifacts").mkdir()
    (tmp_path / "bert_yelp-20261199-0000-cccc").mkdir()  # it never began: it has no log
    return tmp_path


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("bert_yelp-20261122-0741-k3f9", "bert_yelp-20261122-0741-k3f9"),
        ("bert_yelp", "bert_yelp-20261122-0741-a222"),
        ("bert", "bert-20261123-0000-zzzz"),
        ("bert_yelp-20261122-0741-k", "bert_yelp-20261122-0741-k3f9"),
        ("my", "my-own.space-20261121-0000-bbbb"),
        ("my-own.space", "my-own.space-20261121-0000-bbbb"),
    ],
)
def test_a_sweep_is_found_by_its_id_and_the_latest_by_its_space(
    storage: Path, name: str, found: str
):
    assert find_sweep(storage, name) == SweepFolder(storage / found)


def test_a_beginning_of_several_ids_is_answered_with_them(storage: Path):
    with pytest.raises(UserError) as raised:
        find_sweep(storage, "bert_yelp-20261122")
    before, _, sweeps = str(raised.value).partition(": ")
    assert before == "'bert_yelp-20261122' matches several sweeps; use a longer prefix of one"
    assert sorted(sweeps.split(", ")) == [
        "bert_yelp-20261122-0741-a222",
        "bert_yelp-20261122-0741-k3f9",
    ]


def test_of_many_ids_that_begin_alike_the_latest_are_listed():
    ids = [f"bert_yelp-20261122-{minute:04}-aaaa" for minute in range(100)]
    with pytest.raises(UserError) as raised:
        choose_sweep(ids, "bert_yelp-2026", Path("sweeps"))
    shown = ", ".join(ids[:93:-1])
    assert str(raised.value) == (
        f"'bert_yelp-2026' matches several sweeps; use a longer prefix of one: {shown} and 94 more"
    )


@pytest.mark.parametrize("space", ["x" * 252, "日" * 84])
def test_a_space_with_the_longest_name_a_file_can_have_gets_ids_that_it_is_found_by(
    tmp_path: Path, space: str
):
    sweep = new_sweep_id(space)
    assert len(os.fsencode(f"{sweep}-smoke")) <= 255
    make(tmp_path, sweep, 1)
    make(tmp_path, new_sweep_id(f"{space[:-1]}y"), 2)
    assert find_sweep(tmp_path, space) == SweepFolder(tmp_path / sweep)


@pytest.mark.parametrize("name", ["bort", "bert_yelp-20261199-0000-cccc", "mlartifacts"])
def test_an_unknown_sweep_is_answered_with_the_latest_ones(storage: Path, name: str):
    for age, tail in enumerate(("eeee", "ffff"), start=5):
        make(storage, f"gpt2-20261125-0000-{tail}", age)
    with pytest.raises(UserError) as raised:
        find_sweep(storage, name)
    assert str(raised.value).startswith(
        f"no sweep named {name!r} in {storage}; available: gpt2-20261125-0000-ffff,"
        " gpt2-20261125-0000-eeee, bert-20261123-0000-zzzz, bert_yelp-20261122-0741-a222,"
        " bert_yelp-20261122-0741-k3f9 and 1 more"
    )


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere/bert_yelp-20261122-0741-k3f9",
        "elsewhere/bert_yelp-20261122-0741-k3f9",
        "bert_yelp-20261122-0741-k3f9/../../elsewhere/bert_yelp-20261122-0741-k3f9",
        "../elsewhere/bert_yelp",
        "..",
        ".",
        "",
        "*",
    ],
)
def test_no_name_leads_out_of_the_storage_folder(tmp_path: Path, name: str):
    sweep = "bert_yelp-20261122-0741-k3f9"
    for place in ("results", "elsewhere", "results/elsewhere"):
        make(tmp_path / place, sweep, 1)
    storage = tmp_path / "results"
    for wanted in (name, str(tmp_path / "elsewhere" / sweep)):
        with pytest.raises(UserError, match=r"^no sweep"):
            find_sweep(storage, wanted)
    assert find_sweep(storage, "bert_yelp").path == storage / sweep


def test_the_id_of_a_sweep_is_one_name_wherever_its_space_lies(tmp_path: Path):
    from sweeps.space.loading import load_space

    (tmp_path / "a.b").mkdir()
    file = tmp_path / "a.b" / "..c d.py"
    file.write_text(
        "from ray import tune\nfrom sweeps import SearchSpace\n"
        "SEARCH_SPACE = SearchSpace(build_trainer=print, metric='m', mode='max',"
        " tuned={'x': tune.uniform(0, 1)})\n"
    )
    name = load_space(str(tmp_path / "a.b" / ".." / "a.b" / file.name)).name
    assert name == "..c d"
    assert (tmp_path / new_sweep_id(name)).resolve().parent == tmp_path


def test_a_storage_folder_that_is_not_there_has_no_sweeps_yet(tmp_path: Path):
    with pytest.raises(UserError) as raised:
        find_sweep(tmp_path / "nowhere", "bert_yelp")
    assert str(raised.value) == (
        f"no sweep named 'bert_yelp' in {tmp_path / 'nowhere'}: there are no sweeps yet"
    )


def test_a_new_id_names_the_space_the_minute_and_no_other_sweep():
    ids = {new_sweep_id("my-own.space") for _ in range(50)}
    assert len(ids) == 50
    for sweep in ids:
        matched = SWEEP_ID.fullmatch(sweep)
        assert matched is not None
        assert matched["space"] == "my-own.space"
        assert re.fullmatch(r"my-own\.space-\d{8}-\d{4}-[a-z0-9]{4}", sweep)


@pytest.mark.parametrize("space", ["my space", "bert+yelp", "größe (2)"])
def test_a_sweep_of_a_file_with_any_name_is_found_again(tmp_path: Path, space: str):
    folder = make(tmp_path, new_sweep_id(space), 1)
    assert find_sweep(tmp_path, space).path == folder


def test_the_files_of_a_sweep_stand_where_the_readme_says(tmp_path: Path):
    folder = SweepFolder(tmp_path / "bert_yelp-20261122-0741-k3f9")
    assert folder.id == "bert_yelp-20261122-0741-k3f9"
    parts = (folder.record_file, folder.events_file, folder.code, folder.checkpoints, folder.logs)
    assert [part.relative_to(folder.path).as_posix() for part in parts] == [
        "sweep.json",
        "events.jsonl",
        "code",
        "checkpoints",
        "logs",
    ]


def test_a_command_that_is_printed_finds_the_sweep_where_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    sweep = "curves-20261123-0741-k3f9"
    resume = f"python -m sweeps resume {sweep}"
    assert SweepFolder(tmp_path / "results" / sweep).command("resume") == resume
    elsewhere = SweepFolder(tmp_path / "my runs" / sweep)
    assert elsewhere.command("resume") == f"{resume} --storage '{tmp_path}/my runs'"
    remote = SweepFolder(tmp_path / "results" / sweep, "s3://bucket/runs?region=eu")
    assert remote.command("resume") == f"{resume} --storage 's3://bucket/runs?region=eu'"
