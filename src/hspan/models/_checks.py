"""What configurations of several networks check alike."""

from hspan.errors import UsageError


def check_scale(scale: int) -> None:
    """Refuse scales that no benchmark has.

    Raises:
        UsageError: not 2, 3 or 4.
    """
    if scale not in (2, 3, 4):
        raise UsageError(f"scale must be 2, 3 or 4, got {scale}")


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
