"""All Pods that name the same IPAMClaim get the address of the claim.

IPAMClaim is a kind of the Network Plumbing Working Group. A launcher is the Pod in which a virtual
machine runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from core.allocation.refusal_recorder import RefusalRecorder
from core.allocation.releaser import Releaser, ReleaseRequest
from core.domain.claims.claim_decisions import ReleaseDecision
from core.domain.fixed.fixed_address_owners import FixedSettings
from core.domain.fixed.ipam_claims import pod_of_nic
from core.errors import AddressesUsedOut
from core.eventstore.writer import Writer
from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from core.projections.projector import Projector
from nodeagent.kubernetes.cluster_connection import Cluster, connect_cluster
from nodeagent.settings.agent_settings import Settings
from ops.kubernetes.ipam_claim_status import ClaimReporter
from tests.kubernetes.controllers_harness import NODE_NAME, QUICK_RECLAIM, ControllersHarness
from tests.kubernetes.objects import Object
from tests.kubernetes.translator_harness import until
from tests.kubernetes.workload_objects import (
    DEFINITIONS_PATH,
    cni_args_of,
    create_pod,
    delete_pod,
    undefine_kind,
)
from tests.support.agent_harness import AgentHarness, running
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import TEST_CAUSE, pod

GROUP, VERSION, PLURAL = "k8s.cni.cncf.io", "v1alpha1", "ipamclaims"
CLAIMS_PATH = f"/apis/{GROUP}/{VERSION}/namespaces/shop/{PLURAL}"
TEXT = {"type": "string"}
STATUS_SCHEMA = {
    "type": "object",
    "required": ["ips"],
    "properties": {
        "ips": {"type": "array", "items": TEXT},
        "ownerPod": {"type": "object", "properties": {"name": TEXT}},
        "conditions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["lastTransitionTime", "message", "reason", "status", "type"],
                "properties": {
                    **dict.fromkeys(("message", "reason", "status", "type"), TEXT),
                    "lastTransitionTime": TEXT | {"format": "date-time"},
                    "observedGeneration": {"type": "integer", "format": "int64"},
                },
            },
        },
    },
}
SPEC_SCHEMA = {
    "type": "object",
    "required": ["interface", "network"],
    "properties": {"interface": TEXT, "network": TEXT},
}
NETWORKS = json.dumps([{"name": "lan", "namespace": "shop", "ipam-claim-reference": "vm1.lan"}])
USES_THE_CLAIM = {"k8s.v1.cni.cncf.io/networks": NETWORKS}

MIGRATION_TARGET = USES_THE_CLAIM | {"kubevirt.io/migrationJobName": "job"}


@pytest.fixture(scope="module")
def ipam_claim_crd(bare_server: ApiServer) -> Iterator[None]:
    """A CRD with the fields of the published CRD."""
    schema = {"type": "object", "properties": {"spec": SPEC_SCHEMA, "status": STATUS_SCHEMA}}
    served = {"name": VERSION, "served": True, "storage": True, "subresources": {"status": {}}}
    served["schema"] = {"openAPIV3Schema": schema}
    names = {"kind": "IPAMClaim", "plural": PLURAL, "singular": "ipamclaim"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [served]}
    body = {"metadata": {"name": f"{PLURAL}.{GROUP}"}, "spec": spec}
    bare_server.request("POST", DEFINITIONS_PATH, body)
    bare_server.wait_served(f"/apis/{GROUP}/{VERSION}/{PLURAL}")
    yield
    undefine_kind(bare_server, GROUP, VERSION, PLURAL)


@pytest.fixture
async def controllers(server: ApiServer) -> AsyncIterator[ControllersHarness]:
    async with ControllersHarness(server, QUICK_RECLAIM._replace(ipam_claims=True)) as harness:
        yield harness
        await harness.stop_and_check()


@pytest.fixture
async def cluster(
    ipam_claim_crd: None, controllers: ControllersHarness, settings: Settings
) -> AsyncIterator[Cluster]:
    """The agent's connection to the API server, after it has listed all objects."""
    settings = _settings_of(controllers, settings)
    connection = await connect_cluster(settings)
    assert connection is not None
    async with asyncio.timeout(30):
        for reflector in connection.facts.reflectors:
            await reflector.listed.wait()
    yield connection
    await connection.close()


@pytest.fixture
async def agent(
    cluster: Cluster, controllers: ControllersHarness, settings: Settings
) -> AsyncIterator[AgentHarness]:
    settings = _settings_of(controllers, settings)
    async with running(settings, controllers.store, facts=cluster.facts) as harness:
        yield harness


def _settings_of(controllers: ControllersHarness, settings: Settings) -> Settings:
    return settings._replace(
        kubeconfig=str(controllers.server.kubeconfig),
        node_name=NODE_NAME,
        cluster=controllers.node.keys.cluster,
        fixed_addresses=FixedSettings(ipam_claims=True),
        cool_down_s=0,
    )


