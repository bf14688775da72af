"""The verdict as a sentence, in English, Italian and Romanian, with the money in it.

Whole sentences stand for whole situations, since word order and agreement differ by language; what varies
inside them are figures and the names of metrics, which are singular in all three.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from experiments.analysis.metrics import MetricDefinition
from experiments.analysis.reading import Reason
from experiments.analysis.wording import Change, Language, metric_in_words, money, moved
from experiments.model import UnitKind

_EN, _IT, _RO = Language


class Situation(StrEnum):
    """What there is to say; the verdict's kinds, harm told by what it is seen in."""

    TOXIC = "toxic"
    BROKEN = "broken"
    LOSING = "losing"
    WORSE = "worse"
    HEALTHY = "healthy"
    UNGUARDED = "unguarded"
    UNDECIDED = "undecided"
    SAME = "same"
    PROMISING = "promising"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Told:
    """What the sentences are made of.

    `change` is the objective's, or why there is none; `weekly` what the change brings with a week's units,
    in minor units; `broken` the guardrails' metrics that are worse than allowed, `undecided` those neither
    surely worse nor surely held; `gap` revenue and margin per unit where one surely rises and the other
    falls.
    """

    situation: Situation
    variant: str
    control: str
    unit: UnitKind
    currency: str
    objective: MetricDefinition
    change: Change | Reason
    weekly: Change | None
    broken: Sequence[str] = ()
    undecided: Sequence[str] = ()
    gap: tuple[tuple[MetricDefinition, Change], tuple[MetricDefinition, Change]] | None = None


_OPENING: Mapping[Situation, tuple[str, str, str]] = {
    Situation.TOXIC: (
        "{variant} brings bigger orders but does harm: {broken}; {metric} {moved}",
        "{variant} porta ordini più ricchi ma fa danni: {broken}; {metric} {moved}",
        "{variant} aduce comenzi mai mari, dar face rău: {broken}; {metric} {moved}",
    ),
    Situation.BROKEN: (
        "{variant} does harm: {broken}; {metric} {moved}",
        "{variant} fa danni: {broken}; {metric} {moved}",
        "{variant} face rău: {broken}; {metric} {moved}",
    ),
    Situation.LOSING: (
        "{variant} loses money: compared with {control}, {metric} {moved}",
        "{variant} fa perdere denaro: rispetto a {control}, {metric} {moved}",
        "{variant} aduce pierderi: față de {control}, {metric} {moved}",
    ),
    Situation.WORSE: (
        "{variant} does harm: compared with {control}, {metric} {moved}",
        "{variant} fa danni: rispetto a {control}, {metric} {moved}",
        "{variant} face rău: față de {control}, {metric} {moved}",
    ),
    Situation.HEALTHY: (
        "{variant} pays off and every guardrail holds: compared with {control}, {metric} {moved}",
        "{variant} conviene e rispetta tutti i limiti: rispetto a {control}, {metric} {moved}",
        "{variant} merită și respectă toate limitele: față de {control}, {metric} {moved}",
    ),
    Situation.UNGUARDED: (
        "{variant} pays off: compared with {control}, {metric} {moved}",
        "{variant} conviene: rispetto a {control}, {metric} {moved}",
        "{variant} merită: față de {control}, {metric} {moved}",
    ),
    Situation.UNDECIDED: (
        "{variant} pays off so far, but not all of its guardrails are decided: compared with "
        "{control}, {metric} {moved}",
        "{variant} finora conviene, ma non tutti i limiti sono verificati: rispetto a {control}, "
        "{metric} {moved}",
        "{variant} merită până acum, dar nu toate limitele sunt verificate: față de {control}, "
        "{metric} {moved}",
    ),
    Situation.SAME: (
        "{variant} makes no difference that matters: compared with {control}, {metric} {moved}",
        "{variant} non fa una differenza che conti: rispetto a {control}, {metric} {moved}",
        "{variant} nu face o diferență care să conteze: față de {control}, {metric} {moved}",
    ),
    Situation.PROMISING: (
        "{variant} looks promising but is not proven yet: compared with {control}, {metric} {moved}",
        "{variant} promette bene, ma la prova manca ancora: rispetto a {control}, {metric} {moved}",
        "{variant} promite, dar dovada lipsește încă: față de {control}, {metric} {moved}",
    ),
    Situation.UNCLEAR: (
        "There is not enough evidence on {variant} yet: compared with {control}, {metric} {moved}",
        "Su {variant} non ci sono ancora prove sufficienti: rispetto a {control}, {metric} {moved}",
        "Despre {variant} nu sunt încă destule dovezi: față de {control}, {metric} {moved}",
    ),
}

