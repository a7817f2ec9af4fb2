"""A console of a small cluster: two nodes, three pools, and two hours of events.

The simulated clock stops after the last event, so that a released address stays in its cool-down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from core.allocation.refusal_recorder import RefusalRecorder
from core.allocation.releaser import ReleaseRequest
from core.domain.claims.claim_decisions import decide_release
from core.domain.configuration.commands import ApplyRecord, ApplyReservation, QuarantineAddress
from core.domain.coordinators import COORDINATOR_KIND, Coordinator
from core.domain.events import Cause, RecordDefined
from core.domain.model import Attachment, Reservation
from core.domain.request_facts import PodFacts
from core.domain.selection.selection_request import SelectionRequest
from core.errors import AllocationError
from core.eventstore.kv import KeyValueStore
from core.process.tcp_port import TcpPort
from ops.console.access import ConsoleAccess
from ops.console.console_data import ConsoleSource
from ops.console.web_server import ACCESS_RECHECK_S, CONNECTIONS_MAX, ConsoleServer
from ops.console.workflow_actions import WorkflowActions
from tests.support.node_harness import TEST_CAUSE, NodeHarness, pod, pool

START_MS: Final = 1_767_268_800_000
"""2026-01-01 12:00:00 UTC."""

MINUTE_MS: Final = 60_000
HELD_ADDRESS: Final = "10.6.0.17"
"""web-1 holds this address from 12:02 to 12:05, and web-0 holds it from 12:10 on."""

COOLING_ADDRESS: Final = "10.6.0.23"
"""The last free address of pool ``lan``; web-3 holds it from 13:00 to 14:00."""

RELEASE_TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
"""The trace id of the release of ``COOLING_ADDRESS``; no other event has a trace id."""

WIDE_REQUEST: Final = SelectionRequest("eth0", default_ipv4_pools=("wide",))
HOSTILE_TEXT: Final = "<img src=x onerror=alert(1)>"
"""The reason of a quarantine, which pages must show as text and not as HTML."""


class ConsoleHarness(NamedTuple):
    """A console and the nodes of its cluster."""

    url: str
    source: ConsoleSource
    node_a: NodeHarness
    node_b: NodeHarness


class _Clock:
    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms

    def set(self, minutes: float) -> None:
        self.now_ms = START_MS + int(minutes * MINUTE_MS)


@asynccontextmanager
async def running_console(
    store: KeyValueStore, cluster: str, archive: Path
) -> AsyncIterator[ConsoleHarness]:
    clock = _Clock()
    node_a, node_b = (NodeHarness(store, name, cluster=cluster) for name in ("node-a", "node-b"))
    for node in (node_a, node_b):
        node.writer._now_ms = clock
    async with node_a, node_b:
        await _write_events(clock, node_a, node_b)
        source = ConsoleSource(store, node_a.keys, archive, cluster=cluster, now_ms=clock)
        async with served_console(source) as url:
            yield ConsoleHarness(url, source, node_a, node_b)


@asynccontextmanager
async def served_console(
    source: ConsoleSource,
    access: ConsoleAccess | None = None,
    actions: WorkflowActions | None = None,
    *,
    recheck_s: float = ACCESS_RECHECK_S,
) -> AsyncIterator[str]:
    """Yield the URL of a console. Without ``access`` every client may read."""
    server = ConsoleServer(source, access, actions, recheck_s=recheck_s)
    port = TcpPort(server.app(), "console", CONNECTIONS_MAX)
    await port.open("127.0.0.1", 0, "--port")
    try:
        yield f"http://127.0.0.1:{port.port}/"
    finally:
        await server.close()
        await port.close()


async def _write_events(clock: _Clock, node_a: NodeHarness, node_b: NodeHarness) -> None:
    lan = pool("lan", HELD_ADDRESS)
    await node_a.apply(lan)
    await node_b.view.freshen()
    clock.set(2)
    await node_b.add(pod("web-1"))
    clock.set(5)
    await node_b.delete(pod("web-1"))
    clock.set(10)
    await node_a.add(pod("web-0"))
    clock.set(12)
    await _record_refusal(node_a, "web-9")  # web-0 has the only address
    clock.set(20)
    await node_a.apply(
        lan._replace(
            ips=(HELD_ADDRESS, "10.6.0.20-10.6.0.25"), exclude_ips=("10.6.0.24", "10.6.0.25")
        ),
        pool("wide", "10.7.0.0-10.7.255.255", subnet="10.7.0.0/16", default=False),
        pool("six", "fd00:6::-fd00:6::ffff:ffff:ffff:ffff", default=False),
        ApplyReservation(Reservation("printers", 4, ("10.6.0.20", "10.6.0.21"))),
        QuarantineAddress("10.6.0.22", HOSTILE_TEXT),
        ApplyRecord(_coordinator("auto")),
    )
    await node_b.view.freshen()
    clock.set(25)
    await node_a.apply(ApplyRecord(_coordinator("underlay")))
    clock.set(30)
    for number in range(4, 12):
        await node_b.add(pod(f"api-{number}"), request=WIDE_REQUEST)
    await node_a.add(pod("six-0"), request=SelectionRequest("eth0", default_ipv6_pools=("six",)))
    clock.set(60)
    await node_a.add(pod("web-3"))
    clock.set(120)
    await _release(node_a, pod("web-3"))
    clock.set(120.1)  # six seconds after the last event


def _coordinator(mode: str) -> RecordDefined:
    settings = {"mode": f'"{mode}"', "hijackCIDR": '["169.254.0.0/16"]', "podCIDRType": '"auto"'}
    coordinator = Coordinator(
        settings,
        phase="Synced",
        overlay_pod_cidr=("10.244.0.0/16",),
        service_cidr=("10.96.0.0/12",),
    )
    return RecordDefined(COORDINATOR_KIND, "", "default", coordinator=coordinator)


async def _release(node: NodeHarness, pod_facts: PodFacts) -> None:
    cause = Cause("agent/node-a", traceparent=f"00-{RELEASE_TRACE}-00f067aa0ba902b7-01")
    attachment = Attachment(f"box-{pod_facts.uid}", "eth0")
    await node.releaser.release(
        pod_facts.endpoint_key,
        lambda endpoint: decide_release(
            endpoint, attachment, pod_facts.uid, alive=None, validity=None
        ),
        ReleaseRequest("deleted", "CNI DEL", cause),
    )


async def _record_refusal(node: NodeHarness, name: str) -> None:
    recorder = RefusalRecorder(node.writer)
    with pytest.raises(AllocationError) as refused:
        await node.add(pod(name))
    recorder.note(pod(name), "eth0", refused.value, TEST_CAUSE)
    await recorder.write_due()
