"""Keeps a node's virtual functions equal to its policies.

Each round reads policies, labels and NICs, carries out a plan, and reports. There is a round after
each change of the configuration, and every ``DRIFT_S``, because other programs may change the NICs.

Virtual functions of running Pods are never removed: a change that would remove them waits, and the
round requests a drain if drains are enabled. Before a round changes NICs, the round writes their
addresses to the API server. A NIC without a policy is changed only if an earlier round wrote its
address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple, Protocol, TypeAlias

from core.domain.sriov.guid_file import GuidFile
from core.domain.sriov.model import NodePolicy, PhysicalFunction, VirtualFunction
from core.domain.sriov.resources import VfDevice, vf_devices
from core.domain.sriov.vf_plan import (
    Action,
    DesiredNic,
    NodePlan,
    SetVfCount,
    SetVfSpoofCheck,
    SetVfTrust,
    plan_node,
)
from core.errors import ApiError, DatapathError
from core.manifests.sriov_states import FAILED, IN_PROGRESS, SUCCEEDED, SyncResult
from core.settings.sriov import SriovSettings
from nodeagent.sriov.guid_keeper import GuidKeeper

DRIFT_S: Final = 30.0

RETRY_S: Final = 5.0
"""Seconds until the next round after an incomplete round."""

WITHDRAWAL_S: Final = 1.0
"""Seconds for kubelet to receive a list without the devices that a round will remove."""

USERS_SHOWN: Final = 8

_log: Final = logging.getLogger(__name__)


OnOffAction: TypeAlias = SetVfTrust | SetVfSpoofCheck
"""An action that sets a setting on or off. Some drivers do not show the value of the setting."""


class _OnOffKey(NamedTuple):
    kind: type[OnOffAction]
    address: str
    vf: int


class NodeConfiguration(NamedTuple):
    """The configuration of this node in the API server.

    ``managed``: PCI addresses of NICs that earlier rounds declared. ``unreadable``: error texts of
    policies that cannot be used. ``operator``: the Pod of an SR-IOV operator's daemon, or "".
    """

    policies: Collection[NodePolicy]
    labels: Mapping[str, str]
    own_addresses: Collection[str] = ()
    managed: Collection[str] = ()
    unreadable: Sequence[str] = ()
    operator: str = ""


class NodeReport(NamedTuple):
    """The result of a round.

    ``external``: PCI addresses of NICs whose virtual functions another program creates.
    ``blocking``: Pods that block a change. ``needs_drain``: whether the blocking Pods must be
    evicted. ``keeps_request``: whether an earlier request for a drain stays, because the blocking
    Pods are not known yet.
    """

    nics: Sequence[PhysicalFunction]
    external: frozenset[str]
    result: SyncResult
    blocking: tuple[str, ...] = ()
    needs_drain: bool = False
    keeps_request: bool = False


class PolicySource(Protocol):
    """The policies and the state of this node in the API server."""

    def configuration(self) -> NodeConfiguration | None:
        """The known configuration; None until the API server has been listed completely."""
        ...

    async def declare(self, desired: Sequence[DesiredNic]) -> None:
        """Write the NICs that this agent manages. Raises ApiError."""
        ...

    async def report(self, report: NodeReport) -> None:
        """Write the result of a round. Raises ApiError."""
        ...

    async def withdraw_drain_request(self) -> None:
        """Withdraw any request for a drain. Raises ApiError."""
        ...

    async def changed(self) -> None:
        """Wait for a change of ``configuration``."""
        ...


class NicHardware(Protocol):
    """The node's NICs."""

    async def nics(self, own_addresses: Collection[str]) -> tuple[PhysicalFunction, ...]:
        """The NICs that can have virtual functions. Raises DatapathError, OSError."""
        ...

    async def guid_file(self) -> GuidFile:
        """The administrator's GUIDs."""
        ...

    async def carry_out(self, action: Action) -> None:
        """Carry out one action. Raises DatapathError."""
        ...

    @property
    def pods_known(self) -> bool:
        """Whether kubelet has answered at least once."""
        ...

    def pods_of(self, nic: PhysicalFunction) -> list[str]:
        """The Pods with virtual functions of a NIC, by kubelet's last answer."""
        ...


