"""The translator applies created, changed and deleted custom resources to the event log.

``cluster.ledger`` is the state of the log. ``cluster.node.add`` runs the ADD of a Pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.domain.configuration.commands import ApplyReservation
from core.domain.model import Reservation
from core.domain.subnets.subnet_model import pools_of_subnet
from core.errors import LostRace
from ops.kubernetes.translated_kinds import FINALIZER, UID_ANNOTATION
from tests.kubernetes.objects import (
    create,
    get,
    path_of,
    pool,
    replace,
    reservation,
    subnet,
)
from tests.kubernetes.translator_harness import WAIT_S_MAX, TranslatorHarness, events_about
from tests.support import node_harness
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import addresses, check_everything, pod

pytestmark = pytest.mark.simulated


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    """A running translator and a node."""
    async with TranslatorHarness(server) as harness:
        yield harness
        await harness.stop_translator()
        await check_everything(harness.node)


def has_conditions(server: ApiServer, kind: str, name: str, *types: str) -> bool:
    """Whether the object's current generation has exactly these condition types."""
    stored = get(server, kind, name)
    conditions = stored.get("status", {}).get("conditions", [])
    generations = {condition["observedGeneration"] for condition in conditions}
    is_current = generations == {stored["metadata"]["generation"]}
    return is_current and {condition["type"] for condition in conditions} == set(types)


def ips_of_blue(cluster: TranslatorHarness) -> tuple[str, ...]:
    blue = cluster.ledger.pools.get("blue")
    return blue.ips if blue else ()


async def wait_for_task(translator: asyncio.Task[None]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        await translator


def is_gone(server: ApiServer, kind: str, name: str) -> bool:
    return server.request("GET", path_of(kind, name)).status == 404


async def test_created_objects_are_applied_to_the_log(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, subnet(ips=["10.6.0.10-10.6.0.99"], gateway="10.6.0.1"))
    await cluster.until_condition("SpiderSubnet", "wide", "Ready", "True")
    create(server, pool(ips=["10.6.0.12", "10.6.0.10-10.6.0.11"], default=True))
    create(server, reservation(ips=["10.6.0.10"]))

    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.until_condition("SpiderReservedIP", "kept", "Ready", "True")

    blue = cluster.ledger.pools["blue"]
    assert (blue.ips, blue.gateway, blue.default) == (("10.6.0.10-10.6.0.12",), "10.6.0.1", True)
    assert [pool.name for pool in pools_of_subnet("wide", cluster.ledger.pools)] == ["blue"]
    assert cluster.ledger.reservations["kept"].ips == ("10.6.0.10",)
    stored = get(server, "SpiderIPPool", "blue")
    assert stored["metadata"]["finalizers"] == [FINALIZER]
    assert stored["metadata"]["labels"]["ipam.spidernet.io/ippool-cidr"] == "10-6-0-0-16"
    assert stored["spec"]["ipVersion"] == 4
    assert addresses(await cluster.node.add(pod("web-0"))) <= {"10.6.0.11", "10.6.0.12"}


async def test_a_changed_pool_is_changed_in_the_log(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")

    assert replace(server, pool(ips=["10.6.0.20"], disable=True)).status == 200
    await cluster.until(lambda: cluster.ledger.pools["blue"].disabled)

    assert cluster.ledger.pools["blue"].ips == ("10.6.0.20",)


async def test_a_refused_pool_gets_a_condition_and_an_event(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool("blue"))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    create(server, pool("green", ips=["10.6.0.10"]))

    condition = await cluster.until_condition("SpiderIPPool", "green", "Ready", "False")

    assert condition["reason"] == "AddressesOverlap"
    assert "SpiderIPPool/blue already has" in condition["message"]
    await cluster.until(lambda: events_about(server, "green"))
    (event,) = events_about(server, "green")
    assert (event["type"], event["reason"]) == ("Warning", "AddressesOverlap")
    assert "green" not in cluster.ledger.pools


async def test_a_refused_pool_is_applied_after_the_overlapping_pool_changes(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool("blue"))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    create(server, pool("green", ips=["10.6.0.10"]))
    await cluster.until_condition("SpiderIPPool", "green", "Ready", "False")

    replace(server, pool("blue", ips=["10.6.0.11"]))
    await cluster.until_condition("SpiderIPPool", "green", "Ready", "True")

    assert cluster.ledger.pools["green"].ips == ("10.6.0.10",)


async def test_a_deleted_pool_exists_until_its_addresses_are_released(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool(default=True))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))

    server.request("DELETE", path_of("SpiderIPPool", "blue"))
    condition = await cluster.until_condition("SpiderIPPool", "blue", "Draining", "True")

    assert condition["message"] == "1 address is still allocated"
    assert cluster.ledger.pools["blue"].retiring
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: is_gone(server, "SpiderIPPool", "blue"))
    assert "blue" not in cluster.ledger.pools


