"""The console shows the state of the log at any instant, archived or live."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.audit.indexed_log import IndexedLog
from core.domain.configuration.commands import ApplyPool, QuarantineAddress
from core.domain.events import AllocationRefused, Cause, PoolVerdict, Recorded
from core.domain.model import Pool
from ops.console.events import EventConditions, events_before, parse_event_position
from ops.console.routes import CONSOLE_ROUTES
from ops.console.web_server import API_PATH
from tests.ops.console.conftest import MAIN_SIZE, SIX_SIZE, Console
from tests.support.archived_cluster import TEST_KEYS, ArchivedCluster, CniAdd, CniDel, Configure
from tests.support.yaml_reader import read_yaml

pytestmark = pytest.mark.etcd

CONTRACT = Path(__file__).parents[3] / "docs" / "reference" / "console-api.yaml"


async def test_every_path_of_the_contract_is_served_with_its_parameters() -> None:
    document = read_yaml(CONTRACT.read_text())
    shared = document["components"]["parameters"]
    described = {}
    get_paths = {path: item for path, item in document["paths"].items() if "get" in item}
    for path, item in get_paths.items():
        parameters = [
            shared[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
            for part in item["get"].get("parameters", [])
        ]
        described[path] = {part["name"] for part in parameters if part["in"] == "query"}
    # These two paths do not show the state at an instant, so ``CONSOLE_ROUTES`` omits them.
    del described["/events/stream"], described["/access"]
    served = {route.path.replace(":.+", ""): set(route.parameters) for route in CONSOLE_ROUTES}
    assert described == served


async def test_an_overview_counts_every_address_once(console: Console) -> None:
    now = await console.get("/overview")
    by_name = {pool["name"]: pool for pool in now["pools"]}
    counts = by_name["main"]["counts"]
    assert counts["total"] == MAIN_SIZE
    # The API's name for the addresses in cool-down is "resting".
    assert counts["allocated"] + counts["free"] + counts["resting"] == MAIN_SIZE
    spare = by_name["spare"]["counts"]
    assert (spare["quarantined"], spare["reserved"], spare["free"]) == (1, 1, 1)
    assert now["totals"]["pods"] == 3
    assert {agent["name"] for agent in now["agents"]} == {"node-a", "node-b"}
    assert {alarm["code"] for alarm in now["alarms"]} >= {"NoLeader", "Quarantined"}
    past = await console.get("/overview?at=0")
    assert past["pools"] == []
    assert past["leader"] is None


async def test_a_request_gets_the_state_at_its_position_or_time(
    console: Console,
) -> None:
    different_pod_lists: list[list[str]] = []
    for event in (await console.get("/events?after=0&limit=1000"))["items"]:
        answer = await console.get(f"/pods?at={event['position']}")
        assert answer["at"]["position"] == event["position"]
        pod_names = [pod["name"] for pod in answer["items"]]
        if pod_names not in different_pod_lists:
            different_pod_lists.append(pod_names)
    assert different_pod_lists == [
        [],
        ["web-0"],
        ["web-0", "web-1"],
        ["web-0", "web-1", "web-2"],
        ["web-0", "web-2"],
        ["db-0", "web-0", "web-2"],
    ]
    extent = await console.get("/log?buckets=7")
    assert extent["archive"] is True
    assert sum(bucket["events"] for bucket in extent["density"]) == extent["events"]
    by_time = await console.get(f"/pods?at={extent['last']['time']}")
    assert by_time["at"]["position"] == extent["last"]["position"]
    before_the_log = await console.get("/pods?at=2001-01-01T00:00:00Z")
    assert (before_the_log["items"], before_the_log["at"]["position"]) == ([], 0)


async def test_the_addresses_of_a_pool_are_listed_with_states_and_holders(console: Console) -> None:
    answer = await console.get("/pools/main/addresses")
    assert (answer["mode"], answer["size"]) == ("addresses", MAIN_SIZE)
    states = [state for state, length in answer["states"] for _ in range(length)]
    pod_of_offset = {holder["offset"]: holder["pod"] for holder in answer["holders"]}
    assert sorted(pod_of_offset.values()) == ["db-0", "web-0", "web-2"]
    assert {offset for offset, state in enumerate(states) if state == "allocated"} == set(
        pod_of_offset
    )
    spare = await console.get("/pools/spare/addresses?first=10.6.0.6&last=10.6.0.11")
    assert spare["states"] == [
        ["outside", 1],
        ["free", 1],
        ["reserved", 1],
        ["quarantined", 1],
        ["outside", 2],
    ]


@pytest.mark.parametrize("bound", ["first", "last"])
async def test_the_grid_of_an_empty_pool_refuses_a_single_bound(
    console: Console, bound: str
) -> None:
    empty = Pool("empty", 4, "10.6.0.0/16", ips=())
    await console.cluster.execute([Configure(ApplyPool(empty))])
    assert (await console.get("/pools/empty/addresses"))["size"] == 0

    reply = await console.reply(f"{API_PATH}/pools/empty/addresses?{bound}=10.6.0.1")

    assert (reply.status, reply.json["error"]["code"]) == (400, "BadInput")
    assert "IPPool empty has no addresses" in reply.json["error"]["message"]


async def test_a_large_range_is_divided_into_the_requested_number_of_cells(
    console: Console,
) -> None:
    pool_range = "first=fd00:6::&last=fd00:6::ffff:ffff:ffff:ffff"
    answer = await console.get(f"/pools/six/addresses?{pool_range}&cells=64")
    assert answer["mode"] == "ranges"
    assert len(answer["cells"]) == 64
    first_cell = answer["cells"][0]
    pool_addresses = sum(first_cell["counts"].values()) - first_cell["counts"]["outside"]
    assert pool_addresses == SIX_SIZE
    assert all(set(cell["counts"]) == {"outside"} for cell in answer["cells"][1:])


async def test_a_deleted_pod_is_shown_at_a_past_position(
    console: Console,
) -> None:
    timeline = await console.get("/pods/shop/web-1/timeline")
    entry = timeline["entries"][0]
    assert (entry["pool"], entry["reason"]) == ("main", "deleted")
    address = entry["subject"]
    present = await console.get("/pods/shop/web-1")
    assert present["pod"] is None
    past = await console.get(f"/pods/shop/web-1?at={entry['began']['position']}")
    (interface,) = past["pod"]["interfaces"]
    assert address in [item["address"].partition("/")[0] for item in interface["addresses"]]
    why = past["pod"]["why"]
    assert why[0] == "The IPPools of the request came from the default IPPools of the cluster."
    assert f"{address} was claimed from IPPool main" in why[1]
    timeline_before_release = await console.get(
        f"/addresses/{address}/timeline?at={entry['ended']['position'] - 1}"
    )
    assert timeline_before_release["entries"][-1]["ended"] is None
    at_begin = await console.get(f"/addresses/{address}?at={entry['began']['position']}")
    assert (at_begin["state"], at_begin["holding"]["pod"]) == ("allocated", "web-1")


async def test_a_released_address_is_in_cool_down(console: Console) -> None:
    await console.cluster.execute([CniDel("node-a", "web-2")])
    in_cool_down = await console.get("/addresses?state=resting&pool=six")
    assert {item["pod"] for item in in_cool_down["items"]} >= {"web-2"}
    assert all(item["until"] > item["since"]["time"] for item in in_cool_down["items"])


async def test_addresses_are_filtered_by_namespace_and_node(console: Console) -> None:
    in_unknown_namespace = await console.get("/addresses?namespace=unknown")
    assert in_unknown_namespace["total"] == 0
    on_node = await console.get("/addresses?state=allocated&node=node-b")
    assert {item["pod"] for item in on_node["items"]} == {"db-0"}


async def test_search_lists_existing_pods_before_deleted_pods(console: Console) -> None:
    hits = (await console.get("/search?q=web"))["hits"]
    assert [(hit["name"], hit["held"]) for hit in hits if hit["kind"] == "pod"] == [
        ("shop/web-0", True),
        ("shop/web-2", True),
        ("shop/web-1", False),
    ]
    address = (await console.get("/pods/shop/db-0"))["pod"]["interfaces"][0]["addresses"][0]
    (hit,) = (await console.get(f"/search?q={address['address'].partition('/')[0]}"))["hits"][:1]
    assert (hit["kind"], hit["held"]) == ("address", True)
    assert "shop/db-0" in hit["detail"]
    kinds = {hit["kind"] for hit in (await console.get("/search?q=node-a"))["hits"]}
    assert kinds == {"node"}


async def test_the_released_addresses_of_a_node_are_listed_newest_first(console: Console) -> None:
    await console.cluster.execute([CniDel("node-a", "web-0")])
    timelines = {
        pod: (await console.get(f"/pods/shop/{pod}/timeline")) for pod in ("web-0", "web-1")
    }
    items = (await console.get("/nodes/node-a/released"))["items"]
    assert [item["pod"] for item in items] == ["web-0", "web-0", "web-1", "web-1"]
    for pod, answer in timelines.items():
        expected = {(entry["subject"], entry["ended"]["position"]) for entry in answer["entries"]}
        of_pod = [item for item in items if item["pod"] == pod]
        assert {(item["address"], item["until"]["position"]) for item in of_pod} == expected
    before_last_release = items[0]["until"]["position"] - 1
    earlier = await console.get(f"/nodes/node-a/released?at={before_last_release}&limit=1")
    assert [item["pod"] for item in earlier["items"]] == ["web-1"]
    assert earlier["truncated"]
    assert (await console.get("/nodes/nowhere/released"))["items"] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [("spiderco", True), ("Coordinators", True), ("coord", True), ("er", False), ("ordin", False)],
)
async def test_search_finds_a_kind_by_the_beginning_of_a_word(
    console: Console, text: str, is_found: bool
) -> None:
    hits = (await console.get(f"/search?q={text}"))["hits"]
    assert ("coordinator" in {hit["kind"] for hit in hits}) == is_found


async def test_search_finds_the_events_of_a_trace(console: Console) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    node = console.cluster.nodes["node-a"]
    cause = Cause("agent/node-a", traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    await node.configurator.apply(QuarantineAddress("10.6.0.10", "a printer"), cause)
    (hit,) = (await console.get(f"/search?q={trace.upper()}"))["hits"]
    assert (hit["kind"], hit["detail"].partition(",")[0]) == ("event", "address-quarantined")
    before = int(hit["name"]) - 1
    assert (await console.get(f"/search?q={trace}&at={before}"))["hits"] == []


async def test_a_search_in_the_past_leaves_out_later_objects(console: Console) -> None:
    before = (await console.get("/pods/shop/db-0"))["pod"]["claimed"]["position"] - 1
    hits = (await console.get(f"/search?q=shop&at={before}"))["hits"]
    assert ("namespace", "shop") in [(hit["kind"], hit["name"]) for hit in hits]
    assert (await console.get(f"/search?q=db-0&at={before}"))["hits"] == []


async def test_all_events_are_listed_page_by_page_in_both_directions(console: Console) -> None:
    forward, cursor = [], ""
    while True:
        page = await console.get(f"/events?after=0&limit=4&cursor={cursor}")
        forward += page["items"]
        cursor = page["cursor"]
        if not cursor:
            break
    backward, cursor = [], ""
    while True:
        page = await console.get(f"/events?limit=3&cursor={cursor}")
        backward += page["items"]
        cursor = page["cursor"]
        if not cursor:
            break
    assert forward == backward[::-1]
    assert len(forward) == (await console.get("/log"))["events"]
    claimed = await console.get("/events?kind=addresses-claimed&node=node-b")
    assert [item["subject"] for item in claimed["items"]] == ["pod/shop/db-0"]


async def test_pools_reservations_agents_and_workflows_are_listed(console: Console) -> None:
    assert (await console.get("/pools?limit=2"))["cursor"] == "2"  # the index of the third pool
    assert (await console.get("/pools/main"))["pool"]["first"] == "10.6.0.1"
    assert (await console.get("/pools/main/timeline"))["entries"][0]["kind"] == "defined"
    assert (await console.get("/subnets"))["total"] == 0
    reservations = await console.get("/reservations")
    assert [item["name"] for item in reservations["items"]] == ["dns"]
    assert [item["address"] for item in reservations["quarantined"]] == ["10.6.0.9"]
    assert (await console.get("/agents"))["total"] == 2
    assert (await console.get("/workflows"))["total"] == 0


async def test_a_change_is_visible_at_the_revision_of_its_commit(console: Console) -> None:
    await console.get("/overview")
    await console.cluster.execute([CniAdd("node-b", "late")])
    revision = (await console.cluster.view()).revision
    pods = await console.get(f"/pods?at={revision}")
    assert "late" in [pod["name"] for pod in pods["items"]]


async def test_events_after_a_position_are_listed_newest_first(console: Console) -> None:
    oldest_first = (await console.get("/events?after=0"))["items"]
    *_, third_last, second_last, last = oldest_first
    page = await console.get(f"/events?since={third_last['position']}&limit=50")
    assert page["items"] == [last, second_last]
    assert page["cursor"] is None


def test_a_refusal_document_has_the_verdicts_about_pools() -> None:
    verdict = PoolVerdict("eth0", 4, "lan", accepted=False, rule="node-name")
    refused = AllocationRefused(
        namespace="shop",
        name="web-3",
        uid="uid-3",
        node="node-a",
        holder="pod/uid-3",
        interface="eth0",
        reason="no-pool",
        message="no IPPool",
        verdicts=(verdict,),
        times=3,
    )
    recorded = Recorded(7, 0, "node-a.1.0", 1_000, "node-a", Cause("agent/node-a"), refused)
    document = EventConditions(namespace="shop").document(recorded)
    assert document is not None
    assert document["refusal"]["verdicts"][0]["rule"] == "node-name"
    assert document["refusal"]["times"] == 3
    assert EventConditions(namespace="bank").document(recorded) is None


async def test_events_older_than_the_index_are_listed_page_by_page(
    archived_cluster: ArchivedCluster,
) -> None:
    await archived_cluster.execute([CniAdd("node-a", f"web-{number}") for number in range(4)])
    await archived_cluster.seal(file_bytes_max=500)
    await archived_cluster.execute([CniDel("node-a", "web-0")])
    log = IndexedLog(archived_cluster.store, TEST_KEYS, archived_cluster.files, window_events_max=3)
    instant = await log.now()
    assert instant.log.first_position > 0
    positions: list[tuple[int, int]] = []
    cursor = None
    while True:
        page = await events_before(log, instant, cursor, EventConditions(), 2)
        positions += [(item["position"], item["place"]) for item in page["items"]]
        if page["cursor"] is None:
            break
        cursor = parse_event_position(page["cursor"])
    replayed = await archived_cluster.replayed()
    assert positions == [(event.position, event.index_in_segment) for event in reversed(replayed)]
