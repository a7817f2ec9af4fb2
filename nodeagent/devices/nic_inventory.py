"""The node's NICs, as rules about devices look at them. Reads only.

Links come from the kernel; whether there is a device behind one, /sys says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from core.domain.devices import HostNic
from nodeagent.netlink.namespaces import NetnsExecutor

LINKS: Final = Path("/sys/class/net")


def nics(executor: NetnsExecutor, links: Path = LINKS) -> list[HostNic]:
    """Every link of the node's own namespace. Raises DatapathError, OSError."""
    with executor.session(executor.home) as session:
        found = session.links()
    return [
        HostNic(one.name, (links / one.name / "device").exists(), one.loopback) for one in found
    ]
