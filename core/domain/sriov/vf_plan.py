"""Plan the actions that create the virtual functions of policies on a node's NICs.

The plan is deterministic. Once all actions are done, the next plan has none. A NIC that carries
the node's own traffic is never changed. A part of a policy that cannot be carried out is a refusal;
all other parts are carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from core.domain.sriov.guid_file import GUID_FILE, GuidFile
from core.domain.sriov.model import (
    ETHERNET_SETTINGS,
    INFINIBAND,
    NETDEVICE,
    ON_OFF_TEXTS,
    VFIO,
    NodePolicy,
    PhysicalFunction,
    VfRange,
    VirtualFunction,
    has_ethernet_settings,
    policy_problems,
)
from core.domain.sriov.vf_macs_and_guids import assigned_mac

_UNSET_MACS: Final = (
    "00:00:00:00:00:00",
    "00:00:00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff:ff:ff",  # the CNI plugin ib-sriov sets this if there is no GUID
)
NO_GUID_FILE: Final = GuidFile()


class VfGroup(NamedTuple):
    """Virtual functions of one NIC that belong to one resource.

    ``mtu`` 0, ``trust`` and ``spoof_check`` None: keep the current setting.
    """

    resource: str
    policy: str
    vfs: VfRange
    device_type: str = NETDEVICE
    is_rdma: bool = False
    mtu: int = 0
    exclude_topology: bool = False
    trust: bool | None = None
    spoof_check: bool | None = None


_NO_GROUP: Final = VfGroup(resource="", policy="", vfs=VfRange(0, 0))
"""For virtual functions that no policy selects."""


class DesiredNic(NamedTuple):
    """The desired state of a NIC. ``mtu`` 0 or ``eswitch_mode`` "": keep the current value."""

    nic: str
    address: str
    vfs: int
    mtu: int = 0
    eswitch_mode: str = ""
    externally_managed: bool = False
    groups: tuple[VfGroup, ...] = ()


class SetVfCount(NamedTuple):
    """Set the number of virtual functions. The kernel allows only changes from 0 or to 0.

    New virtual functions have no driver until their hardware address is set.
    """

    nic: str
    address: str
    vfs: int

    def __str__(self) -> str:
        return f"{self.nic}: numVfs {self.vfs}"


class SetEswitchMode(NamedTuple):
    """Set the mode of a NIC's embedded switch. The NIC must have no virtual functions."""

    nic: str
    address: str
    mode: str

    def __str__(self) -> str:
        return f"{self.nic}: eSwitchMode {self.mode}"


class SetMtu(NamedTuple):
    """Set the MTU of a virtual function, or of the NIC if ``vf`` is None."""

    nic: str
    address: str
    vf: int | None
    mtu: int

    def __str__(self) -> str:
        return f"{_function_name(self.nic, self.vf)}: mtu {self.mtu}"


class SetVfMac(NamedTuple):
    """Set the hardware address: the GUID on InfiniBand."""

    nic: str
    address: str
    vf: int
    mac: str

    def __str__(self) -> str:
        return f"{_function_name(self.nic, self.vf)}: mac {self.mac}"


class SetVfTrust(NamedTuple):
    """Set whether a virtual function may become promiscuous and change its MAC address."""

    nic: str
    address: str
    vf: int
    trust: bool

    def __str__(self) -> str:
        return f"{_function_name(self.nic, self.vf)}: trust {ON_OFF_TEXTS[self.trust]}"


class SetVfSpoofCheck(NamedTuple):
    """Set whether the NIC drops packets of a virtual function with a foreign MAC address."""

    nic: str
    address: str
    vf: int
    spoof_check: bool

    def __str__(self) -> str:
        return f"{_function_name(self.nic, self.vf)}: spoofChk {ON_OFF_TEXTS[self.spoof_check]}"


class BindDriver(NamedTuple):
    """Bind a driver. ``driver`` "": the kernel chooses."""

    nic: str
    address: str
    vf: int
    driver: str

    def __str__(self) -> str:
        return (
            f"{_function_name(self.nic, self.vf)}: driver {self.driver or 'chosen by the kernel'}"
        )


