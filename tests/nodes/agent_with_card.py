"""The agent's daemon on a node with a simulated SR-IOV card.

    ORBWEAVER_SYSFS=DIRECTORY python -m tests.nodes.agent_with_card --config-path FILE

DIRECTORY is a simulated /sys that tests/nodes/card_node.py has written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeagent import main
from nodeagent.netlink.namespaces import NetnsExecutor
from nodeagent.sriov import node_hardware, sriov_setup
from tests.nodeagent.sriov.cards import Card

CARD_TREE: Final = "connectx-ethernet"
"""A file in tests/nodeagent/sriov/trees."""


def install_card() -> None:
    """Replace the agent's access to /sys and to virtual functions."""
    cards: list[Card] = []

    # The agent creates ``Sysfs`` before ``KernelVfLinks``; one card replaces both.
    def create_card(root: Path) -> Card:
        cards.append(Card(root, CARD_TREE))
        return cards[-1]

    def last_card(_: NetnsExecutor) -> Card:
        return cards[-1]

    setattr(sriov_setup, "Sysfs", create_card)  # noqa: B010  # mypy: Sysfs is a class
    setattr(node_hardware, "KernelVfLinks", last_card)  # noqa: B010  # mypy: a class too


if __name__ == "__main__":
    install_card()
    main.main()
