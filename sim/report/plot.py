"""A plot as inline SVG: bands, lines and bars on two axes. Colours and widths are classes of the page.

No library draws it: the page stays small, needs no fonts, follows the reader's dark or light scheme, and is
the same file for the same run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.report.markup import Html, element, joined
from sim.report.scales import Written, round_ticks

Floats = Sequence[float]


@dataclass(frozen=True, slots=True)
class Frame:
    """The sizes of a plot, in its own pixels: drawn at 400 it can still be read on a telephone."""

    width: int = 400
    height: int = 250
    left: int = 58
    right: int = 12
    top: int = 12
    bottom: int = 44


@dataclass(frozen=True, slots=True)
class Axis:
    """From the first tick to the last; a band axis shows `low` and `high` that lie apart from the ticks."""

    ticks: Floats
    written: Written
    label: str
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The values at the two ends."""
        low = self.ticks[0] if self.low is None else self.low
        return low, self.ticks[-1] if self.high is None else self.high


def fitted(low: float, high: float, written: Written, least: float) -> Axis:
    """An axis with 0 on it, at least `least` long, that ends a little below the lowest value."""
    low, high = min(0.0, low), max(0.0, high)
    high = max(high, low + least)
    ticks = round_ticks(low, high)
    end = max(ticks[0], low - 0.05 * (ticks[-1] - low))
    return Axis([tick for tick in ticks if tick >= end], written, "", end)


class Plot:
    """Marks are drawn in the order they are added, over the grid."""

    def __init__(self, x: Axis, y: Axis, frame: Frame | None = None) -> None:
        self._x, self._y, self._frame = x, y, frame or Frame()
        self._marks: list[Html] = []

    def band(self, xs: Floats, low: Floats, high: Floats, class_: str) -> None:
        """The area between two lines."""
        there = [self._place(x, y) for x, y in zip(xs, high, strict=True)]
        back = [self._place(x, y) for x, y in zip(xs, low, strict=True)]
        self._marks.append(element("polygon", points=_points([*there, *back[::-1]]), class_=class_))

    def line(self, xs: Floats, ys: Floats, class_: str) -> None:
        """A line through points."""
        places = [self._place(x, y) for x, y in zip(xs, ys, strict=True)]
        self._marks.append(element("polyline", points=_points(places), class_=class_))

    def dots(self, xs: Floats, ys: Floats, class_: str) -> None:
        """Points by themselves."""
        for x, y in zip(xs, ys, strict=True):
            at_x, at_y = self._place(x, y)
            self._marks.append(element("circle", cx=f"{at_x:.1f}", cy=f"{at_y:.1f}", r=3, class_=class_))

    def steps(self, low: Floats, high: Floats, class_: str) -> None:
        """The area between two heights on each day, the first from 0 to 1."""
        xs = [edge for day in range(len(low)) for edge in (day, day + 1)]
        self.band(xs, [y for y in low for _ in (0, 1)], [y for y in high for _ in (0, 1)], class_)

    def bar(self, left: float, right: float, low: float, high: float, class_: str, says: str = "") -> None:
        """A rectangle; `says` is shown to a pointer that rests on it."""
        x0, y0 = self._place(left, high)
        x1, y1 = self._place(right, low)
        note = [element("title", says)] if says else []
        self._marks.append(
            element(
                "rect",
                *note,
                x=f"{x0:.1f}",
                y=f"{y0:.1f}",
                width=f"{x1 - x0:.1f}",
                height=f"{y1 - y0:.1f}",
                class_=class_,
            )
        )

    def svg(self, alt: str) -> Html:
        """The whole plot; `alt` tells in words what there is to see."""
        frame = self._frame
        size = f"0 0 {frame.width} {frame.height}"
        return element(
            "svg",
            element("title", alt),
            *self._axes(),
            element("g", *self._marks),
            viewBox=size,
            role="img",
            aria_label=alt,
        )

    def _axes(self) -> list[Html]:
        frame, (left, bottom) = self._frame, self._corner()
        right = frame.width - frame.right
        parts: list[Html] = []
        for tick in self._y.ticks:
            _, y = self._place(self._x.ends[0], tick)
            kind = "zero" if tick == 0 else "grid"
            parts.append(element("line", x1=left, x2=right, y1=f"{y:.1f}", y2=f"{y:.1f}", class_=kind))
            parts.append(_text(left - 6, y + 4, self._y.written(tick), "end"))
        for tick in self._x.ticks:
            x, _ = self._place(tick, self._y.ends[0])
            parts.append(
                element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=bottom, y2=bottom + 4, class_="zero")
            )
            parts.append(_text(x, bottom + 17, self._x.written(tick), "middle"))
        parts.append(_text((left + right) / 2, bottom + 36, self._x.label, "middle"))
        return parts

    def _corner(self) -> tuple[float, float]:
        return self._frame.left, self._frame.height - self._frame.bottom

    def _place(self, x: float, y: float) -> tuple[float, float]:
        frame, (left, bottom) = self._frame, self._corner()
        (x_low, x_high), (y_low, y_high) = self._x.ends, self._y.ends
        return (
            left + (x - x_low) / (x_high - x_low) * (frame.width - frame.right - left),
            bottom - (y - y_low) / (y_high - y_low) * (bottom - frame.top),
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend: what a mark stands for."""

    says: str
    class_: str
    is_area: bool = False


def legend(entries: Sequence[Entry]) -> Html:
    """Samples of marks and what they stand for; wraps on a narrow page."""
    return element("ul", *(element("li", _sample(one), one.says) for one in entries), class_="legend")


def figure(title: str, plot: Html, entries: Sequence[Entry], caption: str) -> Html:
    """A plot with its title above, and its legend and what to read in it below."""
    return element(
        "figure",
        element("h3", title),
        plot,
        legend(entries) if entries else joined([]),
        element("figcaption", caption),
    )


def _sample(entry: Entry) -> Html:
    mark = (
        element("rect", x=0, y=1, width=26, height=10, class_=entry.class_)
        if entry.is_area
        else element("line", x1=0, x2=26, y1=6, y2=6, class_=entry.class_)
    )
    return element("svg", mark, viewBox="0 0 26 12", class_="sample", aria_hidden="true")


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _text(x: float, y: float, says: str, anchor: str) -> Html:
    return element("text", says, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)
