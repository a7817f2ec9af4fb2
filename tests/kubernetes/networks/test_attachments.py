"""The controller creates a NetworkAttachmentDefinition (NAD) for each network.

A network is a SpiderMultusConfig. ``networks.until_nad(bool)`` waits until the NAD ``net`` exists.
Without kube-apiserver, the tests run against the package kmock.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from core.kubernetes.api_client import Api, Object
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.network_attachment_definitions import Attachments
from tests.kubernetes.network_harness import DEFAULT_NADS_PATH, NAD_DEFINITION, Networks
from tests.kubernetes.objects import network
from tests.support.kubernetes import MERGE_PATCH, ApiServer

pytestmark = pytest.mark.simulated

CRDS_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
async def networks(server: ApiServer) -> AsyncIterator[Networks]:
    await asyncio.to_thread(install_nad_crd, server)
    async with running_attachments(server) as networks:
        yield networks
    await asyncio.to_thread(server.request, "DELETE", DEFAULT_NADS_PATH)


def install_nad_crd(server: ApiServer) -> None:
    server.kubectl("apply", "--server-side", "-f", "-", stdin=NAD_DEFINITION)
    server.wait_served(DEFAULT_NADS_PATH)


def remove_nad_crd(server: ApiServer) -> None:
    server.request("DELETE", f"{CRDS_PATH}/network-attachment-definitions.k8s.cni.cncf.io")
    server.wait_unserved(DEFAULT_NADS_PATH)


@contextlib.asynccontextmanager
async def running_attachments(server: ApiServer) -> AsyncIterator[Networks]:
    api = Api(await open_connection(str(server.kubeconfig)))
    attachments = Attachments(api, ObjectWriter(api, "controller-0"))
    attachments_task = asyncio.ensure_future(attachments.run())
    yield Networks(server, attachments)
    attachments_task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await attachments_task
    await api.close()


def macvlan(**spec: object) -> Object:
    return network("macvlan", "net", macvlan={"master": ["ens3"]}, **spec)


@pytest.mark.simulated(lacks="kmock does not simulate the removal of definitions")
async def test_the_nad_is_created_after_a_missing_crd_is_reported_and_installed(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(remove_nad_crd, server)
    async with running_attachments(server) as networks:
        await networks.create(macvlan())

        events = await networks.events("net")
        assert "its definition is not installed. Install Multus with its CRD" in events[0]["note"]
        await asyncio.to_thread(install_nad_crd, server)
        await networks.until_nad(bool)
    await asyncio.to_thread(server.request, "DELETE", DEFAULT_NADS_PATH)

    assert caplog.text.count("its definition is not installed") == 1


async def test_a_network_owns_its_nad(networks: Networks) -> None:
    created_network = await networks.create(macvlan())
    nad = await networks.until_nad(bool)

    config = json.loads(nad["spec"]["config"])
    assert [plugin["type"] for plugin in config["plugins"]] == ["macvlan", "coordinator"]
    (owner,) = nad["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"]) == (created_network["metadata"]["uid"], True)


@pytest.mark.simulated(lacks="kmock does not simulate the removal of annotations")
async def test_a_changed_network_changes_the_configuration_and_annotations_of_its_nad(
    networks: Networks,
) -> None:
    config = macvlan()
    config["metadata"]["annotations"] = {"team": "a", "kept": "b"}
    await networks.create(config)
    await networks.until_nad(bool)
    changed_network = macvlan(enableCoordinator=False)
    changed_network["metadata"]["annotations"] = {"kept": "b"}
    await networks.replace(changed_network)

    nad = await networks.until_nad(lambda nad: "coordinator" not in nad["spec"]["config"])
    assert nad["metadata"]["annotations"] == {"kept": "b"}


async def test_a_nad_edited_by_hand_is_restored(networks: Networks) -> None:
    await networks.create(macvlan())
    original_spec = (await networks.until_nad(bool))["spec"]
    edit = {"spec": {"config": "{}"}, "metadata": {"ownerReferences": None}}
    await asyncio.to_thread(
        networks.server.request, "PATCH", f"{DEFAULT_NADS_PATH}/net", edit, content=MERGE_PATCH
    )

    await networks.until_nad(lambda nad: nad["metadata"].get("ownerReferences"))
    assert await networks.until_nad(lambda nad: nad["spec"] == original_spec)


async def test_a_deleted_nad_is_created_again(networks: Networks) -> None:
    await networks.create(macvlan())
    uid = (await networks.until_nad(bool))["metadata"]["uid"]
    await asyncio.to_thread(networks.server.request, "DELETE", f"{DEFAULT_NADS_PATH}/net")

    nad = await networks.until_nad(lambda nad: nad and nad["metadata"]["uid"] != uid)
    assert "macvlan" in nad["spec"]["config"]


async def test_an_existing_nad_without_an_owner_becomes_the_nad_of_the_network(
    networks: Networks,
) -> None:
    body = {
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "net", "annotations": {"old": "x"}},
        "spec": {"config": "{}"},
    }
    await asyncio.to_thread(networks.server.request, "POST", DEFAULT_NADS_PATH, body)
    await networks.create(macvlan())

    nad = await networks.until_nad(lambda nad: nad["metadata"].get("ownerReferences"))
    assert "macvlan" in nad["spec"]["config"]
    assert "old" not in nad["metadata"].get("annotations", {})


async def test_a_nad_of_another_network_is_reported_and_not_changed(
    networks: Networks,
) -> None:
    await networks.create(macvlan())
    before = await networks.until_nad(bool)
    other = network("ipvlan", "other", ipvlan={"master": ["ens4"]})
    other["metadata"]["annotations"] = {"multus.spidernet.io/cr-name": "net"}
    await networks.create(other)

    events = await networks.events("other")
    assert "is managed by SpiderMultusConfig default/net." in events[0]["note"]
    assert (await networks.nad())["spec"] == before["spec"]


async def test_removing_the_configuration_of_a_custom_network_empties_its_nad(
    networks: Networks,
) -> None:
    await networks.create(network("custom", customCNI='{"a": 1}'))
    await networks.until_nad(bool)
    await networks.replace(network("custom", customCNI=""))

    assert await networks.until_nad(lambda nad: nad["spec"] == {})
