"""The HTTP API has the methods, bodies and status codes of Spiderpool's HTTP API."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.events import AddressesReleased
from core.eventstore.log_reader import LOG_START, LogReader
from core.eventstore.memory_store import MemoryStore
from nodeagent.agent import Agent
from nodeagent.servers.http_request_bodies import BODY_BYTES_MAX, MISSING_MEMBER_CODE
from nodeagent.settings.agent_settings import Settings
from tests.support.agent_harness import AgentHarness, running
from tests.support.http_caller import HttpReply, over_socket

ADD = {
    "containerID": "box-1",
    "ifName": "eth0",
    "netNamespace": "/run/netns/a",
    "podNamespace": "shop",
    "podName": "web-0",
    "podUID": "uid-1",
}
DEL = ADD
BATCH = {key: value for key, value in ADD.items() if key != "ifName"}
CONFLICT_BATCH = BATCH | {"isReleaseConflictIPs": True}


async def ask(
    agent: AgentHarness, method: str, url: str, body: object = None, **options: Any
) -> HttpReply:
    return await over_socket(agent.process.settings.socket_path, method, url, body, **options)


async def create_one_pool_of_each_family(agent: AgentHarness) -> None:
    await agent.pool("lan-4", "10.6.0.0/24", "10.6.0.10", gateway="10.6.0.1")
    await agent.pool("lan-6", "fd00:6::/64", "fd00:6::10")


async def test_an_add_returns_addresses_and_routes(agent: AgentHarness) -> None:
    await create_one_pool_of_each_family(agent)

    reply = await ask(agent, "POST", "/v1/ipam/ip", ADD)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json == {
        "ips": [
            {
                "version": 4,
                "address": "10.6.0.10/24",
                "nic": "eth0",
                "ipPool": "lan-4",
                "gateway": "10.6.0.1",
            },
            {"version": 6, "address": "fd00:6::10/64", "nic": "eth0", "ipPool": "lan-6"},
        ],
        "routes": [{"ifName": "eth0", "dst": "0.0.0.0/0", "gw": "10.6.0.1"}],
    }


async def test_an_add_without_routes_returns_null_routes(agent: AgentHarness) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10")

    assert (await ask(agent, "POST", "/v1/ipam/ip", ADD)).json["routes"] is None


async def test_the_answer_enables_the_configured_detections(
    settings: Settings, memory_store: MemoryStore
) -> None:
    detecting = settings._replace(detect_conflicts=True, detect_gateway=True)
    async with running(detecting, memory_store) as node:
        await create_one_pool_of_each_family(node)

        fresh = (await ask(node, "POST", "/v1/ipam/ip", ADD)).json["ips"]
        repeated = (await ask(node, "POST", "/v1/ipam/ip", ADD)).json["ips"]

    assert [entry["enableIPConflictDetection"] for entry in fresh] == [True, True]
    assert fresh[0]["enableGatewayDetection"] is True
    assert "enableGatewayDetection" not in fresh[1]
    assert repeated == fresh


async def test_the_answer_has_the_results_of_all_interfaces(agent: AgentHarness) -> None:
    await agent.pool("a", "10.6.0.0/24", "10.6.0.10", default=False)
    await agent.pool("b", "10.7.0.0/24", "10.7.0.10", default=False, gateway="10.7.0.1")
    await agent.pod("web-0", {"ippools": [{"ipv4": ["a"]}, {"ipv4": ["b"]}]})

    fresh = (await ask(agent, "POST", "/v1/ipam/ip", ADD)).json
    repeated = (await ask(agent, "POST", "/v1/ipam/ip", ADD)).json
    named = (await ask(agent, "POST", "/v1/ipam/ip", ADD | {"ifName": "net1"})).json

    assert [entry["nic"] for entry in fresh["ips"]] == ["eth0", "1"]  # an unnamed NIC: its index
    assert fresh["routes"] == [{"ifName": "1", "dst": "0.0.0.0/0", "gw": "10.7.0.1"}]
    assert repeated == fresh
    assert [entry["nic"] for entry in named["ips"]] == ["eth0", "net1"]


async def test_a_request_selects_pools_and_disables_the_default_route(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10", default=False, gateway="10.6.0.1")
    pools_and_gateway = {
        "defaultIPv4IPPool": ["lan"],
        "defaultIPv6IPPool": [],
        "cleanGateway": True,
    }

    answer = (await ask(agent, "POST", "/v1/ipam/ip", ADD | pools_and_gateway)).json

    assert answer["routes"] is None
    assert answer["ips"][0]["gateway"] == "10.6.0.1"


async def test_a_failed_add_returns_500_with_the_reason_as_a_json_string(
    agent: AgentHarness,
) -> None:
    reply = await ask(agent, "POST", "/v1/ipam/ip", ADD)

    assert reply.status == 500
    assert reply.json == (
        "failed to allocate IP addresses in standard mode: no IPPool available, no pool selection"
        " rules of any type are specified"
    )


async def test_a_delete_releases_the_addresses_and_can_be_repeated(agent: AgentHarness) -> None:
    await create_one_pool_of_each_family(agent)
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    first = await ask(agent, "DELETE", "/v1/ipam/ip", DEL)
    again = await ask(agent, "DELETE", "/v1/ipam/ip", DEL)

    assert (first.status, first.body) == (200, b"")
    assert (again.status, again.body) == (200, b"")
    assert await agent.claims() == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"podNamespace": ""},
        {"podName": ""},
        {"podName": "a/b"},
        {"podUID": "a b"},
        {"containerID": ""},
        {"ifName": ""},
        {"ifName": "far-too-long-for-linux"},
    ],
)
async def test_invalid_names_return_500_and_claim_nothing(
    agent: AgentHarness, changes: dict[str, str]
) -> None:
    await create_one_pool_of_each_family(agent)

    reply = await ask(agent, "POST", "/v1/ipam/ip", ADD | changes)

    assert reply.status == 500
    assert isinstance(reply.json, str)
    assert await agent.claims() == {}


@pytest.mark.parametrize(
    ("method", "url", "name"),
    [
        ("POST", "/v1/ipam/ip", "ipamAddArgs"),
        ("DELETE", "/v1/ipam/ip", "ipamDelArgs"),
        ("DELETE", "/v1/ipam/ips", "ipamBatchDelArgs"),
        ("GET", "/v1/coordinator/config", "getCoordinatorConfig"),
    ],
)
@pytest.mark.parametrize(
    ("data", "status", "code", "text"),
    [
        (b"", 422, MISSING_MEMBER_CODE, "{name} in body is required"),
        (b"null", 422, MISSING_MEMBER_CODE, "{name} in body is required"),
        (b"{", 400, 400, 'parsing {name} body from "" failed, because '),
        (b"[]", 400, 400, 'parsing {name} body from "" failed, because '),
        (b'"text"', 400, 400, 'parsing {name} body from "" failed, because '),
        (b'{"podName":1}', 400, 400, 'parsing {name} body from "" failed, because podName: '),
        (b'{"podName":NaN}', 400, 400, 'parsing {name} body from "" failed, because '),
        (b"\xff\xfe", 400, 400, 'parsing {name} body from "" failed, because '),
        (b"[" * 100_000, 400, 400, 'parsing {name} body from "" failed, because '),
    ],
)
async def test_an_invalid_body_returns_400_or_422(
    agent: AgentHarness,
    method: str,
    url: str,
    name: str,
    data: bytes,
    status: int,
    code: int,
    text: str,
) -> None:
    json_type = {"Content-Type": "application/json"}

    reply = await ask(agent, method, url, data=data, headers=json_type)

    assert reply.status == status
    assert list(reply.json) == ["code", "message"]
    assert reply.json["code"] == code
    assert reply.json["message"].startswith(text.format(name=name))


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, "containerID"),
        ({"containerID": None}, "containerID"),
        ({"containerID": "c", "podUID": "u"}, "ifName"),
        ({key: value for key, value in ADD.items() if key != "podUID"}, "podUID"),
        (ADD | {"netNamespace": None}, "netNamespace"),
    ],
)
async def test_the_error_names_the_first_missing_field(
    agent: AgentHarness, body: dict[str, Any], missing: str
) -> None:
    reply = await ask(agent, "POST", "/v1/ipam/ip", body)

    assert reply.status == 422
    assert reply.json == {"code": MISSING_MEMBER_CODE, "message": f"{missing} in body is required"}


async def test_a_body_is_parsed_like_encoding_json_of_go(agent: AgentHarness) -> None:
    await create_one_pool_of_each_family(agent)
    text = (
        b' {"CONTAINERID":"box-1","ifName":"nope","IFNAME":"eth0","netnamespace":"\\ud800",'
        b'"x":[],"podNamespace":"shop","podName":"web-0","podUID":"","cleanGateway":null} trailing'
    )
    headers = {"Content-Type": "application/json; charset=utf-8"}

    reply = await ask(agent, "POST", "/v1/ipam/ip", data=text, headers=headers)

    assert reply.status == 200
    assert reply.json["ips"][0]["nic"] == "eth0"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
async def test_a_content_type_other_than_json_returns_415(
    agent: AgentHarness, headers: dict[str, str]
) -> None:
    reply = await ask(agent, "POST", "/v1/ipam/ip", ADD, headers=headers)

    assert reply.status == 415
    assert reply.json["code"] == 415
    assert "only [application/json] are allowed" in reply.json["message"]


async def test_a_body_above_the_limit_returns_413(agent: AgentHarness) -> None:
    reply = await ask(agent, "POST", "/v1/ipam/ip", ADD | {"x": "x" * BODY_BYTES_MAX})

    assert reply.status == 413
    assert reply.json["code"] == 413


@pytest.mark.parametrize(
    ("method", "url", "status", "message"),
    [
        ("GET", "/", 404, "path / was not found"),
        ("GET", "/v2/ipam/ip", 404, "path /v2/ipam/ip was not found"),
        ("GET", "/v1/ipam/ip", 405, "method GET is not allowed, but [DELETE,POST] are"),
        ("POST", "/v1/ipam/healthy", 405, "method POST is not allowed, but [GET] are"),
        ("PATCH", "/v1/workloadendpoint", 405, "method PATCH is not allowed, but [GET] are"),
    ],
)
async def test_an_unknown_path_returns_404_and_a_wrong_method_returns_405(
    agent: AgentHarness, method: str, url: str, status: int, message: str
) -> None:
    reply = await ask(agent, method, url)

    assert reply.status == status
    assert reply.json == {"code": status, "message": message}


@pytest.mark.parametrize("name", ["startup", "readiness", "liveness"])
async def test_runtime_paths_are_not_implemented_on_the_socket(
    agent: AgentHarness, name: str
) -> None:
    reply = await ask(agent, "GET", f"/v1/runtime/{name}")

    assert reply.status == 501
    assert isinstance(reply.json, str)


async def test_the_batch_add_does_nothing(agent: AgentHarness) -> None:
    reply = await ask(agent, "POST", "/v1/ipam/ips")

    assert (reply.status, reply.body) == (200, b"")


async def test_the_health_check_returns_200_without_a_body(agent: AgentHarness) -> None:
    reply = await ask(agent, "GET", "/v1/ipam/healthy")

    assert (reply.status, reply.body) == (200, b"")


async def test_a_workload_endpoint_shows_the_addresses_of_the_pod(agent: AgentHarness) -> None:
    await create_one_pool_of_each_family(agent)
    await agent.pod("web-0", {"routes": [{"dst": "10.30.0.0/16", "gw": "10.6.0.3"}]})
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    reply = await ask(agent, "GET", "/v1/workloadendpoint?podNamespace=shop&podName=web-0")

    assert reply.status == 200
    assert reply.json == {
        "podNamespace": "shop",
        "podName": "web-0",
        "podUID": "uid-1",
        "node": "node-1",
        "interfaces": [
            {
                "interface": "eth0",
                "ipv4": "10.6.0.10/24",
                "ipv6": "fd00:6::10/64",
                "ipv4Pool": "lan-4",
                "ipv6Pool": "lan-6",
                "ipv4Gateway": "10.6.0.1",
                "routes": [{"dst": "10.30.0.0/16", "gw": "10.6.0.3", "ifName": None}],
            }
        ],
    }


@pytest.mark.parametrize("name", ["web-0", "..%2F..%2Fpool"])
async def test_an_unknown_workload_endpoint_returns_404(agent: AgentHarness, name: str) -> None:
    reply = await ask(agent, "GET", f"/v1/workloadendpoint?podNamespace=shop&podName={name}")

    assert reply.status == 404
    assert reply.json.startswith("SpiderEndpoint not found for pod shop/")


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ("", "podName"),
        ("?podName=", "podName"),
        ("?podNamespace=shop", "podName"),
        ("?podName=web-0", "podNamespace"),
        ("?podName=web-0&podNamespace=", "podNamespace"),
    ],
)
async def test_incomplete_queries_return_422(agent: AgentHarness, query: str, missing: str) -> None:
    reply = await ask(agent, "GET", f"/v1/workloadendpoint{query}")

    assert reply.status == 422
    assert reply.json == {"code": MISSING_MEMBER_CODE, "message": f"{missing} in query is required"}


async def test_the_coordinator_config_has_the_settings_of_the_cluster(agent: AgentHarness) -> None:
    body = {"podName": "web-0", "podNamespace": "shop"}

    reply = await ask(agent, "GET", "/v1/coordinator/config", body)

    assert reply.status == 200
    assert reply.json == {
        "mode": "auto",
        "overlayPodCIDR": [],
        "serviceCIDR": [],
        "tunePodRoutes": True,
        "hostRuleTable": 500,
        "vethMTU": 1500,
    }


# The batch release


async def test_a_batch_release_releases_all_addresses(agent: AgentHarness) -> None:
    await create_one_pool_of_each_family(agent)
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    reply = await ask(agent, "DELETE", "/v1/ipam/ips", BATCH)

    assert (reply.status, reply.body) == (200, b"")
    assert await agent.claims() == {}
    assert agent.process.parts.view.current.quarantine == {}


async def test_a_conflict_release_quarantines_the_released_addresses(agent: AgentHarness) -> None:
    await create_one_pool_of_each_family(agent)
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    reply = await ask(agent, "DELETE", "/v1/ipam/ips", CONFLICT_BATCH)
    view = agent.process.parts.view
    await view.wait_for(lambda: len(view.current.quarantine) == 2)
    again = await ask(agent, "POST", "/v1/ipam/ip", ADD)

    assert reply.status == 200
    assert await agent.claims() == {}
    assert set(view.current.quarantine) == {"10.6.0.10", "fd00:6::10"}
    assert "all IP addresses used out" in again.json
    segments, _ = await LogReader(agent.store, agent.keys).catch_up(LOG_START)
    events = [logged.event for segment in segments for logged in segment.events()]
    event = [event for event in events if isinstance(event, AddressesReleased)][-1]
    assert event.reason == "conflict"


async def test_a_disabled_conflict_release_returns_521(
    settings: Settings, memory_store: MemoryStore
) -> None:
    async with running(settings._replace(release_conflicts=False), memory_store) as node:
        await create_one_pool_of_each_family(node)
        await ask(node, "POST", "/v1/ipam/ip", ADD)

        conflict_reply = await ask(node, "DELETE", "/v1/ipam/ips", CONFLICT_BATCH)
        claims = await node.claims()
        plain_reply = await ask(node, "DELETE", "/v1/ipam/ips", BATCH)

    assert conflict_reply.status == 521
    assert conflict_reply.json == "forbid releasing IPs for stateless workload"
    assert len(claims) == 2
    assert plain_reply.status == 200


async def test_a_stateful_pod_keeps_its_addresses_and_a_conflict_release_returns_522(
    agent: AgentHarness,
) -> None:
    await create_one_pool_of_each_family(agent)
    owner = {"owner_kind": "StatefulSet", "owner_name": "web", "owner_api_version": "apps/v1"}
    await agent.pod("web-0", {}, **owner)
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    conflict_reply = await ask(agent, "DELETE", "/v1/ipam/ips", CONFLICT_BATCH)
    plain_reply = await ask(agent, "DELETE", "/v1/ipam/ips", BATCH)

    assert conflict_reply.status == 522
    assert conflict_reply.json == "forbid releasing IPs for stateful workload"
    assert plain_reply.status == 200
    assert len(await agent.claims()) == 2


async def test_a_batch_release_for_another_pod_returns_500_and_releases_nothing(
    agent: AgentHarness,
) -> None:
    await create_one_pool_of_each_family(agent)
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    reply = await ask(agent, "DELETE", "/v1/ipam/ips", BATCH | {"podUID": "uid-2"})

    assert reply.status == 500
    assert "the endpoint belongs to Pod uid-1, not to uid-2" in reply.json
    assert len(await agent.claims()) == 2


async def test_a_batch_release_without_pod_uid_does_nothing_if_the_pod_is_gone(
    agent: AgentHarness,
) -> None:
    await create_one_pool_of_each_family(agent)
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    reply = await ask(agent, "DELETE", "/v1/ipam/ips", BATCH | {"podUID": ""})

    assert reply.status == 200
    assert len(await agent.claims()) == 2, "the endpoint may belong to another Pod of this name"


async def test_an_add_for_a_second_interface_returns_both_interfaces(
    agent: AgentHarness,
) -> None:
    await agent.pool("lan", "10.6.0.0/24", "10.6.0.10-10.6.0.19")
    await ask(agent, "POST", "/v1/ipam/ip", ADD)

    second = (await ask(agent, "POST", "/v1/ipam/ip", ADD | {"ifName": "net1"})).json["ips"]

    assert [entry["nic"] for entry in second] == ["eth0", "net1"]


async def test_a_batch_release_without_claims_succeeds(agent: AgentHarness) -> None:
    reply = await ask(agent, "DELETE", "/v1/ipam/ips", BATCH | {"podUID": ""})

    assert reply.status == 200


# Before the agent is ready


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", "/v1/ipam/healthy", None),
        ("POST", "/v1/ipam/ip", ADD),
        ("DELETE", "/v1/ipam/ip", DEL),
        ("DELETE", "/v1/ipam/ips", BATCH),
        ("GET", "/v1/workloadendpoint?podNamespace=shop&podName=web-0", None),
    ],
)
async def test_every_request_before_the_agent_is_ready_returns_500(
    settings: Settings, memory_store: MemoryStore, method: str, url: str, body: object
) -> None:
    agent = Agent(settings, memory_store)
    await agent.open_servers()

    reply = await ask(AgentHarness(agent), method, url, body)

    await agent.stop()
    assert reply.status == 500
    assert reply.json.startswith("the agent has not opened its event writer yet")
