"""The webhooks, called by a real API server over TLS.

``create`` and ``replace`` of the fixture ``webhooks`` return "" or the API server's message.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.errors import BadInput
from core.kubernetes.api_client import Object
from ops.kubernetes.admission.networks import validate_coordinator
from ops.kubernetes.admission.reviews import UPDATE, AdmissionRequest
from ops.kubernetes.certificates import served_certificate
from ops.kubernetes.settings import InjectionSettings
from tests.kubernetes.objects import (
    coordinator,
    get,
    network,
    path_of,
    pool,
    reservation,
    subnet,
)
from tests.kubernetes.translator_harness import until
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.kubernetes import MERGE_PATCH, Answer, ApiServer
from tests.support.node_harness import pod


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with running_webhooks(server, tmp_path) as webhooks:
        yield webhooks


async def test_the_webhook_completes_a_pool_and_merges_its_ranges(
    webhooks: Webhooks,
) -> None:
    config = pool(ips=["10.6.0.11", "10.6.0.10"])
    assert await webhooks.create(config) == ""

    stored = get(webhooks.cluster.server, "SpiderIPPool", "blue")
    assert stored["spec"]["ips"] == ["10.6.0.10-10.6.0.11"]
    assert stored["spec"]["ipVersion"] == 4
    assert stored["metadata"]["finalizers"] == ["spiderpool.spidernet.io"]
    assert stored["metadata"]["labels"]["ipam.spidernet.io/ippool-cidr"] == "10-6-0-0-16"


async def test_a_pool_inherits_the_gateway_of_the_subnet_with_the_same_cidr(
    webhooks: Webhooks,
) -> None:
    assert await webhooks.create(subnet(gateway="10.6.0.1")) == ""
    await webhooks.cluster.until_condition("SpiderSubnet", "wide", "Ready", "True")
    assert await webhooks.create(pool()) == ""

    stored = get(webhooks.cluster.server, "SpiderIPPool", "blue")
    assert stored["spec"]["gateway"] == "10.6.0.1"
    (owner,) = stored["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("SpiderSubnet", "wide", True)


async def test_a_pool_that_overlaps_another_pool_is_refused(webhooks: Webhooks) -> None:
    assert await webhooks.create(pool("blue")) == ""
    await webhooks.cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")

    message = await webhooks.create(pool("green"))  # the same address
    assert "spec.ips" in message
    assert "blue" in message


async def test_an_invalid_pool_that_was_stored_without_webhooks_gets_a_condition(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    assert await webhooks.create(pool()) == ""
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await webhooks.stop()
    await cluster.stop_translator()
    assert await webhooks.create(pool("early")) == ""

    await webhooks.start()
    cluster.start_translator()
    condition = await cluster.until_condition("SpiderIPPool", "early", "Ready", "False")

    assert "SpiderIPPool/blue already has" in condition["message"]
    assert await webhooks.replace(pool("early", ips=["10.6.0.11"])) == ""
    await cluster.until_condition("SpiderIPPool", "early", "Ready", "True")


async def test_removing_addresses_in_use_from_a_pool_is_refused(webhooks: Webhooks) -> None:
    cluster = webhooks.cluster
    assert await webhooks.create(pool(default=True)) == ""
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))

    message = await webhooks.replace(pool(default=True, ips=["10.6.0.20"]))
    assert "10.6.0.10" in message
    assert "web-0" in message


async def test_finalizers_can_be_removed_while_the_webhook_does_not_answer(
    webhooks: Webhooks,
) -> None:
    assert await webhooks.create(pool()) == ""
    assert await webhooks.create(coordinator()) == ""
    assert await webhooks.create(network("custom")) == ""
    await webhooks.stop_serving()

    for kind, name in (
        ("SpiderIPPool", "blue"),
        ("SpiderCoordinator", "default"),
        ("SpiderMultusConfig", "net"),
    ):
        body = {"metadata": {"finalizers": None}}
        assert await _merge(webhooks, kind, name, body) == ""
    # The API server calls the webhook if this annotation, the NAD's name, changes.
    renamed = {"metadata": {"annotations": {"multus.spidernet.io/cr-name": "other"}}}
    assert "webhook" in await _merge(webhooks, "SpiderMultusConfig", "net", renamed)


async def test_changing_the_nad_name_of_a_network_is_refused(
    webhooks: Webhooks,
) -> None:
    config = network("custom")
    config["metadata"]["labels"] = {"team": "a"}  # labels must not matter
    assert await webhooks.create(config) == ""

    renamed = {"metadata": {"annotations": {"multus.spidernet.io/cr-name": "other"}}}
    assert "cr-name" in await _merge(webhooks, "SpiderMultusConfig", "net", renamed)


def test_the_finalizer_of_an_invalid_coordinator_can_be_removed() -> None:
    invalid = coordinator(podMACPrefix="01:00")  # a multicast prefix
    metadata = {"name": "default", "finalizers": ["spiderpool.spidernet.io"]}
    with_finalizer = invalid | {"metadata": metadata}

    def refusals_of_update(new: Object, old: Object) -> object:
        return validate_coordinator(
            AdmissionRequest(
                uid="uid",
                kind="SpiderCoordinator",
                operation=UPDATE,
                namespace="",
                name="default",
                object=new,
                old=old,
            )
        )

    assert refusals_of_update(invalid, with_finalizer) == ()
    assert refusals_of_update(invalid, coordinator()) != ()


async def test_a_coordinator_is_refused_with_the_path_of_an_invalid_field(
    webhooks: Webhooks,
) -> None:
    without_dst = coordinator(policyRoutes=[{"gw": "10.0.0.1"}])

    assert "spec.policyRoutes[0].dst" in await webhooks.create(without_dst)
    assert "spec.hijackCIDR" in await webhooks.create(coordinator(hijackCIDR=[5]))


async def _merge(webhooks: Webhooks, kind: str, name: str, body: Object) -> str:
    """Return "" or the message of the refusal."""
    server = webhooks.cluster.server
    answer = await asyncio.to_thread(
        server.request, "PATCH", path_of(kind, name), body, content=MERGE_PATCH
    )
    return "" if answer.status == 200 else answer.message


async def test_reservations_are_normalised_and_reversed_ranges_are_refused(
    webhooks: Webhooks,
) -> None:
    assert await webhooks.create(reservation(ips=["10.6.0.9", "10.6.0.8"])) == ""
    stored = get(webhooks.cluster.server, "SpiderReservedIP", "kept")

    assert stored["spec"] == {"ips": ["10.6.0.8-10.6.0.9"], "ipVersion": 4}
    assert "10.6.0.9-10.6.0.8" in await webhooks.create(
        reservation("invalid", ipVersion=4, ips=["10.6.0.9-10.6.0.8"])
    )


async def test_coordinators_get_defaults_and_invalid_routes_are_refused(
    webhooks: Webhooks,
) -> None:
    assert await webhooks.create(coordinator(hijackCIDR=["10.9.9.9", "::ffff:10.9.9.9"])) == ""
    stored = get(webhooks.cluster.server, "SpiderCoordinator", "default")

    assert stored["spec"]["hijackCIDR"] == ["10.9.9.9/32", "::ffff:10.9.9.9/128"]
    assert stored["spec"]["vethMTU"] == 1500
    message = await webhooks.create(
        coordinator("invalid", policyRoutes=[{"dst": "10.0.0.0/8", "gw": "fd00::1"}])
    )
    assert "spec.policyRoutes[0]" in message


async def test_a_network_gets_defaults_and_an_invalid_chained_plugin_is_refused(
    webhooks: Webhooks,
) -> None:
    config = network("macvlan", macvlan={"master": ["ens3"]})
    config["metadata"]["annotations"] = {"cni.spidernet.io/network-resource-inject": "team-a"}
    assert await webhooks.create(config) == ""
    stored = get(webhooks.cluster.server, "SpiderMultusConfig", "net")

    assert stored["spec"]["macvlan"]["mtu"] == 0
    assert stored["spec"]["coordinator"]["mode"] == "auto"
    # The webhook copies the annotation to a label, by which Pods select networks.
    assert stored["metadata"]["labels"]["cni.spidernet.io/network-resource-inject"] == "team-a"
    invalid = network("macvlan", "invalid", macvlan={"master": ["ens3"]}, chainCNIJsonData=["{}"])
    assert "type is missing" in await webhooks.create(invalid)


async def test_deleting_a_pool_in_use_is_refused_when_the_webhook_guards_deletion(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    await webhooks.stop()
    await webhooks.start(guards_deletion=True)
    assert await webhooks.create(pool(default=True)) == ""
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    path = path_of("SpiderIPPool", "blue")
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))
    refusal = await _delete(webhooks, path)
    refusal_of_all_pools = await _delete(webhooks, path_of("SpiderIPPool"))
    await cluster.node.delete(pod("web-0"))
    deletion = await _delete(webhooks, path)

    assert "web-0" in refusal.message
    assert "SpiderIPPool 'blue'" in refusal_of_all_pools.message
    assert deletion.status == 200


async def test_deleting_a_pool_in_use_is_allowed_with_a_warning_by_default(
    webhooks: Webhooks,
) -> None:
    cluster, path = webhooks.cluster, path_of("SpiderIPPool", "blue")
    assert await webhooks.create(pool(default=True)) == ""
    assert await webhooks.create(pool("unused", ips=["10.6.0.200"])) == ""
    for name in ("blue", "unused"):
        await cluster.until_condition("SpiderIPPool", name, "Ready", "True")
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))

    unused = await _delete(webhooks, path_of("SpiderIPPool", "unused"))
    used = await _delete(webhooks, path)
    await webhooks.stop_serving()
    without_webhook = await _delete(webhooks, path)

    assert (unused.status, unused.warnings) == (200, ())
    assert used.status == without_webhook.status == 200
    (warning,) = used.warnings
    assert "SpiderIPPool 'blue' will be deleted when it is no longer in use" in warning
    assert "web-0" in warning


async def _delete(webhooks: Webhooks, path: str) -> Answer:
    return await asyncio.to_thread(webhooks.cluster.server.request, "DELETE", path)


async def test_a_rotated_certificate_is_served_without_a_restart(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_certificate, "CERTIFICATES_POLL_S", 0.02)
    await webhooks.stop()
    await webhooks.start()
    before = await webhooks.certificate()
    webhooks.write_certificate()

    await webhooks.until_certificate_changes(before)
    assert await webhooks.create(pool()) == ""


async def test_the_webhook_server_does_not_start_with_an_invalid_certificate(
    webhooks: Webhooks,
) -> None:
    await webhooks.stop()
    webhooks.files.certificate.write_text("not a certificate")

    with pytest.raises(BadInput, match=r"tls\.crt"):
        await webhooks.start()


def pod_with_annotations(name: str, **annotations: str) -> Object:
    """``__`` in the name of an annotation stands for ``/``."""
    annotations_by_key = {key.replace("__", "/"): value for key, value in annotations.items()}
    container = {"name": "main", "image": "none"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations_by_key},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }


async def test_a_pod_gets_the_networks_and_devices_that_its_annotation_selects_by_label(
    webhooks: Webhooks,
) -> None:
    await webhooks.stop()
    await webhooks.start(injection=InjectionSettings())
    block = {"resourceName": "spidernet.io/vf", "ippools": {"ipv4": ["blue"]}}
    config = network("sriov", sriov=block)
    config["metadata"]["annotations"] = {"cni.spidernet.io/rdma-resource-inject": "team-a"}
    assert await webhooks.create(config) == ""
    server = webhooks.cluster.server
    pods = "/api/v1/namespaces/default/pods"
    team_a = {"cni.spidernet.io__rdma-resource-inject": "team-a"}

    def created() -> Object | None:
        """None until the webhook's cache has the network."""
        answer = server.request("POST", pods, pod_with_annotations("web-0", **team_a))
        return answer.body if answer.status == 201 else None

    stored_pod = await until(created)
    assert stored_pod is not None
    assert stored_pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] == "default/net"
    (container,) = stored_pod["spec"]["containers"]
    assert container["resources"]["limits"]["spidernet.io/vf"] == "1"
    of_unknown_team = pod_with_annotations(
        "web-1", **{"cni.spidernet.io__rdma-resource-inject": "team-x"}
    )
    answer = await asyncio.to_thread(server.request, "POST", pods, of_unknown_team)
    assert "no SpiderMultusConfig has the annotation" in answer.message
    plain = await asyncio.to_thread(server.request, "POST", pods, pod_with_annotations("web-2"))
    assert plain.status == 201, plain.message
    for name in ("web-0", "web-2"):
        now = {"gracePeriodSeconds": 0}
        await asyncio.to_thread(server.request, "DELETE", f"{pods}/{name}", now)
