"""What a mapping's fields must agree on, once each has been read."""

from datetime import timedelta

from experiments.model import Experiment, UnitKind
from sim.replay.mapping import LoggedVariant, Mode, ReplayMapping


def faults_of(mapping: ReplayMapping) -> list[str]:
    """Every contradiction between the mapping's fields."""
    problems: list[str] = []
    experiment, variant = mapping.experiment, mapping.variant
    if mapping.step <= timedelta(0):
        problems.append("step: must be longer than nothing")
    if mapping.mode is not Mode.EVENTS and (mapping.document is None or variant is None):
        problems.append(f"mode: {mapping.mode} needs an experiment and a variant")
    if mapping.mode is Mode.EVENTS and (mapping.document is None) != (variant is None):
        problems.append("mode: events takes an experiment and a variant together, or neither")
    if mapping.mode is Mode.EVENTS and isinstance(variant, LoggedVariant):
        problems.append("variant: mode events knows no logged variant; use split, or mode forced")
    if experiment is not None:
        _check_variants(mapping, experiment, problems)
    if (mapping.cancellations is not None) and mapping.orders is None:
        problems.append("cancellations: need orders to cancel")
    if mapping.orders is not None and (mapping.mode is not Mode.EVENTS or mapping.events):
        problems.append("orders: invoices of lines are for mode events, without events of their own")
    if not mapping.events and mapping.orders is None:
        problems.append("events: nothing to send; give events, or orders")
    return problems


def _check_variants(mapping: ReplayMapping, experiment: Experiment, problems: list[str]) -> None:
    variant = mapping.variant
    keys = {variant.key for variant in experiment.variants}
    used = (
        set(variant.keys.values())
        if isinstance(variant, LoggedVariant)
        else set(variant.shares if variant else ())
    )
    for key in sorted(used - keys):
        problems.append(f"variant: {key!r} is no variant of the experiment")
    if experiment.unit is UnitKind.REQUEST:
        problems.append("experiment/unit: a replay needs a unit that lasts: visitor, customer or session")
    if mapping.currency != experiment.currency:
        problems.append("currency: differs from the experiment's")
    if isinstance(variant, LoggedVariant) and mapping.propensity is None and mapping.mode is Mode.FORCED:
        problems.append("propensity: say with which probability the file's variant was drawn")
    if mapping.mode is Mode.REJECTION:
        _check_rejection(mapping, experiment, problems)


def _check_rejection(mapping: ReplayMapping, experiment: Experiment, problems: list[str]) -> None:
    """Keeping the rows that agree is unbiased only when every variant was logged equally often."""
    if not isinstance(mapping.variant, LoggedVariant):
        problems.append("variant: mode rejection needs the file's logged variant")
    elif set(mapping.variant.keys.values()) != {variant.key for variant in experiment.variants}:
        problems.append("variant/keys: mode rejection needs every variant of the experiment in the file")
    logged = mapping.propensity.constant if mapping.propensity else None
    if logged is None or abs(logged * len(experiment.variants) - 1) > 1e-6:
        problems.append(
            f"propensity: mode rejection needs a log drawn evenly, here 1/{len(experiment.variants)} for all"
        )
