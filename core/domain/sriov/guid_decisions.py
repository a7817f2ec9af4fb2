"""Decide which GUIDs are assigned to virtual functions, and which are released. Pure.

Two virtual functions with the same GUID would receive each other's traffic. A GUID is assigned
before it is set, and released when the NIC shows that the virtual function does not exist.
Unreadable NICs release no GUID (I6 in docs/contributing/architecture.md, "Invariants").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from core.domain.events import GuidReleaseReason, GuidsAssigned, GuidsReleased
from core.domain.sriov.guid_file import GuidFile
from core.domain.sriov.model import (
    INFINIBAND,
    GuidClaim,
    NodeGuids,
    PhysicalFunction,
    VfGuid,
)
from core.domain.sriov.vf_macs_and_guids import assigned_mac
from core.domain.sriov.vf_plan import NodePlan, SetVfCount, SetVfMac

GuidEvent = GuidsAssigned | GuidsReleased


class GuidConflict(NamedTuple):
    """A requested GUID that another virtual function holds."""

    requested: VfGuid
    holder: GuidClaim


class GuidDecision(NamedTuple):
    """The ``events`` to write. GUIDs in ``conflicts`` are not assigned."""

    events: tuple[GuidEvent, ...] = ()
    conflicts: tuple[GuidConflict, ...] = ()


def requested_guids(
    plan: NodePlan, nics: Iterable[PhysicalFunction], guid_file: GuidFile
) -> list[VfGuid]:
    """The GUIDs that this plan sets, and the GUIDs that an earlier plan has set.

    NICs in ``plan.drain`` get no new GUIDs before the drain.
    """
    by_address = {nic.address: nic for nic in nics if nic.link_type == INFINIBAND}
    # The ``mac`` of an InfiniBand function is its GUID.
    changes = [
        VfGuid(action.mac, action.address, by_address[action.address].mac, action.vf)
        for action in plan.actions
        if isinstance(action, SetVfMac)
        and action.address in by_address
        and action.nic not in plan.drain
    ]
    changed = {(guid.nic, guid.vf) for guid in changes}
    unchanged = [
        VfGuid(vf.mac, nic.address, nic.mac, vf.number)
        for target in plan.desired
        if (nic := by_address.get(target.address)) and not target.externally_managed
        for vf in nic.vfs
        if vf.mac == assigned_mac(nic, vf.number, guid_file)
        and (nic.address, vf.number) not in changed
    ]
    return changes + unchanged


def ended_guids(
    held_guids: Iterable[VfGuid], plan: NodePlan, nics: Iterable[PhysicalFunction]
) -> Iterator[tuple[VfGuid, GuidReleaseReason]]:
    """Yield the GUIDs to release, with the reason. ``held_guids``: the GUIDs of the node.

    "removed": the virtual function is gone. "replaced": it has another GUID of the node.
    """
    by_address = {nic.address: nic for nic in nics}
    planned = {
        (action.address, action.vf, action.mac)
        for action in plan.actions
        if isinstance(action, SetVfMac)
    }
    held_guids = list(held_guids)
    for guid in held_guids:
        nic = by_address.get(guid.nic)
        # A NIC without its own address was not read completely.
        if nic is None or not nic.mac or (guid.nic, guid.vf, guid.guid) in planned:
            continue
        vf = next((vf for vf in nic.vfs if vf.number == guid.vf), None)
        if nic.mac != guid.nic_guid or vf is None:
            yield guid, "removed"
        elif vf.mac != guid.guid and guid._replace(guid=vf.mac) in held_guids:
            yield guid, "replaced"


def reassignable_guids(held_guids: Iterable[VfGuid], plan: NodePlan) -> Iterator[VfGuid]:
    """The held GUIDs whose virtual functions the plan removes or recreates."""
    changed_nics = {
        action.address
        for action in plan.actions
        if isinstance(action, SetVfCount) and action.nic not in plan.drain
    }
    return (guid for guid in held_guids if guid.nic in changed_nics)


def decide_assignment(
    node: str,
    requested: Sequence[VfGuid],
    claims: Mapping[str, GuidClaim],
    replaced: Collection[VfGuid] = (),
) -> GuidDecision:
    """Assign the requested GUIDs. ``claims``: GUID -> present holder.

    A NIC that was moved to another node or slot keeps its GUIDs. ``replaced``: GUIDs of the node
    that may be assigned again.
    """
    assigned: dict[str, VfGuid] = {}
    released: dict[tuple[str, GuidReleaseReason], list[VfGuid]] = {}
    conflicts: list[GuidConflict] = []
    for guid in requested:
        if guid.guid in assigned:
            conflicts.append(GuidConflict(guid, claim_of(node, assigned[guid.guid])))
            continue
        holder = claims.get(guid.guid)
        if holder == claim_of(node, guid):
            continue
        if holder is not None:
            former = vf_guid_of(guid.guid, holder)
            if holder.is_same_function(guid):
                reason: GuidReleaseReason = "moved"
            elif holder.node == node and former in replaced:
                reason = "replaced"
            else:
                conflicts.append(GuidConflict(guid, holder))
                continue
            released.setdefault((holder.node, reason), []).append(former)
        assigned[guid.guid] = guid
    events: list[GuidEvent] = [
        GuidsReleased(other, tuple(guids), reason) for (other, reason), guids in released.items()
    ]
    if assigned:
        events.append(GuidsAssigned(node, tuple(assigned.values())))
    return GuidDecision(tuple(events), tuple(conflicts))


def claim_of(node: str, guid: VfGuid) -> GuidClaim:
    """The claim of a virtual function of a node."""
    return GuidClaim(node, guid.nic, guid.nic_guid, guid.vf)


def vf_guid_of(text: str, claim: GuidClaim) -> VfGuid:
    """Combine a GUID with the virtual function that its claim names."""
    return VfGuid(text, claim.nic, claim.nic_guid, claim.vf)


def guids_by_node(claims: Mapping[str, GuidClaim]) -> Iterator[NodeGuids]:
    """The GUIDs of each node, sorted."""
    nodes: dict[str, list[VfGuid]] = {}
    for text, claim in claims.items():
        nodes.setdefault(claim.node, []).append(vf_guid_of(text, claim))
    for node, guids in nodes.items():
        yield NodeGuids(node, tuple(sorted(guids, key=lambda guid: (guid.nic, guid.vf, guid.guid))))