_WITHOUT: Mapping[Situation, tuple[str, str, str]] = {
    Situation.TOXIC: (
        "{variant} brings bigger orders but does harm: {broken}; {metric} cannot be told: {why}",
        "{variant} porta ordini più ricchi ma fa danni: {broken}; {metric} non si può dire: {why}",
        "{variant} aduce comenzi mai mari, dar face rău: {broken}; {metric} nu se poate spune: {why}",
    ),
    Situation.BROKEN: (
        "{variant} does harm: {broken}; {metric} cannot be told: {why}",
        "{variant} fa danni: {broken}; {metric} non si può dire: {why}",
        "{variant} face rău: {broken}; {metric} nu se poate spune: {why}",
    ),
}
_NO_VERDICT = (
    "There is no verdict on {variant} yet: {why}",
    "Su {variant} non c'è ancora un verdetto: {why}",
    "Despre {variant} nu există încă un verdict: {why}",
)

_AND = {_EN: "and", _IT: "e", _RO: "și"}
_BROKEN = {
    _EN: ("{} is worse than with {control} by more than its guardrail allows",
          "{} are worse than with {control} by more than their guardrails allow"),
    _IT: ("{} peggiora rispetto a {control} oltre il limite fissato",
          "{} peggiorano rispetto a {control} oltre i limiti fissati"),
    _RO: ("{} se înrăutățește față de {control} peste limita stabilită",
          "{} se înrăutățesc față de {control} peste limitele stabilite"),
}  # fmt: skip
_UNDECIDED = {
    _EN: (" It is not sure yet that {} stays within its guardrail.",
          " It is not sure yet that {} stay within their guardrails."),
    _IT: (" Non è ancora certo che {} resti entro il limite fissato.",
          " Non è ancora certo che {} restino entro i limiti fissati."),
    _RO: (" Nu este încă sigur că {} rămâne în limita stabilită.",
          " Nu este încă sigur că {} rămân în limitele stabilite."),
}  # fmt: skip
_SOUNDS_WELL = frozenset({Situation.UNDECIDED, Situation.SAME, Situation.PROMISING})
"""Where a reader would take guardrails for held that are not yet."""

_WEEKLY = {
    _EN: (", about {} more a week ({} to {})", ", about {} less a week ({} to {})"),
    _IT: (", circa {} in più a settimana (da {} a {})", ", circa {} in meno a settimana (da {} a {})"),
    _RO: (
        ", circa {} în plus pe săptămână (de la {} la {})",
        ", circa {} în minus pe săptămână (de la {} la {})",
    ),
}

_GROSS = (
    "Mind gross against net: {revenue} {up}, but {margin} {down}, so the extra sales cost more than they "
    "bring"
    " in.",
    "Attenzione al lordo e al netto: {revenue} {up}, ma {margin} {down}, quindi le vendite in più costano "
    "più di"
    " quanto rendono.",
    "Atenție la brut și la net: {revenue} {up}, dar {margin} {down}, deci vânzările în plus costă mai mult "
    "decât"
    " aduc.",
)
_NET = (
    "Mind gross against net: {revenue} {up}, but {margin} {down}, so less is sold and more is earned.",
    "Attenzione al lordo e al netto: {revenue} {up}, ma {margin} {down}, quindi si vende di meno e si "
    "guadagna di"
    " più.",
    "Atenție la brut și la net: {revenue} {up}, dar {margin} {down}, deci se vinde mai puțin și se câștigă "
    "mai"
    " mult.",
)

