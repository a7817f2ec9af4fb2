"""Scripts of ADDs, DELs and configuration changes, with recorded outputs.

Each file in ``scripts/`` runs on a new memory store. A line that begins with "> " calls a method
of ``AllocationHarness``; the output follows. ``ORBWEAVER_REWRITE=1`` rewrites the outputs.
The option ``box`` names the sandbox. The options ``pools`` and ``nics`` set the Pod's annotations
``ippool`` and ``ippools``.
"""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path

import pytest

from core.allocation.allocator import AllocatorSettings
from core.allocation.refusal_recorder import RefusalRecorder
from core.domain.configuration.commands import (
    ApplyReservation,
    DeletePool,
    DeleteReservation,
    LiftQuarantine,
    QuarantineAddress,
    RetirePool,
)
from core.domain.events import AddressesClaimed, AllocationRefused, Cause
from core.domain.model import FixedKind, Reservation
from core.domain.request_facts import PodFacts
from core.domain.selection.error_texts import describe_verdicts
from core.domain.selection.selection_request import CandidateVerdict
from core.errors import AllocationError, OrbweaverError
from core.eventstore.memory_store import MemoryStore
from tests.support.node_harness import NodeHarness, check_everything, pod, pool

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
IPPOOL = "ipam.spidernet.io/ippool"
IPPOOLS = "ipam.spidernet.io/ippools"


class AllocationHarness:
    """Runs the commands of a script; creates a node when a command first names it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.nodes: dict[str, NodeHarness] = {}
        self.recorders: dict[str, RefusalRecorder] = {}
        self.now_s = 0.0

    async def execute(self, line: str) -> str:
        verb, *words = shlex.split(line)
        options = dict(word.split("=", 1) for word in words if "=" in word)
        arguments = [word for word in words if "=" not in word]
        try:
            answer: str = await getattr(self, verb)(*arguments, **options)
        except OrbweaverError as error:
            answer = f"{type(error).__name__}: {error}"
        return answer

    async def node(self, name: str) -> NodeHarness:
        if name not in self.nodes:
            settings = AllocatorSettings(order="sequential")
            node = NodeHarness(self.store, name, settings=settings, cool_down_s=0)
            self.nodes[name] = await node.__aenter__()
        await self.nodes[name].view.freshen()
        return self.nodes[name]

    async def add(
        self,
        name: str,
        interface: str = "eth0",
        *,
        node: str = "node-a",
        box: str = "",
        **options: str,
    ) -> str:
        agent, facts = await self.node(node), pod_facts(name, **options)
        try:
            added = await agent.add(facts, interface, container=box)
        except AllocationError as error:
            recorder = self.recorders.setdefault(
                node, RefusalRecorder(agent.writer, lambda: self.now_s)
            )
            recorder.note(facts._replace(node=node), interface, error, Cause("agent"))
            raise
        # A NIC has no interface name before its own ADD.
        nics = [
            f"{nic.interface or '(open)'} {' '.join(filter(None, (nic.ipv4, nic.ipv6)))}"
            for nic in added.endpoint.nics
        ]
        return f"{'claimed' if added.fresh else 'has'} " + ", ".join(nics)

    async def delete(
        self,
        name: str,
        interface: str = "eth0",
        *,
        node: str = "node-a",
        box: str = "",
        **options: str,
    ) -> str:
        released = await (await self.node(node)).delete(
            pod_facts(name, **options), interface, container=box
        )
        return f"released {' '.join(released.addresses) or 'nothing'}: {released.why}"

    async def pool(self, name: str, *ips: str, **options: str) -> str:
        desired = pool(name, *ips, default=options.pop("default", "yes") == "yes")
        return await self.command(desired._replace(disabled=options.pop("disabled", "no") == "yes"))

    async def retire(self, name: str) -> str:
        return await self.command(RetirePool(name))

    async def drop(self, name: str) -> str:
        return await self.command(DeletePool(name))

    async def reserve(self, name: str, *ips: str) -> str:
        return await self.command(ApplyReservation(Reservation(name, 4, ips)))

    async def unreserve(self, name: str) -> str:
        return await self.command(DeleteReservation(name))

    async def quarantine(self, address: str) -> str:
        return await self.command(QuarantineAddress(address, reason="another host answers"))

    async def lift(self, address: str) -> str:
        return await self.command(LiftQuarantine(address))

    async def restart(self, name: str) -> str:
        older = self.nodes.pop(name)
        await older.view.close()
        return f"epoch {(await self.node(name)).writer.epoch}"

    async def why(self, name: str) -> str:
        """Return the source of the last claim's pools, and the pools passed over."""
        claims = [
            recorded.event
            for recorded in await (await self.node("operator")).log()
            if isinstance(recorded.event, AddressesClaimed) and recorded.event.endpoint.name == name
        ]
        verdicts = map(CandidateVerdict.from_short, claims[-1].passed_over)
        return "\n".join([f"from {claims[-1].source or '-'}", *describe_verdicts(verdicts)])

    async def wait(self, seconds: str) -> str:
        self.now_s += float(seconds)
        return f"{self.now_s:g} s"

    async def refusals(self) -> str:
        """Return the refused ADDs in the log, with the verdict on each pool."""
        for recorder in self.recorders.values():
            await recorder.write_due()
        node = await self.node("operator")
        await check_everything(node)
        lines: list[str] = []
        for event in (recorded.event for recorded in await node.log()):
            if isinstance(event, AllocationRefused):
                nic = f"{event.namespace}/{event.name} {event.interface} on {event.node}"
                lines.append(f"{nic}: {event.times} x {event.reason} from {event.source or '-'}")
                lines += describe_verdicts(map(CandidateVerdict.from_short, event.verdicts))
        return "\n".join(lines) or "none"

    async def claims(self) -> str:
        state = await check_everything(await self.node("operator"))
        lines = [
            f"{address} {revised.claim.pool} {revised.claim.holder}"
            for address, revised in sorted(state.claims.items())
        ]
        return "\n".join(lines) or "none"

    async def command(self, command: object) -> str:
        (applied,) = await (await self.node("operator")).apply(command)  # type: ignore[arg-type]
        return ", ".join(type(event).__name__ for event in applied.events) or "unchanged"

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.__aexit__(None, None, None)


def pod_facts(
    name: str, *, uid: str = "", pools: str = "", nics: str = "", fixed: str = ""
) -> PodFacts:
    annotations = {IPPOOL: pools} if pools else {}
    if nics:
        annotations[IPPOOLS] = nics
    kind: FixedKind | None = "statefulset" if fixed == "statefulset" else None
    return pod(name, uid, annotations=annotations, fixed=kind)


def commands_of(text: str) -> list[str]:
    return [line[2:] for line in text.splitlines() if line.startswith("> ")]


async def output_of(text: str) -> str:
    harness = AllocationHarness()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            lines.append(line)
        elif line.startswith("> "):
            lines += [line, *(await harness.execute(line[2:])).splitlines()]
    await harness.close()
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_allocation_script_gives_its_recorded_output(script: Path) -> None:
    expected = script.read_text()
    assert commands_of(expected), "expected a script with commands"

    actual = asyncio.run(output_of(expected))

    if os.environ.get("ORBWEAVER_REWRITE"):
        script.write_text(actual)
    assert actual == expected
