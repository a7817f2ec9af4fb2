"""Parse the NodeSlicePools of Whereabouts: which part of a network's range each node assigns.

With ``node_slice_size`` in the ``ipam`` of a network, Whereabouts divides its range among the nodes
(``nodeslicepools.whereabouts.cni.cncf.io/v1alpha1``). The IPPool of a slice has the slice as its
range, and node and slice in its name. Raises only ``BadInput``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.ip_address import Cidr
from core.domain.claims.takeover import Finding
from core.manifests.foreign.pods import convert, read_cidr
from core.manifests.kinds.records import OpenMetadata

NODE_SLICES: Final = "NodeSlicePool"


class _Allocation(Struct, frozen=True, rename="camel"):
    slice_range: str
    node_name: str = ""


class _Status(Struct, frozen=True):
    allocations: list[_Allocation] = []


class _Spec(Struct, frozen=True):
    range: str


class _Manifest(Struct, frozen=True):
    metadata: OpenMetadata
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)


class NodeSlice(NamedTuple):
    """The part ``cidr`` of the range ``whole``. ``node`` "": no node has it yet."""

    pool: str
    whole: Cidr
    cidr: Cidr
    node: str


def read_node_slices(values: Iterable[tuple[str, object]]) -> list[NodeSlice]:
    """The slices of these objects. Raises BadInput."""
    slices = []
    for location, value in values:
        body = convert(value, _Manifest, f"{location} ({NODE_SLICES})")
        where = f"{location} ({NODE_SLICES} {body.metadata.name})"
        whole = read_cidr(body.spec.range, where)
        slices += [
            NodeSlice(body.metadata.name, whole, read_cidr(part.slice_range, where), part.node_name)
            for part in body.status.allocations
        ]
    return slices


def slice_of(name: str, cidr: Cidr, slices: Sequence[NodeSlice]) -> NodeSlice | None:
    """The slice whose addresses an IPPool has; releases of Whereabouts differ in its name."""
    return next((one for one in slices if one.node and one.cidr == cidr and one.node in name), None)


def findings_of(slices: Sequence[NodeSlice]) -> list[Finding]:
    """A finding for each object with slices that no node has."""
    findings = []
    for pool in dict.fromkeys(one.pool for one in slices):
        count = sum(one.pool == pool and not one.node for one in slices)
        if count:
            what = f"{count} slices belong to no node, for nodes that come later"
            done = "not taken over: a pool without nodeName serves every node"
            findings.append(Finding(f"{NODE_SLICES}/{pool}", what, done))
    return findings
