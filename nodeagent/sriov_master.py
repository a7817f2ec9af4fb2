"""The addresses of an SR-IOV VF's master: facts for ``match_master_subnet``.

See docs/reference/pool-selection.md, "Filters".

In the Pod's network namespace the driver names the VF's PCI device; on the host that device's
physical function names the master link, whose addresses the kernel tells. Reads only. What cannot
be read in time is None, never a guess.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Final

from core.errors import DatapathError, Overloaded
from nodeagent.netlink.ethtool import driver_bus
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace

SYSFS: Final = Path("/sys")
READ_S_MAX: Final = 2.0
"""How long an ADD waits for these facts."""

_log: Final = logging.getLogger(__name__)


async def master_addresses(
    executor: NetnsExecutor, netns: str, interface: str
) -> tuple[str, ...] | None:
    """The addresses, as text, of the master of a VF in a Pod's namespace; None: not to be had."""
    try:
        async with asyncio.timeout(READ_S_MAX):
            with NetworkNamespace.open(netns) as namespace:
                call = executor.submit(namespace, lambda: bus_device(interface))
            device = await asyncio.wrap_future(call)
            return await asyncio.to_thread(_addresses_of_master, executor, device)
    except (OSError, DatapathError, Overloaded, TimeoutError) as error:
        _log.warning("the master of %s in %s cannot be read: %s", interface, netns, error)
        return None


def bus_device(interface: str) -> str:
    """The PCI address of a link of the calling thread's namespace, as its driver tells it.

    Raises OSError.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
        return driver_bus(inside, interface)


def master_of(device: str, sysfs: Path = SYSFS) -> str | None:
    """The link of a VF's physical function; None when the device is no VF."""
    links = sysfs / "bus/pci/devices" / device / "physfn/net"
    return min((link.name for link in links.iterdir()), default=None) if links.is_dir() else None


def addresses_of(executor: NetnsExecutor, name: str) -> tuple[str, ...]:
    """The addresses of a link in the agent's own namespace. Raises DatapathError."""
    with executor.session(executor.home) as session:
        link = session.link(name)
        if link is None:
            return ()
        return tuple(str(one.address) for one in session.addresses() if one.link == link.number)


def _addresses_of_master(executor: NetnsExecutor, device: str) -> tuple[str, ...] | None:
    master = master_of(device)
    return None if master is None else addresses_of(executor, master)
