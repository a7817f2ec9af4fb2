"""Reads YAML with the parser in C, which is ten times as fast as the parser in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    return yaml.load(text, yaml.CSafeLoader)


def read_all_yaml(text: str) -> Iterator[Any]:
    return yaml.load_all(text, yaml.CSafeLoader)
