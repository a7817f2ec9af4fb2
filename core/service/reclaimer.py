"""Carries out one step of a reclaim plan: fenced, repeatable, late ones are no-ops (I3, I6).

What is released was decided before (``core.domain.reclaim``). Here it is only asked whether that is
still so: the same Pod and sandboxes behind the endpoint, the same claims by revision. An endpoint
is ended through the ``Releaser``; claims that no endpoint shows are ended under guards of the same
kind. It never decides, and never releases more than the step names.
"""

from __future__ import annotations

from typing import Final

from core.domain.claims import ReleaseDecision
from core.domain.events import AddressesReleased, Cause, Release
from core.domain.model import Endpoint
from core.domain.reclaim.planning import ReclaimStep
from core.errors import LostRace
from core.service.cooldown import CoolDown
from core.service.proposals import Seen, release_proposal
from core.service.releaser import Released, ReleaseOrder, Releaser
from core.store.batch import Lost
from core.store.codec import ENDPOINT, Draft
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from core.store.retrying import racing
from core.store.writer import Writer

LATE: Final = "it has changed since it was judged"
DONE: Final = "reclaimed"


class Reclaimer:
    """Does steps, one at a time; several may run at once."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        releaser: Releaser,
        cooldown: CoolDown,
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._releaser = releaser
        self._cooldown = cooldown

    async def reclaim(self, step: ReclaimStep, cause: Cause) -> Released:
        """Release what the step names, if it is still as it was judged.

        Without addresses and revision nothing was done, and ``why`` tells. Raises
        StoreUnavailable, OutcomeUnknown, LostRace (after the bounded time of ``racing``).
        """
        if not step.ends_endpoint:
            return await racing()(self._end_claims, step, cause)
        # Claims change only together with their endpoint, and that is what the release guards.
        if await self._fences(step) is None:
            return Released((), LATE)

        def decide(endpoint: Endpoint) -> ReleaseDecision:
            same = step.fence.admits(endpoint)
            return ReleaseDecision(same, DONE if same else LATE)

        order = ReleaseOrder("reclaimed", str(step.evidence), cause)
        return await self._releaser.release(step.key, decide, order)

    async def _fences(self, step: ReclaimStep) -> tuple[Release, ...] | None:
        """The claims of the step as they are now; None unless they are those that were judged."""
        pairs = [(address, "") for address, _ in step.fence.claims]
        found = await self._releaser.fences(pairs, step.key)
        now = tuple(sorted((one.address, one.claim_revision) for one in found))
        return found if now == step.fence.claims else None

    async def _end_claims(self, step: ReclaimStep, cause: Cause) -> Released:
        """End claims beside an endpoint, or without one; NICs of the endpoint stay as they are."""
        path = self._keys.endpoint(*step.key)
        found = (await self._store.read([Get(path)])).ranges[0].kvs
        seen = Seen(ENDPOINT.decode(found[0].value), found[0].mod_revision) if found else Seen()
        if not step.fence.admits(seen.endpoint):
            return Released((), LATE)
        releases = await self._fences(step)
        if releases is None:
            return Released((), LATE)
        nics = seen.endpoint.nics if seen.endpoint is not None else ()
        event = AddressesReleased(*step.key, releases, nics, "reclaimed", str(step.evidence))
        draft = Draft(self._writer.event_id(), cause, event)
        lease = await self._cooldown.lease()
        outcome = await self._writer.append(release_proposal(self._keys, draft, seen, lease))
        if isinstance(outcome, Lost):
            raise LostRace(
                f"claims of {'/'.join(step.key)} changed meanwhile", subject="/".join(step.key)
            )
        return Released(tuple(one.address for one in releases), DONE, outcome.revision)
