"""Controllers keep the addresses of StatefulSet replicas and VMs while the owner needs them.

An owner is a StatefulSet or a VM of KubeVirt. A launcher is the Pod in which a VM runs. No DEL
arrives in these tests. ``status["suspects"]`` is the number of endpoints that wait for a second
scan.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.kubernetes.controllers_harness import NODE_NAME, ControllersHarness
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    COLLECTION_PATHS,
    create_pod,
    create_workload,
    define_kind,
    delete_pod,
    owned_by,
    undefine_kind,
)
from tests.support.kubernetes import MERGE_PATCH, ApiServer

KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/shop"
MACHINES_PATH = f"{KUBEVIRT}/virtualmachines"
INSTANCES_PATH = f"{KUBEVIRT}/virtualmachineinstances"


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server) as harness:
        yield harness
        await harness.stop_and_check()


@pytest.fixture(scope="module")
def kubevirt(bare_server: ApiServer) -> Iterator[None]:
    define_kind(bare_server, "kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
    define_kind(
        bare_server, "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances"
    )
    yield
    for plural in ("virtualmachines", "virtualmachineinstances"):
        undefine_kind(bare_server, "kubevirt.io", "v1", plural)


def create_machine(server: ApiServer, name: str) -> Object:
    """Create a VM and its instance, both with a finalizer; return the instance."""
    metadata = {"name": name, "finalizers": ["tests/hold"]}
    machine = create_kubevirt_object(server, MACHINES_PATH, "VirtualMachine", metadata)
    return create_kubevirt_object(
        server, INSTANCES_PATH, "VirtualMachineInstance", metadata | owned_by(machine)
    )


def create_kubevirt_object(server: ApiServer, path: str, kind: str, metadata: Object) -> Object:
    body = {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": metadata}
    answer = server.request("POST", path, body)
    assert answer.status == 201, answer.message
    return answer.body


def delete_and_remove_finalizers(server: ApiServer, path: str) -> None:
    server.request("DELETE", path)
    server.request("PATCH", path, {"metadata": {"finalizers": None}}, content=MERGE_PATCH)


async def add_launcher(
    controllers: ControllersHarness, name: str, instance: Object, **metadata: Any
) -> set[str]:
    launcher = create_pod(controllers.server, name, NODE_NAME, instance, **metadata)
    return set(await controllers.add(launcher, "vm"))


def patch_statefulset(server: ApiServer, name: str, **spec: Any) -> None:
    server.request(
        "PATCH", f"{COLLECTION_PATHS['StatefulSet']}/{name}", {"spec": spec}, content=MERGE_PATCH
    )


async def create_replicas(
    controllers: ControllersHarness, owner: Object, count: int
) -> list[tuple[str, ...]]:
    """Create Pods of a StatefulSet and run the ADDs; return the addresses of each Pod."""
    name = owner["metadata"]["name"]
    pods = [
        create_pod(controllers.server, f"{name}-{number}", NODE_NAME, owner)
        for number in range(count)
    ]
    return [await controllers.add(pod, "statefulset") for pod in pods]


async def test_a_vm_keeps_its_address_if_the_api_server_does_not_serve_kubevirt(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.start_controller()
    kind = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1"}
    instance = kind | {"metadata": {"name": "a", "uid": "uid-a"}}
    added_addresses = await add_launcher(controllers, "launcher-1", instance)
    delete_pod(server, "launcher-1")

    for _ in range(3):
        await controllers.scan_again()

    assert await controllers.claimed_addresses() == added_addresses
    assert "does not serve VirtualMachineInstance" in replica.watch.facts.owners.vmis.fault


async def test_each_new_pod_of_a_replica_gets_the_address_of_the_replica(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_workload(server, "StatefulSet", "db", replicas=2)
    added_addresses = await create_replicas(controllers, db, 2)
    delete_pod(server, "db-0")
    delete_pod(server, "db-1")
    for _ in range(3):
        await controllers.scan_again()
    claimed_without_pods = await controllers.claimed_addresses()

    added_again = await create_replicas(controllers, db, 2)

    assert claimed_without_pods == {
        address for addresses in added_addresses for address in addresses
    }
    assert added_again == added_addresses


async def test_scaling_down_releases_the_addresses_of_surplus_replicas(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_workload(server, "StatefulSet", "db", replicas=3)
    first, *_ = await create_replicas(controllers, db, 3)

    patch_statefulset(server, "db", replicas=1)
    for name in ("db-2", "db-1"):
        delete_pod(server, name)

    await controllers.until_claimed(*first)
    assert await controllers.addresses_of_pod("db-0") == set(first)


async def test_scaling_down_releases_the_addresses_of_replicas_without_pods(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_workload(server, "StatefulSet", "db", replicas=2)
    first, _ = await create_replicas(controllers, db, 2)
    delete_pod(server, "db-1")
    await controllers.scan_again()

    patch_statefulset(server, "db", replicas=1)
    await controllers.until_scan_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_claimed(*first)
    assert await controllers.addresses_of_pod("db-0") == set(first)


async def test_raising_the_first_ordinal_releases_addresses_of_lower_replicas(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    db = create_workload(server, "StatefulSet", "db", replicas=2)
    _, second = await create_replicas(controllers, db, 2)

    patch_statefulset(server, "db", replicas=1, ordinals={"start": 1})
    delete_pod(server, "db-0")

    await controllers.until_claimed(*second)
    assert await controllers.addresses_of_pod("db-1") == set(second)


async def test_a_deleted_statefulset_releases_all_its_addresses(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    unrelated_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    db = create_workload(server, "StatefulSet", "db", replicas=2)
    await create_replicas(controllers, db, 2)
    delete_pod(server, "db-1")
    await controllers.scan_again()

    server.request("DELETE", f"{COLLECTION_PATHS['StatefulSet']}/db?propagationPolicy=Background")
    delete_pod(server, "db-0")
    await controllers.until_scan_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_claimed(*unrelated_addresses)
    assert await controllers.addresses_of_pod("web-0") == set(unrelated_addresses)


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_keeps_its_address_while_it_stops_and_starts(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    added_addresses = await add_launcher(controllers, "launcher-1", create_machine(server, "a"))
    delete_and_remove_finalizers(server, f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-1")
    for _ in range(3):
        await controllers.scan_again()
    claimed_when_stopped = await controllers.claimed_addresses()

    machine = server.request("GET", f"{MACHINES_PATH}/a").body
    metadata = {"name": "a"} | owned_by(machine)
    instance = create_kubevirt_object(server, INSTANCES_PATH, "VirtualMachineInstance", metadata)
    added_again = await add_launcher(controllers, "launcher-2", instance)
    # Clean up:
    delete_and_remove_finalizers(server, f"{MACHINES_PATH}/a")
    delete_and_remove_finalizers(server, f"{INSTANCES_PATH}/a")

    assert added_addresses == claimed_when_stopped == added_again


@pytest.mark.usefixtures("kubevirt")
async def test_a_deleted_vm_releases_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    unrelated_addresses = await controllers.add(create_pod(server, "web-0", NODE_NAME))
    await add_launcher(controllers, "launcher-1", create_machine(server, "a"))

    delete_and_remove_finalizers(server, f"{MACHINES_PATH}/a")
    delete_and_remove_finalizers(server, f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-1")

    await controllers.until_claimed(*unrelated_addresses)
    assert await controllers.addresses_of_pod("web-0") == set(unrelated_addresses)


@pytest.mark.usefixtures("kubevirt")
async def test_a_deleted_vm_without_a_launcher_releases_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    await add_launcher(controllers, "launcher-1", create_machine(server, "a"))
    delete_and_remove_finalizers(server, f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-1")
    await controllers.scan_again()

    delete_and_remove_finalizers(server, f"{MACHINES_PATH}/a")
    await controllers.until_scan_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    await controllers.until_claimed()
    assert not (await controllers.node.read_ledger()).endpoints


@pytest.mark.usefixtures("kubevirt")
async def test_a_migrated_vm_keeps_its_address(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    instance = create_machine(server, "a")
    added_to_source = await add_launcher(controllers, "launcher-1", instance)

    job = {"annotations": {"kubevirt.io/migrationJobName": "job"}}
    added_to_target = await add_launcher(controllers, "launcher-2", instance, **job)
    delete_pod(server, "launcher-1")
    for _ in range(3):
        await controllers.scan_again()
    claimed_after_migration = await controllers.claimed_addresses()
    # Clean up:
    delete_and_remove_finalizers(server, f"{MACHINES_PATH}/a")
    delete_and_remove_finalizers(server, f"{INSTANCES_PATH}/a")

    assert added_to_source == added_to_target == claimed_after_migration


@pytest.mark.usefixtures("kubevirt")
async def test_a_deleted_vm_keeps_its_address_until_its_last_launcher_ends(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.start_controller()
    instance = create_machine(server, "a")
    added_addresses = await add_launcher(controllers, "launcher-1", instance)
    await add_launcher(controllers, "launcher-2", instance)

    delete_and_remove_finalizers(server, f"{MACHINES_PATH}/a")
    server.request("DELETE", f"{INSTANCES_PATH}/a")
    delete_pod(server, "launcher-2")
    for _ in range(3):
        await controllers.scan_again()
    claimed_with_one_launcher = await controllers.claimed_addresses()
    delete_pod(server, "launcher-1")
    delete_and_remove_finalizers(server, f"{INSTANCES_PATH}/a")
    await controllers.until_scan_status(lambda status: status["suspects"] == 1)
    await controllers.scan_again()

    assert claimed_with_one_launcher == added_addresses
    await controllers.until_claimed()
