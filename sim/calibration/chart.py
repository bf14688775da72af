"""Charts of a few lines, and of shares in a column, as SVG.

No library draws them, so that every Python writes the same file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

Point = tuple[float, float]

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 52
COLOURS = ("#1b6ca8", "#c8551b", "#3c8d40", "#7a3e9d", "#444444")
DASHES = ("", "7 4", "2 4", "10 4 2 4", "")


def line_chart(title: str, x_label: str, y_label: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """The chart's SVG; both axes start at 0. At most five lines, named in a legend in their order."""
    x_ticks = ticks(max(x for points in lines.values() for x, _ in points))
    y_ticks = ticks(max(y for points in lines.values() for _, y in points))

    def place(x: float, y: float) -> Point:
        return (
            LEFT + x / x_ticks[-1] * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - y / y_ticks[-1] * (HEIGHT - TOP - BOTTOM),
        )

    parts = _head(title, HEIGHT)
    for tick in y_ticks:
        x, y = place(0, tick)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>')
    for tick in x_ticks:
        x, y = place(tick, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{tick:,.10g}</text>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="{middle_x:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{x_label}</text>')
    parts.append(
        f'<text transform="translate(18 {middle_y:.1f}) rotate(-90)" text-anchor="middle">{y_label}</text>'
    )
    for number, (name, points) in enumerate(lines.items()):
        style = f'stroke="{COLOURS[number]}" stroke-width="2" stroke-dasharray="{DASHES[number]}"'
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" {style}/>')
        y = TOP + 14 + 20 * number
        parts.append(f'<line x1="{LEFT + 16}" y1="{y}" x2="{LEFT + 52}" y2="{y}" {style}/>')
        parts.append(f'<text x="{LEFT + 60}" y="{y + 4}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def ticks(greatest: float) -> list[float]:
    """Round numbers from 0 to the first that is not below `greatest`: four to eight steps of 1, 2 or 5.

    >>> ticks(123.0)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0, 120.0, 140.0]
    """
    unit = 10.0 ** floor(log10(greatest / 4))
    step = next(factor * unit for factor in (1, 2, 5, 10) if greatest <= 8 * factor * unit)
    return [number * step for number in range(ceil(greatest / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Dot:
    """A measured share, the band in which chance alone would leave it, and whether it is held to that."""

    label: str
    value: float
    low: float
    high: float
    is_gated: bool = True


def dot_chart(title: str, x_label: str, dots: Sequence[Dot], reference: float) -> str:
    """Shares from top to bottom, each beside the band of chance around the reference, as SVG.

    A dot outside its band is drawn in the second colour; one that is not held to it is hollow.
    """
    least = floor(20 * min(min(dot.value, dot.low) for dot in dots)) / 20
    most = min(1.0, ceil(20 * max(max(dot.value, dot.high) for dot in dots)) / 20)
    left, row = 24 + 7 * max(len(dot.label) for dot in dots), 22
    height = TOP + row * len(dots) + BOTTOM

    def place(share: float) -> float:
        return left + (share - least) / (most - least) * (WIDTH - left - RIGHT)

    parts = _head(title, height)
    step = 0.01 if most - least <= 0.11 else 0.05 if most - least <= 0.41 else 0.2
    for number in range(ceil(least / step - 1e-9), floor(most / step + 1e-9) + 1):
        x = place(number * step)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="#dddddd"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - BOTTOM + 18}" text-anchor="middle">{number * step:.0%}</text>'
        )
    lines: list[str] = []
    for number, dot in enumerate(dots):
        y = TOP + row * (number + 0.5)
        colour = COLOURS[0 if dot.low <= dot.value <= dot.high else 1]
        fill = colour if dot.is_gated else "#ffffff"
        low, high = place(dot.low), place(dot.high)
        parts.append(f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end">{dot.label}</text>')
        parts.append(
            f'<rect x="{low:.1f}" y="{y - 6:.1f}" width="{high - low:.1f}" height="12" fill="#e8eef4"/>'
        )
        lines.append(
            f'<circle cx="{place(dot.value):.1f}" cy="{y:.1f}" r="4.5" stroke="{colour}" fill="{fill}"/>'
        )
    x = place(reference)
    parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="#222222"/>')
    parts += lines
    middle = (left + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{height - 12}" text-anchor="middle">{x_label}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _head(title: str, height: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="13" fill="#222222" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="24" y="28" font-size="16" font-weight="bold">{title}</text>',
    ]
