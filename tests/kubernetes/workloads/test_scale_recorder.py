"""A controller's recorder writes an event when an application's number of Pods changes.

An application is a Deployment or another workload. The recorder ignores applications with automatic
pools, and applications whose Pods have no address.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from core.archive.archive_directory import LocalFiles
from core.archive.replay import open_log
from core.audit.history import read_history
from core.audit.history_entries import parse_subject
from core.domain.events import ApplicationScaled
from core.domain.model import Owner
from core.domain.request_facts import PodFacts
from core.errors import LostRace
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.kubernetes.workloads.applications import COLLECTION_NAMES
from core.process.concurrency import until_first
from core.projections.projector import Projector
from ops.kubernetes import scale_recorder
from ops.kubernetes.scale_recorder import ScaleRecorder
from ops.kubernetes.watches import applications
from ops.kubernetes.watches.applications import KubernetesApplications
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.kubernetes.workload_objects import COLLECTION_PATHS, create_workload, delete_workloads
from tests.support.deadlines import until
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import pod, pool

DEPLOYMENT = Owner("Deployment", "web", "shop", "apps/v1")


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_recorder, "RECORD_INTERVAL_S", 0.05)


@pytest.fixture
def shop(server: ApiServer) -> Iterator[ApiServer]:
    for name in ("web", "idle"):
        create_workload(server, "Deployment", name, replicas=2)
    yield server
    delete_workloads(server)


def scale(server: ApiServer, name: str, replicas: int) -> None:
    path = f"{COLLECTION_PATHS['Deployment']}/{name}"
    answer = server.request("PATCH", path, {"spec": {"replicas": replicas}}, content=MERGE_PATCH)
    assert answer.status == 200, answer.message


def pod_of_web(name: str) -> PodFacts:
    return pod(name)._replace(owner=DEPLOYMENT)


def pod_of_idle(name: str) -> PodFacts:
    return pod(name)._replace(owner=DEPLOYMENT._replace(name="idle"))


class Recording(NamedTuple):
    """A recorder, its source of applications, and the task that runs both."""

    recorder: ScaleRecorder
    applications: KubernetesApplications
    task: asyncio.Future[None]

    async def until_two_more_rounds(self) -> None:
        rounds = self.recorder.rounds
        await until(lambda: self.recorder.rounds > rounds + 1)


@asynccontextmanager
async def recording(
    cluster: TranslatorHarness, may_list: asyncio.Event | None = None
) -> AsyncIterator[Recording]:
    """``may_list``: applications are not listed before; None: at once."""

    async def watch() -> None:
        if may_list is not None:
            await may_list.wait()
        await source.run()

    api = Api(await open_connection(str(cluster.server.kubeconfig)))
    projector, source = Projector(cluster.store, cluster.keys), KubernetesApplications(api)
    recorder = ScaleRecorder(cluster.store, cluster.keys, projector, source)
    task = asyncio.ensure_future(until_first(projector.run(), watch(), recorder.run()))
    await until(lambda: recorder.rounds > 0 or task.done())
    try:
        yield Recording(recorder, source, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


async def recorded_sizes(cluster: TranslatorHarness) -> list[tuple[str, int]]:
    """The application's name and its number of Pods in each ApplicationScaled event."""
    return [
        (recorded.event.name, recorded.event.replicas)
        for recorded in await cluster.node.log()
        if isinstance(recorded.event, ApplicationScaled)
    ]


async def until_recorded(cluster: TranslatorHarness, expected: list[tuple[str, int]]) -> None:
    async with asyncio.timeout(30):
        while await recorded_sizes(cluster) != expected:
            await asyncio.sleep(0.05)


async def test_each_change_of_an_application_with_addresses_is_recorded_once(
    shop: ApiServer, tmp_path: Path
) -> None:
    async with TranslatorHarness(shop, translates=False) as cluster:
        await cluster.node.apply(pool("lan", "10.6.0.1-10.6.0.9"))
        async with recording(cluster) as session:
            await asyncio.to_thread(scale, shop, "idle", 3)
            await cluster.node.add(pod_of_web("web-0"))
            await until_recorded(cluster, [("web", 2)])
            await asyncio.to_thread(scale, shop, "web", 5)
            await until_recorded(cluster, [("web", 2), ("web", 5)])
            await session.until_two_more_rounds()
        async with recording(cluster) as session:  # a second recorder
            await session.until_two_more_rounds()
            await cluster.node.delete(pod_of_web("web-0"))
            await asyncio.to_thread(scale, shop, "web", 0)
            await until_recorded(cluster, [("web", 2), ("web", 5), ("web", 0)])

        view = await open_log(cluster.store, cluster.keys, LocalFiles(tmp_path))
        past = await read_history(view, parse_subject("application/shop/web"))
        assert [entry.text for entry in past.entries] == [
            "Deployment shop/web has 2 Pods",
            "Deployment shop/web has 5 Pods",
            "Deployment shop/web has 0 Pods",
        ]


async def test_a_recreated_application_is_recorded_again(
    shop: ApiServer,
) -> None:
    async with TranslatorHarness(shop, translates=False) as cluster:
        await cluster.node.apply(pool("lan", "10.6.0.1-10.6.0.9"))
        async with recording(cluster) as session:
            await cluster.node.add(pod_of_web("web-0"))
            await until_recorded(cluster, [("web", 2)])
            await asyncio.to_thread(delete_workloads, shop)
            await until(lambda: not session.applications.known())
            await session.until_two_more_rounds()
            await asyncio.to_thread(create_workload, shop, "Deployment", "web", replicas=2)
            await until_recorded(cluster, [("web", 2), ("web", 2)])
            assert not session.task.done()


@pytest.mark.parametrize(
    ("new_size", "new_events"), [(2, []), (5, [("web", 5)])], ids=["unchanged", "changed"]
)
async def test_a_late_list_of_applications_records_only_changed_sizes(
    shop: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
    new_size: int,
    new_events: list[tuple[str, int]],
) -> None:
    async with TranslatorHarness(shop, translates=False) as cluster:
        await cluster.node.apply(pool("lan", "10.6.0.1-10.6.0.9"))
        async with recording(cluster):
            await cluster.node.add(pod_of_web("web-0"))
            await until_recorded(cluster, [("web", 2)])
        await cluster.node.add(pod_of_idle("idle-0"))  # has no recorded size

        monkeypatch.setattr(applications, "LISTED_S_MAX", 0.0)
        may_list = asyncio.Event()
        async with recording(cluster, may_list) as session:
            await session.until_two_more_rounds()
            assert not session.applications.known()
            await asyncio.to_thread(scale, shop, "web", new_size)
            may_list.set()
            await until(lambda: session.applications.listed_kinds() == set(COLLECTION_NAMES))
            await session.until_two_more_rounds()

        assert await recorded_sizes(cluster) == [("web", 2), *new_events]


async def test_a_recorder_ends_after_another_recorder_takes_over(
    shop: ApiServer,
) -> None:
    async with TranslatorHarness(shop, translates=False) as cluster:
        await cluster.node.apply(pool("lan", "10.6.0.1-10.6.0.9"))
        await cluster.node.add(pod_of_web("web-0"))
        async with recording(cluster) as former_session, recording(cluster):
            await asyncio.to_thread(scale, shop, "web", 5)
            await until_recorded(cluster, [("web", 5)])
            with pytest.raises(LostRace, match="another controller leads now"):
                await former_session.task
