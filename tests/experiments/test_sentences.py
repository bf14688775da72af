"""What a growth manager reads, word for word, in three languages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import Reason
from experiments.analysis.sentences import Situation, Told, sentences
from experiments.analysis.wording import Change, Language, metric_in_words, money, moved
from experiments.metric_keys import METRIC_KEYS
from experiments.model import CustomMetric, MetricKind, UnitKind
from tests.experiments.cells import experiment_of

DEFINITIONS = metric_definitions(
    experiment_of("socks", metrics=(CustomMetric("page_depth", MetricKind.MEAN, "page"),))
)
EN, IT, RO = Language
PAYS = Told(
    situation=Situation.HEALTHY,
    variant="socks",
    control="none",
    unit=UnitKind.VISITOR,
    currency="EUR",
    objective=DEFINITIONS["margin_per_unit"],
    change=Change(42.4, 21.0, 63.0),
    weekly=Change(124_050.0, 61_500.0, 186_000.0),
)


def test_what_pays_says_by_how_much_and_what_a_week_of_it_is_worth() -> None:
    assert sentences(PAYS) == {
        "en": "socks pays off and every guardrail holds: compared with none, margin per visitor rises by "
        "€0.42 "
        "(95% credible interval +€0.21 to +€0.63), about €1,240 more a week (+€615 to +€1,860).",
        "it": "socks conviene e rispetta tutti i limiti: rispetto a none, il margine per visitatore sale "
        "di 0,42 € "
        "(intervallo di credibilità al 95%: da +0,21 € a +0,63 €), circa 1.240 € in più a settimana "
        "(da +615 € a +1.860 €).",
        "ro": "socks merită și respectă toate limitele: față de none, marja pe vizitator crește cu 0,42 € "
        "(interval de credibilitate de 95%: de la +0,21 € la +0,63 €), circa 1.240 € în plus pe săptămână "
        "(de la +615 € la +1.860 €).",
    }


def test_more_revenue_and_less_margin_is_said() -> None:
    gap = (
        (DEFINITIONS["revenue_per_unit"], Change(80.0, 50.0, 110.0)),
        (DEFINITIONS["margin_per_unit"], Change(-76.0, -103.0, -49.0)),
    )
    told = replace(
        PAYS,
        situation=Situation.TOXIC,
        change=Change(-76.0, -103.0, -49.0),
        weekly=Change(-53_300.0, -72_400.0, -34_200.0),
        broken=["conversion_rate", "refund_rate"],
        gap=gap,
    )
    assert sentences(told) == {
        "en": "socks brings bigger orders but does harm: conversion rate and refund rate are worse than "
        "with none "
        "by more than their guardrails allow; margin per visitor falls by €0.76 (95% credible interval "
        "-€1.03 to "
        "-€0.49), about €533 less a week (-€724 to -€342). Mind gross against net: revenue per visitor "
        "rises by "
        "€0.80, but margin per visitor falls by €0.76, so the extra sales cost more than they bring in.",
        "it": "socks porta ordini più ricchi ma fa danni: il tasso di conversione e il tasso di rimborso "
        "peggiorano "
        "rispetto a none oltre i limiti fissati; il margine per visitatore scende di 0,76 € (intervallo di "
        "credibilità al 95%: da -1,03 € a -0,49 €), circa 533 € in meno a settimana (da -724 € a -342 €). "
        "Attenzione al lordo e al netto: il fatturato per visitatore sale di 0,80 €, ma il margine per "
        "visitatore "
        "scende di 0,76 €, quindi le vendite in più costano più di quanto rendono.",
        "ro": "socks aduce comenzi mai mari, dar face rău: rata de conversie și rata rambursărilor se "
        "înrăutățesc "
        "față de none peste limitele stabilite; marja pe vizitator scade cu 0,76 € (interval de "
        "credibilitate de "
        "95%: de la -1,03 € la -0,49 €), circa 533 € în minus pe săptămână (de la -724 € la -342 €). "
        "Atenție la "
        "brut și la net: venitul pe vizitator crește cu 0,80 €, dar marja pe vizitator scade cu 0,76 €, deci "
        "vânzările în plus costă mai mult decât aduc.",
    }
    other_way = replace(told, gap=tuple((one, change.times(-1.0)) for one, change in gap))
    assert sentences(other_way)["en"].endswith(
        "revenue per visitor falls by €0.80, but margin per visitor rises by €0.76, so less is sold and "
        "more is "
        "earned."
    )
    one = replace(told, situation=Situation.BROKEN, broken=["refund_rate"], gap=None)
    assert sentences(one)["it"].startswith(
        "socks fa danni: il tasso di rimborso peggiora rispetto a none oltre il limite fissato; il margine"
    )


@pytest.mark.parametrize("situation", Situation)
def test_every_situation_has_a_sentence_of_its_own_in_each_language(situation: Situation) -> None:
    told = replace(PAYS, situation=situation, broken=["refund_rate"])
    others = {
        text for other in Situation if other is not situation
        for text in sentences(replace(told, situation=other)).values()
    }  # fmt: skip
    found = sentences(told)
    assert not others & set(found.values())
    assert all("{" not in text and text.endswith(".") and "0" in text for text in found.values())


def test_a_guardrail_that_is_not_held_yet_is_named_where_all_would_seem_well() -> None:
    told = replace(PAYS, situation=Situation.UNDECIDED, weekly=None, undecided=["conversion_rate"])
    assert sentences(told) == {
        "en": "socks pays off so far, but not all of its guardrails are decided: compared with none, "
        "margin per "
        "visitor rises by €0.42 (95% credible interval +€0.21 to +€0.63). It is not sure yet that conversion "
        "rate stays within its guardrail.",
        "it": "socks finora conviene, ma non tutti i limiti sono verificati: rispetto a none, il margine per "
        "visitatore sale di 0,42 € (intervallo di credibilità al 95%: da +0,21 € a +0,63 €). Non è "
        "ancora certo "
        "che il tasso di conversione resti entro il limite fissato.",
        "ro": "socks merită până acum, dar nu toate limitele sunt verificate: față de none, marja pe "
        "vizitator "
        "crește cu 0,42 € (interval de credibilitate de 95%: de la +0,21 € la +0,63 €). Nu este încă "
        "sigur că "
        "rata de conversie rămâne în limita stabilită.",
    }
    three = ["conversion_rate", "refund_rate", "rating_mean"]
    same = sentences(replace(told, situation=Situation.SAME, undecided=three))
    assert same["en"].endswith(
        " It is not sure yet that conversion rate, refund rate and average rating stay within their "
        "guardrails."
    )
    assert same["it"].endswith(
        " Non è ancora certo che il tasso di conversione, il tasso di rimborso e la valutazione "
        "media restino "
        "entro i limiti fissati."
    )
    assert same["ro"].endswith(
        " Nu este încă sigur că rata de conversie, rata rambursărilor și nota medie rămân în "
        "limitele stabilite."
    )
    for quiet in (Situation.UNCLEAR, Situation.LOSING, Situation.TOXIC):
        plain = replace(told, situation=quiet, broken=["refund_rate"])
        assert sentences(plain) == sentences(replace(plain, undecided=()))


def test_without_a_comparison_the_sentence_says_why() -> None:
    for reason in Reason:
        told = replace(PAYS, situation=Situation.UNCLEAR, change=reason, weekly=None)
        assert all("{" not in text for text in sentences(told).values())
    told = replace(PAYS, situation=Situation.UNCLEAR, change=Reason.COST_UNKNOWN, weekly=None)
    assert sentences(told) == {
        "en": "There is no verdict on socks yet: the cost of some orders is unknown.",
        "it": "Su socks non c'è ancora un verdetto: di alcuni ordini non si conosce il costo.",
        "ro": "Despre socks nu există încă un verdict: costul unor comenzi nu este cunoscut.",
    }
    broken = replace(told, situation=Situation.BROKEN, broken=["refund_rate"])
    assert sentences(broken)["en"] == (
        "socks does harm: refund rate is worse than with none by more than its guardrail allows; margin "
        "per visitor "
        "cannot be told: the cost of some orders is unknown."
    )


def test_a_week_that_brings_nothing_that_can_be_written_is_not_mentioned() -> None:
    told = replace(PAYS, change=Change(0.1, -1.0, 1.2), weekly=Change(0.2, -0.4, 0.4))
    assert sentences(told)["en"] == (
        "socks pays off and every guardrail holds: compared with none, margin per visitor does not change "
        "(95% credible interval -€0.01 to +€0.01)."
    )


@pytest.mark.parametrize(
    ("minor", "currency", "language", "expected"),
    [
        (-42.4, "EUR", EN, "-€0.42"),
        (124_050_00, "USD", EN, "$124,050"),
        (99_99, "RON", EN, "RON 99.99"),
        (-1_240, "JPY", IT, "-1.240 ¥"),
        (1_240_500, "KWD", IT, "1.240 KWD"),
        (-42, "CHF", RO, "-0,42 CHF"),
        (0.2, "EUR", RO, "0,00 €"),
        # Romanian numbers: 101 to 119 lei, but 100, 120 ... de lei; never after decimals.
        (42_50, "RON", RO, "42,50 lei"),
        (100_00, "RON", RO, "100 de lei"),
        (119_00, "RON", RO, "119 lei"),
        (120_00, "RON", RO, "120 de lei"),
        (5_301_00, "RON", RO, "5.301 lei"),
        (12_000_00, "RON", IT, "12.000 RON"),
    ],
)
def test_money_is_written_as_the_language_does(
    minor: float, currency: str, language: Language, expected: str
) -> None:
    assert money(minor, currency, language) == expected


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        ("aov", Change(-120.0, -200, -40), "falls by €1.20 (95% credible interval -€2.00 to -€0.40)"),
        (
            "conversion_rate",
            Change(0.0123, -0.001, 0.02),
            "rises by 1.23 percentage points (95% credible interval -0.10 to +2.00)",
        ),
        ("margin_rate", Change(0.0, -0.1, 0.1), "does not change (95% credible interval -10.00 to +10.00)"),
        ("rating_mean", Change(-2.5, -4, -1), "falls by 2.5 (95% credible interval -4 to -1)"),
        ("page_depth", Change(1234.5, 1000, 1500), "rises by 1,234 (95% credible interval +1,000 to +1,500)"),
    ],
)
def test_changes_are_said_in_the_metrics_own_unit(key: str, change: Change, expected: str) -> None:
    assert moved(DEFINITIONS[key], "EUR", change, EN) == expected


def test_percentage_points_in_italian_and_romanian() -> None:
    change = Change(0.0123, -0.001, 0.02)
    assert moved(DEFINITIONS["conversion_rate"], "EUR", change, IT, with_interval=False) == (
        "sale di 1,23 punti percentuali"
    )
    assert moved(DEFINITIONS["conversion_rate"], "EUR", change, RO, with_interval=False) == (
        "crește cu 1,23 puncte procentuale"
    )


def test_metrics_have_words() -> None:
    assert metric_in_words("revenue_per_unit", UnitKind.CUSTOMER) == "revenue per customer"
    assert metric_in_words("orders_per_unit", UnitKind.SESSION, RO) == "numărul de comenzi pe sesiune"
    assert metric_in_words("visit_{rate}", UnitKind.CUSTOMER) == "visit_{rate}"
    for key in METRIC_KEYS:
        assert len({metric_in_words(key, UnitKind.VISITOR, language) for language in Language} - {key}) == 3
