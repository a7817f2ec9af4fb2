"""The agent's handler of the coordinator: settings, GC, and concurrent calls.

``network_pod`` has 10.6.0.101 and fd00:6::101; ``network_node`` has 10.6.0.11 and fd00:6::11.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from errno import EMFILE

import pytest
from msgspec import structs

from core.domain.addresses.ip_address import parse_address
from core.domain.model import Attachment
from core.errors import BadInput, DatapathError, NetlinkLost, NotReady
from nodeagent.cni_protocol.cni_call import Call
from nodeagent.cni_protocol.failures import CniFailure
from nodeagent.cni_protocol.netconf import NetConf
from nodeagent.conflict_detection.detector import DetectionSwitches
from nodeagent.coordinator.attachment_steps import (
    AttachmentPlan,
    PlanStep,
    neighbour_step,
    route_step,
)
from nodeagent.coordinator.settings import ConfiguredSettings, UnparsedSettings, read_settings
from nodeagent.handlers.coordinator_handler import CoordinatorHandler
from nodeagent.handlers.missing_attachments import MISSING_S_MIN
from nodeagent.netlink.numbers import RT_SCOPE_LINK
from nodeagent.netlink.values import KernelRoute, Link, Neighbour, host_prefix
from tests.nodeagent.handlers.coordinator_harness import (
    Clock,
    UnsyncedDefaults,
    call,
    gc_call,
    handler_with,
)
from tests.support.network_harness import NetworkHarness, NetworkNode, NetworkPod, batch

pytestmark = pytest.mark.netns

NO_SETTINGS = UnparsedSettings()
DISABLED = read_settings({"mode": "disabled"})
LEFTOVER_COUNT = 1_000
MISSING_IFINDEX = 1_000_000
"""No link has this index or a higher one."""


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


async def test_cluster_settings_apply_if_the_network_configuration_has_none(
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


async def test_coordinator_mode_disabled_changes_nothing(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    assert await coordinator_handler.handle_add(call(network_pod), DISABLED) is None
    assert not await coordinator_handler.handle_delete(call(network_pod, "DEL"), DISABLED)
    await coordinator_handler.handle_check(call(network_pod, "CHECK"), DISABLED)
    assert "veth0" not in network_pod.inside.ip("link")


async def test_a_del_in_mode_disabled_reverts_an_add_in_an_earlier_mode(
    network_node: NetworkNode, coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    links_before = network_node.inside.ip("-brief", "link")
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    assert await coordinator_handler.handle_delete(call(network_pod, "DEL"), DISABLED)
    assert list(network_node.records.all()) == []
    assert network_node.inside.ip("-brief", "link") == links_before


async def test_a_cluster_that_is_not_ready_blocks_adds_but_not_dels(
    network: NetworkHarness,
    network_node: NetworkNode,
    network_pod: NetworkPod,
    clock: Clock,
    coordinator_handler: CoordinatorHandler,
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    unsynced = handler_with(network, network_node, clock, cluster=UnsyncedDefaults())
    with pytest.raises(NotReady, match="no ready"):
        await unsynced.handle_add(call(network_pod), NO_SETTINGS)
    assert unsynced.fault() is not None
    assert coordinator_handler.fault() is None
    assert await unsynced.handle_delete(call(network_pod, "DEL"), NO_SETTINGS)
    await asyncio.to_thread(unsynced.close)


async def test_a_del_succeeds_with_invalid_settings(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    broken = read_settings({"hijackCIDR": ["nonsense"]})
    with pytest.raises(BadInput):
        await coordinator_handler.handle_add(call(network_pod), broken)
    assert await coordinator_handler.handle_delete(call(network_pod, "DEL"), broken)


async def test_gc_detaches_a_pod_that_stays_missing_for_missing_s_min(
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
    clock: Clock,
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    assert (await coordinator_handler.handle_gc(gc_call(network_pod))).missing == 0
    for _ in range(2):  # the second GC runs less than MISSING_S_MIN after the first
        gc_result = await coordinator_handler.handle_gc(gc_call())
        assert (gc_result.removed, gc_result.missing) == ((), 1)
    clock.now += MISSING_S_MIN
    gc_result = await coordinator_handler.handle_gc(gc_call())
    assert gc_result.removed == (f"{network_pod.container}/eth0",)
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
    stuck_container, other_container = sorted((network_pod.container, second.container))
    detach = network_node.engine.detach

    def detach_unless_stuck(attachment: Attachment, first_nic: str) -> bool:
        if attachment.container == stuck_container:
            raise NetlinkLost("netlink: 1 of 1 answers did not arrive")
        return detach(attachment, first_nic)

    monkeypatch.setattr(network_node.engine, "detach", detach_unless_stuck)
    with pytest.raises(
        CniFailure, match=f"GC failed for 1 attachment: {stuck_container}/eth0: netlink"
    ):
        await coordinator_handler.handle_gc(gc_call())
    assert [record.container for record in network_node.records.all()] == [stuck_container], (
        f"{other_container} is detached"
    )


async def test_gc_removes_a_thousand_leftovers_of_a_crashed_node(
    network: NetworkHarness,
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    (living_pod_record,) = network_node.records.all()
    # Routes and neighbours of deleted Pods remain on a link of another CNI plugin.
    batch(network_node.inside, "link add cali-left type veth peer left", "link set cali-left up")
    (link_index,) = (
        link.ifindex for link in links_of(network, network_node) if link.name == "cali-left"
    )
    tables_before = tables_of(network_node)
    for number in range(LEFTOVER_COUNT):
        steps = leftover_steps(link_index, f"10.9.{number // 200}.{number % 200 + 1}")
        with network.executor.session(network_node.namespace) as session:
            session.apply([step.do for step in steps])
        network_node.records.put(
            structs.replace(
                living_pod_record,
                container=f"{number:064x}",
                netns=f"/run/netns/owt-deleted-{number}",
                host_veth=MISSING_IFINDEX + number,
                plan=AttachmentPlan((), steps, {}),
            )
        )
    host_routes = network_node.inside.ip("route", "show", "table", "500").splitlines()
    assert len(host_routes) == LEFTOVER_COUNT + 1, "the leftovers and the living Pod"
    result = await coordinator_handler.handle_gc(gc_call(network_pod))
    assert len(result.removed) == LEFTOVER_COUNT
    assert list(network_node.records.all()) == [living_pod_record]
    assert tables_of(network_node) == tables_before
    assert network_pod.check() == []


def links_of(network: NetworkHarness, node: NetworkNode) -> list[Link]:
    with network.executor.session(node.namespace) as session:
        return session.links()


def tables_of(node: NetworkNode) -> tuple[list[str], list[str]]:
    """The node's neighbours and Pod routes, sorted because the kernel's order varies."""
    neighbours, routes = node.inside.ip("neigh"), node.inside.ip("route", "show", "table", "500")
    return sorted(neighbours.splitlines()), sorted(routes.splitlines())


def leftover_steps(link_index: int, text: str) -> tuple[PlanStep, ...]:
    """Steps that add a neighbour and a route for a Pod's address."""
    address = parse_address(text)
    route = KernelRoute(host_prefix(address), link_index, table=500, scope=RT_SCOPE_LINK)
    return neighbour_step(Neighbour(link_index, address, bytes(5) + b"\x01")), route_step(route)


