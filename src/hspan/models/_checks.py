"""What configurations of several networks check alike."""

from hspan.errors import UsageError


def check_scale(scale: int, scales: tuple[int, ...] = (2, 3, 4)) -> None:
    """Refuse scales that a network isn't made for.

    Raises:
        UsageError: none of the scales, by default those that benchmarks have.
    """
    if scale not in scales:
        *others, last = map(str, scales)
        raise UsageError(f"scale must be {', '.join(others)} or {last}, got {scale}")


def check_positive(**values: float) -> None:
    """Refuse settings below 1, by name.

    Raises:
        UsageError: names the first.
    """
    for name, value in values.items():
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what isn't one of the choices.

    Raises:
        UsageError: names the choices.
    """
    if value not in choices:
        raise UsageError(f"{name} must be {' or '.join(choices)}, got {value!r}")
