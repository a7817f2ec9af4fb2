"""Parse the state of host-local: ranges in network configurations, and files on each node.

host-local writes a file for each address in use. The file is named after the address and contains
the container id and the interface. The address belongs to the living Pod on the same node whose
status has the address. Every address of a living Pod is taken over, even without a file: a lost
file does not make the address free (I6, docs/contributing/architecture.md). An address without a
living Pod is not taken over.

Input that may lack the address of a Pod is refused. Raises only ``BadInput``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import V4, Address, AddressSyntaxError, Cidr, parse_address
from core.domain.claims.takeover import Finding
from core.domain.model import Pool, Route
from core.errors import BadInput
from core.manifests.foreign.ipam_configurations import (
    NETWORK_KIND,
    IpamRoute,
    NetworkIpam,
    ipams_of,
    read_address,
    read_network,
    with_routes,
)
from core.manifests.foreign.pods import (
    ForeignPod,
    PodAddress,
    PodKey,
    cluster_of,
    read_cidr,
    read_pods,
    split_by_kind,
)
from core.manifests.kinds.records import OpenMetadata
from core.manifests.spiderpool import Dump, convert

IPAM_TYPE: Final = "host-local"
LAST_RESERVED_PREFIX: Final = "last_reserved_ip."
LOCK: Final = "lock"
"""``LOCK``, and files with the prefix, are not named after an address."""

CONTAINER_ID_CHARS: Final = 12

_NOT_IN_A_NAME: Final = re.compile("[^a-z0-9.-]+")


class NodeFiles(NamedTuple):
    """The files of one node.

    ``configurations``: (path, text). ``networks``: network -> file name -> text.
    """

    node: str
    configurations: Sequence[tuple[str, str]]
    networks: Mapping[str, Mapping[str, str]]


class _Range(Struct, rename="camel", frozen=True):
    subnet: str = ""
    range_start: str = ""
    range_end: str = ""
    gateway: str = ""


class _Ipam(_Range, rename="camel", frozen=True):
    data_dir: str = ""
    routes: list[IpamRoute] | None = None
    ranges: list[list[_Range]] = []


class _NodeSpec(Struct, frozen=True):
    pod_cidrs: list[str] | None = msgspec.field(default=None, name="podCIDRs")


class _NodeManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _NodeSpec = _NodeSpec()


class _NetworkRange(NamedTuple):
    """A range of a network. ``node``: "" for all nodes.

    ``nad``: the NetworkAttachmentDefinition as NAMESPACE/NAME, "" for none.
    """

    network: str
    node: str
    nad: str
    cidr: Cidr
    addresses: AddressSet
    gateway: str
    routes: tuple[Route, ...]

    def serves(self, node: str, address: Address) -> bool:
        """Whether the address is in the subnet, and the range is for this node."""
        return self.contains(address) and self.node in {"", node}

    def contains(self, address: Address) -> bool:
        """Whether the address is in the subnet."""
        cidr = self.cidr
        return cidr.family == address.family and cidr.first <= address.value <= cidr.last

    def offers(self, address: Address) -> bool:
        """Whether the range, which may be smaller than the subnet, has the address."""
        return self.contains(address) and address.value in self.addresses

    @property
    def pool(self) -> str:
        """The pool's name, as a DNS name."""
        subnet = str(self.cidr).replace(":", "-").replace("/", "-")
        return _NOT_IN_A_NAME.sub("-", f"{self.network}-{subnet}".lower()).strip("-.")


class _AddressFile(NamedTuple):
    """The file of an address. ``interface``: "" from old releases of host-local."""

    node: str
    network: str
    address: Address
    container: str
    interface: str


def data_directories(texts: Iterable[tuple[str, str]]) -> set[str]:
    """Each ``dataDir`` of host-local in these (path, configuration) pairs. Raises BadInput."""
    return {
        directory
        for path, text in texts
        for _, ipam in ipams_of(text, IPAM_TYPE, path)
        if (directory := convert(ipam, _Ipam, path).data_dir)
    }


