"""The rules of reclaim: the decision table of a scan, and deadlines after changes of Pods.

See docs/reference/reclaim-rules.md, "Scan", "Addresses in use" and "Deadlines". A verdict of
``judge`` is one observation; if it is not ``direct``, a release needs a second. After a deadline,
``reclaim_plan.check_deadline`` checks the Pod again. The endpoint of a VM has the name of the VM
instance, not of the launcher Pod.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from core.domain.evolution import EndpointKey
from core.domain.fixed.fixed_address_owners import MissingOwner
from core.domain.fixed.owner_validity import Validity, validity_of
from core.domain.model import FixedKind
from core.domain.reclaim.evidence import (
    EVICTED,
    OBSERVATION_GAP_S,
    ClusterLookup,
    Finding,
    Moment,
    PodState,
    utc,
)
from core.domain.reclaim.settings import ReclaimSettings

SHARING_OWNERS: Final[Mapping[FixedKind, str]] = {"vm": "VM", "ipamclaim": "IPAMClaim"}
"""Owners whose addresses two Pods use during a migration -> name in texts."""


class PodToVerify(NamedTuple):
    """A holder whose addresses are verified.

    ``namespace``, ``name``: the key of the endpoint.
    ``uid``: the UID of the Pod; "": unknown.
    ``fixed``: the kind of the fixed addresses; None if they are not fixed.
    ``claimed_by``: the UID in the claims; "": the addresses are fixed.
    """

    namespace: str
    name: str
    uid: str
    fixed: FixedKind | None
    addresses: tuple[str, ...]
    claimed_by: str = ""


class ReclaimVerdict(NamedTuple):
    """One observation, and whether it is a reason to release the addresses.

    ``finding``: the reason for a release; None: the addresses are kept.
    ``until_s``: when the verdict may change, in Unix seconds; 0: unknown.
    ``direct``: one observation is enough.
    ``span_s``: the shortest time between observations, unless ``direct``.
    ``unanswered``: the API server did not answer.
    """

    finding: Finding | None
    why: str
    until_s: float = 0.0
    direct: bool = False
    span_s: float = OBSERVATION_GAP_S
    unanswered: bool = False


class VerdictContext(NamedTuple):
    """All data on which a verdict depends. ``now_s``: Unix seconds."""

    cluster: ClusterLookup
    settings: ReclaimSettings
    now_s: float


def keep(why: str, until_s: float = 0.0) -> ReclaimVerdict:
    """The verdict to keep the addresses."""
    return ReclaimVerdict(finding=None, why=why, until_s=until_s)


def _keep_fixed(validity: Validity) -> ReclaimVerdict:
    why = f"fixed: {validity.why}"
    return ReclaimVerdict(finding=None, why=why, unanswered=validity.unanswered)


def holder_uid(holder: str) -> str:
    """The UID of a holder ``pod/UID``; "": the addresses are fixed."""
    kind, _, uid = holder.partition("/")
    return uid if kind == "pod" else ""


def judge(to_verify: PodToVerify, context: VerdictContext) -> ReclaimVerdict:
    """The verdict on the holder's addresses in the current state of the cluster."""
    return keep_if_in_use(_judge_by_name(to_verify, context), to_verify, context.cluster)


def judge_deleted(to_verify: PodToVerify, report: str, context: VerdictContext) -> ReclaimVerdict:
    """The verdict after a reported deletion of the holder's Pod."""
    if to_verify.fixed is not None:
        validity = validity_of(
            to_verify.fixed, to_verify.namespace, to_verify.name, context.cluster
        )
        if validity.keeps:
            return _keep_fixed(validity)
    if to_verify.fixed is not None and to_verify.fixed in SHARING_OWNERS:
        # During a migration, the owner has two Pods.
        other = context.cluster.launcher(to_verify.namespace, to_verify.name)
        if other is not None and other.uid != to_verify.uid:
            return keep(
                f"Pod {_path(other)} of the same {SHARING_OWNERS[to_verify.fixed]} still exists"
            )
    return keep_if_in_use(
        ReclaimVerdict("deleted", report, direct=True), to_verify, context.cluster
    )


