"""The node's sysctls, set at the agent's start if that is enabled.

See docs/reference/coordinator.md, "Sysctls".

Only the keys of this table are set, each if its address family is enabled. A key that the kernel
does not have is skipped with a warning; one that cannot be written fails the start. Values are not
restored later.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace, read_sysctl, write_sysctls

NEIGHBOURS_MAX: Final = "28160"
"""Neighbour entries of the kernel: a node with many Pods on flat networks has thousands."""


class Sysctl(NamedTuple):
    """A key below /proc/sys, its value, and the address families that need it."""

    key: str
    value: str
    families: tuple[Family, ...]


WANTED: Final = (
    Sysctl("net/ipv4/neigh/default/gc_thresh3", NEIGHBOURS_MAX, (4,)),
    Sysctl("net/ipv6/neigh/default/gc_thresh3", NEIGHBOURS_MAX, (6,)),
    Sysctl("net/ipv4/conf/all/arp_notify", "1", (4,)),
    Sysctl("net/ipv4/conf/all/forwarding", "1", (4,)),
    Sysctl("net/ipv6/conf/all/forwarding", "1", (6,)),
    Sysctl("net/ipv4/conf/all/rp_filter", "0", (4, 6)),
)

_log: Final = logging.getLogger(__name__)


class SysctlValue(NamedTuple):
    """A key with its current value; ``found`` None if the kernel does not have the key."""

    wanted: Sysctl
    found: str | None

    @property
    def is_right(self) -> bool:
        """Whether it needs no change."""
        return self.found in (None, self.wanted.value)


def tune(
    executor: NetnsExecutor, namespace: NetworkNamespace, families: tuple[Family, ...]
) -> None:
    """Set the keys that differ. Raises DatapathError with the key that cannot be written."""
    readings = read(executor, namespace, families)
    for reading in readings:
        if reading.found is None:
            _log.warning("skipped sysctl %s: the kernel does not have it", reading.wanted.key)
    changes = {
        reading.wanted.key: reading.wanted.value for reading in readings if not reading.is_right
    }
    write_sysctls(executor, namespace, values=changes)
    for key, value in changes.items():
        _log.info("set sysctl %s to %s", key, value)


def read(
    executor: NetnsExecutor, namespace: NetworkNamespace, families: tuple[Family, ...]
) -> list[SysctlValue]:
    """The current values of the keys of these families. Raises DatapathError and its kinds."""
    return [
        SysctlValue(sysctl, read_sysctl(executor, namespace, sysctl.key))
        for sysctl in WANTED
        if set(sysctl.families) & set(families)
    ]
