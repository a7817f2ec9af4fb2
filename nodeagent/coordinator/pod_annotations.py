"""Reads a Pod's annotations about its NICs.

An unreadable annotation counts as absent: Multus reports the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from core.manifests.schema_errors import JSON_ERRORS

DEFAULT_ROUTE_NIC: Final = "ipam.spidernet.io/default-route-nic"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
NETWORKS_MAX: Final = 256


def default_route_nic(annotations: Mapping[str, str]) -> str:
    """The NIC for the Pod's default route, or ""."""
    return annotations.get(DEFAULT_ROUTE_NIC, "").strip()


def expected_nics(annotations: Mapping[str, str]) -> frozenset[str]:
    """The names of the NICs of the Pod's further networks.

    Entry N without an interface gets the name netN (Network Custom Resource Definition
    De-facto Standard 1.2, section 4).
    """
    interfaces = _interfaces(annotations.get(NETWORKS, "").strip())[:NETWORKS_MAX]
    return frozenset(name or f"net{number}" for number, name in enumerate(interfaces, 1))


def _interfaces(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("["):
        return [entry.partition("@")[2].strip() for entry in text.split(",")]
    try:
        document: list[Any] = msgspec.json.decode(text, type=list[Any])
    except JSON_ERRORS:
        return []
    return [str(entry.get("interface") or "") for entry in document if isinstance(entry, dict)]