def keep_if_in_use(
    verdict: ReclaimVerdict, to_verify: PodToVerify, cluster: ClusterLookup
) -> ReclaimVerdict:
    """The verdict, or ``keep`` if a living Pod reports an address or has the holder's UID."""
    if verdict.finding is None:
        return verdict
    for address in to_verify.addresses:
        user = cluster.reporter(address)
        if user is not None and user.uid != to_verify.uid:
            return keep(f"living Pod {_path(user)} has {address} in its status")
    if verdict.finding == "no-address":  # a finding about a living Pod
        return verdict
    for uid in (to_verify.uid, to_verify.claimed_by):
        pod = cluster.pod_of_uid(uid) if uid else None
        if pod is not None and pod.is_living:
            return keep(f"Pod {_path(pod)} of UID {uid} is living")
    return verdict


def _judge_by_name(to_verify: PodToVerify, context: VerdictContext) -> ReclaimVerdict:
    pod = _pod_by_name(to_verify, context)
    if isinstance(pod, MissingOwner):
        if not pod.certain:
            return ReclaimVerdict(finding=None, why=pod.why, unanswered=pod.unanswered)
        # A launcher Pod does not have the name of the endpoint, so search for the UID. After a
        # failed migration, the Pod with the UID (the target) is gone, but the source still runs.
        launcher = context.cluster.pod_of_uid(to_verify.uid) if to_verify.uid else None
        if launcher is None and to_verify.fixed in SHARING_OWNERS:
            launcher = context.cluster.launcher(to_verify.namespace, to_verify.name)
        if launcher is None:
            return _absent(to_verify, pod, context)
        pod = launcher
    if to_verify.uid and pod.uid != to_verify.uid:
        return _other_uid(to_verify, pod, context)
    if pod.is_living:
        return _living(to_verify, pod, context)
    fixed = _fixed_kind(to_verify, pod, context)
    if fixed is None:
        return _stateless(pod, context)
    return _fixed(to_verify, fixed, pod, context)


def _pod_by_name(to_verify: PodToVerify, context: VerdictContext) -> PodState | MissingOwner:
    """The Pod of the endpoint's name. A Pod with the name of a VM must be a launcher of the VM."""
    key, settings = (to_verify.namespace, to_verify.name), context.settings
    pod = context.cluster.pod(*key)
    if to_verify.fixed != "vm" or isinstance(pod, MissingOwner):
        return pod
    if pod.fixed(settings) == "vm" and pod.endpoint_key(settings) == key:
        return pod
    return MissingOwner(certain=True, why=f"Pod {_path(pod)} is not a launcher of the VM")


def _absent(
    to_verify: PodToVerify, missing: MissingOwner, context: VerdictContext
) -> ReclaimVerdict:
    if to_verify.fixed is None:
        # ``direct``: a person has run ``orbctl gc --gone``.
        return ReclaimVerdict("pod-gone", missing.why, direct=missing.direct)
    validity = validity_of(to_verify.fixed, to_verify.namespace, to_verify.name, context.cluster)
    if validity.keeps:
        return _keep_fixed(validity)
    return ReclaimVerdict("owner-gone", f"{missing.why}, {validity.why}")


def _other_uid(to_verify: PodToVerify, pod: PodState, context: VerdictContext) -> ReclaimVerdict:
    """The verdict if ``pod`` has the name, but not the UID, of the Pod to verify."""
    fixed = _fixed_kind(to_verify, pod, context)
    text = f"Pod {_path(pod)} has UID {pod.uid} now, the address belongs to UID {to_verify.uid}"
    if fixed is None:
        return ReclaimVerdict("uid-changed", text)
    if set(pod.ips) & set(to_verify.addresses):
        return keep(f"fixed: Pod {_path(pod)} reports the address")
    validity = validity_of(fixed, to_verify.namespace, to_verify.name, context.cluster)
    if fixed in SHARING_OWNERS:
        # ``pod`` may use the address: its status lacks addresses of secondary networks.
        if validity.keeps:
            return _keep_fixed(validity)
        other = f"Pod {_path(pod)} of the same {SHARING_OWNERS[fixed]}"
        return keep(f"{validity.why}, but {other} still exists")
    if pod.ips:
        return ReclaimVerdict("uid-changed", f"{text}; the Pod got {', '.join(pod.ips)} instead")
    if validity.keeps:
        return _keep_fixed(validity)
    return ReclaimVerdict("owner-gone", f"{text}, and {validity.why}")


def _fixed_kind(to_verify: PodToVerify, pod: PodState, context: VerdictContext) -> FixedKind | None:
    if to_verify.fixed == "ipamclaim":
        return to_verify.fixed
    return pod.fixed(context.settings) or to_verify.fixed


