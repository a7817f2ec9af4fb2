"""A repeated ADD has the same result, a failed ADD reverts its changes, a DEL reverts an ADD.

``network_pod`` is a Pod with a macvlan eth0 (10.6.0.101, fd00:6::101). The coordinator's ADD has
not run for it. ``network_node`` is its node (10.6.0.11, fd00:6::11).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, Final

import pytest

from core.domain.addresses.ip_address import Family
from core.errors import BadInput, DatapathError, NamespaceGone, NetlinkRefused
from nodeagent.coordinator import attachment_engine as engines
from nodeagent.coordinator.attachment_engine import AttachRequest
from nodeagent.coordinator.attachment_steps import PlanStep
from nodeagent.coordinator.reply_mark_rules import (
    IptablesReplyMarkRules,
    NftReplyMarkRules,
    PreferredReplyMarkRules,
)
from nodeagent.netlink import nftables
from nodeagent.netlink.namespaces import NetworkNamespace
from ops.lab.namespaces import NamedNamespace
from tests.support.deadlines import wait_until
from tests.support.network_harness import SERVICE_CIDRS, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS), "podMACPrefix": "0a:1b"}

KERNEL_ROUTES: Final = ("local fe80:", "anycast fe80:", "multicast ff00:")
"""Routes that the kernel adds only after duplicate address detection."""


def has_settled(namespace: NamedNamespace) -> bool:
    """Whether the kernel has noticed the carrier of every link that is up, and added addresses."""
    links = json.loads(namespace.ip("-json", "address"))
    return all(
        link["operstate"] == "UP" and "link" in [address["scope"] for address in link["addr_info"]]
        for link in links
        if {"UP", "LOWER_UP"} <= set(link["flags"]) and link["ifname"] != "lo"
    )


def full_state(namespace: NamedNamespace) -> list[str]:
    """The links, addresses, rules, routes and neighbours.

    The kernel reports carriers and adds link-local addresses some time after a link is set up.
    """
    wait_until(lambda: has_settled(namespace), f"the links of {namespace.name} are up")
    lines = []
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
        lines += namespace.ip(*command).splitlines()
    return sorted(line for line in lines if not line.startswith(KERNEL_ROUTES))


def stable_state(namespace: NamedNamespace) -> list[str]:
    """Return ``full_state`` without lines that the kernel changes later.

    The result also omits the node's rule for table 500, which no DEL removes.
    """
    ignored_words = ("fe80", "multicast", "anycast", "lookup 500", "ff00::/8")
    return [
        line for line in full_state(namespace) if not any(word in line for word in ignored_words)
    ]


class FailingRules:
    """A fake of ``ReplyMarkRules`` that fails the last step of an ADD."""

    def put(self, namespace: NetworkNamespace, families: Iterable[Family]) -> None:
        raise DatapathError("cannot add the rules")

    def missing(self, namespace: NetworkNamespace, families: Iterable[Family]) -> list[str]:
        return []


def test_a_repeated_add_changes_nothing(network_pod: NetworkPod, network_node: NetworkNode) -> None:
    first = network_pod.add(**CONF)
    before = full_state(network_pod.inside), full_state(network_node.inside)
    again = network_pod.add(**CONF)
    assert not first.repeated
    assert again.repeated
    assert (again.mode, again.table) == (first.mode, first.table)
    assert (full_state(network_pod.inside), full_state(network_node.inside)) == before


def test_a_repeated_add_restores_removed_objects(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    before = full_state(network_pod.inside), full_state(network_node.inside)
    network_pod.inside.ip("route", "delete", "10.96.0.0/16")
    network_pod.inside.ip("rule", "delete", "pref", "1000")
    network_pod.inside.run("nft", "delete", "table", "ip", "orbweaver")
    network_node.inside.ip("route", "flush", "table", "500")
    network_pod.add(**CONF)
    assert (full_state(network_pod.inside), full_state(network_node.inside)) == before
    assert network_pod.check() == []


def test_a_repeated_add_with_other_settings_reverts_the_first_add(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    again = network_pod.add(serviceCIDR=["10.97.0.0/16"])
    assert not again.repeated
    assert network_pod.check() == []
    main = network_pod.inside.ip("route")
    assert "10.97.0.0/16" in main
    assert "10.96.0.0/16" not in main
    assert network_pod.pings(network_node.addresses[0])


def test_a_repeated_add_that_fails_changes_nothing(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    before = full_state(network_pod.inside), full_state(network_node.inside)
    failing_engine = network_node.engine_with(FailingRules())
    with pytest.raises(DatapathError, match="cannot add the rules"):
        failing_engine.attach(
            AttachRequest(network_pod.attachment(), network_node.settings(**CONF))
        )
    assert (full_state(network_pod.inside), full_state(network_node.inside)) == before
    assert network_pod.check() == []


def test_an_add_that_fails_reverts_its_changes(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = stable_state(network_pod.inside), stable_state(network_node.inside)
    failing_engine = network_node.engine_with(FailingRules())
    with pytest.raises(DatapathError, match="cannot add the rules"):
        failing_engine.attach(
            AttachRequest(network_pod.attachment(), network_node.settings(**CONF))
        )
    assert (stable_state(network_pod.inside), stable_state(network_node.inside)) == before
    assert list(network_node.records.all()) == []
    network_pod.add(**CONF)
    assert network_pod.check() == []


def test_an_add_with_a_refused_route_fails_and_reverts_its_changes(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = stable_state(network_pod.inside), stable_state(network_node.inside)
    routes = [{"dst": "10.9.0.0/16", "gw": "10.66.0.1"}]
    with pytest.raises(NetlinkRefused, match=r"cannot add route 10.9.0.0/16 via 10.66.0.1"):
        network_pod.add(policyRoutes=routes, **CONF)
    assert (stable_state(network_pod.inside), stable_state(network_node.inside)) == before


def test_a_failed_add_of_a_second_nic_does_not_change_the_first(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    network_pod.macvlan("net1", "10.7.0.101/24")
    before = stable_state(network_pod.inside), stable_state(network_node.inside)
    with pytest.raises(BadInput, match="podDefaultRouteNIC: net9 don't exist in pod"):
        network_pod.add("net1", podDefaultRouteNic="net9")
    with pytest.raises(NetlinkRefused):
        network_pod.add("net1", policyRoutes=[{"dst": "10.9.0.0/16", "gw": "10.66.0.1"}])
    assert (stable_state(network_pod.inside), stable_state(network_node.inside)) == before
    assert network_pod.check() == []


@pytest.mark.parametrize("killed_at", ["record", "pod", "host", "marks"])
def test_the_next_add_completes_the_add_of_a_killed_agent(
    network_pod: NetworkPod,
    network_node: NetworkNode,
    killed_at: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kill_agent_during_add(killed_at, network_pod, network_node, monkeypatch)
    network_pod.add(**CONF)
    assert network_pod.check() == []
    assert network_pod.pings(network_node.addresses[0])


@pytest.mark.parametrize("killed_at", ["record", "pod", "host", "marks"])
def test_the_next_del_reverts_the_add_of_a_killed_agent(
    network_pod: NetworkPod,
    network_node: NetworkNode,
    killed_at: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = stable_state(network_node.inside)
    kill_agent_during_add(killed_at, network_pod, network_node, monkeypatch)
    assert network_pod.delete()
    assert stable_state(network_node.inside) == before
    assert list(network_node.records.all()) == []


def test_a_veth_pair_left_from_an_earlier_add_is_replaced(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_node.inside.ip(
        "link", "add", network_pod.host_veth_name, "type", "veth", "peer", "name", "left"
    )
    network_pod.add(**CONF)
    assert network_pod.check() == []
    assert "left" not in network_node.inside.ip("link")


def test_an_add_fails_if_another_program_has_created_veth0(
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
        network_pod.add(**CONF)


def test_del_reverts_all_changes_on_the_node_and_in_the_pod(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = stable_state(network_pod.inside), stable_state(network_node.inside)
    network_pod.add(**CONF)
    network_pod.macvlan("net1", "10.7.0.101/24")
    before_second = stable_state(network_pod.inside), stable_state(network_node.inside)
    network_pod.add("net1", podDefaultRouteNic="net1", **CONF)
    assert network_pod.delete("net1")
    assert (stable_state(network_pod.inside), stable_state(network_node.inside)) == before_second
    network_pod.inside.ip("link", "delete", "net1")
    assert network_pod.delete()
    assert (stable_state(network_pod.inside), stable_state(network_node.inside)) == before


def test_a_second_del_succeeds(network_pod: NetworkPod) -> None:
    network_pod.add(**CONF)
    assert network_pod.delete()
    assert not network_pod.delete(), "expected nothing to revert"


def test_a_del_after_the_namespace_was_deleted_reverts_the_node(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = stable_state(network_node.inside)
    network_pod.add(**CONF)
    network_pod.inside.delete()
    network_pod.delete()
    assert stable_state(network_node.inside) == before
    assert list(network_node.records.all()) == []


def test_without_a_record_only_the_del_of_eth0_removes_the_veth_pair(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    network_node.records.remove(network_pod.container, "eth0")
    assert not network_pod.delete("net1")
    assert network_pod.host_veth_name in network_node.inside.ip("link")
    assert network_pod.delete()
    assert network_pod.host_veth_name not in network_node.inside.ip("link")


def test_a_late_del_does_not_change_another_pod_with_the_same_namespace_path(
    network_pod: NetworkPod, network_node: NetworkNode, network: NetworkHarness
) -> None:
    network_pod.add(**CONF)
    # The kernel deletes the links of a deleted namespace only later.
    network_pod.inside.ip("link", "delete", "eth0")
    network_pod.inside.delete()
    network_pod.inside.create()
    other = network.pod(network_node)
    other.inside = network_pod.inside
    other.macvlan("eth0", "10.6.0.101/24", "fd00:6::101/64")
    other.add(**CONF)
    network_pod.delete()
    assert other.check() == []
    assert other.pings(network_node.addresses[0])


def test_an_add_without_a_namespace_fails(network_pod: NetworkPod) -> None:
    network_pod.inside.delete()
    with pytest.raises(NamespaceGone):
        network_pod.add(**CONF)


def test_a_del_reverts_the_node_if_the_namespace_was_deleted_during_the_add(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stable_state(network_node.inside)
    apply = engines._apply_steps

    def delete_namespace_and_apply(*arguments: Any) -> tuple[PlanStep, ...]:
        network_pod.inside.delete()
        return apply(*arguments)

    monkeypatch.setattr(engines, "_apply_steps", delete_namespace_and_apply)
    network_pod.add(**CONF)
    network_pod.delete()
    assert stable_state(network_node.inside) == before


def test_the_nodes_own_namespace_is_never_set_up(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    attachment = network_pod.attachment()._replace(netns=str(network_node.inside.path))
    with pytest.raises(BadInput, match="the node's own network namespace"):
        network_node.engine.attach(AttachRequest(attachment, network_node.settings()))


def test_the_error_for_a_missing_nic_names_the_nic(network_pod: NetworkPod) -> None:
    with pytest.raises(DatapathError, match="there is no link net7 in the Pod"):
        network_pod.add("net7")


def test_the_error_for_a_nic_without_usable_address_names_the_nic(network_pod: NetworkPod) -> None:
    network_pod.inside.ip("address", "flush", "dev", "eth0", "scope", "global")
    with pytest.raises(DatapathError, match='no usable IP addresses on "eth0"'):
        network_pod.add(**CONF)


def test_add_brings_up_a_nic_that_is_down(network_pod: NetworkPod) -> None:
    network_pod.inside.ip("link", "set", "eth0", "down")
    network_pod.add(serviceCIDR=["10.96.0.0/16"])
    assert "UP" in network_pod.inside.ip("-brief", "link", "show", "dev", "eth0")


def test_overlay_needs_a_first_nic_that_is_a_veth(network_pod: NetworkPod) -> None:
    network_pod.macvlan("net1", "10.7.0.101/24")
    message = "eth0 of the Pod is not a veth with its other end on this node"
    with pytest.raises(DatapathError, match=message):
        network_pod.add("net1", mode="overlay")


def test_underlay_needs_a_veth0_whose_other_end_is_on_the_node(network_pod: NetworkPod) -> None:
    network_pod.inside.ip("link", "add", "veth0", "type", "veth", "peer", "name", "other")
    network_pod.macvlan("net1", "10.7.0.101/24")
    message = "veth0 of the Pod is not a veth with its other end on this node"
    with pytest.raises(DatapathError, match=message) as error:
        network_pod.add("net1", mode="underlay")
    assert error.value.remedy.startswith("no other plugin may create veth0")


def test_iptables_gets_the_reply_mark_rules_if_nftables_is_unsupported(
    network_pod: NetworkPod,
    network_node: NetworkNode,
    network: NetworkHarness,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    iptables_rules = IptablesReplyMarkRules(network.executor)
    namespace = network.open_namespace(network_pod.inside)
    program = network_pod.require_iptables()

    def refuse(*_: object) -> None:
        raise NetlinkRefused("nftables: not supported", errno=min(nftables.UNSUPPORTED))

    monkeypatch.setattr(NftReplyMarkRules, "put", refuse)
    preferred_rules = PreferredReplyMarkRules(network.executor)
    assert len(iptables_rules.missing(namespace, (4, 6))) == 6, (
        "expected three missing rules in each family"
    )
    for _ in range(2):
        preferred_rules.put(namespace, (4, 6))
    assert preferred_rules.missing(namespace, (4, 6)) == []
    assert iptables_rules.missing(namespace, (4, 6)) == []
    text = network_pod.inside.run(program, "-t", "mangle", "-S")
    assert text.count("-A PREROUTING") == 2
    assert text.count("-A OUTPUT") == 1


def kill_agent_during_add(
    at: str, pod: NetworkPod, node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start an ADD and stop it without reverting its changes, as after SIGKILL.

    ``at``: the first missing step: "record", "pod" (change the Pod), "host" (change the node) or
    "marks" (add the reply-mark rules).
    """

    class Killed(BaseException):
        pass

    def raise_killed(*_: object) -> None:
        raise Killed

    call_numbers = iter(range(10))
    apply = engines._apply_steps

    def apply_until_killed(*arguments: Any) -> tuple[PlanStep, ...]:
        if next(call_numbers) == {"pod": 0, "host": 1}.get(at):
            raise Killed
        return apply(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engines, "_apply_steps", apply_until_killed)
        if at == "record":
            patch.setattr(node.records, "put", raise_killed)
        if at == "marks":
            patch.setattr(PreferredReplyMarkRules, "put", raise_killed)
        with pytest.raises(Killed):
            pod.add(**CONF)
    assert os.path.lexists(pod.inside.path)