async def test_deleting_a_subnet_deletes_its_pools(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, subnet(ips=["10.6.0.10-10.6.0.99"]))
    await cluster.until_condition("SpiderSubnet", "wide", "Ready", "True")
    create(server, pool(default=True))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.refresh_node_view()
    await cluster.node.add(pod("web-0"))

    server.request("DELETE", path_of("SpiderSubnet", "wide"))
    condition = await cluster.until_condition("SpiderSubnet", "wide", "Draining", "True")

    assert condition["message"] == "pools still exist: blue"
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: is_gone(server, "SpiderSubnet", "wide"))
    assert is_gone(server, "SpiderIPPool", "blue")
    assert not cluster.ledger.subnets


async def test_a_deleted_reservation_is_deleted_in_the_log(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, reservation(ips=["10.6.0.10"]))
    await cluster.until_condition("SpiderReservedIP", "kept", "Ready", "True")

    assert server.request("DELETE", path_of("SpiderReservedIP", "kept")).status == 200

    await cluster.until(lambda: not cluster.ledger.reservations)


async def test_removing_the_finalizer_of_a_deleted_pool_releases_no_address(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool(default=True))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.refresh_node_view()
    added_addresses = addresses(await cluster.node.add(pod("web-0")))
    await cluster.stop_translator()

    server.request("DELETE", path_of("SpiderIPPool", "blue"))
    removal = {"metadata": {"finalizers": None}}
    server.request("PATCH", path_of("SpiderIPPool", "blue"), removal, content=MERGE_PATCH)
    cluster.start_translator()
    await cluster.until(lambda: cluster.projector.ready and cluster.ledger.pools["blue"].retiring)

    assert added_addresses == set(cluster.ledger.claims)
    create(server, pool(ips=["10.6.0.30"]))
    condition = await cluster.until_condition("SpiderIPPool", "blue", "Draining", "True")
    assert condition["message"].startswith("an earlier object of this name is being drained")
    await cluster.node.delete(pod("web-0"))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    assert cluster.ledger.pools["blue"].ips == ("10.6.0.30",)


