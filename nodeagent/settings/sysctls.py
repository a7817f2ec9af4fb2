"""Sets sysctls of the node when the agent starts (docs/reference/coordinator.md, "Sysctls").

A key that the kernel does not have is skipped with a warning. The agent does not restore the old
values.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace, read_sysctl, write_sysctls

NEIGHBOURS_MAX: Final = "28160"


class Sysctl(NamedTuple):
    """The value that a key below /proc/sys gets, if one of ``families`` is enabled."""

    key: str
    value: str
    families: tuple[Family, ...]


NODE_SYSCTLS: Final = (
    Sysctl("net/ipv4/neigh/default/gc_thresh3", NEIGHBOURS_MAX, (4,)),
    Sysctl("net/ipv6/neigh/default/gc_thresh3", NEIGHBOURS_MAX, (6,)),
    Sysctl("net/ipv4/conf/all/arp_notify", "1", (4,)),
    Sysctl("net/ipv4/conf/all/forwarding", "1", (4,)),
    Sysctl("net/ipv6/conf/all/forwarding", "1", (6,)),
    Sysctl("net/ipv4/conf/all/rp_filter", "0", (4, 6)),
)

_log: Final = logging.getLogger(__name__)


class SysctlReading(NamedTuple):
    """A sysctl. ``current``: the kernel's value; None if the kernel does not have the key."""

    sysctl: Sysctl
    current: str | None

    @property
    def needs_change(self) -> bool:
        """Whether the kernel has the key with another value."""
        return self.current not in (None, self.sysctl.value)


def set_node_sysctls(
    executor: NetnsExecutor, namespace: NetworkNamespace, families: tuple[Family, ...]
) -> None:
    """Set the keys whose values differ. Raises DatapathError."""
    readings = read_node_sysctls(executor, namespace, families)
    for reading in readings:
        if reading.current is None:
            _log.warning("skipped sysctl %s: the kernel does not have it", reading.sysctl.key)
    changes = {
        reading.sysctl.key: reading.sysctl.value for reading in readings if reading.needs_change
    }
    write_sysctls(executor, namespace, values=changes)
    for key, value in changes.items():
        _log.info("set sysctl %s to %s", key, value)


def read_node_sysctls(
    executor: NetnsExecutor, namespace: NetworkNamespace, families: tuple[Family, ...]
) -> list[SysctlReading]:
    """The current values of the keys of these families. Raises DatapathError."""
    return [
        SysctlReading(sysctl, read_sysctl(executor, namespace, sysctl.key))
        for sysctl in NODE_SYSCTLS
        if set(sysctl.families) & set(families)
    ]
