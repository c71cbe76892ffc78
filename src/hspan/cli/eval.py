"""TEMPORARY: replaced by its owner."""


def evaluate() -> None:
    """Not written yet."""
