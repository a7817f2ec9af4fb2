"""Controllers release the addresses of deleted Pods that got no DEL.

A controller acts on a watch event about the deletion, or on two scans that do not find the Pod in
the API server. ``status["suspects"]`` is the number of endpoints that wait for a second scan.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Final

import pytest

from core.domain.events import AddressesReleased
from core.domain.reclaim.evidence import Moment
from core.domain.request_facts import PodFacts
from core.errors import NotReady
from tests.kubernetes.controllers_harness import NODE_NAME, ControllersHarness, create_node
from tests.kubernetes.workload_objects import (
    PODS_PATH,
    create_pod,
    delete_pod,
    delete_workloads,
    ended_container_status,
    set_status,
)
from tests.support.kubernetes import ApiServer

MANY_PODS: Final = 300
"""Two transactions cannot release all their addresses: a transaction has at most 126 events."""


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server) as harness:
        yield harness
        await harness.stop_and_check()


async def last_release_evidence(controllers: ControllersHarness) -> str:
    events = [recorded.event for recorded in await controllers.node.log()]
    return [event for event in events if isinstance(event, AddressesReleased)][-1].evidence


async def test_a_watch_event_about_a_deleted_pod_releases_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    unrelated_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    await controllers.add(create_pod(server, "web-1", NODE_NAME))

    delete_pod(server, "web-1")

    await controllers.until_claimed(*unrelated_addresses)
    assert "deleted: Pod shop/web-1, UID" in await last_release_evidence(controllers)
    assert "(event," in await last_release_evidence(controllers)


async def test_two_scans_release_an_address_if_no_controller_watched_the_deletion(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    unrelated_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    lost_addresses = await controllers.add(create_pod(server, "web-1", NODE_NAME))
    delete_pod(server, "web-1")
    await controllers.start_controller()

    await controllers.until_scan_status(lambda status: status["suspects"] == 1)
    assert await controllers.claimed_addresses() == {*unrelated_addresses, *lost_addresses}
    await controllers.scan_again()

    await controllers.until_claimed(*unrelated_addresses)
    assert "pod-gone: Pod shop/web-1 is gone" in await last_release_evidence(controllers)
    assert "(listing, seen" in await last_release_evidence(controllers)


async def test_a_new_pod_of_the_same_name_does_not_keep_the_old_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.add(create_pod(server, "web-0", NODE_NAME))
    delete_pod(server, "web-0")
    create_pod(server, "web-0", NODE_NAME)
    await controllers.start_controller()

    await controllers.until_scan_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_claimed()
    assert "uid-changed" in await last_release_evidence(controllers)


async def test_a_pod_that_is_missing_only_in_the_cache_keeps_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.start_controller()
    await controllers.stop_watching("one")
    added_addresses = await controllers.add(create_pod(server, "late", NODE_NAME))
    assert ("shop", "late") not in replica.watch.facts.pods.seen.objects

    for _ in range(3):
        await controllers.scan_again()

    assert await controllers.claimed_addresses() == set(added_addresses)
    assert replica.watch.facts.pods.reads >= 3, "each scan must read the Pod"


async def test_scans_release_addresses_only_after_the_api_server_is_reachable_again(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.start_controller()
    added_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    await controllers.stop_watching("one")
    delete_pod(server, "web-0")
    server.kill()

    for _ in range(3):
        await controllers.scan_again()
    claimed_during_outage = await controllers.claimed_addresses()
    # ADD and DEL work during the outage.
    other = PodFacts("shop", "known", "uid-known")
    added_during_outage = await controllers.node.add(other)
    await controllers.node.delete(other)

    await asyncio.to_thread(server.start)
    controllers.watch_again("one")
    await controllers.until(lambda: not replica.watch.facts.fault)
    await controllers.scan_again()
    await controllers.scan_again()

    assert claimed_during_outage == set(added_addresses)
    assert added_during_outage.endpoint.addresses()
    await controllers.until_claimed()


async def test_a_resumed_watch_reports_a_pod_deleted_during_the_interruption(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.start_controller()
    await controllers.add(create_pod(server, "web-0", NODE_NAME))
    await controllers.stop_watching("one")
    delete_pod(server, "web-0")
    controllers.watch_again("one")

    await controllers.until_claimed()
    assert "(event," in await last_release_evidence(controllers)
    assert replica.watch.facts.pods.seen.lists == 1, "the watch must continue without a new list"


async def test_an_empty_listing_of_pods_releases_nothing(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    added_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    delete_workloads(server)
    replica = await controllers.start_controller()

    for _ in range(3):
        await controllers.scan_again()

    assert not replica.watch.facts.pods.seen.objects
    assert await controllers.claimed_addresses() == set(added_addresses)


async def test_a_controller_without_permission_to_list_pods_releases_nothing(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    added_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    delete_pod(server, "web-0")
    replica = await controllers.start_controller(anonymous=True)

    await controllers.until(lambda: "forbidden" in replica.watch.facts.fault)
    with pytest.raises(NotReady, match="forbidden"):
        await replica.watch.facts.facts(await controllers.node.read_ledger(), Moment(0.0))

    assert await controllers.claimed_addresses() == set(added_addresses)


async def test_a_deleted_namespace_releases_the_addresses_of_its_pods(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    unrelated_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    server.request("POST", "/api/v1/namespaces", {"metadata": {"name": "fair"}})
    for number in range(5):
        await controllers.add(create_pod(server, f"stall-{number}", NODE_NAME, namespace="fair"))

    # In a cluster, the namespace controller and kubelets do this.
    server.request("DELETE", "/api/v1/namespaces/fair")
    server.request("DELETE", "/api/v1/namespaces/fair/pods?gracePeriodSeconds=0")

    await controllers.until_claimed(*unrelated_addresses)
    assert "deleted: Pod fair/stall-" in await last_release_evidence(controllers)


@pytest.mark.slow
async def test_addresses_of_ended_pods_on_known_nodes_are_released_after_the_grace_period(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    create_node(server, "node-down", ready=False)
    await controllers.start_controller()
    living_addresses = await controllers.add(create_pod(server, "living", NODE_NAME))
    for name, node in (
        ("deleted", NODE_NAME),
        ("deleted-on-node-down", "node-down"),
        ("deleted-on-unknown-node", "node-unknown"),
    ):
        added_addresses = await controllers.add(create_pod(server, name, node))
        set_status(server, name, phase="Running", podIP=added_addresses[0])
    for name in ("done", "evicted"):
        await controllers.add(
            create_pod(server, name, NODE_NAME, spec={"terminationGracePeriodSeconds": 0})
        )
    # A deleted Pod on an unknown node may still run, so the address stays.
    on_unknown_node = await controllers.addresses_of_pod("deleted-on-unknown-node")

    for name in ("deleted", "deleted-on-node-down", "deleted-on-unknown-node"):
        server.request("DELETE", f"{PODS_PATH}/{name}?gracePeriodSeconds=1")
    set_status(server, "done", phase="Succeeded", containerStatuses=[ended_container_status()])
    set_status(server, "evicted", phase="Failed", reason="Evicted")
    await controllers.until_executions("deleted", "deleted-on-node-down", "done")
    claimed_before_release = await controllers.claimed_addresses()
    # The containers of the evicted Pod have no end time, so two scans must confirm the end.
    await controllers.until_claimed(
        *living_addresses, *on_unknown_node, *await controllers.addresses_of_pod("evicted")
    )
    for _ in range(2):
        await controllers.scan_again()

    # The living Pod, three deleted Pods and two finished Pods.
    assert len(claimed_before_release) == 6
    await controllers.until_claimed(*living_addresses, *on_unknown_node)


async def test_a_deleted_node_releases_the_addresses_of_its_pods(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    create_node(server, "node-2")
    await controllers.start_controller()
    unrelated_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    for number in range(1, 4):
        await controllers.add(create_pod(server, f"web-{number}", "node-2"))

    # In a cluster, the Pod garbage collector deletes the Pods of a deleted Node.
    server.request("DELETE", "/api/v1/nodes/node-2")
    for number in range(1, 4):
        delete_pod(server, f"web-{number}")

    await controllers.until_claimed(*unrelated_addresses)
    assert "deleted: Pod shop/web-" in await last_release_evidence(controllers)


async def test_two_controllers_that_both_act_as_leader_release_each_address_once(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller("one")
    await controllers.start_controller("two")
    pods = [create_pod(server, f"web-{number}", NODE_NAME) for number in range(20)]
    for pod in pods:
        await controllers.add(pod)

    for number in range(20):
        delete_pod(server, f"web-{number}")

    await controllers.until_claimed()
    released = [
        address
        for recorded in await controllers.node.log()
        if isinstance(recorded.event, AddressesReleased)
        for address in recorded.event.releases
    ]
    assert len(released) == 20


@pytest.mark.slow
async def test_all_addresses_of_many_force_deleted_pods_are_released(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller("one")
    await controllers.start_controller("two", leads=False)
    async with asyncio.TaskGroup() as group:
        for remainder in range(8):
            group.create_task(create_pods(server, controllers, range(remainder, MANY_PODS, 8)))
    assert len(await controllers.claimed_addresses()) == MANY_PODS

    await asyncio.to_thread(delete_workloads, server)

    await controllers.until_claimed(timeout_s=120)


async def create_pods(
    server: ApiServer, controllers: ControllersHarness, numbers: Iterable[int]
) -> None:
    for number in numbers:
        api_pod = await asyncio.to_thread(create_pod, server, f"web-{number}", NODE_NAME)
        await controllers.add(api_pod)
