"""The link that `ui` prints, opened in a real browser: MLflow's page on one of two sweeps.

Needs `selenium`, Chromium and its driver (Debian: chromium, chromium-driver); skipped without.
The page's selectors are those of mlflow 3.17.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.records.tracking import serve, sweep_link

pytestmark = pytest.mark.timeout(180)

CARD = "[data-testid=experiment-view-compare-runs-card]"
CLOSE_THE_ASSISTANT = (
    "localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = 'true';"
    "localStorage['mlflow.assistant.panelOpen_v1'] = 'false';"
)
PAGE_S = 60


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="no browser: no selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no browser: chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",  # as root, in a container
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1600,1400",
    ):
        options.add_argument(argument)
    page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CLOSE_THE_ASSISTANT})
    yield page
    page.quit()


def cards_of(page: Any) -> list[str]:
    """Return the text of each chart on the page, on one line."""
    found = page.find_elements("css selector", CARD)
    return [" ".join(card.text.split()) for card in found]


def wait_for_cards(page: Any, seen: Callable[[list[str]], bool]) -> list[str]:
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.wait import WebDriverWait

    wait = WebDriverWait(page, PAGE_S, 0.3, [StaleElementReferenceException])
    try:
        wait.until(lambda page: seen(cards_of(page)))
    except TimeoutException:
        raise AssertionError(f"the page shows {cards_of(page)}") from None
    return cards_of(page)


def test_the_link_draws_all_trials_of_its_sweep_and_of_no_other(
    new_sweep: Any, browser: Any
) -> None:
    other = new_sweep("bert_yelp-20261122-0900-abcd")
    other.begin("t050")
    other.report("t050", 1, 0.99)
    other.end("t050", "finished")
    other.end_sweep()
    assert other.write() is None
    sweep = new_sweep()
    trials = [f"t{number:03}" for number in range(1, 13)]  # MLflow itself would draw ten
    for number, trial in enumerate(trials):
        sweep.begin(trial, 1e-5 * (number + 1))
        for n in (1, 2, 3, 4):
            sweep.report(trial, n, 0.5 + n / 100 + number / 50)
        sweep.end(trial, "finished")
    sweep.end_sweep()
    assert sweep.write() is None

    def ready(cards: list[str]) -> bool:
        return len(cards) >= 3 and all(t in cards[0] for t in trials) and "best_" in cards[2]

    with serve(sweep.uri, Path(sweep.storage), None) as url:
        browser.get(sweep_link(sweep.folder, url))
        over_step, over_progress, parallel, *_ = wait_for_cards(browser, ready)
        page = browser.find_element("css selector", "body").text
        columns_link = sweep_link(sweep.folder, url).replace("&compareRunsMode=CHART", "")
        browser.get("about:blank")
        browser.get(columns_link)
        table = wait_for_header(browser)

    assert over_step.startswith("eval_accuracy 20 40 60 80")
    assert " Step " in over_step
    assert over_progress.startswith("eval_accuracy 0.2 0.4 0.6 0.8 1")
    assert " progress " in over_progress
    assert all(f"{trial} (eval_accuracy)" in over_progress for trial in trials)
    assert parallel.startswith("Parallel Coordinates Showing all runs")
    assert "learning_rate" in parallel
    assert "12 matching runs" in page
    assert "Model training" in page
    assert "t050" not in page
    assert {"best_eval_accuracy", "learning_rate", "sweep.status"} <= table


def wait_for_header(page: Any) -> set[str]:
    """Return the names of the table's columns."""
    from selenium.webdriver.support.wait import WebDriverWait

    selector = (
        ".ag-header-cell [data-testid], .ag-header-cell .ag-header-cell-text, .ag-header-cell"
    )

    def names(page: Any) -> set[str]:
        found = page.find_elements("css selector", selector)
        return {cell.get_attribute("textContent").strip() for cell in found} - {""}

    return set(WebDriverWait(page, PAGE_S, 0.3).until(lambda p: len(names(p)) > 5 and names(p)))
