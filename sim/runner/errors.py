"""What a run can refuse."""


class NotSimulated(Exception):
    """The runner has no such part; `instead` says what does."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"the runner does not simulate {what}: {instead}")
        self.what = what
        self.instead = instead
