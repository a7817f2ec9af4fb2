"""Evidence for a release: reports and observations, and when they are enough (I6).

One authoritative report is enough: the API server's delete event, or an operator's. Otherwise two
observations of the same finding about the same claims are required, ``OBSERVATION_GAP_S`` apart by
the monotonic clock of one observer. A change in between (another UID, another sandbox, a new claim,
another observer) starts the count again. Pure values; ``decision_table`` makes the findings.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from core.domain.evolution import EndpointKey, RevisedClaim
from core.domain.model import Endpoint

OBSERVATIONS_MIN: Final = 2
OBSERVATION_GAP_S: Final = 10.0
"""Between the first and the last one: longer than a listing lags behind, or an ADD takes."""

EVIDENCE_CHARS_MAX: Final = 512

Finding = Literal[
    "pod-gone",  # no Pod of that name
    "uid-changed",  # the name belongs to another Pod now
    "owner-gone",  # the StatefulSet, ordinal or VM is not wanted any more
    "stuck-terminating",  # twice the grace period has passed
    "terminating-without-address",  # being deleted, and its network is gone already
    "finished",  # succeeded, failed or evicted, and its grace has passed
    "no-address",  # runs and reports no address; only if switched on
    "no-claim",  # an endpoint that holds nothing
    "deleted",  # the API reported the deletion
]
Source = Literal["event", "listing", "operator"]


class Moment(NamedTuple):
    """The time of an observation: by the wall clock (Unix seconds), by a monotonic clock for gaps.

    The wall clock may be set; monotonic clocks of two observers cannot be compared.
    """

    unix_s: float
    observer: str = ""
    steady_s: float = 0.0

    def since(self, earlier: Moment) -> float:
        """Seconds that have certainly passed since then: 0 for that of another observer."""
        if self.observer != earlier.observer:
            return 0.0
        return max(self.steady_s - earlier.steady_s, 0.0)

    def is_before(self, other: Moment) -> bool:
        """Whether it may have been earlier; True for two observers, whose clocks differ."""
        return self.observer != other.observer or self.steady_s < other.steady_s


class Evidence(NamedTuple):
    """Why an address may be released. Times are Unix seconds."""

    finding: Finding
    words: str
    source: Source
    first_s: float
    last_s: float
    times: int

    def __str__(self) -> str:
        when = utc(self.last_s)
        if self.times > 1:
            when = f"seen {self.times} times from {utc(self.first_s)} to {when}"
        return f"{self.finding}: {self.words[:EVIDENCE_CHARS_MAX]} ({self.source}, {when})"


class ReclaimFence(NamedTuple):
    """The subject of a decision: the endpoint's Pod and sandboxes, and the claims by revision.

    ``uid`` "" and no containers: there was no endpoint. A release whose fence does not hold any
    more is late and does nothing (I3).
    """

    uid: str
    holder: str
    containers: tuple[str, ...]
    claims: tuple[tuple[str, int], ...]

    def admits(self, endpoint: Endpoint | None) -> bool:
        """Whether this is the endpoint that was judged."""
        if endpoint is None:
            return not self.holder
        return (endpoint.uid, endpoint.holder, containers_of(endpoint)) == self[:3]


class ObservationSubject(NamedTuple):
    """The subject of an observation: an endpoint, or one holder's claims that it does not list."""

    key: EndpointKey
    orphan: str = ""
    """The holder of claims that no endpoint lists; "" for the endpoint itself."""

    part: int = 0
    """The index of the part, as such claims are split to fit into one transaction."""


class Observation(NamedTuple):
    """The same finding about the same fence, seen ``times`` times."""

    finding: Finding
    fence: ReclaimFence
    first: Moment
    last: Moment
    times: int = 1

    @property
    def span_s(self) -> float:
        """Seconds from the first to the last one."""
        return self.last.since(self.first)

    def is_enough(self, span_s: float) -> bool:
        """Whether it is evidence, with the first and the last one ``span_s`` apart."""
        return self.span_s >= span_s and self.times >= OBSERVATIONS_MIN


def sighted(
    before: Observation | None, finding: Finding, fence: ReclaimFence, at: Moment
) -> Observation:
    """One more observation; a new beginning if anything is different, the observer too."""
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
    """The fence of the current decision."""
    revisions = tuple((address, held.revision) for address, held in claims)
    if len(revisions) > 1:
        revisions = tuple(sorted(revisions))
    if endpoint is None:
        return ReclaimFence("", "", (), revisions)
    return ReclaimFence(endpoint.uid, endpoint.holder, containers_of(endpoint), revisions)


def containers_of(endpoint: Endpoint) -> tuple[str, ...]:
    """Every sandbox that has a NIC of the endpoint."""
    if len(endpoint.nics) == 1:  # nearly all; a scan calls this for every holder
        only = endpoint.nics[0].container
        return (only,) if only else ()
    return tuple(sorted({nic.container for nic in endpoint.nics if nic.container}))


def utc(unix_s: float) -> str:
    """A time as text in UTC, to the second; a number if it is out of the calendar's range."""
    try:
        at = datetime.fromtimestamp(int(unix_s), UTC)
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s"
    return at.isoformat(" ")[:-6] + "Z"
