"""The experiment document: read, and written back in its canonical form.

`parse_document` names every fault at once; `to_document` is its canonical inverse; documents that mean
the same give equal experiments, which is how `apply` knows that there is nothing to do.
"""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from experiments.document_changes import check_change
from experiments.document_features import features_document, features_of
from experiments.document_reading import priors_of, reading_document, verdict_of
from experiments.document_rules import rule_faults
from experiments.document_safety import breakers_of, ramp_of, safety_document
from experiments.document_schema import experiment_schema
from experiments.eligibility import conditions_of, mapping_of
from experiments.errors import FieldError, InvalidDocument
from experiments.json_schema import check
from experiments.model import (
    Anchor,
    CustomMetric,
    DelayHandling,
    Direction,
    Discounting,
    Experiment,
    Guardrail,
    MetricKind,
    Offer,
    OfferKind,
    PolicyKind,
    PolicySettings,
    Prior,
    StopAction,
    StopRule,
    TotalsModel,
    UnitKind,
    Variant,
    WarmSource,
    WarmStart,
    Winsorise,
)
from experiments.times import format_duration, format_instant, parse_duration, parse_instant

__all__ = ["check_change", "experiment_schema", "parse_document", "to_document"]

_Document = Mapping[str, Any]
_SCHEMA = experiment_schema()


def parse_document(document: Mapping[str, Any], *, currency_default: str | None = None) -> Experiment:
    """Read a document; InvalidDocument carries every fault, each with its pointer and remedy.

    `currency_default` is the store's currency, for a document that names none.
    """
    faults: list[FieldError] = []
    cleaned = check(_SCHEMA, document, "", faults)
    if isinstance(cleaned, dict):
        if cleaned.get("currency", "faulty") is None:
            cleaned["currency"] = currency_default
        faults = [*faults, *rule_faults(cleaned)]
    if faults:
        raise InvalidDocument(tuple(faults))
    return _experiment(cleaned)


def to_document(experiment: Experiment) -> dict[str, Any]:
    """Write the canonical document: every default explicit, parsing it gives the experiment back."""
    again = experiment.reassign_after
    return {
        "key": experiment.key,
        "name": experiment.name,
        "hypothesis": experiment.hypothesis,
        "touchpoint": experiment.touchpoint,
        "unit": experiment.unit.value,
        "currency": experiment.currency,
        "anchor": experiment.anchor.value,
        "attribution_window": format_duration(experiment.attribution_window),
        "refund_window": format_duration(experiment.refund_window),
        "reassign_after": "never" if again is None else format_duration(again),
        "audience": mapping_of(experiment.audience),
        "policy": _policy_document(experiment.policy),
        "variants": [_variant_document(variant) for variant in experiment.variants],
        "guardrails": [
            {"metric": rail.metric, "warn": rail.warn, "throttle": rail.throttle, "kill": rail.kill}
            for rail in experiment.guardrails
        ],
        "metrics": [_metric_document(metric) for metric in experiment.metrics],
        "winsorise": experiment.winsorise
        and {"lower": experiment.winsorise.lower, "upper": experiment.winsorise.upper},
        "priority": experiment.priority,
        "layer": experiment.layer,
        "stop_rule": _stop_document(experiment.stop_rule),
        **reading_document(experiment.verdict, experiment.priors),
        "salt": experiment.salt,
    }


def _experiment(cleaned: _Document) -> Experiment:
    again = cleaned["reassign_after"]
    return Experiment(
        key=cleaned["key"],
        touchpoint=cleaned["touchpoint"],
        currency=cleaned["currency"],
        variants=tuple(_variant(item) for item in cleaned["variants"]),
        name=cleaned["name"],
        hypothesis=cleaned["hypothesis"],
        unit=UnitKind(cleaned["unit"]),
        anchor=Anchor(cleaned["anchor"]),
        attribution_window=parse_duration(cleaned["attribution_window"]),
        refund_window=parse_duration(cleaned["refund_window"]),
        reassign_after=None if again == "never" else parse_duration(again),
        audience=conditions_of(cleaned["audience"]),
        policy=_policy(cleaned["policy"]),
        guardrails=tuple(_guardrail(item) for item in cleaned["guardrails"]),
        metrics=tuple(_metric(item) for item in cleaned["metrics"]),
        winsorise=None if cleaned["winsorise"] is None else Winsorise(**_reals(cleaned["winsorise"])),
        priority=cleaned["priority"],
        layer=cleaned["layer"],
        stop_rule=_stop_rule(cleaned["stop_rule"]),
        verdict=verdict_of(cleaned["verdict"]),
        priors=priors_of(cleaned["priors"]),
        salt=cleaned["salt"] or cleaned["key"],
    )


def _variant(item: _Document) -> Variant:
    offer = item["offer"]
    return Variant(
        key=item["key"],
        is_control=item["is_control"],
        offer=Offer(
            kind=OfferKind(offer["kind"]),
            sku=offer["sku"],
            price_minor=offer["price"],
            cost_minor=offer["cost"],
            headline=offer["headline"],
            benefit=offer["benefit"],
            payload=dict(offer["payload"]),
            category=offer["category"],
        ),
    )