Action: TypeAlias = (
    SetVfCount | SetEswitchMode | SetMtu | SetVfMac | SetVfTrust | SetVfSpoofCheck | BindDriver
)


class SriovRefusal(NamedTuple):
    """A part of a policy that is not carried out."""

    policy: str
    nic: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        nic = f" for {self.nic}" if self.nic else ""
        return f"policy {self.policy}{nic}: {self.reason}; {self.remedy}"


class NodePlan(NamedTuple):
    """The plan of a node. ``drain``: NICs that lose virtual functions in use."""

    desired: tuple[DesiredNic, ...] = ()
    actions: tuple[Action, ...] = ()
    refusals: tuple[SriovRefusal, ...] = ()
    drain: tuple[str, ...] = ()


def plan_node(
    policies: Collection[NodePolicy],
    labels: Mapping[str, str],
    nics: Sequence[PhysicalFunction],
    managed: Collection[str] = (),
    guid_file: GuidFile = NO_GUID_FILE,
) -> NodePlan:
    """Plan a node. ``managed``: PCI addresses of NICs that policies changed before."""
    refusals: list[SriovRefusal] = []
    desired: dict[str, DesiredNic] = {}
    by_address = sorted(nics, key=lambda nic: nic.address)
    for policy in sorted(policies, key=lambda policy: (policy.priority, policy.name)):
        if not policy.nodes.items() <= labels.items():
            continue
        problems = policy_problems(policy)
        refusals += [
            SriovRefusal(
                policy.name,
                nic="",
                reason=f"{problem.field}: {problem.message}",
                remedy="correct the policy",
            )
            for problem in problems
        ]
        if not problems:
            refusals += _apply(policy, by_address, desired)
    actions: list[Action] = []
    drain: list[str] = []
    for nic in by_address:
        target = desired.get(nic.address)
        if target is None:
            if nic.address not in managed or not nic.vfs:
                continue
            target = DesiredNic(nic.name, nic.address, vfs=0)
        nic_actions = list(_actions(nic, target, guid_file))
        refusal = _change_refusal(nic, target, nic_actions)
        refusal = refusal or _guid_refusal(nic, target, nic_actions, guid_file)
        if refusal is not None:
            refusals.append(refusal)
            desired.pop(nic.address, None)
            continue
        actions += nic_actions
        is_in_use = any(vf.is_used for vf in nic.vfs)
        if is_in_use and any(isinstance(action, SetVfCount) for action in nic_actions):
            drain.append(nic.name)
    ordered = tuple(desired[nic.address] for nic in by_address if nic.address in desired)
    return NodePlan(ordered, tuple(actions), tuple(refusals), tuple(drain))


def _apply(
    policy: NodePolicy, nics: Sequence[PhysicalFunction], desired: dict[str, DesiredNic]
) -> Iterator[SriovRefusal]:
    """Add the policy to ``desired``, and yield what it refuses.

    The caller applies policies of higher priority first.
    """
    for nic in nics:
        ranges = _ranges(policy, nic)
        if not ranges:
            continue
        if policy.vfs > nic.vfs_max:
            yield SriovRefusal(
                policy.name,
                nic.name,
                f"numVfs is {policy.vfs}, and the NIC can have at most {nic.vfs_max}",
                "lower numVfs, or raise the limit in the NIC's firmware",
            )
            continue
        if nic.link_type == INFINIBAND and has_ethernet_settings(policy):
            yield SriovRefusal(
                policy.name,
                nic.name,
                f"{ETHERNET_SETTINGS} exist only for Ethernet, and the NIC is InfiniBand",
                f"remove {ETHERNET_SETTINGS} from the policy, or set linkType eth",
            )
            continue
        target = desired.get(nic.address) or DesiredNic(
            nic.name,
            nic.address,
            policy.vfs,
            policy.mtu,
            policy.eswitch_mode,
            policy.externally_managed,
        )
        conflict = _conflict(policy, target, ranges)
        if conflict:
            yield SriovRefusal(
                policy.name, nic.name, conflict, "make both policies agree, or select other NICs"
            )
            continue
        if not policy.vfs:
            desired[nic.address] = target
            continue
        desired[nic.address] = target._replace(
            mtu=max(target.mtu, policy.mtu),
            eswitch_mode=target.eswitch_mode or policy.eswitch_mode,
            groups=(*target.groups, *(_group(policy, vfs) for vfs in ranges)),
        )


