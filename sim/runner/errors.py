"""What a run can refuse, or die of."""


class RunError(Exception):
    """The root of the tree."""


class NotSimulated(RunError):
    """The runner has no such part; `instead` says what does."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"the runner does not simulate {what}: {instead}")
        self.what = what
        self.instead = instead


class UnknownExecutor(RunError):
    """No executor of this name can be had; `remedy` says which can."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(f"no executor {name!r}: {remedy}")
        self.name = name
        self.remedy = remedy


class LostWorkers(RunError):
    """Workers died again and again."""

    def __init__(self, times: int, left: int) -> None:
        super().__init__(
            f"processes were killed {times} times and {left} replications are left; if memory is short, "
            "take fewer of them (--executor processes:1)"
        )
        self.times = times
        self.left = left


class UnknownScenario(RunError):
    """Neither the name of a scenario nor a file."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no scenario and no file {name!r}; scenarios are {', '.join(known)}")
        self.name = name
        self.known = known
