"""TEMPORARY: replaced by its owner."""


def models() -> None:
    """Not written yet."""