def _living(to_verify: PodToVerify, pod: PodState, context: VerdictContext) -> ReclaimVerdict:
    is_fixed = _fixed_kind(to_verify, pod, context) is not None
    if pod.ips or pod.phase != "Running" or is_fixed:
        return keep("its Pod is living")
    if not context.settings.running_without_address:
        return keep("its Pod is running, though without an address")
    return ReclaimVerdict("no-address", f"Pod {_path(pod)} is running and reports no address")


def _fixed(
    to_verify: PodToVerify, fixed: FixedKind, pod: PodState, context: VerdictContext
) -> ReclaimVerdict:
    validity = validity_of(fixed, to_verify.namespace, to_verify.name, context.cluster)
    if validity.keeps:
        return _keep_fixed(validity)
    if pod.deletion_s is None or pod.is_final:
        return ReclaimVerdict("owner-gone", f"Pod {_path(pod)} is {pod.phase}, {validity.why}")
    until_s = deletion_deadline(pod, pod.deletion_s, context.settings)
    if context.now_s >= until_s:
        return keep(f"{validity.why}, but Pod {_path(pod)} still exists")
    return _terminating(pod, until_s)


def _stateless(pod: PodState, context: VerdictContext) -> ReclaimVerdict:
    if pod.deletion_s is None:
        return _finished(pod, context)
    until_s = deletion_deadline(pod, pod.deletion_s, context.settings)
    if context.now_s < until_s:
        return _terminating(pod, until_s)
    text = f"Pod {_path(pod)} should have ended by {utc(pod.deletion_s)}"
    return _if_node_allows(pod, ReclaimVerdict("stuck-terminating", text), context)


def _finished(pod: PodState, context: VerdictContext) -> ReclaimVerdict:
    ending = "was evicted" if pod.reason == EVICTED else pod.phase.lower()
    text = f"Pod {_path(pod)} {ending}"
    # The grace period begins when the last container ends, or else with the first observation.
    ended_s = finished_at(pod)
    grace_s = pod.grace_s + context.settings.extra_delay_s
    if ended_s is None:
        if pod.may_restart:
            return keep(f"{text}, but it is unknown when its containers ended")
        span_s = max(grace_s, OBSERVATION_GAP_S)
        return _if_node_allows(pod, ReclaimVerdict("finished", text, span_s=span_s), context)
    until_s = ended_s + grace_s
    if context.now_s < until_s:
        return keep(f"{text}, its grace period has not ended", until_s)
    return _if_node_allows(pod, ReclaimVerdict("finished", f"{text} at {utc(ended_s)}"), context)


def _terminating(pod: PodState, until_s: float) -> ReclaimVerdict:
    if pod.ips:
        return keep(f"Pod {_path(pod)} is terminating", until_s)
    return ReclaimVerdict(
        "terminating-without-address", f"Pod {_path(pod)} is terminating, without IPs"
    )


def _if_node_allows(
    pod: PodState, verdict: ReclaimVerdict, context: VerdictContext
) -> ReclaimVerdict:
    allowed, text = node_allows(pod, context.cluster, context.settings)
    if not allowed:
        return keep(f"{verdict.why}; {text}")
    return verdict._replace(why=f"{verdict.why}; {text}")


def node_allows(
    pod: PodState, cluster: ClusterLookup, settings: ReclaimSettings
) -> tuple[bool, str]:
    """(Whether the node of a stateless Pod allows a release, the state of the node as text).

    See docs/reference/reclaim-rules.md, "Node switches".
    """
    node = cluster.node(pod.node)
    if isinstance(node, MissingOwner):
        return False, node.why
    if node.ready:
        return settings.on_ready_node, _node_text(node.name, "ready", settings.on_ready_node)
    allowed = settings.on_not_ready_node
    return allowed, _node_text(node.name, "not ready", allowed)


def _node_text(name: str, state: str, allowed: bool) -> str:  # noqa: FBT001  # the text of a boolean
    refusal = "" if allowed else ", where reclaiming is disabled"
    return f"node {name} is {state}{refusal}"


def deletion_deadline(pod: PodState, deletion_s: float, settings: ReclaimSettings) -> float:
    """When a Pod must have ended, in Unix seconds. ``deletion_s``: the deletionTimestamp."""
    return deletion_s + pod.deletion_grace_s + settings.extra_delay_s


def finished_at(pod: PodState) -> float | None:
    """When the last container ended, in Unix seconds; None: unknown."""
    return max(pod.finished_s, default=None)


def _path(pod: PodState) -> str:
    return f"{pod.namespace}/{pod.name}"


DeadlineReason = Literal["deleted", "deleting", "finished"]


