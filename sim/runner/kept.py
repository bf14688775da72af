"""Which sums the cells of a run must hold: what its allocator and its looks at the verdict read.

The service keeps every product of two features, for metrics that somebody may ask for later. In a run nobody
can, and most of the time and the memory of a large one would go there.
"""

from experiments.allocation.features import Columns
from experiments.analysis.cuped import COVARIATE
from experiments.analysis.expected_final import FEATURES
from experiments.analysis.metrics import metric_definitions
from experiments.model import Experiment, PolicyKind
from sim.runner.contexts import divided
from sim.runner.moments import Kept, all_pairs
from sim.runner.vectors import MONTHS, VECTOR

VERDICT = ("aov", "revenue_per_unit", "margin_per_unit")
"""Metrics that a verdict reads besides the objective and the guardrails."""
COUNTED = ("exposed", "clicked", "took", "orders", "refunded_orders", "carts", "ratings")
"""Features of which a check of the report reads the squares."""


def kept_for(experiment: Experiment) -> Kept:
    """What a run of the experiment reads (a test holds it to a run that keeps everything).

    >>> from datetime import timedelta
    >>> plain = kept_for(Experiment("key", "checkout", "EUR", ()))
    >>> len(plain.pairs), plain.has_any(MONTHS)
    (71, False)
    """
    definitions = metric_definitions(experiment)
    metrics = {experiment.policy.objective, *VERDICT, *(one.metric for one in experiment.guardrails)}
    read = [one for key in sorted(metrics) for one in (definitions[key], definitions[key].winsorised)]
    terms = [{"units"} | one.numerator.keys() | one.denominator.keys() for one in read]
    crossed = {COVARIATE, *FEATURES}.union(*terms)
    names = [name for name in VECTOR if name in crossed]
    squares = tuple((name, name) for name in COUNTED if name not in crossed)
    features = tuple(name for name in VECTOR if name not in MONTHS or name in crossed)
    kept = Kept(features, all_pairs(names) + squares)
    if experiment.policy.kind is not PolicyKind.CONTEXTUAL:
        return kept
    contexts = [name for name, _ in Columns(experiment.policy.features).all_contexts()]
    in_context = tuple((context, name) for context in contexts for name in names)
    parts = [divided([name for name in VECTOR if name in some]) for some in ({"exposed"}, *terms)]
    weighed = tuple(dict.fromkeys(pair for part in parts for pair in all_pairs(part)))
    over = tuple(dict.fromkeys(name for part in parts for name in part))
    return Kept((*features, *contexts, *over), (*kept.pairs, *in_context, *weighed))
