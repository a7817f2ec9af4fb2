"""Plans the writes that change the maps from the stored to the desired contents. Pure.

A changed frontend gets a new group of backends; then one write switches the frontend to the group.
If a plan is interrupted, each frontend has all its old or all its new backends. The next plan first
removes the entries that no frontend uses, then completes the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress
from nodeagent.clusterip.map_layout import BACKENDS_MAX, FRONTENDS_MAX, FrontendHead, Member, Slot


class StoredMaps(NamedTuple):
    """The entries of the maps in the kernel. ``members``: backends with client affinity."""

    services: Mapping[Frontend, FrontendHead]
    backends: Mapping[Slot, TransportAddress]
    members: frozenset[Member]


class Entry(NamedTuple):
    """The backends of a served frontend, with the number of their group."""

    group: int
    backend_group: BackendGroup


class Contents(NamedTuple):
    """The contents of the maps.

    Broken frontends lack slots or members. ``broken_slots`` and ``broken_members`` are those that
    broken frontends still have. Orphaned slots and members belong to no frontend.
    """

    entries: Mapping[Frontend, Entry] = {}
    broken: frozenset[Frontend] = frozenset()
    broken_slots: frozenset[Slot] = frozenset()
    broken_members: frozenset[Member] = frozenset()
    orphaned_slots: frozenset[Slot] = frozenset()
    orphaned_members: frozenset[Member] = frozenset()
    last_group: int = 0


class MapPlan(NamedTuple):
    """The writes of a plan, in the order of these fields.

    Orphans are removed first, because they occupy space that new backends may need.
    Unwanted services are removed before new ones are put, because ``services`` may be full.
    """

    remove_orphaned_backends: frozenset[Slot]
    remove_orphaned_members: frozenset[Member]
    put_backends: Mapping[Slot, TransportAddress]
    put_members: frozenset[Member]
    remove_services: frozenset[Frontend]
    put_services: Mapping[Frontend, FrontendHead]
    remove_backends: frozenset[Slot]
    remove_members: frozenset[Member]

    @property
    def write_count(self) -> int:
        """The number of writes."""
        return sum(map(len, self))


class LimitedFrontends(NamedTuple):
    """``frontends`` fit into the maps. ``limit``: name of the exceeded limit; "": all fit."""

    frontends: Mapping[Frontend, BackendGroup]
    left_out: tuple[Frontend, ...] = ()
    limit: str = ""


def limit_frontends(
    desired: Mapping[Frontend, BackendGroup],
    frontends_max: int = FRONTENDS_MAX,
    backends_max: int = BACKENDS_MAX,
) -> LimitedFrontends:
    """Leave out frontends beyond a limit. Frontends with lower addresses are kept first."""
    count = sum(len(backend_group.backends) for backend_group in desired.values())
    if len(desired) <= frontends_max and count <= backends_max:
        return LimitedFrontends(desired)
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
    return LimitedFrontends(fitting, tuple(left_out), limit)


def contents_of(stored: StoredMaps) -> Contents:
    """Divide stored entries into complete frontends, broken frontends and orphans."""
    entries, broken = {}, set()
    slots, members = set(stored.backends), set(stored.members)
    for frontend, head in stored.services.items():
        backends = [stored.backends.get(Slot(head.group, number)) for number in range(head.size)]
        present_backends = [backend for backend in backends if backend is not None]
        entry = Entry(head.group, BackendGroup(tuple(present_backends), head.affinity_s))
        entry_members = set(members_of(entry))
        if len(present_backends) < head.size or not entry_members <= stored.members:
            broken.add(frontend)
            continue
        entries[frontend] = entry
        slots.difference_update(slots_of(entry))
        members -= entry_members
    broken_groups = {stored.services[frontend].group for frontend in broken}
    broken_slots = frozenset(slot for slot in slots if slot.group in broken_groups)
    broken_members = frozenset(member for member in members if member.group in broken_groups)
    groups = {head.group for head in stored.services.values()}
    groups |= {slot.group for slot in stored.backends}
    groups |= {member.group for member in stored.members}
    return Contents(
        entries,
        frozenset(broken),
        broken_slots,
        broken_members,
        orphaned_slots=frozenset(slots - broken_slots),
        orphaned_members=frozenset(members - broken_members),
        last_group=max(groups, default=0),
    )


def plan(contents: Contents, desired: Mapping[Frontend, BackendGroup]) -> tuple[MapPlan, Contents]:
    """The writes that store the desired frontends, and the contents afterwards."""
    put_backends: dict[Slot, TransportAddress] = {}
    put_members: set[Member] = set()
    put_services: dict[Frontend, FrontendHead] = {}
    entries = {}
    obsolete_entries: list[Entry] = []
    group = contents.last_group
    for frontend, backend_group in desired.items():
        before = contents.entries.get(frontend)
        if before is not None and before.backend_group == backend_group:
            entries[frontend] = before
            continue
        if backend_group.backends:
            group += 1
        after = entries[frontend] = Entry(group if backend_group.backends else 0, backend_group)
        put_backends |= slots_of(after)
        put_members.update(members_of(after))
        put_services[frontend] = head_of(after)
        if before is not None:
            obsolete_entries.append(before)
    obsolete_entries += [
        entry for frontend, entry in contents.entries.items() if frontend not in desired
    ]
    steps = MapPlan(
        contents.orphaned_slots,
        contents.orphaned_members,
        put_backends,
        frozenset(put_members),
        frozenset((contents.entries.keys() | contents.broken) - desired.keys()),
        put_services,
        contents.broken_slots.union(*map(slots_of, obsolete_entries)),
        contents.broken_members.union(*map(members_of, obsolete_entries)),
    )
    return steps, Contents(entries, last_group=group)


def head_of(entry: Entry) -> FrontendHead:
    """The value of ``services`` for an entry."""
    return FrontendHead(
        entry.group, len(entry.backend_group.backends), entry.backend_group.affinity_s
    )


def slots_of(entry: Entry) -> dict[Slot, TransportAddress]:
    """The backends of an entry by slot."""
    backends = enumerate(entry.backend_group.backends)
    return {Slot(entry.group, number): backend for number, backend in backends}


def members_of(entry: Entry) -> Iterator[Member]:
    """The members of an entry; none without client affinity."""
    if entry.backend_group.affinity_s:
        for backend in entry.backend_group.backends:
            yield Member(entry.group, backend)
