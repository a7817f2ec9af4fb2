"""Records the GUIDs of the node's InfiniBand virtual functions in the event log.

A GUID is recorded before it is set, so no two virtual functions of the cluster get the same GUID.
A NIC whose GUIDs cannot be recorded must not be changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from core.allocation.guid_registry import GuidRegistry
from core.domain.sriov.guid_decisions import (
    GuidConflict,
    ended_guids,
    reassignable_guids,
    requested_guids,
)
from core.domain.sriov.guid_file import GUID_FILE, GuidFile
from core.domain.sriov.model import INFINIBAND, PhysicalFunction, VfGuid
from core.domain.sriov.vf_plan import NodePlan, SetVfMac
from core.errors import OrbweaverError

CONFLICTS_SHOWN: Final = 4


class GuidKeeper:
    """Keeps the records of one node's GUIDs in the event log."""

    def __init__(self, registry: GuidRegistry) -> None:
        self._registry = registry
        self._has_no_records = False  # also before the first read

    async def update_records(
        self, plan: NodePlan, nics: Sequence[PhysicalFunction], guid_file: GuidFile
    ) -> Mapping[str, str]:
        """Release and assign GUIDs; return why NICs must not be changed now, by NIC name."""
        if self._has_no_records and not any(nic.link_type == INFINIBAND for nic in nics):
            return {}
        requested = requested_guids(plan, nics, guid_file)
        try:
            conflicts = await self._write(requested, plan, nics)
        except OrbweaverError as error:
            nics_to_change = {action.nic for action in plan.actions if isinstance(action, SetVfMac)}
            return {
                nic.name: f"{nic.name}: its GUIDs cannot be written to the event log: {error}"
                for nic in nics
                if nic.link_type == INFINIBAND and nic.name in nics_to_change
            }
        by_pci_address: dict[str, list[GuidConflict]] = {}
        for conflict in conflicts:
            by_pci_address.setdefault(conflict.requested.nic, []).append(conflict)
        return {
            nic.name: _conflict_text(nic.name, by_pci_address[nic.address])
            for nic in nics
            if nic.address in by_pci_address
        }

    async def _write(
        self, requested: Sequence[VfGuid], plan: NodePlan, nics: Sequence[PhysicalFunction]
    ) -> Sequence[GuidConflict]:
        recorded = await self._registry.held()
        self._has_no_records = not recorded
        await self._registry.release(ended_guids(recorded, plan, nics))
        recorded_guids = set(recorded)
        missing_guids = [guid for guid in requested if guid not in recorded_guids]
        replaced = set(reassignable_guids(recorded, plan)).difference(requested)
        return await self._registry.assign(missing_guids, replaced)


def _conflict_text(nic: str, conflicts: Sequence[GuidConflict]) -> str:
    texts = [
        f"{requested.guid} of virtual function {requested.vf} belongs to virtual function"
        f" {holder.vf} of {holder.nic} on node {holder.node}"
        for requested, holder in conflicts[:CONFLICTS_SHOWN]
    ]
    more = len(conflicts) - len(texts)
    suffix = f", and {more} more" if more else ""
    remedy = f"give each virtual function its own GUID in {GUID_FILE}"
    return f"{nic}: GUID {', '.join(texts)}{suffix}; {remedy}"
