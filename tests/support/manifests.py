"""Reads manifests as ``orbctl apply`` does, without its messages."""

from __future__ import annotations

from core.manifests.manifest_parser import objects, read_object
from core.manifests.schemas import Body


def load_documents(text: str) -> list[Body]:
    """Every object of a YAML text, in order. Raises BadInput."""
    return [read_object(value, location) for location, value in objects(text)]
