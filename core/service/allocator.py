"""The ADD: from facts and a request to claimed addresses, in one transaction.

There is no read before it. The first try assumes that the endpoint does not exist and that the
address it picked is free. If the guards say otherwise, the failed transaction has already read the
truth about exactly those keys, and the next try knows it: the endpoint (a repeat, I7, or an older
Pod's), the addresses around the one that was taken, or that the pools have changed. A pool is
reported full only after a read of the truth. A failed request leaves nothing behind (I4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from core.domain.addresses import Address, Family
from core.domain.choice import AddressOrder
from core.domain.claims import (
    Change,
    Ending,
    Need,
    Repeat,
    claim,
    decide_add,
    has_attached,
    holder_of,
    moved_nics,
    require_alive,
    unmet,
)
from core.domain.events import AddressesReleased, Cause, EndpointChanged
from core.domain.facts import Facts
from core.domain.model import Attachment, Endpoint
from core.domain.selection.reasoning import in_standard_mode, no_item_left
from core.domain.selection.request import Candidates, Demand, SelectionRequest, SelectionSettings
from core.domain.selection.select import candidates, select
from core.errors import AllocationError, LostRace, RetriesExhausted, StoreUnavailable
from core.projections.configuration_view import ConfigurationView, Snapshot
from core.service.cooldown import CoolDown
from core.service.finding import Finder
from core.service.limits import RECORDS_MAX, RecordLimit
from core.service.proposals import Seen, change_proposal, claim_proposal, release_in_claim
from core.service.releaser import Releaser
from core.service.retrieving import Retriever
from core.service.rounds import Round, Wanted
from core.store.batch import Lost, Proposal
from core.store.codec import Draft
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from core.store.retrying import racing
from core.store.writer import Writer

_ENDING_WORDS: Final[dict[Ending, str]] = {
    "superseded": "addresses under this name",
    "pools-changed": "addresses of other pools",
    "repair": "addresses in place of some that are not its own any more",
}
"""What the next Pod wants, by why the older claims end; kept in the log."""


class AllocatorSettings(NamedTuple):
    """``records_max``: claims a pool may hold before it counts as full (0: no limit)."""

    order: AddressOrder = "spread"
    records_max: int = RECORDS_MAX
    selection: SelectionSettings = SelectionSettings()


class AddCall(NamedTuple):
    """One ADD: who asks, for which attachment, with which request.

    ``confirm`` asks the source of truth whether this Pod is the one of its name, before what
    another Pod of that name holds is released. It raises NotReady or WrongInput when it is not
    sure; None: there is nothing to ask.
    """

    facts: Facts
    attachment: Attachment
    request: SelectionRequest
    cause: Cause
    confirm: Callable[[], Awaitable[None]] | None = None


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

    __slots__ = ("call", "is_sure", "round", "seen", "tries")

    def __init__(self, call: AddCall) -> None:
        self.call = call
        self.seen = Seen()
        self.is_sure = False
        self.round: Round | None = None
        self.tries = 0


class Allocator:
    """Claims addresses for Pods."""

    def __init__(
        self,
        store: KeyValueStore,
        keys: Keys,
        writer: Writer,
        view: ConfigurationView,
        releaser: Releaser,
        cooldown: CoolDown,
        settings: AllocatorSettings = AllocatorSettings(),
    ) -> None:
        self._store = store
        self._keys = keys
        self._writer = writer
        self._view = view
        self._releaser = releaser
        self._cooldown = cooldown
        self._settings = settings
        self._finder = Finder(store, keys)
        self._retriever = Retriever(store, keys, writer, view)
        self._limit = RecordLimit(self._finder, settings.records_max)
        self._claiming: dict[Family, set[int]] = {4: set(), 6: set()}

    async def add(self, call: AddCall) -> Added:
        """Claim what the request needs, or answer what its endpoint already has.

        Raises AllocationError and its kinds, StoreUnavailable, OutcomeUnknown, Overloaded,
        NotReady.
        """
        require_alive(call.facts.pod)
        progress = _Progress(call)
        try:
            return await self._try(progress)  # the common case pays for no retry policy
        except (LostRace, StoreUnavailable):
            return await self._try_again(progress)

    async def _try_again(self, progress: _Progress) -> Added:
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
        call, endpoint = progress.call, progress.seen.endpoint
        pod = call.facts.pod
        if endpoint is None or pod.fixed is None or endpoint.holder != holder_of(pod):
            need = decide_add(pod, call.attachment, endpoint)
        else:
            need = await self._retrieve(progress, endpoint)
        if isinstance(need, Repeat):
            return Added(need.endpoint, fresh=False, tries=progress.tries)
        if isinstance(need, Change):
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

    async def _retrieve(self, progress: _Progress, endpoint: Endpoint) -> Repeat | Change | Need:
        """What a replica or VM does with what it has (spec/ipam.md 3.1, 3.2)."""
        call = progress.call
        lost: frozenset[int] = frozenset()
        if endpoint.uid != call.facts.pod.uid:
            try:
                progress.seen, lost = await self._retriever.make_whole(progress.seen, call.cause)
            except LostRace:
                await self._look(progress)
                raise
        if lost and self._candidates(self._view.current, call).unnamed:
            lost = frozenset(range(len(endpoint.nics)))  # their places say which item they are of
        moved = await self._moved(call, endpoint)
        return decide_add(call.facts.pod, call.attachment, endpoint, moved=moved, lost=lost)

    async def _moved(self, call: AddCall, endpoint: Endpoint) -> frozenset[int]:
        """NICs that go elsewhere, by a view that is as new as etcd; VMs keep what they have."""
        if call.facts.pod.fixed != "statefulset" or has_attached(endpoint, call.attachment):
            return frozenset()  # VMs: spec/ipam.md section 10 item 29
        with suppress(AllocationError):
            named = self._candidates(self._view.current, call)
            if not moved_nics(endpoint, named, call.attachment):
                return frozenset()
        await self._view.freshen()
        named = self._candidates(self._view.current, call)
        return moved_nics(endpoint, named, call.attachment)

    def _candidates(self, snapshot: Snapshot, call: AddCall) -> Candidates:
        settings = self._settings.selection
        return candidates(call.request, call.facts, snapshot.catalog, settings)

    async def _change(self, progress: _Progress, event: EndpointChanged) -> Added:
        draft = Draft(self._writer.event_id(), progress.call.cause, event)
        proposal = change_proposal(self._keys, draft, progress.seen)
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            raise self._learn_endpoint(progress, outcome)
        return Added(event.endpoint, fresh=False, tries=progress.tries)

    async def _claim(self, progress: _Progress, need: Need) -> Added:
        call = progress.call
        if progress.round is None:
            progress.round = self._begin_round(call)
        this = progress.round
        demands = unmet(this.selection, need.keep)
        if not demands:
            raise in_standard_mode(no_item_left(this.selection))
        with self._holding() as mine:
            wanted = [await self._pick(this, demand, mine) for demand in demands]
            nics = this.nics(wanted)
            event = claim(call.facts.pod, call.attachment, need, nics)
            draft = Draft(self._writer.event_id(), call.cause, event)
            outcome = await self._writer.append(
                claim_proposal(
                    self._keys,
                    draft,
                    progress.seen,
                    [one.choice() for one in wanted],
                    this.guards(wanted),
                    await self._ending(progress, need),
                )
            )
        if isinstance(outcome, Lost):
            raise await self._learn(progress, this, wanted, outcome)
        return Added(event.endpoint, fresh=True, tries=progress.tries)

    def _begin_round(self, call: AddCall) -> Round:
        """Select on the newest snapshot."""
        settings, snapshot = self._settings, self._view.current
        selection = select(call.request, call.facts, snapshot.catalog, settings.selection)
        seed = holder_of(call.facts.pod)
        return Round(self._keys, snapshot, selection, settings.order, seed)

    async def _pick(self, this: Round, demand: Demand, mine: set[Address]) -> Wanted:
        avoid = self._claiming[demand.family]
        own = {value for family, value in mine if family == demand.family}
        wanted = await this.pick(demand, avoid, own, self._finder, self._limit)
        avoid.add(wanted.value)
        mine.add(wanted.address)
        return wanted

    @contextmanager
    def _holding(self) -> Iterator[set[Address]]:
        """Addresses of this try, kept from other requests of this process until it is over."""
        mine: set[Address] = set()
        try:
            yield mine
        finally:
            for family, value in mine:
                self._claiming[family].discard(value)

    async def _ending(self, progress: _Progress, need: Need) -> Proposal | None:
        """The claims that end together with the new one."""
        endpoint = progress.seen.endpoint
        call = progress.call
        if not need.give_up or endpoint is None:
            return None
        if call.confirm is not None and endpoint.uid != call.facts.pod.uid:
            await call.confirm()  # this Pod may be the older one, seen in a watch that lags (I6)
        releases = await self._releaser.fences(need.give_up, endpoint.key)
        evidence = f"Pod {progress.call.facts.pod.uid} asks for {_ENDING_WORDS[need.why]}"
        event = AddressesReleased(*endpoint.key, releases, need.keep, need.why, evidence)
        draft = Draft(self._writer.event_id(), progress.call.cause, event)
        return release_in_claim(self._keys, draft, await self._cooldown.lease())

    async def _look(self, progress: _Progress) -> None:
        """Read the endpoint that the first try only guessed at."""
        key = self._keys.endpoint(*progress.call.facts.pod.endpoint_key)
        progress.seen = Seen.of((await self._store.read([Get(key)])).ranges[0].first)

    def _learn_endpoint(self, progress: _Progress, lost: Lost) -> LostRace:
        key = progress.call.facts.pod.endpoint_key
        progress.seen = Seen.of(lost.truth[self._keys.endpoint(*key)])
        return LostRace(f"endpoint {key[0]}/{key[1]} or its addresses changed", subject=key[1])

    async def _learn(
        self, progress: _Progress, this: Round, wanted: list[Wanted], lost: Lost
    ) -> LostRace:
        """Take in what the failed transaction has read; the caller raises the answer."""
        this.learn(wanted, lost)
        if this.is_outdated(wanted, lost):
            progress.round = None
            await self._view.wait_for(lambda: this.is_overtaken(self._view.current, wanted, lost))
        return self._learn_endpoint(progress, lost)
