"""The agent's handler of the coordinator: settings, GC, and concurrent calls.

The fixture ``network_pod`` is a Pod with a macvlan eth0 (10.6.0.101, fd00:6::101), and
``network_node`` is its node (10.6.0.11, fd00:6::11). The coordinator has not set up the Pod yet.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from errno import EMFILE
from typing import Any

import pytest
from msgspec import structs

from core.domain.addresses.ip_address import parse_address
from core.domain.model import Attachment, Endpoint
from core.domain.request_facts import (
    NamespaceFacts,
    NodeFacts,
    PodFacts,
    PodReference,
    RequestFacts,
)
from core.errors import BadInput, DatapathError, NetlinkLost, NotReady
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.cni_protocol.netconf import NetConf, ValidAttachment
from nodeagent.conflict_detection.detector import DetectionSwitches
from nodeagent.coordinator.attachment_steps import (
    AttachmentPlan,
    PlanStep,
    neighbour_step,
    route_step,
)
from nodeagent.coordinator.settings import (
    ConfiguredSettings,
    CoordinatorDefaults,
    UnparsedSettings,
    read_settings,
)
from nodeagent.handlers.coordinator_handler import (
    COORDINATOR_THREADS,
    CoordinatorHandler,
    ProbeAssigned,
)
from nodeagent.handlers.missing_attachments import GC_TWICE_S
from nodeagent.netlink.numbers import RT_SCOPE_LINK
from nodeagent.netlink.values import KernelRoute, Link, Neighbour, host_prefix
from nodeagent.pod_facts import FactsSource, Liveness
from tests.support.network_harness import NetworkHarness, NetworkNode, NetworkPod, batch

pytestmark = pytest.mark.netns

CLUSTER_SETTINGS = {"serviceCIDR": ["10.96.0.0/16"]}
NO_SETTINGS = UnparsedSettings()
LEFTOVERS = 1_000
NOWHERE = 1_000_000
"""The first of ``LEFTOVERS`` interface indexes that do not exist."""


class AnnotatedPods(FactsSource):
    """Facts of one Pod with these annotations."""

    def __init__(self, annotations: dict[str, str]) -> None:
        self.annotations = annotations

    async def load_pod(self, reference: PodReference) -> None:
        """Do nothing; the Pod is known."""

    async def confirm_current(self, reference: PodReference) -> None:
        """Do nothing; the Pod is known."""

    def liveness(self, reference: PodReference) -> Liveness:
        return Liveness(alive=None)

    async def confirm_liveness(self, reference: PodReference) -> Liveness:
        return self.liveness(reference)

    def facts(self, reference: PodReference) -> RequestFacts:
        pod = PodFacts("shop", "web-0", "uid", "node-a", annotations=self.annotations)
        return RequestFacts(pod, NamespaceFacts("shop"), self.node())

    complete_facts = facts

    def node(self) -> NodeFacts:
        return NodeFacts("node-a")

    def endpoint_validity(self, endpoint: Endpoint) -> None:
        """Return None: unknown."""

    async def confirm_endpoint(self, endpoint: Endpoint) -> None:
        """Return None: unknown."""


class Unsynced(CoordinatorDefaults):
    """A cluster whose SpiderCoordinator is not Synced."""

    async def load(self) -> None:
        """Do nothing; the cluster stays unsynced."""

    def current_settings(self) -> UnparsedSettings:
        raise NotReady("spidercoordinator: default no ready")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def coordinator_handler(
    network: NetworkHarness, network_node: NetworkNode, clock: Clock
) -> AsyncIterator[CoordinatorHandler]:
    handler = handler_with(network, network_node, clock)
    yield handler
    await asyncio.to_thread(handler.close)


async def probe_nothing(_: Call, __: DetectionSwitches) -> None:
    pass


def handler_with(
    network: NetworkHarness,
    node: NetworkNode,
    clock: Clock,
    annotations: dict[str, str] | None = None,
    cluster: CoordinatorDefaults | None = None,
    probe: ProbeAssigned = probe_nothing,
) -> CoordinatorHandler:
    """A handler for a Pod with these annotations, in a cluster with these settings.

    ``probe``: called with the detections that the Pod's network or the cluster requests.
    """
    return CoordinatorHandler(
        node.engine,
        node.records,
        network.announcer,
        network.executor,
        AnnotatedPods(annotations or {}),
        cluster or ConfiguredSettings(read_settings(CLUSTER_SETTINGS)),
        probe,
        clock,
    )


def call(pod: NetworkPod, command: str = "ADD", interface: str = "eth0", **conf: Any) -> Call:
    """A runtime's call for a NIC of the Pod."""
    netconf = NetConf(cni_version="1.1.0", name="lab", **conf)
    attachment = Attachment(pod.container, interface, netconf.name, str(pod.inside.path))
    return Call(command, netconf, attachment, PodReference("shop", "web-0"))