class SriovReconciler:
    """Runs the rounds of one node. ``fault``: why the last round was incomplete, else "".

    ``vfs_by_resource``: virtual functions by the resourceName of their policies; None: unknown.
    """

    def __init__(
        self,
        settings: SriovSettings,
        source: PolicySource,
        hardware: NicHardware,
        guids: GuidKeeper,
        withdrawal_s: float = WITHDRAWAL_S,
    ) -> None:
        self.rounds = 0
        self.actions = 0
        self.fault = ""
        self.vfs_by_resource: Mapping[str, tuple[VfDevice, ...]] | None = None
        self._settings = settings
        self._source = source
        self._hardware = hardware
        self._guids = guids
        self._withdrawal_s = withdrawal_s
        self._listeners: list[Callable[[], None]] = []
        self._last_on_off_actions: dict[_OnOffKey, OnOffAction] = {}

    def listen(self, listener: Callable[[], None]) -> None:
        """Call the listener, in the event loop, when ``vfs_by_resource`` has changed."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Run rounds until cancelled. A fault is logged once."""
        while True:
            is_complete = await self.run_round()
            self.rounds += 1
            try:
                async with asyncio.timeout(DRIFT_S if is_complete else RETRY_S):
                    await self._source.changed()
            except TimeoutError:
                pass

    async def run_round(self) -> bool:
        """Run one round; False if it is incomplete."""
        configuration = self._source.configuration()
        if configuration is None:
            return self._end_round("the policies and the Node have not been listed yet")
        try:
            if configuration.operator:
                self._set_devices(None)
                await self._source.withdraw_drain_request()
                return self._end_round(
                    f"the Pod {configuration.operator} of an SR-IOV operator manages this node's"
                    " NICs; uninstall the operator, or set sriov.install to false"
                )
            if not self._settings.nodes.items() <= configuration.labels.items():
                self._set_devices({})
                await self._source.withdraw_drain_request()
                return self._end_round("", is_complete=True)
            return await self._reconcile(configuration)
        except (ApiError, DatapathError, OSError) as error:
            return self._end_round(str(error))

    async def _reconcile(self, configuration: NodeConfiguration) -> bool:
        nics = await self._hardware.nics(configuration.own_addresses)
        guid_file = await self._hardware.guid_file()
        plan = self._plan(configuration, nics, guid_file)
        if self._has_offered_vfs(_nics_with_new_count(plan)):
            # First withdraw from kubelet the virtual functions to remove. Then read the NICs again,
            # because kubelet may just have given a virtual function to a Pod.
            self._set_devices(_devices(plan, nics))
            await asyncio.sleep(self._withdrawal_s)
            nics = await self._hardware.nics(configuration.own_addresses)
            plan = self._plan(configuration, nics, guid_file)
        await self._source.declare(_nics_to_declare(plan, configuration, nics))
        guid_faults = await self._guids.update_records(plan, nics, guid_file)
        actions_before = self.actions
        faults = await self._carry_out(plan, guid_faults)
        if self.actions > actions_before:
            nics = await self._hardware.nics(configuration.own_addresses)
            plan = self._plan(configuration, nics, guid_file)
            await self._guids.update_records(plan, nics, guid_file)
        blocking = self._blocking_pods(plan, nics)
        result = self._result(configuration, plan, faults, blocking)
        self._set_devices(_devices(plan, nics))
        external = frozenset(nic.address for nic in plan.desired if nic.externally_managed)
        needs_drain = bool(blocking) and self._settings.drain
        keeps_request = bool(plan.drain) and self._settings.drain and not self._hardware.pods_known
        await self._source.report(
            NodeReport(nics, external, result, blocking, needs_drain, keeps_request)
        )
        return self._end_round(result.error, is_complete=result.status == SUCCEEDED)

    def _plan(
        self,
        configuration: NodeConfiguration,
        nics: Sequence[PhysicalFunction],
        guid_file: GuidFile,
    ) -> NodePlan:
        """The plan, without carried-out on-off actions whose values the driver does not show."""
        plan = plan_node(
            configuration.policies, configuration.labels, nics, configuration.managed, guid_file
        )
        vfs = {nic.address: nic.vfs for nic in nics}
        nics_with_new_count = _nics_with_new_count(plan)

        def is_pending(action: Action) -> bool:
            if not isinstance(action, OnOffAction) or action.nic in nics_with_new_count:
                return True
            was_carried_out = self._last_on_off_actions.get(_on_off_key(action)) == action
            return not was_carried_out or _driver_shows(action, vfs[action.address])

        return plan._replace(actions=tuple(filter(is_pending, plan.actions)))

    def _remember_on_off_action(self, action: Action) -> None:
        """Remember an on-off action until the NIC's number of virtual functions is set again."""
        if isinstance(action, OnOffAction):
            self._last_on_off_actions[_on_off_key(action)] = action
        elif isinstance(action, SetVfCount):
            for key in [key for key in self._last_on_off_actions if key.address == action.address]:
                del self._last_on_off_actions[key]

    def _has_offered_vfs(self, nics: AbstractSet[str]) -> bool:
        """Whether kubelet may now give virtual functions of these NICs to Pods."""
        return any(
            device.is_ready and device.pf in nics
            for devices in (self.vfs_by_resource or {}).values()
            for device in devices
        )

    def _blocking_pods(self, plan: NodePlan, nics: Sequence[PhysicalFunction]) -> tuple[str, ...]:
        nics_to_drain = [nic for nic in nics if nic.name in plan.drain]
        return tuple(sorted({pod for nic in nics_to_drain for pod in self._hardware.pods_of(nic)}))

    async def _carry_out(self, plan: NodePlan, guid_faults: Mapping[str, str]) -> list[str]:
        """Carry out a plan; return the faults. Does not change the NICs of ``guid_faults``.

        After a fault, the NIC's remaining actions wait for the next round.
        """
        faults = dict(guid_faults)
        for action in plan.actions:
            if action.nic in plan.drain or action.nic in faults:
                continue
            try:
                await self._hardware.carry_out(action)
            except DatapathError as error:
                faults[action.nic] = f"{action}: {error}"
            else:
                self.actions += 1
                self._remember_on_off_action(action)
                _log.info("carried out %s", action)
        return list(faults.values())

    def _result(
        self,
        configuration: NodeConfiguration,
        plan: NodePlan,
        faults: list[str],
        blocking: tuple[str, ...],
    ) -> SyncResult:
        failures = [*faults, *map(str, plan.refusals), *configuration.unreadable]
        waits = [self._wait_text(nic, blocking) for nic in plan.drain]
        text = "\n".join((*failures, *waits))
        if failures:
            return SyncResult(FAILED, text)
        return SyncResult(IN_PROGRESS if plan.actions else SUCCEEDED, text)

    def _wait_text(self, nic: str, blocking: tuple[str, ...]) -> str:
        if not blocking:
            return (
                f"{nic}: virtual functions to remove are in use, but kubelet lists no Pod for them;"
                " end the programs or network namespaces that use them"
            )
        users = ", ".join(blocking[:USERS_SHOWN])
        remedy = "delete these Pods, or set sriov.operatorConfig.disableDrain to false"
        if self._settings.drain:
            remedy = "the node is drained first"
        return f"{nic}: virtual functions to remove are used by {users}; {remedy}"

    def _set_devices(self, devices: Mapping[str, tuple[VfDevice, ...]] | None) -> None:
        if devices != self.vfs_by_resource:
            self.vfs_by_resource = devices
            for listener in self._listeners:
                listener()

    def _end_round(self, fault: str, *, is_complete: bool = False) -> bool:
        if fault and fault != self.fault:
            _log.warning("the policies for virtual functions are not applied: %s", fault)
        elif self.fault and not fault:
            _log.info("the policies for virtual functions are applied")
        self.fault = fault
        return is_complete


