"""A network segment: namespaces connected by a bridge."""

from __future__ import annotations

import os
import subprocess
import uuid
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.deadlines import wait_until

NAMESPACES_FOLDER: Final = Path("/run/netns")


class Station(NamedTuple):
    """A network namespace with an eth0 on the bridge. ``netns``: the namespace's path."""

    netns: str
    mac: str


class Link:
    """A bridge in a separate namespace, without forwarding delay."""

    def __init__(self) -> None:
        self._prefix = f"ow-detect-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._names: list[str] = []
        self._bridge = self._namespace("switch")
        ip("-n", self._bridge, "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        ip("-n", self._bridge, "link", "set", "br0", "up")

    def station(self, *addresses: str, up: bool = True) -> Station:
        """Add a station with these addresses; ``up`` sets eth0 up."""
        number = len(self._names)
        name = self._namespace(f"station-{number}")
        mac = f"02:00:00:00:00:{number:02x}"
        peer = ("peer", "name", "eth0", "netns", name, "address", mac)
        ip("-n", self._bridge, "link", "add", f"port{number}", "type", "veth", *peer)
        ip("-n", self._bridge, "link", "set", f"port{number}", "master", "br0", "up")
        for address in addresses:
            flags = ("nodad",) if ":" in address else ()
            ip("-n", name, "address", "add", address, "dev", "eth0", *flags)
        if up:
            ip("-n", name, "link", "set", "eth0", "up")
            self._wait_until_forwarding(f"port{number}")
        return Station(str(NAMESPACES_FOLDER / name), mac)

    def remove(self) -> None:
        for name in self._names:
            ip("netns", "delete", name)

    def _wait_until_forwarding(self, port: str) -> None:
        show = ("-n", self._bridge, "-d", "link", "show", "dev", port)
        wait_until(lambda: "state forwarding" in ip(*show), f"{port} forwards")

    def _namespace(self, kind: str) -> str:
        name = f"{self._prefix}-{kind}"
        ip("netns", "add", name)
        self._names.append(name)
        return name


def ip(*arguments: str) -> str:
    completed = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, f"ip {' '.join(arguments)}: {completed.stderr}"
    return completed.stdout
