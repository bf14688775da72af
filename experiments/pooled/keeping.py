"""An analysis as others read it: a plain document, ArviZ's own form, and columns for a table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from experiments.pooled.analyse import Analysis
from experiments.pooled.data import IntArray
from experiments.pooled.figures import CI_PROB, Lift, Span, VariantFigures
from experiments.pooled.sampling import Draws
from experiments.posteriors.protocol import FloatArray


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of texts, of which there are few: row i says `names[codes[i]]`."""

    names: Sequence[str]
    codes: IntArray


def document_of(found: Analysis) -> dict[str, Any]:
    """Everything but the draws, as plain values; a refused analysis has reasons and no figure."""
    return {
        "refused": [asdict(reason) for reason in found.refused],
        "order_value_law": found.law,
        "notes": list(found.notes),
        "ci_prob": CI_PROB,
        "stages": [asdict(stage) for stage in found.stages],
        "variants": [_variant(variant) for variant in found.variants],
        "segments": {key: [_variant(v) for v in variants] for key, variants in found.segments.items()},
    }


def arviz_of(found: Analysis) -> Any:
    """All draws with named coordinates, as ArviZ of this Python has them; `to_netcdf` writes them."""
    import arviz  # takes seconds, and only what is kept needs it

    names: dict[str, FloatArray] = {}
    dims: dict[str, list[str]] = {}
    coords: dict[str, Sequence[str]] = {}
    for stage, draws in found.draws.items():
        variants = list(draws.stage.layout.variants)  # a tuple has another meaning to xarray
        coords |= {"cell": _cells(draws), "variant": variants, "treatment": variants[1:]}
        coords["spread_of"] = list(_SPREADS[: draws.values["spread"].shape[-1]])
        for name, values in draws.values.items():
            names[f"{stage}_{name}"] = values
            dims[f"{stage}_{name}"] = _DIMS[name]
    # Version 1 takes groups in one mapping, version 0 each by its name.
    if int(arviz.__version__.partition(".")[0]) >= 1:
        return arviz.from_dict({"posterior": names}, coords=coords, dims=dims)
    return arviz.from_dict(posterior=names, coords=coords, dims=dims)


def columns_of(found: Analysis) -> dict[str, FloatArray | IntArray | Labels]:
    """The draws of every cell's stages as columns of one table: a row for each draw and cell."""
    columns: dict[str, FloatArray | IntArray | Labels] = {}
    for stage, draws in found.draws.items():
        chains, count, cells = draws.values["eta"].shape
        layout = draws.stage.layout
        segments = sorted({group.segment for group in layout.groups})
        segment = np.array([segments.index(group.segment) for group in layout.groups], dtype=np.int64)
        columns |= {
            "chain": np.repeat(np.arange(chains), count * cells),
            "draw": np.tile(np.repeat(np.arange(count), cells), chains),
            "cell": Labels(_cells(draws), np.tile(np.arange(cells), chains * count)),
            "variant": Labels(layout.variants, np.tile(layout.variant, chains * count)),
            "segment": Labels(segments, np.tile(segment[layout.group], chains * count)),
            f"{stage}_eta": draws.values["eta"].reshape(-1),
        }
        if "width" in draws.values:
            columns[f"{stage}_width"] = draws.values["width"][..., layout.variant].reshape(-1)
    return columns


_SPREADS = ("groups", "variants", "slopes", "places")
_DIMS: Mapping[str, list[str]] = {
    "eta": ["cell"],
    "width": ["variant"],
    "level": [],
    "spread": ["spread_of"],
    "main": ["treatment"],
}


def _cells(draws: Draws) -> list[str]:
    """A name for each cell: variant, place, segment, candidate set, period."""
    layout = draws.stage.layout
    groups = [layout.groups[group] for group in layout.group]
    keys = [layout.variants[variant] for variant in layout.variant]
    return [
        f"{key}/{g.place}/{g.segment}/{g.candidate_set}/{g.period}"
        for key, g in zip(keys, groups, strict=True)
    ]


def _variant(found: VariantFigures) -> dict[str, Any]:
    return {
        "key": found.key,
        "units": found.units,
        "metrics": {
            metric: {
                **_span(span),
                **_lift(found.lifts.get(metric)),
                "prob_best": found.prob_best.get(metric),
            }
            for metric, span in found.metrics.items()
        },
    }


def _lift(found: Lift | None) -> dict[str, Any]:
    if found is None:
        return {"lift_abs": None, "lift_rel": None, "prob_beats_control": None}
    relative = None if found.relative is None else _span(found.relative)
    beats = found.prob_beats_control
    return {"lift_abs": _span(found.absolute), "lift_rel": relative, "prob_beats_control": beats}


def _span(found: Span) -> dict[str, float | None]:
    return asdict(found)
