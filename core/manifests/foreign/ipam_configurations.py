"""Reads the ``ipam`` parts and the routes of network configurations. Raises only ``BadInput``.

A network configuration is JSON with one plugin or a list of plugins (CNI specification, section 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.ip_address import (
    V6,
    Address,
    AddressSyntaxError,
    parse_address,
    parse_cidr,
)
from core.domain.claims.takeover import Finding
from core.domain.model import Pool, Route
from core.domain.validation.common_rules import ObjectReference, shortened
from core.domain.validation.pool_rules import DEFAULT_ROUTES, routes_rule
from core.errors import BadInput
from core.manifests.kinds.records import OpenMetadata
from core.manifests.schema_errors import JSON_ERRORS
from core.manifests.spiderpool import convert

NETWORK_KIND: Final = "NetworkAttachmentDefinition"


class IpamRoute(Struct, frozen=True):
    """A route of an ``ipam``."""

    dst: str = ""
    gw: str = ""


class NetworkIpam(NamedTuple):
    """An ``ipam`` part. ``network``: the ``name`` in the configuration, "" without a name."""

    network: str
    ipam: Mapping[str, Any]


class _NetworkSpec(Struct, frozen=True):
    config: str = ""


class _NetworkManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _NetworkSpec = _NetworkSpec()


class NetworkConfiguration(NamedTuple):
    """The configuration of a NetworkAttachmentDefinition.

    ``name``: NAMESPACE/NAME; ``where``: the prefix of error texts.
    """

    name: str
    text: str
    where: str


def read_network(value: object, location: str) -> NetworkConfiguration:
    """The configuration of a NetworkAttachmentDefinition."""
    body = convert(value, _NetworkManifest, f"{location} ({NETWORK_KIND})")
    name = f"{body.metadata.namespace or 'default'}/{body.metadata.name}"
    return NetworkConfiguration(
        name, body.spec.config or "{}", f"{location} ({NETWORK_KIND} {name}): spec.config"
    )


def ipams_of(text: str, ipam_type: str, where: str) -> Iterator[NetworkIpam]:
    """Yield each ``ipam`` of this type in a network configuration.

    A configuration without the type is not parsed, so invalid JSON of other plugins raises nothing.
    """
    if ipam_type not in text:
        return
    try:
        config = msgspec.json.decode(text, type=dict[str, Any])
    except JSON_ERRORS as error:
        remedy = "correct the JSON of this network configuration"
        raise BadInput(f"{where}: {error}", subject=where, remedy=remedy) from None
    plugins = config.get("plugins") or [config]
    for plugin in plugins:
        ipam = plugin.get("ipam") if isinstance(plugin, dict) else None
        if isinstance(ipam, dict) and ipam.get("type") == ipam_type:
            yield NetworkIpam(str(config.get("name") or ""), ipam)


def read_address(text: str, where: str) -> Address:
    """Parse an address in a configuration."""
    try:
        return parse_address(text)
    except AddressSyntaxError as error:
        raise BadInput(f"{where}: {error}", remedy="correct this address") from None


def with_routes(pool: Pool, routes: Iterable[Route], findings: list[Finding]) -> Pool:
    """The pool with the routes of its family; a finding for each invalid route.

    A configuration has one list of routes for its ranges of both families. The list may contain
    default routes, and routes without a next hop, which use the gateway of the range. Each route of
    a pool has the family of the pool and a next hop; the default route follows from the gateway.
    """
    cidr = parse_cidr(pool.subnet)
    subject = ObjectReference("SpiderIPPool", pool.name)
    chosen: list[Route] = []
    for route in dict.fromkeys(routes):
        if (":" in route.dst) != (cidr.family == V6):
            continue  # it belongs to a pool of the other family
        next_hop = route.gw or pool.gateway
        if route.dst in DEFAULT_ROUTES and next_hop == pool.gateway != "":
            continue  # it follows from the gateway
        candidate = pool._replace(routes=(*chosen, Route(route.dst, next_hop)))
        faults = [refusal.message for refusal in routes_rule(subject, candidate, cidr)]
        if faults:
            via = shortened(next_hop) or "no gateway"
            what = f"route {shortened(route.dst)} via {via}: {faults[0]}"
            findings.append(Finding(f"pool/{pool.name}", what, "left out of the pool"))
        else:
            chosen.append(Route(route.dst, next_hop))
    return pool._replace(routes=tuple(chosen) or None)
