"""ADD is idempotent and takes back what it did when it fails; DEL is lenient and complete."""

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
from tests.coordinator.world import SERVICES, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

SAID: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICES), "podMACPrefix": "0a:1b"}


OF_THE_KERNEL: Final = ("local fe80:", "anycast fe80:", "multicast ff00:")
"""Routes that it makes in its own time, a second later: first it looks for duplicates."""


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
    """As ``everything``, without what the kernel does in its own time and without our host rule."""
    passing = ("fe80", "multicast", "anycast", "lookup 500", "ff00::/8")
    return [line for line in everything(namespace) if not any(word in line for word in passing)]


class FailingMarks:
    """The last thing that an ADD does fails."""

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        raise DatapathError("no marks today")

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        return []


def test_a_repeated_add_changes_nothing(pod: NetworkPod, node: NetworkNode) -> None:
    first = pod.add(**SAID)
    before = everything(pod.inside), everything(node.inside)
    again = pod.add(**SAID)
    assert not first.repeated
    assert again.repeated
    assert (again.mode, again.table) == (first.mode, first.table)
    assert (everything(pod.inside), everything(node.inside)) == before


def test_a_repeated_add_repairs(pod: NetworkPod, node: NetworkNode) -> None:
    pod.add(**SAID)
    before = everything(pod.inside), everything(node.inside)
    pod.inside.ip("route", "delete", "10.96.0.0/16")
    pod.inside.ip("rule", "delete", "pref", "1000")
    pod.inside.run("nft", "delete", "table", "ip", "orbweaver")
    node.inside.ip("route", "flush", "table", "500")
    pod.add(**SAID)
    assert (everything(pod.inside), everything(node.inside)) == before
    assert pod.check() == []


def test_an_add_that_asks_for_something_else_begins_anew(
    pod: NetworkPod, node: NetworkNode
) -> None:
    pod.add(**SAID)
    again = pod.add(serviceCIDR=["10.97.0.0/16"])
    assert not again.repeated
    assert pod.check() == []
    main = pod.inside.ip("route")
    assert "10.97.0.0/16" in main
    assert "10.96.0.0/16" not in main
    assert pod.pings(node.addresses[0])


def test_a_repeated_add_that_fails_harms_nothing(pod: NetworkPod, node: NetworkNode) -> None:
    pod.add(**SAID)
    before = everything(pod.inside), everything(node.inside)
    failing = node.engine_with(FailingMarks())
    with pytest.raises(DatapathError, match="no marks today"):
        failing.attach(AttachRequest(pod.attachment(), node.settings(**SAID)))
    assert (everything(pod.inside), everything(node.inside)) == before
    assert pod.check() == []


def test_an_add_that_fails_leaves_nothing(pod: NetworkPod, node: NetworkNode) -> None:
    before = settled(pod.inside), settled(node.inside)
    failing = node.engine_with(FailingMarks())
    with pytest.raises(DatapathError, match="no marks today"):
        failing.attach(AttachRequest(pod.attachment(), node.settings(**SAID)))
    assert (settled(pod.inside), settled(node.inside)) == before
    assert list(node.records.all()) == []
    pod.add(**SAID)
    assert pod.check() == []


def test_a_refused_route_fails_the_add_and_takes_the_rest_back(
    pod: NetworkPod, node: NetworkNode
) -> None:
    before = settled(pod.inside), settled(node.inside)
    routes = [{"dst": "10.9.0.0/16", "gw": "10.66.0.1"}]
    with pytest.raises(NetlinkRefused, match=r"cannot add route 10.9.0.0/16 via 10.66.0.1"):
        pod.add(policyRoutes=routes, **SAID)
    assert (settled(pod.inside), settled(node.inside)) == before


def test_a_second_nic_that_fails_leaves_the_first_as_it_is(
    pod: NetworkPod, node: NetworkNode
) -> None:
    pod.add(**SAID)
    pod.macvlan("net1", "10.7.0.101/24")
    before = settled(pod.inside), settled(node.inside)
    with pytest.raises(BadInput, match="podDefaultRouteNIC: net9 don't exist in pod"):
        pod.add("net1", podDefaultRouteNic="net9")
    with pytest.raises(NetlinkRefused):
        pod.add("net1", policyRoutes=[{"dst": "10.9.0.0/16", "gw": "10.66.0.1"}])
    assert (settled(pod.inside), settled(node.inside)) == before
    assert pod.check() == []


