"""The link that `ui` prints, opened in a real browser: MLflow's page on one of two sweeps.

The page's selectors are those of mlflow 3.17.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from sweeps.trackers.mlflow import sweep_link
from tests.browser import open_browser
from tests.trackers.conftest import Served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(290)]

CARD = "[data-testid=experiment-view-compare-runs-card]"
CLOSE_THE_ASSISTANT = (
    "localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true';"
    "localStorage['mlflow.assistant.panelOpen_v1'] = 'false';"
)
PAGE_S = 90


@pytest.fixture
def browser() -> Iterator[Any]:
    with open_browser() as page:  # small charts are drawn in half the time
        page.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": CLOSE_THE_ASSISTANT}
        )
        yield page


def text_of(page: Any) -> str:
    text: str = page.find_element("css selector", "body").text
    return text


def cards_of(page: Any) -> list[str]:
    """Return the text of each chart on the page, on one line."""
    found = page.find_elements("css selector", CARD)
    return [" ".join(card.text.split()) for card in found]


def wait_until(page: Any, ready: Callable[[], Any]) -> Any:
    """Return the first true answer; a page that is being drawn may take its elements away."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.wait import WebDriverWait

    wait = WebDriverWait(page, PAGE_S, 1.0, [StaleElementReferenceException])
    try:
        return wait.until(lambda _: ready())
    except TimeoutException:
        raise AssertionError(f"charts: {cards_of(page)}; page: {text_of(page)}") from None


def test_the_link_draws_all_trials_of_its_sweep_and_of_no_other(
    new_sweep: Any, browser: Any, mlflow_server: Served
) -> None:
    other = new_sweep("seen-20261122-0900-abcd", space="seen", uri=mlflow_server.uri)
    other.begin("t050")
    other.report("t050", 1, 0.99)
    other.end("t050", "finished")
    other.end_sweep()
    assert other.write() is None
    sweep = new_sweep("seen-20261122-0900-efgh", space="seen", uri=mlflow_server.uri)
    trials = [f"t{number:03}" for number in range(1, 13)]  # MLflow itself would draw ten
    for number, trial in enumerate(trials):
        sweep.begin(trial, 1e-5 * (number + 1))
        for n in (1, 2, 3, 4):
            sweep.report(trial, n, 0.5 + n / 100 + number / 50)
        sweep.end(trial, "finished")
    sweep.end_sweep()
    assert sweep.write() is None

    def all_drawn() -> list[str] | None:
        """Return the texts of the charts once the first three hold what they should."""
        cards = cards_of(browser)
        if len(cards) < 3:
            return None
        over_step, over_progress, parallel, *_ = cards
        lines = [f"{trial} (eval_accuracy)" for trial in trials]
        drawn = (
            " Step " in over_step
            and " progress " in over_progress
            and all(line in over_step and line in over_progress for line in lines)
            and parallel.startswith("Parallel Coordinates Showing all runs")
            and "learning_rate" in parallel
            and "12 matching runs" in text_of(browser)
        )
        return cards if drawn else None

    def columns() -> set[str] | None:
        found = browser.find_elements("css selector", ".ag-header-cell")
        names = {cell.get_attribute("textContent").strip() for cell in found}
        wanted = {"best_eval_accuracy", "learning_rate", "total_train_batch_size", "sweep.status"}
        return names if wanted <= names else None

    link = sweep_link(sweep.folder, mlflow_server.url)
    browser.get(link)
    charts = wait_until(browser, all_drawn)
    text = text_of(browser)
    browser.set_window_size(1600, 900)  # a table draws the columns that it has room for
    table = urlsplit(link.replace("&compareRunsMode=CHART", "")).fragment
    browser.execute_script("location.hash = arguments[0]", table)  # without loading it again
    wait_until(browser, columns)

    assert "t050" not in " ".join(charts) + text
    assert "Model training" in text  # not the page for GenAI
