"""Writes the page of one sweep or of several as an HTML file.

Runs in any process. It must not know what the page shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeps.answer.page.comparison_page import comparison_page
from sweeps.answer.page.html import render
from sweeps.answer.page.static import comparison_as_html, sweep_as_html
from sweeps.answer.page.sweep_page import sweep_page
from sweeps.answer.results import Results
from sweeps.durable import write_whole
from sweeps.errors import UserError


def write_report(results: Results, out: Path | None = None) -> Path:
    """Write the page of a sweep, running or not, and return where it is.

    Args:
        results: The current content of the sweep's folder.
        out: The file; None: `report.html` in the sweep's folder.

    Raises:
        UserError: The file cannot be written.
    """
    title = f"{results.folder.id}: {results.history.metric}"
    page = sweep_page(results)
    params = {trial.id: trial.params for trial in results.history.trials.values()}
    text = render("sweep", title, page, sweep_as_html(page, params))
    return _write(out or results.folder.path / "report.html", text)


def write_comparison(found: Sequence[Results], out: Path | None = None) -> Path:
    """Write the page of several sweeps, and return where it is.

    Args:
        found: The current contents of at least two sweeps' folders.
        out: The file; None: `comparison.html` beside the folder of the first.

    Raises:
        UserError: There are fewer than two sweeps, their metrics differ, or the file cannot be
        written.
    """
    if len({one.folder.id for one in found}) < 2:
        raise UserError("a comparison needs at least two different sweeps")
    title = f"{len(found)} sweeps: {found[0].history.metric}"
    page = comparison_page(found)
    text = render("comparison", title, page, comparison_as_html(page))
    return _write(out or found[0].folder.path.parent / "comparison.html", text)


def _write(out: Path, text: str) -> Path:
    out = out.expanduser().absolute()
    try:
        write_whole(out, text)
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); choose another file with --out"
        ) from error
    return out
