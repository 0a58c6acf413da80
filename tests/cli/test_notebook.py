"""What a notebook shows, in a real kernel: one output that updates, beside what is not ours."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipykernel  # noqa: F401  the kernel that nbclient starts
import nbformat
import pytest
from nbclient import NotebookClient
from rich.table import Table

from sweeps.cli.notebook import Cell, html_table

ROOT = Path(__file__).parents[2]
SHOWS = """
import threading
from rich.text import Text
from sweeps.cli.console import say
from sweeps.cli.notebook import print_in_cell

print("mine, before")
with print_in_cell() as cell:
    say("a line with <marks>")
    drawn = threading.Event()
    def view():
        drawn.set()
        return Text("live")
    cell.show(view)
    drawn.wait()
    thread = threading.Thread(target=say, args=("from another thread",))
    thread.start()
    thread.join()
print("mine, after")
"""


def test_all_lines_are_in_one_output_and_nothing_else_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOWS)])
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    # Beside what libraries say when they are imported.
    before, shown, after = (o for o in outputs if o.get("name") != "stderr")
    assert [before.text, after.text] == ["mine, before\n", "mine, after\n"]
    assert shown.output_type == "display_data"
    assert shown.data["text/plain"] == "a line with <marks>\nfrom another thread\n"
    assert "a line with &lt;marks&gt;\nfrom another thread\n</pre>" in shown.data["text/html"]


def test_a_table_is_html_with_its_title():
    table = Table("trial", title="s: <finished>")
    table.add_row("t001")
    assert html_table(table) == (
        "<table><caption>s: &lt;finished&gt;</caption><thead><tr><th>trial</th></tr></thead>"
        "<tbody><tr><td>t001</td></tr></tbody></table>"
    )


def test_an_update_shows_the_view_that_it_found_though_another_thread_takes_it_away(
    monkeypatch: pytest.MonkeyPatch,
):
    class Taken(Cell):
        """The sweep ends as soon as an update has looked for the view."""

        @property
        def _view(self) -> Any:
            view, self.next = self.next, None
            return view

        @_view.setter
        def _view(self, view: Any) -> None:
            self.next = view

    monkeypatch.setattr("sweeps.cli.notebook.EVERY_S", 600.0)  # no update but the one below
    shown = []
    output = SimpleNamespace(update=lambda content, **_: shown.append(content))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: output)
    cell = Taken()
    cell.show(lambda: "live [INST] [/INST] :key:")
    cell._update()
    cell.close()
    assert shown[0]["text/plain"] == "live [INST] [/INST] :key:\n"
