"""What is in the maps and what shall be there -> what to write, in the order to write it. Pure.

A changed frontend gets a new group: its backends are written first, then the frontend is turned
over to it by one write, then the old group goes. Promise: after any prefix of a plan, every
frontend leads to its backends of before or to those of after, and to no others; whoever goes on
from what is there then ends where the plan would have. What does not change is not written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress
from nodeagent.clusterip.layout import BACKENDS_MAX, FRONTENDS_MAX, FrontendHead, Member, Slot


class StoredMaps(NamedTuple):
    """The maps as they are read."""

    services: Mapping[Frontend, FrontendHead]
    backends: Mapping[Slot, TransportAddress]
    members: frozenset[Member]


class Entry(NamedTuple):
    """A frontend that is served: its group, and who is in it."""

    group: int
    balance: BackendGroup


class Contents(NamedTuple):
    """The maps as they are understood. Of ``strays`` no frontend knows; ``broken`` lack some.

    Both are what an agent leaves that is killed in the middle of a plan.
    """

    entries: Mapping[Frontend, Entry] = {}
    broken: frozenset[Frontend] = frozenset()
    stray_slots: frozenset[Slot] = frozenset()
    stray_members: frozenset[Member] = frozenset()
    last_group: int = 0


class MapPlan(NamedTuple):
    """What to write, in this order of fields."""

    put_backends: Mapping[Slot, TransportAddress]
    put_members: frozenset[Member]
    put_services: Mapping[Frontend, FrontendHead]
    remove_services: frozenset[Frontend]
    remove_backends: frozenset[Slot]
    remove_members: frozenset[Member]

    @property
    def writes(self) -> int:
        """How many."""
        return sum(map(len, self))


class Fitted(NamedTuple):
    """What fits into the maps. ``left_out``: what does not; ``limit``: by which bound."""

    wanted: Mapping[Frontend, BackendGroup]
    left_out: tuple[Frontend, ...] = ()
    limit: str = ""


def fit(
    wanted: Mapping[Frontend, BackendGroup],
    frontends_max: int = FRONTENDS_MAX,
    backends_max: int = BACKENDS_MAX,
) -> Fitted:
    """Leave out what is beyond a limit: the greatest addresses, whatever came when."""
    count = sum(len(balance.backends) for balance in wanted.values())
    if len(wanted) <= frontends_max and count <= backends_max:
        return Fitted(wanted)
    limit = "FRONTENDS_MAX" if len(wanted) > frontends_max else "BACKENDS_MAX"
    kept: dict[Frontend, BackendGroup] = {}
    left_out = []
    room = backends_max
    for frontend in sorted(wanted):
        size = len(wanted[frontend].backends)
        if len(kept) == frontends_max or size > room:
            left_out.append(frontend)
            continue
        kept[frontend] = wanted[frontend]
        room -= size
    return Fitted(kept, tuple(left_out), limit)


def understand(raw: StoredMaps) -> Contents:
    """What maps mean that were read: whole frontends, and what is left of broken-off plans."""
    entries, broken = {}, set()
    slots, members = set(raw.backends), set(raw.members)
    for frontend, head in raw.services.items():
        places = [raw.backends.get(Slot(head.group, number)) for number in range(head.size)]
        found = [place for place in places if place is not None]
        entry = Entry(head.group, BackendGroup(tuple(found), head.affinity_s))
        own = set(members_of(entry))
        if len(found) < head.size or not own <= raw.members:
            broken.add(frontend)
            continue
        entries[frontend] = entry
        slots.difference_update(slots_of(entry))
        members -= own
    groups = {head.group for head in raw.services.values()}
    groups |= {slot.group for slot in raw.backends} | {member.group for member in raw.members}
    strays = frozenset(slots), frozenset(members)
    return Contents(entries, frozenset(broken), *strays, max(groups, default=0))


def plan(contents: Contents, wanted: Mapping[Frontend, BackendGroup]) -> tuple[MapPlan, Contents]:
    """What leads from one to the other, and what is there then."""
    put_backends: dict[Slot, TransportAddress] = {}
    put_members: set[Member] = set()
    put_services: dict[Frontend, FrontendHead] = {}
    entries = {}
    over: list[Entry] = []
    group = contents.last_group
    for frontend, balance in wanted.items():
        before = contents.entries.get(frontend)
        if before is not None and before.balance == balance:
            entries[frontend] = before
            continue
        if balance.backends:
            group += 1
        after = entries[frontend] = Entry(group if balance.backends else 0, balance)
        put_backends |= slots_of(after)
        put_members.update(members_of(after))
        put_services[frontend] = head_of(after)
        over += [before] if before is not None else []
    over += [entry for frontend, entry in contents.entries.items() if frontend not in wanted]
    steps = MapPlan(
        put_backends,
        frozenset(put_members),
        put_services,
        frozenset((contents.entries.keys() | contents.broken) - wanted.keys()),
        contents.stray_slots.union(*map(slots_of, over)),
        contents.stray_members.union(*map(members_of, over)),
    )
    return steps, Contents(entries, last_group=group)


def head_of(entry: Entry) -> FrontendHead:
    """What stands at its frontend."""
    return FrontendHead(entry.group, len(entry.balance.backends), entry.balance.affinity_s)


def slots_of(entry: Entry) -> dict[Slot, TransportAddress]:
    """Its backends, by their places."""
    places = enumerate(entry.balance.backends)
    return {Slot(entry.group, number): place for number, place in places}


def members_of(entry: Entry) -> Iterator[Member]:
    """Its backends again, where clients stay with theirs."""
    if entry.balance.affinity_s:
        for place in entry.balance.backends:
            yield Member(entry.group, place)
