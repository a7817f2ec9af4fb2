"""A command is decided on what it touches, exactly as it would be on everything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.autopools.naming import ApplicationKey, Place
from core.domain.autopools.planning import PoolWish
from core.domain.autopools.sizing import IpNumber
from core.domain.commands import (
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
from core.domain.configuration import Configuration
from core.domain.decisions import decide
from core.domain.events import Event
from core.domain.evolution import Ledger
from core.domain.model import Subnet
from core.errors import Refused
from core.service.command_scope import TOPICS, ScopeReader
from core.service.effects import effect_of
from core.store.index import COMPLETE, LISTED_RANGES_MAX, Index
from core.store.kv import Get, KeyValue, KeyValueStore, Put, ReadResult, Write
from core.store.memory import MemoryStore
from core.store.state import read_configuration
from tests.decisions.test_any_sequence_of_commands import COMMANDS
from tests.support.nodes import CAUSE, Node, check_everything, pool

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
WISHES = st.builds(
    PoolWish,
    st.builds(
        Place,
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
    COMMANDS,
    st.builds(ApplySubnet, SUBNETS),
    st.builds(ApplySubnet, SUBNETS),
    st.builds(RetireSubnet, SUBNET_NAMES),
    st.builds(DeleteSubnet, SUBNET_NAMES),
    st.builds(Reinstate, st.sampled_from(["pool", "subnet"]), SUBNET_NAMES),
    st.builds(AdvanceRetirement, st.sampled_from(["pool", "subnet"]), SUBNET_NAMES),
    st.builds(ApplyAutoPool, WISHES),
    st.builds(DropAutoPool, AUTO_NAMES, st.sampled_from(["u-1", "u-2"]), st.booleans()),
)


def decided(configuration: Configuration, command: Command) -> tuple[Event, ...] | str:
    try:
        return decide(configuration, command, {})
    except Refused as error:
        return str(error)


async def everything(node: Node) -> Configuration:
    ledger = Ledger()
    await read_configuration(node.store, node.keys, ledger)
    return Configuration.of(ledger)


async def apply_as_an_older_version(node: Node, command: Command) -> None:
    """Write the state and the guard keys, and nothing of an index."""
    configuration = await everything(node)
    events = decided(configuration, command)
    if isinstance(events, str):
        return
    for event in events:
        effect = effect_of(event, configuration, node.keys)
        topic = node.keys.guard(effect.topic, effect.family)
        writes: list[Write] = [effect.write, Put(topic, b"")]
        await node.store.commit([], writes)


async def assert_index_is_that_of_what_is_there(node: Node) -> None:
    configuration = await everything(node)
    for topic, family in TOPICS:
        index = Index(node.keys, topic, family)
        guard, found = (
            await node.store.read([Get(node.keys.guard(topic, family)), Get(*index.all())])
        ).ranges
        if guard.first is None or guard.first.value != COMPLETE:
            continue
        values: Iterable[object] = getattr(configuration, topic).values()
        wanted: dict[bytes, bytes] = {}
        for value in values:
            wanted |= index.entries(value)  # type: ignore[arg-type]  # pools or subnets
        assert {kv.key: kv.value for kv in found.kvs} == wanted


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ALL_COMMANDS, st.integers(0, 9)), max_size=14))
def test_any_command_is_decided_on_its_scope_as_on_everything(
    commands: list[tuple[Command, int]],
) -> None:
    async def run() -> None:
        async with Node(MemoryStore()) as node:
            for command, chance in commands:
                if chance == 0:
                    await apply_as_an_older_version(node, command)
                    continue
                scope = await ScopeReader(node.store, node.keys).read(command)
                expected = decided(await everything(node), command)
                assert decided(scope.configuration, command) == expected
                try:
                    await node.configurator.apply(command, CAUSE)
                except Refused:
                    assert isinstance(expected, str)
            await assert_index_is_that_of_what_is_there(node)

    asyncio.run(run())


class _Counting(MemoryStore):
    """Counts the keys that reads answer."""

    answered = 0

    async def read(self, gets: Sequence[Get], *, revision: int = 0) -> ReadResult:
        result = await super().read(gets, revision=revision)
        self.answered += sum(len(one.kvs) for one in result.ranges)
        return result


async def test_a_command_reads_no_more_keys_however_many_pools_there_are() -> None:
    store = _Counting()
    async with Node(store) as node:
        answered = []
        for count in (10, 300):
            for n in range(count):
                subnet = f"10.{n % 4}.0.0/16"
                first = f"10.{n % 4}.{n // 4}.{count % 200}"
                await node.configurator.apply(
                    ApplyPool(pool(f"p-{count}-{n}", first, subnet=subnet)), CAUSE
                )
            before = store.answered
            new = pool(f"new-{count}", f"10.0.200.{count % 200}", subnet="10.0.0.0/16")
            await node.configurator.apply(ApplyPool(new), CAUSE)
            answered.append(store.answered - before)

        assert answered[0] == answered[1]
        await assert_index_is_that_of_what_is_there(node)


async def test_a_pool_of_more_ranges_than_the_index_lists_is_not_overlapped() -> None:
    async with Node(MemoryStore()) as node:
        apart = [f"10.6.0.{2 * n}" for n in range(LISTED_RANGES_MAX + 1)]
        await node.apply(pool("scattered", *apart))

        with pytest.raises(Refused, match=r"10\.6\.0\.4 already belongs to SpiderIPPool/scattered"):
            await node.apply(pool("v4", "10.6.0.3-10.6.0.5"))

        await node.apply(pool("v4", "10.6.0.3"))
        await node.apply(pool("scattered", *apart[:3]))
        await node.apply(pool("v4", "10.6.0.3", "10.6.0.6"))
        await assert_index_is_that_of_what_is_there(node)
        await check_everything(node)


async def test_a_dry_run_writes_nothing_also_when_the_index_is_not_complete() -> None:
    async with Node(MemoryStore()) as node:
        await apply_as_an_older_version(node, ApplyPool(pool("old", "10.6.0.1-10.6.0.9")))
        before = await _all_of(node.store, node)

        with pytest.raises(Refused):
            await node.configurator.dry_run(ApplyPool(pool("new", "10.6.0.5")))

        assert await _all_of(node.store, node) == before


@pytest.mark.parametrize("spoilt", [b"\xff\xfe", b"x/y", b"garbage"])
async def test_an_entry_that_cannot_be_read_is_built_anew(spoilt: bytes) -> None:
    async with Node(MemoryStore()) as node:
        await node.apply(pool("old", "10.6.0.1-10.6.0.9"))
        index = Index(node.keys, "pools", 4)
        entries = (await node.store.read([index.range_at(0)])).ranges[0].kvs
        await node.store.commit([], [Put(kv.key, spoilt) for kv in entries])
        stray = node.keys.prefix("index", "pools", "4", "network") + spoilt
        await node.store.commit([], [Put(stray, b"")])

        await node.apply(pool("new", "10.6.0.10"))

        with pytest.raises(Refused):
            await node.apply(pool("newer", "10.6.0.9-10.6.0.10"))
        await assert_index_is_that_of_what_is_there(node)


async def _all_of(store: KeyValueStore, node: Node) -> tuple[KeyValue, ...]:
    return (await store.read([Get(*node.keys.room())])).ranges[0].kvs
