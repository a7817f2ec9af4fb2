"""Reads ``pyproject.toml`` and the lock files in requirements/."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PRODUCT_PACKAGES = ("cni", "core", "nodeagent", "ops", "workflows")

PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+?)(?: ;.*)? \\$", re.MULTILINE)
REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def console_scripts() -> dict[str, str]:
    """Name of a console script -> its function, as ``module:function``."""
    return dict(pyproject()["project"]["scripts"])


def normalized(name: str) -> str:
    """The name in the form that package registries compare (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names_of(requirements: list[str]) -> set[str]:
    matches = [REQUIREMENT.match(requirement) for requirement in requirements]
    return {normalized(match[0]) for match in matches if match}


def pinned_versions(lock_file: str) -> dict[str, str]:
    """Normalized name of a distribution -> its version."""
    text = (PROJECT_ROOT / "requirements" / lock_file).read_text(encoding="utf-8")
    return {normalized(name): version for name, version in PIN.findall(text)}
