"""The Pod webhook adds slots to Pods; a slot is one unit of an extended resource.

A Pod gets a ``<NIC>-nic`` slot for each host NIC (master) of its networks, and a ``sub-eni`` slot
for each address that a network provider binds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import ApiUnavailable
from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from core.manifests.networks.pod_slots import SlotSettings
from ops.kubernetes.admission import pods
from ops.kubernetes.admission.reviews import CREATE, AdmissionRequest, allowed
from ops.kubernetes.settings import InjectionSettings
from tests.kubernetes.objects import network
from tests.kubernetes.translator_harness import until
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.kubernetes import ApiServer

DEFAULT_NETWORK = "v1.multus-cni.io/default-network"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
INJECT = "cni.spidernet.io/network-resource-inject"
"""A Pod with this annotation gets the networks that have it with the same value."""

SLOTS = SlotSettings(request_nic_slots=True, provider_resource="spidernet.io/sub-eni")
BOND = {"name": "bond9", "mode": 1}
SELECTED_BY_LABEL = {"master": ["eth5"], "ippools": {"ipv4": ["blue"]}}


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    """Stopped webhooks; each test starts them with its settings."""
    async with running_webhooks(server, tmp_path) as webhooks:
        await webhooks.stop()
        yield webhooks


async def serve_with_networks(webhooks: Webhooks, slots: SlotSettings) -> None:
    """Start the webhooks; wait until their cache has three new networks."""
    await webhooks.start(injection=InjectionSettings(slots=slots))
    labelled = network("macvlan", "by-label", macvlan=SELECTED_BY_LABEL)
    labelled["metadata"]["annotations"] = {INJECT: "team-a"}
    for multus_config in (
        # For "auto", a network provider binds the addresses.
        network("vlan", "cloud", vlan={"master": ["eth1"], "vlanMode": "auto"}),
        network("macvlan", "pair", macvlan={"master": ["eth2", "eth3"], "bond": BOND}),
        labelled,
    ):
        assert await webhooks.create(multus_config) == ""
    await until(lambda: create_pod_in_dry_run(webhooks.cluster.server, {INJECT: "team-a"}))


def create_pod_in_dry_run(
    server: ApiServer, annotations: dict[str, str], namespace: str = "default", **container: Any
) -> Object | None:
    """The Pod that the server would store; None if the server refuses the Pod."""
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-0", "annotations": annotations},
        "spec": {
            "containers": [{"name": "main", "image": "none", **container}],
            "automountServiceAccountToken": False,
        },
    }
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    answer = server.request("POST", path, body)
    return answer.body if answer.status == 201 else None


async def slots_of(
    webhooks: Webhooks, annotations: dict[str, str], namespace: str = "default", **container: Any
) -> dict[str, str]:
    """Resource -> count, from the limits of the Pod's container."""
    server = webhooks.cluster.server
    created_pod = await asyncio.to_thread(
        create_pod_in_dry_run, server, annotations, namespace, **container
    )
    assert created_pod is not None
    resources = created_pod["spec"]["containers"][0].get("resources", {})
    assert resources.get("limits") == resources.get("requests")
    return {
        name.removeprefix("spidernet.io/"): count
        for name, count in (resources.get("limits") or {}).items()
    }


async def test_a_pod_gets_a_slot_for_each_master_and_each_bound_address(
    webhooks: Webhooks,
) -> None:
    await serve_with_networks(webhooks, SLOTS)

    assert await slots_of(webhooks, {NETWORKS: "cloud, pair"}) == {
        "eth1-nic": "1",
        "eth2-nic": "1",
        "eth3-nic": "1",
        "sub-eni": "1",
    }
    assert await slots_of(webhooks, {DEFAULT_NETWORK: "default/cloud"}) == {
        "eth1-nic": "1",
        "sub-eni": "1",
    }
    assert await slots_of(webhooks, {INJECT: "team-a"}) == {"eth5-nic": "1"}
    # A limit that the Pod sets stays.
    own_limit = {"limits": {"spidernet.io/sub-eni": "3"}}
    assert await slots_of(webhooks, {NETWORKS: "cloud"}, resources=own_limit) == {
        "eth1-nic": "1",
        "sub-eni": "3",
    }


async def test_pods_without_known_networks_and_pods_of_kube_system_get_no_slots(
    webhooks: Webhooks,
) -> None:
    await serve_with_networks(webhooks, SLOTS)

    assert await slots_of(webhooks, {}) == {}
    assert await slots_of(webhooks, {NETWORKS: "unknown/network, this@ @"}) == {}
    assert await slots_of(webhooks, {NETWORKS: "default/cloud"}, namespace="kube-system") == {}


async def test_default_slot_settings_add_no_slots(webhooks: Webhooks) -> None:
    await serve_with_networks(webhooks, SlotSettings())

    assert await slots_of(webhooks, {NETWORKS: "cloud,pair"}) == {}
    assert await slots_of(webhooks, {INJECT: "team-a"}) == {}


async def test_only_pods_with_networks_wait_for_the_list_of_networks(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "LISTED_S_MAX", 0.01)
    api = Api(await open_connection(str(server.kubeconfig)))
    injection = pods.PodInjection(api, SLOTS)  # not started: lists no networks

    def creation_with(**annotations: str) -> AdmissionRequest:
        pod = {"metadata": {"annotations": annotations}, "spec": {"containers": [{}]}}
        return AdmissionRequest(
            uid="1",
            kind="Pod",
            operation=CREATE,
            namespace="default",
            name="web-0",
            object=pod,
            old={},
        )

    assert await injection.mutate(creation_with()) == allowed("1")
    for network_annotations in (
        {NETWORKS: "cloud"},
        {DEFAULT_NETWORK: "cloud"},
        {INJECT: "team-a"},
    ):
        with pytest.raises(ApiUnavailable, match="SpiderMultusConfigs could not be listed"):
            await injection.mutate(creation_with(**network_annotations))
    await api.close()


async def test_pods_are_stored_without_the_webhook_when_injection_is_off(
    webhooks: Webhooks,
) -> None:
    await webhooks.start()  # registers no webhook for Pods
    await webhooks.stop_serving()

    assert await slots_of(webhooks, {NETWORKS: "cloud,pair"}) == {}
