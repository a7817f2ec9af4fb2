"""The agent's daemon on a node whose /sys is a written card, with the card's kernel in the process.

    ORBWEAVER_SYSFS=DIRECTORY python -m tests.nodes.agent_with_card --config-path FILE

Only writes to /sys and the netlink of virtual functions are replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeagent import main
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov import node_hardware, sriov_setup
from tests.nodeagent.sriov.cards import Card

TREE: Final = "connectx-ethernet"


def with_card() -> None:
    """Let the agent of this process find the card."""
    cards: list[Card] = []

    def sysfs(root: Path) -> Card:
        cards.append(Card(root, TREE))
        return cards[-1]

    def links(_: NetnsExecutor) -> Card:
        return cards[-1]

    setattr(sriov_setup, "Sysfs", sysfs)  # noqa: B010  # a class
    setattr(node_hardware, "KernelVfLinks", links)  # noqa: B010  # a class


if __name__ == "__main__":
    with_card()
    main.main()
