"""Controllers lift quarantines, in memory and on etcd, also after a kill at any write."""

from __future__ import annotations

from functools import partial

import pytest

from core.domain.configuration.commands import QuarantineAddress
from core.domain.events import QuarantineLifted
from core.domain.model import ConflictingHost
from core.eventstore.kv import KeyValueStore
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import NodeHarness, pool
from tests.workflows.faults.killing import KillingStore, KillMoment
from tests.workflows.jobs.job_host_harness import JobHostHarness
from workflows.engine.client.client import Client
from workflows.jobs.job_host import JobHost, JobSources
from workflows.jobs.quarantine.probe import PROBE_NOW
from workflows.jobs.quarantine.prober import ProbeResult, ProbeTarget

ADDRESS = "10.6.0.12"
EXECUTION = f"quarantine/{ADDRESS}"
WRITES_UNTIL_FIRST_RESULT = 16
"""The approximate number of writes until the first probe result is recorded."""


class SilentProber:
    async def probe(self, target: ProbeTarget) -> ProbeResult:
        return ProbeResult("silent", text="on a link of the test")


make_host = partial(JobHost, sources=JobSources(prober=SilentProber()))


async def _quarantine(node: NodeHarness) -> None:
    host = ConflictingHost("02:00:00:00:00:09", "agent/n1", "n1", "eth1", seen_ms=1)
    await node.apply(pool("main", "10.6.0.10-10.6.0.20"))
    await node.apply(QuarantineAddress(ADDRESS, "answered a probe", conflicting_host=host))


async def _is_lifted(node: NodeHarness) -> bool:
    return ADDRESS not in (await node.read_ledger()).quarantine


async def _request_probe(client: Client, number: int) -> None:
    await client.signal(EXECUTION, PROBE_NOW, request_id=f"probe-{number}")


async def test_silent_probes_lift_the_quarantine(store: KeyValueStore) -> None:
    async with JobHostHarness(store, make_host) as hosts:
        await _quarantine(hosts.node)
        await hosts.start_controller("one")
        for number in range(3):
            await hosts.until_status(EXECUTION, silent=number)
            await _request_probe(hosts.client, number)
        await hosts.until(lambda: _is_lifted(hosts.node))
        await hosts.check()


@pytest.mark.parametrize("moment", KillMoment, ids=lambda moment: moment.name.lower())
@pytest.mark.parametrize("write_number", range(1, WRITES_UNTIL_FIRST_RESULT + 1))
async def test_the_next_controller_lifts_the_quarantine_after_a_kill_at_any_write(
    write_number: int, moment: KillMoment
) -> None:
    async with JobHostHarness(MemoryStore(), make_host) as hosts:
        await _quarantine(hosts.node)
        killing = KillingStore(hosts.store, write_number, moment)
        await hosts.start_controller("killed", killing)
        await hosts.until_open(EXECUTION)
        await _request_probe(hosts.client, 0)
        await hosts.remove_when_dead(
            "killed", killing, lambda: hosts.has_status(EXECUTION, silent=1)
        )
        await hosts.start_controller("next")
        await hosts.until_status(EXECUTION, silent=1)
        for number in (1, 2):
            await _request_probe(hosts.client, number)
            if number == 1:
                await hosts.until_status(EXECUTION, silent=2)
        await hosts.until(lambda: _is_lifted(hosts.node))
        await hosts.check()
        lifted = [
            recorded
            for recorded in await hosts.node.log()
            if isinstance(recorded.event, QuarantineLifted)
        ]

    assert len(lifted) == 1
