"""The page of a sweep in a real browser: it draws, brushing filters, and no request leaves."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeps.answer.digits import percent
from sweeps.answer.page.html import ASSETS
from sweeps.answer.page.write_page import write_comparison, write_report
from sweeps.config import SweepConfig
from sweeps.records import events as ev
from tests.answer.drawn_sweep import START, Drawn, drawn_sweep
from tests.browser import open_browser
from tests.written_confirmation import confirmation_events

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NOTE = "return document.getElementById('selection').innerText"
TRIALS = [
    Drawn(curve=[0.5, 0.6, 0.7, 0.88]),
    Drawn(curve=[0.1], params={"rate": 2e-5}),
    Drawn(curve=[0.5, 0.9, 0.9, 0.9], params={"optim": "sgd", "momentum": 0.9, "rate": 9e-4}),
    Drawn(curve=[], status="failed", failures=["E: </script><b>bad"]),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser(1280, 900) as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a confirmed sweep with a failed trial and an inactive argument."""
    arms = {"t003": [0.8, 0.82, 0.81, 0.8, 0.83, 0.81], "t001": [0.7, 0.71, 0.7, 0.72, 0.7, 0.71]}
    more = [ev.SweepEnded(time=START + 300, status="finished"), *confirmation_events(arms)]
    later = [dataclasses.replace(event, time=START + 300) for event in more]
    storage = tmp_path_factory.mktemp("report")
    return write_report(drawn_sweep(storage, *TRIALS, more=later, ended=False))


def look(browser: Any, page: Path) -> None:
    """Open a page, and scroll past every picture, which draws it."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what an earlier page left
    browser.get(page.as_uri())
    for box in browser.find_elements("css selector", ".picture"):
        scroll_to(browser, box)
        wait_until(lambda box=box: box.find_elements("css selector", "canvas"))


def scroll_to(browser: Any, box: Any) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)


def wait_until(ready: Any) -> Any:
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(None, 30, 0.05).until(lambda _: ready())


def complaints(browser: Any) -> list[str]:
    """What the page wrote to the console, and the requests that it made beside its own file."""
    said = [entry["message"] for entry in browser.get_log("browser")]
    logged = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [
        message["params"]["request"]["url"]
        for message in logged
        if message["method"] == "Network.requestWillBeSent"
    ]
    return said + [url for url in sent[1:] if not url.startswith(("data:", "blob:"))]


def place_of(browser: Any, name: str) -> Any:
    return next(
        box
        for box in browser.find_elements("css selector", ".picture")
        if name in (box.get_attribute("aria-label") or "")
    )


def drag(browser: Any, box: Any, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Drag between two points of a picture, in pixels from its upper left corner."""
    from selenium.webdriver.common.action_chains import ActionChains

    width, height = box.size["width"] // 2, box.size["height"] // 2
    chain = ActionChains(browser, duration=50)
    chain.move_to_element_with_offset(box, start[0] - width, start[1] - height).click_and_hold()
    chain.move_to_element_with_offset(box, end[0] - width, end[1] - height).release().perform()


def test_every_picture_is_drawn_without_an_error_or_a_request(browser: Any, report: Path) -> None:
    look(browser, report)
    text = browser.find_element("css selector", "main").text
    assert "t003 is better than the baseline t001" in text
    tiles = browser.find_elements("css selector", ".tile")
    assert "0.8117\neval_score, confirmed, 0.7994 to 0.8239" in [tile.text for tile in tiles]
    assert "E: </script><b>bad" in text
    assert "confirmed: better" in text
    assert complaints(browser) == []


def test_brushing_an_axis_highlights_its_trials_everywhere(browser: Any, report: Path) -> None:
    look(browser, report)
    axes = place_of(browser, "parallel axes")
    scroll_to(browser, axes)
    # The first axis is the rate, with 1e-3 at the top: the upper half holds t003's 9e-4 alone.
    drag(browser, axes, (50, 60), (50, 160))
    wait_until(lambda: "1 of 4 trials highlighted" in browser.execute_script(NOTE))
    rows = browser.find_elements("css selector", "tr.on")
    assert [row.get_attribute("data-trial") for row in rows] == ["t003"]
    browser.find_element("css selector", "#selection button").click()
    assert browser.execute_script(NOTE) == ""
    assert browser.find_elements("css selector", "tr.on") == []
    assert complaints(browser) == []


