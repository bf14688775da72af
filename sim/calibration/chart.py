"""Charts of a few lines, as SVG.

No library draws them, so that every Python writes the same file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

Point = tuple[float, float]

RIGHT = 24
COLOURS = ("#1b6ca8", "#c8551b", "#3c8d40", "#7a3e9d", "#444444")
DASHES = ("", "7 4", "2 4", "10 4 2 4", "")


@dataclass(frozen=True, slots=True)
class Frame:
    """The sizes of a chart in pixels, and where its legend begins: in the plot, or below it."""

    width: int
    height: int
    left: int
    top: int
    bottom: int
    legend: int


WIDE = Frame(720, 420, 64, 56, 52, 70)
NARROW = Frame(480, 420, 56, 44, 156, 324)
"""As wide as a telephone."""


def line_chart(
    title: str, x_label: str, y_label: str, lines: Mapping[str, Sequence[Point]], frame: Frame = WIDE
) -> str:
    """The chart's SVG; both axes start at 0. At most five lines, named in a legend in their order."""
    width, height, left, bottom = frame.width, frame.height, frame.left, frame.height - frame.bottom
    x_ticks = ticks(max(x for points in lines.values() for x, _ in points))
    y_ticks = ticks(max(y for points in lines.values() for _, y in points))

    def place(x: float, y: float) -> Point:
        return (
            left + x / x_ticks[-1] * (width - left - RIGHT),
            bottom - y / y_ticks[-1] * (bottom - frame.top),
        )

    parts = head(title, width, height)
    for tick in y_ticks:
        x, y = place(0, tick)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{width - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>')
    for tick in x_ticks:
        x, y = place(tick, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{tick:,.10g}</text>')
    middle_x, middle_y = (left + width - RIGHT) / 2, (frame.top + bottom) / 2
    parts.append(f'<text x="{middle_x:.1f}" y="{bottom + 40}" text-anchor="middle">{x_label}</text>')
    parts.append(
        f'<text transform="translate(18 {middle_y:.1f}) rotate(-90)" text-anchor="middle">{y_label}</text>'
    )
    for number, (name, points) in enumerate(lines.items()):
        style = f'stroke="{COLOURS[number]}" stroke-width="2" stroke-dasharray="{DASHES[number]}"'
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" {style}/>')
        y = frame.legend + 20 * number
        parts.append(f'<line x1="{left + 16}" y1="{y}" x2="{left + 52}" y2="{y}" {style}/>')
        parts.append(f'<text x="{left + 60}" y="{y + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def ticks(greatest: float) -> list[float]:
    """Round numbers from 0 to the first that is not below `greatest`: four to eight steps of 1, 2 or 5.

    >>> ticks(123.0)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0]
    """
    unit = 10.0 ** floor(log10(greatest / 4))
    step = next(factor * unit for factor in (1, 2, 5, 10) if greatest <= 8 * factor * unit)
    return [number * step for number in range(ceil(greatest / step - 1e-9) + 1)]


def head(title: str, width: float, height: float) -> list[str]:
    """The beginning of a chart, up to its title."""
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="13" fill="#222222" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="24" y="28" font-size="16" font-weight="bold">{title}</text>',
    ]
