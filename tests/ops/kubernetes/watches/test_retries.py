"""Failures are retried after a pause and without a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

import pytest

from core.errors import ApiExpired, ApiNotFound, ApiUnavailable
from core.kubernetes import informer, work_queue
from core.kubernetes.api_client import Api, Object, WatchEvent
from core.kubernetes.informer import Informer
from core.kubernetes.work_queue import WorkQueue
from ops.kubernetes.coordinator_status import COORDINATORS_PATH, Coordinators
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.network_attachment_definitions import MULTUS_CONFIGS_PATH, Attachments
from ops.kubernetes.settings import CoordinatorReconcilerSettings
from tests.kubernetes.objects import coordinator, network
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi
from tests.support.engine_harness import within

MANY_TRIES = 1_100
PODS = "/api/v1/pods"
EVENT_LOOP_PASSES = 200
"""Enough to detect a busy loop."""


async def run_event_loop() -> None:
    for _ in range(EVENT_LOOP_PASSES):
        await asyncio.sleep(0)


async def test_an_item_that_failed_many_times_is_still_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    tries = 0
    succeeded = asyncio.Event()

    async def handle(_: str) -> None:
        nonlocal tries
        tries += 1
        if tries < MANY_TRIES:
            raise ApiUnavailable("the API server does not answer")
        succeeded.set()

    work = WorkQueue(handle, "items")
    work.add(["one"])
    work_task = asyncio.ensure_future(work.run())
    waiting = asyncio.ensure_future(succeeded.wait())
    await within(asyncio.wait([work_task, waiting], return_when=asyncio.FIRST_COMPLETED))
    work_task.cancel()

    assert succeeded.is_set()


async def test_an_unexpected_exception_for_an_item_does_not_stop_other_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    handled: list[str] = []
    succeeded = asyncio.Event()

    async def handle(item: str) -> None:
        handled.append(item)
        if item == "odd":
            raise KeyError("spec")
        if handled.count("odd") > 1:
            succeeded.set()
        work.add(["good"])
        await asyncio.sleep(0)

    work = WorkQueue(handle, "items")
    work.add(["odd", "good"])
    work_task = asyncio.ensure_future(work.run())
    await within(succeeded.wait())
    work_task.cancel()

    assert work.failing["odd"] >= 1
    assert "good" not in work.failing


class ExpiringApi(ScriptedApi):
    """An API in which every listed version has expired before a watch begins."""

    async def watch(
        self, path: str, version: str, opened: Callable[[], None]
    ) -> AsyncIterator[WatchEvent]:
        if version:
            raise ApiExpired("too old a version", subject=path)
        yield WatchEvent("BOOKMARK", {})


async def test_the_next_list_waits_for_a_pause_after_an_expired_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(informer, "PAUSE_S_MIN", 60.0)
    pods_informer = Informer(cast("Api", ExpiringApi()), PODS)
    work_task = asyncio.ensure_future(pods_informer.run())
    await within(pods_informer.listed.wait())
    await run_event_loop()
    work_task.cancel()

    assert pods_informer.lists == 1


class ApiWithoutNads(ScriptedApi):
    """An API that lists a NetworkAttachmentDefinition (NAD) and fails every write to it."""

    merges = 0

    async def merge(self, path: str, body: Mapping[str, object]) -> Object:
        self.merges += 1
        await asyncio.sleep(0)
        raise ApiNotFound(f"there is no {path}")


async def test_a_failed_write_to_a_deleted_nad_is_not_repeated_in_a_busy_loop() -> None:
    api = ApiWithoutNads()
    named = {"namespace": "shop", "name": "lan"}
    config = network("macvlan", "lan", macvlan={"master": ["ens3"]})
    config["metadata"] |= named | {"uid": "u1"}
    attachments = Attachments(cast("Api", api), ObjectWriter(cast("Api", api), "test"))
    api.put(MULTUS_CONFIGS_PATH, config, watched=False)
    api.put(attachments.nads.path, {"metadata": named}, watched=False)
    work_task = asyncio.ensure_future(attachments.run())
    while not api.merges:
        await asyncio.sleep(0)
    await run_event_loop()
    work_task.cancel()
    await asyncio.gather(work_task, return_exceptions=True)

    assert api.merges == 1


class ApiWithEvents(ScriptedApi):
    """An API that records created objects: Events and NADs."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[Object] = []
        self.event_created = asyncio.Event()

    async def create(self, path: str, body: Object) -> Object:
        self.created.append(body)
        self.event_created.set()
        return body


async def test_a_network_with_an_unknown_field_gets_an_event_and_no_nad() -> None:
    """The CRD of another version of Spiderpool may accept more fields than Orbweaver."""
    api = ApiWithEvents()
    config = network("macvlan", "lan", macvlan={"master": ["ens3"], "mastr": ["ens4"]})
    config["metadata"] |= {"namespace": "shop", "name": "lan", "uid": "u1"}
    attachments = Attachments(cast("Api", api), ObjectWriter(cast("Api", api), "test"))
    api.put(MULTUS_CONFIGS_PATH, config, watched=False)
    work_task = asyncio.ensure_future(attachments.run())
    await within(api.event_created.wait())
    await run_event_loop()
    work_task.cancel()
    await asyncio.gather(work_task, return_exceptions=True)

    (event,) = api.created
    assert event["kind"] == "Event"
    assert "spec.macvlan.mastr: there is no such field" in event["note"]


class ApiWithoutCidrs(ScriptedApi):
    """An API without CIDRs, in which the first three writes of a status fail."""

    def __init__(self) -> None:
        super().__init__()
        self.applied = 0
        self.events = 0
        self.event_created = asyncio.Event()

    async def list_if_served(self, path: str) -> list[Object]:
        return []

    async def apply(self, path: str, body: Object, manager: str) -> Object:
        self.applied += 1
        if self.applied < 4:
            raise ApiUnavailable("the API server does not answer", subject=path)
        return body

    async def create(self, path: str, body: Object) -> Object:
        self.events += 1
        self.event_created.set()
        return body


async def test_repeated_failures_to_write_a_coordinators_status_create_one_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    api = ApiWithoutCidrs()
    config = coordinator(podCIDRType="cluster")
    config["metadata"]["uid"] = "u1"
    api.put(COORDINATORS_PATH, config, watched=False)
    objects = ObjectWriter(cast("Api", api), "test")
    work_task = asyncio.ensure_future(
        Coordinators(cast("Api", api), objects, CoordinatorReconcilerSettings()).run()
    )
    await within(api.event_created.wait())
    while api.applied < 4:
        await asyncio.sleep(0)
    await run_event_loop()
    work_task.cancel()
    await asyncio.gather(work_task, return_exceptions=True)

    assert api.events == 1
