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
from ops.kubernetes.conditions import DesiredCondition
from ops.kubernetes.coordinator_status import COORDINATORS_PATH, NO_MANAGER, Coordinators
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.network_attachment_definitions import MULTUS_CONFIGS_PATH, Attachments
from ops.kubernetes.pool_status_writer import StatusWriter
from ops.kubernetes.settings import CoordinatorReconcilerSettings
from ops.kubernetes.translated_kinds import TranslatedKind
from tests.kubernetes.objects import coordinator, network, pool
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi
from tests.support.engine_harness import within

MANY_TRIES = 1_100
PODS = "/api/v1/pods"
EVENT_LOOP_PASSES = 200
"""A busy loop repeats its work within these passes."""


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


class ApiWithDeletedNad(ScriptedApi):
    """An API that still lists a deleted NetworkAttachmentDefinition (NAD): writes to it fail."""

    merges = 0

    async def merge(self, path: str, body: Mapping[str, object]) -> Object:
        self.merges += 1
        await asyncio.sleep(0)
        raise ApiNotFound(f"there is no {path}")


async def test_a_failed_write_to_a_deleted_nad_is_not_repeated_in_a_busy_loop() -> None:
    api = ApiWithDeletedNad()
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


class ApiWithCreatedObjects(ScriptedApi):
    """An API that records the objects that a client creates: Events and NADs."""

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
    api = ApiWithCreatedObjects()
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
        self.status_writes = 0
        self.events = 0
        self.event_created = asyncio.Event()

    async def list_if_served(self, path: str) -> list[Object]:
        return []

    async def merge(self, path: str, body: Object, manager: str) -> Object:
        self.status_writes += 1
        if self.status_writes < 4:
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
    while api.status_writes < 4:
        await asyncio.sleep(0)
    await run_event_loop()
    work_task.cancel()
    await asyncio.gather(work_task, return_exceptions=True)

    assert api.events == 1


class ApiWithAFailedEvent(ScriptedApi):
    """An API without CIDRs that stores statuses; creating the first Event fails.

    ``notes``: the notes of the created Events.
    """

    def __init__(self, collection: str, object_: Object) -> None:
        super().__init__()
        object_["metadata"]["uid"] = "u1"
        self._collection = collection
        self._object = object_
        self._tries = 0
        self.notes: list[str] = []
        self.event_created = asyncio.Event()
        self.put(collection, object_, watched=False)

    async def list_if_served(self, path: str) -> list[Object]:
        return []

    async def apply(self, path: str, body: Object, manager: str) -> Object:
        metadata = dict(self._object["metadata"])
        stored = {**self._object, "metadata": metadata, "status": body["status"]}
        self.put(self._collection, stored)
        await run_event_loop()  # the informer gets the new status
        return stored

    merge = apply

    async def create(self, path: str, body: Object) -> Object:
        self._tries += 1
        if self._tries == 1:
            raise ApiUnavailable("the API server does not answer", subject=path)
        self.notes.append(body["note"])
        self.event_created.set()
        return body


async def test_a_failed_event_of_a_coordinator_is_created_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    scripted = ApiWithAFailedEvent(COORDINATORS_PATH, coordinator(podCIDRType="cluster"))
    api = cast("Api", scripted)
    coordinators = Coordinators(api, ObjectWriter(api, "test"), CoordinatorReconcilerSettings())
    work_task = asyncio.ensure_future(coordinators.run())
    await within(scripted.event_created.wait())
    await run_event_loop()
    work_task.cancel()
    await asyncio.gather(work_task, return_exceptions=True)

    (note,) = scripted.notes
    assert NO_MANAGER in note
    assert coordinators.written == 1


async def test_a_failed_event_of_a_refused_pool_is_created_later() -> None:
    kind = TranslatedKind.POOL
    scripted = ApiWithAFailedEvent(kind.collection, pool())
    api = cast("Api", scripted)
    informers = {kind: Informer(api, kind.collection) for kind in TranslatedKind}
    statuses = StatusWriter(api, ObjectWriter(api, "test"), informers)
    informer_task = asyncio.ensure_future(informers[kind].run())
    await within(informers[kind].listed.wait())
    refusal = DesiredCondition("Ready", "False", "PoolOverlap", "the pool overlaps pool red")
    statuses.set_conditions(kind, informers[kind].objects["", "blue"], [refusal])
    with pytest.raises(ApiUnavailable):
        await statuses.write(kind, "blue", None)
    await statuses.write(kind, "blue", None)
    await statuses.write(kind, "blue", None)
    informer_task.cancel()

    assert scripted.notes == [refusal.message]
    assert statuses.writes == 1
