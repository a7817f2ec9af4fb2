"""Reclaim deadlines: which change of a Pod starts one, and when it expires.

See docs/reference/reclaim-rules.md, "Deadlines".

``trace`` decides for every add, update and delete of a Pod, ``ReclaimDeadlines`` stores the results
up to a capacity, ``due`` returns the expired ones. Fixed addresses whose owner exists get no
deadline, by the VM instance's name for VMs (docs/reference/fixed-address-rules.md, "KubeVirt"),
unless that is unknown. A deadline alone never releases an address: ``reclaim_plan.resolve``
checks the Pod again when it expires.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from core.domain.evolution import EndpointKey
from core.domain.fixed.validity import validity_of
from core.domain.reclaim.cluster import ClusterFacts, PodState
from core.domain.reclaim.decision_table import deletion_deadline, finished_at, node_allows
from core.domain.reclaim.evidence import OBSERVATION_GAP_S, Moment
from core.domain.reclaim.settings import ReclaimSettings

TraceReason = Literal["deleted", "deleting", "finished"]


class ReclaimDeadline(NamedTuple):
    """A Pod whose addresses may be released from ``stop_s`` on. Times are Unix seconds.

    ``seen``: when the change was first observed. ``deadline_s``: when its grace period ends.
    ``words``: what was reported, for the evidence.
    """

    endpoint: EndpointKey
    pod: str
    uid: str
    node: str
    reason: TraceReason
    seen: Moment
    deadline_s: float
    words: str = ""

    @property
    def stop_s(self) -> float:
        """When to look. Only a delete event is proof; others leave room for a second look."""
        if self.reason == "deleted":
            return self.deadline_s
        return max(self.deadline_s, self.seen.unix_s + OBSERVATION_GAP_S)


class NoDeadline(NamedTuple):
    """No deadline starts, and why."""

    why: str


def trace(
    pod: PodState,
    facts: ClusterFacts,
    settings: ReclaimSettings,
    observed: Moment,
    *,
    deleted: str = "",
) -> ReclaimDeadline | NoDeadline:
    """The deadline that a change of a Pod starts, or why it starts none.

    ``deleted``: the report that its object was deleted, as text; ``pod`` is its last state.
    """
    if not settings.enabled:
        return NoDeadline("reclaiming is switched off")
    if pod.host_network:
        return NoDeadline("it uses the host's network")
    namespace, name = key = pod.endpoint_key(settings)
    fixed = pod.fixed(settings)
    if fixed is not None:
        validity = validity_of(fixed, namespace, name, facts)
        if validity.keeps and not validity.unanswered:
            return NoDeadline(f"fixed: {validity.why}")
    deadline = _deadline(pod, settings, observed.unix_s, deleted=bool(deleted))
    if isinstance(deadline, NoDeadline):
        return deadline
    reason, deadline_s = deadline
    if reason != "deleted":
        allowed, words = node_allows(pod, facts, settings)
        if not allowed:
            return NoDeadline(words)
    return ReclaimDeadline(key, pod.name, pod.uid, pod.node, reason, observed, deadline_s, deleted)


def _deadline(
    pod: PodState, settings: ReclaimSettings, seen_s: float, *, deleted: bool
) -> tuple[TraceReason, float] | NoDeadline:
    if deleted:
        return "deleted", seen_s + settings.extra_delay_s
    # A finished Pod that is being deleted waits for its deletion, as in the scan.
    if pod.deletion_s is not None:
        return "deleting", deletion_deadline(pod, pod.deletion_s, settings)
    if not pod.is_final:
        return NoDeadline("its Pod is living")
    started_s = finished_at(pod)
    if started_s is None:
        return NoDeadline("it is unknown when its containers ended")
    return "finished", started_s + pod.grace_s + settings.extra_delay_s


class ReclaimDeadlines:
    """Traces by Pod UID, at most ``traces_max``: a Pod that finds no room is left to the scan.

    A container of immutable values, as the ledger is.
    """

    __slots__ = ("_traces", "_traces_max", "dropped")

    def __init__(self, traces_max: int) -> None:
        self._traces: dict[str, ReclaimDeadline] = {}
        self._traces_max = traces_max
        self.dropped = 0
        """Pods dropped since the start because the capacity was reached."""

    def __len__(self) -> int:
        return len(self._traces)

    def __iter__(self) -> Iterator[ReclaimDeadline]:
        return iter(self._traces.values())

    def put(self, new: ReclaimDeadline) -> bool:
        """Store a deadline; one of the same Pod is replaced, but keeps when it was first seen.

        False if the capacity is reached. A reported deletion is never replaced.
        """
        old = self._traces.get(new.uid)
        if old is None and len(self._traces) >= self._traces_max:
            self.dropped += 1
            return False
        if old is not None and old.reason == "deleted":
            return True
        first = new.seen if old is None or new.reason == "deleted" else old.seen
        self._traces[new.uid] = new._replace(seen=first)
        return True

    def forget(self, uid: str) -> None:
        """Remove the deadline of a Pod that was released or is alive."""
        self._traces.pop(uid, None)

    def due(self, now_s: float) -> list[ReclaimDeadline]:
        """The expired deadlines, the oldest first; linear in the number of deadlines."""
        expired = [one for one in self._traces.values() if one.stop_s <= now_s]
        return sorted(expired, key=lambda one: one.stop_s)
