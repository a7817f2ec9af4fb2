"""``FreeIntervals`` keeps the free addresses of a pool as intervals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.domain.addresses.address_set import AddressSet
from core.projections.free_intervals import FreeIntervals

# Each change says whether the address becomes free, and names the address.
address_changes = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=80)


@given(st.sets(st.integers(0, 40)), address_changes)
def test_free_intervals_equal_a_set_of_addresses_after_every_change(
    start: set[int], changes: list[tuple[bool, int]]
) -> None:
    free = FreeIntervals(AddressSet.from_values(start, 4))
    model = set(start)
    for becomes_free, value in changes:
        if becomes_free:
            free.add(value)
            model.add(value)
        else:
            free.discard(value)
            model.discard(value)
        assert tuple(free) == AddressSet.from_values(model, 4).intervals
        assert free.size == len(model)


def test_a_huge_range_is_changed_without_enumerating_its_addresses() -> None:
    free = FreeIntervals(AddressSet(6, ((0, 2**64 - 1),)))

    free.discard(2**63)

    assert tuple(free) == ((0, 2**63 - 1), (2**63 + 1, 2**64 - 1))
    assert free.size == 2**64 - 1