def read_host_local(nodes: Sequence[NodeFiles], values: Iterable[tuple[str, object]]) -> Dump:
    """Make pools and endpoints from the files of nodes and from pairs of (location, object)."""
    by_kind, skipped = split_by_kind(values, ("Pod", "Node", NETWORK_KIND))
    pods = read_pods(by_kind["Pod"])
    pod_cidrs = dict(_pod_cidrs(value, location) for location, value in by_kind["Node"])
    ranges = [
        *(
            network_range
            for node in nodes
            for network_range in _ranges_of_node(node, pod_cidrs.get(node.node, ()))
        ),
        *(
            network_range
            for location, value in by_kind[NETWORK_KIND]
            for network_range in _ranges_of_network(value, location)
        ),
    ]
    findings: list[Finding] = []
    files = [file for node in nodes for file in _address_files(node, findings)]
    _require_folders({node.node for node in nodes}, pod_cidrs.keys(), ranges, pods)
    _require_started_pods(files, ranges, pods)
    allocations = [
        *_addresses_with_file(files, ranges, pods, findings),
        *_addresses_without_file(files, ranges, pods, findings),
    ]
    pools = _pools(ranges, allocations, {node.node for node in nodes}, findings)
    cluster = cluster_of(pools, allocations, pods)
    return Dump(cluster._replace(findings=(*findings, *cluster.findings)), skipped)


def _pod_cidrs(value: object, location: str) -> tuple[str, tuple[Cidr, ...]]:
    body = convert(value, _NodeManifest, f"{location} (Node)")
    where = f"{location} (Node {body.metadata.name}): spec.podCIDRs"
    cidrs = tuple(read_cidr(text, where) for text in body.spec.pod_cidrs or ())
    return body.metadata.name, cidrs


def _ranges_of_network(value: object, location: str) -> Iterator[_NetworkRange]:
    network = read_network(value, location)
    for network_ipam in ipams_of(network.text, IPAM_TYPE, network.where):
        name = network_ipam.network or network.name.partition("/")[2]
        yield from _ranges(network_ipam._replace(network=name), "", network.name, network.where)


def _ranges_of_node(node: NodeFiles, pod_cidrs: Iterable[Cidr]) -> Iterator[_NetworkRange]:
    """Yield the ranges of a node's networks.

    A network without a configured range uses the node's podCIDRs, as with flannel and kubenet.
    """
    configured = [
        network_range
        for path, text in node.configurations
        for network_ipam in ipams_of(text, IPAM_TYPE, path)
        for network_range in _ranges(network_ipam, node.node, "", path)
    ]
    yield from configured
    for network in sorted(
        node.networks.keys() - {network_range.network for network_range in configured}
    ):
        addresses = [address for name in node.networks[network] if (address := _address(name))]
        for cidr in pod_cidrs:
            derived = _network_range(NetworkIpam(network, {}), _Range(str(cidr)), (), "podCIDRs")
            derived = derived._replace(node=node.node)
            if any(derived.serves(node.node, address) for address in addresses):
                yield derived


def _ranges(network_ipam: NetworkIpam, node: str, nad: str, where: str) -> Iterator[_NetworkRange]:
    """Yield the ranges of an ``ipam``; an old configuration has one, at the top level."""
    ipam = convert(network_ipam.ipam, _Ipam, where)
    routes = tuple(Route(route.dst, route.gw) for route in ipam.routes or ())
    for bounds in (ipam, *chain.from_iterable(ipam.ranges)):
        if "/" in bounds.subnet:  # otherwise a placeholder, which another plugin replaces
            yield _network_range(network_ipam, bounds, routes, where)._replace(node=node, nad=nad)


