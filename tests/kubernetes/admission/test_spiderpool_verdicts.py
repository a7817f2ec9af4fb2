"""The webhooks refuse objects with the HTTP code, the reason and the causes of Spiderpool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.domain.autopools.pool_names import OWNER_SUBNET
from core.kubernetes.api_client import Object
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.admission.networks import defaulted_network
from tests.kubernetes.objects import (
    coordinator,
    create,
    custom_resource,
    get,
    network,
    path_of,
    pool,
    reservation,
    subnet,
)
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support.kubernetes import MERGE_PATCH, Answer, ApiServer
from tests.support.node_harness import pod

SUBNET_IPS = ["10.6.0.10-10.6.0.19"]
OUTSIDE_SUBNET = ["10.6.0.30"]


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with running_webhooks(server, tmp_path) as webhooks:
        yield webhooks


@pytest.fixture
async def webhooks_without_subnets(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    """Webhooks and a translator with enableSpiderSubnet false."""
    async with running_webhooks(server, tmp_path, subnets_enabled=False) as webhooks:
        yield webhooks


async def create_object(webhooks: Webhooks, body: Object) -> Answer:
    return await asyncio.to_thread(create, webhooks.cluster.server, body)


async def merge_object(webhooks: Webhooks, kind: str, name: str, body: Object) -> Answer:
    server, path = webhooks.cluster.server, path_of(kind, name)
    return await asyncio.to_thread(server.request, "PATCH", path, body, content=MERGE_PATCH)


def causes(answer: Answer) -> list[tuple[str, str]]:
    """(type, field) of each cause."""
    reported: list[dict[str, Any]] = answer.body["details"]["causes"]
    return [(cause["reason"], cause.get("field", "")) for cause in reported]


async def create_until_ready(webhooks: Webhooks, body: Object) -> Object:
    answer = await create_object(webhooks, body)
    assert answer.status == 201, answer.message
    kind, name = body["kind"], body["metadata"]["name"]
    await webhooks.cluster.until_condition(kind, name, "Ready", "True")
    return get(webhooks.cluster.server, kind, name)


def with_owner_subnet(pool_object: Object, owner: Object) -> Object:
    """Make a SpiderSubnet the controlling owner of ``pool_object``, which is changed."""
    reference = {"apiVersion": API_VERSION, "kind": "SpiderSubnet", "controller": True} | owner
    pool_object["metadata"] |= {
        "labels": {OWNER_SUBNET: owner["name"]},
        "ownerReferences": [reference],
    }
    return pool_object


async def test_creating_an_existing_name_returns_409_already_exists(webhooks: Webhooks) -> None:
    for body in (pool(), subnet(), reservation(ips=["10.6.0.9"])):
        await create_until_ready(webhooks, body)
        changed = body | {"spec": body["spec"] | {"ips": ["10.6.0.10", "10.6.0.12"]}}
        answer = await create_object(webhooks, changed)

        assert answer.status == 409, answer.message
        assert answer.body["reason"] == "AlreadyExists"
        assert "already exists" in answer.message


async def test_deleting_a_pool_in_use_returns_403_forbidden(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    await webhooks.stop()
    await webhooks.start(guards_deletion=True)
    await create_until_ready(webhooks, pool(default=True))
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))

    path = path_of("SpiderIPPool", "blue")
    answer = await asyncio.to_thread(cluster.server.request, "DELETE", path)

    assert (answer.status, answer.body["reason"]) == (403, "Forbidden")
    assert "web-0" in answer.message


async def test_an_empty_gateway_returns_422_invalid(webhooks: Webhooks) -> None:
    for body in (pool(gateway=""), subnet(gateway="")):
        answer = await create_object(webhooks, body)
        assert answer.status == 422
        assert causes(answer) == [("FieldValueInvalid", "spec.gateway")]


async def test_a_pool_is_refused_if_its_owner_subnet_does_not_exist(webhooks: Webhooks) -> None:
    answer = await create_object(
        webhooks, with_owner_subnet(pool(), {"name": "ghost", "uid": "u-1"})
    )

    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert causes(answer) == [("InternalError", "spec.subnet")]
    assert "failed to get controller Subnet ghost" in answer.message


async def test_a_pool_is_refused_if_its_owner_subnet_has_another_uid(webhooks: Webhooks) -> None:
    wide = await create_until_ready(webhooks, subnet(ips=SUBNET_IPS))
    uid = wide["metadata"]["uid"]

    assert (
        await create_object(webhooks, with_owner_subnet(pool(), {"name": "wide", "uid": "u-1"}))
    ).status == 422
    assert (
        await create_object(webhooks, with_owner_subnet(pool(), {"name": "wide", "uid": uid}))
    ).status == 201


async def test_a_pool_does_not_inherit_removed_fields_again(
    webhooks: Webhooks,
) -> None:
    cluster = webhooks.cluster
    routes = [{"dst": "10.20.0.0/16", "gw": "10.6.0.2"}]
    await create_until_ready(webhooks, subnet(ips=SUBNET_IPS, gateway="10.6.0.1", routes=routes))
    await create_until_ready(webhooks, pool())
    removal = {"spec": {"gateway": None, "routes": None}}

    answer = await merge_object(webhooks, "SpiderIPPool", "blue", removal)

    assert answer.status == 200, answer.message
    assert "gateway" not in answer.body["spec"]
    await cluster.until(lambda: not cluster.ledger.pools["blue"].gateway)
    answer = await merge_object(webhooks, "SpiderIPPool", "blue", {"spec": {"disable": True}})
    await cluster.until(lambda: cluster.ledger.pools["blue"].disabled)
    await cluster.until_idle()
    spec = get(cluster.server, "SpiderIPPool", "blue")["spec"]
    assert "gateway" not in spec
    assert "routes" not in spec
    assert not cluster.ledger.pools["blue"].routes


async def test_pools_inherit_nothing_from_subnets_when_subnets_are_disabled(
    webhooks_without_subnets: Webhooks,
) -> None:
    webhooks, cluster = webhooks_without_subnets, webhooks_without_subnets.cluster
    wide = await create_until_ready(webhooks, subnet(ips=SUBNET_IPS, gateway="10.6.0.1"))
    await create_until_ready(webhooks, pool(ips=OUTSIDE_SUBNET))
    uid = wide["metadata"]["uid"]
    await create_until_ready(
        webhooks, with_owner_subnet(pool("green", ips=["10.6.0.31"]), {"name": "wide", "uid": uid})
    )
    await cluster.until_idle()

    stored_pool = get(cluster.server, "SpiderIPPool", "blue")
    assert "gateway" not in stored_pool["spec"]
    assert "ownerReferences" not in stored_pool["metadata"]
    assert OWNER_SUBNET not in stored_pool["metadata"]["labels"]
    green = get(cluster.server, "SpiderIPPool", "green")["metadata"]
    assert green["labels"][OWNER_SUBNET] == "wide"
    assert cluster.ledger.pools["green"].gateway == ""


async def test_a_changed_ip_version_is_forbidden(webhooks: Webhooks) -> None:
    old = await create_until_ready(webhooks, pool())
    new = old | {"spec": old["spec"] | {"ipVersion": 5}}
    response = await webhooks.validate("UPDATE", new, old)

    assert causes_of_review(response) == [("FieldValueForbidden", "spec.ipVersion")]
    assert "is not changeable" in response["status"]["message"]


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        # In causes, Spiderpool calls the field hijackCIDR extraCIDR.
        ({"hijackCIDR": ["10.0.0.0/8", "x"]}, ("FieldValueInvalid", "spec.extraCIDR[1]")),
        ({"podCIDRType": None}, ("FieldValueNotSupported", "spec.podCIDRType")),
        ({"podRPFilter": 3}, ("FieldValueNotSupported", "spec.podRPFilter")),
    ],
)
async def test_an_invalid_coordinator_is_refused_with_the_path_of_the_field(
    webhooks: Webhooks, spec: Object, cause: tuple[str, str]
) -> None:
    assert causes_of_review(await webhooks.validate("CREATE", coordinator(**spec))) == [cause]


async def test_rdma_injection_into_an_ovs_network_is_forbidden(
    webhooks: Webhooks,
) -> None:
    injected = network("ovs", ovs={"bridge": "br"})
    injected["metadata"]["annotations"] = {"cni.spidernet.io/rdma-resource-inject": "a"}

    assert causes(await create_object(webhooks, injected)) == [
        ("FieldValueForbidden", "spec.cniType")
    ]


@pytest.mark.parametrize(
    ("kind", "field"),
    [("macvlan", "macvlanConfig"), ("ipvlan", "ipvlanConfig"), ("vlan", "vlan")],
)
async def test_a_network_without_masters_is_refused_with_spiderpools_field_name(
    webhooks: Webhooks, kind: str, field: str
) -> None:
    block: Object = {"master": [], "vlanID": 1}
    spec: Object = {"cniType": kind, kind: block}
    defaulted = defaulted_network(custom_resource("SpiderMultusConfig", "net", spec))

    assert defaulted["spec"][kind]["master"] == []
    assert causes_of_review(await webhooks.validate("CREATE", defaulted)) == [
        ("FieldValueInvalid", f"spec.{field}")
    ]


async def test_each_unknown_affinity_label_of_an_automatic_pool_gets_a_cause(
    webhooks: Webhooks,
) -> None:
    # An automatic pool may have only the labels ipam.spidernet.io/app-*.
    labels = dict.fromkeys(("app", "tier"), "x")
    auto_pool = pool(podAffinity={"matchLabels": labels})
    auto_pool["metadata"]["labels"] = {"ipam.spidernet.io/owner-application-name": "web"}

    answer = await create_object(webhooks, auto_pool)

    assert causes(answer) == [("FieldValueInvalid", "spec.podAffinity")] * 2


@pytest.mark.parametrize("verb", ["mutate", "validate"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"object": {"kind": "SpiderIPPool"}}, "metadata"),
        ({"object": None}, "has no valid object"),
        ({"object": {"kind": "SpiderIPPool", "metadata": {"labels": 5}}}, "labels"),
        ({"object": {"kind": "Service", "metadata": {}}}, "the object is a 'Service'"),
        ({"kind": {"group": "apps", "kind": "Deployment"}}, "got 'apps/Deployment'"),
        ({"namespace": "../secrets"}, "is not the name of a namespace"),
    ],
)
async def test_a_malformed_review_returns_400_bad_request(
    webhooks: Webhooks, verb: str, change: Object, words: str
) -> None:
    request = webhooks.review_request("CREATE", pool()) | change
    response = await webhooks.send_review(verb, "SpiderIPPool", request)

    assert response["uid"] == "r-1"
    assert not response["allowed"]
    assert (response["status"]["code"], response["status"]["reason"]) == (400, "BadRequest")
    assert words in response["status"]["message"]


async def test_a_namespace_that_contains_a_path_is_refused(webhooks: Webhooks) -> None:
    custom = network("custom", customCNI="{}")
    custom["metadata"]["namespace"] = "../../secrets"

    response = await webhooks.validate("CREATE", custom)

    assert not response["allowed"]
    assert "is not the name of an object" in response["status"]["message"]


def causes_of_review(response: Object) -> list[tuple[str, str]]:
    """(type, field) of each cause."""
    reported = response["status"]["details"]["causes"]
    return [(cause["reason"], cause["field"]) for cause in reported]
