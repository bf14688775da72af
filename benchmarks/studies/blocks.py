"""The part of a page that a study writes: what stands between its two marks."""

from __future__ import annotations

from pathlib import Path


def marks(name: str) -> tuple[str, str]:
    """The lines between which a study's text stands."""
    return f"<!-- {name}: written by make studies -->", f"<!-- end of {name} -->"


def write_block(page: Path, name: str, text: str) -> None:
    """Put the text between the marks of that name, which the page must have once."""
    first, last = marks(name)
    whole = page.read_text("utf-8")
    before, after = whole.split(first)[0], whole.split(last)[1]
    page.write_text(f"{before}{first}\n{text.strip()}\n{last}{after}", "utf-8")
