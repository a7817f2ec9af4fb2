"""Our CRDs on a real API server, without webhooks and controllers."""

from __future__ import annotations

import pytest

from tests.kubernetes.objects import (
    Object,
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
from tests.support.kubernetes import MERGE_PATCH, ApiServer

SELECTOR = {
    "matchLabels": {"app": "web"},
    "matchExpressions": [{"key": "tier", "operator": "Exists"}],
}
YAML_OF_SPIDERPOOL: dict[str, Object] = {
    "a pool with every field": pool(
        ipVersion=4,
        ips=["10.6.0.10", "10.6.0.20-10.6.0.30"],
        excludeIPs=["10.6.0.25"],
        gateway="10.6.0.1",
        routes=[{"dst": "10.20.0.0/16", "gw": "10.6.0.1"}],
        podAffinity=SELECTOR,
        namespaceAffinity=SELECTOR,
        namespaceName=["shop"],
        nodeAffinity=SELECTOR,
        nodeName=["node-1"],
        multusName=["kube-system/macvlan", "other"],
        default=True,
        disable=False,
    ),
    "a pool without addresses": custom_resource("SpiderIPPool", "empty", {"subnet": "10.6.0.0/16"}),
    "an IPv6 pool": pool(subnet="fd00:6::/64", ips=["fd00:6::10-fd00:6::20"], gateway="fd00:6::1"),
    "IPv4-mapped addresses": pool(ips=["::ffff:10.6.0.9"], gateway="::FFFF:10.6.0.1"),
    "a route with host bits": pool(routes=[{"dst": "10.20.0.7/16", "gw": "10.6.0.1"}]),
    "a subnet": subnet(ipVersion=4, excludeIPs=["10.6.0.10"], gateway="10.6.0.1", routes=[]),
    "a reservation": reservation(ips=["10.6.0.10-10.6.0.20", "10.6.0.30"]),
    "a reservation without addresses": reservation(ipVersion=6),
    "a coordinator": coordinator(
        mode="underlay",
        hijackCIDR=["169.254.0.0/16", "10.9.9.9", "fd00::/64"],
        policyRoutes=[{"dst": "10.1.0.0/16", "gw": "10.6.0.1"}],
        podMACPrefix="0a:1b",
        podRPFilter=-1,
        vethLinkAddress="169.254.1.1",
        vethMTU=1500,
    ),
    "a custom network": network("custom", customCNI='{"type":"bridge"}'),
    "a network with an empty spec": custom_resource("SpiderMultusConfig", "bare", {}),
    "macvlan with a bond": network(
        "macvlan",
        macvlan={
            "master": ["eth0", "eth1"],
            "vlanID": 10,
            "bond": {"name": "bond0", "mode": 1, "options": "miimon=100"},
            "ippools": {"ipv4": ["blue"], "ipv6": []},
        },
        coordinator={"mode": "auto", "podDefaultRouteNIC": "net1"},
        chainCNIJsonData=['{"type":"tuning"}'],
    ),
    "a VLAN that the provider chooses": network(
        "vlan", vlan={"master": ["eth0"], "vlanMode": "auto"}
    ),
    "sriov": network("sriov", sriov={"resourceName": "spidernet.io/vf", "maxTxRateMbps": 10}),
    "ib-sriov": network("ib-sriov", ibsriov={"resourceName": "spidernet.io/ib"}),
    "ipoib": network("ipoib", ipoib={"master": "ib0"}),
    "ovs": network("ovs", ovs={"bridge": "br0", "trunk": [{"minID": 1, "maxID": 9}, {"id": 20}]}),
}


@pytest.mark.parametrize("body", YAML_OF_SPIDERPOOL.values(), ids=YAML_OF_SPIDERPOOL)
def test_yaml_of_spiderpool_is_accepted_and_no_field_is_pruned(
    server: ApiServer, body: Object
) -> None:
    answer = create(server, body)

    assert answer.status == 201, answer.message
    stored = {name: answer.body["spec"].get(name) for name in body["spec"]}
    assert all(value is not None for value in stored.values())
    assert stored.get("ips") == body["spec"].get("ips")


def test_the_api_server_fills_in_the_defaults_of_the_schema(server: ApiServer) -> None:
    for body in (pool(), coordinator(), network("vlan", vlan={"master": ["eth0"]})):
        assert create(server, body).status == 201

    assert get(server, "SpiderIPPool", "blue")["spec"] == {
        "subnet": "10.6.0.0/16",
        "ips": ["10.6.0.10"],
        "default": False,
        "disable": False,
    }
    assert get(server, "SpiderCoordinator", "default")["spec"] == {
        "podCIDRType": "auto",
        "mode": "auto",
        "tunePodRoutes": True,
        "hostRuleTable": 500,
        "podRPFilter": 0,
        "txQueueLen": 0,
    }
    assert get(server, "SpiderMultusConfig", "net")["spec"] == {
        "cniType": "vlan",
        "enableCoordinator": True,
        "disableIPAM": False,
        "vlan": {"master": ["eth0"], "mtu": 0, "vlanMode": "manual"},
    }


def test_kubectl_shows_the_documented_columns_of_a_pool(server: ApiServer) -> None:
    affinity = {"matchLabels": {"ipam.spidernet.io/app-namespace": "shop"}}
    create(server, pool(ipVersion=4, nodeName=["n1"], podAffinity=affinity))
    counts = {"status": {"allocatedIPCount": 1, "totalIPCount": 2}}
    status_path = f"{path_of('SpiderIPPool', 'blue')}/status"
    assert server.request("PATCH", status_path, counts, content=MERGE_PATCH).status == 200

    header, row = server.kubectl("get", "sp").splitlines()
    wide_header, wide_row = server.kubectl("get", "sp", "-o", "wide").splitlines()

    columns = ["NAME", "VERSION", "SUBNET", "ALLOCATED-IP-COUNT", "TOTAL-IP-COUNT", "DEFAULT"]
    assert header.split() == columns
    assert row.split() == ["blue", "4", "10.6.0.0/16", "1", "2", "false"]
    wide_columns = ["DISABLE", "NODENAME", "MULTUSNAME", "APP-NAMESPACE", "FULL"]
    assert wide_header.split() == columns + wide_columns
    assert wide_row.split()[-1] == "shop"


def test_kubectl_shows_the_first_interface_of_an_endpoint(server: ApiServer) -> None:
    endpoint = custom_resource("SpiderEndpoint", "web-0", None)
    nics = [{"interface": "eth0", "ipv4": "10.6.0.10/16", "ipv4Pool": "blue"}]
    endpoint["status"] = {
        "current": {"uid": "u-1", "node": "node-1", "ips": nics},
        "ownerControllerType": "StatefulSet",
        "ownerControllerName": "web",
    }
    del endpoint["spec"]
    assert create(server, endpoint).status == 201

    header, row = server.kubectl("get", "se", "-o", "wide").splitlines()

    assert header.split() == [
        *("NAME", "INTERFACE", "IPV4POOL", "IPV4", "IPV6POOL", "IPV6", "NODE")
    ]
    # The IPv6 columns are empty.
    assert row.split() == ["web-0", "eth0", "blue", "10.6.0.10/16", "node-1"]


@pytest.mark.parametrize("short", ["sp", "ss", "sr", "se", "smc", "scc", "spiderpool"])
def test_kubectl_accepts_the_short_names_and_the_category(server: ApiServer, short: str) -> None:
    assert server.kubectl("get", short, "-o", "name") == ""  # no object, and no error


def test_kubectl_selects_pools_by_field(server: ApiServer) -> None:
    create(server, pool("one", default=True))
    create(server, pool("two"))

    selected = server.kubectl("get", "sp", "--field-selector=spec.default=true", "-o", "name")

    assert selected.split() == ["spiderippool.spiderpool.spidernet.io/one"]


def test_kubectl_explains_a_field(server: ApiServer) -> None:
    assert "in canonical form" in server.kubectl("explain", "sp.spec.subnet")


def test_the_api_server_ignores_the_status_of_a_new_object(server: ApiServer) -> None:
    create(server, pool() | {"status": {"allocatedIPCount": 7}})

    assert "allocatedIPCount" not in get(server, "SpiderIPPool", "blue").get("status", {})
