"""CNI results as JSON, as the executables print them.

A result has addresses, no ``interfaces``, and an empty ``dns``. See
docs/reference/cni-configuration.md, "Plugins" and "spiderpool".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from core.domain.addresses.routes import result_routes
from core.domain.model import Nic, Route
from nodeagent.cni_protocol.netconf import CNI_VERSIONS, LATEST_CNI_VERSION, WITH_FAMILIES

_encode: Final = msgspec.json.Encoder().encode
_indent: Final = msgspec.json.format

SHAPES_MAX: Final = 256
"""Cached shapes. A shape is a result without addresses; the results of one pool share it."""

_ADDRESS: Final = "<address>"


def add_result(version: str, nic: Nic, cidrs: Sequence[str]) -> bytes:
    """The result of an ADD for one NIC. ``cidrs``: ``nic.cidrs()``."""
    families_present = bool(nic.ipv4), bool(nic.ipv6)
    gateways = nic.ipv4_gateway, nic.ipv6_gateway
    shape = _shape(version, families_present, gateways, nic.clean_gateway, nic.routes)
    return shape % tuple([cidr.encode() for cidr in cidrs])


@lru_cache(maxsize=SHAPES_MAX)
def _shape(
    version: str,
    families_present: tuple[bool, bool],
    gateways: tuple[str, str],
    clean_gateway: bool,  # noqa: FBT001  # as the NIC has it
    routes: tuple[Route, ...],
) -> bytes:
    """The result of a NIC with ``%b`` in place of each address."""
    ipv4, ipv6 = (_ADDRESS if is_present else "" for is_present in families_present)
    nic = Nic(
        interface="",
        ipv4=ipv4,
        ipv4_gateway=gateways[0],
        ipv6=ipv6,
        ipv6_gateway=gateways[1],
        clean_gateway=clean_gateway,
        routes=routes,
    )
    document = _result(version, nic).replace(b"%", b"%%")
    return document.replace(_ADDRESS.encode(), b"%b")


def _result(version: str, nic: Nic) -> bytes:
    with_family = version in WITH_FAMILIES
    ips: list[dict[str, str]] = []
    for family, address, gateway in (
        ("4", nic.ipv4, nic.ipv4_gateway),
        ("6", nic.ipv6, nic.ipv6_gateway),
    ):
        if not address:
            continue
        entry = {"version": family, "address": address} if with_family else {"address": address}
        if gateway:
            entry["gateway"] = gateway
        ips.append(entry)
    result: dict[str, Any] = {"cniVersion": version, "ips": ips}
    routes = result_routes(nic)
    if routes:
        result["routes"] = [{"dst": dst, "gw": gw} for dst, gw in routes]
    result["dns"] = {}
    return _indent(_encode(result), indent=4) + b"\n"


def encode_result(result: dict[str, Any]) -> bytes:
    """Encode a result of another plugin."""
    return _indent(_encode(result), indent=4) + b"\n"


def version_result(requested: str) -> bytes:
    """The result of VERSION, in the requested version if supported."""
    version = requested if requested in CNI_VERSIONS else LATEST_CNI_VERSION
    document = {"cniVersion": version, "supportedVersions": CNI_VERSIONS}
    return _indent(_encode(document), indent=4) + b"\n"
