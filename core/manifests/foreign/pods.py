"""Makes endpoints from Pods, for IPAM systems that have no endpoints. Raises only ``BadInput``.

``NETWORK_STATUS`` (Multi-Network Specification, section 5) has the interface and MAC of an address.
An address that is only in ``status.podIPs`` belongs to the first interface.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from core.domain.addresses.ip_address import (
    Address,
    AddressSyntaxError,
    Cidr,
    parse_address,
    parse_cidr,
)
from core.domain.claims.assignment import nic_with_addresses
from core.domain.claims.takeover import AllocatedIP, Finding, ForeignCluster, ForeignPool
from core.domain.model import Endpoint, Nic, Pool, Reservation, pod_holder, stateful_holder
from core.errors import BadInput
from core.manifests.kinds.records import OpenMetadata
from core.manifests.schema_errors import JSON_ERRORS
from core.manifests.spiderpool import EXPORT_REMEDY, convert

NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"

FIRST_INTERFACE: Final = "eth0"
"""Every container runtime gives a Pod's default network this interface."""

PodKey = tuple[str, str]
"""Namespace and name."""

T = TypeVar("T")


class _PodSpec(Struct, rename="camel", frozen=True):
    node_name: str = ""
    host_network: bool = False


class _PodIp(Struct, frozen=True):
    ip: str = ""


class _PodStatus(Struct, frozen=True):
    phase: str = ""
    pod_ips: list[_PodIp] | None = msgspec.field(default=None, name="podIPs")


class _PodManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()


class _NetworkStatus(Struct, frozen=True):
    interface: str = ""
    ips: list[str] | None = None
    mac: str = ""


class ForeignPod(NamedTuple):
    """A Pod that may have addresses. ``addresses``: address -> (interface, MAC)."""

    namespace: str
    name: str
    uid: str
    node: str
    owner_kind: str
    owner_name: str
    addresses: Mapping[Address, tuple[str, str]]


class PodAddress(NamedTuple):
    """An address of a Pod. ``interface``: "" if the IPAM system does not store it."""

    address: Address
    pool: str
    pod: PodKey
    interface: str = ""


def read_pods(values: Iterable[tuple[str, object]]) -> dict[PodKey, ForeignPod]:
    """The Pods that may have addresses: neither ended nor in the host network."""
    pods = {}
    for location, value in values:
        body = convert(value, _PodManifest, f"{location} (Pod)")
        if body.status.phase not in ("Succeeded", "Failed") and not body.spec.host_network:
            pod = _pod(body, location)
            pods[pod.namespace, pod.name] = pod
    return pods


def endpoints_of(
    allocations: Sequence[PodAddress], pods: Mapping[PodKey, ForeignPod], pools: Mapping[str, Pool]
) -> tuple[tuple[Endpoint, ...], tuple[Finding, ...]]:
    """An endpoint for each Pod, and a finding for each address whose Pod is not in ``pods``."""
    by_pod: defaultdict[PodKey, list[PodAddress]] = defaultdict(list)
    findings = []
    for allocation in allocations:
        if allocation.pod in pods:
            by_pod[allocation.pod].append(allocation)
        else:
            pod = "/".join(allocation.pod)
            what = f"{allocation.address} is allocated to {pod}, which does not exist or has ended"
            findings.append(Finding(f"pool/{allocation.pool}", what, "leaked: not taken over"))
    endpoints = tuple(_endpoint(pods[key], items, pools) for key, items in sorted(by_pod.items()))
    return endpoints, tuple(findings)


def split_by_kind(
    values: Iterable[tuple[str, object]], kinds: Sequence[str]
) -> tuple[dict[str, list[tuple[str, Any]]], dict[str, int]]:
    """Group (location, object) pairs by ``kinds``; count the objects of other kinds."""
    by_kind: dict[str, list[tuple[str, Any]]] = {kind: [] for kind in kinds}
    skipped: Counter[str] = Counter()
    for location, value in values:
        kind = str(value.get("kind") if isinstance(value, Mapping) else None)
        if kind in by_kind:
            by_kind[kind].append((location, value))
        else:
            skipped[kind[:80]] += 1
    return by_kind, dict(skipped)


