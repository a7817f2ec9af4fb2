"""The reporter writes SpiderEndpoints, and the status of pools and subnets, from the event log.

``node.add`` and ``node.delete`` run an ADD and a DEL; the API server has no Pods. Without
kube-apiserver, the tests run against the package kmock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from core.audit.pool_growth import GrowthSubject
from core.domain.configuration.commands import DeletePool
from core.domain.forecast import Forecast, NoTrend
from core.domain.model import Pool
from core.errors import ApiConflict
from core.manifests.kinds.fields import API_VERSION
from ops.kubernetes.status_reporter import ROUND_S
from ops.kubernetes.status_reports import REPORT_ANNOTATION, StatusReport
from ops.kubernetes.translated_kinds import FINALIZER, TranslatedKind
from tests.kubernetes.objects import Object, create, get, path_of, pool, subnet
from tests.kubernetes.translator_harness import TranslatorHarness
from tests.support import node_harness
from tests.support.kubernetes import MERGE_PATCH, ApiServer
from tests.support.node_harness import addresses, check_everything, pod

pytestmark = pytest.mark.simulated

AUTO_POOL = "auto4-web-eth0-abcde"
DAY_S = 86_400.0
TEN_ADDRESSES = ["10.6.0.10-10.6.0.19"]


@pytest.fixture
async def cluster(server: ApiServer) -> AsyncIterator[TranslatorHarness]:
    """A translator (custom resources -> events), a reporter and a node."""
    async with TranslatorHarness(server) as harness:
        create(server, pool(ips=TEN_ADDRESSES, default=True))
        await harness.until_condition("SpiderIPPool", "blue", "Ready", "True")
        await harness.refresh_node_view()
        yield harness
        await harness.stop_translator()
        await check_everything(harness.node)


def status_of(server: ApiServer, kind: str = "SpiderIPPool", name: str = "blue") -> Object:
    """The status of an object; {} if there is none."""
    stored = get(server, kind, name)
    status: Object = stored.get("status", {}) if stored["kind"] == kind else {}
    return status


def endpoint(server: ApiServer, name: str = "web-0") -> Object:
    """The SpiderEndpoint of a Pod; an object of the kind ``Status`` if there is none."""
    return get(server, "SpiderEndpoint", name, "shop")


def create_foreign_endpoint(server: ApiServer, name: str, status: Object) -> None:
    """Create a SpiderEndpoint that the reporter has not written."""
    body = {"metadata": {"name": name, "namespace": "shop"}, "status": status}
    kind = {"apiVersion": API_VERSION, "kind": "SpiderEndpoint"}
    assert server.request("POST", path_of("SpiderEndpoint", "", "shop"), kind | body).status == 201


def counts_allocated(server: ApiServer, allocated: int) -> bool:
    return status_of(server).get("allocatedIPCount") == allocated


async def test_the_status_of_a_new_pool_counts_no_allocated_address(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.until(lambda: counts_allocated(server, 0))

    status = status_of(server)
    assert (status["totalIPCount"], "allocatedIPs" in status) == (10, False)


@pytest.mark.simulated(lacks="kmock does not simulate conditions of several writers")
async def test_the_status_of_a_pool_names_the_pod_of_each_address(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    (address,) = addresses(await cluster.node.add(pod("web-0")))
    await cluster.until(lambda: counts_allocated(server, 1))

    pod_by_address = json.loads(status_of(server)["allocatedIPs"])

    assert pod_by_address == {address: {"pod": "shop/web-0", "podUid": "uid-web-0"}}
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: counts_allocated(server, 0))
    assert "allocatedIPs" not in status_of(server)
    types = {condition["type"] for condition in status_of(server)["conditions"]}
    assert types >= {"Ready", "Exhausted"}


async def test_the_condition_full_soon_changes_only_when_its_reason_changes(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    def forecast(expected_s: float) -> None:
        prediction = Forecast(0.0, expected_s, latest_s=2 * expected_s, per_day=1.0, days=7)
        cluster.host.outlooks.update({GrowthSubject("pool", "blue"): prediction})

    def full_soon() -> tuple[str, str] | None:
        conditions = status_of(server).get("conditions", ())
        for condition in conditions:
            if condition["type"] == "FullSoon":
                return condition["status"], condition["reason"]
        return None

    await cluster.until(lambda: counts_allocated(server, 0))
    assert full_soon() is None

    forecast(5 * DAY_S)
    await cluster.until(lambda: full_soon() == ("False", "WithinAWeek"))
    await cluster.until_idle()
    reporter = cluster.host.reporter
    assert reporter is not None
    writes = reporter.writes
    forecast(4.5 * DAY_S)  # the same reason
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: counts_allocated(server, 1))
    assert reporter.writes - writes <= 2, "only the count and the endpoint must be written"
    cluster.host.outlooks.update({})  # a new leader has no forecasts yet
    await cluster.node.add(pod("web-1"))
    await cluster.until(lambda: counts_allocated(server, 2))
    assert full_soon() == ("False", "WithinAWeek")
    forecast(2 * DAY_S)
    await cluster.until(lambda: full_soon() == ("True", "WithinThreeDays"))
    cluster.host.outlooks.update({GrowthSubject("pool", "blue"): NoTrend("no growth")})
    await cluster.until(lambda: full_soon() is None)


async def test_a_pool_is_nearly_exhausted_at_nine_and_exhausted_at_ten_of_ten_addresses(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    async def fill(first: int, last: int) -> dict[str, str]:
        await asyncio.gather(*(cluster.node.add(pod(f"web-{n}")) for n in range(first, last)))
        await cluster.until(lambda: counts_allocated(server, last))
        conditions = status_of(server)["conditions"]
        return {condition["type"]: condition["status"] for condition in conditions}

    half, nearly, full = await fill(0, 5), await fill(5, 9), await fill(9, 10)

    assert (half["NearlyExhausted"], half["Exhausted"]) == ("False", "False")
    assert (nearly["NearlyExhausted"], nearly["Exhausted"]) == ("True", "False")
    assert (full["NearlyExhausted"], full["Exhausted"], full["Ready"]) == ("True", "True", "True")


async def test_the_status_of_a_subnet_has_the_addresses_of_its_pools(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    create(server, subnet(ips=["10.6.0.0-10.6.0.99"]))

    await cluster.until(
        lambda: status_of(server, "SpiderSubnet", "wide").get("allocatedIPCount") == 10
    )

    status = status_of(server, "SpiderSubnet", "wide")
    assert status["totalIPCount"] == 100
    assert json.loads(status["controlledIPPools"]) == {"blue": {"ips": TEN_ADDRESSES}}


def automatic_pool(*ips: str) -> Pool:
    labels = {"ipam.spidernet.io/owner-application-name": "web"}
    return node_harness.pool(AUTO_POOL, *ips, default=False)._replace(labels=labels)


async def test_the_resource_of_an_automatic_pool_follows_the_log_and_edits_are_reverted(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.apply(automatic_pool("10.6.0.50"))
    await cluster.until(
        lambda: status_of(server, "SpiderIPPool", AUTO_POOL).get("totalIPCount") == 1
    )
    await cluster.node.apply(automatic_pool("10.6.0.50-10.6.0.52"))
    await cluster.until(
        lambda: status_of(server, "SpiderIPPool", AUTO_POOL).get("totalIPCount") == 3
    )

    edited = {"spec": {"ips": ["10.6.0.99"]}}
    server.request("PATCH", path_of("SpiderIPPool", AUTO_POOL), edited, content=MERGE_PATCH)
    await cluster.until(
        lambda: get(server, "SpiderIPPool", AUTO_POOL)["spec"]["ips"] == ["10.6.0.50-10.6.0.52"]
    )

    assert cluster.ledger.pools[AUTO_POOL].ips == ("10.6.0.50-10.6.0.52",)
    await cluster.node.apply(DeletePool(AUTO_POOL))
    await cluster.until(lambda: get(server, "SpiderIPPool", AUTO_POOL)["kind"] == "Status")


async def test_deleting_the_resource_of_an_automatic_pool_deletes_the_pool(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.apply(automatic_pool("10.6.0.50"))
    await cluster.until(lambda: get(server, "SpiderIPPool", AUTO_POOL)["kind"] == "SpiderIPPool")

    server.request("DELETE", path_of("SpiderIPPool", AUTO_POOL))

    await cluster.until(lambda: get(server, "SpiderIPPool", AUTO_POOL)["kind"] == "Status")
    assert AUTO_POOL not in cluster.ledger.pools


async def test_an_endpoint_exists_until_its_addresses_are_released(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    (address,) = addresses(await cluster.node.add(pod("web-0")))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")

    stored = endpoint(server)

    assert stored["status"]["current"] == {
        "uid": "uid-web-0",
        "node": "node-a",
        "ips": [
            {"interface": "eth0", "ipv4": f"{address}/16", "ipv4Pool": "blue", "vlan": 0},
        ],
    }
    assert stored["metadata"]["finalizers"] == [FINALIZER]
    (owner,) = stored["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "web-0", "uid-web-0")
    assert "controller" not in owner
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "Status")


async def test_the_endpoint_of_a_fixed_address_has_no_owner_reference_to_its_pod(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("db-0", fixed="statefulset"))

    await cluster.until(lambda: endpoint(server, "db-0")["kind"] == "SpiderEndpoint")

    assert "ownerReferences" not in endpoint(server, "db-0")["metadata"]


async def test_an_endpoint_in_deletion_stays_until_its_addresses_are_released(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")

    server.request("DELETE", path_of("SpiderEndpoint", "web-0", "shop"))
    await cluster.node.add(pod("web-1"))
    await cluster.until(lambda: endpoint(server, "web-1")["kind"] == "SpiderEndpoint")

    assert "deletionTimestamp" in endpoint(server)["metadata"]
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "Status")


async def test_an_endpoint_in_deletion_is_replaced_when_a_new_pod_has_its_name(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    await cluster.stop_translator()
    server.request("DELETE", path_of("SpiderEndpoint", "web-0", "shop"))
    await cluster.node.delete(pod("web-0"))
    await cluster.node.add(pod("web-0", "uid-of-successor"))

    cluster.start_translator()

    await cluster.until(lambda: "uid-of-successor" in str(endpoint(server).get("status")))
    assert "deletionTimestamp" not in endpoint(server)["metadata"]


async def test_a_replaced_endpoint_keeps_labels_and_finalizers_of_other_writers(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    await cluster.stop_translator()
    edited = {"labels": {"team": "blue"}, "finalizers": [FINALIZER, "example.org/finalizer"]}
    path = path_of("SpiderEndpoint", "web-0", "shop")
    server.request("PATCH", path, {"metadata": edited}, content=MERGE_PATCH)
    await cluster.node.delete(pod("web-0"))
    await cluster.node.add(pod("web-0", "uid-of-successor"))

    cluster.start_translator()

    await cluster.until(lambda: "uid-of-successor" in str(endpoint(server).get("status")))
    metadata = endpoint(server)["metadata"]
    (owner,) = metadata["ownerReferences"]
    assert owner["uid"] == "uid-of-successor"
    assert metadata["labels"] == edited["labels"]
    assert set(metadata["finalizers"]) == set(edited["finalizers"])
    server.request("PATCH", path, {"metadata": {"finalizers": [FINALIZER]}}, content=MERGE_PATCH)


@pytest.mark.simulated(lacks="kmock does not simulate conflicts of names")
async def test_an_endpoint_missing_from_the_cache_is_not_overwritten(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    reporter = cluster.host.reporter
    assert reporter is not None
    version = endpoint(server)["metadata"]["resourceVersion"]
    reporter.endpoints.objects.clear()

    with pytest.raises(ApiConflict):
        await reporter._report_endpoint(("shop", "web-0"))

    assert endpoint(server)["metadata"]["resourceVersion"] == version


async def test_an_endpoint_of_another_writer_is_not_deleted(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    create_foreign_endpoint(server, "foreign", endpoint(server)["status"])
    await cluster.stop_translator()

    cluster.start_translator()
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "Status")

    assert endpoint(server, "foreign")["kind"] == "SpiderEndpoint"


async def test_the_reporter_takes_over_an_endpoint_of_another_writer_for_our_pod(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    create_foreign_endpoint(server, "web-1", endpoint(server)["status"])

    await cluster.node.add(pod("web-1"))

    await cluster.until(lambda: REPORT_ANNOTATION in str(endpoint(server, "web-1")["metadata"]))
    assert endpoint(server, "web-1")["status"]["current"]["uid"] == "uid-web-1"
    await cluster.node.delete(pod("web-1"))
    await cluster.until(lambda: endpoint(server, "web-1")["kind"] == "Status")


@pytest.mark.simulated(lacks="kmock does not simulate field managers")
async def test_an_endpoint_that_lost_its_field_managers_is_annotated_and_deleted(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    """The reporter recognizes its own endpoints by the field manager or by the annotation."""
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    path = path_of("SpiderEndpoint", "web-0", "shop")
    assert REPORT_ANNOTATION not in str(endpoint(server)["metadata"])

    server.request("PATCH", path, {"metadata": {"managedFields": [{}]}}, content=MERGE_PATCH)

    await cluster.until(lambda: REPORT_ANNOTATION in str(endpoint(server)["metadata"]))
    await cluster.node.delete(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "Status")


async def test_the_next_controller_reports_changes_made_while_no_controller_ran(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")
    await cluster.stop_translator()

    await cluster.node.delete(pod("web-0"))
    await cluster.node.add(pod("web-1"))
    await cluster.node.add(pod("web-2"))
    cluster.start_translator()

    await cluster.until(lambda: counts_allocated(server, 2))
    await cluster.until(lambda: endpoint(server)["kind"] == "Status")
    await cluster.until(lambda: endpoint(server, "web-2")["kind"] == "SpiderEndpoint")
    assert endpoint(server, "web-1")["status"]["current"]["uid"] == "uid-web-1"


async def test_pods_get_addresses_without_the_api_server_and_the_status_follows_later(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.until(lambda: counts_allocated(server, 0))
    server.kill()

    await cluster.node.add(pod("web-0"))
    await cluster.node.add(pod("web-1"))
    await cluster.node.delete(pod("web-0"))
    await asyncio.to_thread(server.start)
    server.wait_served(path_of("SpiderIPPool"))
    server.wait_served(path_of("SpiderEndpoint"))

    await cluster.until(lambda: counts_allocated(server, 1))
    await cluster.until(lambda: endpoint(server, "web-1")["kind"] == "SpiderEndpoint")
    assert endpoint(server)["reason"] == "NotFound"


async def test_a_status_written_by_another_client_is_corrected(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.until(lambda: counts_allocated(server, 0))

    wrong_count = {"status": {"allocatedIPCount": 7}}
    path = f"{path_of('SpiderIPPool', 'blue')}/status"
    assert server.request("PATCH", path, wrong_count, content=MERGE_PATCH).status == 200

    await cluster.until(lambda: counts_allocated(server, 0))


@pytest.mark.simulated(lacks="kmock does not simulate resourceVersions of apply")
async def test_a_status_based_on_an_older_version_is_refused(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    """A partitioned leader sends such a write late."""
    await cluster.until(lambda: counts_allocated(server, 0))
    translator, reporter = cluster.host.translator, cluster.host.reporter
    assert translator is not None
    assert reporter is not None
    older_version = get(server, "SpiderIPPool", "blue")
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: counts_allocated(server, 1))
    translator.informers[TranslatedKind.POOL].objects["", "blue"] = older_version

    with pytest.raises(ApiConflict):
        await reporter._status.write(
            TranslatedKind.POOL, "blue", StatusReport({"allocatedIPCount": 7})
        )

    assert counts_allocated(server, 1)


@pytest.mark.simulated(lacks="kmock does not simulate missing namespaces")
async def test_an_endpoint_in_a_missing_namespace_does_not_delay_other_endpoints(
    server: ApiServer, cluster: TranslatorHarness
) -> None:
    await cluster.node.add(pod("ghost")._replace(namespace="nowhere"))
    await cluster.node.add(pod("web-0"))

    await cluster.until(lambda: counts_allocated(server, 2))
    await cluster.until(lambda: endpoint(server)["kind"] == "SpiderEndpoint")

    assert server.request("GET", path_of("SpiderEndpoint", "ghost", "nowhere")).status == 404


async def test_a_burst_of_adds_writes_the_status_of_a_pool_once(
    server: ApiServer, cluster: TranslatorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: counts_allocated(server, 1))
    await cluster.until_idle()
    reporter = cluster.host.reporter
    assert reporter is not None
    burst_ended = asyncio.Event()

    # The reporter gathers changes for a short time before it writes.
    async def gather(_: object) -> None:
        await burst_ended.wait()

    monkeypatch.setattr(reporter, "_gather", gather)
    written: list[str] = []
    write = reporter._status.write

    async def record_write(kind: TranslatedKind, name: str, report: StatusReport | None) -> None:
        written.append(name)
        await write(kind, name, report)

    monkeypatch.setattr(reporter._status, "write", record_write)

    for number in range(1, 5):
        await cluster.node.add(pod(f"web-{number}"))
    tallies = reporter._projector.projection.tallies
    await cluster.until(lambda: tallies["blue"].counts.claimed == 5)
    burst_ended.set()
    await cluster.until(lambda: counts_allocated(server, 5))

    assert written == ["blue"]


async def test_the_reporter_begins_a_round_only_when_something_changes(
    server: ApiServer, cluster: TranslatorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.node.add(pod("web-0"))
    await cluster.until(lambda: counts_allocated(server, 1))
    await cluster.until_idle()
    reporter = cluster.host.reporter
    assert reporter is not None
    rounds: list[object] = []
    report_each = reporter._report_each

    async def record_round(*arguments: object) -> None:
        rounds.append(arguments[1])
        await report_each(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reporter, "_report_each", record_round)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3 * ROUND_S):
            await cluster.until(lambda: rounds)
    await cluster.node.add(pod("web-1"))
    await cluster.until(lambda: counts_allocated(server, 2))

    assert rounds
