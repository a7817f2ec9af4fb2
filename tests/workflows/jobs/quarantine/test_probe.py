"""A quarantine is lifted after silent probes, and not after answered or failed probes.

``ProbeOutcome.returned`` is true if the execution has lifted the quarantine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.configuration.configurator import Applied, Configurator
from core.domain.configuration.commands import Command, LiftQuarantine, QuarantineAddress
from core.domain.events import Cause, QuarantineLifted
from core.domain.model import ConflictingHost
from core.errors import OutcomeUnknown, StoreUnavailable
from core.eventstore.memory_store import MemoryStore
from core.projections.projection import Projection
from tests.support.node_harness import NodeHarness, check_everything, pool
from workflows.api.definitions import Registry
from workflows.jobs.quarantine.activities import QuarantineActivities
from workflows.jobs.quarantine.probe import (
    CHECK_SIGNAL,
    PROBE_NOW,
    ProbeOutcome,
    ProbeQuarantine,
    required_probes,
)
from workflows.jobs.quarantine.prober import NO_PROBER, NoProber, Prober, ProbeResult, ProbeTarget
from workflows.jobs.quarantine.schedule import PAUSE_S, PAUSE_S_MAX, SILENT_PROBES
from workflows.jobs.shard_writers import ShardWriters
from workflows.model.policies import ExecutionStatus
from workflows.testing.environment import WorkflowEnvironment
from workflows.testing.handle import TimeSkippingHandle

ADDRESS = "10.6.0.12"
CONFLICTING_HOST = ConflictingHost(
    "02:00:00:00:00:09",
    seen_by="agent/n1",
    node="n1",
    interface="eth1",
    seen_ms=1_767_268_800_000,
)
SILENT = ProbeResult("silent", text="on eth1 of c-1, where the gateway 10.6.0.1 answers")
ANSWERED = ProbeResult("answered", CONFLICTING_HOST.mac)


class ScriptedProber:
    """A prober that returns the results of a script, then repeats the last one."""

    def __init__(self, *script: ProbeResult) -> None:
        self.script = list(script)
        self.targets: list[ProbeTarget] = []

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        self.targets.append(target)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class ProbeJobHarness:
    """A node, a quarantined address, and the probe execution on a clock that skips waits."""

    def __init__(self, node: NodeHarness) -> None:
        self.node = node
        self.writers = ShardWriters(node.store, node.keys)
        self.environment = WorkflowEnvironment(Registry([ProbeQuarantine]), replays=True)

    async def start(self, prober: Prober) -> TimeSkippingHandle:
        activities = QuarantineActivities(self.node.store, self.node.keys, self.writers, prober)
        registry = Registry(
            [ProbeQuarantine], [activities.check, activities.probe, activities.lift]
        )
        self.environment = WorkflowEnvironment(registry, replays=True)
        (notice,) = required_probes(Projection(await self.node.read_ledger()))
        await self.environment.open()
        handle = await self.environment.start(
            notice.workflow, *notice.arguments, workflow_id=notice.workflow_id
        )
        await self.environment.settle()
        return handle

    async def close(self) -> None:
        await self.environment.close()
        await self.writers.close()

    async def quarantine(self, host: ConflictingHost | None = CONFLICTING_HOST) -> None:
        """Quarantine the address. A quarantine by an operator has no conflicting host."""
        await self.node.apply(QuarantineAddress(ADDRESS, "answered a probe", conflicting_host=host))

    async def is_quarantined(self) -> bool:
        return ADDRESS in (await self.node.read_ledger()).quarantine


@pytest.fixture
async def harness() -> AsyncIterator[ProbeJobHarness]:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.20")._replace(gateway="10.6.0.1"))
        harness = ProbeJobHarness(node)
        yield harness
        await harness.close()
        await check_everything(node)


async def test_three_silent_probes_lift_the_quarantine_and_are_recorded_as_evidence(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    handle = await harness.start(ScriptedProber(SILENT))
    await harness.environment.advance(2 * PAUSE_S)
    assert await harness.is_quarantined()
    assert await handle.result() == ProbeOutcome(returned=True)
    (lifted,) = [
        recorded
        for recorded in await harness.node.log()
        if isinstance(recorded.event, QuarantineLifted)
    ]

    assert lifted.event == QuarantineLifted(ADDRESS, f"silent 3 times, {SILENT.text}")
    assert lifted.cause.actor == "orbweaver-controller/quarantine-probe"


async def test_a_lift_whose_answer_was_lost_is_reported_as_done_by_the_next_attempt(
    harness: ProbeJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = Configurator.apply

    async def apply_and_lose(self: Configurator, command: Command, cause: Cause) -> Applied:
        monkeypatch.undo()
        await apply(self, command, cause)
        raise OutcomeUnknown("the answer was lost")

    await harness.quarantine()
    monkeypatch.setattr(Configurator, "apply", apply_and_lose)
    handle = await harness.start(ScriptedProber(SILENT))

    assert await handle.result() == ProbeOutcome(returned=True)


async def test_the_gateway_of_the_pool_is_the_reference_host_of_a_probe(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    prober = ScriptedProber(SILENT)
    await (await harness.start(prober)).result()

    assert prober.targets[0] == ProbeTarget(ADDRESS, "10.6.0.1")


async def test_an_address_stays_quarantined_while_the_conflicting_host_answers(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    prober = ScriptedProber(ANSWERED)
    handle = await harness.start(prober)
    await harness.environment.advance(7 * 86_400)
    status = await handle.query("status")

    assert await harness.is_quarantined()
    assert isinstance(status, dict)
    assert (status["silent"], status["last"], status["last_mac"]) == (
        0,
        "answered",
        CONFLICTING_HOST.mac,
    )
    first_probes = 10  # while the pauses grow to PAUSE_S_MAX
    assert len(prober.targets) <= 7 * 86_400 / PAUSE_S_MAX + first_probes


async def test_one_answer_between_silent_probes_resets_the_count(harness: ProbeJobHarness) -> None:
    await harness.quarantine()
    prober = ScriptedProber(SILENT, SILENT, ANSWERED, SILENT)
    outcome = await (await harness.start(prober)).result()

    assert outcome == ProbeOutcome(returned=True, answers=1)
    assert len(prober.targets) == 3 + SILENT_PROBES


async def test_a_quarantine_is_not_lifted_if_the_prober_has_no_interface(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    handle = await harness.start(NoProber())
    await harness.environment.advance(2 * SILENT_PROBES * PAUSE_S_MAX)
    status = await handle.query("status")

    assert await harness.is_quarantined()
    assert isinstance(status, dict)
    assert (status["silent"], status["text"]) == (0, NO_PROBER)


async def test_a_quarantine_is_not_lifted_if_every_probe_fails(harness: ProbeJobHarness) -> None:
    class FailingProber:
        async def probe(self, target: ProbeTarget) -> ProbeResult:
            raise StoreUnavailable("the cable is out")

    await harness.quarantine()
    handle = await harness.start(FailingProber())
    await harness.environment.advance(86_400)

    assert await harness.is_quarantined()
    assert await handle.status() is ExecutionStatus.RUNNING


async def test_the_execution_ends_without_a_probe_when_an_operator_lifts_the_quarantine(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    prober = ScriptedProber(SILENT)
    handle = await harness.start(prober)
    await harness.node.apply(LiftQuarantine(ADDRESS, "it was my laptop"))

    assert await handle.result() == ProbeOutcome(returned=False)
    assert prober.targets == []


async def test_an_execution_claims_no_lift_if_an_operator_lifts_first(
    harness: ProbeJobHarness,
) -> None:
    class OvertakenProber(ScriptedProber):
        async def probe(self, target: ProbeTarget) -> ProbeResult:
            result = await super().probe(target)
            if len(self.targets) == SILENT_PROBES:
                await harness.node.apply(LiftQuarantine(ADDRESS, "it was my laptop"))
            return result

    await harness.quarantine()
    handle = await harness.start(OvertakenProber(SILENT))

    assert await handle.result() == ProbeOutcome(returned=False)
    assert not await harness.is_quarantined()


async def test_an_address_that_an_operator_quarantines_again_stays_quarantined(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    handle = await harness.start(ScriptedProber(SILENT))
    await harness.environment.advance(2 * PAUSE_S)
    await harness.quarantine(host=None)

    assert await handle.result() == ProbeOutcome(returned=False)
    assert await harness.is_quarantined()


async def test_the_execution_ends_when_the_address_is_quarantined_again_later(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine()
    handle = await harness.start(ScriptedProber(SILENT))
    await harness.node.apply(LiftQuarantine(ADDRESS))
    await harness.quarantine(CONFLICTING_HOST._replace(seen_ms=CONFLICTING_HOST.seen_ms + 1))
    await handle.signal(CHECK_SIGNAL)

    assert await handle.status() is ExecutionStatus.COMPLETED
    assert await harness.is_quarantined()


async def test_the_signal_probe_now_probes_without_waiting(harness: ProbeJobHarness) -> None:
    await harness.quarantine()
    prober = ScriptedProber(ANSWERED)
    handle = await harness.start(prober)
    await handle.signal(PROBE_NOW)

    assert len(prober.targets) == 1
    assert await handle.status() is ExecutionStatus.RUNNING


async def test_an_address_that_an_operator_quarantined_has_no_probe_execution(
    harness: ProbeJobHarness,
) -> None:
    await harness.quarantine(host=None)

    assert list(required_probes(Projection(await harness.node.read_ledger()))) == []


async def test_continue_as_new_keeps_the_count_of_silent_probes(
    harness: ProbeJobHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.model.limits.HISTORY_EVENTS_SUGGEST", 12)
    await harness.quarantine()
    handle = await harness.start(ScriptedProber(SILENT))

    assert await handle.result() == ProbeOutcome(returned=True)
    assert len(await harness.environment.runs(f"quarantine/{ADDRESS}")) > 1
