"""Take a picture of a running dashboard with headless Chromium.

By hand: `python -m tests.dashboard.screenshot http://127.0.0.1:8501 docs/dashboard.png`.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

CHART = '[data-testid="stVegaLiteChart"] :is(canvas, svg)'
"""A chart that has been drawn, whichever way Vega draws it."""

_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


def chromium() -> str | None:
    """Where Chromium is, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def take(
    url: str,
    file: Path,
    *,
    width: int = 1280,
    height: int = 900,
    whole_page: bool = False,
    ready: str = CHART,
    seconds: float = 60,
    scale: float = 1.0,
) -> dict[str, object]:
    """Open the page, wait until `ready` is there and all is still, save the picture; return what is on it."""
    executable = chromium()
    if executable is None:
        raise SystemExit("error: no Chromium on the PATH: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.goto(url, timeout=1000 * seconds)
            page.wait_for_selector(ready, timeout=1000 * seconds, state="attached")
            facts = _still(page)
            # Streamlit scrolls an inner box, so a picture of the whole page needs a window of its height.
            if whole_page:
                page.set_viewport_size({"width": width, "height": int(str(facts["height"])) + 20})
                facts = _still(page)
            page.screenshot(path=str(file), full_page=whole_page)
            return facts
        finally:
            browser.close()


def _still(page: Page) -> dict[str, object]:
    """What is on the page once it has stopped growing (looked at every half second, ten at most)."""
    before: dict[str, object] = {}
    for _ in range(20):
        page.wait_for_timeout(500)
        now = _facts(page)
        if all(now[name] == before.get(name) for name in ("charts", "height")):
            return now
        before = now
    return before


def _facts(page: Page) -> dict[str, object]:
    return page.evaluate(
        """() => {
            const main = document.querySelector('[data-testid="stMain"]');
            return {
                text: document.body.innerText,
                charts: document.querySelectorAll('[data-testid="stVegaLiteChart"]').length,
                height: main.scrollHeight,
                overflow: main.scrollWidth - main.clientWidth,
                cut: [...document.querySelectorAll('.rl-scroll')]
                    .filter(e => e.scrollWidth > e.clientWidth).length,
                exceptions: document.querySelectorAll('[data-testid="stException"]').length,
            };
        }"""
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("file", type=Path)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--whole-page", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    found = take(
        given.url,
        given.file,
        width=given.width,
        height=given.height,
        whole_page=given.whole_page,
        scale=given.scale,
    )
    print(f"{given.file}: {given.file.stat().st_size} bytes, {found['charts']} charts")
