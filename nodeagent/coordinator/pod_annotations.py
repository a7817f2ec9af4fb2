"""What a Pod's annotations say about its NICs: where its default route shall be, which will come.

``ipam.spidernet.io/default-route-nic`` names a NIC; ``k8s.v1.cni.cncf.io/networks`` lists the
further networks, as JSON or as ``namespace/name@interface`` with commas, and where no interface is
said they are net1, net2, ... in order (Network Custom Resource Definition De-facto Standard 1.2,
section 4). An annotation that cannot be read says nothing: others judge it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

DEFAULT_ROUTE_NIC: Final = "ipam.spidernet.io/default-route-nic"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
NETWORKS_MAX: Final = 256


def default_route_nic(annotations: Mapping[str, str]) -> str:
    """The NIC that the Pod wants its default route on; "" where it does not say."""
    return annotations.get(DEFAULT_ROUTE_NIC, "").strip()


def expected_nics(annotations: Mapping[str, str]) -> frozenset[str]:
    """The names of the NICs that the Pod's further networks will be."""
    interfaces = _interfaces(annotations.get(NETWORKS, "").strip())[:NETWORKS_MAX]
    return frozenset(said or f"net{number}" for number, said in enumerate(interfaces, 1))


def _interfaces(text: str) -> list[str]:
    if not text:
        return []
    if not text.startswith("["):
        return [entry.partition("@")[2].strip() for entry in text.split(",")]
    try:
        document: list[Any] = msgspec.json.decode(text, type=list[Any])
    except msgspec.DecodeError:
        return []
    return [str(each.get("interface") or "") for each in document if isinstance(each, dict)]
