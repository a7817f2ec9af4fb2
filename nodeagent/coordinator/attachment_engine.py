"""The coordinator's engine: sets up and reverts attachments (read, plan, record, apply).

A failed ADD reverts its changes. A repeated ADD has the result of the first ADD, also after a
crash. A DEL can be repeated. Calls block: run them in worker threads, one at a time for each
container.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from core.domain.model import Attachment
from core.errors import BadInput, DatapathError
from core.manifests.networks.detect_options import DetectionTiming
from nodeagent.coordinator.address_announcer import Announcer
from nodeagent.coordinator.attachment_plan import mac_of, plan
from nodeagent.coordinator.attachment_records import AttachmentRecord, AttachmentRecords
from nodeagent.coordinator.attachment_steps import AttachmentPlan, PlanStep
from nodeagent.coordinator.kernel_differences import differences
from nodeagent.coordinator.modes import NicSetup, decide_nic_setup
from nodeagent.coordinator.network_stacks import POD_VETH, PodStack, VethPair
from nodeagent.coordinator.rdma_isolation import RdmaIsolation
from nodeagent.coordinator.reply_mark_rules import ReplyMarkRules
from nodeagent.coordinator.settings import CoordinatorSettings
from nodeagent.coordinator.stack_reader import read_host, read_pod, read_veth
from nodeagent.coordinator.veth_pair import VethPairs, host_veth_name
from nodeagent.netlink import replies, requests
from nodeagent.netlink.namespaces import (
    NetnsExecutor,
    NetworkNamespace,
    write_interface_sysctls,
    write_sysctls,
)
from nodeagent.netlink.numbers import IF_OPER_UP
from nodeagent.netlink.session import NetlinkSession, check
from nodeagent.netlink.values import Mac

FINGERPRINT_BYTES: Final = 16
CARRIER_POLL_S: Final = 0.001

CARRIER_POLLS_MAX: Final = 200
"""After this number of polls, the ADD continues without a carrier."""


class AttachRequest(NamedTuple):
    """One ADD. ``expected_nics``: names of NICs that the Pod gets later."""

    attachment: Attachment
    settings: CoordinatorSettings
    expected_nics: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> bytes:
        """A hash of all settings that change the Pod's set-up."""
        # ``host_rp_filter`` changes only the node, and ``detection`` only the probes.
        pod_settings = self.settings._replace(host_rp_filter=None, detection=DetectionTiming())
        text = repr((pod_settings, sorted(self.expected_nics)))
        return blake2b(text.encode(), digest_size=FINGERPRINT_BYTES).digest()


class AttachResult(NamedTuple):
    """The result of an ADD. ``mac``: the NIC's new MAC address, or b"".

    ``repeated``: whether an earlier ADD has set the NIC up. ``kernel_s``: seconds in rtnetlink
    system calls.
    """

    mode: str
    table: int
    mac: Mac
    repeated: bool
    kernel_s: float


class StackSessions(NamedTuple):
    """Netlink sessions in a Pod's network namespace and in the node's."""

    namespace: NetworkNamespace
    pod: NetlinkSession
    host: NetlinkSession

    @property
    def kernel_s(self) -> float:
        """Seconds in rtnetlink system calls."""
        return self.pod.kernel_s + self.host.kernel_s


Change = tuple[NetlinkSession, PlanStep]
"""A session, and a step that the session applied."""


