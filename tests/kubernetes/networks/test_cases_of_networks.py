"""Spiderpool's end-to-end cases about networks and SpiderCoordinators, on a real API server.

An id such as M00001 is a case in docs/contributing/compatibility.md. A network is a
SpiderMultusConfig.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.kubernetes.api_client import Api
from core.kubernetes.http_connection import open_connection
from ops.kubernetes.custom_resource_writer import ObjectWriter
from ops.kubernetes.network_attachment_definitions import Attachments
from tests.kubernetes.network_harness import DEFAULT_NADS_PATH, NAD_DEFINITION, Networks
from tests.kubernetes.objects import Object, coordinator, network, path_of
from tests.kubernetes.translator_harness import until
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.kubernetes import ApiServer

MASTER: dict[str, Any] = {"master": ["ens3"]}
POOLS: dict[str, Any] = {"ippools": {"ipv4": ["blue"]}}
CR_NAME = "multus.spidernet.io/cr-name"
CNI_VERSION = "multus.spidernet.io/cni-version"
RDMA_INJECTION = "cni.spidernet.io/rdma-resource-inject"
DEVICE_INJECTION = "cni.spidernet.io/network-resource-inject"
TOO_LONG_NAME = "a" * 254


def macvlan(block: Object | None = None, **spec: Any) -> Object:
    return network("macvlan", macvlan=MASTER | (block or {}), **spec)


def macvlan_with_coordinator(**settings: Any) -> Object:
    return macvlan(coordinator=settings)


def annotated(config: Object, **annotations: str) -> Object:
    """Annotate the network in place; each keyword is the short name of an annotation."""
    keys = {
        "cr_name": CR_NAME,
        "version": CNI_VERSION,
        "rdma": RDMA_INJECTION,
        "devices": DEVICE_INJECTION,
    }
    config["metadata"]["annotations"] = {keys[key]: text for key, text in annotations.items()}
    return config


ACCEPTED: dict[str, Object] = {
    "M00001 macvlan": macvlan(),
    "M00002 ipvlan": network("ipvlan", ipvlan=MASTER),
    "M00003 sriov": network("sriov", sriov={"resourceName": "spidernet.io/vf"}),
    "M00004 custom": network("custom", customCNI='{"cniVersion":"0.3.1","name":"x"}'),
    "M00006 two masters and a bond": macvlan(
        {"master": ["ens3", "ens4"], "vlanID": 30, "bond": {"name": "bd0", "mode": 1}}
    ),
    "M00012 a known version": annotated(macvlan(), version="1.0.0"),
    "M00017 without IPAM": macvlan(disableIPAM=True),
    "M00019 an empty spec": network("custom") | {"spec": {}},
    "M00021 a chained plugin": macvlan(
        chainCNIJsonData=['{"type":"tuning","sysctl":{"net.core.somaxconn":"4096"}}']
    ),
    "M00022 a mode of the reverse path filter": macvlan_with_coordinator(podRPFilter=2),
    "M00024 a MAC prefix": macvlan_with_coordinator(podMACPrefix="9e:10"),
    "M00026 an address on the veth": macvlan_with_coordinator(vethLinkAddress="169.254.100.1"),
    "M00027 an injected RDMA resource and pools": annotated(
        macvlan(POOLS | {"rdmaResourceName": "x/y"}), rdma="t"
    ),
    "M00031 injected devices and pools": annotated(
        macvlan(POOLS | {"rdmaResourceName": "x/y"}), devices="t"
    ),
    "M00033 an MTU of macvlan": macvlan({"mtu": 1400}),
    "M00034 an MTU of ipvlan": network("ipvlan", ipvlan=MASTER | {"mtu": 1400}),
    "M00035 an MTU of sriov": network("sriov", sriov={"resourceName": "x/y", "mtu": 1400}),
    "M00038 vlan": network("vlan", vlan=MASTER | {"vlanID": 30}),
    "M00039 a VLAN that the provider chooses": network("vlan", vlan=MASTER | {"vlanMode": "auto"}),
    "C00022 a MAC prefix of the cluster": coordinator("c", podMACPrefix="0a:1b"),
    "C00023 an MTU of the cluster": coordinator("c", vethMTU=1400),
}
REFUSED: dict[str, Object] = {
    "M00005 a custom configuration that is not JSON": network("custom", customCNI="{"),
    "M00013 an unknown version": annotated(macvlan(), version="9.9.9"),
    "M00015 a block of another type": macvlan(ipvlan=MASTER),
    "M00015 no block of its type": network("ipvlan", macvlan=MASTER),
    "M00016 VLAN -1": macvlan({"vlanID": -1}),
    "M00016 VLAN 4095": macvlan({"vlanID": 4095}),
    "M00020 a name that is too long": annotated(macvlan(), cr_name=TOO_LONG_NAME),
    "M00020 an empty name": annotated(macvlan(), cr_name=""),
    "M00021 a chained plugin that is not JSON": macvlan(chainCNIJsonData=["tuning"]),
    "M00021 a chained object without type": macvlan(chainCNIJsonData=['{"sysctl":{}}']),
    "M00023 an unknown mode of the reverse path filter": macvlan_with_coordinator(podRPFilter=4),
    "M00024 a multicast MAC prefix": macvlan_with_coordinator(podMACPrefix="01:10"),
    "M00025 a name in capitals": annotated(macvlan(), cr_name="Net_1"),
    "M00026 a word as the address of the veth": macvlan_with_coordinator(vethLinkAddress="here"),
    "M00028 no RDMA resource to inject": annotated(macvlan(POOLS), rdma="t"),
    "M00029 an injected RDMA resource without pools": annotated(
        macvlan({"rdmaResourceName": "x/y"}), rdma="t"
    ),
    "M00030 an injected RDMA resource of ovs": annotated(
        network("ovs", ovs={"bridge": "br0"} | POOLS), rdma="t"
    ),
    "M00032 injected devices without pools": annotated(
        macvlan({"rdmaResourceName": "x/y"}), devices="t"
    ),
    "M00033 an MTU below zero": macvlan({"mtu": -1}),
    "M00034 an MTU of ipvlan below zero": network("ipvlan", ipvlan=MASTER | {"mtu": -1}),
    "M00035 an MTU of sriov below zero": network("sriov", sriov={"resourceName": "x/y", "mtu": -1}),
    "M00040 a VLAN ID although the provider chooses the VLAN": network(
        "vlan", vlan=MASTER | {"vlanMode": "auto", "vlanID": 30}
    ),
    "C00022 a multicast MAC prefix": coordinator("c", podMACPrefix="01:1b"),
    "C00023 an MTU of 0": coordinator("c", vethMTU=0),
}


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    await asyncio.to_thread(
        server.kubectl, "apply", "--server-side", "-f", "-", stdin=NAD_DEFINITION
    )
    await asyncio.to_thread(server.wait_served, DEFAULT_NADS_PATH)
    async with running_webhooks(server, tmp_path) as webhooks:
        yield webhooks
    await asyncio.to_thread(server.request, "DELETE", DEFAULT_NADS_PATH)


@pytest.fixture
async def networks(webhooks: Webhooks) -> AsyncIterator[Networks]:
    server = webhooks.cluster.server
    api = Api(await open_connection(str(server.kubeconfig)))
    attachments = Attachments(api, ObjectWriter(api, "controller-0"))
    attachments_task = asyncio.ensure_future(attachments.run())
    yield Networks(server, attachments)
    attachments_task.cancel()
    await asyncio.gather(attachments_task, return_exceptions=True)
    await api.close()


async def dry_run(server: ApiServer, item: Object) -> str:
    """Create an object in a dry run; return the reason of a refusal, otherwise ""."""
    path = f"{path_of(item['kind'])}?dryRun=All"
    answer = await asyncio.to_thread(server.request, "POST", path, item)
    return "" if answer.status == 201 else answer.message


async def test_valid_networks_and_coordinators_are_accepted(webhooks: Webhooks) -> None:
    refusals = {
        case: await dry_run(webhooks.cluster.server, item) for case, item in ACCEPTED.items()
    }

    assert {case: refusal for case, refusal in refusals.items() if refusal} == {}


async def test_invalid_networks_and_coordinators_are_refused_with_the_field(
    webhooks: Webhooks,
) -> None:
    refusals = {
        case: await dry_run(webhooks.cluster.server, item) for case, item in REFUSED.items()
    }

    assert {case for case, refusal in refusals.items() if not refusal} == set()
    assert all("spec" in text or "metadata.annotations" in text for text in refusals.values())


async def test_the_annotations_of_a_network_set_name_and_cni_version_of_its_nad(
    networks: Networks,
) -> None:
    """M00010, M00012."""
    await networks.create(annotated(macvlan(), cr_name="other", version="0.4.0"))

    nad = await networks.until_nad(bool, "other")

    assert json.loads(nad["spec"]["config"])["cniVersion"] == "0.4.0"
    assert await networks.nad() == {}


async def test_a_bond_that_is_added_to_a_network_is_added_to_its_nad(networks: Networks) -> None:
    """M00006, M00009."""
    await networks.create(macvlan())
    await networks.until_nad(bool)
    bonded = {"master": ["ens3", "ens4"], "vlanID": 30, "bond": {"name": "bd0", "mode": 1}}

    await networks.replace(macvlan(bonded))

    nad = await networks.until_nad(lambda nad: "ifacer" in nad["spec"]["config"])
    bond_plugin, macvlan_plugin, *_ = json.loads(nad["spec"]["config"])["plugins"]
    assert (bond_plugin["bond"]["name"], bond_plugin["vlanID"]) == ("bd0", 30)
    assert macvlan_plugin["master"] == "bd0.30"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "a", "cr_name": "same"}, {"name": "b", "cr_name": "same"}),
        ({"name": "a"}, {"name": "b", "cr_name": "a"}),
        ({"name": "a", "cr_name": "b"}, {"name": "b"}),
    ],
    ids=["cr_name_twice", "name_then_cr_name", "cr_name_then_name"],
)
async def test_a_network_with_the_nad_name_of_another_network_is_refused(
    networks: Networks, webhooks: Webhooks, first: dict[str, str], second: dict[str, str]
) -> None:
    """M00011. ``cr_name`` is the name of the NAD, by default the name of the network."""

    def macvlan_named(name: str, **annotations: str) -> Object:
        config = annotated(macvlan(), **annotations)
        config["metadata"]["name"] = name
        return config

    await networks.create(macvlan_named(**first))
    await networks.until_nad(bool, first.get("cr_name", first["name"]))

    refusal = await dry_run(webhooks.cluster.server, macvlan_named(**second))

    assert "already exists and is managed by SpiderMultusConfig default/a." in refusal


async def test_a_network_with_an_empty_spec_gets_a_nad_without_a_configuration(
    networks: Networks,
) -> None:
    """M00019."""
    await networks.create(network("custom") | {"spec": {}})

    nad = await networks.until_nad(bool)

    assert "config" not in nad.get("spec", {})


async def test_chained_plugins_and_coordinator_settings_are_in_the_nad(
    networks: Networks,
) -> None:
    """M00021, M00022, M00024, M00026, M00033, M00017."""
    sysctl = '{"type":"tuning","sysctl":{"net.core.somaxconn":"4096"}}'
    settings = {
        "podRPFilter": 2,
        "podCIDRType": "auto",
        "podMACPrefix": "9e:10",
        "vethLinkAddress": "169.254.100.1",
    }
    await networks.create(
        macvlan({"mtu": 1400}, chainCNIJsonData=[sysctl], coordinator=settings, disableIPAM=True)
    )

    nad = await networks.until_nad(bool)

    main, chained, coordinator_plugin = json.loads(nad["spec"]["config"])["plugins"]
    assert (main["mtu"], "ipam" in main) == (1400, False)
    assert chained == {"type": "tuning", "sysctl": {"net.core.somaxconn": "4096"}}
    # podCIDRType is not a setting of the plugin.
    assert settings.items() - coordinator_plugin.items() == {("podCIDRType", "auto")}


async def test_a_refused_change_leaves_the_coordinator_as_it_was(webhooks: Webhooks) -> None:
    """C00022."""
    server = webhooks.cluster.server
    assert await webhooks.create(coordinator("kept", podMACPrefix="0a:1b")) == ""

    refusal = await webhooks.replace(coordinator("kept", podMACPrefix="01:1b"))

    stored = await until(lambda: server.request("GET", path_of("SpiderCoordinator", "kept")).body)
    assert "spec.podMACPrefix" in refusal
    assert stored["spec"]["podMACPrefix"] == "0a:1b"
