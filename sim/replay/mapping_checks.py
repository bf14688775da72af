"""What a mapping's fields must agree on, once each has been read."""

from datetime import timedelta

from experiments.model import Experiment, UnitKind
from sim.replay.mapping import LoggedArm, Mode, ReplayMapping


def faults_of(mapping: ReplayMapping) -> list[str]:
    """Every contradiction between the mapping's fields."""
    problems: list[str] = []
    experiment, arm = mapping.experiment, mapping.arm
    if mapping.step <= timedelta(0):
        problems.append("step: must be longer than nothing")
    if mapping.mode is not Mode.EVENTS and (mapping.document is None or arm is None):
        problems.append(f"mode: {mapping.mode} needs an experiment and an arm")
    if mapping.mode is Mode.EVENTS and (mapping.document is None) != (arm is None):
        problems.append("mode: events takes an experiment and an arm together, or neither")
    if mapping.mode is Mode.EVENTS and isinstance(arm, LoggedArm):
        problems.append("arm: mode events knows no logged arm; use split, or mode forced")
    if experiment is not None:
        _check_arms(mapping, experiment, problems)
    if (mapping.cancellations is not None) and mapping.orders is None:
        problems.append("cancellations: need orders to cancel")
    if mapping.orders is not None and (mapping.mode is not Mode.EVENTS or mapping.events):
        problems.append("orders: invoices of lines are for mode events, without events of their own")
    if not mapping.events and mapping.orders is None:
        problems.append("events: nothing to send; give events, or orders")
    return problems


def _check_arms(mapping: ReplayMapping, experiment: Experiment, problems: list[str]) -> None:
    arm = mapping.arm
    keys = {variant.key for variant in experiment.variants}
    used = set(arm.variants.values()) if isinstance(arm, LoggedArm) else set(arm.shares if arm else ())
    for key in sorted(used - keys):
        problems.append(f"arm: {key!r} is no variant of the experiment")
    if experiment.unit is UnitKind.REQUEST:
        problems.append("experiment/unit: a replay needs a unit that lasts: visitor, customer or session")
    if mapping.currency != experiment.currency:
        problems.append("currency: differs from the experiment's")
    if isinstance(arm, LoggedArm) and mapping.propensity is None and mapping.mode is Mode.FORCED:
        problems.append("propensity: say with which probability the file's arm was drawn")
    if mapping.mode is Mode.REJECTION:
        _check_rejection(mapping, experiment, problems)


def _check_rejection(mapping: ReplayMapping, experiment: Experiment, problems: list[str]) -> None:
    """Keeping the rows that agree is unbiased only when every arm was logged equally often."""
    if not isinstance(mapping.arm, LoggedArm):
        problems.append("arm: mode rejection needs the file's logged arm")
    elif set(mapping.arm.variants.values()) != {variant.key for variant in experiment.variants}:
        problems.append("arm/variants: mode rejection needs every variant of the experiment in the file")
    logged = mapping.propensity.constant if mapping.propensity else None
    if logged is None or abs(logged * len(experiment.variants) - 1) > 1e-6:
        problems.append(
            f"propensity: mode rejection needs a log drawn evenly, here 1/{len(experiment.variants)} for all"
        )
