"""A plan changes the eBPF maps of Services; the agent may crash after each write."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress
from nodeagent.clusterip.map_layout import (
    FrontendHead,
    Member,
    Slot,
    pack_backend,
    pack_frontend,
    pack_member,
    unpack_backend,
    unpack_frontend,
    unpack_member,
)
from nodeagent.clusterip.map_plan import (
    Contents,
    MapPlan,
    StoredMaps,
    contents_of,
    limit_frontends,
    plan,
)

EMPTY = StoredMaps({}, {}, frozenset())

addresses = st.binary(min_size=16, max_size=16)
ports = st.integers(1, 65_535)
backends = st.builds(
    TransportAddress, st.sampled_from([bytes(15) + bytes([n]) for n in range(4)]), ports
)
frontends = st.builds(
    Frontend,
    st.sampled_from([bytes(15) + bytes([n]) for n in range(3)]),
    st.integers(80, 82),
    st.sampled_from([6, 17]),
)
backend_groups = st.builds(
    BackendGroup,
    st.lists(backends, max_size=4, unique=True).map(lambda unsorted: tuple(sorted(unsorted))),
    st.sampled_from([0, 0, 60]),  # seconds of affinity; most groups have none
)
states = st.dictionaries(frontends, backend_groups, max_size=6)


def writes(steps: MapPlan) -> Iterator[tuple[str, object, object]]:
    yield from (("remove backend", slot, None) for slot in steps.remove_orphaned_backends)
    yield from (("remove member", member, None) for member in steps.remove_orphaned_members)
    yield from (("put backend", *item) for item in steps.put_backends.items())
    yield from (("put member", member, None) for member in steps.put_members)
    yield from (("remove service", frontend, None) for frontend in steps.remove_services)
    yield from (("put service", *item) for item in steps.put_services.items())
    yield from (("remove backend", slot, None) for slot in steps.remove_backends)
    yield from (("remove member", member, None) for member in steps.remove_members)


def maps_after(stored_maps: StoredMaps, steps: MapPlan, count: int | None = None) -> StoredMaps:
    """The maps after the first ``count`` writes of a plan, or after all if it is None."""
    services, slots, members = (
        dict(stored_maps.services),
        dict(stored_maps.backends),
        set(stored_maps.members),
    )
    for verb, key, value in list(writes(steps))[:count]:
        match verb, key, value:
            case "put backend", Slot() as slot, TransportAddress() as backend:
                slots[slot] = backend
            case "put member", Member() as member, _:
                members.add(member)
            case "put service", Frontend() as frontend, FrontendHead() as head:
                services[frontend] = head
            case "remove service", Frontend() as frontend, _:
                del services[frontend]
            case "remove backend", Slot() as slot, _:
                del slots[slot]
            case _, Member() as member, _:
                members.remove(member)
            case _:
                raise AssertionError(verb)
    return StoredMaps(services, slots, frozenset(members))


def maps_after_an_interrupted_plan(
    first: dict[Frontend, BackendGroup], second: dict[Frontend, BackendGroup], write_count: int
) -> StoredMaps:
    """The maps with ``first``, after the first ``write_count`` writes of a plan for ``second``."""
    steps, contents = plan(Contents(), first)
    before = maps_after(EMPTY, steps)
    steps, _ = plan(contents, second)
    return maps_after(before, steps, write_count)


def served_frontends(stored_maps: StoredMaps) -> dict[Frontend, BackendGroup]:
    """The frontends in the maps; all their backends and members must exist."""
    groups = {}
    for frontend, (group, size, affinity_s) in stored_maps.services.items():
        group_backends = tuple(stored_maps.backends[Slot(group, number)] for number in range(size))
        members = {Member(group, backend) for backend in group_backends}
        assert not affinity_s or members <= stored_maps.members
        groups[frontend] = BackendGroup(group_backends, affinity_s)
    return groups


@given(st.lists(states, min_size=1, max_size=5))
def test_the_maps_contain_exactly_the_desired_frontends_after_each_plan(
    desired_states: list[dict[Frontend, BackendGroup]],
) -> None:
    stored_maps, contents = EMPTY, Contents()
    for state in desired_states:
        steps, contents = plan(contents, state)
        stored_maps = maps_after(stored_maps, steps)
        assert served_frontends(stored_maps) == state
        assert contents.entries == contents_of(stored_maps).entries
        groups = state.values()
        backend_count = sum(len(group.backends) for group in groups)
        member_count = sum(len(group.backends) for group in groups if group.affinity_s)
        assert (len(stored_maps.backends), len(stored_maps.members)) == (
            backend_count,
            member_count,
        )


@given(states, states, st.integers(0, 60))
def test_each_service_has_its_old_or_new_backends_after_an_interrupted_plan(
    first: dict[Frontend, BackendGroup], second: dict[Frontend, BackendGroup], write_count: int
) -> None:
    interrupted_maps = maps_after_an_interrupted_plan(first, second, write_count)
    for frontend, backend_group in served_frontends(interrupted_maps).items():
        assert backend_group in (first.get(frontend), second.get(frontend))
    for frontend in first.keys() & second.keys():
        assert frontend in interrupted_maps.services


@given(states, states, states, st.integers(0, 60))
def test_the_next_plan_completes_the_maps_after_an_interrupted_plan(
    first: dict[Frontend, BackendGroup],
    second: dict[Frontend, BackendGroup],
    third: dict[Frontend, BackendGroup],
    write_count: int,
) -> None:
    interrupted_maps = maps_after_an_interrupted_plan(first, second, write_count)
    steps, _ = plan(contents_of(interrupted_maps), third)
    completed_maps = maps_after(interrupted_maps, steps)
    assert served_frontends(completed_maps) == third
    contents = contents_of(completed_maps)
    assert not contents.broken
    assert not contents.orphaned_slots
    assert not contents.orphaned_members


@given(states, states, states, st.integers(0, 60))
def test_the_plan_after_an_interrupted_plan_needs_space_only_for_used_and_new_backends(
    first: dict[Frontend, BackendGroup],
    second: dict[Frontend, BackendGroup],
    third: dict[Frontend, BackendGroup],
    write_count: int,
) -> None:
    interrupted_maps = maps_after_an_interrupted_plan(first, second, write_count)
    used = sum(head.size for head in interrupted_maps.services.values())
    steps, _ = plan(contents_of(interrupted_maps), third)
    backends_max = max(used + len(steps.put_backends), len(interrupted_maps.backends))
    for count in range(steps.write_count):
        maps = maps_after(interrupted_maps, steps, count)
        assert len(maps.backends) <= backends_max
        served_frontends(maps)  # with all their backends and members


@given(states)
def test_unchanged_frontends_are_not_written(state: dict[Frontend, BackendGroup]) -> None:
    _, contents = plan(Contents(), state)
    steps, again = plan(contents, dict(state))
    assert steps.write_count == 0
    assert again.entries == contents.entries


@given(states, st.integers(0, 5), st.integers(0, 12))
def test_frontends_above_a_limit_are_left_out_and_listed(
    state: dict[Frontend, BackendGroup], frontends_max: int, backends_max: int
) -> None:
    limited = limit_frontends(state, frontends_max, backends_max)
    assert len(limited.frontends) <= frontends_max
    assert sum(len(group.backends) for group in limited.frontends.values()) <= backends_max
    assert limited.frontends.keys() | set(limited.left_out) == state.keys()
    assert bool(limited.left_out) == bool(limited.limit)


def test_a_frontend_with_a_missing_backend_is_repaired() -> None:
    frontend = Frontend(bytes(16), 80, 6)
    state = {
        frontend: BackendGroup((TransportAddress(bytes(16), 1), TransportAddress(bytes(16), 2)))
    }
    steps, _ = plan(Contents(), state)
    stored_maps = maps_after(EMPTY, steps)
    incomplete_maps = stored_maps._replace(backends={Slot(1, 0): stored_maps.backends[Slot(1, 0)]})
    assert contents_of(incomplete_maps).broken == {frontend}
    steps, _ = plan(contents_of(incomplete_maps), state)
    assert served_frontends(maps_after(incomplete_maps, steps)) == state
    new_backend_count = len(steps.put_backends)
    assert Slot(1, 0) in maps_after(incomplete_maps, steps, new_backend_count).backends
    steps, _ = plan(contents_of(incomplete_maps), {})
    assert maps_after(incomplete_maps, steps) == EMPTY


@given(addresses, ports, ports)
def test_keys_and_values_stay_equal_after_packing_and_unpacking(
    address: bytes, port: int, group: int
) -> None:
    frontend, backend = Frontend(address, port, 17), TransportAddress(address, port)
    member = Member(group, backend)
    assert unpack_frontend(pack_frontend(frontend)) == frontend
    assert unpack_backend(pack_backend(backend)) == backend
    assert unpack_member(pack_member(member)) == member
