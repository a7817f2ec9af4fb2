"""Any commands in any order are refused or give events, and keep the configuration consistent.

Names and addresses come from small sets, so that several commands concern one object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hypothesis import assume, given
from hypothesis import strategies as st

from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import V4, V6, Family, parse_address, parse_cidr
from core.domain.configuration.commands import (
    ApplyPool,
    ApplyRecord,
    ApplyReservation,
    Command,
    DeletePool,
    DeleteRecord,
    DeleteReservation,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.configuration.configuration_state import (
    Configuration,
    pool_addresses,
    unreserved_addresses,
)
from core.domain.configuration.decisions import decide, removed_addresses
from core.domain.events import Cause, RecordDefined, Recorded
from core.domain.evolution import Ledger
from core.domain.model import Claim, Pool, Reservation, Route
from core.domain.patterns.labels import LabelSelector, Requirement
from core.errors import Refused

GARBAGE = st.sampled_from(
    ["", "x", "10.7.0.1/24", "10.7.0.9-10.7.0.1", "1.2.3.4%eth0", "::/0", "\x00", "é", "1" * 99]
)
NAMES = st.sampled_from(["a", "b", "c"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["", "web"]), max_size=2)
HOST_NUMBERS = st.integers(0, 15)
PAIRS = st.tuples(HOST_NUMBERS, HOST_NUMBERS).map(sorted)


class FamilyTexts(NamedTuple):
    """Strategies for texts of one family."""

    family: Family
    subnets: st.SearchStrategy[str]
    addresses: st.SearchStrategy[str]
    items: st.SearchStrategy[str]


V4_TEXTS = HOST_NUMBERS.map("10.7.0.{}".format) | HOST_NUMBERS.map("::ffff:10.7.0.{}".format)
V6_TEXTS = HOST_NUMBERS.map("fd00:7::{:x}".format) | HOST_NUMBERS.map("FD00:7:0::{:x}".format)
FAMILIES = st.sampled_from(
    [
        FamilyTexts(
            V4,
            st.sampled_from(["10.7.0.0/28", "10.7.0.0/28", "10.7.0.0/24", "0.0.0.0/0"]),
            V4_TEXTS,
            V4_TEXTS | PAIRS.map(lambda pair: "10.7.0.{}-10.7.0.{}".format(*pair)),
        ),
        FamilyTexts(
            V6,
            st.sampled_from(["fd00:7::/124", "fd00:7::/124", "fd00:7::/64", "::/0"]),
            V6_TEXTS,
            V6_TEXTS | PAIRS.map(lambda pair: "fd00:7::{:x}-fd00:7::{:x}".format(*pair)),
        ),
    ]
)
ADDRESSES = V4_TEXTS | V6_TEXTS
REQUIREMENTS = st.tuples(GARBAGE, st.sampled_from(["In", "Exists", "x"])).map(
    lambda pair: Requirement(*pair)
)


@st.composite
def pools(draw: st.DrawFn, *, with_garbage: bool | None = None) -> Pool:
    """Pools; None for ``with_garbage`` puts garbage into half of them."""
    with_garbage = draw(st.booleans()) if with_garbage is None else with_garbage
    texts = draw(FAMILIES)
    garbage = GARBAGE if with_garbage else st.nothing()
    items = st.lists(texts.items | garbage, max_size=4).map(tuple)
    pool = Pool(
        draw(NAMES | garbage),
        texts.family,
        draw(texts.subnets | garbage),
        draw(items),
        exclude_ips=draw(items),
        gateway=draw(st.just("") | garbage),
        disabled=draw(st.booleans()),
        labels=draw(LABELS),
        annotations=draw(LABELS),
        retiring=draw(st.booleans()),
    )
    if not with_garbage:
        return pool
    routes = st.tuples(texts.subnets | garbage, texts.addresses | garbage)
    return pool._replace(
        gateway=draw(texts.addresses | garbage),
        routes=tuple(Route(*pair) for pair in draw(st.lists(routes, max_size=2))),
        pod_affinity=LabelSelector(draw(LABELS), tuple(draw(st.lists(REQUIREMENTS, max_size=2)))),
    )


@st.composite
def reservations(draw: st.DrawFn) -> Reservation:
    texts = draw(FAMILIES)
    items = draw(st.lists(texts.items, max_size=3)) + draw(st.lists(GARBAGE, max_size=1))
    return Reservation(draw(NAMES), texts.family, tuple(items), draw(LABELS))


@st.composite
def records(draw: st.DrawFn) -> RecordDefined:
    kind = draw(st.sampled_from(["Pod", "Pod", "Namespace", "Node", "Job"]))
    namespace = draw(st.sampled_from(["", "shop"]))
    return RecordDefined(kind, namespace, draw(NAMES | GARBAGE), labels=draw(LABELS))


ANY_COMMAND: st.SearchStrategy[Command] = st.one_of(
    st.builds(ApplyPool, pools()),
    st.builds(ApplyPool, pools()),
    st.builds(RetirePool, NAMES),
    st.builds(DeletePool, NAMES),
    st.builds(ApplyReservation, reservations()),
    st.builds(DeleteReservation, NAMES),
    st.builds(QuarantineAddress, ADDRESSES | GARBAGE, st.sampled_from(["", "conflict"])),
    st.builds(LiftQuarantine, ADDRESSES | GARBAGE, st.just("conflict ended")),
    st.builds(ApplyRecord, records()),
    st.builds(DeleteRecord, st.just("Pod"), st.just("shop"), NAMES),
)


def apply_command(ledger: Ledger, command: Command, claimed: Mapping[str, Claim]) -> bool:
    """Return False if the command was refused."""
    configuration = Configuration.of(ledger)
    removed_addresses(configuration, command)  # must not raise
    try:
        events = decide(configuration, command, claimed=claimed)
    except Refused:
        return False
    for event in events:
        position = ledger.position + 1
        ledger.apply(
            Recorded(
                position=position,
                index_in_segment=0,
                event_id=f"e{position}",
                recorded_at_ms=0,
                writer="test",
                cause=Cause("test"),
                event=event,
            )
        )
    return True


def assert_consistent(ledger: Ledger) -> None:
    """Pools are disjoint, and inside their subnets; subnets of two pools are equal or disjoint."""
    for pool in ledger.pools.values():
        cidr = parse_cidr(pool.subnet)
        addresses = pool_addresses(pool)
        assert str(cidr) == pool.subnet
        assert addresses.issubset(AddressSet.from_cidr(cidr))
        assert unreserved_addresses(pool, ledger.reservations).issubset(addresses)
        for other in ledger.pools.values():
            if other.name == pool.name or other.family != pool.family:
                continue
            other_cidr = parse_cidr(other.subnet)
            assert (
                other.subnet == pool.subnet
                or other_cidr.last < cidr.first
                or cidr.last < other_cidr.first
            )
            assert addresses.isdisjoint(pool_addresses(other))


@given(st.lists(ANY_COMMAND, max_size=12))
def test_every_command_is_accepted_or_refused_and_pools_stay_consistent(
    commands: list[Command],
) -> None:
    ledger = Ledger()

    for command in commands:
        apply_command(ledger, command, {})

    assert_consistent(ledger)


@given(st.lists(ANY_COMMAND, max_size=8), ANY_COMMAND)
def test_a_repeated_command_changes_nothing(before: list[Command], command: Command) -> None:
    ledger = Ledger()
    for earlier in before:
        apply_command(ledger, earlier, {})

    is_repeatable = isinstance(command, ApplyPool | ApplyReservation | ApplyRecord | RetirePool)
    if apply_command(ledger, command, {}) and is_repeatable:
        assert decide(Configuration.of(ledger), command, claimed={}) == ()


def contains(pool: Pool, address: str) -> bool:
    family, value = parse_address(address)
    return family == pool.family and value in pool_addresses(pool)


@given(pools(with_garbage=False), pools(), st.sets(ADDRESSES, max_size=5))
def test_no_claimed_address_leaves_its_pool(before: Pool, after: Pool, texts: set[str]) -> None:
    ledger = Ledger()
    assume(apply_command(ledger, ApplyPool(before._replace(name="a")), {}))
    claimed = {
        text: Claim(pool="a", holder="pod/u", namespace="shop", pod="web-0", event="e1")
        for text in texts
        if contains(ledger.pools["a"], text)
    }

    apply_command(ledger, ApplyPool(after._replace(name="a", subnet=before.subnet)), claimed)

    assert all(contains(ledger.pools["a"], text) for text in claimed)
    assert apply_command(ledger, DeletePool("a"), claimed) == (not claimed)
