"""The chart's permissions suffice for the chart's processes, and allow nothing in ``FORBIDDEN``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.allocation.provider_settings import ProviderSettings
from core.eventstore.election import LeaderTerm
from core.manifests.crds.names_and_columns import CUSTOM_RESOURCE_KINDS, definition_of
from core.manifests.manifest_writer import dump_yaml
from nodeagent.kubernetes.cluster_connection import connect_cluster
from nodeagent.settings.agent_settings import Settings
from ops.kubernetes.settings import CoordinatorReconcilerSettings, KubernetesSettings, LeaseSettings
from tests.chart.rendering import CHART_NAMESPACE, render_objects
from tests.kubernetes.identities import apply_permissions, is_allowed, kubeconfig_of
from tests.kubernetes.network_harness import DEFAULT_NADS_PATH, NAD_DEFINITION
from tests.kubernetes.objects import coordinator, create, get, network, path_of, pool, subnet
from tests.kubernetes.translator_harness import TranslatorHarness, until, until_condition
from tests.kubernetes.workload_objects import create_pod, delete_workloads
from tests.support.kubernetes import ApiServer
from tests.support.node_harness import pod
from tests.support.parts import HELM, needs

pytest.importorskip("helm_python", reason=needs(HELM))

CONTROLLER = "orbweaver-controller"
AGENT = "orbweaver-agent"
OUR_GROUP = {"group": "spiderpool.spidernet.io"}
LEASES_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{CHART_NAMESPACE}/leases"
READ_VERBS = ("get", "list", "watch")

FORBIDDEN: dict[str, dict[str, str]] = {  # what an account may not do -> the request
    "read Secrets": {"verb": "get", "resource": "secrets", "namespace": "shop"},
    "list Secrets of its namespace": {
        "verb": "list",
        "resource": "secrets",
        "namespace": CHART_NAMESPACE,
    },
    "read a Secret of etcd clients": {
        "verb": "get",
        "resource": "secrets",
        "namespace": CHART_NAMESPACE,
        "name": "etcd-client",
    },
    "create Pods": {"verb": "create", "resource": "pods", "namespace": CHART_NAMESPACE},
    "change Pods": {"verb": "patch", "resource": "pods", "namespace": "shop"},
    "delete Pods": {"verb": "delete", "resource": "pods", "namespace": "shop"},
    "run commands in Pods": {"verb": "create", "resource": "pods", "subresource": "exec"},
    "change Nodes": {"verb": "patch", "resource": "nodes"},
    "change a Node's status": {"verb": "patch", "resource": "nodes", "subresource": "status"},
    "change Namespaces": {"verb": "patch", "resource": "namespaces"},
    "change Deployments": {"verb": "patch", "group": "apps", "resource": "deployments"},
    "create ClusterRoleBindings": {
        "verb": "create",
        "group": "rbac.authorization.k8s.io",
        "resource": "clusterrolebindings",
    },
    "impersonate users": {"verb": "impersonate", "resource": "users"},
    "create tokens of service accounts": {
        "verb": "create",
        "resource": "serviceaccounts",
        "subresource": "token",
    },
    "change CRDs": {
        "verb": "patch",
        "group": "apiextensions.k8s.io",
        "resource": "customresourcedefinitions",
    },
    "create webhooks": {
        "verb": "create",
        "group": "admissionregistration.k8s.io",
        "resource": "mutatingwebhookconfigurations",
    },
    "change webhooks of another project": {
        "verb": "patch",
        "group": "admissionregistration.k8s.io",
        "resource": "validatingwebhookconfigurations",
        "name": "cert-manager-webhook",
    },
    "delete all pools at once": {
        **OUR_GROUP,
        "verb": "deletecollection",
        "resource": "spiderippools",
    },
    "change a network": {**OUR_GROUP, "verb": "patch", "resource": "spidermultusconfigs"},
    "delete NADs": {
        "verb": "delete",
        "group": "k8s.cni.cncf.io",
        "resource": "network-attachment-definitions",
    },
    "read ConfigMaps": {"verb": "get", "resource": "configmaps", "namespace": "shop"},
    "change the Lease of the scheduler": {
        "verb": "patch",
        "group": "coordination.k8s.io",
        "resource": "leases",
        "namespace": "kube-system",
        "name": "kube-scheduler",
    },
    "use the proxy of Nodes": {"verb": "get", "resource": "nodes", "subresource": "proxy"},
}


@pytest.fixture(scope="module")
def chart_permissions(server_with_crds: ApiServer) -> None:
    apply_permissions(server_with_crds, render_objects({}))


@pytest.fixture
def permitted_server(chart_permissions: None, server: ApiServer) -> ApiServer:
    """The API server with the permissions of the chart's default values."""
    return server


