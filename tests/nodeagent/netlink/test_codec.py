"""Netlink messages are compared with those of pyroute2, an independent implementation."""

from __future__ import annotations

import pyroute2.netlink
import pyroute2.netlink.rtnl
import pytest
from pyroute2.netlink.rtnl import fibmsg, ifaddrmsg, ifinfmsg, ndmsg, rtmsg

from core.domain.addresses.ip_address import parse_address, parse_cidr
from nodeagent.netlink import numbers, replies, requests
from nodeagent.netlink.codec import message, messages
from nodeagent.netlink.requests import Request, VethEnd
from nodeagent.netlink.values import Hop, KernelRoute, LinkAddress, Neighbour, RoutingRule

MAC = bytes.fromhex("0a1bac121e8b")
MODULES = (pyroute2.netlink, pyroute2.netlink.rtnl, ifinfmsg)
ATTRIBUTES = {
    "IFLA_": ifinfmsg.ifinfmsg,
    "IFA_": ifaddrmsg.ifaddrmsg,
    "RTA_": rtmsg.rtmsg,
    "FRA_": fibmsg.fibmsg,
    "NDA_": ndmsg.ndmsg,
}


def pyroute2_number(name: str) -> int | None:
    for prefix, kind in ATTRIBUTES.items():
        if name.startswith(prefix) and name in [row[0] for row in kind.nla_map]:
            return [row[0] for row in kind.nla_map].index(name)
    for module in MODULES:
        if hasattr(module, name):
            return int(getattr(module, name))
    return None


def test_netlink_numbers_equal_those_of_pyroute2() -> None:
    our_numbers = {name: value for name, value in vars(numbers).items() if name.isupper()}
    pyroute2_numbers = {name: pyroute2_number(name) for name in our_numbers}
    known_numbers = {
        name: number for name, number in pyroute2_numbers.items() if number is not None
    }
    assert len(known_numbers) > 60, "pyroute2 lacks too many of the numbers"
    assert {name: our_numbers[name] for name in known_numbers} == known_numbers


def test_pyroute2_decodes_a_request_for_a_veth_pair() -> None:
    near, far = VethEnd("veth0123456789a", MAC), VethEnd("veth0", MAC)
    nlmsg = decode(requests.add_veth(near, far, mtu=1400, far_netns_fd=7), ifinfmsg.ifinfmsg)
    assert nlmsg.get_attr("IFLA_IFNAME") == "veth0123456789a"
    assert nlmsg["flags"] == 1
    info = nlmsg.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "veth0"
    assert peer.get_attr("IFLA_NET_NS_FD") == 7
    assert peer.get_attr("IFLA_ADDRESS") == "0a:1b:ac:12:1e:8b"
    assert peer.get_attr("IFLA_MTU") == 1400


@pytest.mark.parametrize(
    ("to", "via", "source"),
    [
        ("10.20.0.0/16", "10.9.0.1", "10.9.0.7"),
        ("fd00:20::/48", "fd00:9::1", "fd00:9::7"),
        ("0.0.0.0/0", "10.9.0.1", None),
    ],
)
def test_pyroute2_decodes_a_request_for_a_route(to: str, via: str, source: str | None) -> None:
    source_address = None if source is None else parse_address(source)
    route = KernelRoute(
        parse_cidr(to),
        link=3,
        gateway=parse_address(via),
        table=500,
        source=source_address,
        metric=7,
    )
    nlmsg = decode(requests.add_route(route), rtmsg.rtmsg)
    length = int(to.partition("/")[2])
    assert nlmsg["dst_len"] == length
    assert nlmsg.get_attr("RTA_DST") == (to.partition("/")[0] if length else None)
    assert nlmsg.get_attr("RTA_GATEWAY") == via
    assert nlmsg.get_attr("RTA_PREFSRC") == source
    assert nlmsg.get_attr("RTA_TABLE") == 500
    assert nlmsg.get_attr("RTA_OIF") == 3
    assert nlmsg.get_attr("RTA_PRIORITY") == 7


def test_pyroute2_decodes_a_request_for_a_multipath_route() -> None:
    hops = (Hop(3, parse_address("10.9.0.1")), Hop(4, parse_address("10.9.0.2"), weight=5))
    nlmsg = decode(
        requests.add_route(KernelRoute(parse_cidr("0.0.0.0/0"), table=77, hops=hops)), rtmsg.rtmsg
    )
    decoded_hops = [
        (hop["oif"], hop["hops"], hop.get_attr("RTA_GATEWAY"))
        for hop in nlmsg.get_attr("RTA_MULTIPATH")
    ]
    # The kernel's field ``hops`` is the weight minus 1.
    assert decoded_hops == [(3, 0, "10.9.0.1"), (4, 4, "10.9.0.2")]


def test_pyroute2_decodes_requests_for_rules_addresses_and_neighbours() -> None:
    address = parse_address("fd00:9::7")
    rule = RoutingRule(6, table=101, priority=999, source=parse_cidr("fd00:9::7/128"), mark=1)
    nlmsg = decode(requests.add_rule(rule), fibmsg.fibmsg)
    names = ("FRA_SRC", "FRA_PRIORITY", "FRA_TABLE", "FRA_FWMARK", "FRA_FWMASK")
    assert [nlmsg.get_attr(name) for name in names] == ["fd00:9::7", 999, 101, 1, 0xFFFFFFFF]
    nlmsg = decode(
        requests.add_address(LinkAddress(3, address, 64, flags=numbers.IFA_F_NODAD)),
        ifaddrmsg.ifaddrmsg,
    )
    assert (nlmsg["prefixlen"], nlmsg.get_attr("IFA_LOCAL"), nlmsg.get_attr("IFA_FLAGS")) == (
        64,
        "fd00:9::7",
        numbers.IFA_F_NODAD,
    )
    nlmsg = decode(requests.set_neighbour(Neighbour(3, address, MAC)), ndmsg.ndmsg)
    assert (nlmsg["state"], nlmsg.get_attr("NDA_DST"), nlmsg.get_attr("NDA_LLADDR")) == (
        numbers.NUD_PERMANENT,
        "fd00:9::7",
        "0a:1b:ac:12:1e:8b",
    )


def test_a_route_packed_by_pyroute2_is_decoded() -> None:
    packed = rtmsg.rtmsg()
    packed["family"], packed["dst_len"], packed["table"], packed["scope"] = 2, 32, 254, 253
    packed["attrs"] = [["RTA_DST", "10.9.0.7"], ["RTA_OIF", 3], ["RTA_PREFSRC", "10.9.0.1"]]
    packed.encode()
    ((_, _, _, body),) = messages(memoryview(bytes(packed.data)))
    route = replies.route(body)
    assert route.destination == parse_cidr("10.9.0.7/32")
    assert (route.link, route.scope, route.table) == (3, 253, 254)
    assert route.source == parse_address("10.9.0.1")


def decode(request: Request, kind: type) -> pyroute2.netlink.nlmsg:
    packed = message(request.kind, request.flags, 1, request.body)
    nlmsg = kind(packed)
    nlmsg.decode()
    return nlmsg
