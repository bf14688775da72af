"""The instrument tried on itself: variants that show the same can differ by chance alone.

An experiment whose variants have equal offers (all of kind `none`, or one offer copied) is an A/A test: the
document says it, without a setting. Of its intervals one in twenty leaves out 0 where nothing is wrong, and
more often of metrics that go together; so the check counts them, and warns only where one is off by what
chance gives once in a thousand A/A tests, split over all lifts (Bonferroni; metrics may depend as they like).
"""

from collections.abc import Callable, Iterator

from scipy import special

from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import Reading
from experiments.analysis.report import Check
from experiments.analysis.wording import metric_in_words
from experiments.model import Experiment

FALSE_ALARM = 1e-3
"""Chance that a sound instrument is warned about, over all lifts of the report."""


def identical_variants(experiment: Experiment) -> list[str]:
    """Treatments that show what control shows.

    >>> from experiments.model import NO_OFFER, Variant
    >>> arms = (Variant("a", NO_OFFER, is_control=True), Variant("b", NO_OFFER))
    >>> identical_variants(Experiment("k", "t", "EUR", arms))
    ['b']
    """
    offer = experiment.control.offer
    return [one.key for one in experiment.variants if not one.is_control and one.offer == offer]


def aa_check(experiment: Experiment, reading_of: Callable[[str], Reading]) -> Check | None:
    """What the variants that show the same differ in; None where there are none."""
    same = identical_variants(experiment)
    if not same:
        return None
    names = ", ".join(same)
    text = f"{names} and {experiment.control.key} show the same: what they differ in is chance or a fault"
    tests = list(_tests(experiment, same, reading_of))
    if not tests:
        return Check("aa", "info", f"{text}; nothing to compare yet")
    beyond = sum(tail < 0.025 for _, tail in tests)
    found = f"{text}; {beyond} of {len(tests)} lifts have 0 outside their 95 % interval (chance: 1 in 20)"
    if ranking := reading_of(experiment.policy.objective).ranking:
        best = max(ranking.prob_best, key=lambda arm: ranking.prob_best[arm])
        found += f", and {best} is best with probability {ranking.prob_best[best]:.2f}"
    least, tail = min(tests, key=lambda test: test[1])
    if tail >= FALSE_ALARM / (2 * len(tests)):
        return Check("aa", "ok", found)
    remedy = (
        "Trust no experiment of this shop before the cause is found: compare how the two variants are served "
        "and how their events are sent (redirects, caches, bots, double counting)."
    )
    return Check("aa", "warn", f"{found}; {least} is off by more than chance gives", remedy)


def _tests(
    experiment: Experiment, same: list[str], reading_of: Callable[[str], Reading]
) -> Iterator[tuple[str, float]]:
    """Of each metric and variant how far in a tail 0 lies: the least of P(lift < 0) and P(lift > 0)."""
    for metric in metric_definitions(experiment):
        reading = reading_of(metric)
        for key in same:
            if isinstance(pair := reading.pairs.get(key), Pair):
                spread = pair.treatment_posterior.variance + pair.control_posterior.variance
                score = abs(pair.treatment_posterior.mean - pair.control_posterior.mean) / spread**0.5
                yield f"{metric_in_words(metric, experiment.unit)} of {key}", float(special.ndtr(-score))
