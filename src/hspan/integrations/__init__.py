"""Adapters to other programs; each module needs an optional extra and is imported by name."""
