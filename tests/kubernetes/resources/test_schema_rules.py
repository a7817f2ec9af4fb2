"""The API server refuses invalid custom resources by the schema of the CRD.

The controller also refuses these objects, because an older schema may have accepted them.
"""

from __future__ import annotations

import pytest

from core.domain.configuration.configuration_state import Configuration
from core.domain.configuration.decisions import decide
from core.errors import BadInput, Refused
from core.manifests.commands import apply_command
from core.manifests.manifest_parser import read_object
from core.manifests.schemas import MANIFEST_SCHEMAS
from tests.kubernetes.objects import (
    Object,
    coordinator,
    create,
    network,
    pool,
    replace,
    reservation,
    subnet,
)
from tests.support.kubernetes import ApiServer

IPV6_CIDR = "fd00:6::/64"
MASTER = {"master": ["eth0"]}
REFUSED: dict[str, tuple[Object, str]] = {  # fault -> object, part of the message
    "an unknown IP version": (pool(ipVersion=5), "spec.ipVersion"),
    "an IP version that contradicts the subnet": (pool(ipVersion=6), "must be of the IP version"),
    "a subnet with host bits": (pool(subnet="10.6.0.7/16"), "canonical form"),
    "a subnet in a longer spelling": (pool(subnet="FD00:6:0::/64", ips=[]), "canonical form"),
    "a subnet without a prefix length": (pool(subnet="10.6.0.0"), "canonical form"),
    "an address that is a word": (pool(ips=["cafe"]), "an address or a range"),
    "an address with leading zeros": (pool(ips=["10.6.0.010"]), "an address or a range"),
    "a CIDR instead of an address": (pool(ips=["10.6.0.0/24"]), "spec.ips[0]"),
    "a range with blanks": (pool(ips=["10.6.0.1 - 10.6.0.9"]), "spec.ips[0]"),
    "an address outside the subnet": (pool(ips=["10.7.0.1"]), "ips must lie in subnet"),
    "a range that ends outside the subnet": (
        pool(ips=["10.6.0.1-10.7.0.1"]),
        "ips must lie in subnet",
    ),
    "an exclusion outside the subnet": (
        pool(excludeIPs=["10.7.0.1"]),
        "excludeIPs must lie in subnet",
    ),
    "an address of the other family": (pool(ips=["fd00:6::1"]), "ips must lie in subnet"),
    "a gateway outside the subnet": (pool(gateway="10.7.0.1"), "gateway must lie in subnet"),
    "a gateway that is a word": (pool(gateway="router"), "must be an address"),
    "a default route": (
        pool(routes=[{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]),
        "must not be the default route",
    ),
    "a next hop outside the subnet": (
        pool(routes=[{"dst": "10.20.0.0/16", "gw": "10.7.0.1"}]),
        "the gw of every route",
    ),
    "a destination of the other family": (
        pool(routes=[{"dst": IPV6_CIDR, "gw": "10.6.0.1"}]),
        "the dst of every route",
    ),
    "an unknown operator": (
        pool(podAffinity={"matchExpressions": [{"key": "a", "operator": "Like"}]}),
        "an operator is",
    ),
    "a SpiderSubnet with host bits": (subnet(subnet="10.6.0.7/16"), "canonical form"),
    "a SpiderSubnet's address outside its CIDR": (
        subnet(ips=["10.7.0.1"]),
        "ips must lie in subnet",
    ),
    "a reservation without addresses and IP version": (reservation(), "needs ipVersion"),
    "a reservation of both families": (
        reservation(ipVersion=4, ips=["10.6.0.1", "fd00::1"]),
        "ips must be of the IP version",
    ),
    "a coordinator without a type": (
        {**coordinator(), "spec": {"mode": "auto"}},
        "podCIDRType is required",
    ),
    "an unknown mode": (coordinator(mode="magic"), "spec.mode"),
    "a CIDR that is a word": (coordinator(hijackCIDR=["lan"]), "an address or a CIDR"),
    "a multicast MAC prefix": (coordinator(podMACPrefix="01:00"), "spec.podMACPrefix"),
    "a MAC prefix with a sign": (coordinator(podMACPrefix="+a:00"), "spec.podMACPrefix"),
    "an rp_filter of three": (coordinator(podRPFilter=3), "spec.podRPFilter"),
    "a veth with an MTU of 0": (coordinator(vethMTU=0), "spec.vethMTU"),
    "an unknown cniType": (network("token-ring"), "spec.cniType"),
    "macvlan without its block": (network("macvlan"), "cniType macvlan needs macvlan"),
    "macvlan with a block of ipvlan": (
        network("macvlan", macvlan=MASTER, ipvlan=MASTER),
        "ipvlan is for cniType ipvlan only",
    ),
    "a custom configuration for another cniType": (
        network("macvlan", macvlan=MASTER, customCNI=""),
        "customCNI is for cniType custom only",
    ),
    "ipvlan without a master": (network("ipvlan", ipvlan={"master": []}), "spec.ipvlan.master"),
    "masters without a bond": (
        network("ipvlan", ipvlan={"master": ["a", "b"]}),
        "several masters need bond",
    ),
    "macvlan with matchMasterSubnet": (
        network("macvlan", macvlan=MASTER | {"ippools": {"matchMasterSubnet": True}}),
        "matchMasterSubnet takes effect for sriov only",
    ),
    "a vlanID in the vlanMode auto": (
        network("vlan", vlan=MASTER | {"vlanMode": "auto", "vlanID": 7}),
        "leave vlanID out",
    ),
    "a VLAN above 4094": (network("macvlan", macvlan=MASTER | {"vlanID": 4095}), "vlanID"),
    "a lowest rate without a highest rate": (
        network("sriov", sriov={"resourceName": "a/b", "minTxRateMbps": 5}),
        "minTxRateMbps must not be more",
    ),
    "sriov without a resource": (network("sriov", sriov={}), "resourceName is required"),
    "ipoib without a master": (network("ipoib", ipoib={}), "master is required"),
    "a trunk without its lowest VLAN": (
        network("ovs", ovs={"bridge": "br0", "trunk": [{"maxID": 9}]}),
        "maxID needs a minID",
    ),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED)
def test_the_api_server_refuses_an_invalid_object_with_the_reason(
    server: ApiServer, body: Object, message: str
) -> None:
    answer = create(server, body)

    assert answer.status == 422, answer.body
    assert message in answer.message


REFUSED_MANIFESTS = {
    name: body for name, (body, _) in REFUSED.items() if body["kind"] in MANIFEST_SCHEMAS
}
"""The invalid objects of kinds that the controller turns into commands."""


@pytest.mark.parametrize("body", REFUSED_MANIFESTS.values(), ids=REFUSED_MANIFESTS)
def test_the_controller_refuses_the_objects_that_the_schema_refuses(body: Object) -> None:
    empty = Configuration({}, {}, {}, {})

    with pytest.raises((Refused, BadInput)):
        decide(empty, apply_command(read_object(body)), {})


def test_the_subnet_of_a_pool_is_immutable(server: ApiServer) -> None:
    assert create(server, pool()).status == 201

    answer = replace(server, pool(subnet="10.6.0.0/24"))

    assert answer.status == 422
    assert "is immutable" in answer.message


def test_the_ip_version_is_immutable(server: ApiServer) -> None:
    assert create(server, reservation(ipVersion=4)).status == 201

    answer = replace(server, reservation(ipVersion=6))

    assert answer.status == 422
    assert "ipVersion is immutable" in answer.message


def test_a_derived_ip_version_may_be_left_out_in_an_update(server: ApiServer) -> None:
    assert create(server, pool(ipVersion=4)).status == 201

    assert replace(server, pool(gateway="10.6.0.1")).status == 200
