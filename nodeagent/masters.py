"""The addresses of an SR-IOV VF's master: facts for ``match_master_subnet`` (ipam.md 1.4 i).

In the Pod's network namespace the driver names the VF's PCI device; on the host that device's
physical function names the master link, whose addresses are read by netlink. A throw-away thread
enters the namespace, so that the agent's own threads never leave theirs (Python 3.11 has no
``os.setns``). Reads only. What cannot be read is None, never a guess.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from nodeagent.netlink.ethtool import driver_bus

SYSFS: Final = Path("/sys")
READ_S_MAX: Final = 2.0
"""How long an ADD waits for these facts."""

_CLONE_NEWNET: Final = 0x40000000

_log: Final = logging.getLogger(__name__)


async def master_addresses(netns: str, interface: str) -> tuple[str, ...] | None:
    """The addresses, as text, of the master of a VF in a Pod's namespace; None: not to be had."""
    try:
        async with asyncio.timeout(READ_S_MAX):
            with ThreadPoolExecutor(max_workers=1) as visitor:
                device = await asyncio.wrap_future(visitor.submit(bus_device, netns, interface))
            return await asyncio.to_thread(_addresses_of_master, device)
    except (OSError, NetlinkError, TimeoutError) as error:
        _log.warning("the master of %s in %s cannot be read: %s", interface, netns, error)
        return None


def bus_device(netns: str, interface: str) -> str:
    """The PCI address of a link inside a namespace, as its driver tells it. Raises OSError.

    The calling thread stays in that namespace: call it in a thread that ends afterwards.
    """
    _enter(netns)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
        return driver_bus(inside, interface)


def master_of(device: str, sysfs: Path = SYSFS) -> str | None:
    """The link of a VF's physical function; None when the device is no VF."""
    links = sysfs / "bus/pci/devices" / device / "physfn/net"
    return min((link.name for link in links.iterdir()), default=None) if links.is_dir() else None


def addresses_of(link: str) -> tuple[str, ...]:
    """The addresses of a link in the agent's own namespace. Raises NetlinkError."""
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=link)
        if not index:
            return ()
        return tuple(
            str(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
            for message in netlink.get_addr(index=index[0])
        )


def _addresses_of_master(device: str) -> tuple[str, ...] | None:
    master = master_of(device)
    return None if master is None else addresses_of(master)


def _enter(netns: str) -> None:
    namespace = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), netns)
    finally:
        os.close(namespace)
