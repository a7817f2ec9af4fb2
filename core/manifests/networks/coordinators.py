"""The rules for ``spec`` of a SpiderCoordinator and ``spec.coordinator`` of a SpiderMultusConfig.

See docs/reference/admission.md, "SpiderCoordinator". Values that Spiderpool accepts but no network
can use, such as an address with a zone, are refused. An IPv4-mapped address counts as
IPv6 here, unlike in pools.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from core.domain.addresses.ip_address import (
    AddressSyntaxError,
    Family,
    parse_address_as_written,
    parse_cidr_as_written,
)
from core.domain.validation.common_rules import ObjectReference, shortened
from core.errors import BadInput, Refusal
from core.manifests.kinds.coordinators import CoordinatorSpec, DetectOptions, PolicyRoute
from core.manifests.networks.detect_options import read_timing

CIDR_TYPES: Final = ("auto", "cluster", "calico", "cilium", "none")
RP_FILTER_MAX: Final = 2
_MAC_PREFIX: Final = re.compile(r"[0-9A-Fa-f][02468ACEace]:[0-9A-Fa-f]{2}\Z")


def coordinator_rules(subject: ObjectReference, spec: CoordinatorSpec) -> Iterator[Refusal]:
    """Yield every violation, with Spiderpool's field paths and in Spiderpool's order.

    The caller checks that a SpiderCoordinator has podCIDRType.
    """
    if spec.pod_cidr_type is not None and spec.pod_cidr_type not in CIDR_TYPES:
        message = f"{shortened(spec.pod_cidr_type)!r} is not one of {', '.join(CIDR_TYPES)}"
        yield subject.refuse("NotSupported", "pod-cidr-type", "spec.podCIDRType", message)
    for index, text in enumerate(spec.hijack_cidr or ()):
        if _destination_family(text) is None:
            message = f"{shortened(text)!r} is neither an address nor a CIDR"
            # Spiderpool reports hijackCIDR under the older name of the field, extraCIDR.
            yield subject.refuse("Invalid", "hijack-cidr", f"spec.extraCIDR[{index}]", message)
    for index, route in enumerate(spec.policy_routes or ()):
        yield from _route_rule(subject, f"spec.policyRoutes[{index}]", route)
    if spec.pod_mac_prefix and not _MAC_PREFIX.match(spec.pod_mac_prefix):
        prefix = shortened(spec.pod_mac_prefix)
        message = f"{prefix!r} is not the beginning of a unicast MAC: set two octets such as 0a:1b"
        yield subject.refuse("Invalid", "mac-prefix", "spec.podMACPrefix", message)
    if (spec.tx_queue_len or 0) < 0:
        message = f"{spec.tx_queue_len} is negative: set a positive number, or 0 for no change"
        yield subject.refuse("Invalid", "tx-queue", "spec.txQueueLen", message)
    yield from _rp_filter_rule(subject, "spec.podRPFilter", spec.pod_rp_filter)
    yield from _rp_filter_rule(subject, "spec.hostRPFilter", spec.host_rp_filter)
    try:
        read_timing(spec.detect_options or DetectOptions())
    except BadInput as error:
        yield subject.refuse("Invalid", "detect-options", f"spec.{error.subject}", error.message)
    if spec.veth_link_address and _address_family(spec.veth_link_address) is None:
        message = f"{shortened(spec.veth_link_address)!r} is not an address"
        yield subject.refuse("Invalid", "veth-address", "spec.vethLinkAddress", message)
    if spec.veth_mtu is not None and spec.veth_mtu <= 0:
        message = f"{spec.veth_mtu} is not a valid MTU: set a positive number"
        yield subject.refuse("Invalid", "veth-mtu", "spec.vethMTU", message)


def _rp_filter_rule(subject: ObjectReference, field: str, value: int | None) -> Iterator[Refusal]:
    if (value or 0) > RP_FILTER_MAX:
        remedy = "set 0, 1 or 2, or -1 to keep the value of the sysctl"
        message = f"{value} is greater than {RP_FILTER_MAX}: {remedy}"
        yield subject.refuse("NotSupported", "rp-filter", field, message)


def _route_rule(subject: ObjectReference, field: str, route: PolicyRoute) -> Iterator[Refusal]:
    destination, gateway = _destination_family(route.dst), _address_family(route.gw)
    if destination is None:
        message = f"dst {shortened(route.dst)!r} is neither an address nor a CIDR"
        yield subject.refuse("Invalid", "policy-route", f"{field}.dst", message)
    elif gateway is None:
        message = f"gw {shortened(route.gw)!r} is not an address"
        yield subject.refuse("Invalid", "policy-route", f"{field}.gw", message)
    elif destination != gateway:
        message = f"dst is IPv{destination}, but gw is IPv{gateway}: use one IP version"
        yield subject.refuse("Invalid", "policy-route", field, message)


def _destination_family(text: str) -> Family | None:
    """The family of an address or CIDR; None if the text is neither."""
    try:
        return parse_cidr_as_written(text).family
    except AddressSyntaxError:
        return _address_family(text)


def _address_family(text: str) -> Family | None:
    try:
        return parse_address_as_written(text).family
    except AddressSyntaxError:
        return None
