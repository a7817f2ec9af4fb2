"""Record the histories of all workflows: ``python -m tests.workflows.replay.record <version>``.

The program writes the newest run of each execution to ``<folder>/<name>-v<version>.json``. Do not
change recorded histories; record a new version when a patch changes the code of a workflow.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from unittest.mock import patch

from core.allocation.releaser import Releaser
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import ExecutionFailed, StoreUnavailable
from core.eventstore.memory_store import MemoryStore
from tests.core.domain.reclaim.scripted_cluster import ObservedPod
from tests.support.node_harness import NodeHarness, pool
from tests.workflows.jobs.archive.test_archive import ArchiveJobHarness
from tests.workflows.jobs.node_drain.drain_harness import DrainHarness, ScriptedCluster
from tests.workflows.jobs.provider.binding_harness import BindingHarness, open_node
from tests.workflows.jobs.provider.fake_provider import FakeProvider, Fault
from tests.workflows.jobs.quarantine import test_probe as quarantine
from tests.workflows.jobs.reclaim.reclaim_job_harness import ReclaimJobHarness
from tests.workflows.jobs.retirement.retirement_harness import (
    RetirementHarness,
    blue_pool,
    red_pool,
)
from tests.workflows.testing.sample import (
    SAMPLE_REGISTRY,
    Basket,
    Doubling,
    Failing,
    Parent,
    Poisoned,
)
from tests.workflows.testing.sample import Sleeper as SleeperWorkflow
from workflows.api.definitions import workflow_definition
from workflows.engine.client.schedules import Schedules
from workflows.jobs.archive import activities as archive_activities
from workflows.jobs.archive.prune import PruneArchive
from workflows.jobs.node_drain.drains import DrainSettings
from workflows.jobs.quarantine.probe import CHECK_SIGNAL
from workflows.jobs.reclaim.scan import SCAN_NOW, SETTINGS_SIGNAL, ScanSettings
from workflows.jobs.retirement.retirement_values import RetirementRequest
from workflows.model.history_json import to_json
from workflows.schedules.schedule import (
    OverlapPolicy,
    Schedule,
    ScheduleAction,
    ScheduleInterval,
    SchedulePolicy,
    ScheduleSpec,
)
from workflows.testing import TimeSkippingHandle, WorkflowEnvironment

HERE: Final = Path(__file__).parent
CLUSTER: Final = """
    pool main 10.6.0.11-10.6.0.60
    node n1 n3
    pod kube/controller uid=c add=no
