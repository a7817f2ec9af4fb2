"""Slots as extended resources, by the rules of conf.yml (docs/how-to/limit-pods-by-nic.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.device_allocation import Offer
from core.domain.devices import DeviceRules, HostNic, offers
from nodeagent.netlink.namespaces import NetnsExecutor

LINKS: Final = Path("/sys/class/net")


class NodeView(NamedTuple):
    """The node's labels (None: not known yet) and its NICs.

    ``nics`` may block, and raises DatapathError or OSError.
    """

    labels: Callable[[], Mapping[str, str] | None]
    nics: Callable[[], list[HostNic]]


class SlotSource(NamedTuple):
    """Reads the slots that a node offers."""

    rules: DeviceRules
    node_view: NodeView

    @property
    def name(self) -> str:
        """What messages call it."""
        return "this node"

    async def read(self) -> dict[str, Offer] | None:
        """Resource -> slots; None if labels decide that are not known yet."""
        nics = await asyncio.to_thread(self.node_view.nics)
        slots = offers(self.rules, self.node_view.labels(), nics)
        return None if slots is None else dict(slots)


def host_nics(executor: NetnsExecutor, links: Path = LINKS) -> list[HostNic]:
    """Every link of the node, with or without a device in /sys. Raises DatapathError, OSError."""
    with executor.session(executor.home) as session:
        return [
            HostNic(link.name, (links / link.name / "device").exists(), link.loopback)
            for link in session.links()
        ]
