"""Parse the NodeSlicePools of Whereabouts (``nodeslicepools.whereabouts.cni.cncf.io/v1alpha1``).

With ``node_slice_size`` in the ``ipam`` of a network, Whereabouts divides the network's range among
the nodes. Each node's part, a slice, has an IPPool for the slice. Raises only ``BadInput``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from core.domain.addresses.ip_address import Cidr
from core.domain.claims.takeover import Finding
from core.domain.validation.common_rules import counted
from core.manifests.foreign.pods import read_cidr
from core.manifests.kinds.records import OpenMetadata
from core.manifests.spiderpool import convert

NODE_SLICE_KIND: Final = "NodeSlicePool"


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
    """One slice. ``pool``: its NodeSlicePool. ``node``: "" if the slice has no node yet."""

    pool: str
    network_range: Cidr
    cidr: Cidr
    node: str


def read_node_slices(values: Iterable[tuple[str, object]]) -> list[NodeSlice]:
    """The slices of these objects."""
    slices = []
    for location, value in values:
        body = convert(value, _Manifest, f"{location} ({NODE_SLICE_KIND})")
        where = f"{location} ({NODE_SLICE_KIND} {body.metadata.name})"
        network_range = read_cidr(body.spec.range, where)
        for node_slice in body.status.allocations:
            cidr = read_cidr(node_slice.slice_range, where)
            slices.append(NodeSlice(body.metadata.name, network_range, cidr, node_slice.node_name))
    return slices


def slice_of(name: str, cidr: Cidr, slices: Sequence[NodeSlice]) -> NodeSlice | None:
    """The slice of an IPPool, found by ``cidr`` and by the node's name in the IPPool's ``name``.

    The rest of ``name`` differs between releases of Whereabouts.
    """
    for node_slice in slices:
        if node_slice.node and node_slice.cidr == cidr and node_slice.node in name:
            return node_slice
    return None


def findings_of(slices: Sequence[NodeSlice]) -> list[Finding]:
    """A finding for each NodeSlicePool that has slices without a node."""
    findings = []
    for pool in dict.fromkeys(node_slice.pool for node_slice in slices):
        count = sum(node_slice.pool == pool and not node_slice.node for node_slice in slices)
        if count:
            what = f"{counted(count, 'slice')} without a node"
            done = "not taken over: a pool without a node would serve every node"
            findings.append(Finding(f"{NODE_SLICE_KIND}/{pool}", what, done))
    return findings