"""
"""A script for ``ReclaimJobHarness``. The Pod with ``add=no`` gets no address."""

Write = Callable[[str, TimeSkippingHandle], Awaitable[None]]
"""Writes the history of an execution to the file ``<name>-v<version>.json``."""


async def samples(write: Write) -> None:
    async with WorkflowEnvironment(SAMPLE_REGISTRY) as env:
        for name, workflow, *args in (
            ("doubling", Doubling, 3, 2),
            ("parent", Parent, 4),
            ("poisoned", Poisoned),
            ("retries", Failing, 3),
        ):
            await env.execute(workflow, *args, workflow_id=name)
            await write(f"histories/{name}", env.handle(name))
        basket = await env.start(Basket, workflow_id="basket")
        await basket.signal("put", "apple")
        await basket.update("take", "apple")
        await basket.signal("close")
        await basket.result()
        await write("histories/basket", basket)
        sleeper = await env.start(SleeperWorkflow, workflow_id="cancelled")
        await sleeper.cancel("enough")
        await write("histories/cancelled", sleeper)


async def bindings(write: Write) -> None:
    node = await open_node()
    async with FakeProvider() as provider:
        harness = BindingHarness(provider, node)
        await harness.env.open()
        request = await harness.binding_request(await harness.claim())
        bound = await harness.start(request)
        await bound.result()
        await write("jobs/external-binding", bound)
        given_back = await harness.request_release(request)
        await write("jobs/external-binding-given-back", given_back)
        request = await harness.binding_request(await harness.claim("eth0", "net1"))
        provider.faults.extend([Fault.NONSENSE] * 12)  # more faults than requests
        not_bound = await harness.start(request)
        await harness.env.advance(60)
        provider.faults.clear()
        with suppress(ExecutionFailed):
            await not_bound.result()
        await write("jobs/external-binding-not-bound", not_bound)
        await harness.close()
    await node.__aexit__(None, None, None)


async def archive(write: Write) -> None:
    with (
        patch.object(archive_activities, "needs_sealing", lambda live: live >= 3),
        tempfile.TemporaryDirectory() as directory,
    ):
        async with NodeHarness(MemoryStore()) as node:
            harness = ArchiveJobHarness(node, Path(directory))
            await node.apply(*(pool(f"p{n}", f"10.6.{n}.1") for n in range(3)))
            handle = await harness.start()
            await harness.environment.advance(200)
            await handle.cancel()
            await write("jobs/archive-log", handle)
            await harness.environment.execute(PruneArchive, workflow_id="prune")
            await write("jobs/archive-prune", harness.environment.handle("prune"))
            await harness.environment.close()


async def schedules(write: Write) -> None:
    async with WorkflowEnvironment(SAMPLE_REGISTRY) as env:
        action = ScheduleAction(workflow_definition(SleeperWorkflow).name)
        hourly = ScheduleSpec((ScheduleInterval(3_600),), jitter_s=60)
        policy = SchedulePolicy(OverlapPolicy.CANCEL_OTHER)
        schedules = Schedules(env.client)
        handle = await schedules.create("nightly", Schedule(action, hourly, policy))
        await env.advance(3 * 3_600)
        await handle.pause("enough")
        await handle.trigger()
        await env.advance(3_600)
        await handle.replace(Schedule(action, ScheduleSpec(cron=("0 3 * * *",))))
        await handle.unpause()
        await env.advance(86_400)
        await handle.delete()
        await env.settle()
        await write("histories/scheduler", env.handle("schedule/nightly"))


async def drains(write: Write) -> None:
    cluster = ScriptedCluster(a=["shop/a", "shop/firm"], b=["shop/b"])
    cluster.not_evictable = {"shop/firm"}
    harness = DrainHarness(cluster)
    handle = await harness.start()
    await harness.environment.advance(30)
    cluster.not_evictable = set()
    await handle.signal("settings", DrainSettings(2))
    await harness.environment.advance(60)
    await handle.cancel("enough")
    await write("jobs/sriov-drains", handle)
    await harness.environment.close()


async def quarantines(write: Write) -> None:
    async with NodeHarness(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.20")._replace(gateway="10.6.0.1"))
        harness = quarantine.ProbeJobHarness(node)
        await harness.quarantine()
        prober = quarantine.ScriptedProber(
            quarantine.SILENT, quarantine.ANSWERED, quarantine.SILENT
        )
        handle = await harness.start(prober)
        await handle.signal(CHECK_SIGNAL)
        await handle.result()
        await write("jobs/quarantine-probe", handle)
        await harness.close()


async def retirements(write: Write) -> None:
    async def pool_cancelled(harness: RetirementHarness) -> TimeSkippingHandle:
        await harness.node.apply(blue_pool())
        await harness.add_pods("web-0")
        handle = await harness.retire("blue")
        await handle.cancel("changed our minds")
        return handle

    async def pool_overdue(harness: RetirementHarness) -> TimeSkippingHandle:
        await harness.node.apply(blue_pool())
        await harness.add_pods("web-0")
        request = RetirementRequest(
            "blue", deadline_s=90.0, at_deadline="wait", ordered_by="orbctl/ann"
        )
        handle = await harness.retire("blue", request)
        await harness.environment.advance(200)
        await harness.delete_pods("web-0")
        return handle

    async def subnet(harness: RetirementHarness) -> TimeSkippingHandle:
        await harness.create_subnet(blue_pool(), red_pool())
        await harness.add_pods("web-0")
        handle = await harness.retire_subnet()
        await harness.delete_pods("web-0")
        return handle

    async def subnet_cancelled(harness: RetirementHarness) -> TimeSkippingHandle:
        await harness.create_subnet(blue_pool(), red_pool())
        await harness.add_pods("web-0")
        handle = await harness.retire_subnet()
        await handle.cancel()
        return handle

    for name, play in {
        "pool-retirement-cancelled": pool_cancelled,
        "pool-retirement": pool_overdue,
        "subnet-retirement": subnet,
        "subnet-retirement-cancelled": subnet_cancelled,
    }.items():
        harness = RetirementHarness()
        await harness.node.__aenter__()
        await harness.environment.open()
        await write(f"jobs/{name}", await play(harness))
        await harness.close()


async def reclaims(write: Write) -> None:
    await _record_pod(write, "pod-deleted", "delete pod shop/web-0 how=lost", "1s")
    await _record_pod(write, "pod-on-a-lost-node", "delete pod shop/web-0 grace=30s", "61s")
    with patch.object(Releaser, "reclaim", side_effect=StoreUnavailable("etcd is away")):
        await _record_pod(write, "pod-left-to-the-scan", "delete pod shop/web-0 how=lost", "1m")
    harness = await _reclaim_harness(ReclaimSettings(extra_delay_s=20.0))
    await _change_pod(harness, "delete pod shop/web-0 grace=30s")
    await harness.tick("10s")
    await _change_pod(harness, "delete pod shop/web-0 how=lost")
    await harness.tick("21s")
    await write("reclaims/pod-deleted-while-terminating", _execution_of_the_pod(harness))
    await harness.close()
    harness = await _reclaim_harness(ReclaimSettings())
    await _change_pod(harness, "delete pod shop/web-0 grace=30s")
    await harness.tick("59s")
    harness.observer = harness.new_observer(ahead_s=1.0)
    await harness.take_settings()
    await harness.tick("12s")
    await write("reclaims/pod-seen-by-another-controller", _execution_of_the_pod(harness))
    await harness.close()
    await _record_scan(write)


async def _record_pod(write: Write, name: str, line: str, wait: str) -> None:
    harness = await _reclaim_harness(ReclaimSettings())
    await _change_pod(harness, line)
    await harness.tick(wait)
    await write(f"reclaims/{name}", _execution_of_the_pod(harness))
    await harness.close()


async def _reclaim_harness(settings: ReclaimSettings) -> ReclaimJobHarness:
    harness = ReclaimJobHarness(settings)
    await harness.script(CLUSTER)
    await harness.script("pod shop/web-0 uid=1 node=n3")
    await harness.prepare()
    return harness


async def _change_pod(harness: ReclaimJobHarness, line: str) -> None:
    last = harness.cluster.pods["shop", "web-0"]
    await harness.script(line)
    current = harness.cluster.pods.get(("shop", "web-0"))
    await harness.report(ObservedPod(current or last, deleted=current is None))
    await harness.environment.settle()


def _execution_of_the_pod(harness: ReclaimJobHarness) -> TimeSkippingHandle:
    return harness.environment.handle("reclaim/shop/web-0/1")


async def _record_scan(write: Write) -> None:
    harness = ReclaimJobHarness()
    await harness.script(CLUSTER)
    for number in range(3):
        await harness.script(
            f"pod shop/web-{number} uid={number}\ndelete pod shop/web-{number} how=unseen"
        )
    await harness.start_scan(ScanSettings(interval_s=60))
    await harness.tick("70s")
    await harness.handle.signal(SCAN_NOW)
    await harness.tick("5s")
    await harness.handle.signal(SETTINGS_SIGNAL, ScanSettings(interval_s=90))
    await harness.tick("120s")
    harness.facts.fault = RuntimeError("the API server is away")
    await harness.tick("6m")
    harness.facts.fault = None
    await harness.tick("5m")
    await harness.handle.cancel("enough")
    await write("reclaims/scan", harness.handle)
    await harness.close()


async def record(version: int) -> None:
    async def write(name: str, handle: TimeSkippingHandle) -> None:
        text = to_json(await handle.history())
        (HERE / f"{name}-v{version}.json").write_text(text, encoding="utf-8")
        if name == "histories/doubling":
            broken = text.replace('"activity_type": "double"', '"activity_type": "treble"', 1)
            (HERE / "histories/non-deterministic.json").write_text(broken, encoding="utf-8")

    recordings = (samples, bindings, archive, schedules, drains, quarantines, retirements, reclaims)
    for recording in recordings:
        await recording(write)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", type=int)
    asyncio.run(record(parser.parse_args().version))
