"""The JSON of results: what standard output of the executable shall be, byte for byte.

Shapes: docs/reference/cni-configuration.md, "Plugins" and "spiderpool": four spaces of indent, only
entries of the interface that was asked for, no ``interfaces``, ``version`` with every address
before 1.0.0, ``dns`` always and always empty.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec

from core.domain.addresses.routes import answer_routes
from core.domain.model import Nic, Route
from nodeagent.cni_protocol.netconf import LATEST, VERSIONS, WITH_FAMILIES

_encode: Final = msgspec.json.Encoder().encode
_indent: Final = msgspec.json.format

SHAPES_MAX: Final = 256
"""Results remembered but for their addresses; a node's networks and pools have some."""

_ADDRESS: Final = "<address>"


def add_result(version: str, nic: Nic) -> bytes:
    """The result of an ADD for one NIC."""
    has, gateways = (bool(nic.ipv4), bool(nic.ipv6)), (nic.ipv4_gateway, nic.ipv6_gateway)
    shape = _shape(version, has, gateways, nic.clean_gateway, nic.routes)
    return shape % tuple([cidr.encode() for cidr in nic.cidrs()])


@lru_cache(maxsize=SHAPES_MAX)
def _shape(
    version: str,
    has: tuple[bool, bool],
    gateways: tuple[str, str],
    clean_gateway: bool,  # noqa: FBT001  # as the NIC has it
    routes: tuple[Route, ...],
) -> bytes:
    """The result for a NIC whose addresses are still to be filled in, as ``%b``.

    Pods of one pool differ in nothing else.
    """
    ipv4, ipv6 = (_ADDRESS if each else "" for each in has)
    nic = Nic("", ipv4, "", gateways[0], ipv6, "", gateways[1], clean_gateway, routes)
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
    routes = answer_routes(nic)
    if routes:
        result["routes"] = [{"dst": dst, "gw": gw} for dst, gw in routes]
    result["dns"] = {}
    return _indent(_encode(result), indent=4) + b"\n"


def document(result: dict[str, Any]) -> bytes:
    """A result that others have made, such as prevResult."""
    return _indent(_encode(result), indent=4) + b"\n"


def version_result(asked: str) -> bytes:
    """The result of VERSION, in the caller's version where we speak it."""
    version = asked if asked in VERSIONS else LATEST
    document = {"cniVersion": version, "supportedVersions": VERSIONS}
    return _indent(_encode(document), indent=4) + b"\n"
