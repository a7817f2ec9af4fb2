"""``pyproject.toml`` and the lock files, read once for the tests of this folder."""

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
    """The content of ``pyproject.toml``."""
    return tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def scripts() -> dict[str, str]:
    """Console scripts: name -> ``module:function``."""
    return dict(pyproject()["project"]["scripts"])


def normal(name: str) -> str:
    """A distribution's name as registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements: list[str]) -> set[str]:
    """The normalised names of the distributions in a list of requirements."""
    matches = [REQUIREMENT.match(requirement) for requirement in requirements]
    return {normal(match[0]) for match in matches if match}


def pins(file: str) -> dict[str, str]:
    """The pins of a lock file: normalised name -> version."""
    text = (PROJECT_ROOT / "requirements" / file).read_text(encoding="utf-8")
    return {normal(name): version for name, version in PIN.findall(text)}
