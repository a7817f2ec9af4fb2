"""ADD: claim the addresses of a request in one transaction.

The first try reads nothing: it assumes that the endpoint does not exist and that the picked address
is free. If a guard fails, the transaction reads the current values of the guarded keys for the next
try. A repeated ADD returns the addresses of the first ADD (I7). A pool is reported as full only
after a read of etcd.

Invariants (I1 to I10): docs/contributing/architecture.md, "Invariants".
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
    PickedAddress,
)
from core.allocation.allocation_limit import RECORD_LIMIT_DEFAULT, RecordLimit
from core.allocation.assigner import Assigner
from core.allocation.claims_in_flight import AddressesBeingClaimed
from core.allocation.cooldown import NO_LEASE, CoolDown
from core.allocation.free_addresses import FreeAddresses
from core.allocation.proposals import (
    NO_ENDPOINT,
    StoredEndpoint,
    change_proposal,
    claim_guards,
    claim_proposal,
    configuration_guards,
    release_in_claim,
    with_release,
)
from core.allocation.releaser import Releaser
from core.domain.addresses.choice import AddressOrder
from core.domain.claims.claim_decisions import (
    ClaimPlan,
    EndpointUpdate,
    EndReason,
    Repeat,
    claim,
    decide_add,
    has_attached,
    holder_of,
    nics_with_changed_pools,
    unmet_demands,
)
from core.domain.events import AddressesClaimed, AddressesReleased, EndpointChanged, Release
from core.domain.model import Endpoint
from core.domain.request_facts import PodReference, RequestFacts
from core.domain.selection.error_texts import no_item_left, with_standard_mode_prefix
from core.domain.selection.pool_selection import requested_pools
from core.domain.selection.selection_cache import NO_FAMILIES_KEPT, SelectionCache
from core.domain.selection.selection_request import Candidates, SelectionSettings
from core.errors import AllocationError, LostRace, RetriesExhausted, StoreUnavailable
from core.eventstore.codec import EventDraft
from core.eventstore.group_commit import Lost, Outcome, Proposal
from core.eventstore.keys import Keys
from core.eventstore.kv import Get, KeyValueStore
from core.eventstore.retry_policies import retry_lost_races
from core.eventstore.writer import Writer
from core.projections.configuration_view import ConfigurationView

_ENDING_REASONS: Final[dict[EndReason, str]] = {
    "superseded": "addresses under this name",
    "pools-changed": "addresses of other pools",
    "repair": "addresses in place of those that it has lost",
}
"""Maps the reason why older claims end to the last words of the evidence in the log."""


TRIES_AT_ONCE_MAX: Final = 16
"""Tries after lost races without a wait. Before each later try, wait a random time."""


class AllocatorSettings(NamedTuple):
    """The settings. ``records_max``: the limit of claims in a pool (0: no limit)."""

    order: AddressOrder = "spread"
    records_max: int = RECORD_LIMIT_DEFAULT
    selection: SelectionSettings = SelectionSettings()


Confirm = Callable[[PodReference], Awaitable[None]]
"""Checks with the API server that the Pod has this UID.

