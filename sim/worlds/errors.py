"""What is wrong with a description of a world."""


class InvalidWorld(ValueError):
    """A part of a world that cannot be; the message begins with the field."""


def within(field: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high], NaN included, naming its field."""
    if not low <= value <= high:
        raise InvalidWorld(f"{field}: {value} is not from {low:g} to {high:g}")


def demand(holds: bool, field: str, says: str) -> None:
    """Refuse what does not hold, naming the field."""
    if not holds:
        raise InvalidWorld(f"{field}: {says}")
