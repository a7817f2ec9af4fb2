"""Finds the ``ipam`` parts of network configurations. Raises only ``BadInput``.

A network configuration is JSON with one plugin or a list of plugins (CNI specification, section 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.ip_address import Address, AddressSyntaxError, parse_address
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

    A configuration without the type is not parsed: invalid JSON of other plugins is no error.
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
