"""The study of fits in short: what it plants is found, and the right world is not."""

from __future__ import annotations

from benchmarks.studies import fits as study


def test_planted_misfits_are_named_and_the_worlds_own_log_is_not() -> None:
    """The long study has false alarms of 1 % at most; here one log of each kind, with 20 worlds drawn."""
    found = {
        kind: study.alarms(kind, runs=1, seed=3, replications=20)
        for kind in ("the world's own", "one order in twenty twice", "order values with heavy tails")
    }
    assert [one.bad for one in found.values()] == [0, 1, 1]
    assert "second_order_within_a_day" in found["one order in twenty twice"].named
    assert "order_value_tails" in found["order values with heavy tails"].named


def test_the_page_says_what_was_counted() -> None:
    held = study.coverage(study.ODD, runs=1, seed=1)
    assert {one.name for one in held} == set(study.truth_of(study.ODD))
    assert sum(one.held for one in held) >= 0.8 * len(held)
    said = study.text(held, [study.Alarms("a kind", 1, 200, ("aov",))])
    assert "In 1 fits of logs of a known world (5,000 customers in six weeks" in said
    assert "| a kind | 1 of 200 | 0.5% | 0.0% to 2.8% | `aov` |" in said