@pytest.mark.parametrize("killed_at", ["record", "pod", "host", "marks"])
def test_an_agent_killed_in_the_middle_is_repaired_by_the_next_add(
    pod: NetworkPod, node: NetworkNode, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(killed_at, pod, node, monkeypatch)
    pod.add(**SAID)
    assert pod.check() == []
    assert pod.pings(node.addresses[0])


@pytest.mark.parametrize("killed_at", ["record", "pod", "host", "marks"])
def test_an_agent_killed_in_the_middle_is_repaired_by_the_next_del(
    pod: NetworkPod, node: NetworkNode, killed_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settled(node.inside)
    kill(killed_at, pod, node, monkeypatch)
    assert pod.delete()
    assert settled(node.inside) == before
    assert list(node.records.all()) == []


def test_what_is_left_of_an_earlier_sandbox_gives_way(pod: NetworkPod, node: NetworkNode) -> None:
    node.inside.ip("link", "add", pod.host_veth_name, "type", "veth", "peer", "name", "left")
    pod.add(**SAID)
    assert pod.check() == []
    assert "left" not in node.inside.ip("link")


def test_a_pair_of_somebody_else_is_an_error(pod: NetworkPod, node: NetworkNode) -> None:
    node.inside.ip(
        *("link", "add", "vethsomeone", "type", "veth"),
        *("peer", "name", "veth0", "netns", pod.inside.name),
    )
    with pytest.raises(DatapathError, match="container veth name veth0 with peer vethsomeone"):
        pod.add(**SAID)


def test_del_takes_everything_from_the_node_and_the_pod(pod: NetworkPod, node: NetworkNode) -> None:
    before = settled(pod.inside), settled(node.inside)
    pod.add(**SAID)
    pod.macvlan("net1", "10.7.0.101/24")
    with_two = settled(pod.inside), settled(node.inside)
    pod.add("net1", podDefaultRouteNic="net1", **SAID)
    assert pod.delete("net1")
    # MAC prefix and all: a NIC that stays could be used without the coordinator.
    assert (settled(pod.inside), settled(node.inside)) == with_two
    pod.inside.ip("link", "delete", "net1")
    assert pod.delete()
    assert (settled(pod.inside), settled(node.inside)) == before


def test_a_second_del_is_success(pod: NetworkPod) -> None:
    pod.add(**SAID)
    assert pod.delete()
    assert not pod.delete()


def test_del_without_a_namespace_is_success(pod: NetworkPod, node: NetworkNode) -> None:
    before = settled(node.inside)
    pod.add(**SAID)
    pod.inside.delete()
    pod.delete()
    assert settled(node.inside) == before
    assert list(node.records.all()) == []


def test_del_without_a_record_removes_the_pair_of_the_first_nic(
    pod: NetworkPod, node: NetworkNode
) -> None:
    pod.add(**SAID)
    node.records.remove(pod.container, "eth0")
    assert not pod.delete("net1")
    assert pod.host_veth_name in node.inside.ip("link")
    assert pod.delete()
    assert pod.host_veth_name not in node.inside.ip("link")


def test_a_late_del_leaves_the_pod_that_has_the_path_by_now(
    pod: NetworkPod, node: NetworkNode, network: NetworkHarness
) -> None:
    pod.add(**SAID)
    # As main plugins do: a namespace goes in its own time, and two macvlans may not share a MAC.
    pod.inside.ip("link", "delete", "eth0")
    pod.inside.delete()
    pod.inside.create()
    other = network.pod(node)
    other.inside = pod.inside
    other.macvlan("eth0", "10.6.0.101/24", "fd00:6::101/64")
    other.add(**SAID)
    pod.delete()
    assert other.check() == []
    assert other.pings(node.addresses[0])


def test_a_namespace_that_is_gone_fails_an_add(pod: NetworkPod) -> None:
    pod.inside.delete()
    with pytest.raises(NamespaceGone):
        pod.add(**SAID)


def test_a_namespace_that_goes_in_the_middle_fails_nothing_else(
    pod: NetworkPod, node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settled(node.inside)
    apply = engines._apply_steps

    def vanish(*arguments: Any) -> tuple[PlanStep, ...]:
        pod.inside.delete()
        return apply(*arguments)

    monkeypatch.setattr(engines, "_apply_steps", vanish)
    pod.add(**SAID)
    pod.delete()
    assert settled(node.inside) == before


def test_the_nodes_own_namespace_is_never_set_up(pod: NetworkPod, node: NetworkNode) -> None:
    own = pod.attachment()._replace(netns=str(node.inside.path))
    with pytest.raises(BadInput, match="the node's own network namespace"):
        node.engine.attach(AttachRequest(own, node.settings()))


def test_a_nic_that_is_not_there_is_named(pod: NetworkPod) -> None:
    with pytest.raises(DatapathError, match="there is no link net7 in the Pod"):
        pod.add("net7")


def test_a_nic_without_a_usable_address_is_named(pod: NetworkPod) -> None:
    pod.inside.ip("address", "flush", "dev", "eth0", "scope", "global")
    with pytest.raises(DatapathError, match='no usable IP addresses on "eth0"'):
        pod.add(**SAID)


def test_a_nic_that_is_down_is_switched_on(pod: NetworkPod) -> None:
    pod.inside.ip("link", "set", "eth0", "down")
    pod.add(serviceCIDR=["10.96.0.0/16"])
    assert "UP" in pod.inside.ip("-brief", "link", "show", "dev", "eth0")


def test_overlay_needs_a_first_nic_that_is_a_veth(pod: NetworkPod) -> None:
    pod.macvlan("net1", "10.7.0.101/24")
    with pytest.raises(DatapathError, match="eth0 of the Pod is no veth"):
        pod.add("net1", mode="overlay")


def test_iptables_marks_where_there_is_no_nftables(
    pod: NetworkPod, node: NetworkNode, network: NetworkHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = IptablesReplyMarkRules(network.executor)
    held = network.hold(pod.inside)
    program = pod.require_iptables()

    def none(*_: object) -> None:
        raise NetlinkRefused("nftables: not here", number=min(nftables.UNSUPPORTED))

    monkeypatch.setattr(NftReplyMarkRules, "put", none)
    best = PreferredReplyMarkRules(network.executor)
    assert len(marks.missing(held, (4, 6))) == 6
    for _ in range(2):
        best.put(held, (4, 6))
    assert best.missing(held, (4, 6)) == marks.missing(held, (4, 6)) == []
    said = pod.inside.run(program, "-t", "mangle", "-S")
    assert said.count("-A PREROUTING") == 2
    assert said.count("-A OUTPUT") == 1


def kill(at: str, pod: NetworkPod, node: NetworkNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin an ADD and die, as SIGKILL would: nothing is taken back."""

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