async def test_remove_stale_detaches_deleted_pods_and_deleted_nics(
    network: NetworkHarness,
    coordinator_handler: CoordinatorHandler,
    network_pod: NetworkPod,
    network_node: NetworkNode,
) -> None:
    deleted_pod, pod_without_net1 = (
        network.pod(network_node, name) for name in ("deleted", "without_net1")
    )
    deleted_pod.macvlan("eth0", "10.6.0.102/24")
    pod_without_net1.macvlan("eth0", "10.6.0.103/24")
    for pod in (network_pod, deleted_pod, pod_without_net1):
        await coordinator_handler.handle_add(call(pod), NO_SETTINGS)
    pod_without_net1.macvlan("net1", "10.7.0.103/24")
    default = read_settings({"podDefaultRouteNic": "net1"})
    await coordinator_handler.handle_add(call(pod_without_net1, interface="net1"), default)

    deleted_pod.inside.delete()
    network_node.wait_until_deleted(deleted_pod.host_veth_name)
    pod_without_net1.inside.ip("link", "delete", "net1")

    assert await coordinator_handler.remove_stale() == 2
    attachments = {(record.container, record.interface) for record in network_node.records.all()}
    assert attachments == {(network_pod.container, "eth0"), (pod_without_net1.container, "eth0")}
    routes = pod_without_net1.inside.ip("route")
    assert "default via 10.6.0.1 dev eth0" in routes, "eth0 has the default route again"
    assert (network_pod.check(), pod_without_net1.check()) == ([], [])
    assert await coordinator_handler.remove_stale() == 0


async def test_remove_stale_keeps_a_pod_whose_namespace_is_not_visible(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod, network_node: NetworkNode
) -> None:
    """If a mount is missing after an upgrade, Pods must keep their veth pairs."""
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    (record,) = network_node.records.all()
    network_node.records.put(structs.replace(record, netns="/run/netns/owt-not-seen-from-here"))

    assert await coordinator_handler.remove_stale() == 0
    assert network_pod.pings(network_node.addresses[0])


async def test_gc_is_refused_without_a_list_of_valid_attachments(
    coordinator_handler: CoordinatorHandler, network_pod: NetworkPod
) -> None:
    await coordinator_handler.handle_add(call(network_pod), NO_SETTINGS)
    with pytest.raises(CniFailure, match="valid-attachments is missing"):
        await coordinator_handler.handle_gc(Call("GC", NetConf(cni_version="1.1.0", name="lab")))


async def test_records_that_cannot_be_read_raise_a_datapath_error(
    coordinator_handler: CoordinatorHandler,
    network_node: NetworkNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail_to_read() -> None:
        raise OSError(EMFILE, "Too many open files")

    monkeypatch.setattr(network_node.records, "all", fail_to_read)
    with pytest.raises(DatapathError, match="Too many open files"):
        await coordinator_handler.remove_stale()
    with pytest.raises(DatapathError, match="Too many open files"):
        await coordinator_handler.handle_gc(gc_call())
