"""Writes to the maps and their order, for any states and any point of a crash."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.clusterip.frontends import BackendGroup, Frontend, TransportAddress
from nodeagent.clusterip.layout import (
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
from nodeagent.clusterip.map_plan import Contents, MapPlan, StoredMaps, contents_of, fit, plan

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
balances = st.builds(
    BackendGroup,
    st.lists(backends, max_size=4, unique=True).map(lambda found: tuple(sorted(found))),
    st.sampled_from([0, 0, 60]),
)
states = st.dictionaries(frontends, balances, max_size=6)


def writes(steps: MapPlan) -> Iterator[tuple[str, object, object]]:
    """The writes one by one, as the kernel executes them."""
    yield from (("put backend", *item) for item in steps.put_backends.items())
    yield from (("put member", one, None) for one in steps.put_members)
    yield from (("put service", *item) for item in steps.put_services.items())
    yield from (("remove service", one, None) for one in steps.remove_services)
    yield from (("remove backend", one, None) for one in steps.remove_backends)
    yield from (("remove member", one, None) for one in steps.remove_members)


def after(raw: StoredMaps, steps: MapPlan, count: int | None = None) -> StoredMaps:
    """The maps after this number of writes."""
    services, backends, members = dict(raw.services), dict(raw.backends), set(raw.members)
    for verb, key, value in list(writes(steps))[:count]:
        match verb, key, value:
            case "put backend", Slot() as slot, TransportAddress() as backend:
                backends[slot] = backend
            case "put member", Member() as member, _:
                members.add(member)
            case "put service", Frontend() as frontend, FrontendHead() as head:
                services[frontend] = head
            case "remove service", Frontend() as frontend, _:
                del services[frontend]
            case "remove backend", Slot() as slot, _:
                del backends[slot]
            case _, Member() as member, _:
                members.remove(member)
            case _:
                raise AssertionError(verb)
    return StoredMaps(services, backends, frozenset(members))


def served(raw: StoredMaps) -> dict[Frontend, BackendGroup]:
    """Run a program's lookups, all of which must succeed."""
    found = {}
    for frontend, (group, size, affinity_s) in raw.services.items():
        backends = tuple(raw.backends[Slot(group, number)] for number in range(size))
        assert not affinity_s or {Member(group, one) for one in backends} <= raw.members
        found[frontend] = BackendGroup(backends, affinity_s)
    return found


@given(st.lists(states, min_size=1, max_size=5))
def test_maps_follow_what_is_wanted_and_keep_nothing_else(
    wanted: list[dict[Frontend, BackendGroup]],
) -> None:
    raw, contents = EMPTY, Contents()
    for state in wanted:
        steps, contents = plan(contents, state)
        raw = after(raw, steps)
        assert served(raw) == state
        assert contents.entries == contents_of(raw).entries
        size = sum(len(one.backends) for one in state.values())
        held = sum(len(one.backends) for one in state.values() if one.affinity_s)
        assert (len(raw.backends), len(raw.members)) == (size, held)


@given(states, states, st.integers(0, 60))
def test_whoever_dies_between_two_writes_leaves_each_service_as_before_or_as_after(
    first: dict[Frontend, BackendGroup], second: dict[Frontend, BackendGroup], moment: int
) -> None:
    steps, contents = plan(Contents(), first)
    before = after(EMPTY, steps)
    steps, _ = plan(contents, second)
    broken_off = after(before, steps, moment)
    for frontend, backend_group in served(broken_off).items():
        assert backend_group in (first.get(frontend), second.get(frontend))
    for frontend in first.keys() & second.keys():
        assert frontend in broken_off.services


@given(states, states, states, st.integers(0, 60))
def test_the_next_one_goes_on_from_what_it_finds(
    first: dict[Frontend, BackendGroup],
    second: dict[Frontend, BackendGroup],
    third: dict[Frontend, BackendGroup],
    moment: int,
) -> None:
    steps, contents = plan(Contents(), first)
    before = after(EMPTY, steps)
    steps, _ = plan(contents, second)
    broken_off = after(before, steps, moment)
    steps, _ = plan(contents_of(broken_off), third)
    whole = after(broken_off, steps)
    assert served(whole) == third
    assert contents_of(whole)[1:4] == (frozenset(), frozenset(), frozenset())


@given(states)
def test_what_does_not_change_is_not_written(state: dict[Frontend, BackendGroup]) -> None:
    _, contents = plan(Contents(), state)
    steps, again = plan(contents, dict(state))
    assert steps.writes == 0
    assert again.entries == contents.entries


@given(states, st.integers(0, 5), st.integers(0, 12))
def test_what_is_beyond_a_limit_is_left_out_and_named(
    state: dict[Frontend, BackendGroup], frontends_max: int, backends_max: int
) -> None:
    fitted = fit(state, frontends_max, backends_max)
    assert len(fitted.frontends) <= frontends_max
    assert sum(len(one.backends) for one in fitted.frontends.values()) <= backends_max
    assert fitted.frontends.keys() | set(fitted.left_out) == state.keys()
    assert bool(fitted.left_out) == bool(fitted.limit)


def test_a_map_that_lost_a_backend_is_made_whole_again() -> None:
    frontend = Frontend(bytes(16), 80, 6)
    state = {
        frontend: BackendGroup((TransportAddress(bytes(16), 1), TransportAddress(bytes(16), 2)))
    }
    steps, _ = plan(Contents(), state)
    raw = after(EMPTY, steps)
    torn = raw._replace(backends={Slot(1, 0): raw.backends[Slot(1, 0)]})
    assert contents_of(torn).broken == {frontend}
    steps, _ = plan(contents_of(torn), state)
    assert served(after(torn, steps)) == state
    steps, _ = plan(contents_of(torn), {})
    assert after(torn, steps) == EMPTY


@given(addresses, ports, ports)
def test_keys_and_values_are_read_back_as_they_were_written(
    address: bytes, port: int, group: int
) -> None:
    frontend, backend = Frontend(address, port, 17), TransportAddress(address, port)
    member = Member(group, backend)
    assert unpack_frontend(pack_frontend(frontend)) == frontend
    assert unpack_backend(pack_backend(backend)) == backend
    assert unpack_member(pack_member(member)) == member
