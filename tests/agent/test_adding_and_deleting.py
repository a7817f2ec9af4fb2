"""ADD and DEL through the framed socket, byte for byte."""

from __future__ import annotations

import pytest

from tests.agent.node import Node


async def test_an_add_answers_the_result_of_its_cni_version(node: Node) -> None:
    await node.pool("lan-4", "10.6.0.0/24", "10.6.0.10", gateway="10.6.0.1")

    reply = await node.call("ADD")

    assert reply.result == {
        "cniVersion": "1.1.0",
        "ips": [{"address": "10.6.0.10/24", "gateway": "10.6.0.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}],
        "dns": {},
    }
    assert reply.body.startswith(b'{\n    "cniVersion": "1.1.0",\n    "ips": [\n        {\n')


async def test_a_delete_frees_what_the_add_has_claimed(node: Node) -> None:
    await node.pool("lan-4", "10.6.0.0/24", "10.6.0.10")
    await node.add()

    await node.delete()

    assert await node.claims() == {}
    assert await node.endpoint() is None


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
async def test_results_before_1_0_0_name_the_family_of_every_address(
    node: Node, version: str
) -> None:
    await node.pool("lan-4", "10.6.0.0/24", "10.6.0.10")
    await node.pool("lan-6", "fd00:6::/64", "fd00:6::10", gateway="fd00:6::1")

    reply = await node.call("ADD", conf=node.netconf(version))

    assert reply.result["ips"] == [
        {"version": "4", "address": "10.6.0.10/24"},
        {"version": "6", "address": "fd00:6::10/64", "gateway": "fd00:6::1"},
    ]
