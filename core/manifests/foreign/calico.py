"""Parse Calico's IPPools and IPAMBlocks (``crd.projectcalico.org/v1``). Raises only ``BadInput``.

A block is a part of a pool that one node uses. Each address of a block has an item in
``allocations``: null, or an index into ``attributes``, where the Pod is named. Addresses in use
without a Pod, such as those of tunnels, become reservations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from msgspec import Struct

from core.domain.addresses.ip_address import Address, parse_cidr
from core.domain.claims.takeover import Finding
from core.domain.model import Pool, Reservation
from core.domain.validation.common_rules import shortened
from core.errors import BadInput
from core.manifests.foreign.pods import (
    FIRST_INTERFACE,
    PodAddress,
    cluster_of,
    read_cidr,
    read_pods,
    split_by_kind,
)
from core.manifests.kinds.records import OpenMetadata
from core.manifests.spiderpool import Dump, convert

POD_USE: Final = "Workload"
"""The entry of ``allowedUses`` for addresses of Pods; an empty list includes this use."""

EVERY_OBJECT: Final = ("", "all()")
"""Selectors that select everything."""


class _PoolSpec(Struct, rename="camel", frozen=True):
    cidr: str
    disabled: bool = False
    node_selector: str = ""
    namespace_selector: str = ""
    allowed_uses: list[str] | None = None


class _PoolManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _PoolSpec


class _Attribute(Struct, frozen=True):
    secondary: dict[str, str] | None = None


class _BlockSpec(Struct, frozen=True):
    cidr: str
    allocations: list[int | None] = []
    attributes: list[_Attribute] = []


class _BlockManifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _BlockSpec


class _UsedAddress(NamedTuple):
    """An address in use. ``pod``: namespace and name, None for an address without a Pod."""

    address: Address
    pod: tuple[str, str] | None


def read_calico(values: Iterable[tuple[str, object]]) -> Dump:
    """Parse pairs of (location, object)."""
    by_kind, skipped = split_by_kind(values, ("IPPool", "IPAMBlock", "Pod"))
    findings: list[Finding] = []
    pools = [_pool(value, location, findings) for location, value in by_kind["IPPool"]]
    allocations, reserved = [], []
    for location, value in by_kind["IPAMBlock"]:
        for used in _used_addresses(value, location):
            pool = _pool_of(used.address, pools, location)
            if used.pod is None:
                reserved.append(used.address)
            else:
                allocations.append(PodAddress(used.address, pool, used.pod, FIRST_INTERFACE))
    pods = read_pods(by_kind["Pod"])
    cluster = cluster_of(pools, allocations, pods, _reservations(reserved))
    return Dump(cluster._replace(findings=(*findings, *cluster.findings)), skipped)


def _pool(value: object, location: str, findings: list[Finding]) -> Pool:
    body = convert(value, _PoolManifest, f"{location} (IPPool)")
    findings += _selector_findings(body)
    cidr = read_cidr(body.spec.cidr, f"{location} (IPPool {body.metadata.name})")
    first, last = Address(cidr.family, cidr.first), Address(cidr.family, cidr.last)
    return Pool(
        body.metadata.name,
        cidr.family,
        str(cidr),
        ips=(f"{first}-{last}",),
        disabled=body.spec.disabled or not _serves_pods(body.spec),
    )


def _serves_pods(spec: _PoolSpec) -> bool:
    return not spec.allowed_uses or POD_USE in spec.allowed_uses


def _selector_findings(body: _PoolManifest) -> Iterator[Finding]:
    """A finding for each selector: Calico's expressions are not converted to label selectors."""
    spec = body.spec
    for field, text, affinity in (
        ("nodeSelector", spec.node_selector, "nodeAffinity"),
        ("namespaceSelector", spec.namespace_selector, "namespaceAffinity"),
    ):
        if text.strip() not in EVERY_OBJECT:
            what = f"{field} is {shortened(text)}"
            done = f"not taken over: set {affinity} of the pool before Pods use it"
            yield Finding(f"pool/{body.metadata.name}", what, done)


def _used_addresses(value: object, location: str) -> Iterator[_UsedAddress]:
    body = convert(value, _BlockManifest, f"{location} (IPAMBlock)")
    where = f"{location} (IPAMBlock {body.metadata.name})"
    cidr, attributes = read_cidr(body.spec.cidr, where), body.spec.attributes
    for ordinal, index in enumerate(body.spec.allocations):
        if index is None:
            continue
        if not 0 <= index < len(attributes):
            raise BadInput(
                f"{where}: allocations[{ordinal}] is {index}, but attributes has no such item",
                subject="spec",
                remedy="export the IPAMBlock again",
            )
        secondary = attributes[index].secondary or {}
        pod = None
        if "namespace" in secondary and "pod" in secondary:
            pod = (secondary["namespace"], secondary["pod"])
        yield _UsedAddress(Address(cidr.family, cidr.first + ordinal), pod)


def _pool_of(address: Address, pools: Iterable[Pool], location: str) -> str:
    for pool in pools:
        cidr = parse_cidr(pool.subnet)
        if cidr.family == address.family and cidr.first <= address.value <= cidr.last:
            return pool.name
    raise BadInput(
        f"{location}: {address} is in use, but no IPPool contains it",
        subject=str(address),
        remedy="add the IPPool of the address to the input, or release the address in Calico",
    )


def _reservations(addresses: list[Address]) -> Iterator[Reservation]:
    for family in sorted({address.family for address in addresses}):
        reserved = sorted(address for address in addresses if address.family == family)
        yield Reservation(f"calico-v{family}", family, tuple(map(str, reserved)))
