"""A decision on the scope of a command equals the decision on all objects.

The scope is the objects that the command can affect; indexes in etcd find them by address block.
The value of a topic's guard key says whether the topic's index is complete: older versions wrote
no index entries.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.configuration.command_scope import ALL_INDEXES, ScopeReader
from core.configuration.event_writes import effect_of
from core.domain.addresses.address_set import AddressSet
from core.domain.addresses.ip_address import Address
from core.domain.autopools.application_plan import named_subnets, plan_application
from core.domain.autopools.applications import Application
from core.domain.autopools.pool_names import ApplicationKey, PoolScope
from core.domain.autopools.pool_plan import DesiredPool
from core.domain.autopools.pool_size import AS_MANY_AS_REPLICAS, IpNumber
from core.domain.configuration.commands import (
    AdvanceRetirement,
    ApplyAutoPool,
    ApplyPool,
    ApplySubnet,
    Command,
    DeleteSubnet,
    DropAutoPool,
    Reinstate,
    RetireSubnet,
)
from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.domain.events import Event
from core.domain.evolution import Ledger
from core.domain.model import Scale, Subnet
from core.errors import Refused
from core.eventstore.kv import Get, KeyValue, KeyValueStore, Put, ReadResult, Write
from core.eventstore.memory_store import MemoryStore
from core.eventstore.pool_index import BLOCKS_MAX, COMPLETE_INDEX, Index, blocks_of
from core.eventstore.state_reader import read_configuration
from tests.core.domain.configuration.test_decisions_any_sequence import (
    ANY_COMMAND,
    HOST_NUMBERS,
    contains,
)
from tests.support.node_harness import TEST_CAUSE, NodeHarness, check_everything, pool

SUBNETS = st.sampled_from(
    [
        Subnet("wide", 4, "10.7.0.0/24", ("10.7.0.0-10.7.0.200",)),
        Subnet("part", 4, "10.7.0.0/28", ("10.7.0.0-10.7.0.15",), gateway="10.7.0.1"),
        Subnet("odd", 4, "10.7.0.1/28"),
        Subnet("a", 6, "fd00:7::/124", ("fd00:7::0-fd00:7::f",)),
        Subnet("a", 6, "fd00:7::/64"),
    ]
)
SUBNET_NAMES = st.sampled_from(["wide", "part", "a", "b"])
DESIRED_POOLS = st.builds(
    DesiredPool,
    st.builds(
        PoolScope,
        st.just(ApplicationKey("apps/v1", "Deployment", "shop", "web")),
        st.just("eth0"),
        st.sampled_from([4, 6]),
        SUBNET_NAMES,
    ),
    st.sampled_from(["u-1", "u-2"]),
    st.integers(0, 4),
    st.just(IpNumber(0)),
)
AUTO_NAMES = st.sampled_from(["auto4-web-eth0-1", "auto6-web-eth0-1", "a"])
ALL_COMMANDS: st.SearchStrategy[Command] = st.one_of(
    ANY_COMMAND,
    st.builds(ApplySubnet, SUBNETS),
    st.builds(ApplySubnet, SUBNETS),  # twice as often
    st.builds(RetireSubnet, SUBNET_NAMES),
    st.builds(DeleteSubnet, SUBNET_NAMES),
    st.builds(Reinstate, st.sampled_from(["pool", "subnet"]), SUBNET_NAMES),
    st.builds(AdvanceRetirement, st.sampled_from(["pool", "subnet"]), SUBNET_NAMES),
    st.builds(ApplyAutoPool, DESIRED_POOLS),
    st.builds(DropAutoPool, AUTO_NAMES, st.sampled_from(["u-1", "u-2"]), st.booleans()),
)


def outcome_of(configuration: Configuration, command: Command) -> tuple[Event, ...] | str:
    """The events of the command, or the text of its refusal."""
    try:
        return decide(configuration, command, claimed={})
    except Refused as error:
        return str(error)


async def all_objects(node: NodeHarness) -> Configuration:
    ledger = Ledger()
    await read_configuration(node.store, node.keys, ledger)
    return Configuration.of(ledger)


async def apply_as_an_older_version(node: NodeHarness, command: Command) -> None:
    """Apply a command without index entries."""
    configuration = await all_objects(node)
    events = outcome_of(configuration, command)
    if isinstance(events, str):
        return
    for event in events:
        effect = effect_of(event, configuration, node.keys)
        guard_key = node.keys.guard(effect.topic, effect.family)
        writes: list[Write] = [effect.write, Put(guard_key, b"")]
        await node.store.commit([], writes)


async def assert_index_is_correct(node: NodeHarness) -> None:
    configuration = await all_objects(node)
    for topic, family in ALL_INDEXES:
        index = Index(node.keys, topic, family)
        guard, entries = (
            await node.store.read([Get(node.keys.guard(topic, family)), Get(*index.all())])
        ).ranges
        if guard.first is None or guard.first.value != COMPLETE_INDEX:
            continue
        values: Iterable[object] = getattr(configuration, topic).values()
        expected: dict[bytes, bytes] = {}
        for value in values:
            expected |= index.entries(value)  # type: ignore[arg-type]  # pools or subnets
        assert {kv.key: kv.value for kv in entries.kvs} == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ALL_COMMANDS, st.integers(0, 9)), max_size=14))
def test_a_decision_on_the_scope_equals_the_decision_on_all_objects(
    commands: list[tuple[Command, int]],
) -> None:
    async def run() -> None:
        async with NodeHarness(MemoryStore()) as node:
            for command, number in commands:
                if number == 0:  # about one command in ten
                    await apply_as_an_older_version(node, command)
                    continue
                scope = await ScopeReader(node.store, node.keys).read(command)
                expected = outcome_of(await all_objects(node), command)
                assert outcome_of(scope.configuration, command) == expected
                try:
                    await node.configurator.apply(command, TEST_CAUSE)
                except Refused:
                    assert isinstance(expected, str)
            await assert_index_is_correct(node)

    asyncio.run(run())


TEMPLATE_ANNOTATION = "ipam.spidernet.io/subnets"
APPLICATION = ApplicationKey("apps/v1", "Deployment", "shop", "web")


@settings(max_examples=100, deadline=None)
@given(st.lists(ALL_COMMANDS, max_size=12), SUBNET_NAMES, SUBNET_NAMES, HOST_NUMBERS)
def test_plans_and_address_lookups_on_a_scope_equal_those_on_all_objects(
    commands: list[Command], ipv4: str, ipv6: str, host: int
) -> None:
    template = json.dumps([{"ipv4": [ipv4], "ipv6": [ipv6]}])
    application = Application(
        APPLICATION, "u-1", annotations={TEMPLATE_ANNOTATION: template}, scale=Scale(replicas=2)
    )

    async def run() -> None:
        async with NodeHarness(MemoryStore()) as node:
            for command in commands:
                with contextlib.suppress(Refused):
                    await node.configurator.apply(command, TEST_CAUSE)
            scopes, everything = ScopeReader(node.store, node.keys), await all_objects(node)
            application_scope = await scopes.read_application(
                APPLICATION, named_subnets(application)
            )
            plans = [
                plan_application(
                    application, configuration, claimed={}, default=AS_MANY_AS_REPLICAS
                )
                for configuration in (application_scope, everything)
            ]
            address_scope = await scopes.read_around(Address(4, (10 << 24) + (7 << 16) + host))
            pools_with_the_address = [
                sorted(
                    name
                    for name, pool in configuration.pools.items()
                    if contains(pool, f"10.7.0.{host}")
                )
                for configuration in (address_scope, everything)
            ]
            assert plans[0] == plans[1]
            assert pools_with_the_address[0] == pools_with_the_address[1]

    asyncio.run(run())


class _KeyCountingStore(MemoryStore):
    key_count = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        result = await super().read(gets, revision=revision)
        self.key_count += sum(len(key_range.kvs) for key_range in result.ranges)
        return result


async def test_more_pools_do_not_make_a_command_read_more_keys() -> None:
    store = _KeyCountingStore()
    async with NodeHarness(store) as node:
        key_counts = []
        for count in (10, 300):
            for number in range(count):
                subnet = f"10.{number % 4}.0.0/16"
                address = f"10.{number % 4}.{number // 4}.{count % 200}"
                await node.configurator.apply(
                    ApplyPool(pool(f"p-{count}-{number}", address, subnet=subnet)), TEST_CAUSE
                )
            before = store.key_count
            new_pool = pool(f"new-{count}", f"10.0.200.{count % 200}", subnet="10.0.0.0/16")
            await node.configurator.apply(ApplyPool(new_pool), TEST_CAUSE)
            key_counts.append(store.key_count - before)

        assert key_counts[0] == key_counts[1]
        await assert_index_is_correct(node)


async def test_no_pool_can_overlap_a_pool_with_too_many_blocks_for_the_index() -> None:
    async with NodeHarness(MemoryStore()) as node:
        scattered_ips = [f"10.6.0.{2 * number}" for number in range(2 * BLOCKS_MAX)]
        await node.apply(pool("scattered", *scattered_ips))

        with pytest.raises(Refused, match=r"SpiderIPPool/scattered already has 10\.6\.0\.4"):
            await node.apply(pool("v4", "10.6.0.3-10.6.0.5"))

        await node.apply(pool("v4", "10.6.0.3"))
        await node.apply(pool("scattered", *scattered_ips[:3]))
        await node.apply(pool("v4", "10.6.0.3", "10.6.0.6"))
        await assert_index_is_correct(node)
        await check_everything(node)


async def test_a_dry_run_writes_nothing_even_if_the_index_is_incomplete() -> None:
    async with NodeHarness(MemoryStore()) as node:
        await apply_as_an_older_version(node, ApplyPool(pool("old", "10.6.0.1-10.6.0.9")))
        before = await _all_keys(node.store, node)

        with pytest.raises(Refused):
            await node.configurator.dry_run(ApplyPool(pool("new", "10.6.0.5")))

        assert await _all_keys(node.store, node) == before


@pytest.mark.parametrize("malformed", [b"\xff\xfe", b"garbage", b"x y", b""])
async def test_a_malformed_index_entry_does_not_change_a_decision(malformed: bytes) -> None:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("old", "10.6.0.1-10.6.0.9"))
        index = Index(node.keys, "pools", 4)
        (entries, *_) = index.owners(AddressSet.from_values(((10 << 24) + (6 << 16) + 1,), 4))
        await node.store.commit([], [Put(entries.start + malformed, b"")])

        await node.apply(pool("new", "10.6.0.10"))

        with pytest.raises(Refused):
            await node.apply(pool("newer", "10.6.0.9-10.6.0.10"))


async def _all_keys(store: KeyValueStore, node: NodeHarness) -> tuple[KeyValue, ...]:
    return (await store.read([Get(*node.keys.range_of())])).ranges[0].kvs


@given(st.sets(st.integers(0, 5_000), max_size=200), st.integers(0, 1 << 64))
def test_blocks_cover_a_set_and_equal_it_if_few_blocks_are_enough(
    values: set[int], base: int
) -> None:
    addresses = AddressSet.from_values((base + value for value in values), 6)

    blocks = blocks_of(addresses)

    spans = [(first, first + (1 << (128 - length)) - 1) for first, length in blocks]
    covered = AddressSet.from_intervals(spans, 6)
    assert addresses.issubset(covered)
    assert len(blocks) <= BLOCKS_MAX
    assert all(first % (1 << (128 - length)) == 0 for first, length in blocks)
    if len(addresses.intervals) <= BLOCKS_MAX // 24:  # an interval of 5,000 needs at most 24
        assert covered == addresses
