"""The page for programs that run no scripts, such as mail programs: sentences and a table.

Runs in any process. It must not decide what is shown: the page's dataclass does.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.answer.digits import number, one_line, percent
from sweeps.answer.page.comparison_page import ComparisonPage
from sweeps.answer.page.sweep_page import SweepPage
from sweeps.answer.standing import Standing


def sweep_as_html(page: SweepPage, params: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the sentences of a sweep's page, and a table of its trials.

    Args:
        page: The data of the page.
        params: The params of each trial.
    """
    winner = page.answer.winner.trial if page.answer.winner is not None else None
    rows = [
        (
            f"{trial.trial}{' ◆' if trial.trial == winner else ' ≈' if trial.like_best else ''}",
            number(trial.value, page.digits),
            trial.status.replace("_", " "),
            "-" if trial.at is None else percent(trial.at),
            one_line(params[trial.trial]),
        )
        for trial in page.trials
    ]
    head = ("trial", page.answer.metric, "status", "best at", "params")
    caption = (
        "Best first. ◆ is the best; ≈ marks what this sweep cannot tell from it, as far as it"
        " trained."
    )
    return _html(page.sweep, page.sentences, caption, head, rows)


def comparison_as_html(page: ComparisonPage) -> str:
    """Return the sentences of the page of several sweeps, and a table of them."""
    rows = [
        (one.sweep, *_standing(one.answer.winner, page.digits), one.verdict or "-")
        for one in page.sweeps
    ]
    head = ("sweep", page.metric, "params", "confirmed as")
    title = f"{len(page.sweeps)} sweeps by {page.metric}"
    return _html(title, page.sentences, "The best params of each sweep.", head, rows)


def _standing(winner: Standing | None, digits: int) -> tuple[str, str]:
    if winner is None:
        return "-", "-"
    return number(winner.mean, digits), one_line(winner.params)


def _html(
    title: str,
    sentences: Sequence[str],
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> str:
    said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return (
        f"<header><h1>{html.escape(title)}</h1></header>\n"
        f'<div class="card hero"><ol>{said}</ol></div>\n'
        f'<div class="card"><p class="caption">{html.escape(caption)}</p>\n'
        f"<table><thead><tr>{_cells('th', head)}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(tag: str, values: Sequence[str]) -> str:
    return "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values)