def _on_off_key(action: OnOffAction) -> _OnOffKey:
    return _OnOffKey(type(action), action.address, action.vf)


def _driver_shows(action: OnOffAction, vfs: Iterable[VirtualFunction]) -> bool:
    """Whether the driver shows the setting of the action, with any value."""
    return any(
        (vf.trust if isinstance(action, SetVfTrust) else vf.spoof_check) is not None
        for vf in vfs
        if vf.number == action.vf
    )


def _nics_to_declare(
    plan: NodePlan, configuration: NodeConfiguration, nics: Sequence[PhysicalFunction]
) -> list[DesiredNic]:
    """The NICs of policies, and NICs that still have virtual functions of earlier policies."""
    selected_addresses = {nic.address for nic in plan.desired}
    obsolete_nics = [
        DesiredNic(nic.name, nic.address, vfs=0)
        for nic in nics
        if nic.vfs
        and nic.address in configuration.managed
        and nic.address not in selected_addresses
    ]
    return sorted([*plan.desired, *obsolete_nics], key=lambda nic: nic.address)


def _nics_with_new_count(plan: NodePlan) -> set[str]:
    """The names of the NICs whose virtual functions the plan removes or creates."""
    return {action.nic for action in plan.actions if isinstance(action, SetVfCount)}


def _devices(
    plan: NodePlan, nics: Sequence[PhysicalFunction]
) -> Mapping[str, tuple[VfDevice, ...]]:
    """The devices by resource. A device that the plan removes is not ready, so no Pod gets it."""
    nics_with_new_count = _nics_with_new_count(plan)
    return {
        resource: tuple(
            device._replace(is_ready=device.is_ready and device.pf not in nics_with_new_count)
            for device in devices
        )
        for resource, devices in vf_devices(plan.desired, nics).items()
    }
