"""Load by `wrk`, and what came back of it: every answer looked at, counted by what it says."""

from __future__ import annotations

import math
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

SCRIPT = Path(__file__).with_name("load.lua")
NOT_DECISIONS = ("fallback", "overloaded", "stale")
"""Reasons of a 200 that decided nothing: they are counted apart and never enter a rate."""
ANSWERS_S_MAX = 20.0  # for answers to what was sent in the last moment; wrk itself counts whole seconds


class BenchmarkFailed(Exception):
    """A figure cannot be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, over and over.

    A body is `before`, `per_body` items joined by commas, and `after`. An item is a template in turn, in
    which, as in the path, stand for something new each time: `<random>` or `<ordered>` (a unit never seen),
    `<unit>` and `<decision>` (a random one of those given), `<each>` (the next unit given), `<key>` (an event
    never seen, in no order) and `<item>` (a key, the same within an item).
    """

    path: str
    headers: Mapping[str, str]
    items: Sequence[str] = ()
    before: str = ""
    after: str = ""
    per_body: int = 1
    counts: str = "answers"  # or "decisions" (by reason) or "events" (accepted ones)
    units: Sequence[str] = ()
    decisions: Sequence[str] = ()
    method: str = "POST"
    drains: bool = True  # False for a server that has no /drain


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back in one run."""

    sums: Mapping[str, int]
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    errors: Mapping[str, int]
    latency_us: Mapping[str, float]
    seconds: float
    wrong: str = ""
    counts: str = "answers"
    per_body: int = 1

    @property
    def items(self) -> int:
        """What was done: answers, decisions made or events accepted."""
        if self.counts == "events":
            return self.sums["accepted"]
        return self.sums["acknowledged"] - self.undecided

    @property
    def undecided(self) -> int:
        """Answers of 200 that were no decision."""
        return sum(self.reasons.get(reason, 0) for reason in NOT_DECISIONS)

    @property
    def enrolled(self) -> int:
        """Units assigned by these answers, each one row of the ledger."""
        return self.reasons.get("assigned", 0)

    @property
    def refused(self) -> int:
        """Answers of 503: nothing done, try again later."""
        return self.statuses.get("503", 0)

    def problem(self) -> str | None:
        """What makes this run no measurement; None when there is nothing."""
        strange = {status: n for status, n in self.statuses.items() if status not in ("200", "503")}
        broken = {name: n for name, n in self.errors.items() if n and name != "status"}
        if strange or broken or self.sums["refused_items"] or not self.items:
            return f"answers by status {dict(self.statuses)}, errors {broken}; the first: {self.wrong[:300]}"
        return None


def find_wrk() -> str:
    """The path of wrk. Raises with how to get it."""
    found = shutil.which("wrk")
    if found is None:
        raise BenchmarkFailed("wrk is not installed: apt-get install wrk")
    return found


def run(load: Load, port: int, *, connections: int, seconds: float) -> Answers:
    """Send for so many seconds and wait for the last answers. Raises on anything but 200 and 503."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as plan:
        plan.write("return " + lua(_plan(load, connections, seconds)))
        plan.flush()
        command = [
            *(find_wrk(), "-t1", f"-c{connections}", f"-d{math.ceil(seconds + ANSWERS_S_MAX)}s", "-T60s"),
            *("-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--", plan.name),
        ]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        ) as wrk:
            assert wrk.stdout is not None
            lines: list[str] = []
            for line in wrk.stdout:
                lines.append(line)
                if line == "ENDED\n":
                    wrk.send_signal(signal.SIGINT)  # it reports what it has and ends
    answers = read_output("".join(lines), load)
    if answers is None:
        raise BenchmarkFailed(f"wrk ended with {wrk.returncode}: {''.join(lines)[-500:]}")
    if problem := answers.problem():
        raise BenchmarkFailed(f"{load.path}: {problem}")
    return answers


def read_output(text: str, load: Load) -> Answers | None:
    """The counts that the script printed; None when it printed none."""
    found = re.search(r"^RESULT (\{.*\})$", text, re.MULTILINE)
    if found is None:
        return None
    of_load = {"counts": load.counts, "per_body": load.per_body}
    return msgspec.convert(msgspec.json.decode(found.group(1)) | of_load, Answers, strict=False)


def total(runs: Sequence[Answers]) -> Counter[str]:
    """Answers of several runs by reason, with 503s under `refused`."""
    sums: Counter[str] = Counter()
    for answers in runs:
        sums.update(answers.reasons)
        sums["refused"] += answers.refused
    return +sums


def lua(value: Any) -> str:
    """A value as a Lua expression.

    >>> lua({"a": [1, True, "x"]})
    '{["a"]={1,true,"x"}}'
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return '"' + re.sub(r'[\\"\n\r\0]', lambda found: f"\\{ord(found[0]):03d}", value) + '"'
        case Mapping():
            return "{" + ",".join(f"[{lua(str(k))}]={lua(v)}" for k, v in value.items()) + "}"
        case Sequence():
            return "{" + ",".join(map(lua, value)) + "}"
        case _:
            raise TypeError(f"no Lua for {type(value).__name__}")


def _plan(load: Load, connections: int, seconds: float) -> dict[str, Any]:
    body = {"Content-Type": "application/json"} if load.items else {}
    return {
        "method": load.method,
        "path": re.split(r"<([a-z]+)>", load.path),
        "headers": {"Host": "127.0.0.1", **body, **load.headers},
        "before": load.before,
        "after": load.after,
        # Texts and names of makers in turn, so that the script need not look for them.
        "items": [re.split(r"<([a-z]+)>", item) for item in load.items],
        "per_body": load.per_body,
        "counts": load.counts,
        "units": "\n".join(load.units),
        "decisions": "\n".join(load.decisions),
        "connections": connections,
        "seconds": seconds,
        "drains": load.drains,
        "time_prefix": f"{time.time_ns() // 1_000_000_000:08x}",
    }
