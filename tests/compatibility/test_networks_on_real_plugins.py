"""``orbctl nad`` makes a NAD of a SpiderMultusConfig, and the plugins of the NAD attach a Pod.

The plugins are Debian's and Orbweaver's. Ids such as A00002 are those of
docs/contributing/compatibility.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ops.lab.laboratory import Laboratory
from ops.lab.programs import attempt, plugin
from ops.lab.sandbox import Sandbox
from tests.support.parts import require_namespaces

pytestmark = [pytest.mark.etcd, pytest.mark.netns]

NODE = "node-a"
POOLS_AND_PODS = """
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan-v4}
spec: {default: true, subnet: 10.6.0.0/24, gateway: 10.6.0.1, ips: [10.6.0.10-10.6.0.99]}
---
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderIPPool
metadata: {name: lan-v6}
spec: {default: true, subnet: "fd00:6::/64", gateway: "fd00:6::1", ips: ["fd00:6::10-fd00:6::99"]}
---
apiVersion: v1
kind: Pod
metadata:
  name: routed
  namespace: shop
  annotations:
    ipam.spidernet.io/routes: >-
      [{"dst": "10.20.0.0/16", "gw": "10.6.0.2"}, {"dst": "fd00:0020:0::/48", "gw": "fd00:6::2"}]
---
apiVersion: v1
kind: Pod
metadata:
  name: clean
  namespace: shop
  annotations:
    ipam.spidernet.io/ippools: >-
      [{"interface": "eth0", "ipv4": ["lan-v4"], "ipv6": ["lan-v6"], "cleangateway": true}]
"""


@pytest.fixture(scope="module")
def laboratory() -> Iterator[Laboratory]:
    require_namespaces()
    with Laboratory() as laboratory:
        node = laboratory.node(NODE)
        (node.plugins / "tuning").symlink_to(plugin("tuning"))
        applied = laboratory.orbctl("apply", "-f", "-", stdin=POOLS_AND_PODS)
        assert applied.returncode == 0, applied.stderr
        yield laboratory


def attach(laboratory: Laboratory, pod: str, **spec: Any) -> Sandbox:
    """Return a new sandbox, attached to a macvlan network.

    ``spec``: further fields of the SpiderMultusConfig.
    """
    node, sandbox = laboratory.nodes[NODE], laboratory.sandbox(pod, "shop", f"uid-{pod}")
    result: dict[str, Any] = {}
    config = cni_configuration(
        laboratory, {"cniType": "macvlan", "macvlan": {"master": ["eth0"]}} | spec
    )
    for plugin_conf in config["plugins"]:
        if "ipam" in plugin_conf:
            plugin_conf["ipam"] |= {
                "ipam_unix_socket_path": str(node.socket),
                "log_file_path": str(node.plugin_log),
            }
        conf = {key: config[key] for key in ("cniVersion", "name")} | plugin_conf
        previous = {"prevResult": result} if result else {}
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": sandbox.container,
            "CNI_NETNS": str(sandbox.namespace.path),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": sandbox.arguments,
            "CNI_PATH": str(node.plugins),
        }
        command = node.namespace.inside([str(node.plugins / plugin_conf["type"])])
        done = attempt(command, stdin=json.dumps(conf | previous), environment=environment)
        assert done.returncode == 0, done.stdout
        result = json.loads(done.stdout)
    return sandbox


def cni_configuration(laboratory: Laboratory, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the CNI configuration that ``orbctl nad`` prints for a network."""
    network = {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderMultusConfig",
        "metadata": {"name": "lan", "namespace": "shop"},
        "spec": {"enableCoordinator": False} | spec,
    }
    printed = laboratory.orbctl("nad", "-f", "-", "-o", "json", stdin=json.dumps(network))
    assert printed.returncode == 0, printed.stderr
    (manifest,) = json.loads(printed.stdout)
    config: dict[str, Any] = json.loads(manifest["spec"]["config"])
    return config


def routes(sandbox: Sandbox) -> str:
    return sandbox.namespace.ip("route") + sandbox.namespace.ip("-6", "route")


def test_routes_of_the_annotation_are_in_the_pod(laboratory: Laboratory) -> None:
    """A00002; the annotation has the IPv6 route with additional zeros."""
    pod_routes = routes(attach(laboratory, "routed"))

    assert "10.20.0.0/16 via 10.6.0.2 dev eth0" in pod_routes
    assert "fd00:20::/48 via fd00:6::2 dev eth0" in pod_routes
    assert "default via 10.6.0.1 dev eth0" in pod_routes


def test_a_clean_gateway_leaves_the_pod_without_a_default_route(laboratory: Laboratory) -> None:
    """A00011."""
    sandbox = attach(laboratory, "clean")

    assert "default" not in routes(sandbox)
    assert len(sandbox.kernel_addresses()) == 2
    assert sandbox.reaches("10.6.0.1")


def test_a_nic_has_the_mtu_of_its_network(laboratory: Laboratory) -> None:
    """M00001, M00033."""
    sandbox = attach(laboratory, "small", macvlan={"master": ["eth0"], "mtu": 1400})

    assert "mtu 1400" in sandbox.namespace.ip("link", "show", "eth0")


def test_a_chained_plugin_is_called(laboratory: Laboratory) -> None:
    """M00021."""
    item = json.dumps({"type": "tuning", "sysctl": {"net.core.somaxconn": "4097"}})
    sandbox = attach(laboratory, "tuned", chainCNIJsonData=[item])

    value = sandbox.namespace.run("sysctl", "-n", "net.core.somaxconn")

    assert value.strip() == "4097"


def test_a_nic_has_no_address_if_ipam_is_disabled(laboratory: Laboratory) -> None:
    """M00017."""
    sandbox = attach(laboratory, "bare", disableIPAM=True)

    assert sandbox.kernel_addresses() == []
    assert "eth0@" in sandbox.namespace.ip("-o", "link")
