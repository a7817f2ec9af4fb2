"""Parse the objects of Whereabouts: its IPPools, and the networks that use them.

An IPPool (``whereabouts.cni.cncf.io/v1alpha1``) has the range and its allocations, by the distance
from the range's address; releases before 0.5 wrote the address itself. Bounds, exclusions, gateway
and routes are in the ``ipam`` part of the NetworkAttachmentDefinitions. ``ifname`` distinguishes
the interfaces of a Pod. Raises only ``BadInput``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import (
    V4,
    Address,
    AddressSyntaxError,
    Cidr,
    parse_address,
    parse_cidr,
)
from core.domain.model import Pool, Route
from core.errors import BadInput
from core.manifests.foreign.pods import (
    PodAddress,
    PodKey,
    cluster_of,
    convert,
    read_pods,
    split_by_kind,
)
from core.manifests.kinds.records import OpenMetadata
from core.manifests.spiderpool import Dump

IPAM_TYPE: Final = "whereabouts"
NETWORK: Final = "NetworkAttachmentDefinition"


class _Allocation(Struct, frozen=True):
    podref: str = ""
    ifname: str = ""


class _PoolSpec(Struct, frozen=True):
    range: str
    allocations: dict[str, _Allocation] = {}


class _PoolManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _PoolSpec


class _NetworkSpec(Struct, frozen=True):
    config: str = ""


class _NetworkManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _NetworkSpec = _NetworkSpec()


class _Range(Struct, frozen=True):
    range: str = ""
    range_start: str = ""
    range_end: str = ""
    exclude: list[str] | None = None


class _Ipam(_Range, frozen=True):
    type: str = ""
    network_name: str = ""
    gateway: str = ""
    routes: list[dict[str, str]] | None = None
    ip_ranges: list[_Range] = msgspec.field(default_factory=list, name="ipRanges")


class _Network(NamedTuple):
    """What one network says of one range. ``name``: NAMESPACE/NAME; ``pool``: of its IPPool."""

    name: str
    pool: str
    addresses: AddressSet
    gateway: str
    routes: tuple[Route, ...]


def read_whereabouts(values: Iterable[tuple[str, object]]) -> Dump:
    """Everything in these objects, each with where it is from. Raises BadInput."""
    by_kind, skipped = split_by_kind(values, ("IPPool", "Pod", NETWORK))
    networks = [
        network for location, value in by_kind[NETWORK] for network in _networks(value, location)
    ]
    pools, allocations = [], []
    for location, value in by_kind["IPPool"]:
        pool, own = _pool(value, location, networks)
        pools.append(pool)
        allocations += own
    return Dump(cluster_of(pools, allocations, read_pods(by_kind["Pod"])), skipped)


def _pool(value: object, location: str, networks: list[_Network]) -> tuple[Pool, list[PodAddress]]:
    body = convert(value, _PoolManifest, f"{location} (IPPool)")
    name = body.metadata.name
    where = f"{location} (IPPool {name})"
    cidr = _cidr(body.spec.range, where)
    allocations = [
        PodAddress(_address(key, cidr, where), name, _pod_key(stored.podref, where), stored.ifname)
        for key, stored in body.spec.allocations.items()
    ]
    using = [network for network in networks if network.pool == name]
    taken = [allocation.address.value for allocation in allocations]
    addresses = AddressSet.from_values(taken, cidr.family)
    for network in using:
        addresses |= network.addresses
    if not using:
        addresses |= _hosts(cidr)
    gateways = {network.gateway for network in using if network.gateway}
    routes = {network.routes for network in using if network.routes}
    pool = Pool(
        name,
        cidr.family,
        str(cidr),
        tuple(addresses.to_items()),
        gateway=gateways.pop() if len(gateways) == 1 else "",
        routes=routes.pop() if len(routes) == 1 else None,
        multus_names=tuple(sorted(network.name for network in using)),
    )
    return pool, allocations


def _networks(value: object, location: str) -> Iterator[_Network]:
    """Each range that the network's IPAM has; none unless its IPAM is Whereabouts."""
    body = convert(value, _NetworkManifest, f"{location} ({NETWORK})")
    name = f"{body.metadata.namespace or 'default'}/{body.metadata.name}"
    where = f"{location} ({NETWORK} {name}): spec.config"
    try:
        config = msgspec.json.decode(body.spec.config or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadInput(f"{where}: {error}", subject=name) from None
    for plugin in config.get("plugins") or [config]:
        plain = plugin.get("ipam") or {}
        if plain.get("type") == IPAM_TYPE:
            ipam = convert(plain, _Ipam, where)
            for bounds in (ipam, *ipam.ip_ranges):
                if bounds.range:
                    yield _network(name, ipam, bounds, where)


def _network(name: str, ipam: _Ipam, bounds: _Range, where: str) -> _Network:
    cidr = _cidr(bounds.range, where)
    hosts = _hosts(cidr)
    first = parse_address(bounds.range_start).value if bounds.range_start else hosts.first()
    last = parse_address(bounds.range_end).value if bounds.range_end else hosts.last()
    addresses = hosts & AddressSet.from_intervals([(first, last)], cidr.family)
    for text in bounds.exclude or ():
        addresses -= AddressSet.from_cidr(_cidr(text if "/" in text else f"{text}/32", where))
    prefix = f"{ipam.network_name}-" if ipam.network_name else ""
    return _Network(
        name,
        prefix + str(cidr).replace(":", "-").replace("/", "-"),
        addresses,
        ipam.gateway if ipam.gateway and parse_address(ipam.gateway).family == cidr.family else "",
        tuple(Route(route.get("dst", ""), route.get("gw", "")) for route in ipam.routes or ()),
    )


def _hosts(cidr: Cidr) -> AddressSet:
    """What Whereabouts gives out of a range: neither its first address nor an IPv4 broadcast."""
    last = cidr.last - 1 if cidr.family == V4 else cidr.last
    return AddressSet.from_intervals([(cidr.first + 1, last)], cidr.family)


def _address(key: str, cidr: Cidr, where: str) -> Address:
    """The address at a distance from the range's own, or as it is written."""
    if key.isdigit():
        return Address(cidr.family, cidr.address + int(key))
    try:
        return parse_address(key)
    except AddressSyntaxError as error:
        raise BadInput(f"{where}: allocations: {error}") from None


def _pod_key(podref: str, where: str) -> PodKey:
    namespace, slash, name = podref.partition("/")
    if not slash:
        raise BadInput(
            f"{where}: an allocation names no Pod: {podref[:64]!r}",
            subject="allocations",
            remedy="let Whereabouts 0.5 or later write it, or delete the allocation",
        )
    return namespace, name


def _cidr(text: str, where: str) -> Cidr:
    try:
        return parse_cidr(text)
    except AddressSyntaxError as error:
        raise BadInput(f"{where}: {error}") from None
