"""Parse the objects of Whereabouts (``whereabouts.cni.cncf.io/v1alpha1``).

The key of an allocation is the offset of its address from the range's address; before release 0.5,
the key was the address itself. Bounds, gateway and routes are in the ``ipam`` of a
NetworkAttachmentDefinition.

Raises only ``BadInput``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import (
    ADDRESS_BITS,
    V4,
    Address,
    Cidr,
)
from core.domain.claims.takeover import Finding
from core.domain.model import Pool, Route
from core.errors import BadInput
from core.manifests.foreign.ipam_configurations import (
    NETWORK_KIND,
    IpamRoute,
    ipams_of,
    read_address,
    read_network,
    with_routes,
)
from core.manifests.foreign.node_slices import (
    NODE_SLICE_KIND,
    NodeSlice,
    findings_of,
    read_node_slices,
    slice_of,
)
from core.manifests.foreign.pods import (
    PodAddress,
    PodKey,
    cluster_of,
    read_cidr,
    read_pods,
    split_by_kind,
)
from core.manifests.kinds.records import OpenMetadata
from core.manifests.spiderpool import Dump, convert

IPAM_TYPE: Final = "whereabouts"


class _Allocation(Struct, frozen=True):
    podref: str = ""
    ifname: str = ""


class _PoolSpec(Struct, frozen=True):
    range: str
    allocations: dict[str, _Allocation] = {}


class _PoolManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _PoolSpec


class _Range(Struct, frozen=True):
    range: str = ""
    range_start: str = ""
    range_end: str = ""
    exclude: list[str] | None = None


class _Ipam(_Range, frozen=True):
    type: str = ""
    network_name: str = ""
    node_slice_size: str = ""
    gateway: str = ""
    routes: list[IpamRoute] | None = None
    ip_ranges: list[_Range] = msgspec.field(default_factory=list, name="ipRanges")


class _NetworkRange(NamedTuple):
    """A range of the network ``name`` (NAMESPACE/NAME). ``pool``: the name of the range's IPPool.

    ``is_sliced``: each node has a part of ``cidr``; range_start and range_end are ignored.
    """

    name: str
    pool: str
    cidr: Cidr
    is_sliced: bool
    addresses: AddressSet
    gateway: str
    routes: tuple[Route, ...]


def read_whereabouts(values: Iterable[tuple[str, object]]) -> Dump:
    """Parse pairs of (location, object)."""
    by_kind, skipped = split_by_kind(values, ("IPPool", "Pod", NETWORK_KIND, NODE_SLICE_KIND))
    networks = [
        network
        for location, value in by_kind[NETWORK_KIND]
        for network in _networks(value, location)
    ]
    slices = read_node_slices(by_kind[NODE_SLICE_KIND])
    _require_slices(networks, slices)
    pools, allocations = [], []
    findings: list[Finding] = []
    for location, value in by_kind["IPPool"]:
        pool, pool_allocations = _pool(value, location, networks, slices, findings)
        pools.append(pool)
        allocations += pool_allocations
    cluster = cluster_of(pools, allocations, read_pods(by_kind["Pod"]))
    findings += (*cluster.findings, *findings_of(slices))
    return Dump(cluster._replace(findings=tuple(findings)), skipped)


def _require_slices(networks: list[_NetworkRange], slices: list[NodeSlice]) -> None:
    """Raise BadInput if slices are missing.

    Without its slice, the IPPool of one node would become a pool for all nodes.
    """
    sliced_ranges = {node_slice.network_range for node_slice in slices}
    for network in networks:
        if network.is_sliced and network.cidr not in sliced_ranges:
            raise BadInput(
                f"network {network.name} divides {network.cidr} among the nodes, but the input has"
                f" no {NODE_SLICE_KIND} with this range",
                subject=network.name,
                remedy="add nodeslicepools.whereabouts.cni.cncf.io to the input",
            )


def _pool(
    value: object,
    location: str,
    networks: list[_NetworkRange],
    slices: list[NodeSlice],
    findings: list[Finding],
) -> tuple[Pool, list[PodAddress]]:
    body = convert(value, _PoolManifest, f"{location} (IPPool)")
    name = body.metadata.name
    where = f"{location} (IPPool {name})"
    cidr = _range_cidr(body.spec.range, where)
    allocations = [
        PodAddress(_address(key, cidr, where), name, _pod_key(stored.podref, where), stored.ifname)
        for key, stored in body.spec.allocations.items()
    ]
    node_slice = slice_of(name, cidr, slices)
    own_networks = [network for network in networks if _uses(network, name, node_slice)]
    allocated = [allocation.address.value for allocation in allocations]
    addresses = AddressSet.from_values(allocated, cidr.family)
    for network in own_networks:
        addresses |= network.addresses & _hosts(cidr)
    if not own_networks:
        addresses |= _hosts(cidr)
    gateways = {
        network.gateway
        for network in own_networks
        if network.gateway and cidr.first <= read_address(network.gateway, where).value <= cidr.last
    }
    routes = {network.routes for network in own_networks if network.routes}
    gateway = gateways.pop() if len(gateways) == 1 else ""
    if gateway:  # the gateway's address stays in the pool if a Pod has it
        reserved = {read_address(gateway, where).value} - set(allocated)
        addresses -= AddressSet.from_values(reserved, cidr.family)
    pool = Pool(
        name,
        cidr.family,
        str(cidr),
        tuple(addresses.to_items()),
        gateway=gateway,
        node_names=(node_slice.node,) if node_slice else (),
        multus_names=tuple(sorted(network.name for network in own_networks)),
    )
    pool = with_routes(pool, routes.pop() if len(routes) == 1 else (), findings)
    return pool, allocations


def _uses(network: _NetworkRange, pool: str, node_slice: NodeSlice | None) -> bool:
    """Whether a network uses an IPPool. ``node_slice``: the IPPool's slice, None for none."""
    if node_slice is not None and network.is_sliced:
        return network.cidr == node_slice.network_range
    return network.pool == pool


