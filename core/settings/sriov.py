"""``orbweaver.sriov`` of conf.yml: virtual functions that SriovNetworkNodePolicies define."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from core.domain.slots import RESOURCE_GROUP, resource_fault
from core.errors import BadInput
from core.settings.device_plugin import KUBELET_DIRECTORY, kubelet_directory

NODES_MAX: Final = 1_000

_KEY: Final = "orbweaver.sriov"


class SriovConf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The keys under ``orbweaver.sriov``."""

    enabled: bool = False
    resource_prefix: str = RESOURCE_GROUP
    node_selector: dict[str, str] = {}
    drain: bool = True
    max_unavailable: Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)] = 1


class SriovSettings(NamedTuple):
    """The checked settings. ``nodes``: policies apply only to nodes with these labels.

    ``drain``: whether nodes are drained before used virtual functions are removed; if False, the
    removal waits for the end of the Pods. ``max_unavailable``: the most nodes drained at a time.
    """

    resource_prefix: str = RESOURCE_GROUP
    nodes: Mapping[str, str] = {}
    drain: bool = True
    max_unavailable: int = 1
    kubelet: Path = Path(KUBELET_DIRECTORY)

    @property
    def drained_nodes_max(self) -> int:
        """``max_unavailable``; 0 without ``drain``: nodes cordoned for a drain are uncordoned."""
        return self.max_unavailable if self.drain else 0


def sriov_settings(conf: SriovConf, kubelet_root: str = "") -> SriovSettings | None:
    """The settings; None if virtual functions are not managed. Raises BadInput.

    ``kubelet_root``: ``agent.networkResourcePlugin.kubeletRootDir``.
    """
    if not conf.enabled:
        return None
    # Only the prefix is checked: policies name the resources, and "vf" is an example.
    if fault := resource_fault(f"{conf.resource_prefix}/vf"):
        raise BadInput(
            f"{_KEY}.resourcePrefix {conf.resource_prefix!r} cannot be used: {fault}",
            subject=f"{_KEY}.resourcePrefix",
            remedy=f"set it to a domain, such as {RESOURCE_GROUP}",
        )
    return SriovSettings(
        conf.resource_prefix,
        conf.node_selector,
        conf.drain,
        conf.max_unavailable,
        kubelet_directory(kubelet_root),
    )
