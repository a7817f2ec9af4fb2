"""Plan the releases of claims, with the evidence (I6), or the reason to keep claims. Pure.

A scan takes linear time. A release requires the claim revisions of the plan (I3).

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import parse_address
from core.domain.evolution import EndpointKey, Ledger, RevisedClaim
from core.domain.fixed.fixed_address_owners import kind_of_holder
from core.domain.model import Claim, Endpoint
from core.domain.reclaim.decision_table import (
    PodToVerify,
    ReclaimDeadline,
    ReclaimVerdict,
    VerdictContext,
    deadline_of,
    holder_uid,
    judge,
    judge_deleted,
    keep,
    keep_if_in_use,
)
from core.domain.reclaim.evidence import (
    OBSERVATIONS_MIN,
    Evidence,
    Finding,
    Observation,
    ObservationSubject,
    PodState,
    ReclaimFence,
    Source,
    fence_of,
    observe,
)
from core.domain.reclaim.settings import ReclaimSettings

STEPS_MAX: Final = 50_000
"""The next scan plans any further steps."""

CLAIMS_A_STEP_MAX: Final = 32
"""The claims of a step must fit into one transaction."""

OBSERVATIONS_MAX: Final = 100_000

Observations = Mapping[ObservationSubject, Observation]
Claims = tuple[tuple[str, RevisedClaim], ...]

PLAN_FULL: Final = f"the plan is full ({STEPS_MAX} steps); the next scan continues"


class ReclaimStep(NamedTuple):
    """One release: of an endpoint, or of claims that no endpoint lists."""

    subject: ObservationSubject
    addresses: tuple[str, ...]
    evidence: Evidence
    fence: ReclaimFence

    @property
    def key(self) -> EndpointKey:
        return self.subject.key

    @property
    def ends_endpoint(self) -> bool:
        return not self.subject.orphan


class KeptClaims(NamedTuple):
    """Claims that are kept.

    ``until_s``: when the verdict may change, in Unix seconds; 0: unknown.
    ``unanswered``: the API server did not answer.
    """

    key: EndpointKey
    addresses: tuple[str, ...]
    why: str
    until_s: float = 0.0
    unanswered: bool = False


class ReclaimPlan(NamedTuple):
    """The result of one scan. The next scan needs ``observations``.

    ``next_scan_s``: when to scan before the regular time, in Unix seconds.
    """

    steps: tuple[ReclaimStep, ...]
    kept: tuple[KeptClaims, ...]
    deadlines: tuple[ReclaimDeadline, ...]
    observations: dict[ObservationSubject, Observation]
    next_scan_s: float | None = None


class _Holding(NamedTuple):
    """An endpoint with its claims, or claims of one holder that no endpoint lists.

    ``endpoint``: if no endpoint lists the claims, this is the endpoint with their name, if any.
    ``superseded``: no endpoint lists the claims, and the claims of ``endpoint`` are newer.
    """

    subject: ObservationSubject
    endpoint: Endpoint | None
    claims: Claims
    addresses: tuple[str, ...]
    superseded: bool = False

    @property
    def holder(self) -> str:
        if self.subject.orphan or self.endpoint is None:
            return self.subject.orphan
        return self.endpoint.holder

    def to_verify(self, settings: ReclaimSettings) -> PodToVerify:
        holder, endpoint = self.holder, self.endpoint
        uid_in_claims = holder_uid(holder)
        uid = uid_in_claims
        if endpoint is not None and endpoint.holder == holder:
            uid = endpoint.uid
        fixed_kind = kind_of_holder(holder, settings)
        claimed = self.addresses if self.claims else ()
        return PodToVerify(*self.subject.key, uid, fixed_kind, claimed, uid_in_claims)


def plan_scan(ledger: Ledger, context: VerdictContext, before: Observations) -> ReclaimPlan:
    """Check all endpoints and claims. ``before``: ``observations`` of the previous plan."""
    scan = _Scan(context, before)
    if context.settings.enabled:
        for holding in _all_holdings(ledger):
            scan.check(holding)
    return scan.plan()


def check_deadline(
    deadline: ReclaimDeadline, ledger: Ledger, context: VerdictContext
) -> ReclaimStep | KeptClaims | None:
    """Check a Pod whose deadline has expired; None: the endpoint does not exist.

    Without a reported deletion, the change of the Pod was the first observation, and this check is
    the second.
    """
    endpoint = ledger.endpoints.get(deadline.endpoint)
    if endpoint is None:
        return None
    holding = _holding_of(endpoint, ledger.claims)
    if endpoint.uid != deadline.uid:
        return _claims_to_keep(holding, keep(f"the endpoint belongs to UID {endpoint.uid} now"))
    if context.now_s < deadline.expires_s:
        return _claims_to_keep(holding, keep("its deadline has not expired", deadline.expires_s))
    to_verify = holding.to_verify(context.settings)
    last, times = deadline.seen, 1
    source: Source = "event"
    if deadline.reason == "deleted":
        verdict = judge_deleted(to_verify, deadline.report, context)
    else:
        verdict = judge(to_verify, context)
        source = "listing"
        last, times = context.cluster.observed_at, OBSERVATIONS_MIN
        missing_s = verdict.span_s - last.since(deadline.seen)
        if verdict.finding is not None and missing_s > 0:
            verdict = keep(f"seen once: {verdict.why}", context.now_s + missing_s)
    if verdict.finding is None:
        return _claims_to_keep(holding, verdict)
    when = deadline.seen.unix_s, last.unix_s, times
    return _step(holding, Evidence(verdict.finding, verdict.why, source, *when))


class _Scan:
    def __init__(self, context: VerdictContext, before: Observations) -> None:
        self._context = context
        self._before = before
        self._steps: list[ReclaimStep] = []
        self._kept: list[KeptClaims] = []
        self._deadlines: list[ReclaimDeadline] = []
        self._observations: dict[ObservationSubject, Observation] = {}
        self._waits_until_s: list[float] = []

    def check(self, holding: _Holding) -> None:
        to_verify = holding.to_verify(self._context.settings)
        verdict = _inconsistency(holding, to_verify, self._context)
        verdict = verdict or judge(to_verify, self._context)
        if verdict.finding is None:
            has_deadline = bool(verdict.until_s) and self._add_deadline(to_verify)
            self._keep(holding, verdict, has_deadline=has_deadline)
            return
        observation = self._observe(holding, verdict.finding)
        # ``direct``: an operator has reported the deletion.
        if not verdict.direct and not observation.is_enough(verdict.span_s):
            until_s = self._context.now_s + max(verdict.span_s - observation.span_s, 0.0)
            self._keep(holding, keep(f"seen {_times(observation.times)}: {verdict.why}", until_s))
        elif len(self._steps) >= STEPS_MAX:
            self._keep(holding, keep(PLAN_FULL, self._context.now_s))
        else:
            source: Source = "operator" if verdict.direct else "listing"
            times = observation.first.unix_s, observation.last.unix_s, observation.times
            evidence = Evidence(verdict.finding, verdict.why, source, *times)
            self._steps.append(_step(holding, evidence, observation.fence))

    def plan(self) -> ReclaimPlan:
        return ReclaimPlan(
            tuple(self._steps),
            tuple(self._kept),
            tuple(self._deadlines),
            self._observations,
            min(self._waits_until_s, default=None),
        )

    def _observe(self, holding: _Holding, finding: Finding) -> Observation:
        fence = fence_of(holding.endpoint, holding.claims)
        before = self._before.get(holding.subject)
        observation = observe(before, finding, fence, self._context.cluster.observed_at)
        if len(self._observations) < OBSERVATIONS_MAX:
            self._observations[holding.subject] = observation
        return observation

    def _keep(
        self, holding: _Holding, verdict: ReclaimVerdict, *, has_deadline: bool = False
    ) -> None:
        self._kept.append(_claims_to_keep(holding, verdict))
        if verdict.until_s and not has_deadline:
            self._waits_until_s.append(verdict.until_s)

    def _add_deadline(self, to_verify: PodToVerify) -> bool:
        """Add the deadline of the Pod, if any; return whether there is one."""
        cluster, settings, _ = self._context
        pod = cluster.pod(to_verify.namespace, to_verify.name)
        if isinstance(pod, PodState) and pod.uid == to_verify.uid:
            deadline = deadline_of(pod, cluster, settings, cluster.observed_at)
            if isinstance(deadline, ReclaimDeadline):
                self._deadlines.append(deadline)
                return True
        return False


def _all_holdings(ledger: Ledger) -> Iterator[_Holding]:
    """All endpoints with their claims, then all claims that no endpoint lists, by holder."""
    listed: set[str] = set()
    for endpoint in ledger.endpoints.values():
        holding = _holding_of(endpoint, ledger.claims)
        if holding.claims:
            listed.update(holding.addresses)
        elif ledger.undecodable and _has_undecodable_claim(endpoint, ledger.undecodable):
            continue
        yield holding
    if len(listed) == len(ledger.claims):
        return
    orphans: defaultdict[ObservationSubject, list[tuple[str, RevisedClaim]]] = defaultdict(list)
    for address, revised in ledger.claims.items():
        if address not in listed:
            claim = revised.claim
            if f"endpoint/{claim.namespace}/{claim.pod}" in ledger.undecodable:
                continue  # the undecodable endpoint may list the address (I6)
            subject = ObservationSubject((claim.namespace, claim.pod), claim.holder)
            orphans[subject].append((address, revised))
    for subject, pairs in orphans.items():
        existing = ledger.endpoints.get(subject.key)
        superseded = existing is not None and _is_superseded(
            pairs, existing, _listed_claims(existing, ledger.claims)
        )
        pairs.sort()
        for part, start in enumerate(range(0, len(pairs), CLAIMS_A_STEP_MAX)):
            claims = tuple(pairs[start : start + CLAIMS_A_STEP_MAX])
            addresses = tuple(address for address, _ in claims)
            yield _Holding(
                ObservationSubject(subject.key, subject.orphan, part),
                existing,
                claims,
                addresses,
                superseded,
            )


def _has_undecodable_claim(endpoint: Endpoint, undecodable: Collection[str]) -> bool:
    return any(
        "ip/{}/{:032x}".format(*parse_address(address)) in undecodable
        for address, _ in endpoint.addresses()
    )


def _is_superseded(
    orphans: list[tuple[str, RevisedClaim]], endpoint: Endpoint, claims: Claims
) -> bool:
    """Whether ``endpoint`` is of a newer Pod, and all its ``claims`` are newer than ``orphans``."""
    holder = orphans[0][1].claim.holder
    # The endpoint of a VM does not have the name of a Pod.
    if not holder_uid(holder) or holder == endpoint.holder or endpoint.holder.startswith("vm/"):
        return False
    newest = max(revised.revision for _, revised in orphans)
    return bool(claims) and newest < min(revised.revision for _, revised in claims)


def _holding_of(endpoint: Endpoint, claims: Mapping[str, RevisedClaim]) -> _Holding:
    listed = _listed_claims(endpoint, claims)
    if listed:
        addresses = tuple([address for address, _ in listed])
    else:
        addresses = tuple([address for address, _ in endpoint.addresses()])
    return _Holding(
        ObservationSubject((endpoint.namespace, endpoint.name)), endpoint, listed, addresses
    )


def _listed_claims(endpoint: Endpoint, claims: Mapping[str, RevisedClaim]) -> Claims:
    listed: dict[str, RevisedClaim] = {}
    for nic in endpoint.nics:
        for cidr in (nic.ipv4, nic.ipv6):
            address = cidr.partition("/")[0]
            revised = claims.get(address) if address else None
            if revised is not None and _is_claim_of(revised.claim, endpoint):
                listed[address] = revised
    return tuple(listed.items())


def _is_claim_of(claim: Claim, endpoint: Endpoint) -> bool:
    return (
        claim.holder == endpoint.holder
        and claim.pod == endpoint.name
        and claim.namespace == endpoint.namespace
    )


def _inconsistency(
    holding: _Holding, to_verify: PodToVerify, context: VerdictContext
) -> ReclaimVerdict | None:
    """The verdict if endpoint and claims are inconsistent; None: consistent."""
    endpoint = holding.endpoint
    if endpoint is None:
        return None
    if not holding.claims and context.settings.outdated_endpoints:
        return ReclaimVerdict("no-claim", f"endpoint {'/'.join(endpoint.key)} has no claim")
    if not holding.superseded:
        return None
    # The ADD of the newer Pod should have released this claim.
    newer = f"a newer Pod {'/'.join(endpoint.key)} (UID {endpoint.uid}) has this name"
    verdict = ReclaimVerdict("uid-changed", f"{newer}; the claim belongs to {holding.holder}")
    return keep_if_in_use(verdict, to_verify, context.cluster)


def _step(holding: _Holding, evidence: Evidence, fence: ReclaimFence | None = None) -> ReclaimStep:
    fence = fence or fence_of(holding.endpoint, holding.claims)
    claimed = holding.addresses if holding.claims else ()
    return ReclaimStep(holding.subject, claimed, evidence, fence)


def _claims_to_keep(holding: _Holding, verdict: ReclaimVerdict) -> KeptClaims:
    fields = verdict.why, verdict.until_s, verdict.unanswered
    return KeptClaims(holding.subject.key, holding.addresses, *fields)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