def create_claim(server: ApiServer) -> None:
    spec = {"network": "lan", "interface": "net1"}
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "IPAMClaim", "spec": spec}
    answer = server.request("POST", CLAIMS_PATH, body | {"metadata": {"name": "vm1.lan"}})
    assert answer.status == 201, answer.message


def delete_claim(server: ApiServer) -> None:
    server.request("DELETE", f"{CLAIMS_PATH}/vm1.lan")


@pytest.fixture
def server_with_claim(ipam_claim_crd: None, controllers: ControllersHarness) -> Iterator[ApiServer]:
    create_claim(controllers.server)
    yield controllers.server
    delete_claim(controllers.server)


async def add(
    agent: AgentHarness, cluster: Cluster, pod: Object, interface: str = "net1"
) -> list[str]:
    """Run the ADD after the agent's watch has received the Pod; return the addresses."""
    name = pod["metadata"]["name"]
    await until(lambda: ("shop", name) in cluster.facts.pods.objects)
    return await agent.add(name, **_cni_variables(pod, interface))


def _cni_variables(pod: Object, interface: str) -> dict[str, Any]:
    uid = pod["metadata"]["uid"]
    return {"CNI_ARGS": cni_args_of(pod), "CNI_IFNAME": interface, "CNI_CONTAINERID": f"box-{uid}"}


def create_launcher(
    server: ApiServer, name: str, annotations: dict[str, str] = USES_THE_CLAIM
) -> Object:
    return create_pod(server, name, NODE_NAME, annotations=annotations)


async def test_an_ipam_claim_keeps_its_address_without_a_pod(
    server_with_claim: ApiServer, agent: AgentHarness, cluster: Cluster
) -> None:
    first = create_launcher(server_with_claim, "launcher-1")
    await add(agent, cluster, first, "eth0")
    added_addresses = await add(agent, cluster, first)
    delete_pod(server_with_claim, "launcher-1")
    await until(lambda: ("shop", "launcher-1") not in cluster.facts.pods.objects)
    for interface in ("net1", "eth0"):
        await agent.delete("launcher-1", **_cni_variables(first, interface))

    claimed_without_pod = set(await agent.claims())
    added_again = await add(agent, cluster, create_launcher(server_with_claim, "launcher-2"))

    assert added_again == added_addresses
    assert claimed_without_pod == {added_addresses[0].partition("/")[0]}
    endpoint = await agent.endpoint("vm1.lan.ipamclaim")
    assert endpoint is not None
    assert (endpoint.holder, endpoint.owner_name) == (
        "ipamclaim/shop/vm1.lan.ipamclaim",
        "launcher-2",
    )


async def test_both_pods_of_a_migration_share_the_address_of_the_claim(
    server_with_claim: ApiServer,
    agent: AgentHarness,
    cluster: Cluster,
    controllers: ControllersHarness,
) -> None:
    await controllers.start_controller()
    source = create_launcher(server_with_claim, "launcher-1")
    target = create_launcher(server_with_claim, "launcher-2", MIGRATION_TARGET)
    added_addresses = await add(agent, cluster, source)
    assert await add(agent, cluster, target) == added_addresses
    address = added_addresses[0].partition("/")[0]

    # The migration fails, and the source still runs.
    delete_pod(server_with_claim, "launcher-2")
    await agent.delete("launcher-2", **_cni_variables(target, "net1"))
    delete_claim(server_with_claim)
    for _ in range(3):
        await controllers.scan_again()
    assert await controllers.claimed_addresses() == {address}

    delete_pod(server_with_claim, "launcher-1")
    await controllers.scan_again()
    await controllers.scan_again()
    await controllers.until_claimed()


async def test_the_del_of_a_deleted_pod_releases_the_address_of_a_deleted_claim(
    server_with_claim: ApiServer, agent: AgentHarness, cluster: Cluster
) -> None:
    pod = create_launcher(server_with_claim, "launcher-1")
    await add(agent, cluster, pod)
    delete_claim(server_with_claim)

    await agent.delete("launcher-1", **_cni_variables(pod, "net1"))
    assert len(await agent.claims()) == 1, "the address of a running Pod must stay"
    server_with_claim.request(
        "DELETE", "/api/v1/namespaces/shop/pods/launcher-1?gracePeriodSeconds=60"
    )
    await until(lambda: _is_ending(cluster))
    await agent.delete("launcher-1", **_cni_variables(pod, "net1"))

    assert not await agent.claims()


def _is_ending(cluster: Cluster) -> bool:
    pod = cluster.facts.pods.objects.get(("shop", "launcher-1"))
    return pod is None or "deletionTimestamp" in pod["metadata"]


