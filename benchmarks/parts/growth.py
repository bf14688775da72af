"""What millions of rows cost: assign on a big ledger over assign on a small one, and bytes per assignment."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median
from typing import Any

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.filled import filled, ordered_id, random_id
from benchmarks.rounds import Sample, alternate
from benchmarks.servers import Rialto, serving
from benchmarks.wrk import total

SMALL_ROWS = 10_000
UNSEEN = 200_000  # more than a process keeps of assignments in memory


def growth(bench: Bench) -> dict[str, Any]:
    """Both kinds of ids: two processes, one on a small ledger and one on a big one, in turn."""
    return {
        kind: _one_kind(bench, kind, make_id)
        for kind, make_id in (("ordered", ordered_id), ("random", random_id))
    }


def _one_kind(bench: Bench, kind: str, make_id: Any) -> dict[str, Any]:
    with ExitStack() as stack:
        small_folder, big_folder = (stack.enter_context(bench.folder()) for _ in range(2))
        small_keys, _ = filled(small_folder, SMALL_ROWS, make_id)
        big_keys, sizes = filled(big_folder, bench.growth_rows, make_id)
        small = stack.enter_context(serving(small_folder, small_keys))
        big = stack.enter_context(serving(big_folder, big_keys))
        small.enrolled_before, big.enrolled_before = SMALL_ROWS + 1, bench.growth_rows + 1
        for server in (small, big):
            _new_units(bench, server, kind, 0.5)
        pairs = [_pair(bench, small, big, kind, number) for number in range(bench.rounds)]
        unseen = _unseen(bench, big, make_id) if kind == "random" else {}
        for server in (small, big):
            server.check_ledger()
    return {
        "rows": bench.growth_rows,
        "ratios": [round(b.rate / s.rate, 4) for s, b in pairs],
        "cpu_ratios": [round(s.cpu_us / b.cpu_us, 4) for s, b in pairs],
        "rates": [round(b.rate, 1) for _, b in pairs],
        "cpu_us": round(median(b.cpu_us for _, b in pairs), 1),
        "answers": dict(total([sample.answers for pair in pairs for sample in pair])),
        "bytes_per_row": {table: round(size / bench.growth_rows, 1) for table, size in sizes.items()},
        "unseen": unseen,
    }


def _pair(bench: Bench, small: Rialto, big: Rialto, kind: str, number: int) -> tuple[Sample, Sample]:
    """A run on each; which comes first changes, so that a machine that tires is fair to both."""
    if number % 2:
        on_big = _new_units(bench, big, kind, bench.seconds)
        return _new_units(bench, small, kind, bench.seconds), on_big
    on_small = _new_units(bench, small, kind, bench.seconds)
    return on_small, _new_units(bench, big, kind, bench.seconds)


def _new_units(bench: Bench, server: Rialto, kind: str, seconds: float) -> Sample:
    sample = server.measure(shop.assign(server.browser, f"<{kind}>"), seconds)
    server.wait_until_folded()
    return sample


def _unseen(bench: Bench, server: Rialto, make_id: Any) -> dict[str, Any]:
    """Units of the big ledger that this process has not met: each is read from the file."""
    step = max(1, bench.growth_rows // UNSEEN)
    ids = [make_id(number) for number in range(2, bench.growth_rows, step)]
    # Scattered over the file, each asked once; a later round goes on where the one before ended.
    done = 0

    def run() -> Sample:
        nonlocal done
        sample = server.measure(shop.assign(server.browser, "<each>", ids[done:]), bench.seconds)
        done += sample.items
        return sample

    series = alternate(lambda: server.nothing(bench.nothing_seconds), {"unseen": run}, 3)
    return series["unseen"].as_row()
