"""Charts as pure functions: rows in, an Altair chart out. No Streamlit, no HTTP.

Every series differs in dash or sign besides its colour (Okabe and Ito's palette, readable with the
common kinds of colour blindness), and axes speak percent.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import altair as alt

from dashboard import words

Json: TypeAlias = dict[str, Any]

CONTROL_COLOUR = "#6b7280"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#7B3FA0")
DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3), (12, 4), (4, 4), (1, 3))
CONTROL_DASH = (5, 3)

MARGIN_COLOURS = {"warn": "#9a6700", "throttle": "#bc4c00", "kill": "#b42318"}
_MARGIN_DASHES = {"warn": (2, 3), "throttle": (6, 3), "kill": (1, 0)}
_HOURS_UNTIL, _DAYS_UNTIL = timedelta(days=4), timedelta(days=12)
_FEW_DAYS = 5
"""Whose bars would be as broad as the page."""
_INK = "#374151"
_GRID = "#e5e7eb"


def steps(
    rows: Sequence[Json],
    variants: Sequence[str],
    control: str | None,
    *,
    title: str,
    marks: Sequence[Json] = (),
    height: int = 250,
) -> alt.LayerChart:
    """Step lines over time of rows {at, variant, value, cause, version}, value in 0..1.

    `marks` {at, cause, version} are thin vertical lines.

    `variants` fixes the order, and with it each variant's colour and dash in every chart.
    """
    x = alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=_time_axis(rows))
    base = alt.Chart(_data(rows)).encode(
        x=x,
        y=alt.Y(
            "value:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(
                format=".0%",
                values=[0, 0.2, 0.4, 0.6, 0.8, 1] if height > 200 else [0, 0.5, 1],
                gridColor=_GRID,
                labelColor=_INK,
                titleColor=_INK,
            ),
        ),
        color=_colour(variants, control),
        tooltip=[
            alt.Tooltip("variant:N", title="Variant"),
            alt.Tooltip("value:Q", title=title, format=".1%"),
            alt.Tooltip("at:T", title="From (UTC)", format="%d %b %Y %H:%M", formatType="utc"),
            alt.Tooltip("version:N", title="Policy version"),
            alt.Tooltip("cause:N", title="Cause"),
        ],
    )
    lines = base.mark_line(interpolate="step-after", strokeWidth=2.5).encode(
        strokeDash=alt.StrokeDash(
            "variant:N", scale=_dash_scale(variants, control), legend=_legend(columns=_columns(variants))
        )
    )
    points = base.mark_point(size=60, filled=True, opacity=0)  # nothing to see, but easy to hover over
    layers = [*([_marks(marks, x)] if marks else []), lines, points]
    return alt.LayerChart(layer=layers).properties(height=height)


def _marks(marks: Sequence[Json], x: alt.X) -> alt.Chart:
    return (
        alt.Chart(_data(marks))
        .mark_rule(color=_INK, strokeWidth=1, strokeDash=[1, 3], opacity=0.7)
        .encode(
            x=x,
            tooltip=[
                alt.Tooltip("cause:N", title="Cause"),
                alt.Tooltip("at:T", title="At (UTC)", format="%d %b %Y %H:%M", formatType="utc"),
                alt.Tooltip("version:N", title="Policy version"),
            ],
        )
    )


def enrolments(rows: Sequence[Json], variants: Sequence[str], control: str | None) -> alt.Chart:
    """Stacked bars of rows {day, variant, assigned}: who came in, day by day."""
    is_short = len({row["day"] for row in rows}) <= _FEW_DAYS
    return (
        alt.Chart(_data([{**row, "order": _place(row["variant"], variants)} for row in rows]))
        .mark_bar(stroke="white", strokeWidth=0.5, size=46 if is_short else alt.Undefined)
        .encode(
            x=alt.X(
                "yearmonthdate(day):O",
                title=None,
                axis=alt.Axis(
                    format="%d %b", formatType="time", labelAngle=0, labelOverlap=True, labelColor=_INK
                ),
            ),
            y=alt.Y(
                "assigned:Q",
                title="Enrolled per day",
                axis=alt.Axis(format="~s", tickCount=5, gridColor=_GRID, labelColor=_INK, titleColor=_INK),
            ),
            color=_colour(variants, control, symbol="square"),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("yearmonthdate(day):T", title="Day", format="%d %b %Y"),
                alt.Tooltip("variant:N", title="Variant"),
                alt.Tooltip("assigned:Q", title="Enrolled", format=","),
            ],
        )
        .properties(height=250)
    )


def density(guardrail: Json, about: words.Metric, currency: str) -> alt.LayerChart | None:
    """The posterior of a guardrail's change against control, with its three margins as rules.

    The bad direction is to the right for a metric that is better low, to the left otherwise, so the
    margins stand on that side. None when the service gives no density.
    """
    curve = guardrail.get("density") or {}
    xs, ys = curve.get("x") or [], curve.get("y") or []
    if not xs or len(xs) != len(ys):
        return None
    relative = words.is_relative(guardrail, about)
    unit = 10.0 ** words.exponent(currency) if about.scale == "money" and not relative else 1.0
    sign = 1.0 if about.lower_is_better else -1.0
    margins = {
        name: sign * float(margin)
        for name, margin in (guardrail.get("margins") or {}).items()
        if margin is not None and name in MARGIN_COLOURS
    }
    places = [*(float(at) / unit for at in xs), 0.0, *(at / unit for at in margins.values())]
    pad = 0.03 * (max(places) - min(places) or 1.0)
    x = alt.X(
        "at:Q",
        title=None,
        scale=alt.Scale(domain=[min(places) - pad, max(places) + pad], nice=False),
        axis=alt.Axis(
            labelExpr=_signed("~%" if relative or about.scale == "share" else "~g"),
            tickCount=5,
            grid=False,
            labelColor=_INK,
            titleColor=_INK,
            labelOverlap=True,
        ),
    )
    points = [{"at": float(a) / unit, "height": float(b)} for a, b in zip(xs, ys, strict=True)]
    area = (
        alt.Chart(_data(points))
        .mark_area(color="#0072B2", opacity=0.22, line={"color": "#0072B2", "strokeWidth": 1.5})
        .encode(x=x, y=alt.Y("height:Q", axis=None))
    )
    zero = alt.Chart(_data([{"at": 0.0}])).mark_rule(color=_INK, strokeWidth=1).encode(x=x)
    labels = {
        name: f"{name} {words.shift(at, about.scale, currency, relative=relative)}"
        for name, at in margins.items()
    }
    rules = [{"at": at / unit, "label": labels[name]} for name, at in margins.items()]
    return alt.LayerChart(layer=[area, zero, _margin_rules(rules, x, labels)]).properties(height=170)


def _time_axis(rows: Sequence[Json]) -> alt.Axis:
    """Days, each named once; with the hour when there are only a few of them."""
    times = [datetime.fromisoformat(row["at"]) for row in rows]
    span = max(times) - min(times) if times else timedelta(0)
    ticks: int | alt.TimeIntervalStep = 6
    if _HOURS_UNTIL <= span < _DAYS_UNTIL:  # six ticks would fall on the same day twice
        ticks = alt.TimeIntervalStep(interval="day", step=1)
    return alt.Axis(
        format="%d %b %H:%M" if span < _HOURS_UNTIL else "%d %b",
        grid=False,
        labelOverlap=True,
        labelBound=True,  # a label cut in half at the edge is worse than none
        tickCount=ticks,
        labelColor=_INK,
    )


def _signed(number_format: str) -> str:
    """Vega's expression for a label with its sign; zero has none."""
    return f"abs(datum.value) < 1e-9 ? '0' : format(datum.value, '+{number_format}')"