@pytest.fixture
async def cluster(permitted_server: ApiServer, tmp_path: Path) -> AsyncIterator[TranslatorHarness]:
    """A node and a leading controller; the controller has only its account's permissions."""
    await asyncio.to_thread(
        permitted_server.kubectl, "apply", "--server-side", "-f", "-", stdin=NAD_DEFINITION
    )
    await asyncio.to_thread(permitted_server.wait_served, DEFAULT_NADS_PATH)
    settings = KubernetesSettings(
        str(kubeconfig_of(permitted_server, CONTROLLER, tmp_path)),
        networks=True,
        coordinator=CoordinatorReconcilerSettings(cni_directory=tmp_path),
        lease=LeaseSettings(CHART_NAMESPACE),
    )
    harness = TranslatorHarness(permitted_server, settings)
    harness.term = LeaderTerm(role="controller", name="controller-0", epoch=7, key=b"", lease=0)
    async with harness:
        yield harness
    for collection in (DEFAULT_NADS_PATH, LEASES_PATH):
        await asyncio.to_thread(permitted_server.request, "DELETE", collection)


async def test_the_charts_rights_suffice_for_the_work_of_a_controller(
    cluster: TranslatorHarness,
) -> None:
    server = cluster.server
    for item in (
        pool(default=True),
        network("macvlan", macvlan={"master": ["ens3"]}),
        coordinator(podCIDRType="cluster"),
    ):
        answer = await asyncio.to_thread(create, server, item)
        assert answer.status == 201, answer.message
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))

    def has_written_all_objects() -> bool:
        counted = get(server, "SpiderIPPool", "blue").get("status", {}).get("allocatedIPCount")
        phase = get(server, "SpiderCoordinator", "default").get("status", {}).get("phase")
        has_nad = server.request("GET", f"{DEFAULT_NADS_PATH}/net").status == 200
        has_lease = (
            server.request("GET", f"{LEASES_PATH}/spiderpool-controller-leases").status == 200
        )
        return bool(counted == 1 and phase and has_nad and has_lease)

    await until(has_written_all_objects)
    # The pool is in use, so the controller reports that the deletion waits.
    await asyncio.to_thread(server.kubectl, "delete", "spiderippool", "blue", "--wait=false")
    await cluster.until_condition("SpiderIPPool", "blue", "Draining", "True")


async def test_controllers_set_owners_where_the_api_server_enforces_their_rights(
    tmp_path: Path,
) -> None:
    """OpenShift has this admission plugin switched on."""
    flags = {"enable-admission-plugins": "OwnerReferencesPermissionEnforcement"}
    with ApiServer(tmp_path, flags=flags) as server:
        definitions = dump_yaml(map(definition_of, CUSTOM_RESOURCE_KINDS)) + NAD_DEFINITION
        server.kubectl("apply", "--server-side", "-f", "-", stdin=definitions)
        for path in (DEFAULT_NADS_PATH, path_of("SpiderIPPool"), path_of("SpiderMultusConfig")):
            server.wait_served(path)
        apply_permissions(server, render_objects({}))
        kubeconfig = kubeconfig_of(server, CONTROLLER, tmp_path)
        async with TranslatorHarness(server, KubernetesSettings(str(kubeconfig), networks=True)):
            for item in (subnet(), pool(), network("macvlan", macvlan={"master": ["ens3"]})):
                assert (await asyncio.to_thread(create, server, item)).status == 201

            await until_condition(server, "SpiderIPPool", "blue", "Ready", "True")
            await until(lambda: server.request("GET", f"{DEFAULT_NADS_PATH}/net").status == 200)

        (owner,) = get(server, "SpiderIPPool", "blue")["metadata"]["ownerReferences"]
        assert owner["blockOwnerDeletion"] is True


