"""Copies the example files into the docs page that shows them; a test checks that they agree."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "your_own_script.md"
SHOWN = re.compile(r"<!-- file: (\S+) -->\n(?:```python\n.*?\n```\n)?", re.S)


def with_files(page: str) -> str:
    """Return the page with the current content of each file after its mark."""

    def show(mark: re.Match[str]) -> str:
        return f"<!-- file: {mark[1]} -->\n```python\n{(PAGE.parent / mark[1]).read_text()}```\n"

    return SHOWN.sub(show, page)


if __name__ == "__main__":
    PAGE.write_text(with_files(PAGE.read_text()))
