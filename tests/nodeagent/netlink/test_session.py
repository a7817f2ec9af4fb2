"""A netlink session with a real kernel; some tests drop or change the kernel's answers."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EEXIST
from typing import Final

import pytest

from core.domain.addresses.ip_address import Address, Cidr, parse_address, parse_cidr
from core.errors import NetlinkLost, NetlinkRefused
from nodeagent.netlink import numbers as n
from nodeagent.netlink import requests
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace
from nodeagent.netlink.requests import VethEnd
from nodeagent.netlink.session import NetlinkSession, RequestOutcome
from nodeagent.netlink.values import (
    Hop,
    KernelRoute,
    Link,
    LinkAddress,
    Neighbour,
    RoutingRule,
    default_prefix,
    host_prefix,
)
from ops.lab.namespaces import NamedNamespace
from tests.support.deadlines import attempts

pytestmark = pytest.mark.netns

NEAR_MAC = bytes.fromhex("021122334455")
FAR_MAC = bytes.fromhex("0a0102030405")
CHANGE_ROUNDS: Final = 50


def address(text: str) -> Address:
    return parse_address(text)


def on_loopback(text: str) -> LinkAddress:
    return LinkAddress(1, address(text), 32)


def prefix(text: str) -> Cidr:
    return parse_cidr(text)


@pytest.fixture
def veth(session: NetlinkSession, peer_namespace: NamedNamespace) -> Link:
    """The veth ``near``; the peer ``far`` is in ``peer_namespace``."""
    with NetworkNamespace.open(str(peer_namespace.path)) as far:
        request = requests.add_veth(
            VethEnd("near", NEAR_MAC), VethEnd("far", FAR_MAC), mtu=1400, far_netns_fd=far.fd
        )
        session.apply([request])
    found = session.link("near")
    assert found is not None
    return found


def test_a_veth_pair_is_created_with_its_peer_in_the_other_namespace(
    veth: Link, executor: NetnsExecutor, peer_namespace: NamedNamespace
) -> None:
    with (
        NetworkNamespace.open(str(peer_namespace.path)) as netns,
        executor.session(netns) as inside,
    ):
        far = inside.link("far")
    assert far is not None
    assert (veth.mac, far.mac) == (NEAR_MAC, FAR_MAC)
    assert (veth.mtu, far.mtu) == (1400, 1400)
    assert (veth.kind, far.kind) == ("veth", "veth")
    assert (veth.parent, far.parent) == (far.ifindex, veth.ifindex)
    assert veth.up
    assert veth.broadcasts
    assert veth.parent_netns is not None


@pytest.mark.parametrize("text", ["10.9.0.7", "fd00:9::7"])
def test_an_address_is_listed_until_it_is_deleted(
    session: NetlinkSession, veth: Link, text: str
) -> None:
    expected = LinkAddress(veth.ifindex, address(text), 24, flags=n.IFA_F_NODAD)
    session.apply([requests.add_address(expected)])
    (listed,) = [
        entry
        for entry in session.addresses(expected.address.family)
        if entry.address == expected.address
    ]
    assert listed._replace(flags=0) == expected._replace(flags=0)
    assert listed.flags & n.IFA_F_PERMANENT
    session.apply([requests.delete_address(expected), requests.delete_address(expected)])
    assert expected.address not in [
        entry.address for entry in session.addresses(expected.address.family)
    ]


@pytest.mark.parametrize(
    ("own_address", "gateway", "destination"),
    [("10.9.0.7", "10.9.0.1", "10.20.0.0/16"), ("fd00:9::7", "fd00:9::1", "fd00:20::/48")],
)
def test_routes_are_listed_until_they_are_deleted(
    session: NetlinkSession, veth: Link, own_address: str, gateway: str, destination: str
) -> None:
    family = address(own_address).family
    session.apply(
        [
            requests.add_address(
                LinkAddress(veth.ifindex, address(own_address), 24, flags=n.IFA_F_NODAD)
            )
        ]
    )
    scope = n.RT_SCOPE_LINK if family == 4 else n.RT_SCOPE_UNIVERSE
    metric = 0 if family == 4 else 1024
    expected = [
        KernelRoute(
            host_prefix(address(gateway)), veth.ifindex, table=500, scope=scope, metric=metric
        ),
        KernelRoute(prefix(destination), veth.ifindex, address(gateway), 500, metric=metric),
        KernelRoute(default_prefix(family), veth.ifindex, address(gateway), 500, metric=metric),
    ]
    session.apply([requests.add_route(route) for route in expected])
    assert sorted(session.routes(family, 500)) == sorted(expected)
    assert all(route.table == n.RT_TABLE_MAIN for route in session.routes(family, 254))
    session.apply([requests.delete_route(route) for route in (*expected, *expected)])
    assert session.routes(family, 500) == []


def test_an_added_multipath_route_is_listed(session: NetlinkSession, veth: Link) -> None:
    session.apply([requests.add_address(LinkAddress(veth.ifindex, address("10.9.0.7"), 24))])
    hops = (
        Hop(veth.ifindex, address("10.9.0.1")),
        Hop(veth.ifindex, address("10.9.0.2"), weight=3),
    )
    expected = KernelRoute(default_prefix(4), table=77, hops=hops)
    session.apply([requests.add_route(expected)])
    assert session.routes(4, 77) == [expected]
    assert expected.links == (veth.ifindex, veth.ifindex)


@pytest.mark.parametrize("own_address", ["10.9.0.7", "fd00:9::7"])
def test_rules_are_listed_until_they_are_deleted(session: NetlinkSession, own_address: str) -> None:
    family = address(own_address).family
    expected = [
        RoutingRule(family, table=500, priority=1000),
        RoutingRule(family, table=100, priority=1000, mark=1, mask=0xFFFFFFFF),
        RoutingRule(family, table=101, priority=999, source=host_prefix(address(own_address))),
    ]
    session.apply([requests.add_rule(rule) for rule in (*expected, *expected)])
    found = [rule for rule in session.rules(family) if rule.table in (100, 101, 500)]
    assert sorted(found, key=str) == sorted(expected, key=str)
    adding = [requests.add_rule(rule) for rule in (*expected, *expected)]
    session.apply([requests.removal(request) for request in adding])
    assert not [rule for rule in session.rules(family) if rule.table in (100, 101, 500)]


@pytest.mark.parametrize("own_address", ["10.9.0.8", "fd00:9::8"])
def test_a_neighbour_entry_replaces_the_entry_of_the_same_address(
    session: NetlinkSession, veth: Link, own_address: str
) -> None:
    expected = Neighbour(veth.ifindex, address(own_address), FAR_MAC)
    session.apply([requests.set_neighbour(expected._replace(mac=NEAR_MAC))])
    session.apply([requests.set_neighbour(expected)])
    found = [entry for entry in session.neighbours(expected.address.family) if entry.mac == FAR_MAC]
    assert found == [expected]
    session.apply([requests.delete_neighbour(expected), requests.delete_neighbour(expected)])
    assert expected.address not in [
        entry.address for entry in session.neighbours(expected.address.family)
    ]


def test_route_to_returns_the_kernels_route_or_none(session: NetlinkSession, veth: Link) -> None:
    session.apply([requests.add_address(LinkAddress(veth.ifindex, address("10.9.0.7"), 24))])
    route = session.route_to(address("10.9.0.9"))
    assert route is not None
    assert (route.link, route.source) == (veth.ifindex, address("10.9.0.7"))
    assert session.route_to(address("10.77.0.1")) is None


def test_a_missing_link_is_none_and_deleting_it_raises_nothing(
    session: NetlinkSession,
) -> None:
    assert session.link("nowhere") is None
    session.apply([requests.delete_link("nowhere")])


def test_link_name_returns_the_name_of_an_index_or_an_empty_string(
    session: NetlinkSession, veth: Link
) -> None:
    assert session.link_name(veth.ifindex) == "near"
    assert session.link_name(1) == "lo"
    assert session.link_name(veth.ifindex + 1_000) == ""


def test_a_listing_of_both_families_has_ipv4_before_ipv6(
    session: NetlinkSession, veth: Link
) -> None:
    for own_address, neighbour in (("10.9.0.7", "10.9.0.8"), ("fd00:9::7", "fd00:9::8")):
        on_link = LinkAddress(veth.ifindex, address(own_address), 24, flags=n.IFA_F_NODAD)
        session.apply(
            [
                requests.add_address(on_link),
                requests.add_rule(
                    RoutingRule(address(own_address).family, table=500, priority=1000)
                ),
                requests.set_neighbour(Neighbour(veth.ifindex, address(neighbour), FAR_MAC)),
            ]
        )
    for list_all in (session.addresses, session.rules, session.routes, session.neighbours):
        # The kernel may add the local route of an IPv6 address between two listings.
        assert any(list_all() == [*list_all(4), *list_all(6)] for _ in attempts())
        assert list_all(6)


def test_the_error_of_a_refused_request_names_the_request_and_the_reason(
    session: NetlinkSession,
) -> None:
    route = KernelRoute(prefix("10.20.0.0/16"), 1, address("10.9.0.1"))
    with pytest.raises(NetlinkRefused, match=r"cannot add route 10.20.0.0/16 via 10.9.0.1.*: .+"):
        session.apply([requests.add_route(route)])


def test_attempt_executes_requests_in_order_and_continues_after_a_refusal(
    session: NetlinkSession,
) -> None:
    rules = [RoutingRule(4, table=500, priority=priority) for priority in range(1000, 1300)]
    expected = [requests.add_rule(rule) for rule in rules]
    refused = requests.add_route(KernelRoute(prefix("10.20.0.0/16"), link=99))  # no such link
    outcomes = session.attempt([*expected[:100], refused, *expected[100:], expected[0]])
    assert outcomes[100].errno
    assert outcomes[-1].errno == EEXIST
    assert all(outcome.errno == 0 for outcome in (*outcomes[:100], *outcomes[101:-1]))
    assert len([rule for rule in session.rules(4) if rule.table == 500]) == 300


def test_requests_whose_answers_were_lost_are_sent_again(
    session: NetlinkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([True, False])
    receive = session._receive

    def lose_first_answer() -> memoryview | None:
        if next(losses, False):
            receive()
            return None
        return receive()

    monkeypatch.setattr(session, "_receive", lose_first_answer)
    rules = [RoutingRule(4, table=500, priority=1000), RoutingRule(4, table=501, priority=1001)]
    assert session.apply([requests.add_rule(rule) for rule in rules]) == [
        RequestOutcome(),
        RequestOutcome(),
    ]
    assert [rule for rule in session.rules(4) if rule.table in (500, 501)] == [
        RoutingRule(4, table=500, priority=1000),
        RoutingRule(4, table=501, priority=1001),
    ]


@pytest.mark.parametrize("buffer_bytes", [1, 4_000, 32_000])
def test_a_full_receive_buffer_loses_no_request(
    session: NetlinkSession, monkeypatch: pytest.MonkeyPatch, buffer_bytes: int
) -> None:
    """The kernel reports ENOBUFS if the receive buffer cannot hold all answers to a send."""
    rules = [RoutingRule(4, table=500, priority=priority) for priority in range(1000, 1128)]
    existing = rules[:120]
    session.apply([requests.add_rule(rule) for rule in existing])
    overruns = []
    receive = session._receive

    def record_overruns() -> memoryview | None:
        data = receive()
        overruns.append(session._overrun)
        return data

    monkeypatch.setattr(session, "_receive", record_overruns)
    session._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)

    outcomes = session.apply([requests.add_rule(rule) for rule in rules])

    assert any(overruns)
    # EEXIST after a repeated send counts as success: the first send may have added the rule.
    assert {outcome.errno for outcome in outcomes[: len(existing)]} <= {0, EEXIST}
    assert outcomes[len(existing) :] == [RequestOutcome()] * (len(rules) - len(existing))
    assert [rule for rule in session.rules(4) if rule.table == 500] == rules


def test_a_listing_during_changes_has_all_stable_addresses_or_raises_netlink_lost(
    session: NetlinkSession, executor: NetnsExecutor, namespace: NetworkNamespace
) -> None:
    stable = [on_loopback(f"10.9.{number // 200}.{number % 200 + 1}") for number in range(600)]
    session.apply([requests.add_address(entry) for entry in stable])
    temporary = [on_loopback(f"10.8.0.{number + 1}") for number in range(100)]

    def change() -> None:
        with executor.session(namespace) as changing_session:
            for _ in range(CHANGE_ROUNDS):
                changing_session.apply([requests.add_address(entry) for entry in temporary])
                changing_session.apply([requests.delete_address(entry) for entry in temporary])

    expected = [entry.address for entry in stable]
    with ThreadPoolExecutor(1, initializer=executor.let_thread_enter_namespaces) as worker:
        changing = worker.submit(change)
        listings = 0
        while not changing.done() or not listings:
            with suppress(NetlinkLost):
                listed_addresses = [entry.address for entry in session.addresses(4)]
                assert [
                    listed_address
                    for listed_address in listed_addresses
                    if listed_address in expected
                ] == expected
                listings += 1
        changing.result()


def test_missing_answers_raise_netlink_lost(
    session: NetlinkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_receive", lambda: None)
    with pytest.raises(NetlinkLost, match="1 of 1 answers"):
        session.apply([requests.add_rule(RoutingRule(4, table=500, priority=1000))])
    with pytest.raises(NetlinkLost, match="list IPv4 rules"):
        session.rules(4)


def test_an_interrupted_listing_is_read_again(
    session: NetlinkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = session._receive
    marks = iter([True])

    def mark_interrupted() -> memoryview | None:
        data = receive()
        if data is None or not next(marks, False):
            return data
        changed = bytearray(data)
        changed[6] |= n.NLM_F_DUMP_INTR  # the low byte of the flags in the message header
        return memoryview(bytes(changed))

    monkeypatch.setattr(session, "_receive", mark_interrupted)
    assert [link.name for link in session.links()] == ["lo"]
    assert next(marks, None) is None


def test_the_rest_of_an_aborted_listing_is_discarded(session: NetlinkSession) -> None:
    session.apply(
        [requests.add_rule(RoutingRule(4, table=500, priority=p)) for p in range(1000, 1500)]
    )

    def abort(_: memoryview) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        session.listing(requests.all_rules(4), abort)
    assert [link.name for link in session.links()] == ["lo"]


def test_listings_of_a_family_that_the_kernel_lacks_are_empty(
    session: NetlinkSession, veth: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel without IPv6 answers an IPv6 dump with IPv4 objects."""
    session.apply([requests.add_address(LinkAddress(veth.ifindex, address("10.9.0.7"), 24))])
    session.apply([requests.set_neighbour(Neighbour(veth.ifindex, address("10.9.0.8"), FAR_MAC))])
    for name in ("all_addresses", "all_rules", "all_neighbours"):
        ask = getattr(requests, name)
        monkeypatch.setattr(requests, name, lambda _, ask=ask: ask(4))
    routes = requests.all_routes
    monkeypatch.setattr(requests, "all_routes", lambda _, table: routes(4, table))

    assert (session.addresses(6), session.rules(6)) == ([], [])
    assert (session.routes(6), session.neighbours(6)) == ([], [])
    assert session.addresses(4)
    assert session.rules(4)
    assert session.routes(4)
    assert session.neighbours(4)


def test_a_routing_table_without_routes_is_empty(session: NetlinkSession) -> None:
    assert session.routes(4, 4321) == []
    assert session.routes(6, 4321) == []


def test_a_session_stays_in_the_namespace_where_it_was_opened(
    session: NetlinkSession, veth: Link
) -> None:
    assert {link.name for link in session.links()} == {"lo", "near"}
    with NetlinkSession.open() as own_session:
        assert "near" not in {link.name for link in own_session.links()}
