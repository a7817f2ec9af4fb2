"""A runtime calls the executables macvlan and coordinator, with a real agent.

The directory ``datapath`` of a node has one file for each attachment record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nodeagent.cni_protocol.failures import CHECK_FAILED, INVALID_CONFIG
from ops.lab.laboratory import Laboratory
from ops.lab.node import Node
from ops.lab.programs import attempt, console_script
from ops.lab.runtime import CniFailed
from ops.lab.sandbox import Sandbox
from tests.support.deadlines import wait_until
from tests.support.parts import require_namespaces

pytestmark = [pytest.mark.netns, pytest.mark.etcd]

NODE_IPV6 = "fd00:99::11/64"
POOLS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: four}
spec: {subnet: 10.6.0.0/24, ips: [10.6.0.100-10.6.0.199], gateway: 10.6.0.1, default: true}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: six}
spec:
  subnet: fd00:6::/64
  ips: ["fd00:6::100-fd00:6::199"]
  gateway: fd00:6::1
  default: true
"""


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    require_namespaces()
    coordinator = {"mode": "auto", "serviceCIDR": ["10.96.0.0/16"], "podMACPrefix": "0a:1b"}
    with Laboratory(coordinator=coordinator) as laboratory:
        applied = laboratory.orbctl("apply", "-f", "-", stdin=POOLS)
        assert applied.returncode == 0, applied.stderr
        node = laboratory.node("node-a")
        node.namespace.ip("address", "add", NODE_IPV6, "dev", "eth0", "nodad")
        yield laboratory


@pytest.fixture
def node(laboratory: Laboratory) -> Node:
    return laboratory.nodes["node-a"]


@pytest.fixture
def sandbox(
    laboratory: Laboratory, node: Node, request: pytest.FixtureRequest
) -> Iterator[Sandbox]:
    sandbox = laboratory.sandbox(f"pod-{abs(hash(request.node.name)) % 10_000}")
    yield sandbox
    node.runtime.delete(sandbox)
    sandbox.destroy()


def plugin_lines(node: Node) -> list[dict[str, object]]:
    path = node.directory / "coordinator.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_pod_and_its_node_reach_each_other_after_an_add(node: Node, sandbox: Sandbox) -> None:
    result = node.runtime.add(sandbox)
    assert [entry["name"] for entry in result["interfaces"]] == ["eth0"]
    assert len(result["ips"]) == 2
    assert sandbox.reaches(node.address)
    for address in sandbox.addresses:
        assert node.namespace.attempt("ping", "-c", "1", "-W", "2", address).returncode == 0
    # The MAC address is podMACPrefix, followed by the IPv4 address 10.6.0.x.
    assert result["interfaces"][0]["mac"].startswith("0a:1b:0a:06:00:")
    node.runtime.check(sandbox)
    assert add_again(node, sandbox) == result
    node.runtime.check(sandbox)


def test_check_reports_a_removed_route(node: Node, sandbox: Sandbox) -> None:
    node.runtime.add(sandbox)
    sandbox.namespace.ip("route", "delete", "10.96.0.0/16")
    with pytest.raises(CniFailed, match=r"CHECK failed: route 10\.96\.0\.0/16") as failure:
        node.runtime.check(sandbox)
    assert failure.value.code == CHECK_FAILED
    add_again(node, sandbox)
    node.runtime.check(sandbox)


def test_del_restores_the_links_of_the_node(node: Node, sandbox: Sandbox) -> None:
    links_before = node.namespace.ip("-brief", "link")
    node.runtime.add(sandbox)
    assert node.namespace.ip("-brief", "link") != links_before
    node.runtime.delete(sandbox)
    assert node.namespace.ip("-brief", "link") == links_before
    node.runtime.delete(sandbox)


def test_gc_removes_an_attachment_that_the_runtime_does_not_list(
    node: Node, sandbox: Sandbox
) -> None:
    node.runtime.add(sandbox)
    (record,) = (node.directory / "datapath").iterdir()
    node.runtime.forget(sandbox)
    sandbox.destroy()
    node.runtime.collect_garbage()
    assert not record.exists()
    assert sandbox.container[:11] not in node.namespace.ip("link")