class Engine:
    """Sets up and reverts attachments. ``node``: the node's network namespace."""

    def __init__(
        self,
        executor: NetnsExecutor,
        node: NetworkNamespace,
        reply_mark_rules: ReplyMarkRules,
        records: AttachmentRecords,
        announcer: Announcer,
        random_bytes: Callable[[int], bytes],
        rdma: RdmaIsolation,
    ) -> None:
        self._executor = executor
        self._node = node
        self._reply_mark_rules = reply_mark_rules
        self._records = records
        self._announcer = announcer
        self._rdma = rdma
        self._veth_pairs = VethPairs(executor, node, random_bytes)

    # -------------------------------------------------------------------------------- ADD

    def attach(self, request: AttachRequest) -> AttachResult:
        """Set up one NIC (ADD). Raises BadInput, DatapathError."""
        attachment = request.attachment
        with NetworkNamespace.open(attachment.netns) as namespace:
            if namespace.identity == self._node.identity:
                text = f"{attachment.netns} is the node's own network namespace"
                remedy = "give the Pod a network namespace of its own"
                raise BadInput(text, subject="CNI_NETNS", remedy=remedy)
            with (
                self._executor.session(namespace) as pod,
                self._executor.session(self._node) as host,
            ):
                sessions = StackSessions(namespace, pod, host)
                self._set_host_rp_filter(request.settings)
                stored_record = self._records.get(attachment.container, attachment.interface)
                if stored_record is not None:
                    if stored_record.fingerprint == request.fingerprint and _is_for_same_pod(
                        stored_record, sessions
                    ):
                        self._apply(stored_record, sessions, done=[])
                        return _attach_result(stored_record, sessions, repeated=True)
                    self._revert(stored_record, host)
                return self._set_up(request, sessions)

    def _set_host_rp_filter(self, settings: CoordinatorSettings) -> None:
        """Call it before the host veth is created: the new veth inherits the value."""
        if settings.host_rp_filter is not None:
            value = str(settings.host_rp_filter)
            write_interface_sysctls(self._executor, self._node, "ipv4", "rp_filter", value)

    def _set_up(self, request: AttachRequest, sessions: StackSessions) -> AttachResult:
        settings, interface = request.settings, request.attachment.interface
        pod_stack = read_pod(sessions.pod, interface)
        decision = decide_nic_setup(settings, pod_stack)
        has_own_veth = decision.mode == "underlay" and decision.first
        if has_own_veth and pod_stack.link(POD_VETH) is not None:
            # An unfinished ADD left this veth pair. Its routes must not count as the Pod's.
            self._veth_pairs.remove(request.attachment.container, sessions.pod, sessions.host)
            pod_stack = read_pod(sessions.pod, interface)
        mac = mac_of(settings, pod_stack)
        host_stack = read_host(sessions.host, pod_stack, settings.host_table)
        sessions.host.apply(
            [requests.delete_neighbour(entry) for entry in host_stack.stale_neighbours]
        )
        namespace = sessions.namespace
        rdma = self._rdma.device_of(namespace, interface) if settings.rdma_isolation else ""
        done: list[Change] = []
        try:
            veth = self._veth_pair(request, decision, sessions)
            desired = plan(settings, decision, pod_stack, host_stack, veth, request.expected_nics)
            record = _new_record(request, decision, pod_stack, veth, namespace, desired, mac)
            record = msgspec.structs.replace(record, rdma=rdma)
            self._records.put(record)
            changed = self._apply(record, sessions, done)
            if changed != record.plan:
                # Without this, a DEL would undo steps whose object existed before the ADD.
                self._records.put(msgspec.structs.replace(record, plan=changed))
        except Exception:
            for session, step in reversed(done):
                session.attempt(_undo([step]))
            if rdma:
                self._rdma.give_back(rdma, namespace)
            if has_own_veth:
                sessions.host.attempt(
                    [requests.delete_link(host_veth_name(request.attachment.container))]
                )
            self._records.remove(request.attachment.container, interface)
            raise
        if mac:
            self._announcer.announce(namespace, interface, pod_stack.nic_addresses)
        return _attach_result(record, sessions, repeated=False)

    def _veth_pair(
        self, request: AttachRequest, decision: NicSetup, sessions: StackSessions
    ) -> VethPair:
        if decision.mode == "overlay":
            return read_veth(sessions.pod, sessions.host, request.settings.first_nic)
        if decision.first:
            container, mtu = request.attachment.container, request.settings.veth_mtu
            return self._veth_pairs.create(container, mtu, sessions.namespace, sessions.host)
        return read_veth(sessions.pod, sessions.host, POD_VETH)

    def _apply(
        self, record: AttachmentRecord, sessions: StackSessions, done: list[Change]
    ) -> AttachmentPlan:
        """Apply a record's plan. If it raises an error, ``done`` has the steps applied until then.

        Returns the plan without the undo requests of steps whose object existed before.
        """
        plan = record.plan
        write_sysctls(self._executor, sessions.namespace, plan.sysctls)
        pod = _apply_steps(sessions.pod, plan.pod, done)
        host = _apply_steps(sessions.host, plan.host, done)
        if plan.reply_marks:
            self._reply_mark_rules.put(sessions.namespace, record.families)
        if record.own_veth:
            _await_carrier(sessions.host, record.host_veth)
        if record.rdma:
            self._rdma.move(record.rdma, sessions.namespace)
        return plan._replace(pod=pod, host=host)

    # ------------------------------------------------------------------------- DEL and GC

    def detach(self, attachment: Attachment, first_nic: str) -> bool:
        """Revert an attachment (DEL). Return False if there was nothing to revert.

        Ignores errors of the kernel. If ``first_nic`` has no record, the container's host veth is
        removed by name. Raises NetlinkLost, OSError.
        """
        container, interface = attachment.container, attachment.interface
        stored_record = self._records.get(container, interface)
        if stored_record is None and interface != first_nic:
            return False
        with self._executor.session(self._node) as host:
            if stored_record is None:
                (outcome,) = host.attempt([requests.delete_link(host_veth_name(container))])
                return outcome.errno == 0
            self._revert(stored_record, host)
        return True

    def _revert(self, stored_record: AttachmentRecord, host: NetlinkSession) -> None:
        """Undo the steps of a record, and delete the record. Ignores the kernel's errors."""
        with (
            suppress(DatapathError),
            NetworkNamespace.open(stored_record.netns) as namespace,
            self._executor.session(namespace) as pod,
        ):
            # The path may lead to the namespace of another Pod now.
            is_same_namespace = tuple(namespace.identity) == (
                stored_record.device,
                stored_record.inode,
            )
            if stored_record.rdma and is_same_namespace:
                self._rdma.give_back(stored_record.rdma, namespace)
            if _has_veth(stored_record, StackSessions(namespace, pod, host)):
                pod.attempt(_undo(stored_record.plan.pod))
        undo_requests = _undo(stored_record.plan.host)
        if stored_record.own_veth:
            # Delete the host veth by index: its name may have changed.
            undo_requests.append(requests.delete_link_by_index(stored_record.host_veth))
        host.attempt(undo_requests)
        self._records.remove(stored_record.container, stored_record.interface)

    def is_orphaned(self, stored_record: AttachmentRecord) -> bool:
        """Whether a record's NIC is certainly gone. Raises DatapathError, OSError.

        The host veth ends with the Pod's namespace. A missing namespace path is no proof: this
        process may lack the mount.
        """
        with self._executor.session(self._node) as host:
            if host.ask(requests.get_link_by_index(stored_record.host_veth)) is None:
                return True
        with (
            suppress(DatapathError),
            NetworkNamespace.open(stored_record.netns) as namespace,
            self._executor.session(namespace) as pod,
        ):
            is_same_namespace = tuple(namespace.identity) == (
                stored_record.device,
                stored_record.inode,
            )
            return (
                is_same_namespace
                and pod.ask(requests.get_link_by_index(stored_record.link)) is None
            )
        return False

    # ------------------------------------------------------------------------------ CHECK

    def find_differences(self, attachment: Attachment) -> list[str]:
        """Compare the kernel with the ADD's set-up (CHECK): one text for each difference.

        Raises DatapathError.
        """
        stored_record = self._records.get(attachment.container, attachment.interface)
        if stored_record is None:
            return [f"there is no attachment record of interface {attachment.interface}"]
        with (
            NetworkNamespace.open(attachment.netns) as namespace,
            self._executor.session(namespace) as pod,
            self._executor.session(self._node) as host,
        ):
            if not _is_for_same_pod(stored_record, StackSessions(namespace, pod, host)):
                return [f"{attachment.netns}: namespace, NIC or veth are not those of the ADD"]
            texts = _differences(stored_record, pod, host)
            if texts:
                # The kernel's listings can be incomplete without an error. Keep only differences
                # that a second reading finds too.
                again = _differences(stored_record, pod, host)
                texts = [text for text in texts if text in again]
            if stored_record.plan.reply_marks:
                texts += self._reply_mark_rules.missing(namespace, stored_record.families)
            return texts