async def test_a_translator_applies_changes_made_while_no_translator_ran(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    for item in (pool("kept"), pool("changed", ips=["10.6.0.20"]), pool("gone", ips=["10.6.0.30"])):
        create(server, item)
    create(server, reservation("unreserved", ips=["10.6.0.99"]))
    for name in ("kept", "changed", "gone"):
        await cluster.until_condition("SpiderIPPool", name, "Ready", "True")
    await cluster.until_condition("SpiderReservedIP", "unreserved", "Ready", "True")
    await cluster.stop_translator()

    replace(server, pool("changed", ips=["10.6.0.21"]))
    server.request("DELETE", path_of("SpiderIPPool", "gone"))
    server.request("DELETE", path_of("SpiderReservedIP", "unreserved"))
    create(server, pool("new", ips=["10.6.0.40"]))
    cluster.start_translator()
    await cluster.until(lambda: is_gone(server, "SpiderIPPool", "gone"))
    await cluster.until_condition("SpiderIPPool", "new", "Ready", "True")
    await cluster.until_condition("SpiderIPPool", "changed", "Ready", "True")
    await cluster.until(lambda: not cluster.ledger.reservations)

    ips = {item.name: item.ips for item in cluster.ledger.pools.values()}
    assert ips == {"kept": ("10.6.0.10",), "changed": ("10.6.0.21",), "new": ("10.6.0.40",)}


async def test_the_translator_applies_changes_after_the_api_server_restarts(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    server.kill()
    informers = cluster.host.translator.informers.values() if cluster.host.translator else ()
    await cluster.until(lambda: all(informer.fault for informer in informers))

    await asyncio.to_thread(server.start)
    server.wait_served(path_of("SpiderIPPool", "blue"))
    assert replace(server, pool(ips=["10.6.0.20"])).status == 200

    await cluster.until(lambda: ips_of_blue(cluster) == ("10.6.0.20",))


@pytest.mark.simulated(lacks="kmock gives an object a new version if a write changes nothing")
async def test_a_restarted_translator_writes_nothing_if_no_resource_has_changed(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, subnet(ips=["10.6.0.10-10.6.0.99"], gateway="10.6.0.1"))
    create(server, pool(ips=["10.6.0.12", "10.6.0.11"]))
    types = ("Ready", "Exhausted", "NearlyExhausted", "Conflicted")
    await cluster.until(lambda: has_conditions(server, "SpiderIPPool", "blue", *types))
    await cluster.until(lambda: has_conditions(server, "SpiderSubnet", "wide", "Ready"))
    await cluster.until_idle()
    await cluster.stop_translator()
    before = get(server, "SpiderIPPool", "blue")["metadata"]["resourceVersion"]
    events = len(await cluster.node.log())

    cluster.start_translator()
    await cluster.until_idle()

    assert len(await cluster.node.log()) == events
    assert get(server, "SpiderIPPool", "blue")["metadata"]["resourceVersion"] == before


async def test_pools_and_reservations_without_a_resource_stay_in_the_log(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.apply(
        node_harness.pool("by-hand", "10.6.0.50"),
        ApplyReservation(Reservation("reserved", 4, ("10.6.0.60",))),
    )
    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.stop_translator()
    cluster.start_translator()
    await cluster.until_idle()

    assert cluster.ledger.pools.keys() == {"by-hand", "blue"}
    assert cluster.ledger.reservations.keys() == {"reserved"}


async def test_deleting_a_refused_resource_keeps_the_pool_that_it_did_not_create(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.apply(node_harness.pool("blue", "10.7.0.50", subnet="10.7.0.0/16"))
    create(server, pool("blue"))
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "False")

    server.request("DELETE", path_of("SpiderIPPool", "blue"))
    await cluster.until(lambda: is_gone(server, "SpiderIPPool", "blue"))
    await cluster.until_idle()

    assert not cluster.ledger.pools["blue"].retiring


async def test_the_resource_of_an_automatic_pool_is_not_applied_to_the_log(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    body = pool("auto4-web-eth0-abcde")
    body["metadata"]["labels"] = {"ipam.spidernet.io/owner-application-name": "web"}
    create(server, body)
    create(server, pool("blue", ips=["10.6.0.20"]))

    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    await cluster.until_idle()

    assert cluster.ledger.pools.keys() == {"blue"}


async def test_the_log_has_the_uid_of_the_resource_and_no_last_applied_annotation(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    body = pool()
    body["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "team": "net",
    }
    create(server, body)
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")

    uid = get(server, "SpiderIPPool", "blue")["metadata"]["uid"]
    assert cluster.ledger.pools["blue"].annotations == {"team": "net", UID_ANNOTATION: uid}
    first = (await cluster.node.log())[0]
    assert first.cause.actor == "orbweaver-controller/kubernetes"


async def test_only_the_newer_of_two_translators_writes(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, pool())
    await cluster.until_condition("SpiderIPPool", "blue", "Ready", "True")
    older_translator = cluster.detach_task()
    cluster.start_translator()
    await cluster.until_idle()
    await cluster.stop_translator()

    replace(server, pool(ips=["10.6.0.20"]))
    with pytest.raises(LostRace, match="another controller leads now"):
        await wait_for_task(older_translator)

    assert (await cluster.node.read_ledger()).pools["blue"].ips == ("10.6.0.10",)
    cluster.start_translator()
    await cluster.until(lambda: ips_of_blue(cluster) == ("10.6.0.20",))
