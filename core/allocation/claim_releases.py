"""Releases of named claims: those of a reclaim step, and those that a network provider has unbound.

Both name each claim by its revision, so that late and repeated releases change nothing (I3). The
releases were decided before; here they are only compared with the current state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.allocation.endpoint_writer import ClaimRevisions, EndpointState
from core.allocation.releaser import Released, Releaser
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.events import AddressesReleased, Cause, Release, ReleaseReason
from core.domain.evolution import EndpointKey
from core.domain.model import Endpoint, Nic
from core.domain.reclaim.reclaim_plan import ReclaimStep

CHANGED_SINCE: Final = "it has changed since it was judged"
ENDED_BEFORE: Final = "these claims have ended already"
RECLAIMED: Final = "reclaimed"


async def reclaim(releaser: Releaser, step: ReclaimStep, cause: Cause) -> Released:
    """Release exactly the claims that the step names, if nothing has changed since the decision.

    An endpoint may show the address of another, living Pod (docs/reference/reclaim-rules.md,
    "Addresses in use"): that one's claim stays. Raises what ``Releaser`` does.
    """
    evidence = str(step.evidence)

    def admit(endpoint: Endpoint) -> ReleaseDecision:
        return ReleaseDecision(step.fence.admits(endpoint), CHANGED_SINCE)

    def decide(state: EndpointState) -> AddressesReleased | str:
        if state.claim_revisions != step.fence.claims or not step.fence.admits(state.endpoint):
            return CHANGED_SINCE
        nics = () if state.endpoint is None or step.ends_endpoint else state.endpoint.nics
        return AddressesReleased(*step.key, state.claims, nics, "reclaimed", evidence)

    addresses = [address for address, _ in step.fence.claims]
    if step.ends_endpoint:
        handed = await releaser.hand_over(step.key, admit, "reclaimed", evidence)
        if handed is not None:
            return handed
    done = await releaser.release_claims(step.key, addresses, decide, cause)
    return done._replace(why=RECLAIMED) if done.revision else done


async def end_claims(
    releaser: Releaser,
    key: EndpointKey,
    claims: ClaimRevisions,
    reason: ReleaseReason,
    evidence: str,
    cause: Cause,
) -> Released:
    """End those of these claims that still exist; the endpoint keeps its other NICs.

    Nothing is handed over to the network provider. Raises what ``Releaser`` does.
    """

    def decide(state: EndpointState) -> AddressesReleased | str:
        ending = tuple(
            claim for claim in state.claims if (claim.address, claim.claim_revision) in claims
        )
        if not ending:
            return ENDED_BEFORE
        nics = _nics_without(state.endpoint, ending)
        return AddressesReleased(*key, ending, nics, reason, evidence)

    return await releaser.release_claims(key, [address for address, _ in claims], decide, cause)


def _nics_without(endpoint: Endpoint | None, ending: Sequence[Release]) -> tuple[Nic, ...]:
    """The NICs of the endpoint that have none of these addresses."""
    addresses = {claim.address for claim in ending}
    nics = () if endpoint is None else endpoint.nics
    return tuple(
        nic for nic in nics if addresses.isdisjoint(address for address, _ in nic.addresses())
    )
