"""Reclaim in a cluster: only answers of the API server release addresses, never missing data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from core.domain.events import AddressesReleased
from core.domain.facts import PodFacts
from core.domain.reclaim.evidence import Moment
from core.errors import NotReady
from tests.kubernetes.controllers_harness import NODE, ControllersHarness, create_node
from tests.kubernetes.workload_objects import (
    PODS,
    create_pod,
    delete_pod,
    delete_workloads,
    ended_container,
    set_status,
)
from tests.support.kubernetes import ApiServer


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server) as one:
        yield one
        await one.check()


async def evidence(controllers: ControllersHarness) -> str:
    """The last release in the log."""
    released = [one.event for one in await controllers.node.log()]
    return [one for one in released if isinstance(one, AddressesReleased)][-1].evidence


async def test_a_pod_that_is_deleted_while_its_del_is_lost_gives_its_address_back(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    kept = await controllers.add(create_pod(server, "web-0", NODE))
    await controllers.add(create_pod(server, "web-1", NODE))

    delete_pod(server, "web-1")

    await controllers.until_held(*kept)
    assert "deleted: Pod shop/web-1, UID" in await evidence(controllers)
    assert "(event," in await evidence(controllers)


async def test_a_pod_that_went_while_nobody_watched_is_found_by_two_looks(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    kept = await controllers.add(create_pod(server, "web-0", NODE))
    lost = await controllers.add(create_pod(server, "web-1", NODE))
    delete_pod(server, "web-1")
    await controllers.begin()

    await controllers.until_status(lambda told: told["suspects"] == 1)
    assert await controllers.held() == {*kept, *lost}
    await controllers.look()

    await controllers.until_held(*kept)
    assert "pod-gone: Pod shop/web-1 is gone" in await evidence(controllers)
    assert "(listing, seen" in await evidence(controllers)


async def test_another_pod_of_the_name_frees_what_the_one_before_it_held(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.add(create_pod(server, "web-0", NODE))
    delete_pod(server, "web-0")
    create_pod(server, "web-0", NODE)
    await controllers.begin()

    await controllers.until_status(lambda told: told["suspects"] == 1)
    await controllers.look()

    await controllers.until_held()
    assert "uid-changed" in await evidence(controllers)


async def test_a_pod_that_no_watch_has_brought_yet_is_asked_for_and_kept(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.begin()
    await controllers.stop_watching("one")
    held = await controllers.add(create_pod(server, "late", NODE))
    assert ("shop", "late") not in replica.watch.facts.pods.seen.objects

    for _ in range(3):
        await controllers.look()

    assert await controllers.held() == set(held)
    assert replica.watch.facts.pods.reads >= 3


async def test_an_api_server_that_is_away_frees_nothing_and_is_made_up_for(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.begin()
    gone = await controllers.add(create_pod(server, "web-0", NODE))
    await controllers.stop_watching("one")
    delete_pod(server, "web-0")
    server.kill()

    for _ in range(3):
        await controllers.look()
    during = await controllers.held()
    # Pods get and release addresses meanwhile.
    other = PodFacts("shop", "known", "uid-known")
    added = await controllers.node.add(other)
    await controllers.node.delete(other)

    server.start()
    controllers.watch_again("one")
    await controllers.until(lambda: not replica.watch.facts.fault)
    await controllers.look()
    await controllers.look()

    assert during == set(gone)
    assert added.endpoint.addresses()
    await controllers.until_held()


async def test_a_watch_that_breaks_loses_no_deletion(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.begin()
    await controllers.add(create_pod(server, "web-0", NODE))
    await controllers.stop_watching("one")
    delete_pod(server, "web-0")
    controllers.watch_again("one")

    await controllers.until_held()
    assert "(event," in await evidence(controllers)
    assert replica.watch.facts.pods.seen.lists == 1


async def test_a_cluster_that_shows_no_pods_at_all_frees_nothing(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    held = await controllers.add(create_pod(server, "web-0", NODE))
    delete_workloads(server)
    replica = await controllers.begin()

    for _ in range(3):
        await controllers.look()

    assert not replica.watch.facts.pods.seen.objects
    assert await controllers.held() == set(held)


async def test_who_may_not_list_pods_frees_nothing(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    held = await controllers.add(create_pod(server, "web-0", NODE))
    delete_pod(server, "web-0")
    replica = await controllers.begin(anonymous=True)

    await controllers.until(lambda: "forbidden" in replica.watch.facts.fault)
    with pytest.raises(NotReady, match="forbidden"):
        await replica.watch.facts.facts(await controllers.node.read_ledger(), Moment(0.0))

    assert await controllers.held() == set(held)


async def test_a_namespace_that_goes_takes_the_addresses_of_its_pods_along(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    kept = await controllers.add(create_pod(server, "web-0", NODE))
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": "fair"}})
    for number in range(5):
        await controllers.add(create_pod(server, f"stall-{number}", NODE, namespace="fair"))

    # The namespace controller deletes the objects, kubelets the Pods; no DEL arrives.
    server.request("DELETE", "/api/v1/namespaces/fair")
    server.request("DELETE", "/api/v1/namespaces/fair/pods?gracePeriodSeconds=0")

    await controllers.until_held(*kept)
    assert "deleted: Pod fair/stall-" in await evidence(controllers)


@pytest.mark.slow
async def test_pods_that_end_without_a_del_give_their_addresses_back_after_their_grace(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    create_node(server, "node-down", ready=False)
    await controllers.begin()
    living = await controllers.add(create_pod(server, "living", NODE))
    for name, node in (("stuck", NODE), ("stranded", "node-down"), ("nowhere", "node-unknown")):
        one = create_pod(server, name, node)
        held = await controllers.add(one)
        set_status(server, name, phase="Running", podIP=held[0])
    for name in ("done", "evicted"):
        await controllers.add(
            create_pod(server, name, NODE, spec={"terminationGracePeriodSeconds": 0})
        )
    nowhere = await controllers.held_by("nowhere")

    for name in ("stuck", "stranded", "nowhere"):
        server.request("DELETE", f"{PODS}/{name}?gracePeriodSeconds=1")
    set_status(server, "done", phase="Succeeded", containerStatuses=[ended_container()])
    set_status(server, "evicted", phase="Failed", reason="Evicted")
    await controllers.until_begun("stuck", "stranded", "done")
    before = await controllers.held()
    # The evicted Pod has no end time of its containers, so two scans are needed.
    await controllers.until_held(*living, *nowhere, *await controllers.held_by("evicted"))
    for _ in range(2):
        await controllers.look()

    assert len(before) == 6
    await controllers.until_held(*living, *nowhere)


async def test_a_node_that_goes_with_its_pods_leaves_nothing_behind(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    create_node(server, "node-2")
    await controllers.begin()
    kept = await controllers.add(create_pod(server, "web-0", NODE))
    for number in range(1, 4):
        await controllers.add(create_pod(server, f"web-{number}", "node-2"))

    # The Pod garbage collector force-deletes Pods of a deleted Node.
    server.request("DELETE", "/api/v1/nodes/node-2")
    for number in range(1, 4):
        delete_pod(server, f"web-{number}")

    await controllers.until_held(*kept)
    assert "deleted: Pod shop/web-" in await evidence(controllers)


async def test_two_that_believe_to_lead_free_everything_once(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin("one")
    await controllers.begin("two")
    pods = [create_pod(server, f"web-{number}", NODE) for number in range(20)]
    for pod in pods:
        await controllers.add(pod)

    for number in range(20):
        delete_pod(server, f"web-{number}")

    await controllers.until_held()
    released = [
        address
        for one in await controllers.node.log()
        if isinstance(one.event, AddressesReleased)
        for address in one.event.releases
    ]
    assert len(released) == 20


@pytest.mark.slow
async def test_a_thousand_pods_deleted_by_force_leave_no_address_behind(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin("one")
    await controllers.begin("two", leads=False)
    async with asyncio.TaskGroup() as group:
        for some in range(8):
            group.create_task(thousandth(server, controllers, range(some, 1_000, 8)))
    assert len(await controllers.held()) == 1_000

    await asyncio.to_thread(delete_workloads, server)

    await controllers.until_held(patience_s=120)


async def thousandth(
    server: ApiServer, controllers: ControllersHarness, numbers: Iterable[int]
) -> None:
    """Some of a thousand Pods, each with an address."""
    for number in numbers:
        one = await asyncio.to_thread(create_pod, server, f"web-{number}", NODE)
        await controllers.add(one)