def test_a_new_agent_uses_the_attachment_records_of_a_killed_agent(
    node: Node, sandbox: Sandbox
) -> None:
    node.runtime.add(sandbox)
    node.agent.kill()
    node.start_agent()
    node.runtime.check(sandbox)
    node.runtime.delete(sandbox)
    assert list((node.directory / "datapath").iterdir()) == []


def test_the_next_agent_completes_a_del_that_ran_without_an_agent(
    node: Node, sandbox: Sandbox
) -> None:
    node.runtime.add(sandbox)
    node.agent.kill()
    assert call_coordinator(node, sandbox, "DEL") == {}
    assert len(list((node.directory / "datapath").iterdir())) == 1
    sandbox.destroy()
    veth = f"veth{sandbox.container[:11]}"
    wait_until(lambda: veth not in node.namespace.ip("-brief", "link"), f"the deletion of {veth}")
    node.start_agent()
    assert list((node.directory / "datapath").iterdir()) == []


def test_the_error_names_an_invalid_field_of_the_network_configuration(
    node: Node, sandbox: Sandbox
) -> None:
    result = node.runtime.add(sandbox)
    for changes, text in (
        ({"hijackCIDR": ["nonsense"]}, "hijackCIDR: 'nonsense'"),
        ({"mode": "overlay"}, "mode: overlay mode must not be used"),
        ({"prevResult": None}, "prevResult is missing"),
    ):
        with pytest.raises(CniFailed, match=text) as failure:
            add_again(node, sandbox, **changes)
        assert failure.value.code == INVALID_CONFIG
    assert add_again(node, sandbox, mode="disabled") == result


def test_status_succeeds_while_the_agent_is_ready(node: Node, sandbox: Sandbox) -> None:
    assert call_coordinator(node, sandbox, "STATUS", cniVersion="1.1.0") == {}


def test_an_add_is_logged_in_coordinator_log(node: Node, sandbox: Sandbox) -> None:
    node.runtime.add(sandbox)
    node.agent.stop()
    node.start_agent()
    line = next(line for line in plugin_lines(node) if line["msg"] == "ADD done")
    assert line["mode"] == "underlay"
    assert line["table"] == 101, "expected the routing table of the first NIC"


def add_again(node: Node, sandbox: Sandbox, **changes: object) -> dict[str, object]:
    """Run the coordinator's ADD alone, because main plugins refuse a second ADD."""
    return call_coordinator(node, sandbox, "ADD", **{"prevResult": sandbox.result, **changes})


def call_coordinator(
    node: Node, sandbox: Sandbox, command: str, **changes: object
) -> dict[str, object]:
    conf = {
        **node.runtime.conflist()["plugins"][1],
        "cniVersion": "1.0.0",
        "name": "lab",
        **changes,
    }
    environment = node.runtime._environment(command, sandbox)
    return node.runtime._run("coordinator", environment, conf)


def test_trace_path_finds_pods_by_name(
    laboratory: Laboratory, node: Node, sandbox: Sandbox
) -> None:
    node.runtime.add(sandbox)
    command = [console_script("orbctl"), "trace-path", sandbox.pod, "--socket"]
    inside = node.namespace.inside([*command, str(node.socket), sandbox.pod, "-o", "json"])
    process = attempt(inside, environment=laboratory.environment())
    assert process.returncode == 0, process.stderr
    document = json.loads(process.stdout)
    assert document["netns"] == str(sandbox.namespace.path)
    assert [path["destination"] for path in document["paths"]] == sandbox.addresses
    for path in document["paths"]:
        assert path["legs"][0]["end"] == "arrives in the Pod itself"
    command_without_agent = node.namespace.inside([*command, "/run/none/a.sock", node.address])
    process = attempt(command_without_agent, environment=laboratory.environment())
    assert (process.returncode, "--netns" in process.stderr) == (1, True), process.stderr