async def test_the_reporter_writes_addresses_and_pod_and_keeps_conditions_of_others(
    server_with_claim: ApiServer,
    agent: AgentHarness,
    cluster: Cluster,
    controllers: ControllersHarness,
) -> None:
    since = "2026-01-01T00:00:00Z"
    foreign_condition = {
        "type": "Audited",
        "status": "True",
        "reason": "Done",
        "message": "",
        "lastTransitionTime": since,
    }
    server_with_claim.request(
        "PATCH",
        f"{CLAIMS_PATH}/vm1.lan/status",
        {"status": {"ips": [], "conditions": [foreign_condition]}},
        content=MERGE_PATCH,
    )

    async with reporting(server_with_claim, controllers) as reporter:
        added_addresses = await add(
            agent, cluster, create_launcher(server_with_claim, "launcher-1")
        )
        await until(lambda: status(server_with_claim).get("ips") == added_addresses)
        first = status(server_with_claim)
        target = create_launcher(server_with_claim, "launcher-2", MIGRATION_TARGET)
        assert await add(agent, cluster, target) == added_addresses
        await until(lambda: status(server_with_claim)["ownerPod"] == {"name": "launcher-2"})
        # The reporter counts a write only after the response of the API server.
        await until(lambda: reporter.writes >= 2)

    assert first["ownerPod"] == {"name": "launcher-1"}
    conditions = {item["type"]: item for item in status(server_with_claim)["conditions"]}
    assert conditions["Audited"] == foreign_condition
    allocated = conditions["IPsAllocated"]
    assert (allocated["status"], allocated["reason"]) == ("True", "SuccessfulAllocation")
    assert reporter.writes == 2


async def test_the_claim_status_shows_no_address_that_was_released(
    server_with_claim: ApiServer,
    agent: AgentHarness,
    cluster: Cluster,
    controllers: ControllersHarness,
) -> None:
    node = controllers.node
    writer = Writer(controllers.store, node.keys, "orbctl-of-the-release")
    await writer.open()
    releaser = Releaser(controllers.store, node.keys, writer, node.cooldown)
    async with reporting(server_with_claim, controllers):
        await add(agent, cluster, create_launcher(server_with_claim, "launcher-1"))
        await until(lambda: status(server_with_claim).get("ips"))
        await releaser.release(
            ("shop", "vm1.lan.ipamclaim"),
            lambda _: ReleaseDecision(ends=True, why="an operator requested it"),
            ReleaseRequest("operator", "the machine was moved", TEST_CAUSE),
        )
        await until(lambda: not status(server_with_claim)["ips"])
    await writer.close()

    (condition,) = status(server_with_claim)["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "Released")


async def test_the_claim_status_has_the_reason_for_a_missing_address(
    server_with_claim: ApiServer,
    agent: AgentHarness,
    cluster: Cluster,
    controllers: ControllersHarness,
) -> None:
    refused_pod = pod_of_nic(pod("launcher-1")._replace(claims={"net1": "vm1.lan"}), "net1")
    writer = Writer(controllers.store, controllers.node.keys, "node-of-the-refusal")
    await writer.open()
    recorder = RefusalRecorder(writer)
    async with reporting(server_with_claim, controllers):
        recorder.note(
            refused_pod, "net1", AddressesUsedOut("all IP addresses used out"), TEST_CAUSE
        )
        await recorder.write_due()
        await until(lambda: "conditions" in status(server_with_claim))
        first = status(server_with_claim)
        added_addresses = await add(
            agent, cluster, create_launcher(server_with_claim, "launcher-1")
        )
        await until(lambda: status(server_with_claim)["ips"] == added_addresses)
    await writer.close()

    (condition,) = first["conditions"]
    assert (first["ips"], first["ownerPod"]) == ([], {"name": "launcher-1"})
    assert (condition["type"], condition["status"]) == ("IPsAllocated", "False")
    assert (condition["reason"], condition["message"]) == (
        "SubnetExhausted",
        "all IP addresses used out",
    )
    (condition,) = status(server_with_claim)["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "SuccessfulAllocation")


@asynccontextmanager
async def reporting(
    server: ApiServer, controllers: ControllersHarness
) -> AsyncIterator[ClaimReporter]:
    """Run the reporter that writes the status of claims."""
    projector = Projector(controllers.store, controllers.node.keys)
    api = Api(await open_connection(str(server.kubeconfig)))
    reporter = ClaimReporter(api, projector, round_s=0.01)
    tasks = [asyncio.create_task(run()) for run in (projector.run, reporter.run)]
    try:
        await until(lambda: projector.projection.followers)
        yield reporter
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()


def status(server: ApiServer) -> Any:
    return server.request("GET", f"{CLAIMS_PATH}/vm1.lan").body.get("status", {})
