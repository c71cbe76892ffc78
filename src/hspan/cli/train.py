"""TEMPORARY: replaced by its owner."""


def train() -> None:
    """Not written yet."""
