"""Take a picture of a running dashboard with headless Chromium.

By hand: `python -m tests.dashboard.screenshot http://127.0.0.1:8501 docs/dashboard.png`.
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg)'
"""A chart that has been drawn, whichever way Vega draws it."""

NOTICE = '[data-testid="stCode"]'
"""A command to run: what a notice has and a page of figures has not."""

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
_STILL = 3  # looks in a row, half a second apart, that find nothing new


def chromium() -> str | None:
    """Where Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def browse(url: str, *, width: int = 1280, height: int = 900, scale: float = 1.0) -> Iterator[Page]:
    """The dashboard opened in a window of that size."""
    executable = chromium()
    if executable is None:
        raise SystemExit("error: no Chromium on the PATH: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.goto(url, timeout=60_000)
            yield page
        finally:
            browser.close()


def take(page: Page, file: Path, *, ready: str = CHART, whole_page: bool = False) -> dict[str, object]:
    """Wait until `ready` is there and all is still, save the picture; return what is on the page."""
    page.wait_for_selector(ready, timeout=60_000, state="attached")
    found = _still(page)
    # Streamlit scrolls an inner box, so a picture of the whole page needs a window of its height.
    if whole_page and page.viewport_size:
        page.set_viewport_size({**page.viewport_size, "height": int(str(found["height"])) + 20})
        found = _still(page)
    page.screenshot(path=str(file), full_page=whole_page)
    return found


def _still(page: Page) -> dict[str, object]:
    """What is on the page once it has stopped growing; looks every half second, for 20 s at most."""
    before = _facts(page)
    same = 0
    for _ in range(40):
        page.wait_for_timeout(500)
        now = _facts(page)
        settled = now["idle"] and now["drawn"] == now["charts"] and now["shape"] == before["shape"]
        same = same + 1 if settled else 0
        before = now
        if same == _STILL:
            break
    return before


def _facts(page: Page) -> dict[str, object]:
    return page.evaluate(
        """() => {
            const main = document.querySelector('[data-testid="stMain"]');
            const count = selector => document.querySelectorAll(selector).length;
            const charts = count('[data-testid="stVegaLiteChart"]');
            return {
                text: document.body.innerText,
                charts: charts,
                drawn: count('[data-testid="stVegaLiteChart"]:has(canvas, svg)'),
                idle: count('[data-test-script-state="notRunning"]') > 0,
                height: main.scrollHeight,
                shape: [charts, main.scrollHeight, count('*')].join(),
                overflow: main.scrollWidth - main.clientWidth,
                cut: [...document.querySelectorAll('.rl-scroll')]
                    .filter(e => e.scrollWidth > e.clientWidth).length,
                exceptions: count('[data-testid="stException"]'),
            };
        }"""
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--whole-page", action="store_true")
    given = parser.parse_args()
    with browse(given.url, width=given.width, height=given.height, scale=given.scale) as opened:
        facts = take(opened, given.file, whole_page=given.whole_page)
    print(f"{given.file}: {given.file.stat().st_size} bytes, {facts['charts']} charts")