def test_the_form_highlights_without_a_mouse(browser: Any, report: Path) -> None:
    look(browser, report)
    low, high = browser.find_elements("css selector", "form.filter input")
    low.send_keys("1e-5")
    high.send_keys("1.5e-4\n")
    wait_until(lambda: "2 of 4 trials highlighted" in browser.execute_script(NOTE))
    rows = browser.find_elements("css selector", "tr.on")
    assert {row.get_attribute("data-trial") for row in rows} == {"t001", "t002"}
    low.send_keys("\ue00c")  # Escape
    assert browser.execute_script(NOTE) == ""


def test_hovering_a_point_shows_its_trial(browser: Any, report: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    look(browser, report)
    box = place_of(browser, "over rate")
    scroll_to(browser, box)
    # The axis goes from 1e-5 to 1e-3. t002 is far worse than the others, and in sight all the same.
    for rate, value, shown in ((9e-4, 0.9, "t003 · finished"), (2e-5, 0.1, "t002 · stopped early")):
        where = browser.execute_script(
            "const chart = echarts.getInstanceByDom(arguments[0]);"
            "return chart.convertToPixel({seriesIndex: 1}, arguments[1])",
            *(box, [math.log10(rate / 1e-5) / 2, value]),
        )
        x, y = where[0] - box.size["width"] / 2, where[1] - box.size["height"] / 2
        ActionChains(browser).move_to_element_with_offset(box, round(x), round(y)).perform()
        wait_until(lambda shown=shown: shown in box.text)
        assert f"rate\t{rate:.0e}".replace("e-0", "e-") in box.text.replace(" ", "\t")


def test_a_sweep_without_a_value_and_a_comparison_have_a_page(browser: Any, tmp_path: Path) -> None:
    empty = drawn_sweep(tmp_path, sweep="curves-20261124-0741-aaaa", ended=False)
    curve = [0.5, 0.6, 0.7, 0.8]
    twice = SweepConfig(num_trials=2, repeats=2, scheduler="fifo")  # so its interval is known
    one = drawn_sweep(tmp_path, Drawn(curve=curve), Drawn(curve=curve, of="t001"), config=twice)
    look(browser, write_report(empty))
    assert "No trial has won yet." in browser.find_element("css selector", "main").text
    assert complaints(browser) == []
    look(browser, write_comparison([one, empty]))
    text = browser.find_element("css selector", "main").text
    assert f"{one.folder.id} found the best eval_score: 0.8." in text
    assert complaints(browser) == []


def test_a_share_of_a_trial_looks_as_it_does_in_results(browser: Any, report: Path) -> None:
    shares = [n / 16 for n in range(17)] + [0.005, 0.994, 0.995, 0.996, 0.9995, 0.99996]
    code = (ASSETS / "page.js").read_text()
    code = code[code.index("  function number(") : code.index("  const word =")]
    browser.get(report.as_uri())
    shown = browser.execute_script(f"{code} return arguments[0].map(percent)", shares)
    assert shown == [percent(share) for share in shares]
    assert shown[2] == "12%"


def test_ticks_between_values_that_are_nearly_equal_differ(browser: Any, tmp_path: Path) -> None:
    alike = (Drawn(curve=[2.32161 + n * 1e-5, 2.32162]) for n in range(3))
    look(browser, write_report(drawn_sweep(tmp_path, *alike)))
    texts = browser.execute_script(
        "const chart = echarts.getInstanceByDom(arguments[0]);"
        "const {formatter} = chart.getOption().yAxis[0].axisLabel;"
        "return [2.32161, 2.32162, 2.32163].map(formatter)",
        place_of(browser, "over their progress"),
    )
    assert texts == ["2.32161", "2.32162", "2.32163"]
