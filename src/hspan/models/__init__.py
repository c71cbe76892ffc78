"""TEMPORARY: replaced by its owner."""
