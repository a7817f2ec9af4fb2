"""What an ADD would do, without doing it: selection, the addresses it would try, what is there.

The same selection, searches and reads as the allocator's; nothing is appended. Between this answer
and a real ADD others may claim: it is an explanation, not a promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from core.domain.addresses import Family, format_address
from core.domain.choice import Search
from core.domain.claims import Change, Need, Repeat, decide_add, holder_of, moved_nics, unmet
from core.domain.events import RecordDefined
from core.domain.facts import Facts, PodFacts
from core.domain.fixed.kinds import FixedSettings
from core.domain.model import Attachment, Endpoint
from core.domain.selection.request import (
    Demand,
    Selection,
    SelectionRequest,
    SelectionSettings,
    Verdict,
)
from core.domain.selection.select import candidates, select
from core.errors import AllocationError
from core.projections.configuration_view import ConfigurationView, Snapshot
from core.service.finding import Finder
from core.store.codec import CLAIM, ENDPOINT
from core.store.keys import Keys
from core.store.kv import Get, KeyValueStore
from nodeagent.cniwire.arguments import PodArguments
from nodeagent.facts import PodReference, StandaloneFacts

USUAL: Final = SelectionSettings(subnets_enabled=True, auto_pools_enabled=True)
"""The cluster's settings as they are unless its operator says otherwise."""


class Trial(NamedTuple):
    """One pool of one demand: the address tried first, who holds it, and the one tried after it.

    ``first`` "" means that the pool has nothing to hand out, ``then`` "" that nothing else is free.
    """

    interface: str
    family: Family
    pool: str
    first: str
    holder: str = ""
    then: str = ""

    @property
    def address(self) -> str:
        """What an ADD would get; "" when the pool is full."""
        return self.then if self.holder else self.first


class Explanation(NamedTuple):
    """``held``: the endpoint there is. ``repeats``: an ADD would answer it and claim nothing.

    ``outlook``: what becomes of the addresses it shows, in words.
    """

    facts: Facts
    held: Endpoint | None
    repeats: bool
    outlook: str
    selection: Selection | None
    error: AllocationError | None
    trials: tuple[Trial, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What became of each candidate, also when selection failed."""
        if self.selection is not None:
            return self.selection.verdicts
        found = self.error.verdicts if self.error is not None else ()
        return tuple(one for one in found if isinstance(one, Verdict))

    @property
    def served(self) -> bool:
        """Whether an ADD would succeed now."""
        if self.repeats:
            return True
        wanted = {(one.interface, one.family) for one in self.trials}
        got = {(one.interface, one.family) for one in self.trials if one.address}
        return self.error is None and wanted == got


async def read_snapshot(
    store: KeyValueStore, keys: Keys, records: Sequence[RecordDefined]
) -> Snapshot:
    """The present configuration, with these records in place of the stored ones."""
    view = ConfigurationView(store, keys)
    await view.start()
    await view.close()
    snapshot = view.current
    for record in records:
        snapshot.records[record.kind, record.namespace, record.name] = record
    return snapshot


def facts_of(
    store: KeyValueStore, keys: Keys, snapshot: Snapshot, pod: PodArguments, node: str
) -> Facts:
    """What an agent on this node would know of the Pod."""
    view = ConfigurationView(store, keys)
    view.current = snapshot
    reference = PodReference(pod, pod.uid)
    return StandaloneFacts(view, node, FixedSettings()).facts(reference)


async def explain_add(
    store: KeyValueStore,
    keys: Keys,
    snapshot: Snapshot,
    facts: Facts,
    request: SelectionRequest,
) -> Explanation:
    """What an ADD would do now. Raises StoreUnavailable."""
    key = keys.endpoint(*facts.pod.endpoint_key)
    found = (await store.read([Get(key)])).ranges[0].kvs
    held = ENDPOINT.decode(found[0].value) if found else None
    moved = moved_by_template(snapshot, facts, request, held)
    need = decide_add(facts.pod, Attachment("", request.interface), held, moved=moved)
    outlook = _outlook(facts.pod, need, moves=bool(moved))
    try:
        selection = select(request, facts, snapshot.catalog, USUAL)
    except AllocationError as error:
        repeats = not isinstance(need, Need)
        return Explanation(facts, held, repeats, outlook, None, error, ())
    if not isinstance(need, Need):
        return Explanation(facts, held, True, outlook, selection, None, ())
    demands = unmet(selection, need.keep)
    trials = [
        await _try(store, keys, snapshot, holder_of(facts.pod), demand, pool)
        for demand in demands
        for pool in demand.pools
    ]
    return Explanation(facts, held, False, outlook, selection, None, tuple(trials))


def moved_by_template(
    snapshot: Snapshot, facts: Facts, request: SelectionRequest, held: Endpoint | None
) -> frozenset[int]:
    """The NICs of a replica that its next Pod gets elsewhere; what cannot be read moves nothing."""
    if held is None or facts.pod.fixed != "statefulset" or held.holder != holder_of(facts.pod):
        return frozenset()
    try:
        named = candidates(request, facts, snapshot.catalog, SelectionSettings())
    except AllocationError:
        return frozenset()
    return moved_nics(held, named, Attachment("", request.interface))


def _outlook(pod: PodFacts, need: Repeat | Change | Need, *, moves: bool) -> str:
    if moves:
        return "the Pod names other IPPools now, so its next ADD moves them"
    if isinstance(need, Need):
        return "an ADD replaces or extends them"
    if pod.fixed is None:
        return "an ADD answers these again"
    return f"fixed, every Pod of {holder_of(pod)} gets these again"


async def _try(
    store: KeyValueStore, keys: Keys, snapshot: Snapshot, holder: str, demand: Demand, pool: str
) -> Trial:
    search = Search(snapshot.usable(pool), "spread", f"{holder} {demand.interface}")
    value = search.next(())
    place = (demand.interface, demand.family, pool)
    if value is None:
        return Trial(*place, "")
    first = format_address(demand.family, value)
    found = (await store.read([Get(keys.ip(demand.family, value))])).ranges[0].kvs
    if not found:
        return Trial(*place, first)
    claim = CLAIM.decode(found[0].value)
    free = await Finder(store, keys).find(search, ())
    then = "" if free is None else format_address(demand.family, free.value)
    return Trial(*place, first, f"{claim.namespace}/{claim.pod}", then)
