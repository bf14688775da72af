"""The study of guardrails runs, goes on where it was, and writes its page."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.studies import guardrails as study


def test_a_study_goes_on_where_it_was_and_writes_its_page(tmp_path: Path) -> None:
    keep = tmp_path / "runs.jsonl"
    rows = [
        {"world": "checkout", "killed": "toxic", "units": units, "own": 1500 + units // 100}
        for units in (5_000, 20_000, 60_000, 120_000)
    ]
    rows += [{"world": "same", "killed": None, "units": None, "own": None}] * 4
    rows += [{"world": "plain", "killed": "bad", "units": 15_000, "own": 1200}] * 3
    keep.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert study.measured(4, keep, until=0.0) is None, "the time is over before it began"
    done = study.measured(4, keep, until=float("inf"))
    assert done is not None
    assert {name: len(ends) for name, ends in done.items()} == {
        "checkout": 4,
        "same": 4,
        "plain": 4,
        "season": 1,
    }
    assert len(keep.read_text("utf-8").splitlines()) == 13
    text = study.page(done)
    assert "| 20,000 | 50.0% |" in text
    assert "| its own | " in text
    assert "killed in\n0.0% of 4 runs (were it 52.7%, so few would come" in text  # 1 - 0.05^(1/4)
    assert max(map(len, text.splitlines())) <= 120
