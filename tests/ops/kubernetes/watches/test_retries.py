"""Failures are retried after a pause, without a limit of time and never in a busy loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

import pytest

from core.errors import ApiExpired, ApiNotFound, ApiUnavailable
from core.kubernetes import informer, work_queue
from core.kubernetes.api import Api, Object, WatchEvent
from core.kubernetes.informer import Informer
from core.kubernetes.work_queue import WorkQueue
from ops.kubernetes.attachments import NETWORKS, Attachments
from ops.kubernetes.coordinators import COORDINATORS, Coordinators
from ops.kubernetes.objects import ObjectWriter
from ops.kubernetes.settings import CoordinatorReconcilerSettings
from tests.kubernetes.objects import coordinator, network
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi
from tests.support.engine_harness import within

A_NIGHT_OF_TRIES = 1_100
PODS = "/api/v1/pods"
TURNS = 200
"""Passes of the event loop: enough to detect a busy loop."""


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def test_an_item_that_failed_a_whole_night_is_still_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    tries = 0
    done = asyncio.Event()

    async def look(_: str) -> None:
        nonlocal tries
        tries += 1
        if tries < A_NIGHT_OF_TRIES:
            raise ApiUnavailable("the API server does not answer")
        done.set()

    work = WorkQueue(look, "items")
    work.add(["one"])
    running = asyncio.ensure_future(work.run())
    waiting = asyncio.ensure_future(done.wait())
    await within(asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED))
    running.cancel()

    assert done.is_set()


async def test_an_item_that_no_code_expected_stops_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    looked: list[str] = []
    done = asyncio.Event()

    async def look(item: str) -> None:
        looked.append(item)
        if item == "odd":
            raise KeyError("spec")
        if looked.count("odd") > 1:
            done.set()
        work.add(["good"])
        await asyncio.sleep(0)

    work = WorkQueue(look, "items")
    work.add(["odd", "good"])
    running = asyncio.ensure_future(work.run())
    await within(done.wait())
    running.cancel()

    assert work.failing["odd"] >= 1
    assert "good" not in work.failing


class Forgetful(ScriptedApi):
    """Every version that it lists has expired when it is watched."""

    async def watch(
        self, path: str, version: str, opened: Callable[[], None]
    ) -> AsyncIterator[WatchEvent]:
        if version:
            raise ApiExpired("too old a version", subject=path)
        yield WatchEvent("BOOKMARK", {})


async def test_versions_that_expire_at_once_are_listed_with_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(informer, "PAUSE_S_MIN", 60.0)
    one = Informer(cast("Api", Forgetful()), PODS)
    running = asyncio.ensure_future(one.run())
    await within(one.listed.wait())
    await turns()
    running.cancel()

    assert one.lists == 1


class WithoutNads(ScriptedApi):
    """Lists a NAD that has been deleted when it is written."""

    merges = 0

    async def merge(self, path: str, body: Mapping[str, object]) -> Object:
        self.merges += 1
        await asyncio.sleep(0)
        raise ApiNotFound(f"there is no {path}")


async def test_a_nad_that_is_gone_is_not_written_in_a_circle() -> None:
    api = WithoutNads()
    named = {"namespace": "shop", "name": "lan"}
    one = network("macvlan", "lan", macvlan={"master": ["ens3"]})
    one["metadata"] |= named | {"uid": "u1"}
    attachments = Attachments(cast("Api", api), ObjectWriter(cast("Api", api), "test"))
    api.put(NETWORKS, one, seen=False)
    api.put(attachments.nads.path, {"metadata": named}, seen=False)
    running = asyncio.ensure_future(attachments.run())
    while not api.merges:
        await asyncio.sleep(0)
    await turns()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert api.merges == 1


class WithEvents(ScriptedApi):
    """Records created Events and NADs."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[Object] = []
        self.told = asyncio.Event()

    async def create(self, path: str, body: Object) -> Object:
        self.created.append(body)
        self.told.set()
        return body


async def test_a_network_with_an_unknown_field_gets_an_event_that_names_it_and_no_nad() -> None:
    """The definition of another version of Spiderpool may accept a field."""
    api = WithEvents()
    one = network("macvlan", "lan", macvlan={"master": ["ens3"], "mastr": ["ens4"]})
    one["metadata"] |= {"namespace": "shop", "name": "lan", "uid": "u1"}
    attachments = Attachments(cast("Api", api), ObjectWriter(cast("Api", api), "test"))
    api.put(NETWORKS, one, seen=False)
    running = asyncio.ensure_future(attachments.run())
    await within(api.told.wait())
    await turns()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    (event,) = api.created
    assert event["kind"] == "Event"
    assert "spec.macvlan.mastr: there is no such field" in event["note"]


class WithoutCidrs(ScriptedApi):
    """No source has CIDRs, and the first writes fail."""

    def __init__(self) -> None:
        super().__init__()
        self.applied = 0
        self.events = 0
        self.told = asyncio.Event()

    async def list(self, path: str) -> Object:
        raise ApiNotFound(f"there is no {path}")

    async def apply(self, path: str, body: Object, manager: str) -> Object:
        self.applied += 1
        if self.applied < 4:
            raise ApiUnavailable("the API server does not answer", subject=path)
        return body

    async def create(self, path: str, body: Object) -> Object:
        self.events += 1
        self.told.set()
        return body


async def test_a_coordinator_is_told_about_once_however_often_its_status_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_queue, "RETRY_S_MIN", 0.0)
    api = WithoutCidrs()
    one = coordinator(podCIDRType="cluster")
    one["metadata"]["uid"] = "u1"
    api.put(COORDINATORS, one, seen=False)
    objects = ObjectWriter(cast("Api", api), "test")
    running = asyncio.ensure_future(
        Coordinators(cast("Api", api), objects, CoordinatorReconcilerSettings()).run()
    )
    await within(api.told.wait())
    while api.applied < 4:
        await asyncio.sleep(0)
    await turns()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert api.events == 1