_WHY: Mapping[Reason, tuple[str, str, str]] = {
    Reason.NO_OFFER: (
        "a variant without an offer does not have it",
        "una variante senza offerta non ce l'ha",
        "o variantă fără ofertă nu o are",
    ),
    Reason.NOT_COMPARABLE: (
        "it was shown to other people than the control",
        "è stata mostrata a un pubblico diverso da quello del controllo",
        "a fost arătată altui public decât varianta de control",
    ),
    Reason.NO_CONTROL_EXPOSURE: (
        "the control does not report its exposures",
        "il controllo non segnala le sue esposizioni",
        "varianta de control nu își raportează expunerile",
    ),
    Reason.COST_UNKNOWN: (
        "the cost of some orders is unknown",
        "di alcuni ordini non si conosce il costo",
        "costul unor comenzi nu este cunoscut",
    ),
    Reason.UNCONVERTED: (
        "some orders are in a currency without an exchange rate",
        "alcuni ordini sono in una valuta senza tasso di cambio",
        "unele comenzi sunt într-o monedă fără curs de schimb",
    ),
}
_TOO_LITTLE = ("there is too little data", "i dati sono ancora troppo pochi", "datele sunt încă prea puține")


def sentences(told: Told) -> dict[str, str]:
    """One or two sentences by language."""
    return {language.value: _sentence(told, language) for language in Language}


def _sentence(told: Told, language: Language) -> str:
    place = list(Language).index(language)
    words = {
        "variant": told.variant,
        "control": told.control,
        "metric": metric_in_words(told.objective.key, told.unit, language),
        "broken": _broken(told, language),
    }
    if isinstance(told.change, Reason):
        template = _WITHOUT.get(told.situation, _NO_VERDICT)[place]
        return template.format(**words, why=_WHY.get(told.change, _TOO_LITTLE)[place]) + "."
    said = moved(told.objective, told.currency, told.change, language)
    first = _OPENING[told.situation][place].format(**words, moved=said)
    return first + _weekly(told, language) + "." + _undecided(told, language) + _gap(told, language)


def _broken(told: Told, language: Language) -> str:
    one, several = _BROKEN[language]
    names = _joined(told, told.broken, language) if told.broken else ""
    return (several if len(told.broken) > 1 else one).format(names, control=told.control)


def _undecided(told: Told, language: Language) -> str:
    if not told.undecided or told.situation not in _SOUNDS_WELL:
        return ""
    one, several = _UNDECIDED[language]
    return (several if len(told.undecided) > 1 else one).format(_joined(told, told.undecided, language))


def _joined(told: Told, metrics: Sequence[str], language: Language) -> str:
    """The metrics' names: one, two, or three and more."""
    *names, last = [metric_in_words(key, told.unit, language) for key in metrics]
    return f"{', '.join(names)} {_AND[language]} {last}" if names else last


def _weekly(told: Told, language: Language) -> str:
    if told.weekly is None:
        return ""
    more, less = _WEEKLY[language]
    amount = money(abs(told.weekly.value), told.currency, language)
    if amount == money(0.0, told.currency, language):
        return ""
    ends = (money(end, told.currency, language, signed=True) for end in (told.weekly.low, told.weekly.high))
    return (more if told.weekly.value > 0 else less).format(amount, *ends)


def _gap(told: Told, language: Language) -> str:
    if told.gap is None:
        return ""
    place = list(Language).index(language)
    (revenue, sold), (margin, earned) = told.gap
    template = (_GROSS if sold.value > 0 else _NET)[place]
    return " " + template.format(
        revenue=metric_in_words(revenue.key, told.unit, language),
        margin=metric_in_words(margin.key, told.unit, language),
        up=moved(revenue, told.currency, sold, language, with_interval=False),
        down=moved(margin, told.currency, earned, language, with_interval=False),
    )
