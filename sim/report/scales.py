"""Round numbers for axes, and how they are written."""

from collections.abc import Callable
from math import ceil, floor, log10

from experiments.analysis.wording import Language, money
from experiments.money import exponent

Written = Callable[[float], str]
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_THOUSAND, _MILLION = 1_000.0, 1_000_000.0


def round_ticks(low: float, high: float, *, most: int = 6, whole: bool = False) -> list[float]:
    """At most `most` round numbers in equal steps, the first not above `low`, the last not below `high`.

    >>> round_ticks(-3.0, 11.0)
    [-5.0, 0.0, 5.0, 10.0, 15.0]
    >>> round_ticks(0.0, 3.0, whole=True)
    [0.0, 1.0, 2.0, 3.0]
    """
    span = high - low if high > low else abs(high) or 1.0
    unit = 10.0 ** floor(log10(span / most))
    steps = [factor * scale for scale in (unit, 10 * unit) for factor in _STEPS]
    for step in steps:
        if whole and step != round(step):
            continue
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        if 1 <= last - first < most:
            return [number * step for number in range(first, last + 1)]
    step = steps[-1]  # whole numbers of a span below one
    return [floor(low / step) * step, (floor(low / step) + 1) * step]


def short_money(currency: str) -> Written:
    """Writes amounts of minor units in a few letters.

    >>> [short_money("EUR")(minor) for minor in (-50_000_00, 1_250_000_00, 12_50, 0)]
    ['-€50k', '€1.25M', '€12.50', '€0']
    """
    minor = 10.0 ** exponent(currency)

    def written(amount: float) -> str:
        size = abs(amount) / minor
        for scale, letter in ((_MILLION, "M"), (_THOUSAND, "k")):
            if size >= scale:
                symbol, digits = money(0, currency, Language.EN), f"{size / scale:.4g}{letter}"
                return ("-" if amount < 0 else "") + symbol.rstrip("0.") + digits
        if size == round(size):
            return ("-" if amount < 0 else "") + money(0, currency, Language.EN).rstrip("0.") + f"{size:.0f}"
        return money(amount, currency, Language.EN)

    return written


def percent(value: float, places: int = 1) -> str:
    """A share in percent, without decimals where there are none.

    >>> percent(0.25), percent(0.1251), percent(-1e-17)
    ('25 %', '12.5 %', '0 %')
    """
    return f"{round(100 * value, places) + 0.0:.10g} %"  # plus 0.0: there is no -0 %


def points(value: float) -> str:
    """A difference of shares in percentage points.

    >>> points(-0.0125)
    '-1.25 pp'
    """
    return f"{100 * value:.4g} pp"


def plain(value: float) -> str:
    """A figure without a unit."""
    return f"{value:.4g}"


def whole(value: float) -> str:
    """A count."""
    return f"{value:,.0f}"
