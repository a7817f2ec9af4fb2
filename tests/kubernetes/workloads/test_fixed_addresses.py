"""Addresses of replicas and VMs in a cluster are kept while the owner wants them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.kubernetes.controllers_harness import NODE, ControllersHarness
from tests.kubernetes.objects import Object
from tests.kubernetes.workload_objects import (
    PARTS,
    create_pod,
    create_set,
    define,
    delete_pod,
    owned_by,
    undefine,
)
from tests.support.kubernetes import MERGE, ApiServer

KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/shop"
MACHINES = f"{KUBEVIRT}/virtualmachines"
INSTANCES = f"{KUBEVIRT}/virtualmachineinstances"


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server) as one:
        yield one
        await one.check()


@pytest.fixture(scope="module")
def kubevirt(bare_server: ApiServer) -> Iterator[None]:
    """KubeVirt's two kinds, with any fields."""
    define(bare_server, "kubevirt.io", "v1", "VirtualMachine", "virtualmachines")
    define(bare_server, "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances")
    yield
    for plural in ("virtualmachines", "virtualmachineinstances"):
        undefine(bare_server, "kubevirt.io", "v1", plural)


def create_machine(server: ApiServer, name: str) -> Object:
    """A running VM: itself and its instance, which are deleted only by a test."""
    held = {"name": name, "finalizers": ["tests/hold"]}
    machine = made(server, MACHINES, "VirtualMachine", held)
    return made(server, INSTANCES, "VirtualMachineInstance", held | owned_by(machine))


