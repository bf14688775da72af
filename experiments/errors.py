"""Every error of the core.

RialtoError
+-- InvalidDocument      the document breaks the schema or one of its rules
+-- FrozenField          the change touches a field that is frozen once started
+-- BrokenInvariant      a programming error: shares that do not add up, a negative count
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault: where (JSON pointer), a stable code, and what to do about it."""

    pointer: str
    code: str
    remedy: str


class RialtoError(Exception):
    """Base of the tree."""


class InvalidDocument(RialtoError):
    """An experiment document that cannot be accepted; names every fault it found."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{e.pointer or '/'}: {e.remedy}" for e in errors))


class FrozenField(RialtoError):
    """A change to fields that are frozen once the experiment has started."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{e.pointer}: {e.remedy}" for e in errors))


class BrokenInvariant(RialtoError):
    """Something that can only be a defect of Rialto itself."""