def _network_range(
    network_ipam: NetworkIpam, bounds: _Range, routes: tuple[Route, ...], where: str
) -> _NetworkRange:
    """Make a range, by default with all hosts of the subnet and the first as gateway."""
    cidr = read_cidr(bounds.subnet, where)
    gateway = read_address(bounds.gateway, where) if bounds.gateway else None
    gateway = gateway or Address(cidr.family, cidr.first + 1)
    first = read_address(bounds.range_start, where).value if bounds.range_start else cidr.first + 1
    last = read_address(bounds.range_end, where).value if bounds.range_end else cidr.last
    if bounds.range_end == "" and cidr.family == V4:
        last = cidr.last - 1
    if not cidr.first <= first <= last <= cidr.last:
        raise BadInput(
            f"{where}: rangeStart and rangeEnd must be a range within {cidr}",
            subject=str(cidr),
            remedy="correct rangeStart and rangeEnd",
        )
    addresses = AddressSet.from_intervals([(first, last)], cidr.family)
    addresses -= AddressSet.from_values([gateway.value], cidr.family)
    return _NetworkRange(network_ipam.network, "", "", cidr, addresses, str(gateway), routes)


def _address_files(node: NodeFiles, findings: list[Finding]) -> Iterator[_AddressFile]:
    for network, files in sorted(node.networks.items()):
        for name, text in sorted(files.items()):
            if name == LOCK or name.startswith(LAST_RESERVED_PREFIX):
                continue
            address = _address(name)
            if address is None:
                what = f"the name of file {network}/{name} is not an address"
                findings.append(Finding(f"Node/{node.node}", what, "skipped"))
                continue
            words = text.split()
            container = words[0] if words else ""
            interface = words[1] if len(words) > 1 else ""
            yield _AddressFile(node.node, network, address, container, interface)


def _address(name: str) -> Address | None:
    try:
        return parse_address(name)
    except AddressSyntaxError:
        return None


def _require_folders(
    folders: set[str],
    nodes: Collection[str],
    ranges: Sequence[_NetworkRange],
    pods: Mapping[PodKey, ForeignPod],
) -> None:
    """Require a Node for each folder of files, and a folder for each node of a Pod in ``ranges``.

    Raises BadInput.
    """
    unknown = sorted(folders - set(nodes)) if nodes else []
    if unknown:
        raise BadInput(
            f"folder {unknown[0]} does not have the name of a Node",
            subject=unknown[0],
            remedy="rename the folder to its node's name, or remove it if the node was deleted",
        )
    for key, pod in sorted(pods.items()):
        for address in pod.addresses if pod.node not in folders else ():
            if any(network_range.contains(address) for network_range in ranges):
                raise BadInput(
                    f"Pod {'/'.join(key)} has {address} of a host-local range, but node"
                    f" {pod.node} has no folder",
                    subject="/".join(key),
                    remedy="add a folder with the name and the files of that node",
                )


def _require_started_pods(
    files: Iterable[_AddressFile],
    ranges: Sequence[_NetworkRange],
    pods: Mapping[PodKey, ForeignPod],
) -> None:
    """Refuse a file that may belong to a Pod whose status has no address yet."""
    pod_addresses = {(pod.node, address) for pod in pods.values() for address in pod.addresses}
    starting = {pod.node: key for key, pod in pods.items() if not pod.addresses}
    for file in files:
        key = starting.get(file.node)
        has_no_pod = (file.node, file.address) not in pod_addresses
        if (
            key is not None
            and has_no_pod
            and any(network_range.contains(file.address) for network_range in ranges)
        ):
            raise BadInput(
                f"Pods are starting: {file.network}/{file.address} on node {file.node} may belong"
                f" to Pod {'/'.join(key)}, whose status has no address yet",
                subject="/".join(key),
                remedy="import again when the Pod has started, or delete a Pod that cannot start",
            )


