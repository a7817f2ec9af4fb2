"""The finder is exact: it returns a free address, else an address in cool-down, else None."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from core.allocation import address_finder
from core.allocation.address_finder import Finder, FreeAddress, FreeRead
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.choice import Search, is_scarce, spread_index
from core.eventstore.keys import Keys
from core.eventstore.kv import Delete, Get, Put, ReadResult, Write
from core.eventstore.memory_store import MemoryStore

BASE = 10 << 24
"""10.0.0.0; the tests count offsets from ``BASE``."""
WRITES_AT_ONCE = 100
KEYS = Keys("test")

offsets = st.sets(st.integers(0, 400), min_size=1, max_size=300)


async def store_with(claimed: set[int], cooling_down: set[int]) -> MemoryStore:
    store = MemoryStore()
    writes: list[Write] = [Put(KEYS.ip(4, BASE + offset), b"") for offset in sorted(claimed)]
    writes += [Put(KEYS.cool_down(4, BASE + offset), b"") for offset in sorted(cooling_down)]
    for start in range(0, len(writes), WRITES_AT_ONCE):
        await store.commit([], writes[start : start + WRITES_AT_ONCE])
    return store


def find(
    members: set[int], claimed: set[int], cooling_down: set[int], avoid: set[int], seed: str
) -> FreeAddress | None:
    async def run() -> FreeAddress | None:
        finder = Finder(await store_with(claimed, cooling_down), KEYS)
        usable = AddressSet.from_values({BASE + offset for offset in members}, 4)
        search = Search(usable, "spread", seed)
        return await finder.find(search, {BASE + offset for offset in avoid})

    return asyncio.run(run())


@contextmanager
def small_reads() -> Iterator[None]:
    """Limit reads to 7 keys: the finder then counts and reads parts of a pool."""
    default = address_finder.READ_KEYS_MAX
    address_finder.READ_KEYS_MAX = 7
    try:
        yield
    finally:
        address_finder.READ_KEYS_MAX = default


@settings(max_examples=60)
@given(offsets, offsets, offsets, st.sets(st.integers(0, 400), max_size=5), st.text(max_size=4))
def test_the_finder_returns_a_free_address_or_else_one_in_cool_down(
    members: set[int], claimed: set[int], released: set[int], avoid: set[int], seed: str
) -> None:
    cooling_down = released - claimed
    with small_reads():
        address = find(members, claimed, cooling_down, avoid, seed)

    free = members - claimed - cooling_down - avoid
    usable_in_cool_down = (members & cooling_down) - avoid
    if free:
        assert address is not None
        assert address.value - BASE in free
        assert address.cool_down_revision == 0
    elif usable_in_cool_down:
        assert address is not None
        assert address.value - BASE in usable_in_cool_down
        assert address.cool_down_revision > 0
    else:
        assert address is None


def test_the_only_free_address_of_a_large_pool_is_found() -> None:
    async def run() -> FreeAddress | None:
        store = await store_with(set(range(1, 3000)), set())
        usable = AddressSet(4, ((BASE, BASE + 2999),))
        return await Finder(store, KEYS).find(Search(usable, "spread", "x"), ())

    assert asyncio.run(run()) == FreeAddress(BASE)


@settings(max_examples=60)
@given(offsets, offsets, offsets, st.sets(st.integers(0, 400), max_size=5), st.integers(0, 400))
def test_a_read_returns_all_free_addresses_up_to_the_limit_and_no_others(
    members: set[int], claimed: set[int], released: set[int], avoid: set[int], rank: int
) -> None:
    cooling_down = released - claimed
    usable = AddressSet.from_values({BASE + offset for offset in members}, 4)
    start = rank % usable.size

    async def run() -> FreeRead:
        finder = Finder(await store_with(claimed, cooling_down), KEYS)
        return await finder.free(usable, start, {BASE + offset for offset in avoid})

    with small_reads():
        read_in_parts = asyncio.run(run())
    whole_read = asyncio.run(run())

    free = members - claimed - cooling_down
    values = [value - BASE for value in whole_read.values]
    assert set(values) <= free - avoid
    assert len(values) == len(set(values)) == min(len(free - avoid), address_finder.VALUES_MAX)
    assert values == sorted(values, key=lambda value: (BASE + value < usable.nth(start), value))
    assert whole_read.passed_over == bool(free & avoid)
    assert {value - BASE for value in read_in_parts.values} <= free - avoid
    assert (
        bool(read_in_parts.values)
        == bool(free - avoid)
        == bool(whole_read.estimated_count)
        == bool(read_in_parts.estimated_count)
    )


class ChangingStore(MemoryStore):
    """A store that commits ``later_writes`` after the first read."""

    def __init__(self, later_writes: list[Write]) -> None:
        super().__init__()
        self._later_writes = later_writes

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        answer = await super().read(gets, revision=revision)
        later_writes, self._later_writes = self._later_writes, []
        if later_writes:
            await self.commit([], later_writes)
        return answer


async def test_a_search_finds_the_address_that_was_free_at_its_first_read() -> None:
    claimed = set(range(400)) - {399}
    store = ChangingStore([Delete(KEYS.ip(4, BASE)), Put(KEYS.ip(4, BASE + 399), b"")])
    for offset in claimed:
        await store.commit([], [Put(KEYS.ip(4, BASE + offset), b"")])
    search = Search(AddressSet(4, ((BASE, BASE + 399),)), "sequential", seed="")

    with small_reads():
        address = await Finder(store, KEYS).find(search, ())

    assert address == FreeAddress(BASE + 399)


async def test_an_address_is_found_although_its_cool_down_ends_during_the_search() -> None:
    store = ChangingStore([Delete(KEYS.cool_down(4, BASE + 1))])
    await store.commit([], [Put(KEYS.ip(4, BASE), b""), Put(KEYS.cool_down(4, BASE + 1), b"")])
    search = Search(AddressSet(4, ((BASE, BASE + 1),)), "sequential", seed="")

    address = await Finder(store, KEYS).find(search, ())

    assert address is not None
    assert address.value == BASE + 1


def test_the_finder_takes_the_address_longest_in_cool_down() -> None:
    async def run() -> FreeAddress | None:
        store = MemoryStore()
        for offset in (2, 1, 3):
            await store.commit([], [Put(KEYS.cool_down(4, BASE + offset), b"")])
        usable = AddressSet(4, ((BASE + 1, BASE + 3),))
        return await Finder(store, KEYS).find(Search(usable, "spread", "x"), ())

    address = asyncio.run(run())
    assert address is not None
    assert address.value == BASE + 2


def test_several_reads_find_the_address_that_was_released_first() -> None:
    count = 4 * address_finder.COOL_DOWN_READ_MIN

    async def run() -> FreeAddress | None:
        store = MemoryStore()
        for offset in range(count, 0, -1):  # the highest address was released first
            await store.commit([], [Put(KEYS.cool_down(4, BASE + offset), b"")])
        usable = AddressSet(4, ((BASE + 1, BASE + count),))
        return await Finder(store, KEYS).find(Search(usable, "spread", "x"), ())

    address = asyncio.run(run())
    assert address is not None
    assert address.value == BASE + count


def test_the_finder_skips_many_unusable_addresses_in_cool_down() -> None:
    gap = set(range(1, 1 + 2 * address_finder.COOL_DOWN_READ_MIN))
    last = max(gap) + 1

    address = find(members={0, last}, claimed={0}, cooling_down=gap | {last}, avoid=set(), seed="x")

    assert address is not None
    assert address.value == BASE + last


def test_a_spread_search_returns_none_if_only_one_address_is_free() -> None:
    usable = AddressSet(4, ((BASE, BASE + 99),))
    search = Search(usable, "spread", "holder")
    first = search.next(())
    assert first == BASE + spread_index("holder", 100)

    last = search.window_last(first)
    search.learn(first, last, range(first, last))  # only the last address is free

    assert search.next(()) is None
    assert search.next({last}) is None


@given(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99)), st.text(max_size=4))
def test_a_spread_search_returns_a_free_address_or_none_if_few_are_free(
    claimed: set[int], avoid: set[int], seed: str
) -> None:
    search = Search(AddressSet(4, ((0, 99),)), "spread", seed)
    search.learn(0, 99, claimed)

    address = search.next(avoid)

    free = set(range(100)) - claimed - avoid
    assert (address is None) == is_scarce(len(free), 100)
    assert address is None or address in free


def test_a_sequential_search_returns_an_address_only_after_a_read() -> None:
    search = Search(AddressSet(4, ((BASE, BASE + 9),)), "sequential", "holder")

    assert search.next(()) is None

    search.prefer(BASE + 4)  # a read found this address free
    assert search.next(()) == BASE + 4


def test_nothing_is_found_in_an_empty_pool() -> None:
    assert find(members=set(), claimed=set(), cooling_down=set(), avoid=set(), seed="") is None
