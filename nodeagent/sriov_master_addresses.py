"""Reads the addresses of a VF's master: the link of its physical function.

See docs/reference/pool-selection.md, "Filters", ``match_master_subnet``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from pathlib import Path
from typing import Final

from core.errors import DatapathError, Overloaded
from nodeagent.netlink.ethtool import bus_address
from nodeagent.netlink.namespaces import NetnsExecutor, NetworkNamespace

SYSFS: Final = Path("/sys")
READ_S_MAX: Final = 2.0

_REPRESENTOR_PORT_NAME: Final = re.compile(r"(c\d+)?pf\d+((vf|sf)\d+)?")

_log: Final = logging.getLogger(__name__)


async def master_addresses(
    executor: NetnsExecutor, netns: str, interface: str
) -> tuple[str, ...] | None:
    """Addresses of the master of a Pod's VF; None without a master or after an error."""
    try:
        async with asyncio.timeout(READ_S_MAX):
            with NetworkNamespace.open(netns) as namespace:
                call = executor.submit(namespace, lambda: bus_device(interface))
            device = await asyncio.wrap_future(call)
            return await asyncio.to_thread(_pf_link_addresses, executor, device)
    except (OSError, DatapathError, Overloaded, TimeoutError) as error:
        _log.warning(
            "cannot read the SR-IOV master of %s in %s, so match_master_subnet rejects every pool:"
            " %s",
            interface,
            netns,
            error,
        )
        return None


def bus_device(interface: str) -> str:
    """Bus address of a link in the calling thread's network namespace. Raises OSError.

    A NIC's bus address is its PCI address.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return bus_address(any_socket, interface)


def master_of(device: str, sysfs: Path = SYSFS) -> str | None:
    """The link of a VF's physical function; None if the link does not exist."""
    links = sysfs / "bus/pci/devices" / device / "physfn/net"
    if not links.is_dir():
        return None
    return min((link.name for link in links.iterdir() if not is_representor(link)), default=None)


def is_representor(link: Path) -> bool:
    """Whether a link represents a PF, VF or subfunction in the eswitch.

    See the kernel's Documentation/networking/devlink/devlink-port.rst.
    """
    try:
        name = (link / "phys_port_name").read_text("ascii").strip()
    except OSError:  # the driver has no port names
        return False
    return _REPRESENTOR_PORT_NAME.fullmatch(name) is not None


def addresses_of(executor: NetnsExecutor, name: str) -> tuple[str, ...]:
    """Addresses of a link in the agent's namespace; empty if the link is missing.

    Raises DatapathError.
    """
    with executor.session(executor.own_namespace) as session:
        link = session.link(name)
        if link is None:
            return ()
        return tuple(
            str(address.address) for address in session.addresses() if address.link == link.ifindex
        )


def _pf_link_addresses(executor: NetnsExecutor, device: str) -> tuple[str, ...] | None:
    master = master_of(device)
    return None if master is None else addresses_of(executor, master)
