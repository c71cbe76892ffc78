"""TEMPORARY: replaced by its owner."""


def upscale() -> None:
    """Not written yet."""
