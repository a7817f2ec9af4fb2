"""CHECK compares the claims of an interface with the runtime's prevResult.

The default call is for eth0 of Pod shop/web-0, container c-web-0.
"""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.model import Claim
from core.eventstore.codec import CLAIM_CODEC
from core.eventstore.kv import Delete, Put
from nodeagent.cni_protocol.failures import CHECK_FAILED, INVALID_CONFIG
from tests.support.agent_harness import AgentHarness


@pytest.fixture
async def add_result(agent: AgentHarness) -> dict[str, Any]:
    await agent.pool("lan-4", "10.6.0.0/24", "10.6.0.10")
    await agent.pool("lan-6", "fd00:6::/64", "fd00:6::10")
    result: dict[str, Any] = (await agent.call("ADD")).result
    return result


async def check(agent: AgentHarness, result: Any, **changes: str) -> tuple[int, str]:
    """Exit status and error message of a CHECK."""
    reply = await agent.call("CHECK", conf=agent.netconf(prevResult=result), **changes)
    if reply.status == 0:
        assert reply.body == b""
        return 0, ""
    assert reply.error["code"] == CHECK_FAILED
    return 1, reply.error["msg"]


async def test_check_passes_after_an_add(agent: AgentHarness, add_result: dict[str, Any]) -> None:
    assert await check(agent, add_result) == (0, "")


async def test_check_ignores_addresses_of_other_interfaces_in_prev_result(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    other_interface_ip = {"address": "10.99.0.1/24", "interface": 1}
    ips = [entry | {"interface": 0} for entry in add_result["ips"]]
    result = add_result | {
        "ips": [*ips, other_interface_ip],
        "interfaces": [{"name": "eth0"}, {"name": "net1"}],
    }

    assert await check(agent, result) == (0, "")


async def test_check_accepts_another_spelling_of_an_address(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    ips = [{"address": "10.6.0.10/24"}, {"address": "FD00:6:0:0::0010/64"}]

    assert await check(agent, add_result | {"ips": ips}) == (0, "")


async def test_check_of_cni_version_0_4_0_passes_without_prev_result(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    reply = await agent.call("CHECK", conf=agent.netconf("0.4.0"))

    assert reply.status == 0


async def test_check_reports_addresses_that_etcd_or_prev_result_lacks(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    status, text = await check(agent, add_result | {"ips": [{"address": "10.6.0.11/24"}]})

    assert status == 1
    assert "prevResult has 10.6.0.11/24, which interface eth0 does not hold" in text
    assert "interface eth0 holds 10.6.0.10/24, which prevResult does not have" in text
    assert "interface eth0 holds fd00:6::10/64, which prevResult does not have" in text


async def test_check_reports_another_sandbox(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    _, text = await check(agent, add_result, CNI_CONTAINERID="another")

    assert "interface eth0 belongs to container c-web-0, not to another" in text


async def test_check_reports_a_pod_that_is_not_the_holder(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    args = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=another-uid"

    _, text = await check(agent, add_result, CNI_ARGS=args)

    assert "the endpoint belongs to pod/uid-web-0, not to pod/another-uid" in text


async def test_check_reports_an_interface_that_was_never_added(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    _, text = await check(agent, add_result, CNI_IFNAME="net1")

    assert "endpoint shop/web-0 has no interface net1" in text


async def test_check_reports_another_network(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    reply = await agent.call("CHECK", conf=agent.netconf(name="other", prevResult=add_result))

    assert "interface eth0 is in network lan, not in other" in reply.error["msg"]


async def test_check_reports_a_missing_endpoint_after_a_delete(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    await agent.delete()

    _, text = await check(agent, add_result)

    assert "there is no endpoint shop/web-0" in text


async def test_check_reports_an_address_without_a_claim(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    await agent.store.commit([], [Delete(agent.keys.ip_of("10.6.0.10"))])

    _, text = await check(agent, add_result)

    assert text == "CHECK failed: address 10.6.0.10 is not claimed"


async def test_check_reports_a_claim_of_another_pod(
    agent: AgentHarness, add_result: dict[str, Any]
) -> None:
    claim_of_thief = Claim(
        pool="other-pool", holder="pod/thief", namespace="shop", pod="thief", event="event"
    )
    put = Put(agent.keys.ip_of("10.6.0.10"), CLAIM_CODEC.encode(claim_of_thief))
    await agent.store.commit([], [put])

    _, text = await check(agent, add_result)

    assert "address 10.6.0.10 is held by pod/thief" in text
    assert "address 10.6.0.10 is from pool other-pool, not from lan-4" in text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"ips": 7}, "prevResult.ips and prevResult.interfaces must be lists"),
        ({"ips": [{}]}, "prevResult.ips: each entry needs an address"),
        ({"ips": [{"address": "10.6.0.10"}]}, "prevResult.ips: '10.6.0.10'"),
        ({"ips": [], "interfaces": "eth0"}, "must be lists"),
    ],
)
async def test_the_error_names_an_invalid_field_of_prev_result(
    agent: AgentHarness, add_result: dict[str, Any], result: Any, text: str
) -> None:
    error = (await agent.call("CHECK", conf=agent.netconf(prevResult=result))).error

    assert error["code"] == INVALID_CONFIG
    assert text in error["msg"]