def _group(policy: NodePolicy, vfs: VfRange) -> VfGroup:
    return VfGroup(
        resource=policy.resource,
        policy=policy.name,
        vfs=vfs,
        device_type=policy.device_type,
        is_rdma=policy.is_rdma,
        mtu=policy.mtu,
        exclude_topology=policy.exclude_topology,
        trust=policy.trust,
        spoof_check=policy.spoof_check,
    )


def _ranges(policy: NodePolicy, nic: PhysicalFunction) -> list[VfRange]:
    """The virtual functions of a NIC that a policy selects. numVfs 0 gives an empty range."""
    selector = policy.nics
    if policy.link_type and policy.link_type != nic.link_type:
        return []
    if selector.vendor not in {"", nic.vendor} or selector.device not in {"", nic.device}:
        return []
    if selector.root_devices and nic.address not in selector.root_devices:
        return []
    all_vfs = VfRange(0, policy.vfs - 1)
    if not selector.names:
        return [all_vfs]
    ranges = [item.vfs or all_vfs for item in selector.names if item.name == nic.name]
    return _without_overlaps(ranges)


def _without_overlaps(ranges: list[VfRange]) -> list[VfRange]:
    """The same virtual functions, each in one range: overlapping ranges become one."""
    joined: list[VfRange] = []
    for vfs in sorted(ranges):
        if joined and vfs.overlaps(joined[-1]):
            joined[-1] = VfRange(joined[-1].first, max(joined[-1].last, vfs.last))
        else:
            joined.append(vfs)
    return joined


def _conflict(policy: NodePolicy, target: DesiredNic, ranges: Sequence[VfRange]) -> str:
    """How a policy contradicts a policy of higher priority, or ""."""
    other = next((f"policy {group.policy}" for group in target.groups), "another policy")
    if policy.vfs != target.vfs:
        return f"numVfs is {policy.vfs}, and {other} sets {target.vfs}"
    modes = (policy.eswitch_mode, target.eswitch_mode)
    if all(modes) and modes[0] != modes[1]:
        return f"eSwitchMode is {modes[0]}, and {other} sets {modes[1]}"
    if policy.externally_managed != target.externally_managed:
        return f"externallyManaged differs from {other}"
    for vfs in ranges:
        for group in target.groups:
            if policy.vfs and vfs.overlaps(group.vfs):
                return f"virtual functions {vfs} overlap with {group.vfs} of policy {group.policy}"
    return ""


def _change_refusal(
    nic: PhysicalFunction, target: DesiredNic, actions: Sequence[Action]
) -> SriovRefusal | None:
    """Why the NIC must not be changed. Policy "-": the NIC is to have no virtual functions."""
    policy = next((group.policy for group in target.groups), "-")
    if target.externally_managed and len(nic.vfs) < target.vfs:
        return SriovRefusal(
            policy,
            nic.name,
            f"the policy is externallyManaged, and the NIC has {len(nic.vfs)} of"
            f" {target.vfs} virtual functions",
            "create the missing virtual functions, or leave externallyManaged out",
        )
    if nic.is_uplink and any(_changes_the_nic(action) for action in actions):
        return SriovRefusal(
            policy,
            nic.name,
            "the NIC carries the node's own traffic, which the change would interrupt",
            "select another NIC, or create the virtual functions before the node joins a cluster",
        )
    return None


