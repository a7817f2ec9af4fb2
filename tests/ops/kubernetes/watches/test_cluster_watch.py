"""Expired watches, lost events and empty lists are verified by requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from core.domain.fixed.owners import FixedSettings, MissingOwner
from core.domain.reclaim.cluster import PodState
from core.domain.reclaim.decision_table import PodToVerify, Rules, judge, judge_deleted
from core.domain.reclaim.evidence import Moment
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import ApiRejected, NotReady
from core.kubernetes import informer
from core.kubernetes.api import Api, Object
from ops.kubernetes.watches import collection, pending_changes
from ops.kubernetes.watches.facts import NODES, ApiServerFacts
from ops.kubernetes.watches.owners import STATEFUL_SETS
from ops.kubernetes.watches.pods import PODS
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi
from tests.ops.kubernetes.watches.test_absence import endpoint, ledger
from tests.support.engine_harness import within
from workflows.jobs.reclaim.context import Change, PodChange, ScanRequest

THREE = [endpoint(f"web-{number}", f"u{number}", f"10.6.0.{number}") for number in range(3)]
CLAIMS_READ = Moment(0.0)


def pod(number: int, **status: Any) -> Object:
    metadata = {"namespace": "shop", "name": f"web-{number}", "uid": f"u{number}"}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status}


def node(*, ready: bool) -> Object:
    said = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": "n1"}, "status": {"conditions": [said]}}


class WatchHarness:
    """A source on a scripted server, after its first lists."""

    def __init__(self) -> None:
        self.api = ScriptedApi()
        self.facts = ApiServerFacts(cast("Api", self.api), FixedSettings())
        self.changes = self.facts.changes()
        self._work: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._work = asyncio.create_task(self.facts.run())
        await within(self.facts.listed())

    async def close(self) -> None:
        await self.changes.aclose()  # type: ignore[attr-defined]  # it is a generator
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def told(self) -> Change:
        return await within(anext(self.changes))

    async def pod(self, number: int, *endpoints: Any) -> PodState | MissingOwner:
        found = await self.facts.facts(ledger(*(endpoints or THREE)), CLAIMS_READ)
        return found.pod("shop", f"web-{number}")


@pytest.fixture
async def harness(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WatchHarness]:
    monkeypatch.setattr(pending_changes, "SCAN_GAP_S", 0.0)
    one = WatchHarness()
    for number in range(3):
        one.api.put(PODS, pod(number, phase="Running"), seen=False)
    one.api.put(NODES, node(ready=True), seen=False)
    listening = asyncio.create_task(one.told())
    await asyncio.sleep(0)
    await one.open()
    assert await listening == ScanRequest("Pods were listed")
    yield one
    await one.close()


async def test_a_deletion_that_a_watch_brings_is_told_with_the_last_state(
    harness: WatchHarness,
) -> None:
    harness.api.objects[PODS]["shop/web-1"]["status"] = {"phase": "Failed", "reason": "Evicted"}
    harness.api.drop(PODS, "shop/web-1")

    change = await harness.told()

    assert isinstance(change, PodChange)
    assert change.deletion_report == "Pod shop/web-1, UID u1, was deleted"
    assert (change.pod.phase, change.pod.reason) == ("Failed", "Evicted")


async def test_a_pod_that_a_new_list_shows_no_more_is_told_as_no_deletion(
    harness: WatchHarness,
) -> None:
    harness.api.drop(PODS, "shop/web-1", seen=False)
    harness.api.expire(PODS)

    assert await harness.told() == ScanRequest("Pod shop/web-1 is not listed any more")


async def test_a_pod_that_came_in_the_place_of_another_is_told_as_no_deletion(
    harness: WatchHarness,
) -> None:
    other = pod(1)
    other["metadata"]["uid"] = "newer"
    harness.api.put(PODS, other, seen=False)
    harness.api.expire(PODS)

    assert await harness.told() == ScanRequest("Pod shop/web-1 is not listed any more")


async def test_living_pods_are_no_news_and_ending_ones_are(harness: WatchHarness) -> None:
    harness.api.put(PODS, pod(0, phase="Running", podIP="10.6.0.1"))
    harness.api.put(PODS, pod(1, phase="Succeeded"))

    change = await harness.told()

    assert isinstance(change, PodChange)
    assert (change.pod.uid, change.pod.phase, change.deletion_report) == ("u1", "Succeeded", "")


async def test_a_node_that_turns_is_told_as_a_change_of_what_ends_on_it(
    harness: WatchHarness,
) -> None:
    harness.api.put(PODS, pod(1, phase="Failed"))
    first = await harness.told()

    harness.api.put(NODES, node(ready=False))

    assert await harness.told() == first


async def test_a_set_that_wants_less_asks_for_a_look(harness: WatchHarness) -> None:
    said: Object = {"metadata": {"namespace": "shop", "name": "db"}, "spec": {"replicas": 2}}
    harness.api.put(STATEFUL_SETS, said)
    harness.api.put(STATEFUL_SETS, said | {"spec": {"replicas": 5}})
    harness.api.put(STATEFUL_SETS, said | {"spec": {"replicas": 1}})

    assert await harness.told() == ScanRequest("StatefulSet shop/db has fewer replicas")


async def test_a_deletion_that_was_lost_is_found_by_asking(harness: WatchHarness) -> None:
    harness.api.drop(PODS, "shop/web-1", seen=False)
    harness.api.put(PODS, pod(1, phase="Failed"), seen=False)
    ending = await harness.pod(1, endpoint("web-1", "u1", "10.6.0.1"))
    harness.api.drop(PODS, "shop/web-1", seen=False)
    gone = await harness.pod(1, endpoint("web-1", "u1", "10.6.0.1"))

    assert isinstance(ending, PodState)
    assert ending.phase == "Failed"
    assert gone == MissingOwner(certain=True, why="Pod shop/web-1 is gone")


async def test_a_deleted_node_is_one_that_neither_the_watch_nor_the_server_has(
    harness: WatchHarness,
) -> None:
    harness.api.put(NODES, node(ready=True))

    assert await harness.facts.deleted_nodes(["n1", "gone"]) == {"gone"}
    assert "/api/v1/nodes/gone" in harness.api.asked

    harness.api.away = True
    assert await harness.facts.deleted_nodes(["gone"]) == frozenset()


@pytest.mark.parametrize("reads_max", [200, 0], ids=["one by one", "in one list"])
async def test_what_is_not_clear_is_asked_however_much_it_is(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch, reads_max: int
) -> None:
    monkeypatch.setattr(collection, "READS_MAX", reads_max)
    older = [endpoint("web-1", "older", "10.6.0.1"), endpoint("web-7", "u7", "10.6.0.7"), THREE[0]]

    another = await harness.pod(1, *older)
    gone = await harness.pod(7, *older)

    assert isinstance(another, PodState)
    assert another.uid == "u1"
    assert gone == MissingOwner(certain=True, why="Pod shop/web-7 is gone")
    assert ("/api/v1/namespaces/shop/pods/web-7" in harness.api.asked) == bool(reads_max)


async def test_while_the_server_is_away_nobody_can_tell(harness: WatchHarness) -> None:
    harness.api.away = True

    found = await harness.pod(1, endpoint("web-1", "older", "10.6.0.1"))

    assert isinstance(found, MissingOwner)
    assert not found.certain


@pytest.mark.parametrize("collection_", [PODS, NODES])
async def test_a_server_that_shows_nothing_at_all_proves_nothing(
    harness: WatchHarness, collection_: str
) -> None:
    harness.api.objects[collection_].clear()
    harness.api.expire(collection_)
    while harness.facts.pods.seen.objects and harness.facts.nodes.seen.objects:
        await asyncio.sleep(0)

    found = await harness.pod(7, endpoint("web-7", "u7", "10.6.0.7"))

    assert isinstance(found, MissingOwner)
    assert not found.certain


async def test_an_empty_answer_to_many_questions_proves_nothing(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "READS_MAX", 0)
    harness.api.objects[PODS].clear()  # and the watch does not report it

    found = await harness.pod(7, endpoint("web-7", "u7", "10.6.0.7"))

    assert isinstance(found, MissingOwner)
    assert not found.certain


async def test_before_anything_was_listed_nobody_answers() -> None:
    harness = WatchHarness()

    with pytest.raises(NotReady):
        await harness.pod(1)


async def test_a_server_that_is_away_is_asked_less_and_less_often(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    backoff = harness.facts.pods.seen._backoff

    async def no_pause() -> None:
        pauses.append(backoff.next_s())
        if len(pauses) == 10:
            harness.api.away = False
        await asyncio.sleep(0)

    monkeypatch.setattr(backoff, "wait", no_pause)
    harness.api.away = True
    harness.api.hang_up(PODS)
    while len(pauses) < 10:
        await asyncio.sleep(0)
    harness.api.put(PODS, pod(1, phase="Failed"))
    await harness.told()

    longest = [min(informer.PAUSE_S_MIN * 2**tries, informer.PAUSE_S_MAX) for tries in range(10)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, longest, strict=True))
    assert not harness.facts.fault


async def test_a_server_that_ends_every_watch_at_once_is_not_asked_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(informer, "PAUSE_S_MIN", 3_600.0)
    api = ScriptedApi()
    watches = 0
    changes: list[Any] = []

    async def watch(path: str, version: str, opened: Callable[[], None]) -> AsyncIterator[Any]:
        nonlocal watches
        watches += 1
        await asyncio.sleep(0)
        opened()
        for change in changes:
            yield change

    monkeypatch.setattr(api, "watch", watch)
    following = asyncio.create_task(informer.Informer(cast("Api", api), PODS).run())
    for _ in range(100):
        await asyncio.sleep(0)
    following.cancel()

    assert watches == 1


async def test_who_does_not_answer_may_answer_later_and_who_refuses_may_not(
    harness: WatchHarness,
) -> None:
    owners = harness.facts.owners
    harness.api.away = True
    away = await owners.sets.read({("shop", "db")})
    harness.api.away = False

    async def refuse(path: str) -> Object | None:
        raise ApiRejected("you may not read StatefulSets")

    harness.api.find = refuse  # type: ignore[method-assign]  # a server without rights for us
    refused = await owners.sets.read({("shop", "db")})

    for answers, unanswered in ((away, True), (refused, False)):
        found = answers["shop", "db"]
        assert isinstance(found, MissingOwner)
        assert (found.certain, found.unanswered) == (False, unanswered)


def launcher(name: str) -> Object:
    owner = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1", "name": "vm-a"}
    metadata: Object = {"namespace": "shop", "name": name, "uid": f"uid-{name}"}
    metadata |= {"ownerReferences": [owner | {"uid": "uid-vm-a", "controller": True}]}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}


@pytest.mark.parametrize("vms", [True, False], ids=["fixed", "switched off"])
async def test_a_vms_launcher_that_no_watch_has_brought_keeps_its_address(
    harness: WatchHarness,
    vms: bool,  # a parameter of the test
) -> None:
    harness.facts._switches = FixedSettings(vms=vms)
    harness.api.put(PODS, launcher("launcher-1"), seen=False)
    held = endpoint("vm-a", "uid-launcher-1", "10.6.0.9", "vm/shop/vm-a")

    found = await harness.facts.facts(ledger(held), CLAIMS_READ)

    verdict = judge(
        PodToVerify("shop", "vm-a", "uid-launcher-1", "vm" if vms else None, ("10.6.0.9",)),
        Rules(found, ReclaimSettings(), 0.0),
    )
    assert (verdict.finding, verdict.why) == (None, "its Pod is living")


async def test_while_the_pods_of_a_vm_cannot_be_listed_its_address_stays(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(namespace: str) -> list[PodState]:
        raise ApiRejected(f"the Pods of {namespace} may not be listed")

    monkeypatch.setattr(harness.facts.pods, "list_namespace", refuse)
    held = endpoint("vm-a", "uid-launcher-1", "10.6.0.9", "vm/shop/vm-a")

    found = await harness.facts.facts(ledger(held), CLAIMS_READ)

    suspect = PodToVerify("shop", "vm-a", "uid-launcher-1", "vm", ("10.6.0.9",))
    rules = Rules(found, ReclaimSettings(), 0.0)
    assert judge(suspect, rules).finding is None
    assert judge_deleted(suspect, "its Pod was deleted", rules).finding is None
