"""What a closed loop finds, or why it cannot be driven."""

from __future__ import annotations


class DriveError(Exception):
    """The root of the tree."""


class NotDriven(DriveError):
    """The service or the scenario is not such that it can be driven; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what = what
        self.remedy = remedy


class Refused(DriveError):
    """The service answered a call with a problem."""

    def __init__(self, status: int, call: str, code: str, detail: str) -> None:
        super().__init__(f"{call} was answered with {status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class Unreachable(DriveError):
    """The service did not answer within the patience given."""


class Broken(DriveError):
    """A promise of the service that does not hold: `invariant` is its name, `what` where it was looked at."""

    def __init__(self, invariant: str, what: str, expected: object, found: object) -> None:
        super().__init__(f"{invariant}: {what}: expected {expected}, found {found}")
        self.invariant = invariant
        self.what = what
        self.expected = expected
        self.found = found


def hold(invariant: str, what: str, expected: object, found: object) -> None:
    """Raise `Broken` unless what was found is what was expected."""
    if found != expected:
        raise Broken(invariant, what, expected, found)
