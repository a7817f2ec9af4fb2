"""Renders the SriovNetworkNodeState of a node: desired NICs as spec, actual NICs as status."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

import msgspec

from core.domain.sriov.model import INFINIBAND, ON_OFF_TEXTS, PhysicalFunction, VirtualFunction
from core.domain.sriov.vf_plan import DesiredNic, VfGroup
from core.manifests.kinds.sriov import (
    API_VERSION,
    NODE_STATE,
    DesiredInterface,
    InterfaceReport,
    NodeStateReport,
    NodeStateSpec,
    VfGroupSpec,
    VfReport,
)

SUCCEEDED: Final = "Succeeded"
IN_PROGRESS: Final = "InProgress"
FAILED: Final = "Failed"

DESIRED_DRAIN_STATE: Final = "sriovnetwork.openshift.io/desired-state"
CURRENT_DRAIN_STATE: Final = "sriovnetwork.openshift.io/current-state"
"""Annotations. The agent requests a drain in ``DESIRED_DRAIN_STATE``; the controller reports the
progress in ``CURRENT_DRAIN_STATE``."""

IDLE: Final = "Idle"
DRAIN_REQUIRED: Final = "Drain_Required"
DRAINING: Final = "Draining"
"""The values of both annotations."""

DRAIN_LABEL: Final = "sriov.spidernet.io/drain"
"""A SriovNetworkNodeState has this label, with the value ``DRAIN_REQUIRED``, while its node must be
drained. A Node has it, with another value, while it is cordoned for a drain."""

BLOCKING_PODS: Final = "sriov.spidernet.io/blocking-pods"
"""Annotation of a drain request: a JSON list of the Pods (``namespace/name``) to evict."""

ERROR_CHARS_MAX: Final = 4_096
"""A longer ``lastSyncError`` is cut."""


class SyncResult(NamedTuple):
    """The result of the agent's last attempt to apply the desired state.

    ``status``: SUCCEEDED, IN_PROGRESS or FAILED. ``error``: "" for none.
    """

    status: str
    error: str = ""


def node_state(name: str, desired: Sequence[DesiredNic]) -> dict[str, Any]:
    """The SriovNetworkNodeState without its status, for server-side apply."""
    spec = NodeStateSpec([_desired(nic) for nic in desired])
    return {
        "apiVersion": API_VERSION,
        "kind": NODE_STATE,
        "metadata": {"name": name},
        "spec": msgspec.to_builtins(spec),
    }


def node_state_status(
    name: str, nics: Sequence[PhysicalFunction], external: AbstractSet[str], result: SyncResult
) -> dict[str, Any]:
    """The SriovNetworkNodeState with only its status, for a merge patch.

    ``external``: PCI addresses of NICs that another program manages.
    """
    report = NodeStateReport(
        [_interface(nic, external) for nic in nics], result.status, result.error[:ERROR_CHARS_MAX]
    )
    return {
        "apiVersion": API_VERSION,
        "kind": NODE_STATE,
        "metadata": {"name": name},
        "status": msgspec.to_builtins(report),
    }


def _desired(nic: DesiredNic) -> DesiredInterface:
    return DesiredInterface(
        nic.address,
        name=nic.nic,
        num_vfs=nic.vfs,
        mtu=nic.mtu,
        e_switch_mode=nic.eswitch_mode,
        vf_groups=[_group(group) for group in nic.groups],
        externally_managed=nic.externally_managed,
    )


def _group(group: VfGroup) -> VfGroupSpec:
    return VfGroupSpec(
        group.resource,
        group.policy,
        str(group.vfs),
        group.device_type,
        group.is_rdma,
        group.mtu,
        trust=ON_OFF_TEXTS[group.trust],
        spoof_chk=ON_OFF_TEXTS[group.spoof_check],
    )


def _interface(nic: PhysicalFunction, external: AbstractSet[str]) -> InterfaceReport:
    return InterfaceReport(
        nic.address,
        nic.name,
        nic.mac,
        nic.driver,
        nic.vendor,
        nic.device,
        nic.mtu,
        nic.link_type.upper(),
        e_switch_mode=nic.eswitch_mode,
        totalvfs=nic.vfs_max,
        num_vfs=len(nic.vfs),
        externally_managed=nic.address in external,
        vfs=[_vf(nic, vf) for vf in nic.vfs],
    )


def _vf(nic: PhysicalFunction, vf: VirtualFunction) -> VfReport:
    is_infiniband = nic.link_type == INFINIBAND
    return VfReport(
        vf.number,
        vf.address,
        vf.link,
        mac="" if is_infiniband else vf.mac,
        guid=vf.mac if is_infiniband else "",
        driver=vf.driver,
        mtu=vf.mtu,
        vlan=vf.vlan,
        assigned="true" if vf.is_used else "",
        trust=ON_OFF_TEXTS[vf.trust],
        spoof_chk=ON_OFF_TEXTS[vf.spoof_check],
    )
