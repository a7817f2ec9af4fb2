"""Reads a Pod's annotations about its NICs: the default-route NIC, and the further NICs.

``ipam.spidernet.io/default-route-nic`` names a NIC. ``k8s.v1.cni.cncf.io/networks`` lists the
further networks, as JSON or as ``namespace/name@interface`` separated by commas. In this list, the
NIC of entry N is netN if the entry has no interface (Network Custom Resource Definition De-facto
Standard 1.2, section 4). An unreadable annotation counts as absent: Multus reports the error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

DEFAULT_ROUTE_NIC: Final = "ipam.spidernet.io/default-route-nic"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
NETWORKS_MAX: Final = 256


def default_route_nic(annotations: Mapping[str, str]) -> str:
    """The NIC for the Pod's default route; "" if there is no annotation."""
    return annotations.get(DEFAULT_ROUTE_NIC, "").strip()


def expected_nics(annotations: Mapping[str, str]) -> frozenset[str]:
    """The names of the NICs of the Pod's further networks."""
    interfaces = _interfaces(annotations.get(NETWORKS, "").strip())[:NETWORKS_MAX]
    return frozenset(name or f"net{number}" for number, name in enumerate(interfaces, 1))


def _interfaces(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("["):
        return [entry.partition("@")[2].strip() for entry in text.split(",")]
    try:
        document: list[Any] = msgspec.json.decode(text, type=list[Any])
    except msgspec.DecodeError:
        return []
    return [str(entry.get("interface") or "") for entry in document if isinstance(entry, dict)]
