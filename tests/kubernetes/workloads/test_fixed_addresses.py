"""Addresses of replicas and VMs in a cluster are kept while their owner needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.kubernetes.controllers_harness import NODE_NAME, ControllersHarness
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    COLLECTION_PATHS,
    create_pod,
    create_set,
    define,
    delete_pod,
    owned_by,
    undefine,
)
from tests.support.kubernetes import MERGE_PATCH, ApiServer

KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/shop"
MACHINES_PATH = f"{KUBEVIRT}/virtualmachines"
INSTANCES_PATH = f"{KUBEVIRT}/virtualmachineinstances"


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server) as harness:
        yield harness
        await harness.check()


@pytest.fixture(scope="module")
def kubevirt(bare_server: ApiServer) -> Iterator[None]:
    """KubeVirt's two kinds, with any fields."""
    define(bare_server, "kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
    define(bare_server, "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances")
    yield
    for plural in ("virtualmachines", "virtualmachineinstances"):
        undefine(bare_server, "kubevirt.io", "v1", plural)


def create_machine(server: ApiServer, name: str) -> Object:
    """Create a VM and its instance; finalizers keep both until a test removes them."""
    held = {"name": name, "finalizers": ["tests/hold"]}
    machine = create_kubevirt_object(server, MACHINES_PATH, "VirtualMachine", held)
    return create_kubevirt_object(
        server, INSTANCES_PATH, "VirtualMachineInstance", held | owned_by(machine)
    )


def create_kubevirt_object(server: ApiServer, path: str, kind: str, metadata: Object) -> Object:
    body = {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": metadata}
    answer = server.request("POST", path, body)
    assert answer.status == 201, answer.message
    return answer.body


def delete_with_finalizers(server: ApiServer, path: str) -> None:
    """Delete an object although it has finalizers, which are removed."""
    server.request("DELETE", path)
    server.request("PATCH", path, {"metadata": {"finalizers": None}}, content=MERGE_PATCH)


async def launch(
    controllers: ControllersHarness, name: str, instance: Object, **metadata: Any
) -> set[str]:
    """Create a launcher of a VM instance and run its ADD; return its addresses."""
    launcher = create_pod(controllers.server, name, NODE_NAME, instance, **metadata)
    return set(await controllers.add(launcher, "vm"))


def resize(server: ApiServer, name: str, **spec: Any) -> None:
    server.request(
        "PATCH", f"{COLLECTION_PATHS['StatefulSet']}/{name}", {"spec": spec}, content=MERGE_PATCH
    )


async def create_replicas(
    controllers: ControllersHarness, owner: Object, count: int
) -> list[tuple[str, ...]]:
    """Create Pods of a StatefulSet and run their ADDs; return the addresses of each Pod."""
    name = owner["metadata"]["name"]
    pods = [
        create_pod(controllers.server, f"{name}-{number}", NODE_NAME, owner)
        for number in range(count)
    ]
    return [await controllers.add(pod, "statefulset") for pod in pods]


async def test_the_addresses_of_a_vm_stay_when_kubevirt_is_not_served(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.start_controller()
    kind = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1"}
    instance = kind | {"metadata": {"name": "a", "uid": "uid-a"}}
    held = await launch(controllers, "launcher-1", instance)
    delete_pod(server, "launcher-1")

    for _ in range(3):
        await controllers.scan_again()

    assert await controllers.held() == held
    assert "has no VirtualMachineInstance" in replica.watch.facts.owners.vmis.fault


async def test_each_new_pod_of_a_replica_gets_the_address_of_the_replica(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_set(server, "StatefulSet", "db", replicas=2)
    held = await create_replicas(controllers, db, 2)
    delete_pod(server, "db-0")
    delete_pod(server, "db-1")
    for _ in range(3):
        await controllers.scan_again()
    held_without_pods = await controllers.held()

    held_again = await create_replicas(controllers, db, 2)

    assert held_without_pods == {address for addresses in held for address in addresses}
    assert held_again == held


async def test_scaling_down_releases_the_addresses_of_surplus_replicas(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_set(server, "StatefulSet", "db", replicas=3)
    first, *_ = await create_replicas(controllers, db, 3)

    resize(server, "db", replicas=1)
    for name in ("db-2", "db-1"):
        delete_pod(server, name)  # and no DEL arrives

    await controllers.until_held(*first)
    assert await controllers.held_by("db-0") == set(first)


async def test_scaling_down_releases_the_addresses_of_replicas_without_pods(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_set(server, "StatefulSet", "db", replicas=2)
    first, _ = await create_replicas(controllers, db, 2)
    delete_pod(server, "db-1")
    await controllers.scan_again()

    resize(server, "db", replicas=1)
    await controllers.until_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_held(*first)
    assert await controllers.held_by("db-0") == set(first)


async def test_a_higher_first_ordinal_releases_the_addresses_of_lower_replicas(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_set(server, "StatefulSet", "db", replicas=2)
    _, second = await create_replicas(controllers, db, 2)

    resize(server, "db", replicas=1, ordinals={"start": 1})
    delete_pod(server, "db-0")

    await controllers.until_held(*second)
    assert await controllers.held_by("db-1") == set(second)


async def test_a_deleted_statefulset_releases_all_its_addresses(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    unrelated = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    db = create_set(server, "StatefulSet", "db", replicas=2)
    await create_replicas(controllers, db, 2)
    delete_pod(server, "db-1")
    await controllers.scan_again()

    server.request("DELETE", f"{COLLECTION_PATHS['StatefulSet']}/db?propagationPolicy=Background")
    delete_pod(server, "db-0")
    await controllers.until_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_held(*unrelated)
    assert await controllers.held_by("web-0") == set(unrelated)


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_keeps_its_address_while_it_stops_and_starts(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    held = await launch(controllers, "launcher-1", create_machine(server, "a"))
    delete_with_finalizers(server, f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-1")
    for _ in range(3):
        await controllers.scan_again()
    stopped = await controllers.held()

    machine = server.request("GET", f"{MACHINES_PATH}/a").body
    metadata = {"name": "a"} | owned_by(machine)
    instance = create_kubevirt_object(server, INSTANCES_PATH, "VirtualMachineInstance", metadata)
    again = await launch(controllers, "launcher-2", instance)
    delete_with_finalizers(server, f"{MACHINES_PATH}/a")
    delete_with_finalizers(server, f"{INSTANCES_PATH}/a")

    assert held == stopped == again


@pytest.mark.usefixtures("kubevirt")
async def test_a_deleted_vm_releases_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    unrelated = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    await launch(controllers, "launcher-1", create_machine(server, "a"))

    delete_with_finalizers(server, f"{MACHINES_PATH}/a")
    delete_with_finalizers(server, f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-1")

    await controllers.until_held(*unrelated)
    assert await controllers.held_by("web-0") == set(unrelated)


@pytest.mark.usefixtures("kubevirt")
async def test_a_deleted_vm_without_a_launcher_releases_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    await launch(controllers, "launcher-1", create_machine(server, "a"))
    delete_with_finalizers(server, f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-1")
    await controllers.scan_again()

    delete_with_finalizers(server, f"{MACHINES_PATH}/a")
    await controllers.until_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_held()
    assert not (await controllers.node.read_ledger()).endpoints


@pytest.mark.usefixtures("kubevirt")
async def test_a_migration_keeps_the_address_when_the_source_launcher_is_deleted(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    instance = create_machine(server, "a")
    before = await launch(controllers, "launcher-1", instance)

    job = {"annotations": {"kubevirt.io/migrationJobName": "job"}}
    after = await launch(controllers, "launcher-2", instance, **job)
    delete_pod(server, "launcher-1")
    for _ in range(3):
        await controllers.scan_again()
    held = await controllers.held()
    delete_with_finalizers(server, f"{MACHINES_PATH}/a")
    delete_with_finalizers(server, f"{INSTANCES_PATH}/a")

    assert before == after == held


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_deleted_during_a_migration_keeps_its_address_until_the_last_launcher_ends(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    instance = create_machine(server, "a")
    held = await launch(controllers, "launcher-1", instance)
    await launch(controllers, "launcher-2", instance)

    delete_with_finalizers(server, f"{MACHINES_PATH}/a")
    server.request("DELETE", f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-2")
    for _ in range(3):
        await controllers.scan_again()
    between = await controllers.held()
    delete_pod(server, "launcher-1")
    delete_with_finalizers(server, f"{INSTANCES_PATH}/a")
    await controllers.until_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    assert between == held
    await controllers.until_held()
