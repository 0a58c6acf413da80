"""The tables that `scripts/answer_rates.py` prints are those of the docs: its seeds are fixed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from scripts.answer_rates import called_better_table, told_apart_table

DOCS = (Path(__file__).parents[1] / "docs/confirm.md").read_text()


def in_docs(lines: Iterable[str]) -> bool:
    """Whether the docs have a table that begins with these lines."""
    return "\n\n" + "\n".join(lines) + "\n" in DOCS


def test_the_docs_have_the_table_of_what_results_tells_apart():
    assert in_docs([*told_apart_table(), ""])


def test_the_docs_have_the_beginning_of_the_table_of_what_confirm_calls_better():
    assert in_docs(itertools.islice(called_better_table(), 4))


@pytest.mark.slow
def test_the_docs_have_the_whole_table_of_what_confirm_calls_better():
    assert in_docs([*called_better_table(), ""])