def made(server: ApiServer, path: str, kind: str, metadata: Object) -> Object:
    body = {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": metadata}
    answer = server.request("POST", path, body)
    assert answer.status == 201, answer.message
    return answer.body


def let_go(server: ApiServer, path: str) -> None:
    """Delete the object and its finalizers."""
    server.request("DELETE", path)
    server.request("PATCH", path, {"metadata": {"finalizers": None}}, content=MERGE)


async def launch(
    controllers: ControllersHarness, name: str, instance: Object, **metadata: Any
) -> set[str]:
    """Give a launcher of a VM instance its addresses."""
    launcher = create_pod(controllers.server, name, NODE, instance, **metadata)
    return set(await controllers.add(launcher, "vm"))


def resize(server: ApiServer, name: str, **spec: Any) -> None:
    server.request("PATCH", f"{PARTS['StatefulSet']}/{name}", {"spec": spec}, content=MERGE)


async def replicas(
    controllers: ControllersHarness, owner: Object, count: int
) -> list[tuple[str, ...]]:
    """Pods of a StatefulSet with their addresses."""
    name = owner["metadata"]["name"]
    pods = [
        create_pod(controllers.server, f"{name}-{number}", NODE, owner) for number in range(count)
    ]
    return [await controllers.add(one, "statefulset") for one in pods]


async def test_without_kubevirt_the_addresses_of_a_vm_stay(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    replica = await controllers.begin()
    kind = {"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1"}
    instance = kind | {"metadata": {"name": "a", "uid": "uid-a"}}
    held = await launch(controllers, "launcher-1", instance)
    delete_pod(server, "launcher-1")

    for _ in range(3):
        await controllers.look()

    assert await controllers.held() == held
    assert "has no VirtualMachineInstance" in replica.watch.facts.owners.vmis.fault


async def test_a_replica_that_is_wanted_keeps_its_address_over_its_pods(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    db = create_set(server, "StatefulSet", "db", replicas=2)
    held = await replicas(controllers, db, 2)
    delete_pod(server, "db-0")
    delete_pod(server, "db-1")
    for _ in range(3):
        await controllers.look()
    between = await controllers.held()

    again = await replicas(controllers, db, 2)

    assert between == {address for one in held for address in one}
    assert again == held


async def test_scaling_down_frees_what_the_surplus_replicas_held(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    db = create_set(server, "StatefulSet", "db", replicas=3)
    first, *_ = await replicas(controllers, db, 3)

    resize(server, "db", replicas=1)
    for name in ("db-2", "db-1"):
        delete_pod(server, name)  # and no DEL arrives

    await controllers.until_held(*first)
    assert await controllers.held_by("db-0") == set(first)


async def test_scaling_down_frees_what_replicas_without_pods_held(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    db = create_set(server, "StatefulSet", "db", replicas=2)
    first, _ = await replicas(controllers, db, 2)
    delete_pod(server, "db-1")
    await controllers.look()

    resize(server, "db", replicas=1)
    await controllers.until_status(lambda told: told["suspects"] == 1)
    await controllers.look()

    await controllers.until_held(*first)
    assert await controllers.held_by("db-0") == set(first)


async def test_another_first_ordinal_frees_those_before_it(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    db = create_set(server, "StatefulSet", "db", replicas=2)
    _, second = await replicas(controllers, db, 2)

    resize(server, "db", replicas=1, ordinals={"start": 1})
    delete_pod(server, "db-0")

    await controllers.until_held(*second)
    assert await controllers.held_by("db-1") == set(second)


async def test_a_set_that_is_deleted_gives_everything_back(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    kept = await controllers.add(create_pod(server, "web-0", NODE))
    db = create_set(server, "StatefulSet", "db", replicas=2)
    await replicas(controllers, db, 2)
    delete_pod(server, "db-1")
    await controllers.look()

    server.request("DELETE", f"{PARTS['StatefulSet']}/db?propagationPolicy=Background")
    delete_pod(server, "db-0")
    await controllers.until_status(lambda told: told["suspects"] == 1)
    await controllers.look()

    await controllers.until_held(*kept)
    assert await controllers.held_by("web-0") == set(kept)


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_keeps_its_address_while_it_stops_and_starts(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    held = await launch(controllers, "launcher-1", create_machine(server, "a"))
    let_go(server, f"{INSTANCES}/a")
    delete_pod(server, "launcher-1")
    for _ in range(3):
        await controllers.look()
    stopped = await controllers.held()

    machine = server.request("GET", f"{MACHINES}/a").body
    metadata = {"name": "a"} | owned_by(machine)
    instance = made(server, INSTANCES, "VirtualMachineInstance", metadata)
    again = await launch(controllers, "launcher-2", instance)
    let_go(server, f"{MACHINES}/a")
    let_go(server, f"{INSTANCES}/a")

    assert held == stopped == again


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_that_is_deleted_gives_its_address_back(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    kept = await controllers.add(create_pod(server, "web-0", NODE))
    await launch(controllers, "launcher-1", create_machine(server, "a"))

    let_go(server, f"{MACHINES}/a")
    let_go(server, f"{INSTANCES}/a")
    delete_pod(server, "launcher-1")

    await controllers.until_held(*kept)
    assert await controllers.held_by("web-0") == set(kept)


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_without_a_launcher_gives_its_address_back_when_it_is_deleted(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    await launch(controllers, "launcher-1", create_machine(server, "a"))
    let_go(server, f"{INSTANCES}/a")
    delete_pod(server, "launcher-1")
    await controllers.look()

    let_go(server, f"{MACHINES}/a")
    await controllers.until_status(lambda told: told["suspects"] == 1)
    await controllers.look()

    await controllers.until_held()
    assert not (await controllers.node.read_ledger()).endpoints


@pytest.mark.usefixtures("kubevirt")
async def test_a_migration_hands_over_and_the_source_frees_nothing(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    instance = create_machine(server, "a")
    before = await launch(controllers, "launcher-1", instance)

    job = {"annotations": {"kubevirt.io/migrationJobName": "job"}}
    after = await launch(controllers, "launcher-2", instance, **job)
    delete_pod(server, "launcher-1")
    for _ in range(3):
        await controllers.look()
    held = await controllers.held()
    let_go(server, f"{MACHINES}/a")
    let_go(server, f"{INSTANCES}/a")

    assert before == after == held


@pytest.mark.usefixtures("kubevirt")
async def test_a_vm_that_goes_while_it_migrates_keeps_its_address_until_the_last_launcher(
    server: ApiServer, controllers: ControllersHarness
) -> None:
    await controllers.begin()
    instance = create_machine(server, "a")
    held = await launch(controllers, "launcher-1", instance)
    await launch(controllers, "launcher-2", instance)

    let_go(server, f"{MACHINES}/a")
    server.request("DELETE", f"{INSTANCES}/a")
    delete_pod(server, "launcher-2")
    for _ in range(3):
        await controllers.look()
    between = await controllers.held()
    delete_pod(server, "launcher-1")
    let_go(server, f"{INSTANCES}/a")
    await controllers.until_status(lambda told: told["suspects"] == 1)
    await controllers.look()

    assert between == held
    await controllers.until_held()
