"""Finds lines of a tsv file that an unpaired `"` joins to one row.

Runs wherever data is prepared. It must not know which splits are read, or what for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeps.amounts import counted
from sweeps.builders.data.data_files import opened

if TYPE_CHECKING:
    from datasets import Dataset


def joined_lines(table: Dataset, files: Sequence[Path]) -> Iterator[str]:
    """Yield a problem if a `"` joins several rows of tsv files into one.

    pandas reads a value that begins with `"` up to the next `"`, be it many lines later. Those
    lines were rows if they have their tabs. Text with other line breaks is fine.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    last = len(table.column_names) - 1

    def were_rows(value: str, column: int) -> bool:
        tabs = [line.count("\t") for line in value.split("\n")]
        return tabs == [last - column, *[last] * (len(tabs) - 2), column]

    joined: list[str] = []
    for column, values in enumerate(table.data.columns):
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            both = pc.and_(pc.match_substring(values, "\t"), pc.match_substring(values, "\n"))
            found = values.filter(both).to_pylist()
            joined += (value for value in found if were_rows(value, column))
    if joined:
        lines = joined[0].split("\n")
        yield (
            f"{_place(files, lines[0])}: read as one row with the next {len(lines) - 1} lines,"
            ' since a value begins with a " here and ends at the next one'
            f" ({counted(len(joined), 'such row')});"
            ' put such values between " and double each " in them, or use jsonl or parquet'
        )


def _place(files: Sequence[Path], value: str) -> str:
    """Return the file and the line in which a quoted value begins, given its first line."""
    begins = '"' + value.replace('"', '""')
    for file in files:
        with opened(file) as lines:
            for number, line in enumerate(lines, 1):
                if begins.encode() in line:
                    return f"{file}, line {number}"
    return ", ".join(map(str, files))