async def test_the_charts_rights_suffice_for_the_watches_of_an_agent(
    permitted_server: ApiServer, tmp_path: Path
) -> None:
    delete_workloads(permitted_server)
    create_pod(permitted_server, "web-0", node="node-1")
    kubeconfig = kubeconfig_of(permitted_server, AGENT, tmp_path)
    connection = await connect_cluster(Settings("node-1", kubeconfig=str(kubeconfig)))
    assert connection is not None
    facts = connection.facts
    assert connection.coordinator is not None
    async with asyncio.timeout(30):
        for informer in (facts.pods, facts.nodes, facts.namespaces, facts.stateful_sets):
            await informer.listed.wait()
        await connection.coordinator.coordinators.listed.wait()
    await until(lambda: ("shop", "web-0") in facts.pods.objects)
    await connection.close()
    delete_workloads(permitted_server)


async def test_an_agent_may_read_networks_only_with_a_network_provider(
    permitted_server: ApiServer, tmp_path: Path
) -> None:
    networks = {**OUR_GROUP, "resource": "spidermultusconfigs"}
    assert not any(
        is_allowed(permitted_server, AGENT, verb=verb, **networks) for verb in READ_VERBS
    )
    url = "https://iaas.example"
    apply_permissions(permitted_server, render_objects({"iaasNetworkProvider": {"serverUrl": url}}))
    kubeconfig = kubeconfig_of(permitted_server, AGENT, tmp_path)
    settings = Settings("node-1", kubeconfig=str(kubeconfig), provider=ProviderSettings(url))
    connection = await connect_cluster(settings)
    assert connection is not None
    assert connection.networks is not None
    async with asyncio.timeout(30):
        await connection.networks.configs.listed.wait()
    await connection.close()
    assert not is_allowed(permitted_server, AGENT, verb="patch", **networks)
    apply_permissions(permitted_server, render_objects({}))


@pytest.mark.parametrize("account", [CONTROLLER, AGENT])
def test_no_account_of_the_chart_has_a_forbidden_right(
    permitted_server: ApiServer, account: str
) -> None:
    allowed = [
        action
        for action, request in FORBIDDEN.items()
        if is_allowed(permitted_server, account, **request)
    ]
    assert allowed == []


def test_an_agent_may_not_write_our_resources_or_events(permitted_server: ApiServer) -> None:
    for verb in ("create", "update", "patch", "delete"):
        for resource in ("spiderippools", "spiderendpoints", "spidersubnets", "spidercoordinators"):
            assert not is_allowed(
                permitted_server, AGENT, verb=verb, resource=resource, **OUR_GROUP
            )
        assert not is_allowed(
            permitted_server, AGENT, verb=verb, resource="events", group="events.k8s.io"
        )


def test_a_controller_may_read_pods_nodes_namespaces_and_applications(
    permitted_server: ApiServer,
) -> None:
    resources_by_group = {
        "": ("pods", "nodes", "namespaces"),
        "apps": ("deployments", "replicasets", "statefulsets", "daemonsets"),
        "batch": ("jobs", "cronjobs"),
        "kubevirt.io": ("virtualmachines", "virtualmachineinstances"),
    }
    for group, resources in resources_by_group.items():
        for resource in resources:
            for verb in READ_VERBS:
                attributes = {"verb": verb, "group": group, "resource": resource}
                assert is_allowed(permitted_server, CONTROLLER, **attributes), attributes
