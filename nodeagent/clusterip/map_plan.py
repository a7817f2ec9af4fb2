"""Plans the map writes from the stored contents to the desired ones, in order. Pure.

A changed frontend gets a new group: its backends are written first, then one write switches the
frontend to the group, then the old group is removed. After any part of a plan, every frontend has
either its old or its new backends, and a new plan from there has the same result. Unchanged entries
are not written.
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
    """A served frontend: its group and its backends."""

    group: int
    balance: BackendGroup


class Contents(NamedTuple):
    """The contents of the maps. Stray entries belong to no frontend, broken frontends lack some.

    Both are left by an agent that was killed while it wrote a plan.
    """

    entries: Mapping[Frontend, Entry] = {}
    broken: frozenset[Frontend] = frozenset()
    orphaned_slots: frozenset[Slot] = frozenset()
    orphaned_members: frozenset[Member] = frozenset()
    last_group: int = 0


class MapPlan(NamedTuple):
    """The writes, in the order of these fields."""

    put_backends: Mapping[Slot, TransportAddress]
    put_members: frozenset[Member]
    put_services: Mapping[Frontend, FrontendHead]
    remove_services: frozenset[Frontend]
    remove_backends: frozenset[Slot]
    remove_members: frozenset[Member]

    @property
    def writes(self) -> int:
        """The number of writes."""
        return sum(map(len, self))


class Fitted(NamedTuple):
    """The frontends that fit into the maps; ``left_out``: the others, because of ``limit``."""

    wanted: Mapping[Frontend, BackendGroup]
    left_out: tuple[Frontend, ...] = ()
    limit: str = ""


def fit(
    desired: Mapping[Frontend, BackendGroup],
    frontends_max: int = FRONTENDS_MAX,
    backends_max: int = BACKENDS_MAX,
) -> Fitted:
    """Leave out frontends beyond a limit: those with the highest addresses."""
    count = sum(len(balance.backends) for balance in desired.values())
    if len(desired) <= frontends_max and count <= backends_max:
        return Fitted(desired)
    limit = "FRONTENDS_MAX" if len(desired) > frontends_max else "BACKENDS_MAX"
    fitting: dict[Frontend, BackendGroup] = {}
    left_out = []
    backends_left = backends_max
    for frontend in sorted(desired):
        size = len(desired[frontend].backends)
        if len(fitting) == frontends_max or size > backends_left:
            left_out.append(frontend)
            continue
        fitting[frontend] = desired[frontend]
        backends_left -= size
    return Fitted(fitting, tuple(left_out), limit)


def understand(raw: StoredMaps) -> Contents:
    """The contents of stored maps: complete frontends, and the rest of incomplete plans."""
    entries, broken = {}, set()
    slots, members = set(raw.backends), set(raw.members)
    for frontend, head in raw.services.items():
        backends = [raw.backends.get(Slot(head.group, number)) for number in range(head.size)]
        present = [backend for backend in backends if backend is not None]
        entry = Entry(head.group, BackendGroup(tuple(present), head.affinity_s))
        entry_members = set(members_of(entry))
        if len(present) < head.size or not entry_members <= raw.members:
            broken.add(frontend)
            continue
        entries[frontend] = entry
        slots.difference_update(slots_of(entry))
        members -= entry_members
    groups = {head.group for head in raw.services.values()}
    groups |= {slot.group for slot in raw.backends} | {member.group for member in raw.members}
    orphaned = frozenset(slots), frozenset(members)
    return Contents(entries, frozenset(broken), *orphaned, max(groups, default=0))


def plan(contents: Contents, desired: Mapping[Frontend, BackendGroup]) -> tuple[MapPlan, Contents]:
    """The writes from the contents to the desired frontends, and the contents after them."""
    put_backends: dict[Slot, TransportAddress] = {}
    put_members: set[Member] = set()
    put_services: dict[Frontend, FrontendHead] = {}
    entries = {}
    over: list[Entry] = []
    group = contents.last_group
    for frontend, balance in desired.items():
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
    over += [entry for frontend, entry in contents.entries.items() if frontend not in desired]
    steps = MapPlan(
        put_backends,
        frozenset(put_members),
        put_services,
        frozenset((contents.entries.keys() | contents.broken) - desired.keys()),
        contents.orphaned_slots.union(*map(slots_of, over)),
        contents.orphaned_members.union(*map(members_of, over)),
    )
    return steps, Contents(entries, last_group=group)


def head_of(entry: Entry) -> FrontendHead:
    """The value of its frontend."""
    return FrontendHead(entry.group, len(entry.balance.backends), entry.balance.affinity_s)


def slots_of(entry: Entry) -> dict[Slot, TransportAddress]:
    """Its backends by slot."""
    backends = enumerate(entry.balance.backends)
    return {Slot(entry.group, number): backend for number, backend in backends}


def members_of(entry: Entry) -> Iterator[Member]:
    """Its members, if it has client affinity."""
    if entry.balance.affinity_s:
        for backend in entry.balance.backends:
            yield Member(entry.group, backend)