def _guid_refusal(
    nic: PhysicalFunction, target: DesiredNic, actions: Sequence[Action], guid_file: GuidFile
) -> SriovRefusal | None:
    if nic.link_type != INFINIBAND or not guid_file.exists:
        return None
    # A derived GUID is not used, because the subnet manager has no partition for it.
    missing = [
        action.vf
        for action in actions
        if isinstance(action, SetVfMac) and guid_file.guid_of(nic, action.vf) is None
    ]
    if not missing:
        return None
    policy = next((group.policy for group in target.groups), "-")
    reason = guid_file.fault or (
        f"the file of GUIDs has no GUID for {len(missing)} virtual functions of the NIC;"
        f" the first is virtual function {missing[0]}"
    )
    return SriovRefusal(policy, nic.name, reason, f"correct {GUID_FILE}")


def _changes_the_nic(action: Action) -> bool:
    if isinstance(action, SetMtu):
        return action.vf is None
    return isinstance(action, SetVfCount | SetEswitchMode)


def _actions(nic: PhysicalFunction, target: DesiredNic, guid_file: GuidFile) -> Iterator[Action]:
    is_new = yield from _nic_actions(nic, target)
    present = {} if is_new else {vf.number: vf for vf in nic.vfs}
    groups = {
        number: group
        for group in target.groups
        for number in range(group.vfs.first, group.vfs.last + 1)
    }
    for number in range(target.vfs):
        vf = present.get(number) or VirtualFunction(number, address="")
        # After an interrupted plan, an unselected virtual function may lack a driver.
        is_unbound = not (target.externally_managed or vf.driver)
        if is_new or number in groups or is_unbound:
            mac = assigned_mac(nic, number, guid_file)
            yield from _vf_actions(nic, groups.get(number, _NO_GROUP), vf, mac)


def _nic_actions(nic: PhysicalFunction, target: DesiredNic) -> Generator[Action, None, bool]:
    """Yield actions of the physical function. Returns whether virtual functions are recreated."""
    if target.externally_managed:
        return False
    changes_mode = target.eswitch_mode not in {"", nic.eswitch_mode}
    recreates_vfs = len(nic.vfs) != target.vfs or (changes_mode and bool(nic.vfs))
    if recreates_vfs and nic.vfs:
        yield SetVfCount(nic.name, nic.address, vfs=0)
    if changes_mode:
        yield SetEswitchMode(nic.name, nic.address, target.eswitch_mode)
    if target.mtu and target.mtu != nic.mtu:
        yield SetMtu(nic.name, nic.address, vf=None, mtu=target.mtu)
    if recreates_vfs and target.vfs:
        yield SetVfCount(nic.name, nic.address, target.vfs)
    return recreates_vfs


def _vf_actions(
    nic: PhysicalFunction, group: VfGroup, vf: VirtualFunction, mac: str
) -> Iterator[Action]:
    """Yield actions in this order: hardware address, trust, spoof check, driver, MTU.

    Drivers read the hardware address when they bind. No Pod may get the virtual function before
    trust and spoof check are set.
    """
    if vf.is_used:
        return
    is_unset = vf.mac in _UNSET_MACS
    if is_unset or not vf.driver:
        yield SetVfMac(nic.name, nic.address, vf.number, mac)
    if group.trust not in {None, vf.trust}:
        yield SetVfTrust(nic.name, nic.address, vf.number, bool(group.trust))
    if group.spoof_check not in {None, vf.spoof_check}:
        yield SetVfSpoofCheck(nic.name, nic.address, vf.number, bool(group.spoof_check))
    needs_vfio = group.device_type == VFIO
    if needs_vfio and vf.driver != VFIO:
        yield BindDriver(nic.name, nic.address, vf.number, VFIO)
    elif not needs_vfio and (is_unset or vf.driver in {"", VFIO}):
        yield BindDriver(nic.name, nic.address, vf.number, driver="")
    if group.mtu and not needs_vfio and vf.mtu != group.mtu:
        yield SetMtu(nic.name, nic.address, vf.number, group.mtu)


def _function_name(nic: str, vf: int | None) -> str:
    return nic if vf is None else f"{nic} vf {vf}"
