"""The facts for reclaim scans stay correct after expired watches, lost events and empty lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from core.domain.fixed.fixed_address_owners import FixedSettings, MissingOwner
from core.domain.reclaim.decision_table import PodToVerify, VerdictContext, judge, judge_deleted
from core.domain.reclaim.evidence import Moment, PodState
from core.domain.reclaim.settings import ReclaimSettings
from core.errors import ApiRejected, NotReady
from core.kubernetes import informer
from core.kubernetes.api_client import Api, Object
from ops.kubernetes.watches import collection, pending_changes
from ops.kubernetes.watches.facts import NODES_PATH, ApiServerFactsSource
from ops.kubernetes.watches.owners import STATEFUL_SETS
from ops.kubernetes.watches.pods import PODS_PATH
from tests.ops.kubernetes.watches.scripted_api import ScriptedApi
from tests.ops.kubernetes.watches.test_absence import endpoint, ledger
from tests.support.engine_harness import within
from workflows.jobs.reclaim.reclaim_context import Change, PodChange, ScanRequest

THREE_ENDPOINTS = [
    endpoint(f"web-{number}", f"u{number}", f"10.6.0.{number}") for number in range(3)
]
CLAIMS_READ_AT = Moment(0.0)


def pod(number: int, **status: Any) -> Object:
    metadata = {"namespace": "shop", "name": f"web-{number}", "uid": f"u{number}"}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": status}


def node(*, ready: bool) -> Object:
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": {"name": "n1"}, "status": {"conditions": [condition]}}


class WatchHarness:
    """The source of facts and changes, which reads a scripted API server."""

    def __init__(self) -> None:
        self.api = ScriptedApi()
        self.facts_source = ApiServerFactsSource(cast("Api", self.api), FixedSettings())
        self.changes = self.facts_source.changes()
        self._work: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._work = asyncio.create_task(self.facts_source.run())
        await within(self.facts_source.listed())

    async def close(self) -> None:
        await self.changes.aclose()  # type: ignore[attr-defined]  # it is a generator
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    async def next_change(self) -> Change:
        return await within(anext(self.changes))

    async def pod(self, number: int, *endpoints: Any) -> PodState | MissingOwner:
        cluster = await self.facts_source.facts(
            ledger(*(endpoints or THREE_ENDPOINTS)), CLAIMS_READ_AT
        )
        return cluster.pod("shop", f"web-{number}")


@pytest.fixture
async def harness(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WatchHarness]:
    monkeypatch.setattr(pending_changes, "SCAN_GAP_S", 0.0)
    harness = WatchHarness()
    for number in range(3):
        harness.api.put(PODS_PATH, pod(number, phase="Running"), watched=False)
    harness.api.put(NODES_PATH, node(ready=True), watched=False)
    first_change = asyncio.create_task(harness.next_change())
    await asyncio.sleep(0)
    await harness.open()
    assert await first_change == ScanRequest("Pods were listed")
    yield harness
    await harness.close()


async def test_a_watched_deletion_is_reported_with_the_last_state_of_the_pod(
    harness: WatchHarness,
) -> None:
    harness.api.objects[PODS_PATH]["shop/web-1"]["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
    }
    harness.api.drop(PODS_PATH, "shop/web-1")

    change = await harness.next_change()

    assert isinstance(change, PodChange)
    assert change.deletion_report == "Pod shop/web-1, UID u1, was deleted"
    assert (change.pod.phase, change.pod.reason) == ("Failed", "Evicted")


async def test_a_pod_that_is_missing_from_a_new_list_requests_a_scan(
    harness: WatchHarness,
) -> None:
    harness.api.drop(PODS_PATH, "shop/web-1", watched=False)
    harness.api.expire(PODS_PATH)

    assert await harness.next_change() == ScanRequest("Pod shop/web-1 is not listed any more")


async def test_a_pod_that_is_replaced_in_a_new_list_requests_a_scan(
    harness: WatchHarness,
) -> None:
    newer_pod = pod(1)
    newer_pod["metadata"]["uid"] = "newer"
    harness.api.put(PODS_PATH, newer_pod, watched=False)
    harness.api.expire(PODS_PATH)

    assert await harness.next_change() == ScanRequest("Pod shop/web-1 is not listed any more")


async def test_a_finished_pod_is_reported_and_a_running_pod_is_not(
    harness: WatchHarness,
) -> None:
    harness.api.put(PODS_PATH, pod(0, phase="Running", podIP="10.6.0.1"))
    harness.api.put(PODS_PATH, pod(1, phase="Succeeded"))

    change = await harness.next_change()

    assert isinstance(change, PodChange)
    assert (change.pod.uid, change.pod.phase, change.deletion_report) == ("u1", "Succeeded", "")


async def test_the_finished_pods_of_a_node_are_reported_when_it_becomes_unready(
    harness: WatchHarness,
) -> None:
    harness.api.put(PODS_PATH, pod(1, phase="Failed"))
    change = await harness.next_change()

    harness.api.put(NODES_PATH, node(ready=False))

    assert await harness.next_change() == change


async def test_a_stateful_set_that_is_scaled_down_requests_a_scan(harness: WatchHarness) -> None:
    stateful_set: Object = {
        "metadata": {"namespace": "shop", "name": "db"},
        "spec": {"replicas": 2},
    }
    harness.api.put(STATEFUL_SETS, stateful_set)
    harness.api.put(STATEFUL_SETS, stateful_set | {"spec": {"replicas": 5}})
    harness.api.put(STATEFUL_SETS, stateful_set | {"spec": {"replicas": 1}})

    assert await harness.next_change() == ScanRequest(
        "StatefulSet shop/db has fewer replicas or is deleted"
    )


async def test_facts_include_a_failure_and_a_deletion_that_the_watch_lost(
    harness: WatchHarness,
) -> None:
    harness.api.drop(PODS_PATH, "shop/web-1", watched=False)
    harness.api.put(PODS_PATH, pod(1, phase="Failed"), watched=False)
    failed = await harness.pod(1, endpoint("web-1", "u1", "10.6.0.1"))
    harness.api.drop(PODS_PATH, "shop/web-1", watched=False)
    missing = await harness.pod(1, endpoint("web-1", "u1", "10.6.0.1"))

    assert isinstance(failed, PodState)
    assert failed.phase == "Failed"
    assert missing == MissingOwner(certain=True, why="Pod shop/web-1 is gone")


async def test_a_node_counts_as_deleted_only_if_the_server_does_not_find_it(
    harness: WatchHarness,
) -> None:
    harness.api.put(NODES_PATH, node(ready=True))

    assert await harness.facts_source.deleted_nodes(["n1", "gone"]) == {"gone"}
    assert "/api/v1/nodes/gone" in harness.api.requests

    harness.api.is_unavailable = True
    assert await harness.facts_source.deleted_nodes(["gone"]) == frozenset()


@pytest.mark.parametrize("reads_max", [200, 0], ids=["one by one", "in one list"])
async def test_replaced_and_missing_pods_are_read_one_by_one_or_in_one_list(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch, reads_max: int
) -> None:
    monkeypatch.setattr(collection, "READS_MAX", reads_max)
    endpoints = [
        endpoint("web-1", "older", "10.6.0.1"),
        endpoint("web-7", "u7", "10.6.0.7"),
        THREE_ENDPOINTS[0],
    ]

    newer_pod = await harness.pod(1, *endpoints)
    missing = await harness.pod(7, *endpoints)

    assert isinstance(newer_pod, PodState)
    assert newer_pod.uid == "u1"
    assert missing == MissingOwner(certain=True, why="Pod shop/web-7 is gone")
    assert ("/api/v1/namespaces/shop/pods/web-7" in harness.api.requests) == bool(reads_max)


async def test_a_missing_pod_is_uncertain_while_the_server_is_unavailable(
    harness: WatchHarness,
) -> None:
    harness.api.is_unavailable = True

    answer = await harness.pod(1, endpoint("web-1", "older", "10.6.0.1"))

    assert isinstance(answer, MissingOwner)
    assert not answer.certain


@pytest.mark.parametrize("emptied_path", [PODS_PATH, NODES_PATH])
async def test_no_pod_counts_as_deleted_while_the_list_of_pods_or_nodes_is_empty(
    harness: WatchHarness, emptied_path: str
) -> None:
    harness.api.objects[emptied_path].clear()
    harness.api.expire(emptied_path)
    while harness.facts_source.pods.seen.objects and harness.facts_source.nodes.seen.objects:
        await asyncio.sleep(0)

    answer = await harness.pod(7, endpoint("web-7", "u7", "10.6.0.7"))

    assert isinstance(answer, MissingOwner)
    assert not answer.certain


async def test_no_pod_counts_as_deleted_if_the_list_that_replaces_many_reads_is_empty(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "READS_MAX", 0)
    harness.api.objects[PODS_PATH].clear()  # the watch does not report the deletions

    answer = await harness.pod(7, endpoint("web-7", "u7", "10.6.0.7"))

    assert isinstance(answer, MissingOwner)
    assert not answer.certain


async def test_facts_are_not_ready_before_the_first_list() -> None:
    harness = WatchHarness()

    with pytest.raises(NotReady):
        await harness.pod(1)


async def test_an_unavailable_server_gets_requests_with_growing_pauses(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    backoff = harness.facts_source.pods.seen._backoff

    async def no_pause() -> None:
        pauses.append(backoff.next_s())
        if len(pauses) == 10:
            harness.api.is_unavailable = False
        await asyncio.sleep(0)

    monkeypatch.setattr(backoff, "wait", no_pause)
    harness.api.is_unavailable = True
    harness.api.break_watch(PODS_PATH)
    while len(pauses) < 10:
        await asyncio.sleep(0)
    harness.api.put(PODS_PATH, pod(1, phase="Failed"))
    await harness.next_change()

    longest = [min(informer.PAUSE_S_MIN * 2**tries, informer.PAUSE_S_MAX) for tries in range(10)]
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, longest, strict=True))
    assert not harness.facts_source.fault


async def test_the_next_watch_waits_for_a_pause_if_the_server_ends_every_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(informer, "PAUSE_S_MIN", 3_600.0)
    api = ScriptedApi()
    watches = 0
    no_changes: list[Any] = []

    async def watch(path: str, version: str, opened: Callable[[], None]) -> AsyncIterator[Any]:
        nonlocal watches
        watches += 1
        await asyncio.sleep(0)
        opened()
        for change in no_changes:
            yield change

    monkeypatch.setattr(api, "watch", watch)
    informer_task = asyncio.create_task(informer.Informer(cast("Api", api), PODS_PATH).run())
    for _ in range(100):
        await asyncio.sleep(0)
    informer_task.cancel()

    assert watches == 1


async def test_a_read_is_unanswered_if_the_server_is_unavailable_but_not_if_it_refuses(
    harness: WatchHarness,
) -> None:
    owners = harness.facts_source.owners
    harness.api.is_unavailable = True
    unavailable = await owners.stateful_sets.read({("shop", "db")})
    harness.api.is_unavailable = False

    async def refuse(path: str) -> Object | None:
        raise ApiRejected("you may not read StatefulSets")

    harness.api.find = refuse  # type: ignore[method-assign]  # the server denies access
    refused = await owners.stateful_sets.read({("shop", "db")})

    for answers, unanswered in ((unavailable, True), (refused, False)):
        answer = answers["shop", "db"]
        assert isinstance(answer, MissingOwner)
        assert (answer.certain, answer.unanswered) == (False, unanswered)


def launcher(name: str) -> Object:
    owner = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1", "name": "vm-a"}
    metadata: Object = {"namespace": "shop", "name": name, "uid": f"uid-{name}"}
    metadata |= {"ownerReferences": [owner | {"uid": "uid-vm-a", "controller": True}]}
    return {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}


@pytest.mark.parametrize("fixed_vms", [True, False], ids=["fixed addresses", "no fixed addresses"])
async def test_an_uncached_launcher_pod_of_a_vm_keeps_its_address(
    harness: WatchHarness,
    fixed_vms: bool,
) -> None:
    harness.facts_source._switches = FixedSettings(vms=fixed_vms)
    harness.api.put(PODS_PATH, launcher("launcher-1"), watched=False)
    vm_endpoint = endpoint("vm-a", "uid-launcher-1", "10.6.0.9", "vm/shop/vm-a")

    facts = await harness.facts_source.facts(ledger(vm_endpoint), CLAIMS_READ_AT)

    verdict = judge(
        PodToVerify("shop", "vm-a", "uid-launcher-1", "vm" if fixed_vms else None, ("10.6.0.9",)),
        VerdictContext(facts, ReclaimSettings(), now_s=0.0),
    )
    assert (verdict.finding, verdict.why) == (None, "its Pod is living")


async def test_a_vm_keeps_its_address_while_its_pods_cannot_be_listed(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(namespace: str) -> list[PodState]:
        raise ApiRejected(f"the Pods of {namespace} may not be listed")

    monkeypatch.setattr(harness.facts_source.pods, "list_namespace", refuse)
    vm_endpoint = endpoint("vm-a", "uid-launcher-1", "10.6.0.9", "vm/shop/vm-a")

    facts = await harness.facts_source.facts(ledger(vm_endpoint), CLAIMS_READ_AT)

    pod_to_verify = PodToVerify("shop", "vm-a", "uid-launcher-1", "vm", ("10.6.0.9",))
    verdict_context = VerdictContext(facts, ReclaimSettings(), now_s=0.0)
    assert judge(pod_to_verify, verdict_context).finding is None
    assert judge_deleted(pod_to_verify, "its Pod was deleted", verdict_context).finding is None
