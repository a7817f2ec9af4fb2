"""Evidence for a release: reports and observations, and when they are enough (I6).

One report is enough: a delete event of the API server, or the report of an operator. Otherwise two
observations of the same finding about the same claims are required, at least ``OBSERVATION_GAP_S``
apart by the monotonic clock of one observer. A change between them (another UID, another sandbox, a
new claim, another observer) starts the count again. Pure; for the findings see ``decision_table``.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from core.domain.evolution import EndpointKey, RevisedClaim
from core.domain.model import Endpoint

OBSERVATIONS_MIN: Final = 2
OBSERVATION_GAP_S: Final = 10.0
"""Seconds between the observations: longer than the lag of a listing, and than an ADD."""

EVIDENCE_CHARS_MAX: Final = 512

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
        """Seconds that have passed since ``earlier`` at least; 0 if the observers differ."""
        if self.observer != earlier.observer:
            return 0.0
        return max(self.steady_s - earlier.steady_s, 0.0)

    def is_before(self, other: Moment) -> bool:
        """Whether it may be earlier than ``other``; true if the observers differ."""
        return self.observer != other.observer or self.steady_s < other.steady_s


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

    ``uid`` "" and no containers: there was no endpoint. If this state has changed, the release is
    late and does nothing (I3).
    """

    uid: str
    holder: str
    containers: tuple[str, ...]
    claims: tuple[tuple[str, int], ...]

    def admits(self, endpoint: Endpoint | None) -> bool:
        """Whether the endpoint has not changed since the decision."""
        if endpoint is None:
            return not self.holder
        return (endpoint.uid, endpoint.holder, containers_of(endpoint)) == self[:3]


class ObservationSubject(NamedTuple):
    """The subject of an observation: an endpoint, or one holder's claims that it does not list."""

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
        """Whether it is evidence: at least two observations, in a time of at least ``span_s``."""
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
        return ReclaimFence("", "", (), revisions)
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
