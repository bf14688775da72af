"""Which columns a mapping needs, and the log that comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from sim.ope.export import read_export
from sim.ope.logged import Logged, logged
from sim.ope.mapping import ContextKind, LogMapping
from sim.ope.table import Table, Wanted, read_table
from sim.replay.errors import BadFile, BadMapping


def load(
    path: Path, mapping: LogMapping, shares: Mapping[str, str] | None, taken: str | None = None
) -> Logged:
    """A file's rows, or the enrolments of an export.

    `shares` are a candidate's columns by action, `taken` the one of its share of what was done.
    """
    if mapping.export is not None:
        if not path.is_dir():
            raise BadFile(f"{path} is no directory of `rialto export`, as the mapping says")
        if shares is not None or taken is not None:
            raise BadMapping(["policies: an export holds no columns of shares; take fixed"])
        return read_export(path, mapping.export, mapping.actions)
    if path.is_dir():
        raise BadFile(f"{path} is a directory; a mapping with `export` reads those of `rialto export`")
    assert mapping.propensity is not None
    assert mapping.reward is not None
    contexts = context_columns(mapping)
    texts = {mapping.action, mapping.unit, mapping.position, mapping.segment, *contexts[ContextKind.CATEGORY]}
    texts |= {mapping.time.column if mapping.time else None, mapping.decision}
    texts |= {mapping.candidates.column if mapping.candidates else None}
    wanted = Wanted(
        numbers={
            *mapping.propensity.columns,
            *mapping.reward.columns,
            *contexts[ContextKind.NUMBER],
            *(shares or {}).values(),
            *(() if taken is None else (taken,)),
        },
        texts={name for name in texts if name is not None},
        blank=mapping.reward.columns if mapping.reward.is_blank_zero else (),
        missing=contexts[ContextKind.NUMBER],
    )
    table = table_of(path, mapping, wanted)
    found = logged(table, mapping, shares)
    return found if taken is None else replace(found, taken_shares=table.numbers[taken])


def context_columns(mapping: LogMapping) -> Mapping[ContextKind, list[str]]:
    """The columns of the context by kind."""
    return {kind: [name for name, found in mapping.context.items() if found is kind] for kind in ContextKind}


def table_of(path: Path, mapping: LogMapping, wanted: Wanted) -> Table:
    """The table of a file; BadFile where a decision stands twice."""
    table = read_table(path, wanted, mapping.where, mapping.delimiter, mapping.encoding)
    if mapping.decision is not None:
        decisions = table.texts[mapping.decision]
        _, first = np.unique(decisions.codes, return_index=True)
        if len(first) < len(table.rows):
            again = int(np.setdiff1d(np.arange(len(table.rows)), first)[0])
            code = int(decisions.codes[again])
            earlier = int(table.rows[np.argmax(decisions.codes == code)])
            said = f"column {mapping.decision!r} holds {decisions.labels[code]!r} again, as row {earlier}"
            raise BadFile(f"{said}: keep one row of each decision", int(table.rows[again]))
    return table
