"""The state changes during an ADD: names, other programs, another agent, lost answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from core.errors import BadInput, DatapathError
from nodeagent.coordinator import engine as engines
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules
from nodeagent.coordinator.steps import PlanStep
from nodeagent.netlink.session import NetlinkSession, RequestOutcome
from tests.nodeagent.coordinator.test_engine import settled
from tests.support.network_harness import SERVICES, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

SAID: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICES)}
QUEUE_BYTES: Final = 2_000


def before_sending(
    monkeypatch: pytest.MonkeyPatch, what: Callable[[], object], number: int = 0
) -> None:
    """Run a function between the read and this send of an ADD."""
    apply = engines._apply_steps
    sends = iter(range(100))

    def disturbed(*arguments: Any) -> tuple[PlanStep, ...]:
        if next(sends) == number:
            what()
        return apply(*arguments)

    monkeypatch.setattr(engines, "_apply_steps", disturbed)


@pytest.mark.parametrize("send", [0, 1], ids=["before the Pod's side", "before the node's side"])
def test_a_nic_that_is_renamed_in_the_middle_is_set_up_and_taken_back(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch, send: int
) -> None:
    before = settled(network_node.inside)
    rename = ("link", "set", "eth0", "name", "was-eth0")
    before_sending(monkeypatch, lambda: network_pod.inside.ip(*rename), send)
    network_pod.add(**SAID)
    assert all(network_pod.pings(address) for address in network_node.addresses)
    assert network_pod.check() != [], "the NIC of that name is not the one that was set up"
    assert network_pod.delete()
    assert settled(network_node.inside) == before
    assert "1000:" not in network_pod.inside.ip("rule")


def test_a_wire_whose_end_on_the_node_was_renamed_is_taken_back(
    network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    before = settled(network_node.inside)
    network_pod.add(**SAID)
    network_node.inside.ip("link", "set", network_pod.host_veth_name, "name", "enx-renamed")
    assert network_pod.check() == []
    assert network_pod.delete()
    assert settled(network_node.inside) == before


def test_an_uplink_that_is_renamed_between_two_adds_is_no_matter(
    network: NetworkHarness, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**SAID)
    network_node.inside.ip("link", "set", "eth0", "name", "ens192")
    assert network_pod.add(**SAID).repeated
    other = network.pod(network_node)
    other.child("eth0", "macvlan mode bridge", "ens192", "10.6.0.102/24", "fd00:6::102/64")
    other.add(**SAID)
    assert other.pings(network_node.addresses[0])
    assert other.pings("10.6.0.101")


def test_what_another_hand_sets_in_the_middle_is_no_error(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_hand() -> None:
        network_node.inside.ip("rule", "add", "pref", "1000", "lookup", "500")
        own = ("10.6.0.101", "dev", network_pod.host_veth_name)
        network_node.inside.ip("route", "add", *own, "scope", "link", "table", "500")
        network_node.inside.ip(
            "neigh", "replace", *own, "lladdr", "02:00:00:00:00:99", "nud", "permanent"
        )
        network_pod.inside.ip("link", "set", "veth0", "up")
        network_pod.inside.ip(
            "route", "add", network_node.addresses[0], "dev", "veth0", "src", "10.6.0.101"
        )

    before_sending(monkeypatch, other_hand)
    network_pod.add(**SAID)
    assert network_pod.check() == [], "its neighbour entry has been replaced"
    assert all(network_pod.pings(address) for address in network_node.addresses)


def test_the_wire_that_goes_in_the_middle_fails_the_add_and_the_next_makes_another(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settled(network_pod.inside), settled(network_node.inside)
    with monkeypatch.context() as patch:
        before_sending(
            patch, lambda: network_node.inside.ip("link", "delete", network_pod.host_veth_name)
        )
        with pytest.raises(DatapathError):
            network_pod.add(**SAID)
    assert (settled(network_pod.inside), settled(network_node.inside)) == before
    assert list(network_node.records.all()) == []
    network_pod.add(**SAID)
    assert network_pod.check() == []


def test_two_agents_at_once_end_with_one_of_everything(
    network: NetworkHarness, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    """As during an upgrade, when two agents run: failed steps are retried."""
    other = network_node.engine_with(PreferredReplyMarkRules(network.executor))
    order = engines.AttachRequest(network_pod.attachment(), network_node.settings(**SAID))
    together = threading.Barrier(2)

    def add(engine: engines.Engine) -> bool:
        together.wait()
        try:
            engine.attach(order)
        except (DatapathError, BadInput):
            return False
        return True

    with ThreadPoolExecutor(2, initializer=network.executor.run_directly) as workers:
        list(workers.map(add, (network_node.engine, other)))
    network_pod.add(**SAID)
    assert network_pod.check() == []
    links = network_node.inside.ip("-brief", "link").splitlines()
    assert len([line for line in links if line.startswith("veth")]) == 1
    assert network_pod.inside.ip("rule").count("fwmark") == 1
    assert network_node.inside.ip("rule").count("lookup 500") == 1
    assert network_pod.delete()
    assert network_pod.host_veth_name not in network_node.inside.ip("link")


def test_answers_that_a_full_queue_has_lost_are_asked_for_again(
    network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A receive queue that holds only a few of the refusals that a repeated ADD tolerates.
    opened, exchange = NetlinkSession.open, NetlinkSession._exchange
    lost = 0

    def narrow() -> NetlinkSession:
        session = opened()
        session._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
        return session

    def counted(
        session: NetlinkSession, wanted: Any, indexes: list[int]
    ) -> dict[int, RequestOutcome]:
        nonlocal lost
        found = exchange(session, wanted, indexes)
        lost += len(indexes) - len(found)
        return found

    monkeypatch.setattr(NetlinkSession, "open", narrow)
    monkeypatch.setattr(NetlinkSession, "_exchange", counted)
    network_pod.add(**SAID)
    assert network_pod.add(**SAID).repeated
    assert lost
    assert network_pod.check() == []
    assert network_pod.delete()
