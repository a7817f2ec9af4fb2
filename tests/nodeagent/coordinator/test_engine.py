"""ADD is idempotent and undoes its changes when it fails; DEL is lenient and complete."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import pytest

from core.domain.addresses.ip_address import Family
from core.errors import BadInput, DatapathError, NamespaceGone, NetlinkRefused
from nodeagent.coordinator import engine as engines
from nodeagent.coordinator.engine import AttachRequest
from nodeagent.coordinator.reply_mark_rules import (
    IptablesReplyMarkRules,
    NftReplyMarkRules,
    PreferredReplyMarkRules,
)
from nodeagent.coordinator.steps import PlanStep
from nodeagent.netlink import nftables
from nodeagent.netlink.namespaces import NetworkNamespace
from ops.lab.namespaces import NamedNamespace as Named
from tests.support.network_harness import SERVICES, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

SAID: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICES), "podMACPrefix": "0a:1b"}


OF_THE_KERNEL: Final = ("local fe80:", "anycast fe80:", "multicast ff00:")
"""Routes that the kernel adds a second later, after duplicate address detection."""


def everything(namespace: Named) -> list[str]:
    """Links, addresses, rules, all tables and permanent neighbours, in words."""
    found = []
    for command in (
        ("-brief", "link"),
        ("-brief", "address"),
        ("rule",),
        ("-6", "rule"),
        ("route", "show", "table", "all"),
        ("-6", "route", "show", "table", "all"),
        ("neigh", "show", "nud", "permanent"),
        ("-6", "neigh", "show", "nud", "permanent"),
    ):
        found += namespace.ip(*command).splitlines()
    return sorted(line for line in found if not line.startswith(OF_THE_KERNEL))


def settled(namespace: Named) -> list[str]:
    """As ``everything``, without asynchronous changes of the kernel and without our host rule."""
    passing = ("fe80", "multicast", "anycast", "lookup 500", "ff00::/8")
    return [line for line in everything(namespace) if not any(word in line for word in passing)]


class FailingMarks:
    """The last step of an ADD fails."""

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        raise DatapathError("no marks today")

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        return []


def test_a_repeated_add_changes_nothing(network_pod: NetworkPod, network_node: NetworkNode) -> None:
    first = network_pod.add(**SAID)
    before = everything(network_pod.inside), everything(network_node.inside)
    again = network_pod.add(**SAID)
    assert not first.repeated
    assert again.repeated
    assert (again.mode, again.table) == (first.mode, first.table)
    assert (everything(network_pod.inside), everything(network_node.inside)) == before


def test_a_repeated_add_repairs(network_pod: NetworkPod, network_node: NetworkNode) -> None:
    network_pod.add(**SAID)
    before = everything(network_pod.inside), everything(network_node.inside)
    network_pod.inside.ip("route", "delete", "10.96.0.0/16")
    network_pod.inside.ip("rule", "delete", "pref", "1000")
    network_pod.inside.run("nft", "delete", "table", "ip", "orbweaver")
    network_node.inside.ip("route", "flush", "table", "500")
    network_pod.add(**SAID)
    assert (everything(network_pod.inside), everything(network_node.inside)) == before
    assert network_pod.check() == []


def test_an_add_that_asks_for_something_else_begins_anew(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**SAID)
    again = network_pod.add(serviceCIDR=["10.97.0.0/16"])
    assert not again.repeated
    assert network_pod.check() == []
    main = network_pod.inside.ip("route")
    assert "10.97.0.0/16" in main
    assert "10.96.0.0/16" not in main
    assert network_pod.pings(network_node.addresses[0])


def test_a_repeated_add_that_fails_harms_nothing(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**SAID)
    before = everything(network_pod.inside), everything(network_node.inside)
    failing = network_node.engine_with(FailingMarks())
    with pytest.raises(DatapathError, match="no marks today"):
        failing.attach(AttachRequest(network_pod.attachment(), network_node.settings(**SAID)))
    assert (everything(network_pod.inside), everything(network_node.inside)) == before
    assert network_pod.check() == []


def test_an_add_that_fails_leaves_nothing(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = settled(network_pod.inside), settled(network_node.inside)
    failing = network_node.engine_with(FailingMarks())
    with pytest.raises(DatapathError, match="no marks today"):
        failing.attach(AttachRequest(network_pod.attachment(), network_node.settings(**SAID)))
    assert (settled(network_pod.inside), settled(network_node.inside)) == before
    assert list(network_node.records.all()) == []
    network_pod.add(**SAID)
    assert network_pod.check() == []


def test_a_refused_route_fails_the_add_and_takes_the_rest_back(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = settled(network_pod.inside), settled(network_node.inside)
    routes = [{"dst": "10.9.0.0/16", "gw": "10.66.0.1"}]
    with pytest.raises(NetlinkRefused, match=r"cannot add route 10.9.0.0/16 via 10.66.0.1"):
        network_pod.add(policyRoutes=routes, **SAID)
    assert (settled(network_pod.inside), settled(network_node.inside)) == before


def test_a_second_nic_that_fails_leaves_the_first_as_it_is(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**SAID)
    network_pod.macvlan("net1", "10.7.0.101/24")
    before = settled(network_pod.inside), settled(network_node.inside)
    with pytest.raises(BadInput, match="podDefaultRouteNIC: net9 don't exist in pod"):
        network_pod.add("net1", podDefaultRouteNic="net9")
    with pytest.raises(NetlinkRefused):
        network_pod.add("net1", policyRoutes=[{"dst": "10.9.0.0/16", "gw": "10.66.0.1"}])
    assert (settled(network_pod.inside), settled(network_node.inside)) == before
    assert network_pod.check() == []


@pytest.mark.parametrize("killed_at", ["record", "pod", "host", "marks"])
def test_an_agent_killed_in_the_middle_is_repaired_by_the_next_add(
    network_pod: NetworkPod,
    network_node: NetworkNode,
    killed_at: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill(killed_at, network_pod, network_node, monkeypatch)
    network_pod.add(**SAID)
    assert network_pod.check() == []
    assert network_pod.pings(network_node.addresses[0])


@pytest.mark.parametrize("killed_at", ["record", "pod", "host", "marks"])
def test_an_agent_killed_in_the_middle_is_repaired_by_the_next_del(
    network_pod: NetworkPod,
    network_node: NetworkNode,
    killed_at: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = settled(network_node.inside)
    kill(killed_at, network_pod, network_node, monkeypatch)
    assert network_pod.delete()
    assert settled(network_node.inside) == before
    assert list(network_node.records.all()) == []


def test_what_is_left_of_an_earlier_sandbox_gives_way(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_node.inside.ip(
        "link", "add", network_pod.host_veth_name, "type", "veth", "peer", "name", "left"
    )
    network_pod.add(**SAID)
    assert network_pod.check() == []
    assert "left" not in network_node.inside.ip("link")


def test_a_pair_of_somebody_else_is_an_error(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_node.inside.ip(
        "link",
        "add",
        "vethsomeone",
        "type",
        "veth",
        "peer",
        "name",
        "veth0",
        "netns",
        network_pod.inside.name,
    )
    with pytest.raises(DatapathError, match="container veth name veth0 with peer vethsomeone"):
        network_pod.add(**SAID)


def test_del_takes_everything_from_the_node_and_the_pod(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = settled(network_pod.inside), settled(network_node.inside)
    network_pod.add(**SAID)
    network_pod.macvlan("net1", "10.7.0.101/24")
    with_two = settled(network_pod.inside), settled(network_node.inside)
    network_pod.add("net1", podDefaultRouteNic="net1", **SAID)
    assert network_pod.delete("net1")
    # MAC prefix and all: a NIC that stays could be used without the coordinator.
    assert (settled(network_pod.inside), settled(network_node.inside)) == with_two
    network_pod.inside.ip("link", "delete", "net1")
    assert network_pod.delete()
    assert (settled(network_pod.inside), settled(network_node.inside)) == before


def test_a_second_del_is_success(network_pod: NetworkPod) -> None:
    network_pod.add(**SAID)
    assert network_pod.delete()
    assert not network_pod.delete()


def test_del_without_a_namespace_is_success(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = settled(network_node.inside)
    network_pod.add(**SAID)
    network_pod.inside.delete()
    network_pod.delete()
    assert settled(network_node.inside) == before
    assert list(network_node.records.all()) == []


def test_del_without_a_record_removes_the_pair_of_the_first_nic(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**SAID)
    network_node.records.remove(network_pod.container, "eth0")
    assert not network_pod.delete("net1")
    assert network_pod.host_veth_name in network_node.inside.ip("link")
    assert network_pod.delete()
    assert network_pod.host_veth_name not in network_node.inside.ip("link")


def test_a_late_del_leaves_the_pod_that_has_the_path_by_now(
    network_pod: NetworkPod, network_node: NetworkNode, network: NetworkHarness
) -> None:
    network_pod.add(**SAID)
    # As main plugins do: namespaces are deleted asynchronously, and macvlans must not share a MAC.
    network_pod.inside.ip("link", "delete", "eth0")
    network_pod.inside.delete()
    network_pod.inside.create()
    other = network.pod(network_node)
    other.inside = network_pod.inside
    other.macvlan("eth0", "10.6.0.101/24", "fd00:6::101/64")
    other.add(**SAID)
    network_pod.delete()
    assert other.check() == []
    assert other.pings(network_node.addresses[0])


def test_a_namespace_that_is_gone_fails_an_add(network_pod: NetworkPod) -> None:
    network_pod.inside.delete()
    with pytest.raises(NamespaceGone):
        network_pod.add(**SAID)


def test_a_namespace_that_goes_in_the_middle_fails_nothing_else(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settled(network_node.inside)
    apply = engines._apply_steps

    def vanish(*arguments: Any) -> tuple[PlanStep, ...]:
        network_pod.inside.delete()
        return apply(*arguments)

    monkeypatch.setattr(engines, "_apply_steps", vanish)
    network_pod.add(**SAID)
    network_pod.delete()
    assert settled(network_node.inside) == before


def test_the_nodes_own_namespace_is_never_set_up(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    own = network_pod.attachment()._replace(netns=str(network_node.inside.path))
    with pytest.raises(BadInput, match="the node's own network namespace"):
        network_node.engine.attach(AttachRequest(own, network_node.settings()))


def test_a_nic_that_is_not_there_is_named(network_pod: NetworkPod) -> None:
    with pytest.raises(DatapathError, match="there is no link net7 in the Pod"):
        network_pod.add("net7")


def test_a_nic_without_a_usable_address_is_named(network_pod: NetworkPod) -> None:
    network_pod.inside.ip("address", "flush", "dev", "eth0", "scope", "global")
    with pytest.raises(DatapathError, match='no usable IP addresses on "eth0"'):
        network_pod.add(**SAID)


def test_a_nic_that_is_down_is_switched_on(network_pod: NetworkPod) -> None:
    network_pod.inside.ip("link", "set", "eth0", "down")
    network_pod.add(serviceCIDR=["10.96.0.0/16"])
    assert "UP" in network_pod.inside.ip("-brief", "link", "show", "dev", "eth0")


def test_overlay_needs_a_first_nic_that_is_a_veth(network_pod: NetworkPod) -> None:
    network_pod.macvlan("net1", "10.7.0.101/24")
    with pytest.raises(DatapathError, match="eth0 of the Pod is not a veth"):
        network_pod.add("net1", mode="overlay")


def test_iptables_marks_where_there_is_no_nftables(
    network_pod: NetworkPod,
    network_node: NetworkNode,
    network: NetworkHarness,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks = IptablesReplyMarkRules(network.executor)
    held = network.hold(network_pod.inside)
    program = network_pod.require_iptables()

    def none(*_: object) -> None:
        raise NetlinkRefused("nftables: not here", errno=min(nftables.UNSUPPORTED))

    monkeypatch.setattr(NftReplyMarkRules, "put", none)
    best = PreferredReplyMarkRules(network.executor)
    assert len(marks.missing(held, (4, 6))) == 6
    for _ in range(2):
        best.put(held, (4, 6))
    assert best.missing(held, (4, 6)) == marks.missing(held, (4, 6)) == []
    said = network_pod.inside.run(program, "-t", "mangle", "-S")
    assert said.count("-A PREROUTING") == 2
    assert said.count("-A OUTPUT") == 1


def kill(at: str, pod: NetworkPod, node: NetworkNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin an ADD and stop without undoing, as after SIGKILL."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    sends = iter(range(10))
    apply = engines._apply_steps

    def die_at(*arguments: Any) -> tuple[PlanStep, ...]:
        if next(sends) == {"pod": 0, "host": 1}.get(at):
            raise Killed
        return apply(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engines, "_apply_steps", die_at)
        if at == "record":
            patch.setattr(node.records, "put", die)
        if at == "marks":
            patch.setattr(PreferredReplyMarkRules, "put", die)
        with pytest.raises(Killed):
            pod.add(**SAID)
    assert os.path.lexists(pod.inside.path)
