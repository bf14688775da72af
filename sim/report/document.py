"""The frame of every page: one file that asks nothing of anybody."""

from importlib.resources import files

from sim.report.markup import Html, element, joined

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Forbids the browser every request, whatever a title or a claim may hold."""


def document(title: str, *content: Html) -> str:
    """A whole document of this title."""
    style = files("sim.report").joinpath("page.css").read_text("utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(style)),
    )
    body = element("body", element("main", *content))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def section(title: str, *content: Html) -> Html:
    """A part of a page under its heading."""
    return element("section", element("h2", title), joined(content))


def grid(*figures: Html) -> Html:
    """Figures beside each other where there is room."""
    return element("div", *figures, class_="figures")
