"""Spiderpool's end-to-end cases about pools, subnets and reservations, on a real API server.

An id such as I00009 is a case in docs/contributing/compatibility.md. ``webhooks.create`` and
``webhooks.replace`` return "" or the reason of a refusal. The default names are "blue" of a pool,
"wide" of a subnet and "kept" of a reservation.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.domain.autopools.pool_names import ApplicationKey, PoolScope
from core.domain.autopools.pool_plan import DesiredPool
from core.domain.autopools.pool_size import IpNumber
from core.domain.configuration.commands import ApplyAutoPool
from core.manifests.manifest_writer import dump_yaml
from ops.kubernetes.translated_kinds import FINALIZER
from tests.kubernetes.objects import Object, create, get, path_of, pool, reservation, subnet
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.kubernetes.webhooks import Webhooks, running_webhooks
from tests.support import node_harness
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import pod

CONCURRENT_CREATES = 100
BATCH_SIZE = 60
INT64_MAX = 9_223_372_036_854_775_807
TEN_ADDRESSES = ["10.6.0.10-10.6.0.19"]


@pytest.fixture
async def webhooks(server: ApiServer, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with running_webhooks(server, tmp_path) as webhooks:
        yield webhooks


@pytest.fixture
def cluster(webhooks: Webhooks) -> TranslatorHarness:
    return webhooks.cluster


async def create_until_ready(webhooks: Webhooks, body: Object) -> None:
    """Create an object, and wait until the controller and the node have read it."""
    assert await webhooks.create(body) == ""
    await webhooks.cluster.until_condition(body["kind"], body["metadata"]["name"], "Ready", "True")
    await webhooks.cluster.refresh_node_view()


async def until_status(
    cluster: TranslatorHarness, kind: str, name: str, holds: Callable[[Object], object]
) -> None:
    await cluster.until(lambda: holds(get(cluster.server, kind, name).get("status") or {}))


def count_by_ready(server: ApiServer, kind: str) -> Counter[str]:
    """Status of the condition Ready ("" without the condition) -> number of objects."""
    counts: Counter[str] = Counter()
    for item in server.request("GET", path_of(kind)).body["items"]:
        conditions = item.get("status", {}).get("conditions", [])
        status_by_type = {condition["type"]: condition["status"] for condition in conditions}
        counts[status_by_type.get("Ready", "")] += 1
    return counts


@pytest.mark.parametrize("make", [pool, subnet], ids=["pools", "subnets"])
async def test_exactly_one_of_a_hundred_objects_with_the_same_addresses_is_applied(
    webhooks: Webhooks, make: Callable[..., Object]
) -> None:
    """I00009, I00010."""
    server, cluster = webhooks.cluster.server, webhooks.cluster
    new_objects = [make(f"same-{number}") for number in range(CONCURRENT_CREATES)]

    # Separate threads, because the webhooks use the threads of the event loop.
    with ThreadPoolExecutor(CONCURRENT_CREATES) as threads:
        loop = asyncio.get_running_loop()
        creations = [loop.run_in_executor(threads, create, server, body) for body in new_objects]
        answers = await asyncio.gather(*creations)

    created_count = sum(answer.status == 201 for answer in answers)
    kind = new_objects[0]["kind"]

    assert created_count == 1, {answer.message for answer in answers}
    await cluster.until(lambda: count_by_ready(server, kind) == {"True": 1})
    assert len(cluster.ledger.pools) + len(cluster.ledger.subnets) == 1


async def test_pools_are_created_and_deleted_in_batches(webhooks: Webhooks) -> None:
    """D00006, D00007."""
    server, cluster = webhooks.cluster.server, webhooks.cluster
    new_objects = [pool(f"p-{n}", ips=[f"10.6.{n}.1-10.6.{n}.9"]) for n in range(BATCH_SIZE)]

    await asyncio.to_thread(server.kubectl, "create", "-f", "-", stdin=dump_yaml(new_objects))
    await cluster.until(lambda: count_by_ready(server, "SpiderIPPool") == {"True": BATCH_SIZE})
    answer = await asyncio.to_thread(server.request, "DELETE", path_of("SpiderIPPool"))

    assert answer.status == 200
    await cluster.until(lambda: not count_by_ready(server, "SpiderIPPool"))
    assert not cluster.ledger.pools


async def test_the_total_of_a_huge_pool_is_the_greatest_64_bit_integer(webhooks: Webhooks) -> None:
    """D00017."""
    cluster, name = webhooks.cluster, "huge"
    ips = ["fd00:6::1-fd00:6::ffff:ffff:ffff:ffff:ffff"]
    await create_until_ready(webhooks, pool(name, subnet="fd00:6::/32", ips=ips, default=True))

    await cluster.node.add(pod("web-0"))
    await cluster.node.add(pod("web-1"))

    await until_status(
        cluster, "SpiderIPPool", name, lambda status: status.get("allocatedIPCount") == 2
    )
    assert get(cluster.server, "SpiderIPPool", name)["status"]["totalIPCount"] == INT64_MAX


@pytest.mark.parametrize(
    "change",
    [
        {"gateway": "10.7.0.1"},
        {"gateway": "fd00:6::1"},
        {"gateway": "router"},
        {"gateway": "10.6.0.10"},
        {"routes": [{"dst": "10.20.0.0", "gw": "10.6.0.1"}]},
        {"routes": [{"dst": "10.20.0.0/16", "gw": "10.7.0.1"}]},
        {"routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]},
        {"routes": [{"dst": "10.20.0.0/16", "gw": "10.6.0.1"}] * 2},
        {"routes": [{"dst": "fd00::/16", "gw": "10.6.0.1"}]},
    ],
    ids=json.dumps,
)
async def test_an_invalid_gateway_or_route_is_refused(webhooks: Webhooks, change: Object) -> None:
    """D00003."""
    await create_until_ready(webhooks, pool(ips=TEN_ADDRESSES, gateway="10.6.0.1"))
    valid: Object = {"gateway": "10.6.0.2", "routes": [{"dst": "10.20.0.0/16", "gw": "10.6.0.3"}]}

    assert await webhooks.replace(pool(ips=TEN_ADDRESSES, **(valid | change))) != ""
    assert await webhooks.replace(pool(ips=TEN_ADDRESSES, **valid)) == ""


async def test_only_a_free_address_can_be_excluded(webhooks: Webhooks) -> None:
    """S00003, I00002."""
    cluster = webhooks.cluster
    await create_until_ready(webhooks, subnet(ips=TEN_ADDRESSES))
    await create_until_ready(webhooks, pool(ips=TEN_ADDRESSES, default=True))
    (address,) = node_harness.addresses(await cluster.node.add(pod("web-0")))
    free = "10.6.0.10" if address != "10.6.0.10" else "10.6.0.11"

    refusal_of_pool = await webhooks.replace(
        pool(ips=TEN_ADDRESSES, default=True, excludeIPs=[address])
    )
    refusal_of_subnet = await webhooks.replace(subnet(ips=TEN_ADDRESSES, excludeIPs=[address]))

    assert address in refusal_of_pool
    assert "shop/web-0" in refusal_of_pool
    assert "blue" in refusal_of_subnet
    assert await webhooks.replace(pool(ips=TEN_ADDRESSES, default=True, excludeIPs=[free])) == ""


async def test_a_pool_with_addresses_that_its_subnet_excludes_is_refused(
    webhooks: Webhooks,
) -> None:
    """S00004, I00004."""
    await create_until_ready(webhooks, subnet(ips=TEN_ADDRESSES, excludeIPs=["10.6.0.11"]))

    assert "10.6.0.11" in await webhooks.create(pool(ips=TEN_ADDRESSES))
    assert await webhooks.create(pool(ips=["10.6.0.12"])) == ""


@pytest.mark.parametrize("order", ["subnet first", "pool first"])
async def test_a_pool_inherits_gateway_and_routes_of_its_subnet(
    webhooks: Webhooks, order: str
) -> None:
    """D00008."""
    cluster = webhooks.cluster
    routes = [{"dst": "10.20.0.0/16", "gw": "10.6.0.2"}]
    bodies = [subnet(ips=TEN_ADDRESSES, gateway="10.6.0.1", routes=routes), pool(ips=TEN_ADDRESSES)]
    for body in bodies if order == "subnet first" else reversed(bodies):
        await create_until_ready(webhooks, body)

    def has_inherited() -> bool:
        stored = get(cluster.server, "SpiderIPPool", "blue")
        spec, owners = stored["spec"], stored["metadata"].get("ownerReferences", [])
        inherited = (spec.get("gateway"), spec.get("routes"), [owner["name"] for owner in owners])
        return inherited == ("10.6.0.1", routes, ["wide"])

    await cluster.until(has_inherited)
    labels = get(cluster.server, "SpiderIPPool", "blue")["metadata"]["labels"]
    assert labels["ipam.spidernet.io/owner-spider-subnet"] == "wide"
    assert cluster.ledger.pools["blue"].gateway == "10.6.0.1"


async def test_a_fabricated_status_of_a_subnet_is_overwritten(webhooks: Webhooks) -> None:
    """I00022."""
    cluster = webhooks.cluster
    await create_until_ready(webhooks, subnet(ips=TEN_ADDRESSES))
    await until_status(
        cluster, "SpiderSubnet", "wide", lambda status: status.get("allocatedIPCount") == 0
    )
    fabricated = {
        "controlledIPPools": json.dumps({"ghost": {"ips": TEN_ADDRESSES}}),
        "allocatedIPCount": 10,
    }
    path = f"{path_of('SpiderSubnet', 'wide')}/status"

    answer = cluster.server.request("PATCH", path, {"status": fabricated}, content=MERGE_PATCH)

    assert answer.status == 200, answer.message
    await until_status(
        cluster,
        "SpiderSubnet",
        "wide",
        lambda status: status.get("allocatedIPCount") == 0 and "controlledIPPools" not in status,
    )


async def test_editing_the_addresses_of_an_automatic_pool_is_refused(webhooks: Webhooks) -> None:
    """I00018."""
    cluster = webhooks.cluster
    await create_until_ready(webhooks, subnet(ips=TEN_ADDRESSES))
    scope = PoolScope(ApplicationKey("apps/v1", "Deployment", "shop", "web"), "eth0", 4, "wide")
    await cluster.node.apply(ApplyAutoPool(DesiredPool(scope, "u-abcde", 1, IpNumber(1))))
    await cluster.until(lambda: cluster.ledger.pools)
    (name,) = cluster.ledger.pools
    await cluster.until(lambda: "spec" in get(cluster.server, "SpiderIPPool", name))

    edit = {"spec": {"ips": ["10.6.0.10-10.6.0.12"]}}
    path = path_of("SpiderIPPool", name)
    answer = await asyncio.to_thread(
        cluster.server.request, "PATCH", path, edit, content=MERGE_PATCH
    )

    assert "it's illegal to update AutoPool.Spec.IPs" in answer.message
    assert answer.status == 422


async def test_reserved_addresses_are_allocated_only_after_the_reservation_is_deleted(
    webhooks: Webhooks,
) -> None:
    """S00001, I00011."""
    cluster = webhooks.cluster
    await create_until_ready(webhooks, reservation(ips=TEN_ADDRESSES))
    await create_until_ready(webhooks, pool(ips=TEN_ADDRESSES, default=True))
    with pytest.raises(Exception, match="all IP addresses used out"):
        await cluster.node.add(pod("web-0"))

    server = cluster.server
    await asyncio.to_thread(server.request, "DELETE", path_of("SpiderReservedIP", "kept"))
    await cluster.until(lambda: not cluster.ledger.reservations)
    await cluster.refresh_node_view()

    assert len(node_harness.addresses(await cluster.node.add(pod("web-0")))) == 1


async def test_a_disabled_pool_allocates_no_address_but_a_del_releases_its_addresses(
    webhooks: Webhooks,
) -> None:
    """D00005."""
    cluster = webhooks.cluster
    await create_until_ready(webhooks, pool(ips=TEN_ADDRESSES, default=True))
    await cluster.node.add(pod("web-0"))
    assert await webhooks.replace(pool(ips=TEN_ADDRESSES, default=True, disable=True)) == ""
    await cluster.until(lambda: cluster.ledger.pools["blue"].disabled)
    await cluster.refresh_node_view()

    with pytest.raises(Exception, match="disabled IPPool blue"):
        await cluster.node.add(pod("web-1"))
    await cluster.node.delete(pod("web-0"))

    assert not (await cluster.node.read_ledger()).claims


async def test_a_subnet_cannot_lose_addresses_of_its_pools_and_is_deleted_with_the_pools(
    webhooks: Webhooks,
) -> None:
    """I00001, I00002."""
    cluster, server = webhooks.cluster, webhooks.cluster.server
    await create_until_ready(webhooks, subnet(ips=TEN_ADDRESSES))
    await create_until_ready(webhooks, pool(ips=["10.6.0.10"]))

    assert "blue" in await webhooks.replace(subnet(ips=["10.6.0.11-10.6.0.30"]))
    assert await webhooks.replace(subnet(ips=["10.6.0.10-10.6.0.30"])) == ""
    await until_status(
        cluster, "SpiderSubnet", "wide", lambda status: status.get("totalIPCount") == 21
    )
    assert get(server, "SpiderSubnet", "wide")["metadata"]["finalizers"] == [FINALIZER]
    await asyncio.to_thread(server.request, "DELETE", path_of("SpiderSubnet", "wide"))
    await cluster.until(lambda: get(server, "SpiderSubnet", "wide").get("code") == 404)
    assert get(server, "SpiderIPPool", "blue").get("code") == 404