def _apply_steps(
    session: NetlinkSession, steps: Sequence[PlanStep], done: list[Change]
) -> tuple[PlanStep, ...]:
    """Send all steps in one batch. An error is raised after ``done`` has the applied steps.

    Returns the steps; a step has no ``undo`` if its object existed before.
    """
    outcomes = session.attempt([step.do for step in steps])
    recorded_steps = []
    for step, outcome in zip(steps, outcomes, strict=True):
        if not outcome.errno:
            done.append((session, step))
        recorded_steps.append(step._replace(undo=None) if outcome.errno else step)
    for step, outcome in zip(steps, outcomes, strict=True):
        check(step.do, outcome)
    return tuple(recorded_steps)


def _await_carrier(host: NetlinkSession, host_veth: int) -> None:
    """Wait for a carrier: without a carrier the kernel drops packets."""
    for _ in range(CARRIER_POLLS_MAX):
        answer = host.ask(requests.get_link_by_index(host_veth))
        if answer is None or replies.link(memoryview(answer)).operstate == IF_OPER_UP:
            return
        time.sleep(CARRIER_POLL_S)


def _differences(
    stored_record: AttachmentRecord, pod: NetlinkSession, host: NetlinkSession
) -> list[str]:
    return differences(stored_record.plan.pod, pod) + differences(stored_record.plan.host, host)