def _policy(item: _Document) -> PolicySettings:
    return PolicySettings(
        kind=PolicyKind(item["kind"]),
        objective=item["objective"],
        control_share=float(item["control_share"]),
        floor=float(item["floor"]),
        cadence=parse_duration(item["cadence"]),
        burn_in=item["burn_in"],
        discount_half_life=_duration(item["discount_half_life"]),
        shares=None if item["shares"] is None else _reals(item["shares"]),
        prior=_prior(item["prior"]),
        warm_start=_warm_start(item["warm_start"]),
        ramp=ramp_of(item["ramp"]),
        breakers=breakers_of(item["breakers"]),
        features=features_of(item["features"]),
        draws=item["draws"],
        discount=Discounting(item["discount"]),
        delay=DelayHandling(item["delay"]),
        model=TotalsModel(item["model"]),
    )


def _warm_start(item: _Document | None) -> WarmStart | None:
    if item is None:
        return None
    sources = {
        key: WarmSource(source["experiment"], source["variant"], float(source["discount"]))
        for key, source in item["variants"].items()
    }
    return WarmStart(
        shares=None if item["shares"] is None else _reals(item["shares"]),
        units=_real(item["units"]),
        rate=_real(item["rate"]),
        variants=sources,
    )


def _stop_rule(item: _Document) -> StopRule:
    return StopRule(
        value_remaining_below=item["value_remaining_below"],
        loss_below=_real(item["loss_below"]),
        prob_best_above=_real(item["prob_best_above"]),
        futility_below=_real(item["futility_below"]),
        rope=float(item["rope"]),
        at=None if item["at"] is None else parse_instant(item["at"]),
        action=StopAction(item["action"]),
    )


def _guardrail(item: _Document) -> Guardrail:
    return Guardrail(item["metric"], float(item["warn"]), float(item["throttle"]), float(item["kill"]))


def _metric(item: _Document) -> CustomMetric:
    return CustomMetric(
        key=item["key"],
        kind=MetricKind(item["kind"]),
        event=item["event"],
        window=_duration(item["window"]),
        direction=Direction(item["direction"]),
        prior=_prior(item["prior"]),
    )


def _prior(item: _Document | None) -> Prior | None:
    return None if item is None else Prior(**_reals(item))


def _reals(members: Mapping[str, float | None]) -> dict[str, Any]:
    # 1 and 1.0 mean the same where a fraction is due, and must be written alike.
    return {name: _real(value) for name, value in members.items()}


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


def _duration(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)


def _policy_document(policy: PolicySettings) -> dict[str, Any]:
    half_life = policy.discount_half_life
    return {
        "kind": policy.kind.value,
        "objective": policy.objective,
        "control_share": policy.control_share,
        "floor": policy.floor,
        "cadence": format_duration(policy.cadence),
        "burn_in": policy.burn_in,
        "discount_half_life": None if half_life is None else format_duration(half_life),
        **_present({"shares": policy.shares and dict(policy.shares), "prior": _prior_document(policy.prior)}),
        **_present({"warm_start": _warm_document(policy.warm_start)}),
        **safety_document(policy.ramp, policy.breakers),
        **features_document(policy),
        **_chosen("discount", policy.discount, Discounting.ALWAYS),
        **_chosen("delay", policy.delay, DelayHandling.MATURED),
        **_chosen("model", policy.model, TotalsModel.STUDENT_T),
    }


def _warm_document(warm: WarmStart | None) -> dict[str, Any] | None:
    if warm is None:
        return None
    sources = {
        key: {"experiment": source.experiment, "variant": source.variant, "discount": source.discount}
        for key, source in warm.variants.items()
    }
    expert = {"shares": warm.shares and dict(warm.shares), "units": warm.units, "rate": warm.rate}
    return _present({**expert, "variants": sources or None})


def _stop_document(rule: StopRule) -> dict[str, Any]:
    return {
        "value_remaining_below": rule.value_remaining_below,
        "loss_below": rule.loss_below,
        "prob_best_above": rule.prob_best_above,
        "futility_below": rule.futility_below,
        "rope": rule.rope,
        "at": rule.at and format_instant(rule.at),
        "action": rule.action.value,
    }


def _variant_document(variant: Variant) -> dict[str, Any]:
    offer = variant.offer
    members = {
        "sku": offer.sku,
        "price": offer.price_minor,
        "cost": offer.cost_minor,
        "category": offer.category,
        "headline": offer.headline,
        "benefit": offer.benefit,
        "payload": dict(offer.payload) or None,
    }
    return {
        "key": variant.key,
        "is_control": variant.is_control,
        "offer": {"kind": offer.kind.value, **_present(members)},
    }


def _metric_document(metric: CustomMetric) -> dict[str, Any]:
    window = None if metric.window is None else format_duration(metric.window)
    return {
        "key": metric.key,
        "kind": metric.kind.value,
        "event": metric.event,
        "direction": metric.direction.value,
        **_present({"window": window, "prior": _prior_document(metric.prior)}),
    }


def _prior_document(prior: Prior | None) -> dict[str, Any] | None:
    if prior is None:
        return None
    names = ("alpha", "beta", "mean", "kappa", "nu", "scale")
    return _present({name: getattr(prior, name) for name in names})


def _chosen(name: str, value: StrEnum, default: StrEnum) -> dict[str, str]:
    """A choice younger than the documents in store, which do not have it: written when it was made."""
    return {} if value is default else {name: value.value}


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
