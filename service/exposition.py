"""Families of samples as Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

MEDIA_TYPE = "text/plain; version=0.0.4"
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric: its name, what it says, and a value for each set of labels.

    A histogram's value is the count of each bucket (not cumulative, the last one unbounded) and the sum.
    """

    name: str
    help: str
    kind: str  # counter, gauge or histogram
    values: Mapping[Labels, Sequence[float]]
    bounds: Sequence[float] = field(default=())


def text_of(families: Iterable[Family]) -> str:
    """The text a scraper reads."""
    return "".join(line + "\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for labels, values in sorted(family.values.items()):
        if family.kind == "histogram":
            yield from _histogram(family, labels, values)
        else:
            yield _sample(family.name, labels, values[0])


def _histogram(family: Family, labels: Labels, values: Sequence[float]) -> Iterator[str]:
    *buckets, total = values
    count = 0.0
    for bound, bucket in zip((*map(_number, family.bounds), "+Inf"), buckets, strict=True):
        count += bucket
        yield _sample(f"{family.name}_bucket", (*labels, ("le", bound)), count)
    yield _sample(f"{family.name}_sum", labels, total)
    yield _sample(f"{family.name}_count", labels, count)


def _sample(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{label}="{_escaped(text, quote=True)}"' for label, text in labels)
    return f"{name}{{{shown}}} {_number(value)}" if shown else f"{name} {_number(value)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quote else text
