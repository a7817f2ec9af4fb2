"""The ADD: from facts and a request to claimed addresses, in one transaction.

There is no read before it. The first try assumes that the endpoint does not exist and that the
address it picked is free. If the guards say otherwise, the failed transaction has already read the
truth about exactly those keys, and the next try knows it: the endpoint (a repeat, I7, or an older
Pod's), the addresses around the one that was taken, or that the pools have changed. A pool is
reported full only after a read of the truth. A failed request leaves nothing behind (I4).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from core.allocation.add_request import AddRequest
from core.allocation.address_finder import Finder
from core.allocation.allocation_attempt import (
    AddressSources,
    AllocationAttempt,
    AttemptConstraints,
    WantedAddress,
)
from core.allocation.assigner import Assigner
from core.allocation.claims_in_flight import AddressesBeingClaimed
from core.allocation.cooldown import NO_LEASE, CoolDown
from core.allocation.free_addresses import FreeAddresses
from core.allocation.proposals import (
    StoredEndpoint,
    change_proposal,
    claim_proposal,
    release_guards,
    release_in_claim,
)
from core.allocation.record_limit import RECORDS_MAX, RecordLimit
from core.allocation.releaser import Releaser
from core.domain.addresses.choice import AddressOrder
from core.domain.addresses.ip_address import Address
from core.domain.claims.claim_decisions import (
    Ending,
    EndpointUpdate,
    PoolRequest,
    Repeat,
    claim,
    decide_add,
    has_attached,
    holder_of,
    moved_nics,
    require_alive,
    unmet,
)
from core.domain.events import AddressesReleased, EndpointChanged, Release
from core.domain.facts import PodReference, RequestFacts
from core.domain.model import Endpoint
from core.domain.selection.explanation import in_standard_mode, no_item_left
from core.domain.selection.memo import SelectionMemo
from core.domain.selection.request import Candidates, Demand, SelectionSettings
from core.domain.selection.select import candidates
from core.errors import AllocationError, LostRace, RetriesExhausted, StoreUnavailable
from core.eventstore.batch import Lost, Proposal
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Outcome
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import racing
from core.eventstore.writer import Writer
from core.projections.configuration_view import ConfigurationView

_ENDING_WORDS: Final[dict[Ending, str]] = {
    "superseded": "addresses under this name",
    "pools-changed": "addresses of other pools",
    "repair": "addresses in place of some that are not its own any more",
}
"""What the next Pod wants, by why the older claims end; kept in the log."""


TRIES_AT_ONCE_MAX: Final = 16
"""Tries after lost races before the next ones wait for random times."""


class AllocatorSettings(NamedTuple):
    """``records_max``: claims a pool may hold before it counts as full (0: no limit)."""

    order: AddressOrder = "spread"
    records_max: int = RECORDS_MAX
    selection: SelectionSettings = SelectionSettings()


Confirm = Callable[[PodReference], Awaitable[None]]
"""Asks the source of truth whether this Pod is the one of its name, before what another Pod of that
name holds is released. It raises NotReady or WrongInput when it is not sure."""


class Added(NamedTuple):
    """The endpoint after the ADD; ``fresh``: this call claimed, in ``tries`` tries.

    ``migrating``: another launcher of the VM still uses the addresses, so that a probe for
    conflicts would find it.
    """

    endpoint: Endpoint
    fresh: bool
    tries: int
    migrating: bool = False


class _Progress:
    """What one ADD has learnt over its tries; ``is_sure``: enough to say no."""

    __slots__ = ("facts", "is_sure", "request", "round", "seen", "tries")

    def __init__(self, request: AddRequest, facts: RequestFacts) -> None:
        self.request = request
        self.facts = facts
        self.seen = StoredEndpoint()
        self.is_sure = False
        self.round: AllocationAttempt | None = None
        self.tries = 0


class Allocator:
    """Claims addresses for Pods. ``confirm`` None: there is nothing to ask."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        view: ConfigurationView,
        releaser: Releaser,
        cooldown: CoolDown,
        settings: AllocatorSettings = AllocatorSettings(),
        confirm: Confirm | None = None,
    ) -> None:
        self._confirm = confirm
        self._store = store
        self._keys = keys
        self._writer = writer
        self._view = view
        self._releaser = releaser
        self._cooldown = cooldown
        self._settings = settings
        self._selections = SelectionMemo(settings.selection)
        self._finder = Finder(store, keys)
        self._free = FreeAddresses(self._finder, writer.name, time.monotonic)
        releaser.on_free = self._free.released
        self._assigner = Assigner(store, keys, writer, view)
        limit = RecordLimit(self._finder, settings.records_max)
        self._sources = AddressSources(self._free, self._finder, limit)
        self._claiming = AddressesBeingClaimed()

    async def allocate(self, request: AddRequest, facts: RequestFacts) -> Added:
        """Claim what the request needs, or answer what its endpoint already has.

        Raises AllocationError and its kinds, StoreUnavailable, OutcomeUnknown, Overloaded,
        NotReady.
        """
        require_alive(facts.pod)
        progress = _Progress(request, facts)
        try:
            return await self._try(progress)  # the common case pays for no retry policy
        except (LostRace, StoreUnavailable):
            return await self._try_again(progress)

    async def _try_again(self, progress: _Progress) -> Added:
        """Try again, at first without a wait: every lost race has read the truth."""
        for _ in range(TRIES_AT_ONCE_MAX):
            try:
                return await self._try(progress)
            except LostRace:
                continue
            except StoreUnavailable:
                break
        try:
            return await racing()(self._try, progress)
        except LostRace as error:
            raise RetriesExhausted(
                f"exhaust all retries ({progress.tries} times): {error.message}",
                subject=error.subject,
                remedy="others claim from the same pools at this moment; try again",
            ) from error

    async def _try(self, progress: _Progress) -> Added:
        progress.tries += 1
        pod, endpoint = progress.facts.pod, progress.seen.endpoint
        if endpoint is None or pod.fixed is None or endpoint.holder != holder_of(pod):
            need = decide_add(pod, progress.request.attachment, endpoint)
        else:
            need = await self._retrieve(progress, endpoint)
        if isinstance(need, Repeat):
            return Added(need.endpoint, fresh=False, tries=progress.tries)
        if isinstance(need, EndpointUpdate):
            return await self._change(progress, need.event)
        try:
            return await self._claim(progress, need)
        except AllocationError:
            if progress.is_sure:
                raise
            await self._make_sure(progress)
            return await self._try(progress)

    async def _make_sure(self, progress: _Progress) -> None:
        """No is only said when the Pod has nothing yet (I7), by a view as new as etcd."""
        await self._look(progress)
        await self._view.freshen()
        progress.round = None
        progress.is_sure = True

    async def _retrieve(
        self, progress: _Progress, endpoint: Endpoint
    ) -> Repeat | EndpointUpdate | PoolRequest:
        """What a replica or VM does with what it has.

        See docs/reference/fixed-address-rules.md, "Retrieval" and "Changed pools".
        """
        pod, request = progress.facts.pod, progress.request
        lost: frozenset[int] = frozenset()
        if endpoint.uid != pod.uid:
            try:
                progress.seen, lost = await self._assigner.restore(progress.seen, request.cause)
            except LostRace:
                await self._look(progress)
                raise
        if lost and self._candidates(progress).unnamed:
            lost = frozenset(range(len(endpoint.nics)))  # their places say which item they are of
        moved = await self._moved(progress, endpoint)
        named = self._candidates(progress) if moved or lost else None
        return decide_add(pod, request.attachment, endpoint, moved=moved, lost=lost, named=named)

    async def _moved(self, progress: _Progress, endpoint: Endpoint) -> frozenset[int]:
        """NICs that go elsewhere, by a view that is as new as etcd; VMs keep what they have."""
        attachment = progress.request.attachment
        if progress.facts.pod.fixed != "statefulset" or has_attached(endpoint, attachment):
            return frozenset()  # VMs: docs/reference/fixed-address-rules.md, "KubeVirt"
        with suppress(AllocationError):
            if not moved_nics(endpoint, self._candidates(progress), attachment):
                return frozenset()
        await self._view.freshen()
        return moved_nics(endpoint, self._candidates(progress), attachment)

    def _candidates(self, progress: _Progress) -> Candidates:
        """By the newest snapshot."""
        catalog, settings = self._view.current.catalog, self._settings.selection
        return candidates(progress.request.selection, progress.facts, catalog, settings)

    async def _change(self, progress: _Progress, event: EndpointChanged) -> Added:
        draft = EventDraft(self._writer.event_id(), progress.request.cause, event)
        proposal = change_proposal(self._keys, draft, progress.seen)
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            raise self._learn_endpoint(progress, outcome)
        return Added(event.endpoint, fresh=False, tries=progress.tries)

    async def _claim(self, progress: _Progress, need: PoolRequest) -> Added:
        pod, request = progress.facts.pod, progress.request
        held: tuple[Release, ...] = ()
        if need.give_up or need.listed:
            held = await self._held(progress, need)
            need = need.with_claims({one.address: one.holder for one in held})
        this = self._round(progress, need)
        demands = unmet(this.selection, need.keep)
        if not demands and not need.listed:
            raise in_standard_mode(no_item_left(this.selection))
        ending = held
        staying: list[Release] = []
        if need.listed:
            stays = {address for nic in need.listed for address, _ in nic.addresses()}
            ending = tuple(one for one in held if one.address not in stays)
            staying = [one for one in held if one.address in stays]
        mine: set[Address] = set()  # kept from other requests of this process until it is over
        try:
            wanted = [await self._pick(this, demand, mine, need, ending) for demand in demands]
            event = claim(pod, request.attachment, need, this.nics(wanted))
            draft = EventDraft(self._writer.event_id(), request.cause, event)
            configuration = (*this.guards(wanted), *release_guards(self._keys, staying))
            choices = [one.choice() for one in wanted]

            def proposal(lease: int) -> Proposal:
                older = self._ending(progress, need, ending, wanted, lease)
                return claim_proposal(
                    self._keys, draft, progress.seen, choices, configuration, older
                )

            if need.give_up or ending:
                outcome = await self._append_ending(progress, proposal, need, ending)
            else:
                outcome = await self._writer.append(proposal(NO_LEASE))
        finally:
            self._claiming.remove(mine)
        if isinstance(outcome, Lost):
            raise await self._learn(progress, this, wanted, outcome)
        if progress.seen.endpoint is None:
            self._releaser.cache.put_claimed(event.endpoint, outcome.revision)
        return Added(event.endpoint, fresh=True, tries=progress.tries)

    async def _held(self, progress: _Progress, need: PoolRequest) -> tuple[Release, ...]:
        """The claims of what the request gives up or keeps on a NIC that is made anew."""
        listed = (pair for nic in need.listed for pair in nic.addresses())
        addresses = [address for address, _ in (*need.give_up, *listed)]
        return await self._releaser.read_claims(progress.facts.pod.endpoint_key, addresses)

    def _round(self, progress: _Progress, need: PoolRequest) -> AllocationAttempt:
        """The round under way, else a new one that selects on the newest snapshot."""
        if progress.round is None or progress.round.listed != need.listed:
            facts, settings, snapshot = progress.facts, self._settings, self._view.current
            selection = self._selections.select(
                progress.request.selection, facts, snapshot.catalog, need.settled
            )
            progress.round = AllocationAttempt(
                self._keys,
                snapshot,
                selection,
                settings.order,
                holder_of(facts.pod),
                need.listed,
            )
        return progress.round

    async def _pick(
        self,
        this: AllocationAttempt,
        demand: Demand,
        mine: set[Address],
        need: PoolRequest,
        ending: Sequence[Release],
    ) -> WantedAddress:
        avoid = self._claiming.values(demand.family)
        own = {value for family, value in mine if family == demand.family}
        is_same_holder = need.why != "superseded"
        scene = AttemptConstraints(
            avoid, own, self._claiming.next_end, ending, is_same_holder=is_same_holder
        )
        wanted = await this.pick(demand, scene, self._sources)
        self._claiming.add(wanted.address)
        mine.add(wanted.address)
        return wanted

    async def _append_ending(
        self,
        progress: _Progress,
        proposal: Callable[[int], Proposal],
        need: PoolRequest,
        ending: Sequence[Release],
    ) -> Outcome:
        """Append; the addresses of an older Pod rest in any order, its sandbox may still run."""
        endpoint = progress.seen.endpoint
        is_of_another = endpoint is not None and endpoint.uid != progress.facts.pod.uid
        if is_of_another and need.give_up and self._confirm is not None:
            # This Pod may be the older one, seen in a watch that lags (I6).
            await self._confirm(progress.request.pod)
        if not ending:
            return await self._writer.append(proposal(NO_LEASE))
        rest = self._cooldown.of_older_pods if need.why == "superseded" else self._cooldown
        return await rest.append(self._writer, proposal)

    def _ending(
        self,
        progress: _Progress,
        need: PoolRequest,
        releases: tuple[Release, ...],
        wanted: Sequence[WantedAddress],
        lease: int,
    ) -> Proposal | None:
        """The claims that end together with the new one."""
        endpoint = progress.seen.endpoint
        is_plain = need.why == "superseded" and not need.give_up
        if is_plain or endpoint is None:
            return None
        evidence = f"Pod {progress.facts.pod.uid} asks for {_ENDING_WORDS[need.why]}"
        event = AddressesReleased(*endpoint.key, releases, need.remaining, need.why, evidence)
        draft = EventDraft(self._writer.event_id(), progress.request.cause, event)
        taken_over = {str(one.address) for one in wanted if one.claim_revision}
        return release_in_claim(self._keys, draft, lease, taken_over)

    async def _look(self, progress: _Progress) -> None:
        """Read the endpoint that the first try only guessed at."""
        key = self._keys.endpoint(*progress.facts.pod.endpoint_key)
        progress.seen = StoredEndpoint.of((await self._store.read([Get(key)])).ranges[0].first)

    def _learn_endpoint(self, progress: _Progress, lost: Lost) -> LostRace:
        key = progress.facts.pod.endpoint_key
        progress.seen = StoredEndpoint.of(lost.truth[self._keys.endpoint(*key)])
        return LostRace(f"endpoint {key[0]}/{key[1]} or its addresses changed", subject=key[1])

    async def _learn(
        self, progress: _Progress, this: AllocationAttempt, wanted: list[WantedAddress], lost: Lost
    ) -> LostRace:
        """Take in what the failed transaction has read; the caller raises the answer."""
        this.learn(wanted, lost, self._free)
        if this.is_outdated(wanted, lost):
            progress.round = None
            await self._view.wait_for(lambda: this.is_overtaken(self._view.current, wanted, lost))
        return self._learn_endpoint(progress, lost)