def cluster_of(
    pools: Sequence[Pool],
    allocations: Sequence[PodAddress],
    pods: Mapping[PodKey, ForeignPod],
    reservations: Iterable[Reservation] = (),
) -> ForeignCluster:
    """The cluster to import. An allocation whose Pod is not in ``pods`` becomes a finding."""
    endpoints, findings = endpoints_of(allocations, pods, {pool.name: pool for pool in pools})
    records: defaultdict[str, list[AllocatedIP]] = defaultdict(list)
    for allocation in allocations:
        pod = pods.get(allocation.pod)
        if pod is not None:
            address = str(allocation.address)
            record = AllocatedIP(address, allocation.pool, pod.namespace, pod.name, pod.uid)
            records[allocation.pool].append(record)
    foreign = tuple(ForeignPool(pool, tuple(records[pool.name])) for pool in pools)
    return ForeignCluster(
        pools=foreign, reservations=tuple(reservations), endpoints=endpoints, findings=findings
    )


def read_cidr(text: str, where: str) -> Cidr:
    """Parse a CIDR."""
    try:
        return parse_cidr(text)
    except AddressSyntaxError as error:
        raise BadInput(f"{where}: {error}", remedy=EXPORT_REMEDY) from None


def _pod(body: _PodManifest, location: str) -> ForeignPod:
    metadata = body.metadata
    owner = next((owner for owner in metadata.owner_references or () if owner.controller), None)
    text = (metadata.annotations or {}).get(NETWORK_STATUS, "[]")
    namespace = metadata.namespace or "default"
    where = f"{location} (Pod {namespace}/{metadata.name})"
    addresses = _first_interface_addresses(body.status.pod_ips or (), where)
    return ForeignPod(
        namespace,
        metadata.name,
        metadata.uid or "",
        body.spec.node_name,
        owner.kind if owner else "Pod",
        owner.name if owner else metadata.name,
        addresses | _network_status_addresses(text, f"{where}: {NETWORK_STATUS}"),
    )


def _first_interface_addresses(ips: Iterable[_PodIp], where: str) -> dict[Address, tuple[str, str]]:
    try:
        return {parse_address(item.ip): (FIRST_INTERFACE, "") for item in ips if item.ip}
    except AddressSyntaxError as error:
        raise BadInput(
            f"{where}: status.podIPs: {error}", subject="status.podIPs", remedy=EXPORT_REMEDY
        ) from None


def _network_status_addresses(text: str, where: str) -> dict[Address, tuple[str, str]]:
    try:
        statuses = msgspec.json.decode(text, type=list[_NetworkStatus])
        return {
            parse_address(ip): (status.interface, status.mac)
            for status in statuses
            for ip in status.ips or ()
        }
    except (*JSON_ERRORS, AddressSyntaxError) as error:
        raise BadInput(f"{where}: {error}", subject=NETWORK_STATUS, remedy=EXPORT_REMEDY) from None


def _endpoint(
    pod: ForeignPod, allocations: Iterable[PodAddress], pools: Mapping[str, Pool]
) -> Endpoint:
    by_interface: defaultdict[str, list[PodAddress]] = defaultdict(list)
    macs: dict[str, str] = {}
    for allocation in allocations:
        interface, mac = pod.addresses.get(allocation.address, ("", ""))
        name = allocation.interface or interface
        by_interface[name].append(allocation)
        macs[name] = mac or macs.get(name, "")
    nics = [
        nic._replace(mac=macs[name])
        for name, items in by_interface.items()
        for nic in _nics(name, items, pools)
    ]
    holder = pod_holder(pod.uid)
    if pod.owner_kind == "StatefulSet":
        holder = stateful_holder("statefulset", pod.namespace, pod.name)
    return Endpoint(
        pod.namespace,
        pod.name,
        pod.uid,
        pod.node,
        holder,
        pod.owner_kind,
        pod.owner_name,
        tuple(nics),
    )


def _nics(
    interface: str, allocations: Iterable[PodAddress], pools: Mapping[str, Pool]
) -> Iterator[Nic]:
    """A NIC has at most one address of each family."""
    by_family: dict[int, list[tuple[Pool, int]]] = {4: [], 6: []}
    for allocation in allocations:
        address = allocation.address
        by_family[address.family].append((pools[allocation.pool], address.value))
    for pairs in zip_longest(*by_family.values()):
        yield nic_with_addresses(interface, [pair for pair in pairs if pair is not None])