def _networks(value: object, location: str) -> Iterator[_NetworkRange]:
    network = read_network(value, location)
    for _, raw_ipam in ipams_of(network.text, IPAM_TYPE, network.where):
        ipam = convert(raw_ipam, _Ipam, network.where)
        for bounds in (ipam, *ipam.ip_ranges):
            if bounds.range:
                yield _network(network.name, ipam, bounds, network.where)


def _network(name: str, ipam: _Ipam, bounds: _Range, where: str) -> _NetworkRange:
    cidr = _range_cidr(bounds.range, where)
    prefix = f"{ipam.network_name}-" if ipam.network_name else ""
    gateway = read_address(ipam.gateway, where) if ipam.gateway else None
    return _NetworkRange(
        name,
        prefix + str(cidr).replace(":", "-").replace("/", "-"),
        cidr,
        bool(ipam.node_slice_size),
        _addresses(bounds, cidr, where, is_bounded=not ipam.node_slice_size),
        ipam.gateway if gateway is not None and gateway.family == cidr.family else "",
        tuple(Route(route.dst, route.gw) for route in ipam.routes or ()),
    )


def _range_cidr(text: str, where: str) -> Cidr:
    """The CIDR of a range, which may be written FIRST-LAST/LENGTH."""
    first, dash, last = text.partition("-")
    return read_cidr(f"{first}/{last.partition('/')[2]}" if dash else text, where)


def _addresses(bounds: _Range, cidr: Cidr, where: str, *, is_bounded: bool) -> AddressSet:
    hosts = _hosts(cidr)
    if not is_bounded:
        bounds = _Range(str(cidr), exclude=bounds.exclude)
    first, last = bounds.range_start, bounds.range_end
    if "-" in bounds.range:  # FIRST-LAST/LENGTH
        range_first, _, range_last = bounds.range.partition("-")
        first = first or range_first
        last = last or range_last.partition("/")[0]
    low = read_address(first, where).value if first else cidr.first
    high = read_address(last, where).value if last else cidr.last
    if low > high:
        raise BadInput(
            f"{where}: {cidr} has no address from {first or 'its start'} to {last or 'its end'}",
            remedy="correct range_start, range_end or range",
        )
    addresses = hosts & AddressSet.from_intervals([(low, high)], cidr.family)
    for text in bounds.exclude or ():
        excluded = text if "/" in text else f"{text}/{ADDRESS_BITS[cidr.family]}"
        addresses -= AddressSet.from_cidr(read_cidr(excluded, where))
    return addresses


def _hosts(cidr: Cidr) -> AddressSet:
    """All addresses except the first one and the IPv4 broadcast, as in Whereabouts."""
    last = cidr.last - 1 if cidr.family == V4 else cidr.last
    hosts = [(cidr.first + 1, last)] if cidr.first < last else []
    return AddressSet.from_intervals(hosts, cidr.family)


def _address(key: str, cidr: Cidr, where: str) -> Address:
    if key.isdigit():
        return Address(cidr.family, cidr.address + int(key))
    return read_address(key, f"{where}: allocations")


def _pod_key(podref: str, where: str) -> PodKey:
    namespace, slash, name = podref.partition("/")
    if not slash:
        raise BadInput(
            f"{where}: the podref of an allocation names no Pod: expected NAMESPACE/NAME,"
            f" found {podref[:64]!r}",
            subject="allocations",
            remedy="delete the allocation, or upgrade to Whereabouts 0.5, which writes podref",
        )
    return namespace, name
