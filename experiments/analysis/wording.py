"""Words and figures of the verdict in English, Italian and Romanian: metrics, money, changes.

Figures are written as people of the language write them: 1,240.50 in English, 1.240,50 in Italian and
Romanian; the sign before the symbol in English (-€0.42), the symbol after the number in the others (-0,42 €).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from experiments.analysis.metrics import MetricDefinition
from experiments.model import MetricKind, UnitKind
from experiments.money import exponent


class Language(StrEnum):
    """The languages a verdict is told in."""

    EN = "en"
    IT = "it"
    RO = "ro"


_EN, _IT, _RO = Language

_WORDS: Mapping[str, tuple[str, str, str]] = {
    "aov": ("average order value", "il valore medio dell'ordine", "valoarea medie a comenzii"),
    "aov_net": (
        "average order value after refunds",
        "il valore medio dell'ordine al netto dei rimborsi",
        "valoarea medie a comenzii după rambursări",
    ),
    "take_rate": ("take rate", "il tasso di accettazione", "rata de acceptare"),
    "click_through_rate": ("click-through rate", "il tasso di clic", "rata de clic"),
    "orders_per_unit": (
        "the number of orders per {unit}",
        "il numero di ordini per {unit}",
        "numărul de comenzi pe {unit}",
    ),
    "revenue_per_unit": ("revenue per {unit}", "il fatturato per {unit}", "venitul pe {unit}"),
    "margin_per_unit": ("margin per {unit}", "il margine per {unit}", "marja pe {unit}"),
    "margin_rate": ("margin rate", "il margine percentuale", "marja procentuală"),
    "conversion_rate": ("conversion rate", "il tasso di conversione", "rata de conversie"),
    "cart_abandonment_rate": (
        "cart abandonment",
        "il tasso di abbandono del carrello",
        "rata de abandon al coșului",
    ),
    "refund_rate": ("refund rate", "il tasso di rimborso", "rata rambursărilor"),
    "refund_value_rate": (
        "the share of value refunded",
        "la quota di valore rimborsata",
        "ponderea valorii rambursate",
    ),
    "cancel_rate": ("cancellation rate", "il tasso di annullamento", "rata anulărilor"),
    "rating_mean": ("average rating", "la valutazione media", "nota medie"),
    "repeat_rate": ("repeat rate", "il tasso di riacquisto", "rata de recumpărare"),
    "ltv_30d": (
        "30-day margin per {unit}",
        "il margine a 30 giorni per {unit}",
        "marja la 30 de zile pe {unit}",
    ),
    "ltv_90d": (
        "90-day margin per {unit}",
        "il margine a 90 giorni per {unit}",
        "marja la 90 de zile pe {unit}",
    ),
    "ltv_180d": (
        "180-day margin per {unit}",
        "il margine a 180 giorni per {unit}",
        "marja la 180 de zile pe {unit}",
    ),
}

_UNITS: Mapping[UnitKind, tuple[str, str, str]] = {
    UnitKind.VISITOR: ("visitor", "visitatore", "vizitator"),
    UnitKind.CUSTOMER: ("customer", "cliente", "client"),
    UnitKind.SESSION: ("session", "sessione", "sesiune"),
    UnitKind.REQUEST: ("request", "richiesta", "solicitare"),
}

MONEY_METRICS = frozenset(
    {"aov", "aov_net", "revenue_per_unit", "margin_per_unit", "ltv_30d", "ltv_90d", "ltv_180d"}
)
_SHARES = frozenset({"refund_value_rate", "margin_rate"})
_SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_POINTS = {_EN: " percentage points", _IT: " punti percentuali", _RO: " puncte procentuale"}
_MOVES = {
    _EN: ("rises by {}", "falls by {}", "does not change"),
    _IT: ("sale di {}", "scende di {}", "non cambia"),
    _RO: ("crește cu {}", "scade cu {}", "nu se schimbă"),
}
_INTERVAL = {
    _EN: "95% credible interval {} to {}",
    _IT: "intervallo di credibilità al 95%: da {} a {}",
    _RO: "interval de credibilitate de 95%: de la {} la {}",
}
_WHOLE_FROM = 100
"""From here on an amount is said without its cents, a number without decimals."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change against control with its 95 % credible interval, in the metric's unit."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Change":
        """The same change of so many units."""
        return Change(factor * self.value, factor * self.low, factor * self.high)


