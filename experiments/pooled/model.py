"""A stage as a PyMC model; see `stages` for what it says.

Each group, slope and treatment is partially centred: z ~ Normal(w parent, spread^w) and the parameter is
(1 - w) parent + spread^(1 - w) z, which is Normal(parent, spread) whatever w is.
"""

from typing import Any

import pymc
import pytensor.tensor

from experiments.pooled.stages import SPREAD_LOG_SD, Kind, Stage

pm: Any = pymc  # whose graphs are typed as anything's base
pt: Any = pytensor.tensor


def model_of(stage: Stage) -> Any:
    """The PyMC model of a stage; data sets and priors of one layout share its compiled form."""
    layout = stage.layout
    treatments, is_wide = len(layout.variants) - 1, len(layout.places) > 1
    with pm.Model() as model:
        data = _unpacked(pm.Data("data", stage.packed), stage)
        level = pm.Normal("level", data["level_prior"][0], data["level_prior"][1])
        log_spread = pm.Normal("log_spread", pt.log(data["medians"]), SPREAD_LOG_SD, shape=len(stage.medians))
        spread = pm.Deterministic("spread", pt.exp(log_spread))
        base = _centred("base", level, spread[0], data["w_groups"], len(layout.groups))
        main = _centred("treatment", 0.0, spread[1], data["w_mains"], treatments)
        pm.Deterministic("main", main)
        parent = main[layout.slope_variant]
        if is_wide:
            at = spread[3] * pm.Normal("z_at", shape=(treatments, len(layout.places)))
            parent = parent + at[layout.slope_variant, layout.slope_place]
        effect = _centred("effect", parent, spread[2], data["w_slopes"], len(layout.slopes))
        padded = pt.concatenate([pt.zeros(1), effect])
        eta = pm.Deterministic("eta", base[layout.group] + padded[layout.slope])
        if stage.kind is Kind.BINOMIAL:
            pm.Potential("likelihood", (data["s1"] * eta - data["n"] * pt.softplus(eta)).sum())
        else:
            median, sd = data["width_prior"][0], data["width_prior"][1]
            log_width = pm.Normal("log_width", pt.log(median), sd, shape=treatments + 1)
            width = pm.Deterministic("width", pt.exp(log_width))[layout.variant]
            likelihood = _log_normal if stage.kind is Kind.LOG_NORMAL else _gamma
            pm.Potential("likelihood", likelihood(eta, width, data["n"], data["s1"], data["s2"]).sum())
    return model


def _unpacked(flat: Any, stage: Stage) -> dict[str, Any]:
    """The named parts of `Stage.packed`."""
    parts: dict[str, Any] = {}
    start = 0
    for name, value in stage.inputs.items():
        parts[name] = flat[start : start + len(value)]
        start += len(value)
    return parts


def _centred(name: str, parent: Any, spread: Any, weight: Any, size: int) -> Any:
    z = pm.Normal(f"z_{name}", weight * parent, spread**weight, shape=size)
    return (1.0 - weight) * parent + spread ** (1.0 - weight) * z


def _log_normal(eta: Any, sigma: Any, n: Any, logs: Any, squares: Any) -> Any:
    deviations = squares - 2.0 * eta * logs + n * eta**2
    return -n * pt.log(sigma) - deviations / (2.0 * sigma**2)


def _gamma(eta: Any, shape: Any, n: Any, logs: Any, total: Any) -> Any:
    constant = shape * (pt.log(shape) - eta) - pt.gammaln(shape)
    return n * constant + (shape - 1.0) * logs - shape * pt.exp(-eta) * total
