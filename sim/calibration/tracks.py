"""Charts of figures from top to bottom, each on a track of its own under its name, as SVG.

Names stand above the tracks, not beside them, so that a chart is as wide as a telephone and long names fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

from sim.calibration.chart import COLOURS, head

WIDTH, MARGIN, TOP, FOOT = 480, 24, 44, 68
ROW, BAR = 40, 14
KINDS = ("#c8551b", "#7a3e9d", "#3c8d40", "#1b6ca8", "#e0a526", "#b9b9b9")
HALO = 'stroke="#ffffff" stroke-width="3" paint-order="stroke"'


@dataclass(frozen=True, slots=True)
class Dot:
    """A figure, the band in which it should lie (None: no such band), and whether it is held to that.

    `other` is a second figure beside it, for contrast.
    """

    label: str
    value: float
    band: tuple[float, float] | None = None
    is_gated: bool = True
    other: float | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """From the first tick to the last; shares of one in per cent unless `is_log`."""

    ticks: Sequence[float]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Pixels from the left; what lies beyond an end is drawn at it."""
        least, most, at = self.ticks[0], self.ticks[-1], min(max(value, self.ticks[0]), self.ticks[-1])
        part = log10(at / least) / log10(most / least) if self.is_log else (at - least) / (most - least)
        return MARGIN + part * (WIDTH - 2 * MARGIN)

    def name(self, tick: float) -> str:
        """The tick in words."""
        return f"{tick:g}" if self.is_log else f"{100 * tick:g}%"


def shares_axis(dots: Sequence[Dot]) -> Axis:
    """To 100 % from the round share below all figures.

    >>> shares_axis([Dot("", 0.942, (0.934, 0.965))]).ticks
    [0.9, 0.92, 0.94, 0.96, 0.98, 1.0]
    """
    figures = [dot.value for dot in dots] + [dot.other for dot in dots if dot.other is not None]
    least = min([*figures, *(dot.band[0] for dot in dots if dot.band)])
    for start, step in ((0.9, 0.02), (0.75, 0.05), (0.5, 0.1)):
        if least >= start:
            return Axis([round(start + k * step, 2) for k in range(round((1.0 - start) / step) + 1)])
    return Axis([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


def dot_chart(
    title: str,
    dots: Sequence[Dot],
    names: tuple[str, str],
    *,
    axis: Axis | None = None,
    mark: float | None = 0.95,
) -> str:
    """Figures on their tracks, a line at `mark`, as SVG; `names` says what dot and diamond are.

    A dot outside its band is drawn in the second colour; one that nothing is promised of is hollow.
    """
    axis = axis or shares_axis(dots)
    height = TOP + ROW * len(dots) + FOOT
    parts = [*head(title, WIDTH, height), *_grid(axis, height)]
    if mark is not None:
        x = axis.place(mark)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - FOOT}" stroke="#222222"/>')
    for number, dot in enumerate(dots):
        y = TOP + ROW * number + 26.0
        parts.append(_label(dot.label, y))
        if dot.band is not None:
            low, high = axis.place(dot.band[0]), axis.place(dot.band[1])
            width = max(high - low, 2.0)
            parts.append(f'<rect x="{low:.1f}" y="{y - 6}" width="{width:.1f}" height="12" fill="#cfe0ee"/>')
        if dot.other is not None:
            parts.append(_diamond(axis.place(dot.other), y))
        is_within = dot.band is None or dot.band[0] <= dot.value <= dot.band[1]
        colour = COLOURS[0 if is_within else 1]
        fill = colour if dot.is_gated else "#ffffff"
        parts.append(
            f'<circle cx="{axis.place(dot.value):.1f}" cy="{y}" r="4.5" stroke="{colour}" fill="{fill}"/>'
        )
    parts += _legend(names, dots, height)
    return "\n".join([*parts, "</svg>", ""])


def bar_chart(title: str, bars: Mapping[str, Mapping[str, int]], kinds: Sequence[str]) -> str:
    """What parts of each bar's count are of which kind, as SVG; at most six kinds, named below."""
    axis = Axis([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    lines = -(-len(kinds) // 3)
    height = TOP + ROW * len(bars) + FOOT + 18 * (lines - 1)
    parts = [*head(title, WIDTH, height), *_grid(axis, height - 18 * (lines - 1))]
    for number, (label, counts) in enumerate(bars.items()):
        y, before, whole = TOP + ROW * number + 26.0, 0, max(1, sum(counts.values()))
        parts.append(_label(label, y))
        for kind, colour in zip(kinds, KINDS, strict=False):
            count = counts.get(kind, 0)
            left, right = axis.place(before / whole), axis.place((before + count) / whole)
            if count:
                parts.append(
                    f'<rect x="{left:.1f}" y="{y - BAR / 2}" width="{right - left:.1f}" height="{BAR}" '
                    f'fill="{colour}"><title>{escape(kind)}: {count}</title></rect>'
                )
            before += count
    for number, kind in enumerate(kinds):
        x, y = MARGIN + 148 * (number % 3), height - 18 * (lines - number // 3)
        parts.append(f'<rect x="{x}" y="{y - 6}" width="12" height="12" fill="{KINDS[number]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y + 4}">{escape(kind)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _grid(axis: Axis, height: float) -> list[str]:
    parts: list[str] = []
    for tick in axis.ticks:
        x = axis.place(tick)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - FOOT}" stroke="#dddddd"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{height - FOOT + 16}" text-anchor="middle">{axis.name(tick)}</text>'
        )
    return parts


def _label(text: str, y: float) -> str:
    return f'<text x="{MARGIN}" y="{y - 11}" font-size="12" {HALO}>{escape(text)}</text>'


def _diamond(x: float, y: float) -> str:
    points = f"{x - 5:.1f},{y} {x:.1f},{y - 5} {x + 5:.1f},{y} {x:.1f},{y + 5}"
    return f'<polygon points="{points}" stroke="#555555" fill="#ffffff"/>'


def _legend(names: tuple[str, str], dots: Sequence[Dot], height: float) -> list[str]:
    y = height - 32.0
    parts = [
        f'<circle cx="{MARGIN + 6}" cy="{y - 4}" r="4.5" stroke="{COLOURS[0]}" fill="{COLOURS[0]}"/>',
        f'<text x="{MARGIN + 18}" y="{y}">{escape(names[0])}</text>',
    ]
    if any(dot.other is not None for dot in dots):
        x = MARGIN + 36 + floor(7.2 * len(names[0]))
        parts += [_diamond(x, y - 4), f'<text x="{x + 12}" y="{y}">{escape(names[1])}</text>']
    notes = ["band: where it should lie"] if any(dot.band for dot in dots) else []
    notes += [] if all(dot.is_gated for dot in dots) else ["hollow: published, not promised"]
    return [*parts, f'<text x="{MARGIN}" y="{height - 10}" fill="#555555">{"; ".join(notes)}</text>']
