"""Evidence for a release: the state of the cluster, and when observations of it are enough.

Absence of evidence releases nothing (I6).

``ClusterLookup`` returns the object, proof that it does not exist, or "unknown", which is not
evidence; see ``core.domain.fixed.fixed_address_owners``. An implementation may report that an
object does not exist only after a listing that is complete, was taken after the claims were read,
and is not empty for a kind that every cluster has. A Pod exists before its ADD, so every living
holder of a claim is in such a listing.

One report is enough: a delete event of the API server, or the report of an operator. Otherwise two
observations of the same finding about the same claims are required, at least ``OBSERVATION_GAP_S``
apart by the monotonic clock of one observer. A change between them (another UID, another sandbox, a
new claim, another observer) starts the count again. Pure: the caller reads objects and clocks. For
the findings see ``decision_table``.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, Protocol

from core.domain.evolution import EndpointKey, RevisedClaim
from core.domain.fixed.fixed_address_owners import (
    FixedAddressSwitches,
    MissingOwner,
    OwnerLookup,
    kind_of_pod,
)
from core.domain.model import Endpoint, FixedKind, Owner

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Kind = Literal[
    "Pod", "Node", "StatefulSet", "VirtualMachineInstance", "VirtualMachine", "IPAMClaim"
]
"""Kinds of objects whose state reclaim reads."""

EVICTED: Final = "Evicted"
NEVER_EMPTY: Final[frozenset[Kind]] = frozenset({"Pod", "Node"})
"""Kinds whose listing cannot be empty, because the controller itself is a Pod on a Node."""

OBSERVATIONS_MIN: Final = 2
"""The number of observations that are evidence, unless a deletion was reported."""

OBSERVATION_GAP_S: Final = 10.0
"""The shortest time from the first to the last observation, in seconds.

It is longer than a listing lags behind, and longer than an ADD takes.
"""

EVIDENCE_CHARS_MAX: Final = 512
"""Characters of a finding's text in the evidence of an event."""


Finding = Literal[
    "pod-gone",  # no Pod of that name
    "uid-changed",  # the name belongs to another Pod now
    "owner-gone",  # the StatefulSet, replica, VM or IPAMClaim does not exist any more
    "stuck-terminating",  # twice the grace period has passed
    "terminating-without-address",  # being deleted, and its network was removed already
    "finished",  # succeeded, failed or evicted, and its grace period has passed
    "no-address",  # runs and reports no address; only if enabled by a setting
    "no-claim",  # an endpoint without a claim
    "deleted",  # the API reported the deletion
]
Source = Literal["event", "listing", "operator"]
"""The source of evidence: a delete event of the API server, listings, or an operator's report."""


class Moment(NamedTuple):
    """The time of an observation. ``unix_s``: by the wall clock, which may be set.

    ``steady_s``: by the monotonic clock of ``observer``, for differences; the monotonic clocks of
    two observers cannot be compared.
    """

    unix_s: float
    observer: str = ""
    steady_s: float = 0.0

    def since(self, earlier: Moment) -> float:
        """A lower bound of the seconds since ``earlier``; 0 if the observers differ."""
        if self.observer != earlier.observer:
            return 0.0
        return max(self.steady_s - earlier.steady_s, 0.0)

    def is_before(self, other: Moment) -> bool:
        """Whether this time may be earlier than ``other``; true if the observers differ."""
        return self.observer != other.observer or self.steady_s < other.steady_s


class Observer(NamedTuple):
    """The observer of a process, with a wall clock and a monotonic clock.

    The time between two observations is measured by the monotonic clock of one observer, so that
    neither a clock that is set nor another machine's clock can shorten it. ``now_s`` returns Unix
    seconds, ``steady_s`` monotonic seconds.
    """

    name: str
    now_s: Callable[[], float]
    steady_s: Callable[[], float]

    def moment(self) -> Moment:
        """The current time by both clocks."""
        return Moment(self.now_s(), self.name, self.steady_s())


class PodState(NamedTuple):
    """One Pod. Times are Unix seconds, grace periods are seconds.

    ``owner``: the direct controller. ``deletion_s``: the deletionTimestamp, which already includes
    the grace period ``deletion_grace_s``; None while the Pod is not being deleted. ``grace_s``:
    spec.terminationGracePeriodSeconds. ``finished_s``: when each container finished. ``claims``:
    the IPAMClaims that its networks name.
    """

    namespace: str
    name: str
    uid: str
    phase: Phase = "Running"
    node: str = ""
    ips: tuple[str, ...] = ()
    owner: Owner | None = None
    deletion_s: float | None = None
    deletion_grace_s: float = 0.0
    grace_s: float = 30.0
    restart_policy: str = "Always"
    reason: str = ""
    finished_s: tuple[float, ...] = ()
    host_network: bool = False
    claims: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the Pod's phase is final: Succeeded or Failed."""
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_living(self) -> bool:
        """Whether the Pod is neither being deleted nor finished, so that its addresses are kept."""
        return self.deletion_s is None and not self.is_final

    @property
    def may_restart(self) -> bool:
        """Whether the Pod's phase is final, but its restart policy starts it again.

        See docs/reference/pool-selection.md, "Living Pods".
        """
        if self.phase == "Succeeded":
            return self.restart_policy == "Always"
        return self.phase == "Failed" and self.restart_policy != "Never" and self.reason != EVICTED

    def fixed(self, switches: FixedAddressSwitches) -> FixedKind | None:
        """The kind of the Pod's fixed addresses, by its controller; None if they are not fixed."""
        return kind_of_pod(self.name, self.owner, switches)

    def endpoint_key(self, switches: FixedAddressSwitches) -> tuple[str, str]:
        """(namespace, name) of the Pod's endpoint; that of a VM has the name of the VM instance."""
        if self.owner is not None and self.fixed(switches) == "vm":
            return self.namespace, self.owner.name
        return self.namespace, self.name