def _undo(steps: Sequence[PlanStep]) -> list[requests.Request]:
    return [step.undo for step in reversed(steps) if step.undo is not None]


def _is_for_same_pod(stored_record: AttachmentRecord, sessions: StackSessions) -> bool:
    """Whether the Pod has the record's NIC, and ``_has_veth`` returns true."""
    nic = sessions.pod.link(stored_record.interface)
    return (
        nic is not None and nic.ifindex == stored_record.link and _has_veth(stored_record, sessions)
    )


def _has_veth(stored_record: AttachmentRecord, sessions: StackSessions) -> bool:
    """Whether the Pod has the namespace and the veth pair of the record.

    The kernel soon reuses inode numbers, but interface indexes only after 2^31 links.
    """
    if tuple(sessions.namespace.identity) != (stored_record.device, stored_record.inode):
        return False
    try:
        veth = read_veth(sessions.pod, sessions.host, stored_record.pod_veth_name)
    except DatapathError:
        return False
    return (veth.pod, veth.host) == (stored_record.pod_veth, stored_record.host_veth)


def _attach_result(
    record: AttachmentRecord, sessions: StackSessions, *, repeated: bool
) -> AttachResult:
    kernel_s = sessions.kernel_s
    return AttachResult(record.mode, record.table, record.mac, repeated, kernel_s)


def _new_record(
    request: AttachRequest,
    decision: NicSetup,
    pod_stack: PodStack,
    veth: VethPair,
    namespace: NetworkNamespace,
    plan: AttachmentPlan,
    mac: Mac,
) -> AttachmentRecord:
    attachment = request.attachment
    overlay = decision.mode == "overlay"
    return AttachmentRecord(
        network=attachment.network,
        container=attachment.container,
        interface=attachment.interface,
        netns=attachment.netns,
        device=namespace.identity.device,
        inode=namespace.identity.inode,
        link=pod_stack.interface.ifindex,
        pod_veth=veth.pod,
        pod_veth_name=request.settings.first_nic if overlay else POD_VETH,
        host_veth=veth.host,
        host_veth_name=veth.host_name,
        own_veth=decision.first and not overlay,
        families=pod_stack.families,
        mode=decision.mode,
        table=decision.table,
        fingerprint=request.fingerprint,
        mac=mac,
        plan=plan,
    )
