"""A fake service for every test that asks for one, and the page run without a browser."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from tests.dashboard.fake_service import KEY, FakeService

APP = Path(dashboard.__file__).with_name("app.py")


@pytest.fixture
def fake() -> Iterator[FakeService]:
    service = FakeService()
    yield service
    service.close()


class Page:
    """The dashboard's page in AppTest, with its HTML blocks as one text."""

    def __init__(self, url: str, key: str, monkeypatch: pytest.MonkeyPatch, **query: str) -> None:
        monkeypatch.setenv("RIALTO_URL", url)
        monkeypatch.setenv("RIALTO_KEY", key)
        self.app = AppTest.from_file(str(APP), default_timeout=60)
        for name, value in query.items():
            self.app.query_params[name] = value
        self.app.run()

    @property
    def html(self) -> str:
        return "\n".join(element.proto.body for element in self.app.get("html"))

    @property
    def text(self) -> str:
        """What the blocks say: entities as their characters, without tags."""
        return unescape(re.sub("<[^>]*>", "", self.html))

    @property
    def commands(self) -> list[str]:
        return [code.value for code in self.app.code]

    @property
    def charts(self) -> int:
        return len(self.app.get("vega_lite_chart"))

    def assert_calm(self) -> None:
        assert not self.app.exception, self.app.exception


@pytest.fixture
def page_of(monkeypatch: pytest.MonkeyPatch):
    def build(url: str, key: str = KEY, **query: str) -> Page:
        return Page(url, key, monkeypatch, **query)

    return build