class NodeState(NamedTuple):
    """A Node. ``ready``: its condition Ready is True."""

    name: str
    ready: bool


class ClusterLookup(OwnerLookup, Protocol):
    """The state of the cluster for the decisions. It does not change while a plan is made."""

    @property
    def observed_at(self) -> Moment:
        """The time of the observation."""
        ...

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner:
        """The Pod of that name."""
        ...

    def pod_of_uid(self, uid: str) -> PodState | None:
        """The Pod of that UID, from any listing: it is only used to keep addresses."""
        ...

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """A Pod that has not ended and belongs to the VM instance or IPAMClaim of this endpoint.

        From any listing; ``name``: the name of the endpoint.
        """
        ...

    def reporter(self, address: str) -> PodState | None:
        """A living Pod that has the address in its status, from any listing."""
        ...

    def node(self, name: str) -> NodeState | MissingOwner:
        """The Node of that name."""
        ...


class DeletionNotice(NamedTuple):
    """Pods and nodes that an operator reports as gone; ``actor`` and ``reason`` are evidence."""

    actor: str
    reason: str
    pods: frozenset[EndpointKey] = frozenset()
    nodes: frozenset[str] = frozenset()


class Evidence(NamedTuple):
    """Why an address may be released. ``text``: the finding in words. Times are Unix seconds."""

    finding: Finding
    text: str
    source: Source
    first_s: float
    last_s: float
    times: int

    def __str__(self) -> str:
        when = utc(self.last_s)
        if self.times > 1:
            when = f"seen {self.times} times from {utc(self.first_s)} to {when}"
        return f"{self.finding}: {self.text[:EVIDENCE_CHARS_MAX]} ({self.source}, {when})"


class ReclaimFence(NamedTuple):
    """The state on which a release was decided: the Pod, the sandboxes and the claims by revision.

    ``holder`` "": there was no endpoint. If this state has changed, the release is late and does
    nothing (I3).
    """

    uid: str
    holder: str
    containers: tuple[str, ...]
    claims: tuple[tuple[str, int], ...]

    def matches(self, endpoint: Endpoint | None) -> bool:
        """Whether the endpoint has not changed since the decision."""
        if endpoint is None:
            return not self.holder
        return (
            endpoint.uid == self.uid
            and endpoint.holder == self.holder
            and containers_of(endpoint) == self.containers
        )


class ObservationSubject(NamedTuple):
    """The subject of an observation: an endpoint, or a holder's claims that no endpoint lists."""

    key: EndpointKey
    orphan: str = ""
    """The holder of claims that no endpoint lists; "" for the endpoint itself."""

    part: int = 0
    """The index of the part, if the claims of ``orphan`` are split into several transactions."""


class Observation(NamedTuple):
    """A finding about a fence, observed ``times`` times."""

    finding: Finding
    fence: ReclaimFence
    first: Moment
    last: Moment
    times: int = 1

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last observation."""
        return self.last.since(self.first)

    def is_enough(self, span_s: float) -> bool:
        """Whether there were at least ``OBSERVATIONS_MIN`` observations, ``span_s`` apart."""
        return self.span_s >= span_s and self.times >= OBSERVATIONS_MIN


def observe(
    before: Observation | None, finding: Finding, fence: ReclaimFence, at: Moment
) -> Observation:
    """Add one observation; the count starts again if the finding, fence or observer differs."""
    if before is None or (before.finding, before.fence) != (finding, fence):
        return Observation(finding, fence, at, at)
    if at == before.last:
        return before
    if at.is_before(before.last):
        return Observation(finding, fence, at, at)
    return Observation(finding, fence, before.first, at, before.times + 1)


def fence_of(
    endpoint: Endpoint | None, claims: tuple[tuple[str, RevisedClaim], ...]
) -> ReclaimFence:
    """The fence of a decision about this endpoint and these claims."""
    revisions = tuple((address, claim.revision) for address, claim in claims)
    if len(revisions) > 1:
        revisions = tuple(sorted(revisions))
    if endpoint is None:
        return ReclaimFence(uid="", holder="", containers=(), claims=revisions)
    return ReclaimFence(endpoint.uid, endpoint.holder, containers_of(endpoint), revisions)


def containers_of(endpoint: Endpoint) -> tuple[str, ...]:
    """The container IDs of the sandboxes that have NICs of the endpoint."""
    if len(endpoint.nics) == 1:  # faster for most endpoints: a scan calls this for every holder
        container = endpoint.nics[0].container
        return (container,) if container else ()
    return tuple(sorted({nic.container for nic in endpoint.nics if nic.container}))


def utc(unix_s: float) -> str:
    """A time as text in UTC, to the second; as a number if the calendar does not have it."""
    try:
        at = datetime.fromtimestamp(int(unix_s), UTC)
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s"
    return at.isoformat(" ")[:-6] + "Z"