def gc_call(*valid: NetworkPod) -> Call:
    """A runtime's GC that lists eth0 of these Pods as valid."""
    attachments = tuple(ValidAttachment(pod.container, "eth0") for pod in valid)
    return Call("GC", NetConf(cni_version="1.1.0", name="lab", valid_attachments=attachments))


async def test_settings_of_the_cluster_apply_where_the_network_configuration_has_none(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    assert "10.96.0.0/16 via 10.6.0.11" in network_pod.inside.ip("route")
    await coordinator_handler.handle_check(call(network_pod, "CHECK"), NO_SETTINGS)
    assert await coordinator_handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS)
    assert not await coordinator_handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS)
    with pytest.raises(CniFailure, match="there is no attachment record of interface eth0"):
        await coordinator_handler.handle_check(call(network_pod, "CHECK"), NO_SETTINGS)


@pytest.mark.parametrize(
    ("cluster", "conf", "switches"),
    [
        ({}, {}, (False, False)),
        ({"detectIPConflict": True}, {}, (True, False)),
        ({"detectIPConflict": True}, {"detectIPConflict": False}, (False, False)),
        ({}, {"detectIPConflict": True, "detectGateway": True}, (True, True)),
    ],
)
async def test_detection_is_requested_by_the_network_or_else_by_the_cluster(
    network: NetworkHarness,
    network_node: NetworkNode,
    network_pod: NetworkPod,
    clock: Clock,
    cluster: dict[str, bool],
    conf: dict[str, bool],
    switches: tuple[bool, bool],
) -> None:
    probed: list[tuple[bool, bool]] = []

    async def probe(_: Call, requested: DetectionSwitches) -> None:
        probed.append((requested.conflicts, requested.gateway))

    defaults = ConfiguredSettings(read_settings(cluster))
    handler = handler_with(network, network_node, clock, cluster=defaults, probe=probe)
    await handler.handle_add(call(network_pod), read_settings(conf))
    await asyncio.to_thread(handler.close)

    assert probed == [switches]


async def test_the_pods_annotation_chooses_the_default_route(
    network: NetworkHarness, network_node: NetworkNode, network_pod: NetworkPod, clock: Clock
) -> None:
    annotations = {
        "ipam.spidernet.io/default-route-nic": "net1",
        "k8s.v1.cni.cncf.io/networks": "shop/lan",
    }
    handler = handler_with(network, network_node, clock, annotations)
    await handler.handle_add(call(network_pod), NO_SETTINGS)
    network_pod.macvlan("net1", "10.7.0.101/24")
    await handler.handle_add(
        call(network_pod, interface="net1"), read_settings({"podDefaultRouteNic": "eth0"})
    )
    assert "default via 10.7.0.1 dev net1" in network_pod.inside.ip("route")
    await asyncio.to_thread(handler.close)


