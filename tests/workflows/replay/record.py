"""Record histories anew, from the engine: ``python -m tests.workflows.replay.record <version>``.

Each scene runs in the test environment, which is the engine on a store in memory, and its newest
run is written as ``<folder>/<name>-v<version>.json`` beside the ones before. A recorded history
stays for ever; record a new version when the code of a workflow changes behind a patch.
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

from core.allocation import claim_releases
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import ExecutionFailed, StoreUnavailable
from core.eventstore.memory import MemoryStore
from tests.reclaim.scripted import News
from tests.support.nodes import Node, pool
from tests.workflows.external.fake_provider import FakeProvider, Fault
from tests.workflows.external.stage import Scene, town
from tests.workflows.jobs.archiving.test_archiving import Stage as ArchiveStage
from tests.workflows.jobs.quarantine import test_probing_addresses as quarantine
from tests.workflows.jobs.retirement.stage import Stage as RetirementStage
from tests.workflows.jobs.retirement.stage import blue, red
from tests.workflows.jobs.stage import JobStage
from tests.workflows.testing.sample import REGISTRY, Basket, Doubling, Failing, Parent, Poisoned
from tests.workflows.testing.sample import Sleeper as SleeperWorkflow
from workflows.jobs.archive import activities as archive_activities
from workflows.jobs.reclaim.scan import ScanSettings
from workflows.jobs.retirement.retirement_values import RetirementRequest
from workflows.model.codec import to_json
from workflows.testing import TimeSkippingHandle, WorkflowEnvironment

HERE: Final = Path(__file__).parent
CLUSTER: Final = """
    pool main 10.6.0.11-10.6.0.60
    node n1 n3
    pod kube/controller uid=c add=no
"""
Write = Callable[[str, TimeSkippingHandle], Awaitable[None]]


async def samples(write: Write) -> None:
    """The workflows of ``tests/workflows/testing/sample.py``."""
    async with WorkflowEnvironment(REGISTRY) as env:
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
    """The network provider's: bound, given back, not bound."""
    node = await town()
    async with FakeProvider() as provider:
        scene = Scene(provider, node)
        await scene.env.open()
        order = await scene.order(await scene.claim())
        bound = await scene.start(order)
        await bound.result()
        await write("jobs/external-binding", bound)
        given_back = await scene.give_back(order)
        await write("jobs/external-binding-given-back", given_back)
        order = await scene.order(await scene.claim("eth0", "net1"))
        provider.faults.extend([Fault.NONSENSE] * 12)
        not_bound = await scene.start(order)
        await scene.env.advance(60)
        provider.faults.clear()
        with suppress(ExecutionFailed):
            await not_bound.result()
        await write("jobs/external-binding-not-bound", not_bound)
        await scene.close()
    await node.__aexit__(None, None, None)


async def archive(write: Write) -> None:
    """A log that is sealed once, and watched until the execution is cancelled."""
    with (
        patch.object(archive_activities, "needs_sealing", lambda live: live >= 3),
        tempfile.TemporaryDirectory() as directory,
    ):
        async with Node(MemoryStore()) as node:
            stage = ArchiveStage(node, Path(directory))
            await node.apply(*(pool(f"p{n}", f"10.6.{n}.1") for n in range(3)))
            handle = await stage.begin()
            await stage.environment.advance(200)
            await handle.cancel()
            await write("jobs/archive-log", handle)
            await stage.environment.close()


async def quarantines(write: Write) -> None:
    """An address that answers once and then is silent."""
    async with Node(MemoryStore()) as node:
        await node.apply(pool("main", "10.6.0.10-10.6.0.20")._replace(gateway="10.6.0.1"))
        stage = quarantine.Stage(node)
        await stage.aside()
        prober = quarantine.ScriptedProber(
            quarantine.SILENT, quarantine.ANSWERED, quarantine.SILENT
        )
        handle = await stage.begin(prober)
        await handle.signal("look")
        await handle.result()
        await write("jobs/quarantine-probe", handle)
        await stage.close()


