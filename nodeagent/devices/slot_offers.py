"""Offers the slots of a node as extended resources. conf.yml has the rules.

Slots limit how many Pods use a node's NICs (docs/how-to/limit-pods-by-nic.md). A slot has no file
in /dev.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from core.domain.device_allocation import Offer
from core.domain.slots import DeviceRules, HostNic, offered_slots
from nodeagent.netlink.namespaces import NetnsExecutor

NET_CLASS: Final = Path("/sys/class/net")


class NodeView(NamedTuple):
    """The node's labels (None: not known yet) and its NICs.

    ``nics`` may block, and raises DatapathError or OSError.
    """

    labels: Callable[[], Mapping[str, str] | None]
    nics: Callable[[], list[HostNic]]


class SlotSource(NamedTuple):
    """The source of a node's slots."""

    rules: DeviceRules
    node_view: NodeView

    @property
    def name(self) -> str:
        return "the slots of this node"

    async def read(self) -> dict[str, Offer] | None:
        """Slots by resource; None if the rules need node labels that are not known yet.

        Raises DatapathError, OSError.
        """
        nics = await asyncio.to_thread(self.node_view.nics)
        slots = offered_slots(self.rules, self.node_view.labels(), nics)
        return None if slots is None else dict(slots)


def host_nics(executor: NetnsExecutor, net_class: Path = NET_CLASS) -> list[HostNic]:
    """Every link, with or without hardware. Raises DatapathError, OSError."""
    with executor.session(executor.own_namespace) as session:
        return [
            HostNic(
                link.name,
                has_device=(net_class / link.name / "device").exists(),
                is_loopback=link.loopback,
            )
            for link in session.links()
        ]
