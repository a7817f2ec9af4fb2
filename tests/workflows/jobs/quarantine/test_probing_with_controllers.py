"""Quarantines on both stores, with controllers that die at any of their writes."""

from __future__ import annotations

from functools import partial

import pytest

from core.domain.configuration.commands import QuarantineAddress
from core.domain.events import QuarantineLifted
from core.domain.model import ConflictingHost
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory import MemoryStore
from tests.support.nodes import Node, pool
from tests.workflows.faults.killing import KillingStore, Moment
from tests.workflows.jobs.town import Town
from workflows.engine.client.client import Client
from workflows.jobs.job_host import JobHost, JobSources
from workflows.jobs.quarantine.prober import ProbeResult, ProbeTarget

ADDRESS = "10.6.0.12"
EXECUTION = f"quarantine/{ADDRESS}"
WRITES_MAX = 16


class Silence:
    async def probe(self, target: ProbeTarget) -> ProbeResult:
        return ProbeResult("silent", text="on a link of the test")


make = partial(JobHost, sources=JobSources(prober=Silence()))


async def _begin(node: Node) -> None:
    stranger = ConflictingHost("02:00:00:00:00:09", "agent/n1", "n1", "eth1", 1)
    await node.apply(pool("main", "10.6.0.10-10.6.0.20"))
    await node.apply(QuarantineAddress(ADDRESS, "answered a probe", "", stranger))


async def _is_back(node: Node) -> bool:
    return ADDRESS not in (await node.truth()).quarantine


async def _probe(client: Client, number: int) -> None:
    await client.signal(EXECUTION, "probe-now", request_id=f"probe-{number}")


async def test_silence_brings_the_address_back(store: KeyValueStore) -> None:
    async with Town(store, make) as town:
        await _begin(town.node)
        await town.host("one")
        for number in range(3):
            await town.until_found(EXECUTION, silent=number)
            await _probe(town.client, number)
        await town.until(lambda: _is_back(town.node))
        await town.check()


@pytest.mark.parametrize("moment", Moment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("at", range(1, WRITES_MAX + 1))
async def test_a_controller_killed_at_any_write_leaves_the_address_to_the_next_one(
    at: int, moment: Moment
) -> None:
    async with Town(MemoryStore(), make) as town:
        await _begin(town.node)
        killing = KillingStore(town.store, at, moment)
        await town.host("dying", killing)
        await town.until_open(EXECUTION)
        await _probe(town.client, 0)
        await town.bury_if_dead("dying", killing, lambda: town.has(EXECUTION, silent=1))
        await town.host("heir")
        await town.until_found(EXECUTION, silent=1)
        for number in (1, 2):
            await _probe(town.client, number)
            if number == 1:
                await town.until_found(EXECUTION, silent=2)
        await town.until(lambda: _is_back(town.node))
        await town.check()
        lifted = [one for one in await town.node.log() if isinstance(one.event, QuarantineLifted)]

    assert len(lifted) == 1
