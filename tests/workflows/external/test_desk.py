"""The desk on a real engine: callers attach, workers die, and handing over is for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest

from core.domain.model import Endpoint
from core.errors import DeadlineExceeded, ProviderError
from core.service.provider import ProviderSettings
from tests.support.nodes import Node, addresses, check_everything, pod
from tests.workflows.engine.stage import eventually, within
from tests.workflows.external.fake_provider import FakeProvider, Fault, mac_of
from tests.workflows.external.stage import PARENTS, town
from workflows.api.definitions import Registry
from workflows.engine.client import Client
from workflows.engine.worker import Worker
from workflows.external.activities import ExternalActivities
from workflows.external.binding import ExternalBinding
from workflows.external.client import ProviderClient
from workflows.external.desk import ExternalDesk
from workflows.external.wire import ALLOCATE, RELEASE
from workflows.jobs.writers import ShardWriters


class Office(NamedTuple):
    node: Node
    provider: FakeProvider
    client: Client
    desk: ExternalDesk
    ends: AsyncExitStack

    def worker(self, name: str) -> Worker:
        store, keys = self.node.store, self.node.keys
        asking = ProviderClient(ProviderSettings(self.provider.url))
        writers = ShardWriters(store, keys)
        self.ends.push_async_callback(asking.close)
        self.ends.push_async_callback(writers.close)
        acts = ExternalActivities(store, keys, writers, asking)
        return Worker(store, keys, Registry([ExternalBinding], acts.all), name=name)

    async def claim(self) -> Endpoint:
        return (await self.node.add(pod("web"))).endpoint

    async def bind(self, endpoint: Endpoint, wait_s: float = 90.0) -> tuple[str, ...]:
        bound = await self.desk.bind(endpoint, "web", PARENTS, wait_s)
        return tuple(one.mac for one in bound)

    async def nothing_left(self) -> bool:
        return not (await self.node.truth()).claims and not self.provider.bound


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    node = await town()
    async with (
        FakeProvider() as provider,
        Client(node.store, node.keys) as client,
        AsyncExitStack() as ends,
    ):
        yield Office(node, provider, client, ExternalDesk(node.store, node.keys, client), ends)
        await check_everything(node)
    await node.__aexit__(None, None, None)


async def test_a_repeated_add_attaches_to_the_bind_under_way(office: Office) -> None:
    endpoint = await office.claim()
    async with office.worker("one"):
        found = await within(asyncio.gather(office.bind(endpoint), office.bind(endpoint)))

    (address,) = addresses(endpoint)
    assert list(found) == [(mac_of(address),)] * 2
    assert len(office.provider.calls) == 1


async def test_an_endpoint_without_nics_of_the_provider_costs_no_call(office: Office) -> None:
    endpoint = await office.claim()

    assert await office.desk.bind(endpoint, "web", {}, 90) == ()
    assert not await office.desk.give_back(endpoint, "web", {}, "deleted", "CNI DEL")


async def test_a_caller_that_cannot_wait_leaves_the_bind_to_go_on(office: Office) -> None:
    endpoint = await office.claim()
    with pytest.raises(DeadlineExceeded, match="orbctl workflow history external/shop/web"):
        await office.bind(endpoint, wait_s=0.01)


async def test_a_refused_bind_is_told_and_leaves_nothing(office: Office) -> None:
    endpoint = await office.claim()
    office.provider.faults.append(Fault.REFUSED)
    async with office.worker("one"):
        with pytest.raises(ProviderError, match="no VLAN is left"):
            await within(office.bind(endpoint))

    assert await office.nothing_left()


async def test_a_del_is_kept_by_whoever_comes_when_nobody_is_there_to_hear_it(
    office: Office,
) -> None:
    endpoint = await office.claim()
    async with office.worker("one"):
        await within(office.bind(endpoint))
    for _ in range(2):
        assert await office.desk.give_back(endpoint, "web", PARENTS, "deleted", "CNI DEL")
    assert (await office.node.truth()).claims

    async with office.worker("two"):
        await eventually(office.nothing_left)


async def test_a_worker_that_dies_over_a_release_is_followed_by_another(office: Office) -> None:
    endpoint = await office.claim()
    first = office.worker("one")
    async with first:
        await within(office.bind(endpoint))
    doomed = office.worker("two")
    doomed.start()
    await doomed.ready()
    office.provider.faults.append(Fault.LATE)  # the worker waits for it when it dies
    await office.desk.give_back(endpoint, "web", PARENTS, "deleted", "CNI DEL")

    async def asked() -> bool:
        return len(office.provider.calls) == 2

    await eventually(asked)
    await doomed.abandon()
    async with office.worker("three"):
        await eventually(office.nothing_left)

    assert [path for path, _, _ in office.provider.calls] == [ALLOCATE, RELEASE, RELEASE]