async def test_the_mode_disabled_changes_nothing(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    disabled = read_settings({"mode": "disabled"})
    assert await coordinator_handler.handle_add(call(network_pod), disabled) is None
    assert not await coordinator_handler.handle_delete(call(network_pod, "DEL"), disabled)
    await coordinator_handler.handle_check(call(network_pod, "CHECK"), disabled)
    assert "veth0" not in network_pod.inside.ip("link")


async def test_a_cluster_that_is_not_ready_blocks_adds_but_not_dels(
    network: NetworkHarness,
    network_node: NetworkNode,
    network_pod: NetworkPod,
    clock: Clock,
    coordinator_handler: CoordinatorHandler,
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    unsynced = handler_with(network, network_node, clock, cluster=Unsynced())
    with pytest.raises(NotReady, match="no ready"):
        await unsynced.handle_add(call(network_pod), NO_SETTINGS)
    assert unsynced.fault() is not None
    assert coordinator_handler.fault() is None
    assert await unsynced.handle_delete(call(network_pod, "DEL"), NO_SETTINGS)
    await asyncio.to_thread(unsynced.close)


async def test_a_del_with_settings_that_cannot_be_used_succeeds(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    broken = read_settings({"hijackCIDR": ["nonsense"]})
    with pytest.raises(BadInput):
        await coordinator_handler.handle_add(call(network_pod), broken)
    assert await coordinator_handler.handle_delete(call(network_pod, "DEL"), broken)


async def test_gc_detaches_a_pod_that_is_missing_twice_gc_twice_s_apart(
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    clock: Clock,
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    assert (await coordinator_handler.handle_gc(gc_call(network_pod))).missing == 0
    for _ in range(2):  # the second GC runs less than GC_TWICE_S after the first
        detached = await coordinator_handler.handle_gc(gc_call())
        assert (detached.removed, detached.missing) == ((), 1)
    clock.now += GC_TWICE_S
    detached = await coordinator_handler.handle_gc(gc_call())
    assert detached.removed == (f"{network_pod.container}/eth0",)
    assert network_pod.host_veth_name not in network_node.inside.ip("link")
    assert list(network_node.records.all()) == []


async def test_gc_detaches_a_pod_immediately_if_its_namespace_was_deleted(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    network_pod.inside.delete()
    assert (await coordinator_handler.handle_gc(gc_call())).removed == (
        f"{network_pod.container}/eth0",
    )
    assert list(network_node.records.all()) == []


async def test_gc_continues_after_a_failed_detachment(
    network: NetworkHarness,
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = network.pod(network_node, "second")
    second.macvlan("eth0", "10.6.0.102/24")
    for pod in (network_pod, second):
        await coordinator_handler.handle_add(call(pod), NO_SETTINGS)
        pod.inside.delete()
    stuck, other = sorted((network_pod.container, second.container))
    detach = network_node.engine.detach

    def detach_unless_stuck(attachment: Attachment, first_nic: str) -> bool:
        if attachment.container == stuck:
            raise NetlinkLost("netlink: 1 of 1 answers did not arrive")
        return detach(attachment, first_nic)

    monkeypatch.setattr(network_node.engine, "detach", detach_unless_stuck)
    with pytest.raises(CniFailure, match=f"GC failed for 1 attachments: {stuck}/eth0: netlink"):
        await coordinator_handler.handle_gc(gc_call())
    assert [pod.container for pod in network_node.records.all()] == [stuck], f"{other} is detached"


async def test_gc_removes_a_thousand_leftovers_of_a_crashed_node(
    network: NetworkHarness,
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    (living_pod_record,) = network_node.records.all()
    # The veth pairs of the deleted Pods are gone. Routes and neighbours remain on an interface of
    # another CNI plugin, here cali-left.
    batch(network_node.inside, "link add cali-left type veth peer left", "link set cali-left up")
    (pod_veth,) = (
        link.ifindex for link in links_of(network, network_node) if link.name == "cali-left"
    )
    before = tables_of(network_node)
    for number in range(LEFTOVERS):
        steps = leftovers_of(pod_veth, f"10.9.{number // 200}.{number % 200 + 1}")
        with network.executor.session(network_node.namespace) as session:
            session.apply([step.do for step in steps])
        network_node.records.put(
            structs.replace(
                living_pod_record,
                container=f"{number:064x}",
                netns=f"/run/netns/owt-deleted-{number}",
                host_veth=NOWHERE + number,
                plan=AttachmentPlan((), steps, {}),
            )
        )
    host_routes = network_node.inside.ip("route", "show", "table", "500").splitlines()
    assert len(host_routes) == LEFTOVERS + 1, "the leftovers and the living Pod"
    result = await coordinator_handler.handle_gc(gc_call(network_pod))
    assert len(result.removed) == LEFTOVERS
    assert list(network_node.records.all()) == [living_pod_record]
    assert tables_of(network_node) == before
    assert network_pod.check() == []


def links_of(network: NetworkHarness, node: NetworkNode) -> list[Link]:
    with network.executor.session(node.namespace) as session:
        return session.links()


def tables_of(node: NetworkNode) -> tuple[list[str], list[str]]:
    """The node's neighbours and routes to Pods, sorted, because the kernel's order varies."""
    neighbours, routes = node.inside.ip("neigh"), node.inside.ip("route", "show", "table", "500")
    return sorted(neighbours.splitlines()), sorted(routes.splitlines())


def leftovers_of(pod_veth: int, text: str) -> tuple[PlanStep, ...]:
    """A route and a neighbour entry of a Pod's address on the node."""
    address = parse_address(text)
    route = KernelRoute(host_prefix(address), pod_veth, table=500, scope=RT_SCOPE_LINK)
    return neighbour_step(Neighbour(pod_veth, address, bytes(5) + b"\x01")), route_step(route)


async def test_attachments_of_pods_that_ended_while_no_agent_ran_are_removed(
    network: NetworkHarness,
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
) -> None:
    deleted, without_net1 = (
        network.pod(network_node, name) for name in ("deleted", "without_net1")
    )
    deleted.macvlan("eth0", "10.6.0.102/24")
    without_net1.macvlan("eth0", "10.6.0.103/24")
    for pod in (network_pod, deleted, without_net1):
        await coordinator_handler.handle_add(call(pod), NO_SETTINGS)
    without_net1.macvlan("net1", "10.7.0.103/24")
    default = read_settings({"podDefaultRouteNic": "net1"})
    await coordinator_handler.handle_add(call(without_net1, interface="net1"), default)

    deleted.inside.delete()
    network_node.wait_until_deleted(deleted.host_veth_name)
    without_net1.inside.ip("link", "delete", "net1")

    assert await coordinator_handler.remove_stale() == 2
    attachments = {(record.container, record.interface) for record in network_node.records.all()}
    assert attachments == {(network_pod.container, "eth0"), (without_net1.container, "eth0")}
    routes = without_net1.inside.ip("route")
    assert "default via 10.6.0.1 dev eth0" in routes, "eth0 has the default route again"
    assert (network_pod.check(), without_net1.check()) == ([], [])
    assert await coordinator_handler.remove_stale() == 0


async def test_a_namespace_that_the_agent_cannot_see_does_not_count_as_deleted(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    """If a mount is missing after an upgrade, the Pods must keep their veth pairs."""
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    (record,) = network_node.records.all()
    network_node.records.put(structs.replace(record, netns="/run/netns/owt-not-seen-from-here"))

    assert await coordinator_handler.remove_stale() == 0
    assert network_pod.pings(network_node.addresses[0])


async def test_gc_without_a_list_of_valid_attachments_is_refused(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    with pytest.raises(CniFailure, match="valid-attachments is missing"):
        await coordinator_handler.handle_gc(Call("GC", NetConf(cni_version="1.1.0", name="lab")))


async def test_calls_of_one_container_do_not_overlap(
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = 0
    running_max = 0
    guard = threading.Lock()
    detach = network_node.engine.detach

    def detach_and_count(*arguments: Any) -> bool:
        nonlocal running, running_max
        with guard:
            running += 1
            running_max = max(running_max, running)
        try:
            return detach(*arguments)
        finally:
            with guard:
                running -= 1

    monkeypatch.setattr(network_node.engine, "detach", detach_and_count)
    calls = (
        coordinator_handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS) for _ in range(16)
    )
    await asyncio.gather(*calls)
    assert running_max == 1
    assert coordinator_handler._container_locks._locks == {}


async def test_queued_calls_of_one_container_delay_no_other_container(
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = threading.Event()  # ends the slow detachments

    def detach_slowly_if_stuck(attachment: Attachment, first_nic: str) -> bool:
        return attachment.container != "stuck" or slow.wait(30.0)

    monkeypatch.setattr(network_node.engine, "detach", detach_slowly_if_stuck)
    plain = call(network_pod, "DEL")
    stuck_call = plain._replace(attachment=plain.attachment._replace(container="stuck"))
    waiting = [
        asyncio.create_task(coordinator_handler.handle_delete(stuck_call, NO_SETTINGS))
        for _ in range(2 * COORDINATOR_THREADS)
    ]
    await asyncio.sleep(0)
    async with asyncio.timeout(20.0):
        assert await coordinator_handler.handle_delete(call(network_pod, "DEL"), NO_SETTINGS)

    waiting[0].cancel()
    await asyncio.gather(waiting[0], return_exceptions=True)
    done_early = [task.done() for task in waiting[1:]]
    slow.set()
    assert await asyncio.gather(*waiting[1:]) == [True] * (2 * COORDINATOR_THREADS - 1)
    assert not any(done_early), "the thread of the cancelled call still has the container's lock"


async def test_records_that_cannot_be_read_raise_a_datapath_error(
    coordinator_handler: CoordinatorHandler,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable() -> None:
        raise OSError(EMFILE, "Too many open files")

    monkeypatch.setattr(network_node.records, "all", unreadable)
    with pytest.raises(DatapathError, match="Too many open files"):
        await coordinator_handler.remove_stale()
    with pytest.raises(DatapathError, match="Too many open files"):
        await coordinator_handler.handle_gc(gc_call())
