"""Warnings about what the source text of a space says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps import SweepConfig
from sweeps.driver.requests.new_request import make_request
from sweeps.planning.warnings import find_warnings
from tests.planning.asked import SCRIPT, doubtful


@pytest.mark.parametrize("value", ["test", "test[:100]", "data/test.csv"])
def test_a_split_called_test_is_doubtful_to_be_judged_by(value: str):
    assert doubtful(fixed={"eval_split": value}) == [
        f"eval_split = '{value}': trials are judged on the test split, so nothing is left for"
        " a final test"
    ]


def test_other_words_with_test_in_them_are_not():
    assert doubtful(fixed={"eval_split": "latest"}) == []
    assert doubtful(fixed={"model": "./test"}) == []


def test_what_a_builder_s_own_code_does_is_doubtful_where_it_is_read(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(SCRIPT)
    found = find_warnings(make_request(str(file), SweepConfig()), 1, gpu=False)
    assert found == [
        "mine.py, line 9: eval_dataset=data['test']: trials are judged on the test"
        " split, so nothing is left for a final test",
        "mine.py, line 10: EarlyStoppingCallback ends trials on its own, so progress and rungs"
        " are fractions of a length that trials never reach; let the scheduler stop trials instead",
    ]


@pytest.mark.parametrize(
    ("lines", "judged", "on_test"),
    [
        (["data = rows.train_test_split(0.1, seed=0)"], 'data["test"]', False),
        (["data = rows.train_test_split(0.1)", "data = data.map(f)"], 'data["test"]', False),
        (["data = rows.train_test_split(0.1)", "done = data.map(f)"], 'done["test"]', False),
        (["data: dict = rows.train_test_split(0.1)"], 'data["test"].map(f)', False),
        (['data = rows["train"].train_test_split(0.1)'], 'data["test"]', False),
        ([], 'rows.train_test_split(0.1)["test"]', False),
        (["part = rows.train_test_split(0.1)"], 'rows["test"]', True),
        (['rows["validation"] = rows.train_test_split(0.1)["test"]'], 'rows["test"]', True),
        (['data = rows["test"].train_test_split(0.1)'], 'data["test"]', True),
        (["data = rows.map(f)"], 'data["test"]', True),
    ],
)
def test_rows_split_off_by_the_script_itself_are_no_test_split(
    lines: list[str], judged: str, on_test: bool, tmp_path: Path
):
    file = tmp_path / "mine.py"
    script = SCRIPT.replace('data["test"]', judged).replace("EarlyStopping", "Printer")
    first = '    data = {"train": [], "test": []}\n'
    file.write_text(script.replace(first, "".join(f"    {line}\n" for line in lines)))
    found = find_warnings(make_request(str(file), SweepConfig()), 1, gpu=False)
    assert ["test split" in line for line in found] == [True] * on_test


@pytest.mark.parametrize(
    ("metric", "on_test"),
    [("eval_dev_loss", False), ("eval_other_loss", True), ("eval_loss", True)],
)
def test_of_several_evaluation_sets_the_judged_one_counts(
    metric: str, on_test: bool, tmp_path: Path
):
    file = tmp_path / "mine.py"
    script = SCRIPT.replace('data["test"]', '{"dev": data["train"], "other": data["test"]}')
    script = script.replace("EarlyStopping", "Printer").replace("eval_loss", metric)
    file.write_text(script)
    found = find_warnings(make_request(str(file), SweepConfig()), 1, gpu=False)
    assert ["test split" in line for line in found] == [True] * on_test


def test_a_seed_that_the_builder_sets_itself_is_doubtful(tmp_path: Path):
    file = tmp_path / "mine.py"
    seeds = "set_seed(42); torch.manual_seed(args.seed); rows.shuffle(seed=1)"
    seeds += "; torch.Generator().manual_seed(0); random.seed(0); torch.manual_seed(7)"
    script = SCRIPT.replace('"test"', '"dev"').replace("EarlyStopping", "Printer")
    at_the_top = "from transformers import set_seed\nset_seed(1)\n"
    file.write_text(script.replace("    return", f"    {seeds}\n    return") + at_the_top)
    found = find_warnings(make_request(str(file), SweepConfig()), 1, gpu=False)
    rest = (
        ": all trials draw the same new weights, whatever their seed, so --repeats and"
        " confirm show too little noise; use args.seed"
    )
    assert found == [
        f"mine.py, line 7: {call}{rest}" for call in ("set_seed(42)", "torch.manual_seed(7)")
    ]
