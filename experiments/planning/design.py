"""From an experiment's document to the question of a plan."""

from experiments.model import Experiment, PolicyKind
from experiments.planning.baselines import Baseline
from experiments.planning.contrasts import Split, even_split
from experiments.planning.plan import Question


def question_of(experiment: Experiment, baseline: Baseline, visitors_per_day: float) -> Question:
    """The document's objective, shares, thresholds, windows and guardrails, with what is assumed of the shop.

    Shares of an adaptive policy are those it begins with: the control's and equal treatments.
    """
    adapts = experiment.policy.kind is not PolicyKind.FIXED
    return Question(
        objective=experiment.policy.objective,
        baseline=baseline,
        visitors_per_day=visitors_per_day,
        split=split_of(experiment),
        treatments=len(experiment.variants) - 1,
        verdict=experiment.verdict,
        attribution_window=experiment.attribution_window,
        refund_window=experiment.refund_window,
        guardrails=experiment.guardrails,
        floor=experiment.policy.floor if adapts else None,
    )


def split_of(experiment: Experiment) -> Split:
    """The control's share and that of the treatment that has least; a fixed policy's as written."""
    settings, count = experiment.policy, len(experiment.variants)
    if settings.kind is not PolicyKind.FIXED:
        return even_split(count, settings.control_share)
    if settings.shares is None:
        return even_split(count)
    total, control = sum(settings.shares.values()), experiment.control.key
    rest = [share for key, share in settings.shares.items() if key != control and share > 0]
    return Split(settings.shares[control] / total, min(rest) / total)
