"""What can go wrong in a replay.

ReplayError          the replay cannot go on (exit code 1)
+-- BadFile          the file: a missing column, a wrong number, a broken archive; names the row
+-- BadMapping       the mapping (exit code 2); names every fault it found
+-- Unreachable      the service did not answer in time
+-- Refused          the service answered with a problem document
"""

from collections.abc import Sequence
from typing import Any


class ReplayError(Exception):
    """Base of the tree; the message is one readable line."""

    exit_code = 1


class BadFile(ReplayError):
    """A file that does not hold what the mapping says it does; `row` 1 is the first after the header."""

    def __init__(self, problem: str, row: int | None = None) -> None:
        self.row = row
        super().__init__(problem if row is None else f"row {row}: {problem}")


class BadMapping(ReplayError):
    """A mapping that cannot be used: every fault with the place where it stands."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the mapping cannot be used: " + "; ".join(self.problems))


class Unreachable(ReplayError):
    """No answer from the service within the patience given."""


class Refused(ReplayError):
    """A 4xx or 5xx answer, with what its problem document says."""

    def __init__(self, status: int, call: str, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        super().__init__(f"{call} was refused ({status} {self.code}): {describe_problem(problem)}")


def describe_problem(problem: dict[str, Any]) -> str:
    """A problem document in one line: its detail, and each field with its remedy."""
    said = str(problem.get("detail") or problem.get("title") or "no detail given")
    fields = [f"{e.get('pointer') or '/'}: {e.get('remedy')}" for e in problem.get("errors") or ()]
    return "; ".join([said, *fields])
