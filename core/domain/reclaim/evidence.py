"""Evidence for a release (I6 in docs/contributing/architecture.md, "Invariants"). Pure.

A reported deletion is enough evidence. Otherwise, a release requires two observations with the same
finding about the same endpoint and claims, at least ``OBSERVATION_GAP_S`` apart by the monotonic
clock of one observer.
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

EVICTED: Final = "Evicted"
KINDS_NEVER_EMPTY: Final[frozenset[Kind]] = frozenset({"Pod", "Node"})
"""These kinds always have an object: the controller is a Pod on a Node."""

OBSERVATIONS_MIN: Final = 2

OBSERVATION_GAP_S: Final = 10.0
"""A listing is out of date for less than this time, and an ADD takes less than this time."""

EVIDENCE_CHARS_MAX: Final = 512


Finding = Literal[
    "pod-gone",
    "uid-changed",  # a Pod with another UID has the name
    "owner-gone",
    "stuck-terminating",  # the Pod still exists after twice the grace period
    "terminating-without-address",  # the Pod is being deleted and reports no address
    "finished",  # the Pod ended, and its grace period has passed since
    "no-address",  # the Pod runs and reports no address; only if a setting enables this
    "no-claim",
    "deleted",  # the API server reported the deletion of the Pod
]
Source = Literal["event", "listing", "operator"]


class Moment(NamedTuple):
    """The time of an observation, by two clocks.

    ``unix_s``: by the wall clock, which may be changed.
    ``steady_s``: by the monotonic clock of ``observer``.
    """

    unix_s: float
    observer: str = ""
    steady_s: float = 0.0

    def since(self, earlier: Moment) -> float:
        """Seconds since ``earlier``; 0 if the observers differ."""
        if self.observer != earlier.observer:
            return 0.0
        return max(self.steady_s - earlier.steady_s, 0.0)

    def is_before(self, other: Moment) -> bool:
        """Whether this time is earlier; true if the observers differ."""
        return self.observer != other.observer or self.steady_s < other.steady_s


class Observer(NamedTuple):
    """A process that observes the cluster. ``now_s``: Unix time. ``steady_s``: monotonic time."""

    name: str
    now_s: Callable[[], float]
    steady_s: Callable[[], float]

    def moment(self) -> Moment:
        return Moment(self.now_s(), self.name, self.steady_s())


class PodState(NamedTuple):
    """One Pod. Times are Unix seconds.

    ``owner``: the direct controller.
    ``deletion_s``: the deletionTimestamp, which includes ``deletion_grace_s``; None: the Pod is not
    being deleted.
    ``grace_s``: spec.terminationGracePeriodSeconds.
    ``finished_s``: when each container finished.
    ``claims``: the IPAMClaims of the Pod.
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
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_living(self) -> bool:
        return self.deletion_s is None and not self.is_final

    @property
    def may_restart(self) -> bool:
        """Whether the finished Pod may start again.

        See docs/reference/pool-selection.md, "Living Pods".
        """
        if self.phase == "Succeeded":
            return self.restart_policy == "Always"
        return self.phase == "Failed" and self.restart_policy != "Never" and self.reason != EVICTED

    def fixed(self, switches: FixedAddressSwitches) -> FixedKind | None:
        """The kind of fixed addresses, if any."""
        return kind_of_pod(self.name, self.owner, switches)

    def endpoint_key(self, switches: FixedAddressSwitches) -> tuple[str, str]:
        """(namespace, name) of the endpoint. A VM's endpoint has the VM instance's name."""
        if self.owner is not None and self.fixed(switches) == "vm":
            return self.namespace, self.owner.name
        return self.namespace, self.name


class NodeState(NamedTuple):
    """A Node. ``ready``: the condition Ready is True."""

    name: str
    ready: bool


class ClusterLookup(OwnerLookup, Protocol):
    """The state of the cluster, which does not change while a plan is made.

    An object is certainly missing only if a complete listing of its kind lacks it. The listing must
    be taken after the claims were read: a Pod exists before its ADD. An empty listing of a
    kind in ``KINDS_NEVER_EMPTY`` is not evidence. A method that returns None gives no evidence: the
    listing may be incomplete.
    """

    @property
    def observed_at(self) -> Moment: ...

    def pod(self, namespace: str, name: str) -> PodState | MissingOwner: ...

    def pod_of_uid(self, uid: str) -> PodState | None: ...

    def launcher(self, namespace: str, name: str) -> PodState | None:
        """A Pod of the VM or IPAMClaim that has this endpoint; the Pod has not ended."""
        ...

    def reporter(self, address: str) -> PodState | None:
        """A living Pod that has the address in its status."""
        ...

    def node(self, name: str) -> NodeState | MissingOwner: ...


class DeletionNotice(NamedTuple):
    """Pods and nodes that an operator (``actor``) reports as gone."""

    actor: str
    reason: str
    pods: frozenset[EndpointKey] = frozenset()
    nodes: frozenset[str] = frozenset()


class Evidence(NamedTuple):
    """Why an address may be released. ``times``: the number of observations."""

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
    """The state on which a release depends. If the state has changed, nothing is released (I3).

    ``holder``: "": there was no endpoint. ``claims``: the (address, revision) pairs.
    """

    uid: str
    holder: str
    containers: tuple[str, ...]
    claims: tuple[tuple[str, int], ...]

    def matches(self, endpoint: Endpoint | None) -> bool:
        """Whether the endpoint is the same. Claims are not compared."""
        if endpoint is None:
            return not self.holder
        return (
            endpoint.uid == self.uid
            and endpoint.holder == self.holder
            and containers_of(endpoint) == self.containers
        )


class ObservationSubject(NamedTuple):
    """The subject of an observation: an endpoint, or one holder's claims that no endpoint lists."""

    key: EndpointKey
    orphan: str = ""
    """The holder of claims that no endpoint lists."""

    part: int = 0
    """The index of the transaction, if the claims need several."""


class Observation(NamedTuple):
    """A finding, observed ``times`` times in the same state."""

    finding: Finding
    fence: ReclaimFence
    first: Moment
    last: Moment
    times: int = 1

    @property
    def span_s(self) -> float:
        return self.last.since(self.first)

    def is_enough(self, span_s: float) -> bool:
        return self.span_s >= span_s and self.times >= OBSERVATIONS_MIN


def observe(
    before: Observation | None, finding: Finding, fence: ReclaimFence, at: Moment
) -> Observation:
    """Add one observation. The count restarts at 1 if finding, fence or observer differs."""
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
    """The fence of a decision about the endpoint and claims."""
    revisions = tuple((address, claim.revision) for address, claim in claims)
    if len(revisions) > 1:
        revisions = tuple(sorted(revisions))
    if endpoint is None:
        return ReclaimFence(uid="", holder="", containers=(), claims=revisions)
    return ReclaimFence(endpoint.uid, endpoint.holder, containers_of(endpoint), revisions)


def containers_of(endpoint: Endpoint) -> tuple[str, ...]:
    """The endpoint's container IDs, sorted."""
    if len(endpoint.nics) == 1:  # a fast path: a scan calls this for every endpoint
        container = endpoint.nics[0].container
        return (container,) if container else ()
    return tuple(sorted({nic.container for nic in endpoint.nics if nic.container}))


def utc(unix_s: float) -> str:
    """A time in UTC, to the second; as a number if the year is out of range."""
    try:
        at = datetime.fromtimestamp(int(unix_s), UTC)
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s"
    return at.isoformat(" ")[:-6] + "Z"