def _margin_rules(rules: Sequence[Json], x: alt.X, labels: dict[str, str]) -> alt.Chart:
    domain = list(labels.values())
    colours = [MARGIN_COLOURS[name] for name in labels]
    dashes = [list(_MARGIN_DASHES[name]) for name in labels]
    return (
        alt.Chart(_data(rules))
        .mark_rule(strokeWidth=2)
        .encode(
            x=x,
            color=alt.Color("label:N", scale=alt.Scale(domain=domain, range=colours), legend=_legend()),
            strokeDash=alt.StrokeDash(
                "label:N", scale=alt.Scale(domain=domain, range=dashes), legend=_legend()
            ),
            tooltip=[alt.Tooltip("label:N", title="Margin")],
        )
    )


def _data(rows: Sequence[Json]) -> alt.Data:
    return alt.Data(values=[dict(row) for row in rows])


def _colour(variants: Sequence[str], control: str | None, symbol: str = "stroke") -> alt.Color:
    colours = [CONTROL_COLOUR if key == control else COLOURS[i] for key, i in _numbered(variants, control)]
    return alt.Color(
        "variant:N",
        scale=alt.Scale(domain=list(variants), range=colours),
        legend=_legend(symbol, _columns(variants)),
    )


def _dash_scale(variants: Sequence[str], control: str | None) -> alt.Scale:
    dashes = [CONTROL_DASH if key == control else DASHES[i] for key, i in _numbered(variants, control)]
    return alt.Scale(domain=list(variants), range=[list(dash) for dash in dashes])


def _numbered(variants: Sequence[str], control: str | None) -> list[tuple[str, int]]:
    """Variants with the place of their colour; the control has its own and takes up none."""
    treatments = [key for key in variants if key != control]
    return [(key, treatments.index(key) % len(COLOURS) if key in treatments else 0) for key in variants]


def _place(key: str, variants: Sequence[str]) -> int:
    return list(variants).index(key) if key in variants else len(variants)


def _columns(variants: Sequence[str]) -> int:
    """As many entries side by side as a phone has room for: about 320 pixels, 44 for a sign and the gaps."""
    widest = 44 + 7 * max((len(key) for key in variants), default=0)
    return max(1, min(4, 320 // widest))


def _legend(symbol: str = "stroke", columns: int = 4) -> alt.Legend:
    return alt.Legend(
        orient="bottom",
        title=None,
        labelColor=_INK,
        labelLimit=220,
        symbolType=symbol,
        symbolStrokeWidth=3 if symbol == "stroke" else 0,
        symbolSize=350 if symbol == "stroke" else 120,
        padding=0,
        offset=6,
        columns=columns,
    )
