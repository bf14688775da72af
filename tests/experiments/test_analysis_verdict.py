import itertools

import pytest

from experiments.analysis.verdict import Facts, VerdictKind, judge
from experiments.model import VerdictSettings

SETTINGS = VerdictSettings()
TOXIC, HARMFUL, HEALTHY, SAME, PROMISING, INSUFFICIENT = VerdictKind


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # prob_up, prob_aov_up, within rope, P(beyond throttle) of each guardrail, treatments
        (Facts(0.999, 0.999, 0.0, (0.96,), 1), TOXIC),
        (Facts(0.001, 0.999, 0.0, (0.96,), 1), TOXIC),  # first in order: it also loses money
        (Facts(0.001, 0.5, 0.0, (0.01,), 1), HARMFUL),
        (Facts(0.5, 0.5, 0.0, (0.01, 0.96), 1), HARMFUL),  # any guardrail
        (Facts(0.999, None, 0.0, (0.96,), 1), HARMFUL),
        (Facts(0.98, 0.5, 0.0, (0.01, 0.05), 1), HEALTHY),
        (Facts(0.98, 0.5, 0.0, (), 1), HEALTHY),
        (Facts(0.98, 0.5, 0.0, (0.06,), 1), PROMISING),  # not held: 0.94
        (Facts(0.98, 0.5, 0.0, (None,), 1), PROMISING),  # an unknown guardrail is not held
        (Facts(0.98, 0.5, 0.0, (0.01,), 2), PROMISING),  # two treatments: 0.9875 is due
        (Facts(0.99, 0.5, 0.0, (0.01,), 2), HEALTHY),
        (Facts(0.98, 0.5, 0.96, (0.5,), 1), SAME),
        (Facts(0.5, 0.5, 0.95, (0.01,), 1), SAME),
        (Facts(0.90, 0.5, 0.5, (0.5,), 1), PROMISING),
        (Facts(0.89, 0.5, 0.5, (0.5,), 1), INSUFFICIENT),
        (Facts(None, 0.999, None, (0.5,), 1), INSUFFICIENT),
        (Facts(None, 0.999, None, (0.97,), 1), TOXIC),
        (Facts(0.5, 0.5, None, (0.5,), 1), INSUFFICIENT),
    ],
)
def test_the_rule_and_its_order(facts, expected):
    assert judge(facts, SETTINGS)[0] is expected


def test_every_combination_has_one_verdict_and_better_objectives_never_read_worse():
    """Raising P(up) alone never moves a verdict towards harm."""
    rank = {HARMFUL: 0, TOXIC: 0, INSUFFICIENT: 1, SAME: 1, PROMISING: 2, HEALTHY: 3}
    levels = (0.0, 0.02, 0.5, 0.91, 0.98, 1.0)
    for aov, broken, treatments in itertools.product(levels, levels, (1, 2, 5)):
        kinds = [rank[judge(Facts(up, aov, 0.0, (broken,), treatments), SETTINGS)[0]] for up in levels]
        assert kinds == sorted(kinds)


def test_what_is_promising_for_its_guardrails_alone_says_so():
    assert judge(Facts(0.98, 0.5, 0.0, (0.06,), 1), SETTINGS)[1] == "guardrails_undecided"
    assert judge(Facts(0.97, 0.5, 0.0, (0.06,), 1), SETTINGS)[1] == "objective_probably_up"


def test_thresholds_are_settings():
    facts = Facts(0.93, 0.5, 0.0, (0.01,), 1)
    assert judge(facts, SETTINGS)[0] is PROMISING
    assert judge(facts, VerdictSettings(tail=0.10))[0] is HEALTHY