Raises NotReady or WrongInput if the UID cannot be confirmed. Called before claims of an older Pod
with the same name are released.
"""


class Added(NamedTuple):
    """The endpoint after an ADD. ``fresh``: this ADD claimed addresses.

    ``migrating``: another virt-launcher of the VM still uses the addresses. A probe would report
    that virt-launcher as a conflict.
    """

    endpoint: Endpoint
    fresh: bool
    tries: int
    migrating: bool = False


class _Progress:
    """The state of one ADD over all tries.

    ``has_read_state``: endpoint and configuration were read, so that a refusal is final.
    """

    __slots__ = ("attempt", "facts", "has_read_state", "request", "stored", "tries")

    def __init__(self, request: AddRequest, facts: RequestFacts) -> None:
        self.request = request
        self.facts = facts
        self.stored = NO_ENDPOINT
        self.has_read_state = False
        self.attempt: AllocationAttempt | None = None
        self.tries = 0


class Allocator:
    """Claims addresses for Pods. ``confirm`` is None without an API server."""

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
        self._selections = SelectionCache(settings.selection)
        self._finder = Finder(store, keys)
        self._free = FreeAddresses(self._finder, writer.name, time.monotonic)
        releaser.on_free = self._free.add_released
        self._assigner = Assigner(store, keys, writer, view)
        limit = RecordLimit(self._finder, settings.records_max)
        self._sources = AddressSources(self._free, self._finder, limit)
        self._claiming = AddressesBeingClaimed()

    async def allocate(self, request: AddRequest, facts: RequestFacts) -> Added:
        """Claim the addresses of the request, or return the addresses that the Pod has already.

        A failed request claims no address (I4). Raises AllocationError and its kinds,
        StoreUnavailable, OutcomeUnknown, Overloaded, NotReady.
        """
        progress = _Progress(request, facts)
        try:
            return await self._try(progress)  # without a retry policy, for speed
        except (LostRace, StoreUnavailable):
            return await self._try_again(progress)

    async def _try_again(self, progress: _Progress) -> Added:
        # At first without a wait, because a lost race has read the current values.
        for _ in range(TRIES_AT_ONCE_MAX):
            try:
                return await self._try(progress)
            except LostRace:
                continue
            except StoreUnavailable:
                break
        try:
            return await retry_lost_races()(self._try, progress)
        except LostRace as error:
            raise RetriesExhausted(
                f"exhaust all retries ({progress.tries} times): {error.message}",
                subject=error.subject,
                remedy="other requests keep changing the same pools or endpoint; try again",
            ) from error

    async def _try(self, progress: _Progress) -> Added:
        progress.tries += 1
        pod, endpoint = progress.facts.pod, progress.stored.endpoint
        if endpoint is None or pod.fixed is None or endpoint.holder != holder_of(pod):
            decision = decide_add(pod, progress.request.attachment, endpoint)
        else:
            decision = await self._retrieve_fixed_addresses(progress, endpoint)
        if isinstance(decision, Repeat):
            return Added(decision.endpoint, fresh=False, tries=progress.tries)
        if isinstance(decision, EndpointUpdate):
            return await self._change(progress, decision.event)
        try:
            return await self._claim(progress, decision)
        except AllocationError:
            if progress.has_read_state:
                raise
            await self._read_state(progress)
            return await self._try(progress)

    async def _read_state(self, progress: _Progress) -> None:
        """Read the endpoint and update the view: an ADD is refused only after this (I7)."""
        await self._read_endpoint(progress)
        await self._view.freshen()
        progress.attempt = None
        progress.has_read_state = True

    async def _retrieve_fixed_addresses(
        self, progress: _Progress, endpoint: Endpoint
    ) -> Repeat | EndpointUpdate | ClaimPlan:
        """See docs/reference/fixed-address-rules.md, "Retrieval" and "Changed pools"."""
        pod, request = progress.facts.pod, progress.request
        lost: frozenset[int] = frozenset()
        if endpoint.uid != pod.uid:
            try:
                # ``lost``: indexes of NICs whose lost addresses could not be claimed again.
                progress.stored, lost = await self._assigner.restore(progress.stored, request.cause)
            except LostRace:
                await self._read_endpoint(progress)
                raise
        if lost and self._candidates(progress).unnamed:
            # Pools without an interface name belong to NICs by index: replace all NICs or none.
            lost = frozenset(range(len(endpoint.nics)))
        changed = await self._changed_nics(progress, endpoint)
        requested = self._candidates(progress) if changed or lost else None
        return decide_add(
            pod, request.attachment, endpoint, changed=changed, lost=lost, requested=requested
        )

    async def _changed_nics(self, progress: _Progress, endpoint: Endpoint) -> frozenset[int]:
        attachment = progress.request.attachment
        if progress.facts.pod.fixed != "statefulset" or has_attached(endpoint, attachment):
            return frozenset()  # VMs: docs/reference/fixed-address-rules.md, "KubeVirt"
        with suppress(AllocationError):
            if not nics_with_changed_pools(endpoint, self._candidates(progress), attachment):
                return frozenset()
        await self._view.freshen()
        return nics_with_changed_pools(endpoint, self._candidates(progress), attachment)

    def _candidates(self, progress: _Progress) -> Candidates:
        catalog, settings = self._view.current.catalog, self._settings.selection
        return requested_pools(progress.request.selection, progress.facts, catalog, settings)

    async def _change(self, progress: _Progress, event: EndpointChanged) -> Added:
        draft = EventDraft(self._writer.event_id(), progress.request.cause, event)
        proposal = change_proposal(self._keys, draft, progress.stored)
        outcome = await self._writer.append(proposal)
        if isinstance(outcome, Lost):
            raise self._take_endpoint(progress, outcome)
        return Added(event.endpoint, fresh=False, tries=progress.tries)

    async def _claim(self, progress: _Progress, claim_plan: ClaimPlan) -> Added:
        ending_claims: Sequence[Release] = ()
        staying_claims: Sequence[Release] = ()
        ends_claims = bool(claim_plan.ended or claim_plan.listed)
        if ends_claims:
            claim_plan, ending_claims, staying_claims = await self._read_claims(
                progress, claim_plan
            )
        attempt = self._attempt(progress, claim_plan)
        demands = unmet_demands(attempt.selection, claim_plan.keep)
        if not demands and not claim_plan.listed:
            raise with_standard_mode_prefix(no_item_left(attempt.selection))
        picked: list[PickedAddress] = []  # in ``_claiming`` until this try ends
        is_same_holder = claim_plan.why != "superseded"
        constraints = AttemptConstraints(self._claiming, picked, ending_claims, is_same_holder)
        try:
            for demand in demands:
                address = await attempt.pick(demand, constraints, self._sources)
                self._claiming.add(address.choice.address)
                picked.append(address)
            event = claim(
                progress.facts.pod,
                progress.request.attachment,
                claim_plan,
                attempt.nics(picked),
                attempt.selection.source,
                attempt.passed_over(),
            )
            proposal = self._proposal(progress, attempt, event, picked, staying_claims)
            if ends_claims:
                outcome = await self._append_with_release(
                    progress, proposal, claim_plan, ending_claims, picked
                )
            else:
                outcome = await self._writer.append(proposal)
        finally:
            self._claiming.remove([address.choice.address for address in picked])
        if isinstance(outcome, Lost):
            raise await self._record_lost_race(progress, attempt, picked, outcome)
        if progress.stored.endpoint is None:
            self._releaser.cache.put_claimed(event.endpoint, outcome.revision)
        return Added(event.endpoint, fresh=True, tries=progress.tries)

    def _proposal(
        self,
        progress: _Progress,
        attempt: AllocationAttempt,
        event: AddressesClaimed,
        picked: Sequence[PickedAddress],
        staying_claims: Sequence[Release],
    ) -> Proposal:
        choices = [address.choice for address in picked]
        pools = [(address.pool, address.demand.family) for address in picked]
        guards = configuration_guards(self._keys, attempt.snapshot, pools)
        if staying_claims:
            guards += claim_guards(self._keys, staying_claims)
        draft = EventDraft(self._writer.event_id(), progress.request.cause, event)
        return claim_proposal(
            self._keys, draft, progress.stored, choices, guards, lambda: attempt.reads(picked)
        )

    async def _read_claims(
        self, progress: _Progress, claim_plan: ClaimPlan
    ) -> tuple[ClaimPlan, Sequence[Release], Sequence[Release]]:
        """Returns the plan, the claims that end, and the claims that stay (of listed NICs)."""
        listed = [pair for nic in claim_plan.listed for pair in nic.addresses()]
        addresses = [address for address, _ in (*claim_plan.ended, *listed)]
        claims = await self._releaser.read_claims(progress.facts.pod.endpoint_key, addresses)
        claim_plan = claim_plan.with_claims({claim.address: claim.holder for claim in claims})
        stay = {address for nic in claim_plan.listed for address, _ in nic.addresses()}
        ending_claims = [claim for claim in claims if claim.address not in stay]
        return claim_plan, ending_claims, [claim for claim in claims if claim.address in stay]

    def _attempt(self, progress: _Progress, claim_plan: ClaimPlan) -> AllocationAttempt:
        if progress.attempt is None or progress.attempt.listed != claim_plan.listed:
            facts, settings, snapshot = progress.facts, self._settings, self._view.current
            selection = self._selections.select(
                progress.request.selection,
                facts,
                snapshot.catalog,
                claim_plan.listed_families if claim_plan.listed else NO_FAMILIES_KEPT,
            )
            progress.attempt = AllocationAttempt(
                self._keys,
                snapshot,
                selection,
                settings.order,
                claim_plan.holder,
                claim_plan.listed,
            )
        return progress.attempt

    async def _append_with_release(
        self,
        progress: _Progress,
        proposal: Proposal,
        claim_plan: ClaimPlan,
        ending_claims: Sequence[Release],
        picked: Sequence[PickedAddress],
    ) -> Outcome:
        endpoint = progress.stored.endpoint
        assert endpoint is not None, "only claims of an existing endpoint end"
        is_of_another_pod = endpoint.uid != progress.facts.pod.uid
        if is_of_another_pod and claim_plan.ended and self._confirm is not None:
            # If the watch lags, this Pod may be the older one: release nothing without proof (I6).
            await self._confirm(progress.request.pod)
        evidence = f"Pod {progress.facts.pod.uid} requests {_ENDING_REASONS[claim_plan.why]}"
        event = AddressesReleased(
            *endpoint.key, tuple(ending_claims), claim_plan.remaining_nics, claim_plan.why, evidence
        )
        draft = EventDraft(self._writer.event_id(), progress.request.cause, event)
        choices = [address.choice for address in picked]
        claimed_again = {str(choice.address) for choice in choices if choice.claim_revision}

        def claim_and_release(lease: int) -> Proposal:
            return with_release(proposal, release_in_claim(self._keys, draft, lease, claimed_again))

        if not ending_claims:
            return await self._writer.append(claim_and_release(NO_LEASE))
        # The sandbox of an older Pod may still run: its addresses get a long cool-down.
        is_of_older_pod = claim_plan.why == "superseded"
        cooldown = self._cooldown.of_older_pods if is_of_older_pod else self._cooldown
        return await cooldown.append(self._writer, claim_and_release)

    async def _read_endpoint(self, progress: _Progress) -> None:
        key = self._keys.endpoint(*progress.facts.pod.endpoint_key)
        progress.stored = StoredEndpoint.of(*(await self._store.read([Get(key)])).ranges[0].kvs)

    def _take_endpoint(self, progress: _Progress, lost: Lost) -> LostRace:
        """Store the endpoint that the lost transaction has read. Returns the error to raise."""
        key = progress.facts.pod.endpoint_key
        progress.stored = StoredEndpoint.of(lost.current[self._keys.endpoint(*key)])
        return LostRace(f"endpoint {key[0]}/{key[1]} or its addresses changed", subject=key[1])

    async def _record_lost_race(
        self,
        progress: _Progress,
        attempt: AllocationAttempt,
        picked: list[PickedAddress],
        lost: Lost,
    ) -> LostRace:
        """Keep for the next try what the lost transaction has read. Returns the error to raise."""
        attempt.learn(picked, lost, self._free)
        if not attempt.is_current(attempt.snapshot, picked, lost):
            progress.attempt = None
            await self._view.wait_for(lambda: attempt.is_current(self._view.current, picked, lost))
        return self._take_endpoint(progress, lost)
