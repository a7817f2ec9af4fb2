"""A number with its noun, for messages and tables. Pure."""

from __future__ import annotations


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number with its noun: ``1 pool``, ``3 pools``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
