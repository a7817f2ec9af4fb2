"""Decides mode and routing table of a NIC (docs/reference/coordinator.md, "Modes"). Pure."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from core.errors import BadInput
from nodeagent.coordinator.network_stacks import POD_VETH, PodStack
from nodeagent.coordinator.settings import CoordinatorSettings

Mode = Literal["underlay", "overlay"]

REPLY_TABLE: Final = 100
"""Underlay: the table for replies through veth0. Overlay: the table with a copy of the first NIC's
default route.
"""

FIRST_TABLE: Final = 101
"""In underlay mode, eth0 and net1 both use this table; a rule selects it only for net1."""

_UNDERLAY_BASE: Final = 98
"""Add the number of the Pod's broadcast links to get the table of a further NIC: with eth0, veth0
and net1, the table of net1 is 98 + 3."""

_OVERLAY_BASE: Final = 99
"""With eth0, net1 and net2, the table of net2 is 99 + 3."""

_LINKS_AT_FIRST_OVERLAY_NIC: Final = 2
"""The NIC of the cluster's CNI plugin, and the NIC of this call."""


class NicSetup(NamedTuple):
    """The set-up of one NIC. ``first``: whether it is the Pod's first NIC in this mode."""

    mode: Mode
    first: bool
    table: int


def decide_nic_setup(settings: CoordinatorSettings, pod: PodStack) -> NicSetup:
    """The set-up of the NIC of this call. Raises BadInput if the mode does not fit the Pod."""
    name = pod.interface.name
    is_first_nic = name == settings.first_nic
    has_veth = pod.link(POD_VETH) is not None
    mode = settings.mode
    if mode == "auto":
        mode = "underlay" if is_first_nic or has_veth else "overlay"
    broadcast_links = sum(link.broadcasts for link in pod.links)
    if mode == "underlay":
        if not is_first_nic and not has_veth:
            raise _invalid_mode(
                f"{name} cannot run in underlay mode: the auxiliary interface {POD_VETH} of the Pod"
                f" was not created by previous interface {settings.first_nic}",
                "set mode auto, or run the coordinator in underlay mode for the first NIC",
            )
        table = FIRST_TABLE if is_first_nic else _UNDERLAY_BASE + broadcast_links
        return NicSetup("underlay", is_first_nic, table)
    if is_first_nic:
        raise _invalid_mode(
            f"overlay mode must not be used on the first NIC {name}",
            "set mode auto or underlay for the network of the first NIC",
        )
    if has_veth:
        raise _invalid_mode(
            f"{name} cannot run in overlay mode: a previous NIC ran in underlay mode ({POD_VETH}"
            " exists)",
            "set the same mode for all networks of a Pod, or auto",
        )
    first = broadcast_links == _LINKS_AT_FIRST_OVERLAY_NIC
    return NicSetup("overlay", first, FIRST_TABLE if first else _OVERLAY_BASE + broadcast_links)


def _invalid_mode(why: str, remedy: str) -> BadInput:
    return BadInput(f"mode: {why}", subject="mode", remedy=remedy)
