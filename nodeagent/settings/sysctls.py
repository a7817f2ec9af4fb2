"""Sysctls of the node: set at the agent's start where that is switched on.

See docs/reference/coordinator.md, "Sysctls".

Promise: only keys of this table, each if its family is enabled; a key that the kernel does not have
is skipped with a warning, one that cannot be written ends the start. Nothing is put back later.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from core.domain.addresses.ip_address import Family
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace, read_sysctl, write_sysctls

NEIGHBOURS_MAX: Final = "28160"
"""Neighbours the kernel remembers: a node with many Pods on flat networks sees thousands."""


class Sysctl(NamedTuple):
    """A key below /proc/sys, the value it shall have, and the families that want it."""

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
    """A key as it is: ``found`` None where the kernel has no such key."""

    wanted: Sysctl
    found: str | None

    @property
    def is_right(self) -> bool:
        """Whether nothing has to be done."""
        return self.found in (None, self.wanted.value)


def tune(
    executor: NetnsExecutor, namespace: NetworkNamespace, families: tuple[Family, ...]
) -> None:
    """Set what is not as it shall be. Raises DatapathError with the key that cannot be written."""
    readings = read(executor, namespace, families)
    for reading in readings:
        if reading.found is None:
            _log.warning("sysctl %s is not there, and is skipped", reading.wanted.key)
    wrong = {one.wanted.key: one.wanted.value for one in readings if not one.is_right}
    write_sysctls(executor, namespace, wanted=wrong)
    for key, value in wrong.items():
        _log.info("sysctl %s is %s now", key, value)


def read(
    executor: NetnsExecutor, namespace: NetworkNamespace, families: tuple[Family, ...]
) -> list[SysctlValue]:
    """How the keys that these families want are. Raises DatapathError and its kinds."""
    return [
        SysctlValue(one, read_sysctl(executor, namespace, one.key))
        for one in WANTED
        if set(one.families) & set(families)
    ]
