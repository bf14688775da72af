"""The report in headless Chromium: nothing is cut, nothing complains, nothing is asked of anybody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from sim.report.page import write_page
from tests.dashboard.screenshot import chromium
from tests.sim.report_runs import plain_run

pytestmark = pytest.mark.slow

CUT = """() => [...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
    const whole = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter(one => {
        const at = one.getBoundingClientRect();
        return at.left < whole.left - 1 || at.right > whole.right + 1 || at.bottom > whole.bottom + 1;
    }).map(one => one.textContent);
})"""
"""Labels of plots that reach out of them."""
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALLEST = """() => Math.min(...[...document.querySelectorAll('svg[role=img] text')].map(
    one => one.getBoundingClientRect().height))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium()
    if executable is None:
        message = "chromium is missing: apt-get install chromium"
        if os.environ.get("RIALTO_CI") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_cut_and_nothing_leaves_the_page(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    write_page(plain_run(), tmp_path / "out.html")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "out.html").as_uri())
    for fold in page.query_selector_all("summary"):
        fold.click()
    assert said == []
    assert asked == [(tmp_path / "out.html").as_uri()]
    assert page.evaluate(OVERFLOW) == 0
    assert page.evaluate(CUT) == []
    assert page.evaluate(SMALLEST) > 11
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")
    page.close()


def test_it_prints_on_white_with_no_table_cut(browser: Browser, tmp_path: Path) -> None:
    write_page(plain_run(), tmp_path / "out.html")
    page = browser.new_page(viewport={"width": 718, "height": 1000}, color_scheme="dark")  # A4 within margins
    page.emulate_media(media="print")
    page.goto((tmp_path / "out.html").as_uri())
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(OVERFLOW) == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