async def retirements(write: Write) -> None:
    """Pools and subnets, to the end and cancelled."""

    async def pool_cancelled(stage: RetirementStage) -> TimeSkippingHandle:
        await stage.node.apply(blue())
        await stage.pods("web-0")
        handle = await stage.retire("blue")
        await handle.cancel("changed our minds")
        return handle

    async def pool_overdue(stage: RetirementStage) -> TimeSkippingHandle:
        await stage.node.apply(blue())
        await stage.pods("web-0")
        handle = await stage.retire("blue", RetirementRequest("blue", 90.0, "wait", "orbctl/ann"))
        await stage.environment.advance(200)
        await stage.end("web-0")
        return handle

    async def subnet(stage: RetirementStage) -> TimeSkippingHandle:
        await stage.subnet(blue(), red())
        await stage.pods("web-0")
        handle = await stage.retire_subnet()
        await stage.end("web-0")
        return handle

    async def subnet_cancelled(stage: RetirementStage) -> TimeSkippingHandle:
        await stage.subnet(blue(), red())
        await stage.pods("web-0")
        handle = await stage.retire_subnet()
        await handle.cancel()
        return handle

    for name, play in {
        "pool-retirement-cancelled": pool_cancelled,
        "pool-retirement": pool_overdue,
        "subnet-retirement": subnet,
        "subnet-retirement-cancelled": subnet_cancelled,
    }.items():
        stage = RetirementStage()
        await stage.node.__aenter__()
        await stage.environment.open()
        await write(f"jobs/{name}", await play(stage))
        await stage.close()


async def reclaims(write: Write) -> None:
    """Executions of single Pods, and the scan."""
    await _pod(write, "pod-deleted", "delete pod shop/web-0 how=lost", "1s")
    await _pod(write, "pod-on-a-lost-node", "delete pod shop/web-0 grace=30s", "61s")
    with patch.object(claim_releases, "reclaim", side_effect=StoreUnavailable("etcd is away")):
        await _pod(write, "pod-left-to-the-scan", "delete pod shop/web-0 how=lost", "1m")
    stage = await _job_stage(ReclaimSettings(extra_delay_s=20.0))
    await _play(stage, "delete pod shop/web-0 grace=30s")
    await stage.tick("10s")
    await _play(stage, "delete pod shop/web-0 how=lost")
    await stage.tick("21s")
    await write("reclaims/pod-deleted-while-terminating", _web(stage))
    await stage.close()
    stage = await _job_stage(ReclaimSettings())
    await _play(stage, "delete pod shop/web-0 grace=30s")
    await stage.tick("59s")
    stage.observer = stage.new_observer(ahead_s=1.0)
    await stage.take_settings()
    await stage.tick("12s")
    await write("reclaims/pod-seen-by-another-controller", _web(stage))
    await stage.close()
    await _scan(write)


async def _pod(write: Write, name: str, line: str, wait: str) -> None:
    """One Pod that ends like this."""
    stage = await _job_stage(ReclaimSettings())
    await _play(stage, line)
    await stage.tick(wait)
    await write(f"reclaims/{name}", _web(stage))
    await stage.close()


async def _job_stage(settings: ReclaimSettings) -> JobStage:
    stage = JobStage(settings)
    await stage.script(CLUSTER)
    await stage.script("pod shop/web-0 uid=1 node=n3")
    await stage.prepare()
    return stage


async def _play(stage: JobStage, line: str) -> None:
    last = stage.cluster.pods["shop", "web-0"]
    await stage.script(line)
    there = stage.cluster.pods.get(("shop", "web-0"))
    await stage.tell(News(there or last, deleted=there is None))
    await stage.environment.settle()


def _web(stage: JobStage) -> TimeSkippingHandle:
    return stage.environment.handle("reclaim/shop/web-0/1")


async def _scan(write: Write) -> None:
    stage = JobStage()
    await stage.script(CLUSTER)
    for number in range(3):
        await stage.script(
            f"pod shop/web-{number} uid={number}\ndelete pod shop/web-{number} how=unseen"
        )
    await stage.begin(ScanSettings(60, 1.0, 3))
    await stage.tick("70s")
    await stage.handle.signal("scan-now")
    await stage.tick("5s")
    await stage.handle.signal("orders", ScanSettings(90, 1.0, 3))
    await stage.tick("120s")
    stage.facts.fault = RuntimeError("the API server is away")
    await stage.tick("6m")
    stage.facts.fault = None
    await stage.tick("5m")
    await stage.handle.cancel("enough")
    await write("reclaims/scan", stage.handle)
    await stage.close()


async def record(version: int) -> None:
    """Write all of them."""

    async def write(name: str, handle: TimeSkippingHandle) -> None:
        text = to_json(await handle.history())
        (HERE / f"{name}-v{version}.json").write_text(text, encoding="utf-8")
        if name == "histories/doubling":
            broken = text.replace('"activity_type": "double"', '"activity_type": "treble"', 1)
            (HERE / "histories/non-deterministic.json").write_text(broken, encoding="utf-8")

    for scene in (samples, bindings, archive, quarantines, retirements, reclaims):
        await scene(write)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", type=int)
    asyncio.run(record(parser.parse_args().version))
