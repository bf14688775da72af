"""The dashboard in headless Chromium: that everything is drawn, and nothing is cut at 1280 pixels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dashboard.fake_service import KEY, FakeService
from tests.dashboard.processes import Running
from tests.dashboard.screenshot import NOTICE, browse, chromium, take

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def browser_there() -> None:
    if chromium() is None:
        message = "chromium is missing: apt-get install chromium"
        if os.environ.get("RIALTO_CI") == "1":
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def dashboard_of(url: str, key: str = KEY) -> Iterator[Running]:
    process = Running(url, key)
    try:
        yield process
    finally:
        process.stop()


@pytest.mark.parametrize("width", [1280, 1600])
def test_all_is_drawn_and_nothing_is_cut(fake: FakeService, tmp_path: Path, width: int) -> None:
    with dashboard_of(fake.url) as running:
        picture = tmp_path / "page.png"
        with browse(running.url, width=width) as page:
            facts = take(page, picture, whole_page=True)
    text = str(facts["text"])
    assert facts["charts"] == 6
    assert facts["exceptions"] == 0
    assert facts["overflow"] == 0
    assert facts["cut"] == 0
    for part in ("Healthy", "+3.0", "€6.29", "Cart abandonment", "Shares over time", "P(best) over time"):
        assert part in text, part
    assert picture.stat().st_size > 20_000


def test_a_service_that_is_down_is_said_and_the_page_comes_back_by_itself(tmp_path: Path) -> None:
    service = FakeService()
    port = int(service.url.rpartition(":")[2])
    service.close()
    with dashboard_of(service.url) as running, browse(running.url) as page:
        facts = take(page, tmp_path / "down.png", ready=NOTICE)
        assert "The service does not answer" in str(facts["text"])
        assert "rialto serve" in str(facts["text"])
        assert facts["exceptions"] == 0
        again = FakeService(port)
        try:
            facts = take(page, tmp_path / "up.png")  # the same page, nothing clicked
        finally:
            again.close()
    assert "Healthy" in str(facts["text"])
    assert "does not answer" not in str(facts["text"])
