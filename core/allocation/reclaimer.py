"""Carries out one step of a reclaim plan: fenced, repeatable, late ones are no-ops (I3, I6).

What is released was decided before (``core.domain.reclaim``). Here it is only asked whether that is
still so: the same Pod and sandboxes behind the endpoint, the same claims by revision, and the
transaction asks again. It ends exactly the claims that the step names. The ``Releaser`` ends all
that an endpoint shows; here an endpoint may show the address of another, living Pod
(docs/reference/reclaim-rules.md, "Addresses in use"), so only its reading of fences is used.
"""

from __future__ import annotations

from typing import Final

from core.allocation.cooldown import CoolDown
from core.allocation.proposals import StoredEndpoint, endpoint_changed, release_proposal
from core.allocation.releaser import Released, releases_of
from core.domain.events import AddressesReleased, Cause, Release
from core.domain.reclaim.reclaim_plan import ReclaimStep
from core.eventstore.batch import Lost
from core.eventstore.codec import EventDraft
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer

LATE: Final = "it has changed since it was judged"
DONE: Final = "reclaimed"


class Reclaimer:
    """Does steps; several may run at once. ``lost`` counts the races that they have lost."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        cooldown: CoolDown,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._cooldown = cooldown
        self.lost = 0

    async def reclaim(self, step: ReclaimStep, cause: Cause) -> Released:
        """Release what the step names, if all of it is still as it was judged.

        With revision 0 nothing was done, and ``why`` tells. Raises StoreUnavailable,
        OutcomeUnknown, LostRace (after the bounded time of ``racing``).
        """
        return await racing()(self._once, step, cause)

    async def _once(self, step: ReclaimStep, cause: Cause) -> Released:
        seen, releases = await self._read(step)
        judged = tuple(sorted((one.address, one.claim_revision) for one in releases))
        if judged != step.fence.claims or not step.fence.admits(seen.endpoint):
            return Released((), LATE)
        nics = () if seen.endpoint is None or step.ends_endpoint else seen.endpoint.nics
        event = AddressesReleased(*step.key, releases, nics, "reclaimed", str(step.evidence))
        draft = EventDraft(self._writer.event_id(), cause, event)
        outcome = await self._cooldown.append(
            self._writer, lambda lease: release_proposal(self._keys, draft, seen, lease)
        )
        if isinstance(outcome, Lost):
            self.lost += 1
            raise endpoint_changed(step.key)
        return Released(tuple(one.address for one in releases), DONE, outcome.revision)

    async def _read(self, step: ReclaimStep) -> tuple[StoredEndpoint, tuple[Release, ...]]:
        """The endpoint and the claims of the step as they are now, at one revision."""
        addresses = [address for address, _ in step.fence.claims]
        gets = [Get(self._keys.ip_of(address)) for address in addresses]
        result = await self._store.read([Get(self._keys.endpoint(*step.key)), *gets])
        releases = releases_of(addresses, result.ranges[1:], step.key)
        return StoredEndpoint.of(result.ranges[0].first), releases
