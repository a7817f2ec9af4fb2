"""The finder is exact: it names a free address if there is one, and None only if there is none."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.address_set import AddressSet
from core.domain.choice import Search, spread_index
from core.service import finding
from core.service.finding import Finder, Found
from core.store.keys import Keys
from core.store.kv import Put, Write
from core.store.memory import MemoryStore

BASE = 10 << 24
WRITES_AT_ONCE = 100
KEYS = Keys("test")

offsets = st.sets(st.integers(0, 400), min_size=1, max_size=300)


async def store_with(claimed: set[int], resting: set[int]) -> MemoryStore:
    store = MemoryStore()
    writes: list[Write] = [Put(KEYS.ip(4, BASE + one), b"") for one in sorted(claimed)]
    writes += [Put(KEYS.rest(4, BASE + one), b"") for one in sorted(resting)]
    for start in range(0, len(writes), WRITES_AT_ONCE):
        await store.commit([], writes[start : start + WRITES_AT_ONCE])
    return store


def find(
    members: set[int], claimed: set[int], resting: set[int], avoid: set[int], seed: str
) -> Found | None:
    async def run() -> Found | None:
        finder = Finder(await store_with(claimed, resting), KEYS)
        usable = AddressSet.from_values({BASE + one for one in members}, 4)
        search = Search(usable, "spread", seed)
        return await finder.find(search, {BASE + one for one in avoid})

    return asyncio.run(run())


@settings(max_examples=60)
@given(offsets, offsets, offsets, st.sets(st.integers(0, 400), max_size=5), st.text(max_size=4))
def test_a_free_address_is_found_exactly_when_there_is_one(
    members: set[int], claimed: set[int], rests: set[int], avoid: set[int], seed: str
) -> None:
    resting = rests - claimed
    with_small_reads = finding.READ_ADDRESSES_MAX
    finding.READ_ADDRESSES_MAX = 7  # so that counting is tried, not only reading
    try:
        found = find(members, claimed, resting, avoid, seed)
    finally:
        finding.READ_ADDRESSES_MAX = with_small_reads

    free = members - claimed - resting - avoid
    second_best = (members & resting) - avoid
    if free:
        assert found is not None
        assert found.value - BASE in free
        assert found.rest_revision == 0
    elif second_best:
        assert found is not None
        assert found.value - BASE in second_best
        assert found.rest_revision > 0
    else:
        assert found is None


def test_the_only_free_address_of_a_huge_pool_with_claims_around_it_is_found() -> None:
    async def run() -> Found | None:
        store = await store_with(set(range(1, 3000)), set())
        usable = AddressSet(4, ((BASE, BASE + 2999),))
        return await Finder(store, KEYS).find(Search(usable, "spread", "x"), ())

    assert asyncio.run(run()) == Found(BASE)


def test_the_longest_resting_address_is_taken_first() -> None:
    async def run() -> Found | None:
        store = MemoryStore()
        for one in (2, 1, 3):
            await store.commit([], [Put(KEYS.rest(4, BASE + one), b"")])
        usable = AddressSet(4, ((BASE + 1, BASE + 3),))
        return await Finder(store, KEYS).find(Search(usable, "spread", "x"), ())

    found = asyncio.run(run())
    assert found is not None
    assert found.value == BASE + 2


def test_the_longest_resting_address_is_found_among_more_than_one_read_takes() -> None:
    count = 4 * finding.RESTING_READ_MIN

    async def run() -> Found | None:
        store = MemoryStore()
        for one in range(count, 0, -1):  # the last one in the order of keys has rested longest
            await store.commit([], [Put(KEYS.rest(4, BASE + one), b"")])
        usable = AddressSet(4, ((BASE + 1, BASE + count),))
        return await Finder(store, KEYS).find(Search(usable, "spread", "x"), ())

    found = asyncio.run(run())
    assert found is not None
    assert found.value == BASE + count


def test_a_resting_address_is_found_behind_any_number_that_cannot_be_had() -> None:
    gap = set(range(1, 1 + 2 * finding.RESTING_READ_MIN))
    last = max(gap) + 1

    found = find({0, last}, {0}, gap | {last}, set(), "x")

    assert found is not None
    assert found.value == BASE + last


def test_a_search_names_nothing_it_knows_to_be_taken() -> None:
    usable = AddressSet(4, ((BASE, BASE + 99),))
    search = Search(usable, "spread", "holder")
    first = search.next(())
    assert first == BASE + spread_index("holder", 100)

    last = search.window_last(first)
    search.learn(first, last, range(first, last))

    assert search.next(()) in (last, None)
    assert search.next({last}) is None


def test_a_sequential_search_names_nothing_before_it_has_read() -> None:
    search = Search(AddressSet(4, ((BASE, BASE + 9),)), "sequential", "holder")

    assert search.next(()) is None

    search.offer(BASE + 4)
    assert search.next(()) == BASE + 4


def test_an_empty_pool_has_nothing_to_find() -> None:
    assert find(set(), set(), set(), set(), "") is None
