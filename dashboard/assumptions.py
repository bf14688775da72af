"""What the objective's change would be with less noise, without doubtful visitors, or with another prior."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import estimates, markup, reading, words
from dashboard.estimates import Estimate

Json: TypeAlias = dict[str, Any]

_ADJUSTED = {
    "cuped": (
        "Without what differed before",
        "CUPED: takes out what visitors brought in during the 30 days before.",
    ),
    "post_stratified": (
        "With the same mix of segments",
        "Post-stratified: every variant's segments count as they do among all visitors.",
    ),
}
_CROSSED = ("Without those seen in two variants", "Should agree, unless many people have two devices.")
_PRIORS = {
    "default": ("Knowing next to nothing before", "The default prior, worth about one visitor."),
    "flat": ("Knowing nothing before", "The figures alone, with their standard errors."),
    "sceptical": (
        "Doubting that offers matter",
        "The sceptic's prior: before any data, two changes in three lie within 5\u202f% of control.",
    ),
}
_KINDS = {
    "default": "the default prior, worth about one visitor",
    "flat": "no prior: they say what the data say",
    "expert": "the prior that the experiment's document states",
}
_GAIN = 0.005
"""Of the variance saved below which nothing is worth saying."""


def section(document: Json, report: Json, variant: str) -> None:
    """Folded away: the objective's change by adjusted estimators and with other priors."""
    key = estimates.objective(report)
    about = reading.metric_words(document, str(report.get("unit") or "visitor"), key)
    block, currency = reading.block(reading.variant(report, variant), key), str(report.get("currency") or "")
    less_noise, missing, priors = adjusted(block), not_adjusted(block), sensitivity(block)
    if not (less_noise or missing or priors):
        return
    with st.expander("Would less noise, or other assumptions, change the answer?"):
        if less_noise:
            st.html(
                markup.heading(
                    "Told another way", "The same change, by methods that take noise or doubt out."
                )
            )
            st.html(estimates.bars(less_noise, about, currency))
        if missing:
            st.html(markup.hints(missing))
        if priors:
            st.html(markup.heading("With another prior", prior_words(block)))
            st.html(estimates.bars(priors, about, currency))


def adjusted(block: Json) -> list[Estimate]:
    """The lifts of CUPED, post-stratification and without crossover, each with the visitors it saves."""
    found: list[Estimate] = []
    for name, (title, note) in _ADJUSTED.items():
        one = cast("Json", block.get(name) or {})
        lift = reading.interval(one.get("lift_abs"), reading.reason(one))
        if lift.value is not None:
            found.append(Estimate(title, f"{note} {saved(reading.number(one.get('variance_saved')))}", lift))
    crossed = cast("Json", block.get("without_crossover") or {})
    if crossed:
        title, note = _CROSSED
        found.append(
            Estimate(title, note, reading.interval(crossed.get("lift_abs"), reading.reason(crossed)))
        )
    return found


def not_adjusted(block: Json) -> list[str]:
    """Why an adjusted lift cannot be had, a sentence each."""
    found: list[str] = []
    for name, (title, _) in _ADJUSTED.items():
        reason = reading.reason(cast("Json", block.get(name) or {}))
        if reason is not None:
            found.append(f"{title}: not to be had. {words.reason(reason)}")
    return found


def saved(share: float | None) -> str:
    """What a smaller variance is worth, in visitors."""
    if share is None:
        return ""
    if share < _GAIN:
        return "It saves nothing here."
    return f"As sure as with {words.percent(1 / (1 - share) - 1, places=0)} more visitors."


def sensitivity(block: Json) -> list[Estimate]:
    """The lift with each prior, and how probably the variant is then the best."""
    found: list[Estimate] = []
    for name, one in cast("dict[str, Json]", block.get("sensitivity") or {}).items():
        title, note = _PRIORS.get(name, (words.spoken(name), ""))
        best = reading.number(one.get("prob_best"))
        odds = "" if best is None else f" P(best) {words.probability(best)}."
        found.append(Estimate(title, f"{note}{odds}", reading.interval(one.get("lift_abs"))))
    return found


def prior_words(block: Json) -> str:
    """Which prior the figures above rest on, and what it means when the rows disagree."""
    prior = cast("Json", block.get("prior") or {})
    kind, source = str(prior.get("kind") or ""), cast("Json", prior.get("source") or {})
    if source:
        by = f"what {source.get('variant')} of the experiment {source.get('experiment')} found"
        discount = reading.number(source.get("discount"))
        if discount is not None:
            by += f", its visitors counting {words.percent(discount, places=0)} each"
    else:
        by = _KINDS.get(kind, words.spoken(kind).lower())
    missing = f" The one asked for cannot be had: {words.reason(reading.reason(prior))}"
    rest = f"The figures above rest on {by}." if by else ""
    told = f"{rest}{missing if prior.get('reason') else ''}"
    return f"{told} Where these rows disagree, it is the prior that speaks, not yet the data.".strip()
