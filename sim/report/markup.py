"""HTML and SVG from values: what is not markup already is escaped, wherever it comes from."""

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"meta", "link"})


class Html(str):
    """Text that is markup; every other string is escaped where it meets one."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Html:
    """An element; `class_` stands for class, other underscores for hyphens, None for no attribute.

    >>> element("p", "5 < 6 ", element("b", "true"), class_="note")
    '<p class="note">5 &lt; 6 <b>true</b></p>'
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: Iterable[str], between: str = "") -> Html:
    """Children one after the other, escaped unless they are markup."""
    return Html(between.join(one if isinstance(one, Html) else escape(one) for one in children))
