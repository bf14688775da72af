"""The part of the document's JSON Schema that says how units are shared out, and when to stop."""

from experiments.document_features import DRAWS, FEATURES
from experiments.document_safety import BREAKERS, RAMP
from experiments.model import DelayHandling, Discounting, PolicyKind, StopAction, TotalsModel
from experiments.schema_parts import (
    COUNT,
    DURATION,
    FRACTION,
    INSTANT,
    KEY,
    MONEY,
    POSITIVE,
    REAL,
    Json,
    choice,
    closed,
    described,
    nullable,
)

PRIOR: Json = {
    **closed(
        {
            "alpha": described(nullable(POSITIVE), "Beta: successes, of a proportion.", default=None),
            "beta": described(nullable(POSITIVE), "Beta: failures, of a proportion.", default=None),
            "mean": described(
                nullable(REAL), "Normal-inverse-gamma: the mean, in the metric's unit.", default=None
            ),
            "kappa": described(
                nullable(POSITIVE), "Normal-inverse-gamma: units the mean is worth.", default=None
            ),
            "nu": described(
                nullable(POSITIVE), "Normal-inverse-gamma: units the scale is worth.", default=None
            ),
            "scale": described(
                nullable(POSITIVE), "Normal-inverse-gamma: a variance, unit squared.", default=None
            ),
        },
        "In place of the default prior: alpha and beta for a proportion, the other four for a mean.",
        default=None,
    ),
    "type": ["object", "null"],
}

WARM_VARIANT = closed(
    {
        "experiment": described(KEY, "The experiment that knows it, of the same store."),
        "variant": described(KEY, "Its variant there: the same offer, or a similar one."),
        "discount": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 1,
            "default": 1,
            "description": "What each of its units counts for here: 1 as much as one of our own.",
            "x-remedy": "write a number above 0 and at most 1, e.g. 0.2: five of its units count as one",
        },
    },
    "Whose results a variant begins with.",
    required=("experiment", "variant"),
)

WARM_START: Json = {
    **closed(
        {
            "shares": {
                "type": ["object", "null"],
                "description": "Expert's P(best) by variant key, summing to 1.",
                "propertyNames": KEY,
                "maxProperties": 128,
                "additionalProperties": {
                    "type": "number",
                    "minimum": 0.001,
                    "maximum": 0.999,
                    "x-remedy": "write a share from 0.001 to 0.999: surer than that nobody can be unlearnt",
                },
                "default": None,
            },
            "units": {
                "type": ["number", "null"],
                "minimum": 4,
                "maximum": 1e9,
                "default": None,
                "description": "How many units of each variant the shares are worth; required with them.",
                "x-remedy": "write the units each variant's expectation is worth, at least 4",
            },
            "rate": {
                "type": ["number", "null"],
                "exclusiveMinimum": 0,
                "exclusiveMaximum": 1,
                "default": None,
                "description": "The control's expected rate; with shares, where a proportion is raised.",
                "x-remedy": "write a rate between 0 and 1, e.g. 0.03",
            },
            "variants": {
                "type": "object",
                "description": "By variant: that of a past experiment whose results it begins with.",
                "propertyNames": KEY,
                "maxProperties": 128,
                "additionalProperties": WARM_VARIANT,
                "default": {},
            },
        },
        "What is known before the first unit, for the shares only: the report keeps its own priors.",
        default=None,
    ),
    "type": ["object", "null"],
}

POLICY = closed(
    {
        "kind": choice(
            PolicyKind,
            "How shares are set: as written, or by P(best), for all, by segment or by context.",
            default=PolicyKind.FIXED.value,
        ),
        "objective": described(KEY, "The metric to raise: built-in or custom.", default="margin_per_unit"),
        "control_share": described(
            FRACTION, "Share the control has at least.", exclusiveMinimum=0, exclusiveMaximum=1, default=0.1
        ),
        "floor": described(FRACTION, "Share every live variant has at least.", default=0.02),
        "cadence": described(DURATION, "How often shares may be recomputed.", default="60s"),
        "burn_in": described(COUNT, "Units every variant gets before shares follow the data.", default=200),
        "discount_half_life": described(
            nullable(DURATION), "Age at which a cohort counts half; null counts all alike.", default=None
        ),
        "discount": choice(
            Discounting,
            "Discount by the half-life from the start, or from the first drift alarm on.",
            default=Discounting.ALWAYS.value,
        ),
        "shares": {
            "type": ["object", "null"],
            "description": "Fixed shares by variant key, summing to 1; null is equal shares.",
            "propertyNames": KEY,
            "maxProperties": 128,
            "additionalProperties": FRACTION,
            "default": None,
        },
        "prior": PRIOR,
        "warm_start": WARM_START,
        "ramp": RAMP,
        "breakers": BREAKERS,
        "features": FEATURES,
        "draws": DRAWS,
        "delay": choice(
            DelayHandling,
            "Learn from units whose window is over, or from all, corrected for how late outcomes come.",
            default=DelayHandling.MATURED.value,
        ),
        "model": choice(
            TotalsModel,
            "Money per unit by the mean's Student-t, or by a hurdle: zeros, signs, log-normal sizes.",
            default=TotalsModel.STUDENT_T.value,
        ),
    },
    "How units are shared out among the variants.",
    default={},
)

STOP_RULE = closed(
    {
        "value_remaining_below": described(
            nullable(MONEY), "Money still to be won per week, minor units.", default=None
        ),
        "loss_below": described(
            {"type": ["number", "null"], "minimum": 0, "maximum": 1e15},
            "Expected loss of the leader, in the objective's unit.",
            default=None,
        ),
        "prob_best_above": described(
            {"type": ["number", "null"], "minimum": 0.5, "exclusiveMaximum": 1},
            "P(best) of the leader.",
            default=None,
            **{"x-remedy": "write a probability from 0.5 to below 1, e.g. 0.99"},
        ),
        "futility_below": described(
            {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 0.5},
            "P(any variant is better than control by more than the rope).",
            default=None,
            **{"x-remedy": "write a probability above 0 and at most 0.5, e.g. 0.05"},
        ),
        "rope": described(
            FRACTION,
            "The relative change that does not matter, for futility.",
            exclusiveMaximum=1,
            default=0.01,
        ),
        "at": described(nullable(INSTANT), "A date.", default=None),
        "action": choice(
            StopAction,
            "Say so, or also give the leader all but the control's share.",
            default=StopAction.RECOMMEND.value,
        ),
    },
    "When there is nothing more to learn; whichever comes first.",
    default={},
)