class ReclaimDeadline(NamedTuple):
    """The time ``expires_s``, after which a Pod is checked for a release. Times are Unix seconds.

    ``seen``: when the change of the Pod was first observed.
    ``deadline_s``: when the grace period of the Pod ends.
    ``report``: the evidence for the deletion.
    """

    endpoint: EndpointKey
    pod: str
    uid: str
    node: str
    reason: DeadlineReason
    seen: Moment
    deadline_s: float
    report: str = ""

    @property
    def expires_s(self) -> float:
        """When to check the Pod; without a reported deletion, late enough to observe it twice."""
        if self.reason == "deleted":
            return self.deadline_s
        return max(self.deadline_s, self.seen.unix_s + OBSERVATION_GAP_S)


class NoDeadline(NamedTuple):
    """The reason why no deadline starts."""

    why: str


def deadline_of(
    pod: PodState,
    cluster: ClusterLookup,
    settings: ReclaimSettings,
    observed: Moment,
    *,
    deleted: str = "",
) -> ReclaimDeadline | NoDeadline:
    """The deadline that a change of a Pod starts, or the reason for no deadline.

    ``deleted``: the report that the Pod was deleted, as text; ``pod`` is then the Pod's last state.
    """
    if not settings.enabled:
        return NoDeadline("reclaiming is disabled")
    if pod.host_network:
        return NoDeadline("it uses the host's network")
    namespace, name = key = pod.endpoint_key(settings)
    fixed = pod.fixed(settings)
    if fixed is not None:
        validity = validity_of(fixed, namespace, name, cluster)
        if validity.keeps and not validity.unanswered:
            return NoDeadline(f"fixed: {validity.why}")
    deadline = _deadline(pod, settings, observed.unix_s, deleted=bool(deleted))
    if isinstance(deadline, NoDeadline):
        return deadline
    reason, deadline_s = deadline
    if reason != "deleted":
        allowed, node_text = node_allows(pod, cluster, settings)
        if not allowed:
            return NoDeadline(node_text)
    return ReclaimDeadline(key, pod.name, pod.uid, pod.node, reason, observed, deadline_s, deleted)


def _deadline(
    pod: PodState, settings: ReclaimSettings, seen_s: float, *, deleted: bool
) -> tuple[DeadlineReason, float] | NoDeadline:
    if deleted:
        return "deleted", seen_s + settings.extra_delay_s
    # As in the scan: if a finished Pod is being deleted, only the deletion counts.
    if pod.deletion_s is not None:
        return "deleting", deletion_deadline(pod, pod.deletion_s, settings)
    if not pod.is_final:
        return NoDeadline("its Pod is living")
    ended_s = finished_at(pod)
    if ended_s is None:
        return NoDeadline("it is unknown when its containers ended")
    return "finished", ended_s + pod.grace_s + settings.extra_delay_s


class PodDeadlines:
    """Deadlines by Pod UID, at most ``deadlines_max``. The scan checks Pods without one."""

    __slots__ = ("_deadlines", "_deadlines_max", "dropped")

    def __init__(self, deadlines_max: int) -> None:
        self._deadlines: dict[str, ReclaimDeadline] = {}
        self._deadlines_max = deadlines_max
        self.dropped = 0  # Pods without a deadline, because the capacity was reached

    def __len__(self) -> int:
        return len(self._deadlines)

    def __iter__(self) -> Iterator[ReclaimDeadline]:
        return iter(self._deadlines.values())

    def put(self, new: ReclaimDeadline) -> bool:
        """Store a deadline; return False if the capacity is reached.

        A new deadline replaces the Pod's earlier deadline and keeps the earlier ``seen``. The
        deadline of a reported deletion has its own ``seen`` and is never replaced.
        """
        old = self._deadlines.get(new.uid)
        if old is None and len(self._deadlines) >= self._deadlines_max:
            self.dropped += 1
            return False
        if old is not None and old.reason == "deleted":
            return True
        first = new.seen if old is None or new.reason == "deleted" else old.seen
        self._deadlines[new.uid] = new._replace(seen=first)
        return True

    def forget(self, uid: str) -> None:
        """Remove the deadline of the Pod."""
        self._deadlines.pop(uid, None)

    def due(self, now_s: float) -> list[ReclaimDeadline]:
        """The expired deadlines, in the order of ``expires_s``."""
        expired = [deadline for deadline in self._deadlines.values() if deadline.expires_s <= now_s]
        return sorted(expired, key=lambda deadline: deadline.expires_s)