def metric_in_words(key: str, unit: UnitKind, language: Language = _EN) -> str:
    """A metric's name as a person says it, with its article; a custom metric keeps its own.

    >>> metric_in_words("margin_per_unit", UnitKind.VISITOR, Language.IT)
    'il margine per visitatore'
    """
    if key not in _WORDS:
        return key
    place = list(Language).index(language)
    return _WORDS[key][place].format(unit=_UNITS[unit][place])


def moved(
    definition: MetricDefinition,
    currency: str,
    change: Change,
    language: Language,
    *,
    with_interval: bool = True,
) -> str:
    """What the metric does, and its interval: money in the currency, rates in percentage points."""
    up, down, still = _MOVES[language]
    plain = _figure(definition, currency, abs(change.value), language, signed=False)
    none = _figure(definition, currency, 0.0, language, signed=False)
    said = still if plain == none else (up if change.value > 0 else down).format(plain)
    if not with_interval:
        return said
    both = (change.low, change.high)
    ends = (_figure(definition, currency, end, language, signed=True, bare=True) for end in both)
    return f"{said} ({_INTERVAL[language].format(*ends)})"


def change_in_words(definition: MetricDefinition, currency: str, value: float) -> str:
    """An absolute change in English: money in the currency, rates in percentage points.

    >>> from datetime import timedelta
    >>> from experiments.model import Direction
    >>> goal = ("margin_per_unit", MetricKind.MEAN, {"margin": 1}, {"units": 1}, Direction.UP, timedelta(7))
    >>> change_in_words(MetricDefinition(*goal), "JPY", -41.6)
    '-¥42'
    """
    return _figure(definition, currency, value, _EN, signed=True)


def money(minor: float, currency: str, language: Language, *, signed: bool = False) -> str:
    """An amount of minor units; from a hundred units of the currency on without cents.

    >>> money(-124_050, "EUR", Language.EN), money(4_250, "RON", Language.RO, signed=True)
    ('-€1,240', '+42,50 lei')
    """
    places = exponent(currency)
    amount = minor / 10**places
    if abs(amount) >= _WHOLE_FROM:
        places = 0
    digits = _digits(f"{abs(amount):,.{places}f}", language)
    sign = "-" if round(amount, places) < 0 else "+" if signed and round(amount, places) > 0 else ""
    if language is _EN:
        symbol = _SYMBOLS.get(currency, f"{currency} ")
        return f"{sign}{symbol}{digits}"
    if currency == "RON" and language is _RO:
        return f"{sign}{digits} {_lei(round(abs(amount)) if places == 0 else None)}"
    return f"{sign}{digits} {_SYMBOLS.get(currency, currency)}"


def _lei(whole: int | None) -> str:
    """Romanian counts "15 lei" but "20 de lei": `de` after whole numbers that end in 00 or 20 to 99."""
    return "de lei" if whole is not None and not 1 <= whole % 100 <= 19 else "lei"


def _figure(
    definition: MetricDefinition,
    currency: str,
    value: float,
    language: Language,
    *,
    signed: bool,
    bare: bool = False,
) -> str:
    if definition.key in MONEY_METRICS:
        return money(value, currency, language, signed=signed)
    sign = "+" if signed else ""
    if is_rate(definition):
        return _digits(f"{100.0 * value:{sign},.2f}", language) + ("" if bare else _POINTS[language])
    form = ",.0f" if abs(value) >= _WHOLE_FROM else ".3g"
    return _digits(f"{value:{sign}{form}}", language)


def is_rate(definition: MetricDefinition) -> bool:
    """Whether a change of the metric is one of percentage points."""
    is_proportion = definition.kind is MetricKind.PROPORTION
    return is_proportion or definition.is_share or definition.key in _SHARES


def _digits(text: str, language: Language) -> str:
    if language is _EN:
        return text
    return text.translate({ord(","): ".", ord("."): ","})
