"""ADDs during which links or rules change, another agent runs, or netlink answers are lost.

``network_pod`` is a Pod with a macvlan eth0 (10.6.0.101, fd00:6::101) that is not set up yet.
``network_node`` is its node (10.6.0.11, fd00:6::11).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from core.errors import BadInput, DatapathError
from nodeagent.coordinator import attachment_engine as engines
from nodeagent.coordinator.attachment_steps import PlanStep
from nodeagent.coordinator.reply_mark_rules import PreferredReplyMarkRules
from nodeagent.netlink.session import NetlinkSession, RequestOutcome
from tests.nodeagent.coordinator.test_attachment_engine import stable_state
from tests.support.network_harness import SERVICE_CIDRS, NetworkHarness, NetworkNode, NetworkPod

pytestmark = pytest.mark.netns

CONF: Final[dict[str, Any]] = {"serviceCIDR": list(SERVICE_CIDRS)}
QUEUE_BYTES: Final = 2_000
"""A receive buffer of this size holds only a few answers of the kernel."""


def change_during_add(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[], object], number: int = 0
) -> None:
    """Call ``change`` during an ADD that has already read the state of the kernel.

    ``number``: 0 before the ADD changes the Pod, 1 before the ADD changes the node.
    """
    apply = engines._apply_steps
    call_numbers = iter(range(100))

    def change_and_apply(*arguments: Any) -> tuple[PlanStep, ...]:
        if next(call_numbers) == number:
            change()
        return apply(*arguments)

    monkeypatch.setattr(engines, "_apply_steps", change_and_apply)


@pytest.mark.parametrize(
    "number", [0, 1], ids=["before the Pod is changed", "before the node is changed"]
)
def test_a_nic_that_is_renamed_during_an_add_is_set_up_and_reverted(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = stable_state(network_node.inside)
    rename = ("link", "set", "eth0", "name", "was-eth0")
    change_during_add(monkeypatch, lambda: network_pod.inside.ip(*rename), number=number)
    network_pod.add(**CONF)
    assert all(network_pod.pings(address) for address in network_node.addresses)
    assert network_pod.check() != [], "expected CHECK to find no eth0"
    assert network_pod.delete()
    assert stable_state(network_node.inside) == before
    assert "1000:" not in network_pod.inside.ip("rule"), "expected no rule of the coordinator"


def test_a_renamed_host_veth_is_removed(network_pod: NetworkPod, network_node: NetworkNode) -> None:
    before = stable_state(network_node.inside)
    network_pod.add(**CONF)
    network_node.inside.ip("link", "set", network_pod.host_veth_name, "name", "enx-renamed")
    assert network_pod.check() == []
    assert network_pod.delete()
    assert stable_state(network_node.inside) == before


def test_an_uplink_may_be_renamed_between_two_adds(
    network: NetworkHarness, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    network_pod.add(**CONF)
    network_node.inside.ip("link", "set", "eth0", "name", "ens192")
    assert network_pod.add(**CONF).repeated
    other = network.pod(network_node)
    other.child("eth0", "macvlan mode bridge", "ens192", "10.6.0.102/24", "fd00:6::102/64")
    other.add(**CONF)
    assert other.pings(network_node.addresses[0])
    assert other.pings("10.6.0.101")


def test_an_add_succeeds_if_another_program_adds_the_same_objects(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_same_objects() -> None:
        network_node.inside.ip("rule", "add", "pref", "1000", "lookup", "500")
        address = ("10.6.0.101", "dev", network_pod.host_veth_name)
        network_node.inside.ip("route", "add", *address, "scope", "link", "table", "500")
        network_node.inside.ip(
            "neigh", "replace", *address, "lladdr", "02:00:00:00:00:99", "nud", "permanent"
        )
        network_pod.inside.ip("link", "set", "veth0", "up")
        network_pod.inside.ip(
            "route", "add", network_node.addresses[0], "dev", "veth0", "src", "10.6.0.101"
        )

    change_during_add(monkeypatch, add_same_objects)
    network_pod.add(**CONF)
    assert network_pod.check() == [], "expected the ADD to replace the neighbour entry"
    assert all(network_pod.pings(address) for address in network_node.addresses)


def test_an_add_reverts_its_changes_if_its_veth_pair_is_deleted(
    network_pod: NetworkPod, network_node: NetworkNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stable_state(network_pod.inside), stable_state(network_node.inside)
    with monkeypatch.context() as patch:
        change_during_add(
            patch, lambda: network_node.inside.ip("link", "delete", network_pod.host_veth_name)
        )
        with pytest.raises(DatapathError):
            network_pod.add(**CONF)
    assert (stable_state(network_pod.inside), stable_state(network_node.inside)) == before
    assert list(network_node.records.all()) == []
    network_pod.add(**CONF)
    assert network_pod.check() == []


def test_concurrent_adds_of_two_agents_create_each_object_once(
    network: NetworkHarness, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    """During an upgrade two agents may run."""
    other_engine = network_node.engine_with(PreferredReplyMarkRules(network.executor))
    request = engines.AttachRequest(network_pod.attachment(), network_node.settings(**CONF))
    barrier = threading.Barrier(2)

    def add(engine: engines.Engine) -> bool:
        barrier.wait()
        try:
            engine.attach(request)
        except (DatapathError, BadInput):
            return False
        return True

    with ThreadPoolExecutor(2, initializer=network.executor.let_thread_enter_namespaces) as workers:
        list(workers.map(add, (network_node.engine, other_engine)))
    network_pod.add(**CONF)
    assert network_pod.check() == []
    links = network_node.inside.ip("-brief", "link").splitlines()
    assert len([line for line in links if line.startswith("veth")]) == 1
    assert network_pod.inside.ip("rule").count("fwmark") == 1
    assert network_node.inside.ip("rule").count("lookup 500") == 1
    assert network_pod.delete()
    assert network_pod.host_veth_name not in network_node.inside.ip("link")


def test_requests_are_repeated_if_their_answers_were_lost(
    network_pod: NetworkPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A repeated ADD gets many answers: one for each object that exists already.
    open_session, exchange = NetlinkSession.open, NetlinkSession._exchange
    lost_answers = 0

    def open_with_short_queue() -> NetlinkSession:
        session = open_session()
        session._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, QUEUE_BYTES)
        return session

    def exchange_and_count(
        session: NetlinkSession, batch: Any, indexes: list[int]
    ) -> dict[int, RequestOutcome]:
        nonlocal lost_answers
        outcomes = exchange(session, batch, indexes)
        lost_answers += len(indexes) - len(outcomes)
        return outcomes

    monkeypatch.setattr(NetlinkSession, "open", open_with_short_queue)
    monkeypatch.setattr(NetlinkSession, "_exchange", exchange_and_count)
    network_pod.add(**CONF)
    assert network_pod.add(**CONF).repeated
    assert lost_answers, "expected the short buffer to lose answers"
    assert network_pod.check() == []
    assert network_pod.delete()