def _serving(
    ranges: Sequence[_NetworkRange], node: str, address: Address, network: str = ""
) -> _NetworkRange | None:
    """The range to which an address belongs, or None.

    Prefers ranges of ``network`` on the node, then other ranges on the node, then ranges of other
    nodes that offer the address.
    """
    on_node = [network_range for network_range in ranges if network_range.serves(node, address)]
    of_network = [network_range for network_range in on_node if network_range.network == network]
    offering = [network_range for network_range in ranges if network_range.offers(address)]
    candidates = [*of_network, *on_node, *offering]
    return candidates[0] if candidates else None


def _addresses_with_file(
    files: Iterable[_AddressFile],
    ranges: Sequence[_NetworkRange],
    pods: Mapping[PodKey, ForeignPod],
    findings: list[Finding],
) -> Iterator[PodAddress]:
    holders = {(pod.node, address): key for key, pod in pods.items() for address in pod.addresses}
    for file in files:
        key = holders.get((file.node, file.address))
        subject, path = f"Node/{file.node}", f"{file.network}/{file.address}"
        if key is None:
            container_id = file.container[:CONTAINER_ID_CHARS]
            what = f"{path} belongs to no living Pod (container {container_id or 'unknown'})"
            findings.append(Finding(subject, what, "leaked: not taken over"))
            continue
        serving = _serving(ranges, file.node, file.address, file.network)
        if serving is None:
            what = f"{path} belongs to {'/'.join(key)}, and no range contains it"
            done = "not taken over: add the configuration of this network"
            findings.append(Finding(subject, what, done))
            continue
        yield PodAddress(file.address, serving.pool, key, file.interface)


def _addresses_without_file(
    files: Iterable[_AddressFile],
    ranges: Sequence[_NetworkRange],
    pods: Mapping[PodKey, ForeignPod],
    findings: list[Finding],
) -> Iterator[PodAddress]:
    with_file = {(file.node, file.address) for file in files}
    for key, pod in pods.items():
        for address, (interface, _) in pod.addresses.items():
            serving = _serving(ranges, pod.node, address)
            if serving is None or (pod.node, address) in with_file:
                continue
            what = f"{'/'.join(key)} has {address}, but node {pod.node} has no file for it"
            findings.append(Finding(f"pool/{serving.pool}", what, "taken over"))
            yield PodAddress(address, serving.pool, key, interface)


def _pools(
    ranges: Iterable[_NetworkRange],
    allocations: Iterable[PodAddress],
    nodes: set[str],
    findings: list[Finding],
) -> list[Pool]:
    by_pool: defaultdict[str, list[_NetworkRange]] = defaultdict(list)
    for network_range in ranges:
        by_pool[network_range.pool].append(network_range)
    used: defaultdict[str, list[int]] = defaultdict(list)
    for allocation in allocations:
        used[allocation.pool].append(allocation.address.value)
    return [_pool(name, by_pool[name], used[name], nodes, findings) for name in sorted(by_pool)]


def _pool(
    name: str,
    ranges: Sequence[_NetworkRange],
    used: list[int],
    nodes: set[str],
    findings: list[Finding],
) -> Pool:
    cidr = ranges[0].cidr
    addresses = AddressSet.from_values(used, cidr.family)
    for network_range in ranges:
        addresses |= network_range.addresses
    gateways = {network_range.gateway for network_range in ranges}
    routes = {network_range.routes for network_range in ranges if network_range.routes}
    range_nodes = {network_range.node for network_range in ranges}
    pool = Pool(
        name,
        cidr.family,
        str(cidr),
        tuple(addresses.to_items()),
        gateway=gateways.pop() if len(gateways) == 1 else "",
        node_names=() if "" in range_nodes or range_nodes >= nodes else tuple(sorted(range_nodes)),
        multus_names=tuple(
            sorted({network_range.nad for network_range in ranges if network_range.nad})
        ),
    )
    return with_routes(pool, routes.pop() if len(routes) == 1 else (), findings)
