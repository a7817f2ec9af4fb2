"""Reclaim deadlines: which change of a Pod starts one, and when it expires.

See docs/reference/reclaim-rules.md, "Deadlines".

``deadline_of`` decides for every add, update and delete of a Pod. ``ReclaimDeadlines`` stores the
results up to a capacity, and ``due`` returns the expired ones. Fixed addresses whose owner exists
get no deadline; a VM is found by the name of its instance (docs/reference/fixed-address-rules.md,
"KubeVirt"). A deadline alone never releases an address: ``reclaim_plan.resolve`` checks the Pod
again when it expires.
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
    """A Pod whose addresses may be released after ``stop_s``. Times are Unix seconds.

    ``seen``: when the change was first observed. ``deadline_s``: when the Pod's grace period ends.
    ``words``: the report of the deletion as text, for the evidence.
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
        """When to check the Pod: late enough for a second observation, unless it was deleted."""
        if self.reason == "deleted":
            return self.deadline_s
        return max(self.deadline_s, self.seen.unix_s + OBSERVATION_GAP_S)


class NoDeadline(NamedTuple):
    """No deadline starts, and why."""

    why: str


def deadline_of(
    pod: PodState,
    facts: ClusterFacts,
    settings: ReclaimSettings,
    observed: Moment,
    *,
    deleted: str = "",
) -> ReclaimDeadline | NoDeadline:
    """The deadline that a change of a Pod starts, or why it starts none.

    ``deleted``: the report that the Pod was deleted, as text; ``pod`` is its last state then.
    """
    if not settings.enabled:
        return NoDeadline("reclaiming is disabled")
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
    # For a finished Pod that is being deleted, the deletion decides, as in the scan.
    if pod.deletion_s is not None:
        return "deleting", deletion_deadline(pod, pod.deletion_s, settings)
    if not pod.is_final:
        return NoDeadline("its Pod is living")
    started_s = finished_at(pod)
    if started_s is None:
        return NoDeadline("it is unknown when its containers ended")
    return "finished", started_s + pod.grace_s + settings.extra_delay_s


class ReclaimDeadlines:
    """Deadlines by Pod UID, at most ``deadlines_max``; further Pods are checked by the scan only.

    A mutable container of immutable values.
    """

    __slots__ = ("_deadlines", "_deadlines_max", "dropped")

    def __init__(self, deadlines_max: int) -> None:
        self._deadlines: dict[str, ReclaimDeadline] = {}
        self._deadlines_max = deadlines_max
        self.dropped = 0
        """The number of Pods without a deadline because the capacity was reached."""

    def __len__(self) -> int:
        return len(self._deadlines)

    def __iter__(self) -> Iterator[ReclaimDeadline]:
        return iter(self._deadlines.values())

    def put(self, new: ReclaimDeadline) -> bool:
        """Store a deadline; returns False if the capacity is reached.

        It replaces that of the same Pod, with the time of the first observation. The deadline of a
        reported deletion is never replaced.
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
        """Remove the deadline of a Pod that was released or is alive."""
        self._deadlines.pop(uid, None)

    def due(self, now_s: float) -> list[ReclaimDeadline]:
        """The expired deadlines, the oldest first; linear in the number of deadlines."""
        expired = [one for one in self._deadlines.values() if one.stop_s <= now_s]
        return sorted(expired, key=lambda one: one.stop_s)
