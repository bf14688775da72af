"""A small log of a shop, made anew for each test: two countries, three offers, an order or none."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import yaml

LABELS = ("none", "socks", "bundle")
LOGGING = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
RATES = np.array([[0.2, 0.5, 0.3], [0.3, 0.2, 0.6]])
MAPPING: dict[str, Any] = {
    "action": "offer",
    "propensity": "p",
    "reward": "taken",
    "unit": "shopper",
    "time": {"column": "at"},
    "segment": "country",
    "context": {"country": "category", "spent": "number"},
    "policies": {
        "mine": {"kind": "fixed", "shares": {"none": 1, "socks": 3}},
        "theirs": {"kind": "columns", "columns": {label: f"share_{label}" for label in LABELS}},
        "bandit": {"kind": "thompson", "control": "none", "control_share": 0.1, "floor": 0.05, "burn_in": 10},
        "pair": {"kind": "top_two", "control": "none", "control_share": 0.1, "floor": 0.05, "burn_in": 10},
        "early": {"kind": "thompson", "control": "none", "burn_in": 10, "train": "earlier"},
        "local": {"kind": "segment", "control": "none", "burn_in": 10},
        "smart": {
            "kind": "contextual",
            "control": "none",
            "burn_in": 10,
            "draws": 500,
            "features": [{"name": "country", "kind": "category", "values": ["it", "ro"]}],
        },
        "steep": {
            "kind": "contextual",
            "control": "none",
            "burn_in": 10,
            "features": [{"name": "spent", "kind": "number", "center": 50, "scale": 20}],
        },
    },
}


def rows(n: int = 600, seed: int = 3) -> list[dict[str, Any]]:
    """Decisions of n / 2 shoppers, two each, in order of time; money to the cent."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    for number in range(n):
        shopper = number % (n // 2)
        country = shopper % 2
        action = int(rng.choice(3, p=LOGGING[country]))
        taken = int(rng.random() < RATES[country, action])
        share = rng.dirichlet(np.ones(3)).round(6)
        share[0] += 1 - share.sum()
        found.append(
            {
                "at": f"2026-03-{1 + number * 28 // n:02d}T{number % 24:02d}:00:00+00:00",
                "shopper": f"s{shopper}",
                "country": ("it", "ro")[country],
                "offer": LABELS[action],
                "p": LOGGING[country, action],
                "taken": taken,
                "amount": 20.0 * taken,
                "cost": 8.5 * taken,
                "refund": 20.0 if taken and rng.random() < 0.1 else "",
                "spent": round(float(rng.normal(50, 20)), 2),
                "offered": "none|socks|bundle",
                **{f"share_{label}": round(float(s), 6) for label, s in zip(LABELS, share, strict=True)},
            }
        )
    return found


def write_csv(path: Path, found: list[dict[str, Any]]) -> Path:
    """As CSV, gzipped where the name ends so."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(found[0]))
    writer.writeheader()
    writer.writerows(found)
    raw = text.getvalue().encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def write_mapping(path: Path, **changes: Any) -> Path:
    """The mapping with some fields changed, None to leave one out."""
    mapping = {key: value for key, value in (MAPPING | changes).items() if value is not None}
    path.write_text(yaml.safe_dump(mapping), "utf-8")
    return path
